//! The *local queue*: Cloudflare Queues with an HTTP pull consumer, in this process.
//!
//! Cloudflare offers no local pull consumer, so the harness and `cargo dev` bring one. It speaks
//! - Cloudflare's REST API below `/client/v4/accounts/{account}/queues/{queue}` to the relay ([`api`]),
//! - the protocol of workerd's queue binding to a bare `workerd` ([`binding`]),
//! - `POST /messages/batch` to the bridge, the consumer Worker that forwards from `wrangler dev` ([`bridge`]),
//! - `/admin/faults` and `/admin/counters` to a person or a script ([`admin`]).
//!
//! Nothing is kept on disk: a restart loses what waits.

mod admin;
mod api;
mod binding;
mod bridge;
mod fault;
mod message;
mod state;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use http::Request;
use tower::ServiceExt as _;

pub use fault::{Faults, Times};
pub use message::{ContentType, JsonBodies, MAX_BATCH_BYTES, MAX_MESSAGE_BYTES, Message, Pulled};
pub use state::{Acknowledged, Counters, Retry, Settings, State};

use crate::server::{Cut, Server};

/// A running local queue; dropping it closes its port.
#[derive(Debug)]
pub struct LocalQueue {
    server: Server,
    shared: Arc<Shared>,
}

/// What every handler sees.
#[derive(Debug)]
struct Shared {
    account_id: String,
    queue_id: String,
    token: String,
    state: Mutex<State>,
    faults: Mutex<Faults>,
}

impl LocalQueue {
    /// Starts an empty queue on 127.0.0.1; port 0 takes a free one. The token is drawn at random.
    ///
    /// # Errors
    /// Where the port cannot be had.
    pub async fn start(port: u16, settings: Settings) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            account_id: crate::random::text(),
            queue_id: crate::random::text(),
            token: crate::random::text(),
            state: Mutex::new(State::new(settings)),
            faults: Mutex::new(Faults::default()),
        });
        let router = router(Arc::clone(&shared));
        let for_handler = Arc::clone(&shared);
        let server = Server::start(port, move |request| {
            let (router, shared) = (router.clone(), Arc::clone(&for_handler));
            async move {
                if shared.faults().dropped_connections.strike() {
                    return Err(Cut::Close);
                }
                let request: Request<Body> = request.map(Body::new);
                router.oneshot(request).await.map_err(|never| match never {})
            }
        })
        .await?;
        Ok(Self { server, shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its base URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The base URL of Cloudflare's API, for `TIDEGATE_QUEUE_API`.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("{}/client/v4", self.url())
    }

    /// The account id that the API answers for.
    #[must_use]
    pub fn account_id(&self) -> &str {
        &self.shared.account_id
    }

    /// The queue id that the API answers for.
    #[must_use]
    pub fn queue_id(&self) -> &str {
        &self.shared.queue_id
    }

    /// The bearer token that the API wants.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.shared.token
    }

    /// Puts a text message into the queue, as a Worker's send would.
    pub fn push(&self, text: &str) {
        self.push_message(ContentType::Text, text.as_bytes().to_vec());
    }

    /// Puts a message of any content type into the queue.
    pub fn push_message(&self, content_type: ContentType, body: Vec<u8>) {
        let now_ms = now_ms();
        self.shared.state().push(now_ms, Message::new(now_ms, content_type, body), 0);
    }

    /// As [`LocalQueue::push`], of a message that has been leased `attempts` times before.
    pub fn push_leased(&self, text: &str, attempts: u32) {
        let now_ms = now_ms();
        self.shared.state().push_leased(
            now_ms,
            Message::new(now_ms, ContentType::Text, text.as_bytes().to_vec()),
            attempts,
        );
    }

    /// Changes the faults in force.
    pub fn fault(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.shared.faults());
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        *self.shared.faults() = Faults::default();
    }

    /// The counters at this moment.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.state().counters(now_ms())
    }

    /// The dead letters so far.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<Message> {
        self.shared.state().dead().to_vec()
    }

    /// Every message that is neither acknowledged nor dead, the oldest first. Leases nothing.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        let mut messages: Vec<Message> = self.shared.state().messages().cloned().collect();
        messages.sort_by_key(|message| message.accepted_at_ms);
        messages
    }

    /// Leases messages without the API, for tests of the edge that have no relay.
    #[must_use]
    pub fn pull(&self, limit: usize) -> Vec<Pulled> {
        self.shared.state().pull(now_ms(), limit, None, false)
    }

    /// Acknowledges what [`LocalQueue::pull`] leased.
    pub fn ack(&self, pulled: &[Pulled]) -> Acknowledged {
        let leases: Vec<String> = pulled.iter().map(|p| p.lease_id.clone()).collect();
        self.shared.state().ack(now_ms(), &leases, &[])
    }
}

impl Shared {
    // A panic elsewhere in a test must not hide behind a second one: the data is whole between statements.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn router(shared: Arc<Shared>) -> Router {
    api::routes()
        .merge(binding::routes())
        .merge(bridge::routes())
        .merge(admin::routes())
        // A bridge's batch is up to 100 messages of 128,000 bytes.
        .layer(DefaultBodyLimit::disable())
        .with_state(shared)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
}

#[cfg(test)]
mod tests;
