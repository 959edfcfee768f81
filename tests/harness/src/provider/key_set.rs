//! A provider's public keys on loopback, as a JSON Web Key Set (RFC 7517, RFC 8037).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ed25519_dalek::SigningKey;
use http::{Response, StatusCode};
use serde_json::json;

use crate::error::{Doing as _, Result};
use crate::server::Server;

/// Serves the public half of a fresh Ed25519 key.
#[derive(Debug)]
pub struct KeySetServer {
    server: Server,
    key: SigningKey,
    requests: Arc<AtomicU64>,
    broken: Arc<AtomicBool>,
}

impl KeySetServer {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// Returns an error if it cannot listen.
    pub async fn start() -> Result<Self> {
        let key = SigningKey::from_bytes(&rand::random());
        let (requests, broken) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let x = BASE64URL.encode(key.verifying_key().as_bytes());
        let keys =
            json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "1", "x": x }] }).to_string();
        let (counter, is_broken) = (Arc::clone(&requests), Arc::clone(&broken));
        let server = Server::start(0, move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            let (status, body) = match is_broken.load(Ordering::Relaxed) {
                true => (StatusCode::BAD_GATEWAY, String::new()),
                false => (StatusCode::OK, keys.clone()),
            };
            async move {
                let mut response = Response::new(Body::from(body));
                *response.status_mut() = status;
                Ok(response)
            }
        })
        .await
        .doing(|| "cannot serve a key set".to_owned())?;
        Ok(Self { server, key, requests, broken })
    }

    /// The URL of the keys.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/.well-known/jwks.json", self.server.address())
    }

    /// The number of times the keys were fetched.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Makes it answer 502 from now on.
    pub fn break_down(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    pub(super) fn signing_key(&self) -> SigningKey {
        self.key.clone()
    }
}
