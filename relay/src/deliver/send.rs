//! One attempt: makes the body, sends the request and reads the response.

use std::sync::Arc;
use std::time::{Duration, Instant};

use egress::{Egress, Excerpt, RESPONSE_EXCERPT_BYTES};
use engine::item::{Event, Item};
use engine::outcome::{Failure, Outcome};
use expression::{Evaluator, Transform, Turn};
use http::StatusCode;
use http::header::HeaderValue;
use model::destination::Destination;
use model::settlement::AttemptRow;
use shared::id::AttemptId;
use store::Pool;
use tracing::Instrument as _;

use super::answered::{self, Said, Unanswered};
use super::request::{self, Described};
use super::versions::Versions;
use crate::configuration::{Configuration, Expression, Route, Snapshot};
use crate::mint;
use crate::route::{self, EventView};

/// How long a transform may take, including the time spent waiting for its turn.
pub(crate) const TRANSFORM_WITHIN: Duration = Duration::from_secs(15);

/// How long the body of a response may delay the outcome. Most bodies arrive together with the head. Any other body is
/// read after the outcome, so that it does not use the destination's concurrency.
const WITH_HEAD_WITHIN: Duration = Duration::from_millis(20);

/// What a sender needs in addition to the delivery.
pub struct Sender {
    pub pool: Pool,
    pub egress: Egress,
    pub configuration: Arc<Configuration>,
    pub evaluator: Arc<Evaluator>,
    pub(super) versions: Versions,
}

impl Sender {
    /// Makes one attempt. It never takes much longer than [`TRANSFORM_WITHIN`] plus the destination's timeout, and 25 s
    /// more if its body has to be read first. If its route was changed or deleted after the delivery was routed,
    /// reading the transform takes up to 20 s more, and two transforms may be tried.
    pub async fn attempt(&self, item: &Item, destination: &Destination) -> Attempted {
        let span = tracing::debug_span!("deliver", delivery = %item.id, destination = %destination.id);
        self.attempt_in_span(item, destination).instrument(span).await
    }

    async fn attempt_in_span(&self, item: &Item, destination: &Destination) -> Attempted {
        let body = match &item.event.body {
            Some(body) => body.clone(),
            // Boxed, because most bodies are in memory, and otherwise the future of every attempt would be as large as
            // this one.
            None => match Box::pin(store::pending::body(&self.pool, item.event.meta.id)).await {
                Ok(Some(body)) => body,
                Ok(None) => return Outcome::BodyGone.into(),
                Err(error) => return Outcome::NotSent { reason: error.to_string() }.into(),
            },
        };
        let (body, described) = match self.content(item, body).await {
            Ok(made) => made,
            Err(outcome) => return outcome.into(),
        };
        self.send(item, destination, described, body).await
    }

    /// The content to send: the output of the transform with which the delivery was routed, or the event's own body.
    async fn content(&self, item: &Item, body: Vec<u8>) -> Result<(Vec<u8>, Described), Outcome> {
        let Some(id) = item.route_id else { return Ok((body, Described::ByProvider)) };
        let snapshot = self.configuration.current();
        let current = snapshot.routes.get(&id);
        if let Some(route) = current.filter(|route| route.version == item.route_version) {
            return self.by_current(route, &snapshot, &item.event, body).await;
        }
        let version = match self.versions.get(id, item.route_version).await {
            Ok(Some(version)) => version,
            Ok(None) => return Err(Outcome::RouteGone),
            Err(error) => return Err(Outcome::NotSent { reason: error.to_string() }),
        };
        let Some(transform) = &version.transform else { return Ok((body, Described::ByProvider)) };
        // A snapshot may be older than the delivery. If the current route has no transform any more, it must not send a
        // body that had one.
        let newer = current.filter(|route| route.version > item.route_version && route.transform.is_some());
        match (self.transformed(transform, &version.source_name, &item.event, &body).await, newer) {
            // The delivery would be held until its route is changed, and that has happened already.
            (Err(Outcome::TransformFailed { .. }), Some(route)) => {
                self.by_current(route, &snapshot, &item.event, body).await
            }
            (content, _) => content,
        }
    }

    async fn by_current(
        &self,
        route: &Route,
        snapshot: &Snapshot,
        event: &Event,
        body: Vec<u8>,
    ) -> Result<(Vec<u8>, Described), Outcome> {
        let Some(transform) = &route.transform else { return Ok((body, Described::ByProvider)) };
        let source_name = snapshot.source_name(event.meta.source_id);
        self.transformed(transform, source_name, event, &body).await
    }

