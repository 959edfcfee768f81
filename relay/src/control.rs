//! The control layer: which objects may exist, and what callers may do with them.
//!
//! It has one file per noun. Its functions take a [`Control`] and an [`Actor`], and return values and typed errors
//! ([`Error`]). An interface, such as the REST API, only translates: an interface contains no rule, and a rule contains
//! no HTTP. The tests of this module enforce that. Each of these functions begins with the scope that it needs
//! ([`Actor::require`]).
//!
//! A change of a source, destination or route is active on this replica when its function returns, unless the function
//! says otherwise ([`Saved`]): each of these functions ends with [`Control::active`].

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use egress::Egress;
use expression::Evaluator;
use store::Pool;
use tokio::sync::Semaphore;
use url::Url;

use self::request_rate::{Quota, RequestRates};
use self::wrong_tokens::WrongTokens;
use crate::App;
use crate::callers::Callers;
use crate::config::Config;
use crate::configuration::Configuration;
use crate::edge::push::Pusher;
use crate::engine_handle::Handle;
use crate::last_use::LastUse;
use crate::oidc::Oidc;
use crate::pulse::Pulse;
use crate::readiness::Readiness;
use crate::streams::Streams;
use crate::tail::Tail;
use crate::unreadable::Releaser;
use crate::waiters::Waiters;
use crate::waiting::Wakers;
use crate::wall_clock::WallClock;

pub use actor::Actor;
pub use error::Error;
pub use saved::{Activity, Configured, Outcome, Precondition, Saved};
pub use scope::Scope;

pub mod acting;
pub mod actor;
pub mod audit;
pub mod authentication;
pub mod await_tokens;
pub mod awaits;
pub mod bodies;
mod claimed;
pub mod customers;
pub mod deliveries;
pub mod destinations;
pub mod error;
pub(crate) mod event_types;
pub mod events;
pub mod field_error;
pub mod fields;
pub mod find;
pub mod given;
pub mod idempotency;
pub(crate) mod name;
pub mod names;
pub mod operations;
pub mod overview;
mod owners;
pub mod page;
mod patch;
pub mod providers;
pub mod pulses;
pub mod rate;
pub mod ready;
mod record;
pub mod rejections;
pub mod replays;
pub mod request_rate;
pub mod routes;
pub mod saved;
pub(crate) mod schema;
pub mod scope;
pub mod sessions;
pub mod sign_in;
pub mod sources;
pub(crate) mod static_headers;
pub mod stats;
pub mod stream;
pub mod system;
pub mod time;
pub mod token_form;
pub mod tokens;
pub mod trial;
pub mod unreadable;
pub mod wrong_tokens;

/// What the functions of the control layer use. Cheap to clone: each layer and each handler of an interface has one, for
/// as long as a request takes.
#[derive(Clone)]
pub struct Control(Arc<Parts>);

/// The parts of a [`Control`].
pub struct Parts {
    config: Arc<Config>,
    pool: Pool,
    bodies: bodies::Bodies,
    /// The searches of bodies that may begin.
    body_searches: Arc<Semaphore>,
    configuration: Arc<Configuration>,
    engine: Handle,
    evaluator: Arc<Evaluator>,
    egress: Egress,
    /// Puts sources to the edge.
    pusher: Pusher,
    clock: Arc<WallClock>,
    releaser: Releaser,
    wakers: Arc<Wakers>,
    waiters: Arc<Waiters>,
    /// Limits how many waiting calls look into the database at one time.
    looks: Arc<Semaphore>,
    readiness: Arc<Readiness>,
    wrong_tokens: Arc<Mutex<WrongTokens>>,
    request_rates: Arc<Mutex<RequestRates>>,
    last_use: Arc<LastUse>,
    oidc: Option<Arc<Oidc>>,
    tail: Tail,
    callers: Arc<Callers>,
    streams: Arc<Streams>,
    pulse: Pulse,
}

impl Deref for Control {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Control {
    /// The control layer of a running relay.
    #[must_use]
    pub fn of(app: &App) -> Self {
        Self(Arc::new(Parts {
            config: Arc::clone(&app.config),
            pool: app.pool.clone(),
            bodies: bodies::Bodies::default(),
            body_searches: Arc::new(Semaphore::new(events::search::SEARCHES_AT_ONCE)),
            configuration: Arc::clone(&app.configuration),
            engine: app.engine.clone(),
            evaluator: Arc::clone(&app.evaluator),
            egress: app.egress.clone(),
            pusher: Pusher::of(app),
            clock: Arc::clone(&app.clock),
            releaser: app.releaser.clone(),
            wakers: Arc::clone(&app.wakers),
            waiters: Arc::clone(&app.waiters),
            looks: Arc::new(Semaphore::new(awaits::LOOKS)),
            readiness: Arc::clone(&app.readiness),
            wrong_tokens: Arc::default(),
            request_rates: Arc::default(),
            last_use: Arc::clone(&app.last_use),
            oidc: app.oidc.clone(),
            tail: app.tail.clone(),
            callers: Arc::clone(&app.callers),
            streams: Arc::clone(&app.streams),
            pulse: app.pulse.clone(),
        }))
    }

    /// The URL under which browsers reach the relay; `None` if it is not configured.
    #[must_use]
    pub fn public_url(&self) -> Option<&Url> {
        self.config.public_url.as_ref()
    }

    /// Whether people can sign in with an OpenID Connect provider.
    #[must_use]
    pub fn has_provider(&self) -> bool {
        self.oidc.is_some()
    }

    /// The origins of web pages that may await jobs.
    #[must_use]
    pub fn cors_origins(&self) -> &[String] {
        &self.config.cors_origins
    }

    /// Counts a request of this caller, and says whether it is accepted.
    #[must_use]
    pub fn count_request(&self, caller: &str) -> Quota {
        let mut rates = self.request_rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.request(caller, self.config.api_requests_per_minute, Instant::now())
    }
}

#[cfg(test)]
mod tests;
