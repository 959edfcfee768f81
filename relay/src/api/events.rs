//! Events: what was received, byte for byte, and what became of it.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::attachment;
use super::input::{Params, Segment};
use super::problem::{ApiError, Refusals};
use crate::control::events::{self, Content, Event, EventDetail, EventFilter, Verification};
use crate::control::page::{Page, PageRequest};
use crate::control::{Actor, Control};

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// Id or name.
    source: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// The id that the provider gave it.
    key: Option<String>,
    verification: Option<Verification>,
    /// Received at or after this time, RFC 3339.
    after: Option<String>,
    /// Received before this time, RFC 3339.
    before: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A page of events, newest first.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(EventQuery),
    responses((status = 200, body = Page<Event>), Refusals))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<EventQuery>,
) -> Result<Json<Page<Event>>, ApiError> {
    let EventQuery { source, event_type, key, verification, after, before, limit, cursor } = query;
    let filter = EventFilter { source, event_type, key, verification, after, before };
    Ok(Json(events::list(&control, actor, filter, &PageRequest { limit, cursor }).await?))
}

/// One event: its headers, its deliveries, what was decided when it was stored (`decision`), and what every route would decide
/// now (`routes`). The id that a copy was answered with gives the event that it is a copy of.
#[utoipa::path(get, path = "/v1/events/{id}", tag = "events", params(("id" = String, Path)),
    responses((status = 200, body = EventDetail), Refusals))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<EventDetail>, ApiError> {
    Ok(Json(events::explain(&control, actor, &id).await?))
}

/// The body of an event, byte for byte. It is a stranger's text: always an attachment, never shown by a browser.
#[utoipa::path(get, path = "/v1/events/{id}/body", tag = "events", params(("id" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream", description = "with the original content type"), Refusals))]
pub(super) async fn body(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let Content { id, content_type, body } = events::body(&control, actor, &id).await?;
    Ok(attachment(&id.to_string(), content_type.as_deref(), body))
}

/// The body of the first copy whose body is another one, byte for byte, as an attachment.
#[utoipa::path(get, path = "/v1/events/{id}/changed-copy/body", tag = "events", params(("id" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream", description = "with the content type of the event"), Refusals))]
pub(super) async fn changed_copy_body(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let Content { id, content_type, body } = events::changed_copy_body(&control, actor, &id).await?;
    Ok(attachment(&id.to_string(), content_type.as_deref(), body))
}

/// Releases an event from quarantine: it is routed as if it had just arrived. One that has been released before stays as
/// it is. `POST /v1/replays` with `"verification": "failed"` in its filter releases many.
#[utoipa::path(post, path = "/v1/events/{id}/release", tag = "events", params(("id" = String, Path)),
    responses((status = 200, body = EventDetail), Refusals))]
pub(super) async fn release(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<EventDetail>, ApiError> {
    Ok(Json(events::release(&control, actor, &id).await?))
}
