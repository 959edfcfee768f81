//! A stand-in for the edge's admin routes, for tests of the relay alone: it accepts source configurations and holds
//! stored bodies.
//!
//! It verifies and queues nothing. Tests of the edge cover how it handles a request.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use shared::seal;

use crate::error::{Doing as _, Result};
use crate::server::{Answer, Cut, Server};

/// A running stand-in. Dropping it closes its port.
#[derive(Debug)]
pub struct EdgeStandIn {
    server: Server,
    token: String,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    sources: Mutex<BTreeMap<String, Stored>>,
    bodies: Mutex<HashMap<String, Bytes>>,
    missing: Mutex<Vec<String>>,
    body_takes: Mutex<Duration>,
}

/// The stored state of a source.
#[derive(Debug)]
enum Stored {
    Source(Value),
    Tombstone { revision: u64 },
}

impl Stored {
    fn source(&self) -> Option<&Value> {
        match self {
            Self::Source(config) => Some(config),
            Self::Tombstone { .. } => None,
        }
    }
}

impl EdgeStandIn {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// Returns an error if it cannot listen.
    pub async fn start() -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let token = crate::random::text();
        let (for_handler, wanted) = (Arc::clone(&shared), format!("Bearer {token}"));
        let server = Server::start(0, move |request| answer(Arc::clone(&for_handler), wanted.clone(), request)).await;
        Ok(Self { server: server.doing(|| "cannot listen".to_owned())?, token, shared })
    }

    /// The base URL, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// The token of the admin routes.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The stored source configurations, by id.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<String, Value> {
        let sources = lock(&self.shared.sources);
        sources.iter().filter_map(|(id, stored)| Some((id.clone(), stored.source()?.clone()))).collect()
    }

    /// Stores a body, as the edge does with one that does not fit into a message. Clones of one [`Bytes`] share their
    /// memory.
    pub fn store_body(&self, key: &str, body: impl Into<Bytes>) {
        lock(&self.shared.bodies).insert(key.to_owned(), body.into());
    }

    /// Delays each response with a stored body by `takes` from now on.
    pub fn slow_down_bodies(&self, takes: Duration) {
        *lock(&self.shared.body_takes) = takes;
    }

    /// Sets what its status reports as missing, as the edge does if a binding or a secret is missing.
    pub fn set_missing(&self, missing: &[&str]) {
        *lock(&self.shared.missing) = missing.iter().map(|text| (*text).to_owned()).collect();
    }

    /// The keys of the stored bodies.
    #[must_use]
    pub fn bodies(&self) -> Vec<String> {
        lock(&self.shared.bodies).keys().cloned().collect()
    }
}

async fn answer(shared: Arc<Shared>, token: String, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut::Close)?.to_bytes();
    let authorised = head.headers.get("authorization").is_some_and(|value| value == token.as_str());
    if !authorised && head.uri.path() != "/healthz" {
        return Ok(reply(StatusCode::UNAUTHORIZED, json!({ "error": "unauthorized" }).to_string()));
    }
    if head.method == Method::GET && head.uri.path().starts_with("/admin/bodies/") {
        let takes = *lock(&shared.body_takes);
        tokio::time::sleep(takes).await;
    }
    Ok(respond(&shared, &head.method, &head.uri, body))
}

fn respond(shared: &Shared, method: &Method, uri: &Uri, body: Bytes) -> Response<Body> {
    let path = uri.path();
    if path == "/healthz" {
        return reply(StatusCode::OK, json!({ "ok": true, "version": env!("CARGO_PKG_VERSION") }).to_string());
    }
    if path == "/admin/status" {
        let missing = lock(&shared.missing).clone();
        return reply(StatusCode::OK, json!({ "ready": missing.is_empty(), "missing": missing }).to_string());
    }
    if let Some(id) = path.strip_prefix("/admin/sources/") {
        let mut sources = lock(&shared.sources);
        return match *method {
            Method::PUT => put_source(&mut sources, id, &body),
            Method::GET => show_source(sources.get(id)),
            Method::DELETE => {
                let revision = uri.query().and_then(|query| query.strip_prefix("revision=")?.parse().ok());
                delete_source(&mut sources, id, revision.unwrap_or(0))
            }
            _ => reply(StatusCode::METHOD_NOT_ALLOWED, Body::empty()),
        };
    }
    if let Some(key) = path.strip_prefix("/admin/bodies/") {
        let mut bodies = lock(&shared.bodies);
        match *method {
            Method::GET => {
                if let Some(body) = bodies.get(key) {
                    return reply(StatusCode::OK, body.clone());
                }
            }
            Method::DELETE => {
                bodies.remove(key);
                return reply(StatusCode::NO_CONTENT, Body::empty());
            }
            _ => return reply(StatusCode::METHOD_NOT_ALLOWED, Body::empty()),
        }
    }
    reply(StatusCode::NOT_FOUND, json!({ "error": "not_found" }).to_string())
}

fn put_source(sources: &mut BTreeMap<String, Stored>, id: &str, body: &Bytes) -> Response<Body> {
    let Ok(config) = serde_json::from_slice::<Value>(body) else {
        return reply(StatusCode::BAD_REQUEST, json!({ "error": "bad_configuration" }).to_string());
    };
    let revision = config["revision"].as_u64().unwrap_or(0);
    match sources.get(id) {
        Some(Stored::Source(stored)) if stored["revision"].as_u64() > Some(revision) => {
            return older(stored["revision"].as_u64().unwrap_or(0));
        }
        Some(Stored::Tombstone { revision: deleted }) if *deleted >= revision => return older(*deleted),
        Some(_) | None => {}
    }
    let named = sources.iter().filter(|(other, _)| *other != id).filter_map(|(_, stored)| stored.source());
    if named.into_iter().any(|other| other["name"] == config["name"]) {
        return reply(StatusCode::CONFLICT, json!({ "error": "name_taken" }).to_string());
    }
    let digest = seal::digest(&config.to_string());
    sources.insert(id.to_owned(), Stored::Source(config));
    reply(StatusCode::OK, json!({ "revision": revision, "digest": digest }).to_string())
}

fn show_source(stored: Option<&Stored>) -> Response<Body> {
    let (status, answer) = match stored {
        None => (StatusCode::NOT_FOUND, json!({ "error": "unknown_source" })),
        Some(Stored::Tombstone { revision }) => {
            (StatusCode::NOT_FOUND, json!({ "error": "source_deleted", "revision": revision }))
        }
        Some(Stored::Source(config)) => {
            let digest = seal::digest(&config.to_string());
            let (revision, name) = (&config["revision"], &config["name"]);
            (StatusCode::OK, json!({ "revision": revision, "name": name, "digest": digest, "name_leads_here": true }))
        }
    };
    reply(status, answer.to_string())
}

fn delete_source(sources: &mut BTreeMap<String, Stored>, id: &str, revision: u64) -> Response<Body> {
    if let Some(Stored::Source(stored)) = sources.get(id)
        && stored["revision"].as_u64() > Some(revision)
    {
        return older(stored["revision"].as_u64().unwrap_or(0));
    }
    sources.insert(id.to_owned(), Stored::Tombstone { revision });
    reply(StatusCode::NO_CONTENT, Body::empty())
}

fn older(revision: u64) -> Response<Body> {
    reply(StatusCode::CONFLICT, json!({ "error": "older_revision", "revision": revision }).to_string())
}

fn reply(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
