//! Events: what was received, byte for byte, and what became of it.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::attachment;
use super::input::{Params, Segment};
use super::problem::{ApiError, Conflicts, PastRetention};
use crate::control::events::{self, Content, Event, EventDetail, EventFilter, Verification};
use crate::control::page::{Page, PageRequest};
use crate::control::time::Timestamp;
use crate::control::{Actor, Control, schema};

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// The id or name of a source.
    #[param(value_type = Option<schema::SourceReference>)]
    source: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// The id that the provider gave the event.
    key: Option<String>,
    verification: Option<Verification>,
    /// Received at or after this time, RFC 3339.
    #[param(value_type = Option<Timestamp>)]
    after: Option<String>,
    /// Received before this time, RFC 3339.
    #[param(value_type = Option<Timestamp>)]
    before: Option<String>,
    /// The most rows of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<schema::PageCursor>)]
    cursor: Option<String>,
}

/// Lists events, newest first.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(EventQuery),
    responses((status = 200, body = Page<Event>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<EventQuery>,
) -> Result<Json<Page<Event>>, ApiError> {
    let EventQuery { source, event_type, key, verification, after, before, limit, cursor } = query;
    let filter = EventFilter { source, event_type, key, verification, after, before };
    Ok(Json(events::list(&control, actor, filter, &PageRequest { limit, cursor }).await?))
}

/// Returns one event with its deliveries and decisions.
///
/// `decision` is what was decided when the event was stored; `routes` is what every route would decide now. The id that a copy
/// was answered with returns the event that it is a copy of.
#[utoipa::path(get, path = "/v1/events/{id}", tag = "events", params(("id" = schema::EventId, Path)),
    responses((status = 200, body = EventDetail)))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<EventDetail>, ApiError> {
    Ok(Json(events::explain(&control, actor, &id).await?))
}

/// Returns the body of an event, byte for byte.
///
/// The body is untrusted: it is always an attachment without a type of its own, so that no browser renders it. `headers` of the
/// event has the original content type.
#[utoipa::path(get, path = "/v1/events/{id}/body", tag = "events", params(("id" = schema::EventId, Path)),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>, headers(("content-disposition" = String, description = "An attachment whose name is the id.")), description = "The bytes."), PastRetention))]
pub(super) async fn body(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let Content { id, body } = events::body(&control, actor, &id).await?;
    Ok(attachment(&id.to_string(), body))
}

/// Returns the body of the first copy of an event whose body differs, byte for byte, as an attachment.
#[utoipa::path(get, path = "/v1/events/{id}/changed-copy/body", tag = "events", params(("id" = schema::EventId, Path)),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>, headers(("content-disposition" = String, description = "An attachment whose name is the id.")), description = "The bytes.")))]
pub(super) async fn changed_copy_body(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let Content { id, body } = events::changed_copy_body(&control, actor, &id).await?;
    Ok(attachment(&id.to_string(), body))
}

/// Releases an event from quarantine.
///
/// The event is routed as if it had just arrived. An event that has already been released stays as it is. To release many
/// events, use `POST /v1/replays` with `"verification": "failed"` in its filter.
#[utoipa::path(post, path = "/v1/events/{id}/release", tag = "events", params(("id" = schema::EventId, Path)),
    responses((status = 200, body = EventDetail), Conflicts))]
pub(super) async fn release(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<EventDetail>, ApiError> {
    Ok(Json(events::release(&control, actor, &id).await?))
}
