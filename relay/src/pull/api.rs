//! Cloudflare's pull API: pull, acknowledge, hand back.
//!
//! Responses of the API are parsed leniently, because its documentation, its clients and its behaviour differ: every
//! field of a result is optional, and a body that is JSON comes plain or in base64. Each message is parsed separately,
//! so that one that cannot be parsed does not affect the others.

use std::time::Duration;

use http::StatusCode;
use reqwest::Client;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::config::QueueConfig;

pub use super::leased::{Leased, LeasedBody};

/// The most messages in one pull; the API's limit.
pub const BATCH: usize = 100;

/// How long the lease of a pulled message lasts before the message returns to the queue. Several times longer than
/// storing ever takes.
pub const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(60);

/// The limit for a whole call, including the transfer of a full batch of large messages.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest `Retry-After` of the API that is honoured.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The largest response that is read, in bytes. A hundred messages of 128 kB are at most 77 MB of JSON, if every byte
/// of them is escaped.
pub(crate) const MAX_ANSWER_BYTES: usize = 100_000_000;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot reach the queue API: {0}")]
    Unreachable(String),
    /// The API was reached but did not respond.
    #[error("the queue API did not respond within {} s", TIMEOUT.as_secs())]
    TimedOut,
    #[error("the queue {queue} has no pull consumer; run `tidegate doctor` to see the command that adds one")]
    PullNotEnabled { queue: String },
    #[error(
        "the queue API rejected TIDEGATE_QUEUE_TOKEN (status {status}); the token needs the permissions Queues: Read \
         and Queues: Edit for this account"
    )]
    Forbidden { status: u16 },
    #[error(
        "the account or the queue {queue} does not exist; check TIDEGATE_QUEUE_ACCOUNT_ID, and that TIDEGATE_QUEUE_IDS \
         contains 32-digit ids, not names"
    )]
    NotFound { queue: String },
    #[error("the queue API returned {status}: {message}")]
    Status { status: u16, message: String, retry_after: Option<Duration> },
    #[error("{0}")]
    Unread(Unread),
}

impl Error {
    /// The part of the error that may be public: no addresses, ids or texts of third parties.
    #[must_use]
    pub fn public(&self) -> String {
        match self {
            Self::Unreachable(_) => "unreachable".to_owned(),
            Self::TimedOut => "no response in time".to_owned(),
            Self::PullNotEnabled { .. } => "the queue has no pull consumer".to_owned(),
            Self::Forbidden { status } => format!("token rejected (status {status})"),
            Self::NotFound { .. } => "the account or the queue does not exist".to_owned(),
            Self::Status { status, .. } => format!("status {status}"),
            Self::Unread(_) => "invalid response".to_owned(),
        }
    }
}

/// A 200 response that could not be read: truncated, late, too large, or not in the API's format. The request took
/// effect nevertheless: a pull has leased its messages.
#[derive(Debug, thiserror::Error)]
#[error("the response of the queue API could not be parsed: {reason}")]
pub struct Unread {
    pub reason: String,
    /// The bytes that have arrived.
    pub received: Vec<u8>,
    /// Whether they are complete. A message must not be given up because of an incomplete response.
    pub is_whole: bool,
}

/// A client of one queue.
#[derive(Clone)]
pub struct Queue {
    client: Client,
    base: String,
    id: String,
    token: String,
}

impl Queue {
    /// Returns a client for each configured queue. They share a connection pool.
    ///
    /// # Errors
    /// Returns an error if TLS cannot be set up on this machine.
    pub fn all(config: &QueueConfig) -> Result<Vec<Self>, reqwest::Error> {
        let client = crate::operator_client(TIMEOUT)?;
        let api = config.api.as_str().trim_end_matches('/');
        Ok(config
            .queue_ids
            .iter()
            .map(|id| Self {
                client: client.clone(),
                base: format!("{api}/accounts/{}/queues/{id}", config.account_id),
                id: id.clone(),
                token: config.token.reveal().to_owned(),
            })
            .collect())
    }

