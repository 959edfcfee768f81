//! Cloudflare's pull API: pull, acknowledge, hand back.
//!
//! What the API answers is read leniently, because its documentation, its clients and its behaviour differ: every field
//! of a result is optional, and a body that is JSON comes plain or in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::StatusCode;
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

use crate::config::QueueConfig;

/// The most messages of one pull; the API's limit.
pub const BATCH: usize = 100;

/// How long a pulled message is ours before it returns to the queue. Several times longer than storing ever takes.
pub const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(60);

/// Whole call, a full batch of large messages included.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A message with its lease.
#[derive(Debug, Clone)]
pub struct Leased {
    pub message_id: String,
    pub lease_id: String,
    pub attempts: u32,
    /// When the queue accepted it, Unix milliseconds.
    pub accepted_at_ms: Option<u64>,
    /// As the queue names it, such as `text`.
    pub content_type: String,
    pub body: LeasedBody,
}

/// The body of a message as it came out of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeasedBody {
    Message(Vec<u8>),
    /// No message of ours; kept as the API gave it.
    Unreadable {
        raw: Vec<u8>,
        reason: String,
    },
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the queue's API cannot be reached: {0}")]
    Unreachable(String),
    #[error("the queue {queue} has no pull consumer: run `wrangler queues consumer http add <queue name>`")]
    PullNotEnabled { queue: String },
    #[error("the queue's API refused the token (status {status}): it needs Queues read and edit for this account")]
    Forbidden { status: u16 },
    #[error("the account or the queue {queue} does not exist: TIDEGATE_QUEUE_IDS takes 32-digit ids, not names")]
    NotFound { queue: String },
    #[error("the queue's API answered {status}: {message}")]
    Status { status: u16, message: String, retry_after: Option<Duration> },
    #[error("the queue's API answered something that is not its format: {0}")]
    Format(String),
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
    /// One for each configured queue, on one connection pool.
    ///
    /// # Errors
    /// Where TLS cannot be set up on this machine.
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

    /// Leases up to [`BATCH`] messages.
    ///
    /// # Errors
    /// See [`Error`]; nothing is leased then, or what is leased returns by itself.
    pub async fn pull(&self) -> Result<Vec<Leased>, Error> {
        let visibility_ms = u64::try_from(VISIBILITY_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        let request = json!({ "batch_size": BATCH, "visibility_timeout_ms": visibility_ms });
        let answer: Answer = self.post("messages/pull", &request).await?;
        Ok(answer.result.unwrap_or_default().messages.unwrap_or_default().into_iter().map(read).collect())
    }

    /// Acknowledges messages.
    ///
    /// # Errors
    /// See [`Error`]; what was not acknowledged returns to the queue and is found to be stored already.
    pub async fn acknowledge(&self, leases: &[String]) -> Result<(), Error> {
        let acks: Vec<Value> = leases.iter().map(|lease| json!({ "lease_id": lease })).collect();
        let _: Answer = self.post("messages/ack", &json!({ "acks": acks, "retries": [] })).await?;
        Ok(())
    }

    /// Hands a message back, to be leased again after `delay`.
    ///
    /// # Errors
    /// See [`Error`]; the message returns when its lease ends.
    pub async fn hand_back(&self, lease: &str, delay: Duration) -> Result<(), Error> {
        let retries = json!([{ "lease_id": lease, "delay_seconds": delay.as_secs() }]);
        let _: Answer = self.post("messages/ack", &json!({ "acks": [], "retries": retries })).await?;
        Ok(())
    }

    /// Asks how much waits in the queue, without leasing any of it, for a person.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn look(&self) -> Result<String, Error> {
        let answer: Value = self.call(self.client.get(format!("{}/metrics", self.base))).await?;
        let count = answer.pointer("/result/backlog_count").and_then(Value::as_u64);
        Ok(count.map_or_else(|| "reachable".to_owned(), |count| format!("reachable, {count} messages wait")))
    }

    async fn post<T: serde::de::DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Error> {
        self.call(self.client.post(format!("{}/{path}", self.base)).json(body)).await
    }

    async fn call<T: serde::de::DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Error> {
        let unreachable = |error: reqwest::Error| Error::Unreachable(chain(&error));
        let response = request.bearer_auth(&self.token).send().await.map_err(unreachable)?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(http::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| crate::retry::parse_retry_after(value, crate::mint::now_ms()))
            .map(|ms| Duration::from_millis(ms).min(Duration::from_secs(300)));
        let bytes = response.bytes().await.map_err(unreachable)?;
        match status {
            StatusCode::OK => serde_json::from_slice(&bytes).map_err(|error| Error::Format(error.to_string())),
            StatusCode::METHOD_NOT_ALLOWED => Err(Error::PullNotEnabled { queue: self.id.clone() }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::Forbidden { status: status.as_u16() }),
            StatusCode::NOT_FOUND => Err(Error::NotFound { queue: self.id.clone() }),
            _ => Err(Error::Status { status: status.as_u16(), message: problem(&bytes), retry_after }),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    result: Option<Pulled>,
}

#[derive(Deserialize, Default)]
struct Pulled {
    messages: Option<Vec<PulledMessage>>,
}

#[derive(Deserialize)]
struct PulledMessage {
    #[serde(default)]
    id: String,
    lease_id: String,
    #[serde(default)]
    attempts: u32,
    timestamp_ms: Option<u64>,
    #[serde(default)]
    body: Value,
    #[serde(default)]
    metadata: Value,
}

fn read(message: PulledMessage) -> Leased {
    let content_type = message.metadata.get("CF-Content-Type").and_then(Value::as_str).unwrap_or("text");
    let body = read_body(content_type, message.body);
    Leased {
        message_id: message.id,
        lease_id: message.lease_id,
        attempts: message.attempts,
        accepted_at_ms: message.timestamp_ms,
        content_type: content_type.to_owned(),
        body,
    }
}

/// Undoes the encoding of a body by the queue's API.
#[must_use]
pub fn read_body(content_type: &str, body: Value) -> LeasedBody {
    let unreadable = |raw: String, reason: String| LeasedBody::Unreadable { raw: raw.into_bytes(), reason };
    let Value::String(text) = body else {
        return unreadable(body.to_string(), "the queue gave a body that is not a string".to_owned());
    };
    match content_type {
        "text" => LeasedBody::Message(text.into_bytes()),
        "bytes" => match BASE64.decode(&text) {
            Ok(bytes) => LeasedBody::Message(bytes),
            Err(_) => unreadable(text, "the queue gave bytes that are not base64".to_owned()),
        },
        // A JSON string that holds our message, sent by hand or by a tool.
        "json" => {
            let json = BASE64.decode(&text).unwrap_or_else(|_| text.clone().into_bytes());
            match serde_json::from_slice(&json) {
                Ok(Value::String(message)) => LeasedBody::Message(message.into_bytes()),
                Ok(_) | Err(_) => unreadable(text, "JSON that is not a string".to_owned()),
            }
        }
        other => unreadable(text, format!("content type {other} cannot be read")),
    }
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

/// An error with what caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_body_is_taken_as_it_is() {
        assert_eq!(read_body("text", json!("aGVsbG8=")), LeasedBody::Message(b"aGVsbG8=".to_vec()));
    }

    #[test]
    fn bytes_come_in_base64_whatever_they_are() {
        assert_eq!(read_body("bytes", json!("AP8K")), LeasedBody::Message(vec![0, 0xff, b'\n']));
    }

    #[test]
    fn a_json_body_is_read_plain_and_in_base64() {
        let base64 = BASE64.encode("\"message\"");
        for body in ["\"message\"", base64.as_str()] {
            assert_eq!(read_body("json", json!(body)), LeasedBody::Message(b"message".to_vec()));
        }
    }

    #[test]
    fn what_cannot_be_read_is_kept() {
        for (content_type, body) in
            [("v8", json!("x")), ("bytes", json!("/w=!")), ("json", json!("{}")), ("text", json!({}))]
        {
            assert!(matches!(read_body(content_type, body), LeasedBody::Unreadable { .. }), "{content_type}");
        }
    }

    #[test]
    fn a_result_without_messages_is_an_empty_pull() {
        for body in [r#"{"success":true,"result":{}}"#, r#"{"success":true,"result":null}"#, r#"{"success":true}"#] {
            let answer: Answer = serde_json::from_str(body).expect("reads");
            assert!(answer.result.unwrap_or_default().messages.unwrap_or_default().is_empty());
        }
    }
}
