//! The control layer: which objects may exist, and what callers may do with them.
//!
//! It has one file per noun. Its functions take a [`Control`] and an [`Actor`], and return values and typed errors
//! ([`Error`]). An interface, such as the REST API, only translates: an interface contains no rule, and a rule contains
//! no HTTP. The tests of this module enforce that. Each of these functions begins with the scope that it needs
//! ([`Actor::require`]).
//!
//! A change of a source, destination or route is active on this replica when its function returns: each of these
//! functions ends with [`Control::active`].

use std::sync::{Arc, Mutex};

use egress::Egress;
use expression::Evaluator;
use store::Pool;
use store::configuration::Version;
use tokio::sync::Semaphore;
use url::Url;

use self::wrong_tokens::WrongTokens;
use crate::App;
use crate::config::Config;
use crate::configuration::Configuration;
use crate::edge::push::Pusher;
use crate::engine_handle::Handle;
use crate::last_use::LastUse;
use crate::oidc::Oidc;
use crate::readiness::Readiness;
use crate::streams::Streams;
use crate::tail::Tail;
use crate::unreadable::Releaser;
use crate::waiters::Waiters;
use crate::waiting::Wakers;
use crate::wall_clock::WallClock;

pub use actor::Actor;
pub use error::Error;
pub use scope::Scope;

pub mod acting;
pub mod actor;
pub mod audit;
pub mod authentication;
pub mod await_tokens;
pub mod awaits;
pub mod bodies;
pub mod customers;
pub mod deliveries;
pub mod destinations;
pub mod error;
pub(crate) mod event_types;
pub mod events;
pub mod field_error;
pub mod fields;
pub mod given;
pub(crate) mod name;
pub mod operations;
pub mod overview;
mod owners;
pub mod page;
mod patch;
pub mod providers;
pub mod rate;
pub mod ready;
mod record;
pub mod rejections;
pub mod replays;
pub mod routes;
pub(crate) mod schema;
pub mod scope;
pub mod sessions;
pub mod sign_in;
pub mod sources;
pub(crate) mod static_headers;
pub mod stats;
pub mod stream;
pub mod time;
pub mod token_form;
pub mod tokens;
pub mod trial;
pub mod unreadable;
pub mod wrong_tokens;

/// What the functions of the control layer use.
#[derive(Clone)]
pub struct Control {
    config: Arc<Config>,
    pool: Pool,
    bodies: bodies::Bodies,
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
    last_use: Arc<LastUse>,
    oidc: Option<Arc<Oidc>>,
    tail: Tail,
    streams: Arc<Streams>,
}

impl Control {
    /// The control layer of a running relay.
    #[must_use]
    pub fn of(app: &App) -> Self {
        Self {
            config: Arc::clone(&app.config),
            pool: app.pool.clone(),
            bodies: bodies::Bodies::default(),
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
            last_use: Arc::clone(&app.last_use),
            oidc: app.oidc.clone(),
            tail: app.tail.clone(),
            streams: Arc::clone(&app.streams),
        }
    }

    /// The URL under which browsers reach the relay; `None` if it is not configured.
    #[must_use]
    pub fn public_url(&self) -> Option<&Url> {
        self.config.public_url.as_ref()
    }

    /// The origins of web pages that may await jobs.
    #[must_use]
    pub fn cors_origins(&self) -> &[String] {
        &self.config.cors_origins
    }

    /// Waits until this replica routes and delivers by a change.
    ///
    /// # Errors Returns an error if the relay cannot read the change back in time. The change stays stored, and all
    /// replicas read it later.
    async fn active(&self, version: Version) -> Result<(), Error> {
        let read = self.configuration.after(version).await;
        read.map(drop).map_err(|error| Error::NotActive(error.to_string()))
    }
}

/// The result of a call that creates or replaces an object.
#[derive(Debug)]
pub struct Put<T> {
    pub value: T,
    /// Whether the object was created, and not replaced.
    pub created: bool,
}

#[cfg(test)]
mod tests;