    /// The queue's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Leases up to `most` messages, at most [`BATCH`].
    ///
    /// # Errors
    /// See [`Error`]. After [`Error::Unread`] the messages are leased and return when their leases end.
    pub async fn pull(&self, most: usize) -> Result<Vec<Leased>, Error> {
        let visibility_ms = u64::try_from(VISIBILITY_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        let request = json!({ "batch_size": most, "visibility_timeout_ms": visibility_ms });
        let answer = self.answer(self.client.post(format!("{}/messages/pull", self.base)).json(&request)).await?;
        super::leased::read(&answer).map_err(|error| unread(&error, answer))
    }

    /// Acknowledges messages.
    ///
    /// # Errors
    /// See [`Error`]. A message that was not acknowledged returns to the queue and is recognised as already stored.
    pub async fn acknowledge(&self, leases: &[String]) -> Result<(), Error> {
        let acks: Vec<Value> = leases.iter().map(|lease| json!({ "lease_id": lease })).collect();
        let _: Value = self.post("messages/ack", &json!({ "acks": acks, "retries": [] })).await?;
        Ok(())
    }

    /// Returns messages to the queue, to be leased again after `delay`.
    ///
    /// # Errors
    /// See [`Error`]. The messages return when their leases end.
    pub async fn hand_back(&self, leases: &[String], delay: Duration) -> Result<(), Error> {
        let delay_s = delay.as_secs();
        let retries: Vec<Value> =
            leases.iter().map(|lease| json!({ "lease_id": lease, "delay_seconds": delay_s })).collect();
        let _: Value = self.post("messages/ack", &json!({ "acks": [], "retries": retries })).await?;
        Ok(())
    }

    /// Returns, as a human-readable text, how many messages wait in the queue, without leasing any.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn look(&self) -> Result<String, Error> {
        let answer: Value = self.get("/metrics").await?;
        let count = answer.pointer("/result/backlog_count").and_then(Value::as_u64);
        Ok(count.map_or_else(|| "reachable".to_owned(), |count| format!("reachable, {count} messages waiting")))
    }

    /// Gets the resource at a path below the queue. The path is empty or begins with a slash.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.call(self.client.get(format!("{}{path}", self.base))).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Error> {
        self.call(self.client.post(format!("{}/{path}", self.base)).json(body)).await
    }

    async fn call<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Error> {
        let answer = self.answer(request).await?;
        serde_json::from_slice(&answer).map_err(|error| unread(&error, answer))
    }

    /// The body of a 200 response.
    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>, Error> {
        let response = request.bearer_auth(&self.token).send().await;
        let mut response = response.map_err(|error| match error.is_timeout() && !error.is_connect() {
            true => Error::TimedOut,
            false => Error::Unreachable(chain(&error)),
        })?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(http::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| engine::retry::parse_retry_after(value, crate::mint::now_ms()))
            .map(|ms| Duration::from_millis(ms).min(LONGEST_PAUSE));
        let mut received = Vec::new();
        let incomplete = read_to_end(&mut response, &mut received).await.err();
        match (status, incomplete) {
            (StatusCode::OK, None) => Ok(received),
            (StatusCode::OK, Some(reason)) => Err(Error::Unread(Unread { reason, received, is_whole: false })),
            (StatusCode::METHOD_NOT_ALLOWED, _) => Err(Error::PullNotEnabled { queue: self.id.clone() }),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => Err(Error::Forbidden { status: status.as_u16() }),
            (StatusCode::NOT_FOUND, _) => Err(Error::NotFound { queue: self.id.clone() }),
            (_, _) => Err(Error::Status { status: status.as_u16(), message: problem(&received), retry_after }),
        }
    }
}

async fn read_to_end(response: &mut reqwest::Response, received: &mut Vec<u8>) -> Result<(), String> {
    while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error))? {
        if received.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(format!("the response is larger than {MAX_ANSWER_BYTES} bytes"));
        }
        received.extend_from_slice(&chunk);
    }
    Ok(())
}

fn unread(error: &serde_json::Error, received: Vec<u8>) -> Error {
    Error::Unread(Unread { reason: error.to_string(), received, is_whole: true })
}

fn problem(bytes: &[u8]) -> String {
    let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let first = value.pointer("/errors/0");
    let code = first.and_then(|error| error.get("code")).and_then(Value::as_i64);
    let message = first.and_then(|error| error.get("message")).and_then(Value::as_str);
    match (code, message) {
        (Some(code), Some(message)) => format!("{message} ({code})"),
        _ => String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned(),
    }
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
