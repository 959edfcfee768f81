//! One attempt: builds the request, signs exactly the bytes that are sent, sends it and reads the answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use tracing::Instrument as _;

use super::item::{Event, Item};
use super::outcome::{Failure, Outcome};
use crate::configuration::{Configuration, Destination, Expression, Snapshot};
use crate::egress::{Egress, EgressError, Excerpt, OF_THE_CONNECTION, RESPONSE_EXCERPT_BYTES, SendFailure};
use crate::expression::{Evaluator, Transform, Turn};
use crate::route::{self, EventView};
use crate::store::Pool;
use crate::store::settle::AttemptRow;
use crate::{mint, retry, store};

/// Headers of the provider's request that are not passed on besides [`OF_THE_CONNECTION`]: what says who asked for what,
/// what is a credential, and what the edge's platform added.
const NOT_PASSED_ON: [&str; 11] = [
    "accept",
    "authorization",
    "cdn-loop",
    "cookie",
    "forwarded",
    "user-agent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// How long a transform may take, the time in which it waits for its turn included.
const TRANSFORM_WITHIN: Duration = Duration::from_secs(15);

/// How long the body of an answer is waited for before its outcome counts. The body of most answers arrives together with
/// the head; another is read afterwards, so that it does not use the destination's concurrency.
const WITH_HEAD_WITHIN: Duration = Duration::from_millis(20);

/// What a sender needs besides the delivery.
pub struct Sender {
    pub pool: Pool,
    pub egress: Egress,
    pub configuration: Arc<Configuration>,
    pub evaluator: Arc<Evaluator>,
}

impl Sender {
    /// Makes one attempt. It never takes much longer than [`TRANSFORM_WITHIN`] and the destination's timeout together, and
    /// 25 s more if its body has to be read first.
    pub async fn attempt(&self, item: &Item, destination: &Destination) -> Attempted {
        let span = tracing::debug_span!("deliver", delivery = %item.id, destination = %destination.id);
        self.attempt_in_span(item, destination).instrument(span).await
    }

    async fn attempt_in_span(&self, item: &Item, destination: &Destination) -> Attempted {
        let body = match &item.event.body {
            Some(body) => body.clone(),
            None => match store::pending::body(&self.pool, item.event.id.uuid()).await {
                Ok(Some(body)) => body,
                Ok(None) => return Outcome::BodyGone.into(),
                Err(error) => return Outcome::NotSent { reason: error.to_string() }.into(),
            },
        };
        let snapshot = self.configuration.current();
        let route = item.route_id.and_then(|id| snapshot.routes.get(&id));
        let content = match route.and_then(|route| route.transform.as_ref()) {
            None => Content { content_type: content_type(&item.event), body },
            Some(transform) => match self.transformed(transform, &snapshot, &item.event, &body).await {
                Ok(content) => content,
                Err(outcome) => return outcome.into(),
            },
        };
        let headers = headers(&item.event, item, destination, content.content_type, &content.body);
        self.send(destination, headers, content.body).await
    }

    async fn transformed(
        &self,
        transform: &Expression<Transform>,
        snapshot: &Snapshot,
        event: &Event,
        body: &[u8],
    ) -> Result<Content, Outcome> {
        let view = EventView {
            id: event.id,
            source_id: event.source_id,
            source_name: snapshot.sources.get(&event.source_id).map_or("", |source| source.name.as_str()),
            event_type: event.event_type.as_deref(),
            provider_event_id: event.provider_event_id.as_deref(),
            received_at_ms: event.received_at_ms,
            method: &event.method,
            query: &event.query,
            headers: &event.headers,
            body,
        };
        let transform = match &transform.compiled {
            Ok(transform) => transform.clone(),
            Err(error) => return Err(Outcome::Untransformable { reason: error.to_string() }),
        };
        let turn = Turn::within(event.source_id, TRANSFORM_WITHIN);
        match self.evaluator.apply(turn, transform, Arc::new(route::input(&view))).await {
            Ok(transformed) => Ok(Content {
                content_type: HeaderValue::from_str(transformed.content_type).ok(),
                body: transformed.body,
            }),
            Err(error) if error.is_ours() => Err(Outcome::TransformLate { reason: error.to_string() }),
            Err(error) => Err(Outcome::Untransformable { reason: error.to_string() }),
        }
    }

    async fn send(&self, destination: &Destination, headers: HeaderMap, body: Vec<u8>) -> Attempted {
        let (started, started_at) = (Instant::now(), time::OffsetDateTime::now_utc());
        let answer = self.egress.post(&destination.url, headers, body, destination.timeout).await;
        // Of the head: what a body takes says nothing about how long the destination needed.
        let latency_ms = i32::try_from(started.elapsed().as_millis()).unwrap_or(i32::MAX);
        let attempt = |status: Option<StatusCode>, failure: Option<&Failure>, excerpt: Option<String>| AttemptRow {
            id: mint::uuid(),
            started_at,
            latency_ms,
            status: status.and_then(|status| i16::try_from(status.as_u16()).ok()),
            error: failure.map(Failure::code),
            detail: failure.map(Failure::describe),
            response_excerpt: excerpt,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(SendFailure::Ours(reason)) => return Outcome::NotSent { reason }.into(),
            Err(SendFailure::Blocked(error @ EgressError::Unsendable)) => {
                return Outcome::Unsendable { reason: error.to_string() }.into();
            }
            Err(failure) => {
                let failure = Failure::NoAnswer(failure);
                let attempt = attempt(None, Some(&failure), None);
                return Outcome::Failed { attempt, failure, retry_after_ms: None }.into();
            }
        };
        let status = answer.status;
        let retry_after = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        // A date in it is one of the destination's clock, which its answer tells.
        let date = answer.headers.get(DATE).and_then(|value| value.to_str().ok()).and_then(retry::parse_date);
        let retry_after_ms =
            retry_after.and_then(|value| retry::parse_retry_after(value, date.unwrap_or_else(mint::now_ms)));
        let mut excerpt = answer.excerpt(RESPONSE_EXCERPT_BYTES);
        let (text, rest) = if excerpt.read_for(WITH_HEAD_WITHIN).await {
            (excerpt_text(excerpt), None)
        } else {
            (None, Some(excerpt))
        };
        if status.is_success() {
            return Attempted { outcome: Outcome::Succeeded { attempt: attempt(Some(status), None, text) }, rest };
        }
        let failure = if status == StatusCode::GONE { Failure::Gone } else { Failure::Status(status.as_u16()) };
        let attempt = attempt(Some(status), Some(&failure), text);
        Attempted { outcome: Outcome::Failed { attempt, failure, retry_after_ms }, rest }
    }
}

/// What an attempt came to.
pub struct Attempted {
    pub outcome: Outcome,
    /// The answer's body, if not all that is kept of it arrived with the head: the outcome does not wait for it, and its
    /// attempt has no excerpt yet.
    pub rest: Option<Excerpt>,
}

impl From<Outcome> for Attempted {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, rest: None }
    }
}

