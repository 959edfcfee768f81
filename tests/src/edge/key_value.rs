//! A KV namespace as a bare workerd asks for it (workerd, `src/workerd/api/kv.c++`): `GET`, `PUT` and `DELETE` of
//! `/{key}`, percent-encoded. In memory; expiry and lists, which the edge does not use, are not there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::error::{Doing as _, Result};
use crate::server::{Answer, Cut, Server};

/// A running namespace; dropping it closes its port and loses its values.
#[derive(Debug)]
pub struct KeyValue {
    server: Server,
}

type Values = Arc<Mutex<HashMap<String, Bytes>>>;

impl KeyValue {
    /// Starts an empty namespace on a free port.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn start() -> Result<Self> {
        let values = Values::default();
        let server = Server::start(0, move |request| answer(Arc::clone(&values), request)).await;
        Ok(Self { server: server.doing(|| "cannot serve a KV namespace".to_owned())? })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

async fn answer(values: Values, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut::Close)?.to_bytes();
    let key = head.uri.path().to_owned();
    let mut values = values.lock().unwrap_or_else(PoisonError::into_inner);
    let (status, body) = match head.method {
        Method::GET => match values.get(&key) {
            Some(value) => (StatusCode::OK, value.clone()),
            None => (StatusCode::NOT_FOUND, Bytes::new()),
        },
        Method::PUT => {
            values.insert(key, body);
            (StatusCode::OK, Bytes::new())
        }
        Method::DELETE => {
            values.remove(&key);
            (StatusCode::OK, Bytes::new())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, Bytes::new()),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    Ok(response)
}
