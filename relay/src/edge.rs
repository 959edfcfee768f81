//! The edge's admin routes. The relay puts source configurations there, and fetches large bodies and handed-over
//! secrets.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use reqwest::{Client, RequestBuilder, Response};
use sha2::{Digest as _, Sha256};
use shared::id::SourceId;
use shared::sample::SampleRequest;
use shared::source::Secret;
use tokio::sync::{Mutex, MutexGuard};
use url::Url;

use crate::readiness::Upstream;

pub mod check;
pub mod name;
pub mod push;
pub mod source;

/// The number of locks that serialise writes to the edge. A source always uses the same lock, which it shares with
/// others.
pub(crate) const TURNS: usize = 64;

/// The limit for a whole call, including the transfer of a large body.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// The limit for sending a sample event to a source.
pub(crate) const SAMPLE_WITHIN: Duration = Duration::from_secs(10);

/// How much of the response to a sample event is read, in bytes.
pub(crate) const MAX_SAMPLE_ANSWER_BYTES: usize = 65_536;

/// A client of the Worker.
#[derive(Clone)]
pub struct Edge {
    client: Client,
    base: String,
    token: String,
    turns: Arc<[Mutex<()>]>,
    upstream: Upstream,
}

/// Why a body or a secret could not be fetched.
#[derive(Debug)]
pub enum FetchError {
    /// It cannot be fetched, now or later.
    Permanent(String),
    /// The next try may succeed.
    Transient(String),
}

impl Edge {
    /// A client of the Worker at `base`.
    ///
    /// # Errors
    /// Returns an error if TLS cannot be set up on this machine.
    pub fn new(base: &Url, token: &str) -> Result<Self, reqwest::Error> {
        let client = crate::operator_client(TIMEOUT)?;
        let turns = (0..TURNS).map(|_| Mutex::default()).collect();
        let base = base.as_str().trim_end_matches('/').to_owned();
        Ok(Self { client, base, token: token.to_owned(), turns, upstream: Upstream::default() })
    }

    /// Whether calls to the edge succeed.
    #[must_use]
    pub fn upstream(&self) -> Upstream {
        self.upstream.clone()
    }

    /// Waits until no other call of this relay writes this source at the edge. KV has no compare-and-set: of two
    /// concurrent writes, the older one can take effect last.
    pub async fn turn(&self, source: SourceId) -> MutexGuard<'_, ()> {
        // The last byte of an id is random.
        self.turns[usize::from(source.uuid().as_bytes()[15]) % TURNS].lock().await
    }

    /// The URL a provider posts to. The edge accepts the id of a source, and the name that it has there ([`name`]).
    #[must_use]
    pub fn ingest_url(&self, source: impl std::fmt::Display) -> String {
        format!("{}/in/{source}", self.base)
    }

    /// Fetches the body of an event that was too large for the queue, and checks that it is the body that the edge
    /// stored.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch_body(&self, key: &str, size: u64, sha256: &str) -> Result<Vec<u8>, FetchError> {
        let request = self.client.get(format!("{}/admin/bodies/{key}", self.base));
        let response = self.call(request).await.map_err(FetchError::Transient)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                return Err(FetchError::Permanent(format!(
                    "the body {key} that the message refers to is not in the edge's storage"
                )));
            }
            _ => return Err(FetchError::Transient(answer(response).await)),
        }
        let body = response.bytes().await.map_err(|error| FetchError::Transient(error.to_string()))?;
        if body.len() as u64 != size || hex::encode(Sha256::digest(&body)) != sha256 {
            return Err(FetchError::Permanent(format!(
                "the body {key} that the message refers to differs from the one that the edge stored (size or SHA-256)"
            )));
        }
        Ok(body.into())
    }

    /// Sends a secret to the edge to be opened. The edge sealed it when a provider handed it over to this source.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn open_secret(&self, source: SourceId, sealed: &str) -> Result<Secret, FetchError> {
        let request = self.client.post(format!("{}/admin/handed-over/{source}", self.base)).body(sealed.to_owned());
        let response = self.call(request).await.map_err(FetchError::Transient)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNPROCESSABLE_ENTITY => return Err(FetchError::Permanent(answer(response).await)),
            _ => return Err(FetchError::Transient(answer(response).await)),
        }
        let secret = response.text().await.map_err(|error| FetchError::Transient(error.to_string()))?;
        Ok(Secret::new(&secret))
    }

    /// Deletes a body that has been stored.
    ///
    /// # Errors
    /// Returns a human-readable description of the failure.
    pub async fn delete_body(&self, key: &str) -> Result<(), String> {
        let response = self.call(self.client.delete(format!("{}/admin/bodies/{key}", self.base))).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(answer(response).await),
        }
    }

    /// The Worker's own report on its bindings.
    ///
    /// # Errors
    /// Returns a human-readable description of the failure.
    pub async fn status(&self) -> Result<serde_json::Value, String> {
        let response = self.call(self.client.get(format!("{}/admin/status", self.base))).await?;
        if !response.status().is_success() {
            return Err(answer(response).await);
        }
        response.json().await.map_err(|error| error.to_string())
    }

    /// Sends a request to the URL of a source, as its provider does. Returns the status and the beginning of the body of
    /// the response.
    ///
    /// # Errors
    /// Returns a human-readable description of the failure.
    pub async fn send_as_provider(&self, request: SampleRequest) -> Result<(StatusCode, String), String> {
        let SampleRequest { method, url, headers, body } = request;
        let method = Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
        let mut builder = self.client.request(method, &url).body(body).timeout(SAMPLE_WITHIN);
        for (name, value) in &headers {
            builder = builder.header(name, value);
        }
        let unreachable = |error: reqwest::Error| format!("cannot reach the edge at TIDEGATE_EDGE_URL: {error}");
        let mut response = builder.send().await.map_err(unreachable)?;
        let (status, mut text) = (response.status(), Vec::new());
        while text.len() < MAX_SAMPLE_ANSWER_BYTES
            && let Some(part) = response.chunk().await.map_err(unreachable)?
        {
            text.extend_from_slice(&part);
        }
        text.truncate(MAX_SAMPLE_ANSWER_BYTES);
        Ok((status, String::from_utf8_lossy(&text).into_owned()))
    }

    async fn call(&self, request: RequestBuilder) -> Result<Response, String> {
        let call = self.upstream.call();
        match request.bearer_auth(&self.token).send().await {
            Ok(response) => {
                match response.status() {
                    status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                        call.failed(format!("token rejected (status {})", status.as_u16()));
                    }
                    status if status.is_server_error() => call.failed(format!("status {}", status.as_u16())),
                    _ => call.succeeded(),
                }
                Ok(response)
            }
            Err(error) => {
                call.failed("unreachable".to_owned());
                Err(format!("cannot reach the edge at TIDEGATE_EDGE_URL: {error}"))
            }
        }
    }
}

async fn answer(response: Response) -> String {
    let status = response.status();
    describe(status, &response.text().await.unwrap_or_default())
}

/// Describes an unsuccessful response, with a hint on how to fix it.
fn describe(status: StatusCode, text: &str) -> String {
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; set TIDEGATE_EDGE_ADMIN_TOKEN to the value of the edge's secret ADMIN_TOKEN"
        }
        _ => "",
    };
    let text: String = text.chars().take(300).collect();
    format!("the edge returned {status}: {text}{hint}")
}
