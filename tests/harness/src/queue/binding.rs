//! The protocol between a queue binding of a bare `workerd` and the service that it is bound to (workerd,
//! `src/workerd/api/queue.c++`): `POST /message`, `POST /batch`, `GET /metrics`.
//!
//! workerd itself enforces no size, so this module enforces the limits of production. An error is reported in two
//! headers, from which workerd builds the exception that the Worker's `send()` throws.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ContentType, FIRST, MAX_BATCH_BYTES, MAX_MESSAGE_BYTES, Shared};

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/message", post(message)).route("/batch", post(batch)).route("/metrics", get(metrics))
}

/// Cloudflare's codes for a refused send.
const OVERLOADED: (u16, &str) = (10250, "Queue is overloaded. Please back off.");
const MESSAGE_TOO_LARGE: (u16, &str) = (10204, "Message is too large: the limit is 128000 bytes.");
const BATCH_TOO_LARGE: (u16, &str) = (10205, "Batch is too large: the limit is 256000 bytes.");
const MALFORMED: (u16, &str) = (10207, "The message could not be read.");

#[derive(Deserialize)]
struct Batch {
    messages: Vec<BatchMessage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BatchMessage {
    body: String,
    #[serde(default)]
    content_type: ContentType,
    delay_secs: Option<u64>,
}

async fn message(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    if shared.faults().overloaded.strike() {
        return refusal(StatusCode::TOO_MANY_REQUESTS, OVERLOADED);
    }
    if body.len() > MAX_MESSAGE_BYTES {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, MESSAGE_TOO_LARGE);
    }
    let format = headers.get("x-msg-fmt").and_then(|value| value.to_str().ok());
    let Some(content_type) = format.map_or(Some(ContentType::default()), ContentType::parse) else {
        return refusal(StatusCode::BAD_REQUEST, MALFORMED);
    };
    shared.push(vec![(content_type, body, delay(&headers).unwrap_or(0))]);
    accepted(&shared)
}

async fn batch(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    if shared.faults().overloaded.strike() {
        return refusal(StatusCode::TOO_MANY_REQUESTS, OVERLOADED);
    }
    let Ok(batch) = serde_json::from_slice::<Batch>(&body) else {
        return refusal(StatusCode::BAD_REQUEST, MALFORMED);
    };
    let mut messages = Vec::with_capacity(batch.messages.len());
    for sent in batch.messages {
        let Ok(body) = BASE64.decode(&sent.body) else {
            return refusal(StatusCode::BAD_REQUEST, MALFORMED);
        };
        if body.len() > MAX_MESSAGE_BYTES {
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, MESSAGE_TOO_LARGE);
        }
        let delay_s = sent.delay_secs.or_else(|| delay(&headers)).unwrap_or(0);
        messages.push((sent.content_type, Bytes::from(body), delay_s));
    }
    if messages.iter().map(|(_, body, _)| body.len()).sum::<usize>() > MAX_BATCH_BYTES {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, BATCH_TOO_LARGE);
    }
    shared.push(messages);
    accepted(&shared)
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(measure(&shared))
}

fn delay(headers: &HeaderMap) -> Option<u64> {
    headers.get("x-msg-delay-secs")?.to_str().ok()?.parse().ok()
}

fn accepted(shared: &Shared) -> Response {
    Json(json!({ "metadata": { "metrics": measure(shared) } })).into_response()
}

fn measure(shared: &Shared) -> Value {
    shared.on(FIRST, |state, now_ms| {
        json!({
            "backlogCount": state.counters(now_ms).backlog,
            "backlogBytes": state.backlog_bytes(),
            "oldestMessageTimestamp": state.oldest_ms(),
        })
    })
}

fn refusal(status: StatusCode, (code, cause): (u16, &'static str)) -> Response {
    let headers = [("CF-Queues-Error-Code", code.to_string()), ("CF-Queues-Error-Cause", cause.to_owned())];
    (status, headers).into_response()
}
