//! Cloudflare's REST API of a queue: its configuration, push, pull, acknowledge, metrics, with its envelopes and errors.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::answer::{self, Paced};
use super::bridge::{Sent, raw_body};
use super::{ContentType, MAX_BATCH_BYTES, MAX_MESSAGE_BYTES, Queue, Retry, Shared};

pub(super) fn routes() -> Router<Arc<Shared>> {
    let queue = Router::new()
        .route("/messages", post(push))
        .route("/messages/batch", post(push_batch))
        .route("/messages/pull", post(pull))
        .route("/messages/ack", post(ack))
        .route("/metrics", get(metrics))
        .route("/consumers", get(consumers));
    let base = "/client/v4/accounts/{account}/queues/{queue}";
    Router::new().route(base, get(describe)).nest(base, queue)
}

/// The largest `batch_size` of a pull.
const MAX_PULL: usize = 100;
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

/// An error response: HTTP status, Cloudflare's code, message.
struct Refusal(StatusCode, u32, String);

async fn push(
    State(shared): State<Arc<Shared>>,
    Path(ids): Ids,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let at = authorise(&shared, &ids, &headers)?;
    let sent: Sent<'_> = read(&body)?;
    store(&shared, at, &[sent], None)?;
    Ok(metrics_answer(&shared, at))
}

async fn push_batch(
    State(shared): State<Arc<Shared>>,
    Path(ids): Ids,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let at = authorise(&shared, &ids, &headers)?;
    let batch: Batch<'_> = read(&body)?;
    store(&shared, at, &batch.messages, batch.delay_seconds)?;
    Ok(metrics_answer(&shared, at))
}

async fn pull(
    State(shared): State<Arc<Shared>>,
    Path(ids): Ids,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let at = authorise(&shared, &ids, &headers)?;
    let request: PullRequest = if body.is_empty() { PullRequest::default() } else { read(&body)? };
    let latency = shared.faults().pull_latency();
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    pull_enabled(&shared, at)?;
    let (failing, faults) = {
        let mut faults = shared.faults();
        (faults.failing_pull(), faults.clone())
    };
    if let Some(status) = failing {
        return Ok(failure(status));
    }
    let limit = request.batch_size.unwrap_or_else(|| shared.account().queue(at).0.settings.batch_size);
    if !(1..=MAX_PULL).contains(&limit) {
        return Err(bad_request("batch_size has to be between 1 and 100"));
    }
    if request.visibility_timeout_ms.is_some_and(|timeout| timeout > MAX_VISIBILITY_TIMEOUT_MS) {
        return Err(bad_request("visibility_timeout_ms has to be at most 43200000"));
    }
    let (pulled, backlog, metrics) = shared.on(at, |state, now_ms| {
        let pulled = state.pull(now_ms, limit, request.visibility_timeout_ms, faults.duplicates);
        (pulled, state.counters(now_ms).backlog, measure(state, now_ms))
    });
    let messages: Vec<PulledMessage> = pulled
        .into_iter()
        .map(|p| PulledMessage {
            body: p.message.pulled_body(faults.json_bodies),
            timestamp_ms: p.message.accepted_at_ms,
            attempts: p.attempts,
            metadata: Metadata { source: "worker", content_type: p.message.content_type.name() },
            id: p.message.id,
            lease_id: p.lease_id,
        })
        .collect();
    let result = PullResult { message_backlog_count: backlog, metadata: json!({ "metrics": metrics }), messages };
    let text = answer::garble(envelope(result)?, faults.garbled.as_ref());
    let mut response = Response::new(Body::new(Paced::new(text, &faults)));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    Ok(response)
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
    let at = authorise(&shared, &ids, &headers)?;
    pull_enabled(&shared, at)?;
    let forgotten = shared.faults().forgotten_acks.strike();
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
        shared.on(at, |state, now_ms| state.ack(now_ms, &[], &returned));
        return Ok(success(json!({ "ackCount": acks.len(), "retryCount": 0, "warnings": {} })));
    }
    let done = shared.on(at, |state, now_ms| state.ack(now_ms, &acks, &retries));
    let warnings: Map<String, Value> =
        done.unknown.into_iter().map(|lease| (lease, "the lease is no longer valid".into())).collect();
    Ok(success(json!({ "ackCount": done.acked, "retryCount": done.retried, "warnings": warnings })))
}

async fn metrics(State(shared): State<Arc<Shared>>, Path(ids): Ids, headers: HeaderMap) -> Result<Response, Refusal> {
    let at = authorise(&shared, &ids, &headers)?;
    Ok(success(shared.on(at, measure)))
}

