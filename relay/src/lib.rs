//! The relay: pulls webhooks from the queue, stores them, routes them, delivers them, retries and replays them.
//!
//! Each step leaves one durable fact behind, so a crash before it costs at most a repetition: see ARCHITECTURE.md.

use std::sync::Arc;
use std::time::Duration;

pub mod api;
pub mod body_retention;
pub mod callers;
pub mod config;
pub mod configuration;
pub mod control;
pub mod dashboard;
pub mod deleting;
pub mod deliver;
pub mod descriptors;
pub mod doctor;
#[cfg(test)]
mod documents;
pub mod edge;
pub mod engine_handle;
pub mod held;
pub mod history;
pub mod intake;
pub mod last_use;
pub mod mint;
pub mod moment;
pub mod oidc;
pub mod operations;
pub mod over_rate;
pub mod pull;
pub mod pulse;
pub mod readiness;
pub mod recheck;
pub mod replay;
pub mod route;
pub mod secrets;
pub mod send;
pub mod serve;
pub mod side_by_side;
mod stored_body;
pub mod streams;
pub mod supervise;
pub mod sync;
pub mod tail;
pub mod terminal;
pub mod undecided;
pub mod unreadable;
pub mod waiters;
pub mod waiting;
pub mod wall_clock;

/// The state that the parts of a running relay share.
#[derive(Clone)]
pub struct App {
    pub config: Arc<config::Config>,
    pub pool: store::Pool,
    pub configuration: Arc<configuration::Configuration>,
    pub edge: edge::Edge,
    pub engine: engine_handle::Handle,
    pub evaluator: Arc<expression::Evaluator>,
    pub egress: egress::Egress,
    /// Wakes [`sync`], which puts sources to the edge that it does not have yet.
    pub edge_pending: Arc<tokio::sync::Notify>,
    /// The relay's clock, compared with the database's.
    pub clock: Arc<wall_clock::WallClock>,
    /// Tries unreadable messages again.
    pub releaser: unreadable::Releaser,
    /// Wakes the background workers.
    pub wakers: Arc<waiting::Wakers>,
    /// Whether the parts of this relay make progress.
    pub readiness: Arc<readiness::Readiness>,
    /// The calls that wait for an event of a job.
    pub waiters: Arc<waiters::Waiters>,
    /// When each token and session was last used.
    pub last_use: Arc<last_use::LastUse>,
    /// Hands changes of events and deliveries to what waits for them.
    pub tail: tail::Tail,
    /// Tells viewers of pages that something has changed.
    pub pulse: pulse::Pulse,
    /// The callers of streams and of waiting calls.
    pub callers: Arc<callers::Callers>,
    /// The streams of changes that are open on this replica.
    pub streams: Arc<streams::Streams>,
    /// The OpenID Connect provider, if one is configured.
    pub oidc: Option<Arc<oidc::Oidc>>,
}

/// A client for the addresses that the operator has configured: the edge and the queue's API. Destinations, which
/// customers configure, are only ever reached through [`egress`].
///
/// # Errors
/// Returns an error if TLS cannot be set up on this machine.
pub fn operator_client(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .timeout(timeout)
        .connect_timeout(Duration::from_secs(5))
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .user_agent(concat!("Tidegate/", env!("CARGO_PKG_VERSION")))
        .build()
}
