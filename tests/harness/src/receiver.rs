//! A destination: an HTTP endpoint that records its requests and answers by a script.
//!
//! It verifies the signatures of deliveries with code that shares nothing with the crate that signs.

mod behaviour;
mod signature;

use std::collections::{HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::body::Bytes;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

pub use behaviour::Behaviour;
pub use signature::SignatureProblem;

use crate::error::{Doing as _, Result};
use crate::server::{Answer, Cut, Server};
use crate::wait::until;

/// A running destination. Dropping it closes its port.
#[derive(Debug)]
pub struct Receiver {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    script: Mutex<Script>,
    requests: Mutex<Vec<Received>>,
}

#[derive(Debug)]
struct Script {
    once: VecDeque<Behaviour>,
    always: Behaviour,
}

impl Default for Script {
    fn default() -> Self {
        Self { once: VecDeque::new(), always: Behaviour::Status(200) }
    }
}

/// A request that arrived completely.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    /// Includes the query.
    pub path: String,
    pub headers: HeaderMap,
    /// The raw bytes.
    pub body: Bytes,
    pub at: Instant,
    pub at_time: SystemTime,
}

impl Receiver {
    /// Starts a destination that answers 200.
    ///
    /// # Errors
    /// Returns an error if no port is free.
    pub async fn start() -> Result<Self> {
        Self::start_on(0).await
    }

    /// Like [`Receiver::start`], on a given port, so that a stopped destination can be started again.
    ///
    /// # Errors
    /// Returns an error if the port is not available.
    pub async fn start_on(port: u16) -> Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, port).into()).await
    }

    /// Like [`Receiver::start`], on a given address, which may be an IPv6 address.
    ///
    /// # Errors
    /// Returns an error if the address or the port is not available.
    pub async fn start_at(address: SocketAddr) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let for_handler = Arc::clone(&shared);
        let server = Server::start_at(address, move |request| answer(Arc::clone(&for_handler), request)).await;
        Ok(Self { server: server.doing(|| format!("cannot listen on {address}"))?, shared })
    }

    /// Like [`Receiver::start`], with another behaviour than answering 200.
    ///
    /// # Errors
    /// Returns an error if no port is free.
    pub async fn behaving(always: Behaviour) -> Result<Self> {
        let receiver = Self::start().await?;
        receiver.always(always);
        Ok(receiver)
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The URL to deliver to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address())
    }

    /// Sets the behaviours for the next requests, one each. After them its default behaviour applies.
    pub fn next(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.script().once.extend(behaviours);
    }

    /// Sets its default behaviour.
    pub fn always(&self, behaviour: Behaviour) {
        self.script().always = behaviour;
    }

    /// All requests so far, in the order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.recorded().clone()
    }

    /// The number of requests so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.recorded().len()
    }

    /// The distinct `webhook-id`s so far.
    #[must_use]
    pub fn ids(&self) -> HashSet<String> {
        self.recorded().iter().map(|request| request.header("webhook-id").to_owned()).collect()
    }

    /// Removes all recorded requests.
    pub fn forget(&self) {
        self.recorded().clear();
    }

    /// Waits until it has at least `count` requests, and returns all of them.
    ///
    /// # Panics
    /// Panics after `timeout`.
    pub async fn wait_for(&self, count: usize, timeout: Duration) -> Vec<Received> {
        until(&format!("{count} requests at the destination"), timeout, async || match self.count() {
            there if there >= count => Ok(()),
            there => Err(format!("{there} of {count} arrived")),
        })
        .await;
        self.requests()
    }

    /// Waits until it has received each of these events; others do not matter.
    ///
    /// # Panics
    /// Panics after `timeout`.
    pub async fn wait_for_events(&self, events: impl IntoIterator<Item = impl ToString>, timeout: Duration) {
        let wanted: HashSet<String> = events.into_iter().map(|event| event.to_string()).collect();
        until("every event at the destination", timeout, async || match wanted.difference(&self.ids()).count() {
            0 => Ok(()),
            missing => Err(format!("{missing} of {} are missing; {} requests arrived", wanted.len(), self.count())),
        })
        .await;
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.shared.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recorded(&self) -> MutexGuard<'_, Vec<Received>> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Received {
    /// The value of a header; empty if it is missing or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Verifies the Standard Webhooks signature with a secret (`whsec_…`) or a public key (`whpk_…`).
    ///
    /// # Errors
    /// Returns the reason if it does not verify.
    pub fn verify(&self, key: &str) -> std::result::Result<(), SignatureProblem> {
        signature::verify(self, key)
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut::Close)?.to_bytes();
    let received = Received {
        method: head.method.to_string(),
        path: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        headers: head.headers,
        body,
        at: Instant::now(),
        at_time: SystemTime::now(),
    };
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(received);
    let behaviour = {
        let mut script = shared.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.once.pop_front().unwrap_or_else(|| script.always.clone())
    };
    behaviour.act().await
}

#[cfg(test)]
mod tests;