struct Content {
    content_type: Option<HeaderValue>,
    body: Vec<u8>,
}

fn content_type(event: &Event) -> Option<HeaderValue> {
    event.headers.get("content-type").and_then(|value| HeaderValue::from_str(value).ok())
}

/// The headers of a delivery: the provider's own, so that a receiver can verify them again, then the destination's, then
/// ours. A provider that speaks Standard Webhooks itself has its headers passed on as `tidegate-original-webhook-…`.
fn headers(
    event: &Event,
    item: &Item,
    destination: &Destination,
    content_type: Option<HeaderValue>,
    body: &[u8],
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in event.headers.iter() {
        let platform = name.starts_with("cf-") || name.starts_with("sec-") || name.starts_with("proxy-");
        if platform || OF_THE_CONNECTION.contains(&name) || NOT_PASSED_ON.contains(&name) {
            continue;
        }
        let name = if name.starts_with("webhook-") {
            HeaderName::from_bytes(format!("tidegate-original-{name}").as_bytes())
        } else {
            HeaderName::from_bytes(name.as_bytes())
        };
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    headers.remove(CONTENT_TYPE);
    for (name, value) in &destination.headers {
        headers.insert(name, value.clone());
    }
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, content_type);
    }
    let id = event.id.to_string();
    let now_ms = mint::now_ms();
    let timestamp_s = now_ms / 1000;
    let signature = shared::sign::sign(destination.signing_keys.signing(now_ms), &id, timestamp_s, body);
    for (name, value) in [
        ("webhook-id", id),
        ("webhook-timestamp", timestamp_s.to_string()),
        ("webhook-signature", signature),
        ("tidegate-delivery-id", item.id.to_string()),
        ("tidegate-attempt", (u32::from(item.attempts) + 1).to_string()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    headers
}

/// What has arrived of an answer's body, as text.
pub(super) fn excerpt_text(excerpt: Excerpt) -> Option<String> {
    let (excerpt, cut) = excerpt.into_parts();
    if excerpt.is_empty() {
        return None;
    }
    // PostgreSQL's text holds every character but this one.
    let mut text = String::from_utf8_lossy(&excerpt).replace('\0', "\u{fffd}");
    if cut {
        text.push('…');
    }
    Some(text)
}
