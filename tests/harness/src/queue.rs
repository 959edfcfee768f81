//! The *local queue*: Cloudflare Queues with HTTP pull consumers, in this process.
//!
//! Cloudflare offers no local pull consumer, so the harness and `cargo dev` implement one. It holds one or more queues:
//! a Worker sends to the first, and the dead letters of one can go to another. Its interfaces are
//! - Cloudflare's REST API below `/client/v4/accounts/{account}/queues/{queue}`, for the relay ([`api`]),
//! - the protocol of workerd's queue binding, for a bare `workerd` ([`binding`]),
//! - `POST /messages/batch`, for the bridge, the consumer Worker that forwards from `wrangler dev` ([`bridge`]),
//! - `/admin/faults`, `/admin/counters` and `/admin/clock`, for scripts ([`admin`]).
//!
//! Nothing is stored on disk: a restart loses all messages.

mod account;
mod admin;
mod answer;
mod api;
mod binding;
mod bridge;
mod fault;
mod message;
mod state;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use http::Request;
use tower::ServiceExt as _;

pub use account::{Account, DEAD, EVENTS, Queue};
pub use fault::{Faults, Garble, Garbled, Times};
pub use message::{ContentType, JsonBodies, MAX_BATCH_BYTES, MAX_MESSAGE_BYTES, Message, Pulled};
pub use state::{Acknowledged, Counters, Retry, Settings, State};

use crate::server::{Cut, Server};

/// A running local queue. Dropping it closes its port.
#[derive(Debug)]
pub struct LocalQueue {
    server: Server,
    shared: Arc<Shared>,
}

/// The state that all handlers share.
#[derive(Debug)]
struct Shared {
    account_id: String,
    token: String,
    account: Mutex<Account>,
    faults: Mutex<Faults>,
    /// How far the queues' clock is ahead of the machine's, in milliseconds.
    ahead_ms: AtomicU64,
}

/// The index of the queue that a Worker sends to.
const FIRST: usize = 0;

impl LocalQueue {
    /// Starts empty queues on 127.0.0.1; port 0 selects a free one. The token is random.
    ///
    /// # Errors
    /// Returns an error if the port is taken.
    ///
    /// # Panics
    /// Panics if `queues` is empty.
    pub async fn start(port: u16, queues: Vec<Queue>) -> io::Result<Self> {
        assert!(!queues.is_empty(), "a Worker sends to the first queue");
        let shared = Arc::new(Shared {
            account_id: crate::random::text(),
            token: crate::random::text(),
            account: Mutex::new(Account::new(queues)),
            faults: Mutex::new(Faults::default()),
            ahead_ms: AtomicU64::new(0),
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

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its base URL, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The base URL of Cloudflare's API, for `TIDEGATE_QUEUE_API`.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("{}/client/v4", self.url())
    }

    /// The account id in the paths of the API.
    #[must_use]
    pub fn account_id(&self) -> &str {
        &self.shared.account_id
    }

    /// The ids of all queues, separated by commas, for `TIDEGATE_QUEUE_IDS`.
    #[must_use]
    pub fn queue_ids(&self) -> String {
        self.shared.account().ids().collect::<Vec<_>>().join(",")
    }

    /// The id of the first queue.
    #[must_use]
    pub fn queue_id(&self) -> String {
        self.shared.account().queue(FIRST).1.to_owned()
    }

    /// The id of the queue with this name.
    ///
    /// # Panics
    /// Panics if there is none.
    #[must_use]
    pub fn id_of(&self, name: &str) -> String {
        let at = self.at(name);
        self.shared.account().queue(at).1.to_owned()
    }

    /// The bearer token that the API requires.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.shared.token
    }

    /// Puts a text message into the queue, like a Worker's send.
    pub fn push(&self, text: &str) {
        self.push_message(ContentType::Text, text.as_bytes().to_vec());
    }

    /// Puts a message of any content type into the queue.
    pub fn push_message(&self, content_type: ContentType, body: Vec<u8>) {
        self.shared.push(vec![(content_type, body.into(), 0)]);
    }

    /// Moves the clock of the queues forward: delays, leases and retentions expire as if that time had passed.
    pub fn advance(&self, by: Duration) {
        self.shared.advance(by);
    }

    /// Changes the configuration of the queue with this name, as an operator would.
    ///
    /// # Panics
    /// Panics if there is none.
    pub fn configure(&self, name: &str, change: impl FnOnce(&mut Queue)) {
        let at = self.at(name);
        self.shared.account().configure(at, change);
    }

    /// Like [`LocalQueue::push`], with a message that has been leased `attempts` times before.
    pub fn push_leased(&self, text: &str, attempts: u32) {
        let body = text.as_bytes().to_vec();
        self.shared.on(FIRST, |state, now_ms| {
            state.push_leased(now_ms, Message::new(now_ms, ContentType::Text, body), attempts);
        });
    }

    /// Changes the active faults.
    pub fn fault(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.shared.faults());
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        *self.shared.faults() = Faults::default();
    }