    async fn transformed(
        &self,
        transform: &Expression<Transform>,
        source_name: &str,
        event: &Event,
        body: &[u8],
    ) -> Result<(Vec<u8>, Described), Outcome> {
        let view = EventView::of(&event.meta, source_name, body);
        let transform = match &transform.compiled {
            Ok(transform) => transform.clone(),
            Err(error) => return Err(Outcome::TransformFailed { reason: error.to_string() }),
        };
        let turn = Turn::within(event.meta.source_id, TRANSFORM_WITHIN);
        match self.evaluator.apply(turn, transform, Arc::new(route::input(&view))).await {
            Ok(made) => Ok((made.body, Described::Anew(HeaderValue::from_str(made.content_type).ok()))),
            Err(error) if error.is_ours() => Err(Outcome::TransformLate { reason: error.to_string() }),
            Err(error) => Err(Outcome::TransformFailed { reason: error.to_string() }),
        }
    }

    async fn send(&self, item: &Item, destination: &Destination, described: Described, body: Vec<u8>) -> Attempted {
        let url = match request::url(destination, &item.event.meta.query) {
            Ok(url) => url,
            Err(error) => return Outcome::Unsendable { reason: error.to_string() }.into(),
        };
        let headers = |body: &[u8]| request::headers(item, destination, &described, body);
        let (started, started_at) = (Instant::now(), time::OffsetDateTime::now_utc());
        let answer = answered::answer(item.id, self.egress.post(&url, headers, body, destination.timeout)).await;
        // Measured to the head: the time that a body takes says nothing about how long the destination needed.
        let latency_ms = i32::try_from(started.elapsed().as_millis()).unwrap_or(i32::MAX);
        let attempt = |status: Option<StatusCode>, failure: Option<&Failure>, excerpt: Option<String>| AttemptRow {
            id: AttemptId::from_uuid(mint::uuid()),
            started_at,
            latency_ms,
            status: status.and_then(|status| i16::try_from(status.as_u16()).ok()),
            error: failure.map(Failure::code),
            detail: failure.map(Failure::describe),
            response_excerpt: excerpt,
            location: failure.and_then(Failure::location).map(str::to_owned),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(Unanswered::NotSent(reason)) => return Outcome::NotSent { reason }.into(),
            Err(Unanswered::Unsendable(reason)) => return Outcome::Unsendable { reason }.into(),
            Err(Unanswered::Failed(failure)) => {
                let attempt = attempt(None, Some(&failure), None);
                return Outcome::Failed { attempt, failure, retry_after_ms: None }.into();
            }
        };
        let status = answer.status;
        let Said { retry_after_ms, location } =
            answered::part(item.id, async { Said::of(status, &answer.headers, &url) }).await;
        let (text, rest) = answered::part(item.id, with_head(answer.excerpt(RESPONSE_EXCERPT_BYTES))).await;
        let Some(failure) = Failure::of(status, location) else {
            return Attempted { outcome: Outcome::Succeeded { attempt: attempt(Some(status), None, text) }, rest };
        };
        let attempt = attempt(Some(status), Some(&failure), text);
        Attempted { outcome: Outcome::Failed { attempt, failure, retry_after_ms }, rest }
    }
}

/// The part of the body that arrived together with the head as text, or the body itself if more of it is to be kept.
async fn with_head(mut excerpt: Excerpt) -> (Option<String>, Option<Excerpt>) {
    if excerpt.read_for(WITH_HEAD_WITHIN).await { (excerpt_text(excerpt), None) } else { (None, Some(excerpt)) }
}

/// The result of an attempt.
pub struct Attempted {
    pub outcome: Outcome,
    /// The response's body, if the excerpt did not arrive completely with the head. The outcome does not wait for it,
    /// and its attempt has no excerpt yet.
    pub rest: Option<Excerpt>,
}

impl From<Outcome> for Attempted {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, rest: None }
    }
}

/// The part of a response's body that has arrived, as text.
pub(super) fn excerpt_text(excerpt: Excerpt) -> Option<String> {
    let (excerpt, cut) = excerpt.into_parts();
    if excerpt.is_empty() {
        return None;
    }
    // PostgreSQL's type `text` can store every character but this one.
    let mut text = String::from_utf8_lossy(&excerpt).replace('\0', "\u{fffd}");
    if cut {
        text.push('…');
    }
    Some(text)
}
