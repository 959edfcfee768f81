//! Awaiting jobs: calls that wait until an event of a job is stored.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Duration;

use axum::body::{Body as Answered, Bytes};
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use shared::id::EventId;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::input::{Body, Params, Segments};
use super::problem::ApiError;
use super::server::Place;
use crate::control::await_tokens::Grant;
use crate::control::awaits::{self, AwaitedJob, AwaitedJobs, Held, JobReference, NewAwait, Patience, Wait, Woken};
use crate::control::{Actor, Control, Error, schema};

/// How often a stream sends a comment while nothing happens, so that no proxy takes it for dead.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);

/// The header in which a browser sends the id of the last event of a stream.
const LAST_EVENT_ID: &str = "last-event-id";

/// Query parameters of `GET /v1/await/{source}/{key}`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AwaitQuery {
    /// Which event of the job ends the wait: `terminal`, `any`, or an expression.
    #[param(value_type = Option<schema::AwaitUntil>)]
    until: Option<String>,
    /// The longest time to wait, in seconds. With 0 the call only looks.
    #[param(minimum = 0, maximum = 55, default = 55)]
    timeout_s: Option<i64>,
}

/// Who awaits: an actor, or the holder of an await token.
pub(super) enum Caller {
    Actor(Box<Actor>),
    Grant(Grant),
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match parts.extensions.get::<Grant>() {
            Some(grant) => Ok(Self::Grant(grant.clone())),
            None => Actor::from_request_parts(parts, state).await.map(|actor| Self::Actor(Box::new(actor))),
        }
    }
}

/// Waits for an event of a job, and returns it.
///
/// The call looks into the database first, at the last seven days, and then waits: it does not matter whether the event
/// or the call comes first. If several events end the wait, the newest is returned. If none has come when the time has
/// passed, or when the relay stops, the response is 204 and the call can be repeated at once. Events in quarantine are
/// not returned until they are released. If what the caller authenticates with ends during the wait, the response is 401
/// within a few seconds.
///
/// `body` needs the scope `bodies`. With `Accept: text/event-stream` the response is a stream of server-sent events,
/// each with the same JSON object: `progress` for the newest event of a job that goes on, and `end` for the event that
/// ends the wait. The stream ends after it, or when the time has passed; a browser then connects again by itself. A
/// repetition that has seen the event that ended the wait (`Last-Event-ID`) gets 204, so that a browser stops.
///
/// The call can be made with an await token, which a web page may have. It then shows no `event`, and of `body` only the
/// fields that the source exposes, and `until` takes no expression.
#[utoipa::path(get, path = "/v1/await/{source}/{key}", tag = "await", security(("token" = ["read"])),
    params(("source" = schema::SourceReference, Path), ("key" = schema::JobKey, Path), AwaitQuery),
    responses(
        (status = 200, description = "The event that ended the wait, or a stream of events.",
            content((AwaitedJob = "application/json"), (String = "text/event-stream"))),
        (status = 204, description = "No event has ended the wait yet. Call again.",
            headers(("retry-after" = String, description = "Always 0."))),
    ))]
pub(super) async fn one(
    State(control): State<Control>,
    caller: Caller,
    Segments(segments): Segments<2>,
    Params(query): Params<AwaitQuery>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Response, ApiError> {
    let (AwaitQuery { until, timeout_s }, [source, key]) = (query, segments);
    let (job, patience) = (JobReference { source, key }, Patience { until, timeout_s });
    let wait = match caller {
        Caller::Actor(actor) => awaits::one(&control, &actor, job, patience).await?,
        Caller::Grant(grant) => awaits::granted(&control, grant, job, patience).await?,
    };
    if accepts_stream(&headers) {
        let seen = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse().ok());
        return progress(control, wait, seen, extensions.get()).await;
    }
    wait_for(&control, wait, extensions.get()).await
}

/// Waits for events of several jobs.
///
/// With `any_of` the call waits for the first of the jobs that has an event, and says which one `won`. With `all_of` it
/// waits until every job has one, and returns all of them. Otherwise it is like `GET /v1/await/{source}/{key}`.
#[utoipa::path(post, path = "/v1/await", tag = "await", security(("token" = ["read"])), request_body = NewAwait,
    responses(
        (status = 200, body = AwaitedJobs, description = "The events that ended the wait."),
        (status = 204, description = "The wait has not ended yet. Call again.",
            headers(("retry-after" = String, description = "Always 0."))),
    ))]
pub(super) async fn many(
    State(control): State<Control>,
    actor: Actor,
    extensions: Extensions,
    Body(new): Body<NewAwait>,
) -> Result<Response, ApiError> {
    let wait = awaits::many(&control, &actor, new).await?;
    wait_for(&control, wait, extensions.get()).await
}

