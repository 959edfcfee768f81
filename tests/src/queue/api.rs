//! Cloudflare's REST API of a queue: push, pull, acknowledge, metrics, with its envelopes and errors.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::bridge::{Sent, raw_body};
use super::{ContentType, MAX_BATCH_BYTES, MAX_MESSAGE_BYTES, Message, Retry, Shared, now_ms};

pub(super) fn routes() -> Router<Arc<Shared>> {
    let queue = Router::new()
        .route("/messages", post(push))
        .route("/messages/batch", post(push_batch))
        .route("/messages/pull", post(pull))
        .route("/messages/ack", post(ack))
        .route("/metrics", get(metrics));
    Router::new().nest("/client/v4/accounts/{account}/queues/{queue}", queue)
}

/// The largest `batch_size` of a pull.
const MAX_PULL: usize = 100;
/// What a pull without `batch_size` leases.
const DEFAULT_PULL: usize = 5;
/// The longest lease: 12 hours, in milliseconds.
const MAX_VISIBILITY_TIMEOUT_MS: u64 = 12 * 60 * 60 * 1_000;

type Ids = Path<(String, String)>;

#[derive(Default, Deserialize)]
struct PullRequest {
    batch_size: Option<usize>,
    visibility_timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
struct AckRequest {
    #[serde(default)]
    acks: Vec<Lease>,
    #[serde(default)]
    retries: Vec<Lease>,
}

#[derive(Deserialize)]
struct Lease {
    lease_id: String,
    delay_seconds: Option<u64>,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    messages: Vec<Sent<'a>>,
    delay_seconds: Option<u64>,
}

#[derive(Serialize)]
struct PulledMessage {
    id: String,
    body: String,
    timestamp_ms: u64,
    attempts: u32,
    metadata: Metadata,
    lease_id: String,
}

#[derive(Serialize)]
struct Metadata {
    #[serde(rename = "CF-sourceMessageSource")]
    source: &'static str,
    #[serde(rename = "CF-Content-Type")]
    content_type: &'static str,
}

/// An answer that is not a success: HTTP status, Cloudflare's code, message.
struct Refusal(StatusCode, u32, String);

async fn push(
    State(shared): State<Arc<Shared>>,
    Path(ids): Ids,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    authorise(&shared, &ids, &headers)?;
    let sent: Sent<'_> = read(&body)?;
    store(&shared, &[sent], None)?;
    Ok(metrics_answer(&shared))
}

async fn push_batch(
    State(shared): State<Arc<Shared>>,
    Path(ids): Ids,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    authorise(&shared, &ids, &headers)?;
    let batch: Batch<'_> = read(&body)?;
    store(&shared, &batch.messages, batch.delay_seconds)?;
    Ok(metrics_answer(&shared))
}

async fn pull(
    State(shared): State<Arc<Shared>>,
    Path(ids): Ids,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    authorise(&shared, &ids, &headers)?;
    let request: PullRequest = if body.is_empty() { PullRequest::default() } else { read(&body)? };
    let latency = shared.faults().pull_latency();
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let (failing, duplicate, json_bodies) = {
        let mut faults = shared.faults();
        pull_enabled(&faults)?;
        (faults.failing_pull(), faults.duplicates, faults.json_bodies)
    };
    if let Some(status) = failing {
        return Ok(failure(status));
    }
    let limit = request.batch_size.unwrap_or(DEFAULT_PULL);
    if !(1..=MAX_PULL).contains(&limit) {
        return Err(bad_request("batch_size has to be between 1 and 100"));
    }
    if request.visibility_timeout_ms.is_some_and(|timeout| timeout > MAX_VISIBILITY_TIMEOUT_MS) {
        return Err(bad_request("visibility_timeout_ms has to be at most 43200000"));
    }
    let now_ms = now_ms();
    let (pulled, backlog, metrics) = {
        let mut state = shared.state();
        let pulled = state.pull(now_ms, limit, request.visibility_timeout_ms, duplicate);
        (pulled, state.counters(now_ms).backlog, measure(&mut state))
    };
    let messages: Vec<PulledMessage> = pulled
        .into_iter()
        .map(|p| PulledMessage {
            body: p.message.pulled_body(json_bodies),
            timestamp_ms: p.message.accepted_at_ms,
            attempts: p.attempts,
            metadata: Metadata { source: "worker", content_type: p.message.content_type.name() },
            id: p.message.id,
            lease_id: p.lease_id,
        })
        .collect();
    Ok(success(PullResult { message_backlog_count: backlog, metadata: json!({ "metrics": metrics }), messages }))
}

#[derive(Serialize)]
struct PullResult {
    message_backlog_count: u64,
    metadata: Value,
    messages: Vec<PulledMessage>,
}

async fn ack(
    State(shared): State<Arc<Shared>>,
    Path(ids): Ids,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    authorise(&shared, &ids, &headers)?;
    let forgotten = {
        let mut faults = shared.faults();
        pull_enabled(&faults)?;
        faults.forgotten_acks.strike()
    };
    let request: AckRequest = read(&body)?;
    let acks: Vec<String> = request.acks.into_iter().map(|lease| lease.lease_id).collect();
    let retries: Vec<Retry> = request
        .retries
        .into_iter()
        .map(|lease| Retry { lease_id: lease.lease_id, delay_s: lease.delay_seconds })
        .collect();
    if forgotten {
        let returned: Vec<Retry> =
            acks.iter().map(|lease| Retry { lease_id: lease.clone(), delay_s: Some(0) }).collect();
        shared.state().ack(now_ms(), &[], &returned);
        return Ok(success(json!({ "ackCount": acks.len(), "retryCount": 0, "warnings": {} })));
    }
    let done = shared.state().ack(now_ms(), &acks, &retries);
    let warnings: Map<String, Value> =
        done.unknown.into_iter().map(|lease| (lease, "the lease is no longer valid".into())).collect();
    Ok(success(json!({ "ackCount": done.acked, "retryCount": done.retried, "warnings": warnings })))
}

async fn metrics(State(shared): State<Arc<Shared>>, Path(ids): Ids, headers: HeaderMap) -> Result<Response, Refusal> {
    authorise(&shared, &ids, &headers)?;
    Ok(success(measure(&mut shared.state())))
}

fn authorise(shared: &Shared, (account, queue): &(String, String), headers: &HeaderMap) -> Result<(), Refusal> {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if token != Some(&shared.token) {
        return Err(Refusal(StatusCode::FORBIDDEN, 10000, "Authentication error".to_owned()));
    }
    if *account != shared.account_id || *queue != shared.queue_id {
        let message = "Could not route to the queue, perhaps your object identifier is invalid?".to_owned();
        return Err(Refusal(StatusCode::NOT_FOUND, 7003, message));
    }
    Ok(())
}

fn pull_enabled(faults: &super::Faults) -> Result<(), Refusal> {
    if faults.pull_disabled {
        let message = "messages cannot be pulled unless http_pull mode is enabled".to_owned();
        return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, 0, message));
    }
    Ok(())
}