    /// The present counters of the first queue.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.on(FIRST, State::counters)
    }

    /// The counters of the queue with this name.
    ///
    /// # Panics
    /// Panics if there is none.
    #[must_use]
    pub fn counters_of(&self, name: &str) -> Counters {
        self.shared.on(self.at(name), State::counters)
    }

    /// The number of messages in all queues, including leased ones.
    #[must_use]
    pub fn left(&self) -> u64 {
        let queues = self.shared.account().ids().count();
        (0..queues).map(|at| self.shared.on(at, State::counters)).map(|c| c.backlog + c.in_flight).sum()
    }

    /// Every message of the first queue that is neither acknowledged nor dead, oldest first. Leases nothing.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.shared.messages(FIRST)
    }

    /// Like [`LocalQueue::messages`], for the queue with this name.
    ///
    /// # Panics
    /// Panics if there is none.
    #[must_use]
    pub fn messages_of(&self, name: &str) -> Vec<Message> {
        self.shared.messages(self.at(name))
    }

    /// Leases messages of the first queue without the API, for tests of the edge that have no relay.
    #[must_use]
    pub fn pull(&self, limit: usize) -> Vec<Pulled> {
        self.shared.on(FIRST, |state, now_ms| state.pull(now_ms, limit, None, false))
    }

    /// Acknowledges messages that [`LocalQueue::pull`] leased.
    pub fn ack(&self, pulled: &[Pulled]) -> Acknowledged {
        let leases: Vec<String> = pulled.iter().map(|p| p.lease_id.clone()).collect();
        self.shared.on(FIRST, |state, now_ms| state.ack(now_ms, &leases, &[]))
    }

    fn at(&self, name: &str) -> usize {
        self.shared.account().named(name).unwrap_or_else(|| panic!("there is no queue {name}"))
    }
}

impl Shared {
    // A panic elsewhere in a test must not be hidden by a second one here. The data is consistent between statements.
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `work` on the messages of one queue, with the present time in Unix milliseconds.
    fn on<T>(&self, at: usize, work: impl FnOnce(&mut State, u64) -> T) -> T {
        let now_ms = self.now_ms();
        self.account().on(at, now_ms, |state| work(state, now_ms))
    }

    /// Puts messages into the first queue, each with its delay in seconds.
    fn push(&self, messages: Vec<(ContentType, Bytes, u64)>) {
        self.push_to(FIRST, messages);
    }

    fn push_to(&self, at: usize, messages: Vec<(ContentType, Bytes, u64)>) {
        self.on(at, |state, now_ms| {
            for (content_type, body, delay_s) in messages {
                state.push(now_ms, Message::new(now_ms, content_type, body), delay_s);
            }
        });
    }

    fn messages(&self, at: usize) -> Vec<Message> {
        let mut messages: Vec<Message> = self.on(at, |state, _| state.messages().cloned().collect());
        messages.sort_by_key(|message| message.accepted_at_ms);
        messages
    }

    fn advance(&self, by: Duration) {
        self.ahead_ms.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        let machine = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64);
        machine + self.ahead_ms.load(Ordering::Relaxed)
    }
}

fn router(shared: Arc<Shared>) -> Router {
    api::routes()
        .merge(binding::routes())
        .merge(bridge::routes())
        .merge(admin::routes())
        // A batch of the bridge has up to 100 messages of 128,000 bytes.
        .layer(DefaultBodyLimit::disable())
        .with_state(shared)
}

#[cfg(test)]
mod tests;
