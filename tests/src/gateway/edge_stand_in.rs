//! The edge's admin routes for tests of the relay alone: takes source configurations and holds stored bodies.
//!
//! It verifies and queues nothing; what the edge does with a request is tested with the edge.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::error::{Doing as _, Result};
use crate::server::{Answer, Cut, Server};

/// A running stand-in; dropping it closes its port.
#[derive(Debug)]
pub struct EdgeStandIn {
    server: Server,
    token: String,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    sources: Mutex<BTreeMap<String, Value>>,
    bodies: Mutex<HashMap<String, Bytes>>,
}

impl EdgeStandIn {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn start() -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let token = crate::random::text();
        let (for_handler, wanted) = (Arc::clone(&shared), format!("Bearer {token}"));
        let server = Server::start(0, move |request| answer(Arc::clone(&for_handler), wanted.clone(), request)).await;
        Ok(Self { server: server.doing(|| "cannot listen".to_owned())?, token, shared })
    }

    /// Its base URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// The token of its admin routes.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The source configurations it holds, by id.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<String, Value> {
        lock(&self.shared.sources).clone()
    }

    /// Stores a body, as the edge does with one that does not fit into a message. Clones of one [`Bytes`] share their
    /// memory.
    pub fn store_body(&self, key: &str, body: impl Into<Bytes>) {
        lock(&self.shared.bodies).insert(key.to_owned(), body.into());
    }

    /// The keys of the bodies that are stored.
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
    Ok(respond(&shared, &head.method, head.uri.path(), body))
}

fn respond(shared: &Shared, method: &Method, path: &str, body: Bytes) -> Response<Body> {
    if path == "/healthz" {
        return reply(StatusCode::OK, json!({ "ok": true, "version": env!("CARGO_PKG_VERSION") }).to_string());
    }
    if path == "/admin/status" {
        return reply(StatusCode::OK, json!({ "ready": true, "missing": [] }).to_string());
    }
    if let Some(id) = path.strip_prefix("/admin/sources/") {
        let mut sources = lock(&shared.sources);
        match *method {
            Method::PUT => {
                let Ok(config) = serde_json::from_slice::<Value>(&body) else {
                    return reply(StatusCode::BAD_REQUEST, json!({ "error": "bad_configuration" }).to_string());
                };
                let revision = config["revision"].clone();
                sources.insert(id.to_owned(), config);
                return reply(StatusCode::OK, json!({ "revision": revision }).to_string());
            }
            Method::GET => {
                if let Some(config) = sources.get(id) {
                    let facts = json!({ "revision": config["revision"], "name": config["name"] });
                    return reply(StatusCode::OK, facts.to_string());
                }
            }
            Method::DELETE => {
                sources.remove(id);
                return reply(StatusCode::NO_CONTENT, Body::empty());
            }
            _ => return reply(StatusCode::METHOD_NOT_ALLOWED, Body::empty()),
        }
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

fn reply(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