fn store(shared: &Shared, messages: &[Sent<'_>], batch_delay_s: Option<u64>) -> Result<(), Refusal> {
    let mut bodies = Vec::with_capacity(messages.len());
    for sent in messages {
        match sent.content_type {
            ContentType::Text | ContentType::Json => bodies.push(raw_body(sent).map_err(|m| bad_request(&m))?),
            ContentType::Bytes | ContentType::V8 => {
                return Err(bad_request("content_type has to be \"json\" or \"text\""));
            }
        }
    }
    if bodies.iter().any(|body| body.len() > MAX_MESSAGE_BYTES) {
        return Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, 10204, "Message is too large".to_owned()));
    }
    if bodies.iter().map(Vec::len).sum::<usize>() > MAX_BATCH_BYTES {
        return Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, 10205, "Batch is too large".to_owned()));
    }
    let now_ms = now_ms();
    let mut state = shared.state();
    for (sent, body) in messages.iter().zip(bodies) {
        let delay_s = sent.delay_seconds.or(batch_delay_s).unwrap_or(0);
        state.push(now_ms, Message::new(now_ms, sent.content_type, body), delay_s);
    }
    Ok(())
}

fn measure(state: &mut super::State) -> Value {
    json!({
        "backlog_count": state.counters(now_ms()).backlog,
        "backlog_bytes": state.backlog_bytes(),
        "oldest_message_timestamp_ms": state.oldest_ms(),
    })
}

fn metrics_answer(shared: &Shared) -> Response {
    success(json!({ "metadata": { "metrics": measure(&mut shared.state()) } }))
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| bad_request(&format!("the request could not be read: {error}")))
}

fn success<T: Serialize>(result: T) -> Response {
    #[derive(Serialize)]
    struct Envelope<T> {
        success: bool,
        errors: [u8; 0],
        messages: [u8; 0],
        result: T,
    }
    Json(Envelope { success: true, errors: [], messages: [], result }).into_response()
}

fn bad_request(message: &str) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, 10100, message.to_owned())
}

/// A pull that fails by a fault: 429 tells when to come back, as Cloudflare does.
fn failure(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Refusal(status, 10000, "the local queue was told to fail".to_owned()).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert("retry-after", http::HeaderValue::from_static("1"));
    }
    response
}

impl axum::response::IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, code, message) = self;
        let errors = [json!({ "code": code, "message": message })];
        let body = json!({ "success": false, "errors": errors, "messages": [], "result": null });
        (status, Json(body)).into_response()
    }
}
