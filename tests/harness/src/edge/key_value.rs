//! A KV namespace in the protocol of a bare workerd (workerd, `src/workerd/api/kv.c++`): `GET`, `PUT` and `DELETE` of
//! `/{key}`, percent-encoded. The values are in memory. Lists, which the edge does not use, are not implemented, and
//! nothing expires.
//!
//! A test can make it fail as KV is known to: a write takes effect long after it began, reads return old values, and
//! all keys are lost.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::oneshot;

use crate::error::{Doing as _, Result};
use crate::server::{Answer, Cut, Server};

/// A running namespace. Dropping it closes its port and loses its values.
#[derive(Debug)]
pub struct KeyValue {
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    values: HashMap<String, Bytes>,
    /// The values that reads return while they are stale.
    stale: Option<HashMap<String, Bytes>>,
    late: Late,
}

/// A write that takes effect later than it began.
#[derive(Debug, Default)]
enum Late {
    #[default]
    Nothing,
    /// The next write will be delayed.
    Next,
    Held {
        key: String,
        value: Bytes,
        /// Answers the Worker, if it still waits.
        landed: oneshot::Sender<()>,
    },
}

impl KeyValue {
    /// Starts an empty namespace on a free port.
    ///
    /// # Errors
    /// Returns an error if it cannot listen.
    pub async fn start() -> Result<Self> {
        let state = Arc::<Mutex<State>>::default();
        let for_handler = Arc::clone(&state);
        let server = Server::start(0, move |request| answer(Arc::clone(&for_handler), request)).await;
        Ok(Self { server: server.doing(|| "cannot serve a KV namespace".to_owned())?, state })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Delays the next write, unanswered, until [`KeyValue::land`] is called.
    pub fn hold_next_write(&self) {
        lock(&self.state).late = Late::Next;
    }

    /// Whether a write is delayed.
    #[must_use]
    pub fn holds_a_write(&self) -> bool {
        matches!(lock(&self.state).late, Late::Held { .. })
    }

    /// Makes the delayed write take effect: it overwrites any newer value, even if the Worker no longer waits.
    ///
    /// # Panics
    /// Panics if no write is delayed.
    pub fn land(&self) {
        let mut state = lock(&self.state);
        let Late::Held { key, value, landed } = std::mem::take(&mut state.late) else {
            panic!("no write is delayed");
        };
        state.values.insert(key, value);
        let _ = landed.send(());
    }

    /// From now on reads return the present values, whatever is written, until [`KeyValue::refresh_reads`] is called.
    pub fn freeze_reads(&self) {
        let mut state = lock(&self.state);
        state.stale = Some(state.values.clone());
    }

    /// Reads return the newest values again.
    pub fn refresh_reads(&self) {
        lock(&self.state).stale = None;
    }

    /// Removes every key that begins with `beginning`, such as `name/`, or all keys if it is empty.
    pub fn forget(&self, beginning: &str) {
        let beginning = format!("/{}", beginning.replace('/', "%2F"));
        lock(&self.state).values.retain(|key, _| !key.starts_with(&beginning));
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut::Close)?.to_bytes();
    let key = head.uri.path().to_owned();
    let (status, body) = match head.method {
        Method::GET => match lock(&state).read(&key) {
            Some(value) => (StatusCode::OK, value),
            None => (StatusCode::NOT_FOUND, Bytes::new()),
        },
        Method::PUT => {
            let held = lock(&state).write(key, body);
            if let Some(landed) = held {
                landed.await.map_err(|_| Cut::Close)?;
            }
            (StatusCode::OK, Bytes::new())
        }
        Method::DELETE => {
            lock(&state).values.remove(&key);
            (StatusCode::OK, Bytes::new())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, Bytes::new()),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    Ok(response)
}

impl State {
    fn read(&self, key: &str) -> Option<Bytes> {
        self.stale.as_ref().unwrap_or(&self.values).get(key).cloned()
    }

    /// Writes a value. If the write is delayed, the receiver gets a signal when it takes effect.
    fn write(&mut self, key: String, value: Bytes) -> Option<oneshot::Receiver<()>> {
        if !matches!(self.late, Late::Next) {
            self.values.insert(key, value);
            return None;
        }
        let (landed, heard) = oneshot::channel();
        self.late = Late::Held { key, value, landed };
        Some(heard)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
