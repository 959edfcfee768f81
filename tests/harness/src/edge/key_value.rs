//! A KV namespace as a bare workerd asks for it (workerd, `src/workerd/api/kv.c++`): `GET`, `PUT` and `DELETE` of
//! `/{key}`, percent-encoded. In memory; lists, which the edge does not use, are not there, and nothing expires.
//!
//! A test can make it do what KV is known for: a write lands long after it was begun, reads answer what was there before,
//! and everything is gone.

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

/// A running namespace; dropping it closes its port and loses its values.
#[derive(Debug)]
pub struct KeyValue {
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    values: HashMap<String, Bytes>,
    /// What reads are answered from while they are stale.
    stale: Option<HashMap<String, Bytes>>,
    late: Late,
}

/// A write that lands later than it was begun.
#[derive(Debug, Default)]
enum Late {
    #[default]
    Nothing,
    /// The next write will be held.
    Next,
    Held {
        key: String,
        value: Bytes,
        /// Lets the Worker go on, if it still waits.
        landed: oneshot::Sender<()>,
    },
}

impl KeyValue {
    /// Starts an empty namespace on a free port.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn start() -> Result<Self> {
        let state = Arc::<Mutex<State>>::default();
        let for_handler = Arc::clone(&state);
        let server = Server::start(0, move |request| answer(Arc::clone(&for_handler), request)).await;
        Ok(Self { server: server.doing(|| "cannot serve a KV namespace".to_owned())?, state })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Holds the next write back, unanswered, until [`KeyValue::land`].
    pub fn hold_next_write(&self) {
        lock(&self.state).late = Late::Next;
    }

    /// Whether a write is held back.
    #[must_use]
    pub fn holds_a_write(&self) -> bool {
        matches!(lock(&self.state).late, Late::Held { .. })
    }

    /// The write that was held back lands over whatever has been written since, also if the Worker no longer waits.
    ///
    /// # Panics
    /// If no write is held back.
    pub fn land(&self) {
        let mut state = lock(&self.state);
        let Late::Held { key, value, landed } = std::mem::take(&mut state.late) else {
            panic!("no write is held back");
        };
        state.values.insert(key, value);
        let _ = landed.send(());
    }

    /// From now on reads are answered with what is there now, whatever is written, until [`KeyValue::refresh_reads`].
    pub fn freeze_reads(&self) {
        let mut state = lock(&self.state);
        state.stale = Some(state.values.clone());
    }

    /// Reads are answered with what is there again.
    pub fn refresh_reads(&self) {
        lock(&self.state).stale = None;
    }

    /// Forgets every key that begins with `beginning`, such as `name/`; everything if that is empty.
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

    /// Writes a value. If it is held back, the receiver hears when it has landed.
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