/// The description of a queue, in Cloudflare's form.
async fn describe(State(shared): State<Arc<Shared>>, Path(ids): Ids, headers: HeaderMap) -> Result<Response, Refusal> {
    let at = authorise(&shared, &ids, &headers)?;
    let account = shared.account();
    let (queue, id) = account.queue(at);
    let consumers = consumer(queue, id, &shared);
    let producers =
        if at == super::FIRST { json!([{ "type": "worker", "script": "tidegate-edge" }]) } else { json!([]) };
    Ok(success(json!({
        "queue_id": id,
        "queue_name": queue.name,
        "created_on": "2026-01-01T00:00:00.000000Z",
        "modified_on": "2026-01-01T00:00:00.000000Z",
        "producers_total_count": producers.as_array().map(Vec::len),
        "producers": producers,
        "consumers_total_count": consumers.len(),
        "consumers": consumers,
        "settings": {
            "delivery_delay": 0,
            "delivery_paused": false,
            "message_retention_period": queue.settings.retention_s,
        },
    })))
}

/// The consumers of a queue: one or none.
async fn consumers(State(shared): State<Arc<Shared>>, Path(ids): Ids, headers: HeaderMap) -> Result<Response, Refusal> {
    let at = authorise(&shared, &ids, &headers)?;
    let account = shared.account();
    let (queue, id) = account.queue(at);
    Ok(success(consumer(queue, id, &shared)))
}

fn consumer(queue: &Queue, id: &str, shared: &Shared) -> Vec<Value> {
    if !queue.has_consumer || shared.faults().pull_disabled {
        return Vec::new();
    }
    let settings = &queue.settings;
    let mut consumer = json!({
        "consumer_id": id,
        "queue_name": queue.name,
        "type": "http_pull",
        "created_on": "2026-01-01T00:00:00.000000Z",
        "settings": {
            "batch_size": settings.batch_size,
            "max_retries": settings.max_retries,
            "visibility_timeout_ms": settings.visibility_timeout_ms,
            "retry_delay": settings.retry_delay_s,
        },
    });
    if let Some(name) = &queue.dead_letter_queue {
        consumer["dead_letter_queue"] = name.as_str().into();
    }
    vec![consumer]
}

/// Returns the index of the queue that the path names.
fn authorise(shared: &Shared, (account, queue): &(String, String), headers: &HeaderMap) -> Result<usize, Refusal> {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if token != Some(&shared.token) {
        return Err(Refusal(StatusCode::FORBIDDEN, 10000, "Authentication error".to_owned()));
    }
    let found = shared.account().with_id(queue).filter(|_| *account == shared.account_id);
    found.ok_or_else(|| {
        let message = "Could not route to the queue, perhaps your object identifier is invalid?".to_owned();
        Refusal(StatusCode::NOT_FOUND, 7003, message)
    })
}

fn pull_enabled(shared: &Shared, at: usize) -> Result<(), Refusal> {
    if shared.faults().pull_disabled || !shared.account().queue(at).0.has_consumer {
        let message = "messages cannot be pulled unless http_pull mode is enabled".to_owned();
        return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, 0, message));
    }
    Ok(())
}

fn store(shared: &Shared, at: usize, messages: &[Sent<'_>], batch_delay_s: Option<u64>) -> Result<(), Refusal> {
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
    let delay_s = |sent: &Sent<'_>| sent.delay_seconds.or(batch_delay_s).unwrap_or(0);
    let messages = messages.iter().zip(bodies).map(|(sent, body)| (sent.content_type, body.into(), delay_s(sent)));
    shared.push_to(at, messages.collect());
    Ok(())
}

fn measure(state: &mut super::State, now_ms: u64) -> Value {
    json!({
        "backlog_count": state.counters(now_ms).backlog,
        "backlog_bytes": state.backlog_bytes(),
        "oldest_message_timestamp_ms": state.oldest_ms(),
    })
}

fn metrics_answer(shared: &Shared, at: usize) -> Response {
    success(json!({ "metadata": { "metrics": shared.on(at, measure) } }))
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| bad_request(&format!("the request could not be read: {error}")))
}

#[derive(Serialize)]
struct Envelope<T> {
    success: bool,
    errors: [u8; 0],
    messages: [u8; 0],
    result: T,
}

impl<T> Envelope<T> {
    fn new(result: T) -> Self {
        Self { success: true, errors: [], messages: [], result }
    }
}

fn success<T: Serialize>(result: T) -> Response {
    Json(Envelope::new(result)).into_response()
}

fn envelope<T: Serialize>(result: T) -> Result<String, Refusal> {
    let failed = |error: serde_json::Error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, 10000, error.to_string());
    serde_json::to_string(&Envelope::new(result)).map_err(failed)
}

fn bad_request(message: &str) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, 10100, message.to_owned())
}

/// The response to a pull that a fault makes fail. Like Cloudflare's, a 429 has a `Retry-After`.
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