/// Waits, while the connection leaves its place among the connections of the API to others.
async fn wait_for(control: &Control, mut wait: Wait, place: Option<&Place>) -> Result<Response, ApiError> {
    if Box::pin(wait.look(control)).await? {
        return found(control, &wait).await;
    }
    if wait.ends_at() <= Instant::now() {
        return Ok(not_yet());
    }
    lend(place)?;
    let ended = wait.until_found(control).await;
    let mut response = match ended {
        Ok(true) => found(control, &wait).await.unwrap_or_else(ApiError::into_response),
        Ok(false) => not_yet(),
        Err(Error::Unauthenticated) if wait.is_of_session() => ApiError::SessionEnded.into_response(),
        Err(error) => ApiError::from(error).into_response(),
    };
    if place.is_some_and(|place| !place.take_back()) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

fn lend(place: Option<&Place>) -> Result<(), ApiError> {
    match place {
        Some(place) => place.lend().map_err(|_| Error::NoRoomToWait.into()),
        // Only in tests a request comes without a connection.
        None => Ok(()),
    }
}

async fn found(control: &Control, wait: &Wait) -> Result<Response, ApiError> {
    let held = Box::pin(wait.answer(control)).await?;
    let mut response = Answered::from(Bytes::from_owner(written(held)?)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn not_yet() -> Response {
    (StatusCode::NO_CONTENT, [(RETRY_AFTER, HeaderValue::from_static("0"))]).into_response()
}

/// The text of an answer, whose bytes of bodies stay reserved until it has been sent.
struct Written {
    text: Vec<u8>,
    _reserved: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Written {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

fn written(Held { answer, reserved }: Held) -> Result<Written, ApiError> {
    let text = serde_json::to_vec(&answer).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(Written { text, _reserved: reserved })
}

/// Whether the caller wants a stream of events.
fn accepts_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|list| list.split(','))
        .any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream")))
}

/// A stream of the events of one job.
struct Progress {
    control: Control,
    wait: Wait,
    /// The last event that was sent.
    seen: Option<EventId>,
    stage: Stage,
}

/// Where a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It looks for what it has not sent.
    Looks,
    /// It has sent everything, and waits.
    Waits,
    Ended,
}

/// The response with a stream. Its connection is closed afterwards: its place belongs to others.
async fn progress(
    control: Control,
    mut wait: Wait,
    seen: Option<EventId>,
    place: Option<&Place>,
) -> Result<Response, ApiError> {
    if Box::pin(wait.look(&control)).await? && wait.found() == seen {
        return Ok(not_yet());
    }
    lend(place)?;
    let begin = stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b"retry: 1000\n\n")) });
    let progress = Progress { control, wait, seen, stage: Stage::Looks };
    let events = stream::unfold(progress, |mut progress| async move {
        let text = Box::pin(progress.next()).await?;
        Some((Ok(Bytes::from(text)), progress))
    });
    let mut response = Answered::from_stream(stream::StreamExt::chain(begin, events)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    // A proxy that collects the response would hold the events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

impl Progress {
    /// The next text of the stream; `None` at its end.
    async fn next(&mut self) -> Option<String> {
        loop {
            match self.stage {
                Stage::Ended => return None,
                Stage::Looks => match self.look().await {
                    Ok(Some(text)) => return Some(text),
                    Ok(None) => self.stage = Stage::Waits,
                    // The client connects again, and gets the error as a response.
                    Err(_) => return None,
                },
                Stage::Waits => {
                    let heartbeat = self.wait.ends_at().min(Instant::now() + HEARTBEAT);
                    match self.wait.woken(heartbeat).await {
                        Woken::ByEvent => self.stage = Stage::Looks,
                        Woken::InVain if heartbeat < self.wait.ends_at() => return Some(":\n\n".to_owned()),
                        // After a refusal, the client connects again and gets the reason as a response.
                        Woken::InVain | Woken::ByShutdown | Woken::ByRefusal => return None,
                    }
                }
            }
        }
    }

    async fn look(&mut self) -> Result<Option<String>, ApiError> {
        if self.wait.look(&self.control).await?
            && let Some(event) = self.wait.found()
        {
            self.stage = Stage::Ended;
            return self.text("end", event).await;
        }
        match self.wait.progress(&self.control).await? {
            // What was sent is not repeated, and nothing older follows it.
            Some(event) if self.seen.is_none_or(|seen| event > seen) => {
                self.seen = Some(event);
                self.stage = Stage::Waits;
                self.text("progress", event).await
            }
            Some(_) | None => Ok(None),
        }
    }

    async fn text(&self, kind: &str, event: EventId) -> Result<Option<String>, ApiError> {
        let Some(held) = self.wait.show(&self.control, event).await? else { return Ok(None) };
        let answer = serde_json::to_string(&held.answer).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(Some(server_sent(kind, &event.to_string(), &answer)))
    }
}

/// One server-sent event. A line break in the data, which only a body has, begins a further line of data.
fn server_sent(kind: &str, id: &str, data: &str) -> String {
    let mut text = format!("event: {kind}\nid: {id}\n");
    for line in data.split(['\r', '\n']) {
        let _ = writeln!(text, "data: {line}");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_sent_to_who_accepts_one() {
        let accepts =
            |value: &'static str| accepts_stream(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))]));
        assert!(accepts("text/event-stream") && accepts("application/json, Text/Event-Stream;q=0.9"));
        assert!(!accepts("*/*") && !accepts("application/json") && !accept_is_absent());
        fn accept_is_absent() -> bool {
            accepts_stream(&HeaderMap::new())
        }
    }

    #[test]
    fn the_lines_of_a_body_are_lines_of_data() {
        assert_eq!(server_sent("end", "evt_1", "{\"a\":\n1}"), "event: end\nid: evt_1\ndata: {\"a\":\ndata: 1}\n\n");
    }
}
