//! The hosts from which the Worker fetches keys and confirmations, on loopback. A bare workerd sends all its fetches
//! there ([`crate::edge::EdgeSettings::internet`]), so a test can act as a host whose name is fixed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::error::{Doing as _, Result};
use crate::server::{Answer, Cut, Server};

/// Running hosts. Dropping this closes their port.
#[derive(Debug)]
pub struct Internet {
    server: Server,
    shared: Arc<Shared>,
}

/// A recorded request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub method: String,
    /// The URL as the Worker wrote it; the scheme is always https.
    pub url: String,
    pub body: Vec<u8>,
}

#[derive(Debug, Default)]
struct Shared {
    documents: Mutex<HashMap<String, Bytes>>,
    asked: Mutex<Vec<Asked>>,
}

impl Internet {
    /// Starts the hosts on a free port. Every URL answers 404 at first.
    ///
    /// # Errors
    /// Returns an error if it cannot listen.
    pub async fn start() -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let for_handler = Arc::clone(&shared);
        let server = Server::start(0, move |request| answer(Arc::clone(&for_handler), request)).await;
        Ok(Self { server: server.doing(|| "cannot listen".to_owned())?, shared })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Answers a URL with a document from now on, for every method.
    pub fn publish(&self, url: &str, document: impl Into<Bytes>) {
        lock(&self.shared.documents).insert(url.to_owned(), document.into());
    }

    /// The requests for a URL, in the order of arrival.
    #[must_use]
    pub fn asked(&self, url: &str) -> Vec<Asked> {
        lock(&self.shared.asked).iter().filter(|asked| asked.url == url).cloned().collect()
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut::Close)?.to_bytes();
    let host = head.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    let url = format!("https://{host}{path}");
    lock(&shared.asked).push(Asked { method: head.method.to_string(), url: url.clone(), body: body.into() });
    let document = lock(&shared.documents).get(&url).cloned();
    let status = if document.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let mut response = Response::new(Body::from(document.unwrap_or_default()));
    *response.status_mut() = status;
    Ok(response)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
