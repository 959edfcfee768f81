//! Events: the requests as they were received, byte for byte, and the decisions about them.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use model::event::Verification;
use serde::Deserialize;
use utoipa::IntoParams;

use super::attachment;
use super::input::{Body, Params, Segment};
use super::problem::{ApiError, Conflicts, PastRetention};
use crate::control::events::search::{self, EventSearch};
use crate::control::events::{
    self, Content, Event, EventDelivered, EventDeliveries, EventDelivery, EventDetail, EventFilter,
};
use crate::control::page::{Page, PageRequest};
use crate::control::time::Timestamp;
use crate::control::{Actor, Control, schema};

/// Query parameters of `GET /v1/events`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// Only events of the source with this id or name.
    #[param(value_type = Option<schema::SourceReference>)]
    source: Option<String>,
    /// Only events of this type.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Only events with this key: the provider's id of the event, or the value of `key` in the `config` of the source.
    key: Option<String>,
    /// Only events that are about the job with this key.
    job_key: Option<String>,
    /// Only events with this verification result.
    verification: Option<Verification>,
    /// Only events with such deliveries.
    deliveries: Option<EventDeliveries>,
    /// Only events received at or after this time (RFC 3339).
    #[param(value_type = Option<Timestamp>)]
    after: Option<String>,
    /// Only events received before this time (RFC 3339).
    #[param(value_type = Option<Timestamp>)]
    before: Option<String>,
    /// The maximum number of items on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<schema::PageCursor>)]
    cursor: Option<String>,
}

/// Lists events, newest first.
#[utoipa::path(get, path = "/v1/events", tag = "events", security(("token" = ["read"])), params(EventQuery),
    responses((status = 200, body = Page<Event>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<EventQuery>,
) -> Result<Json<Page<Event>>, ApiError> {
    let EventQuery { source, event_type, key, job_key, verification, deliveries, after, before, limit, cursor } = query;
    let filter = EventFilter { source, event_type, key, job_key, verification, deliveries, after, before };
    Ok(Json(events::list(&control, &actor, filter, &PageRequest { limit, cursor }).await?))
}

/// Query parameters of `GET /v1/events/search`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventSearchQuery {
    /// The text, compared byte by byte with the bodies as they were received. It is also found where JSON writes it with
    /// escapes. 3 to 200 bytes in UTF-8.
    #[param(value_type = String, required = true, min_length = 3, max_length = 200)]
    contains: Option<String>,
    /// Only events of the source with this id or name.
    #[param(value_type = Option<schema::SourceReference>)]
    source: Option<String>,
    /// Only events of this type.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Only events with this verification result.
    verification: Option<Verification>,
    /// Only events received at or after this time (RFC 3339).
    #[param(value_type = Option<Timestamp>)]
    after: Option<String>,
    /// Only events received before this time (RFC 3339).
    #[param(value_type = Option<Timestamp>)]
    before: Option<String>,
    /// The maximum number of items on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<schema::PageCursor>)]
    cursor: Option<String>,
}

/// Searches the bodies of events for a text, newest first.
///
/// A call ends when the page is full, or after 256 MiB of bodies, 200,000 events or 5 seconds: `searched_until` says how
/// far back it has come, and `next_cursor` continues. If too many calls search at the same time, the response is 503
/// (`busy`).
#[utoipa::path(get, path = "/v1/events/search", tag = "events", security(("token" = ["bodies"])),
    params(EventSearchQuery), responses((status = 200, body = EventSearch)))]
pub(super) async fn search(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<EventSearchQuery>,
) -> Result<Json<EventSearch>, ApiError> {
    let EventSearchQuery { contains, source, event_type, verification, after, before, limit, cursor } = query;
    let filter = EventFilter { source, event_type, verification, after, before, ..EventFilter::default() };
    let page = PageRequest { limit, cursor };
    Ok(Json(search::search(&control, &actor, contains.as_deref(), filter, &page).await?))
}

/// Returns an event with its deliveries, its decision, and what each route would decide now.
///
/// `decision` is what was decided when the event was stored or released; `routes` is what each route would decide now.
/// If `id` is the id of a copy, the original event is returned.
#[utoipa::path(get, path = "/v1/events/{id}", tag = "events", security(("token" = ["read"])),
    params(("id" = schema::EventId, Path)),
    responses((status = 200, body = EventDetail)))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<EventDetail>, ApiError> {
    Ok(Json(events::explain(&control, &actor, &id).await?))
}

/// Returns the raw body of an event.
///
/// The body is untrusted, so it is always returned as an `application/octet-stream` attachment that browsers do not
/// render. The original content type is in `headers` of the event.
#[utoipa::path(get, path = "/v1/events/{id}/body", tag = "events", security(("token" = ["bodies"])),
    params(("id" = schema::EventId, Path)),
    responses((
        status = 200, content_type = "application/octet-stream", body = Vec<u8>,
        description = "The raw bytes of the body.",
        headers(("content-disposition" = String, description = "`attachment`, with the id of the event as the file name.")),
    ), PastRetention))]
pub(super) async fn body(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let Content { id, body } = events::body(&control, &actor, &id).await?;
    Ok(attachment(&id.to_string(), body))
}

/// Erases the body of an event.
///
/// The body, that of a changed copy and the unreadable message that became the event are deleted from the database at
/// once, which cannot be undone. The event stays, with its headers, deliveries and attempts, and says when its body was
/// erased. It can no longer be delivered or replayed. While a delivery of the event is pending or held, the response is
/// 409. Erasing a body twice has no effect.
#[utoipa::path(delete, path = "/v1/events/{id}/body", tag = "events", security(("token" = ["admin"])),
    params(("id" = schema::EventId, Path)),
    responses((status = 204, description = "The body is erased."), Conflicts))]
pub(super) async fn erase_body(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<StatusCode, ApiError> {
    events::erase_body(&control, &actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns the raw body of the first copy whose body differs from the event's.
#[utoipa::path(get, path = "/v1/events/{id}/changed-copy/body", tag = "events", security(("token" = ["bodies"])),
    params(("id" = schema::EventId, Path)),
    responses((
        status = 200, content_type = "application/octet-stream", body = Vec<u8>,
        description = "The raw bytes of the body.",
        headers(("content-disposition" = String, description = "`attachment`, with the id of the copy as the file name.")),
    )))]
pub(super) async fn changed_copy_body(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let Content { id, body } = events::changed_copy_body(&control, &actor, &id).await?;
    Ok(attachment(&id.to_string(), body))
}

/// Releases an event from quarantine.
///
/// The event is routed as if it had just arrived. Releasing an event twice has no effect. To release many events,
/// create a replay with `"verification": "failed"` in its `filter`.
#[utoipa::path(post, path = "/v1/events/{id}/release", tag = "events", security(("token" = ["replay"])),
    params(("id" = schema::EventId, Path)),
    responses((status = 200, body = EventDetail), Conflicts))]
pub(super) async fn release(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<EventDetail>, ApiError> {
    Ok(Json(events::release(&control, &actor, &id).await?))
}

/// Sends an event to one destination, or an edited copy of it.
///
/// Without `edit` the event itself is sent to `destination`, to which no route has to lead: without a transform and
/// without an order key. With `edit` the result is stored as a new event that is marked as `edited` and names the
/// original. It is sent to `destination`, or without one by the routes of its source, and needs the scope `bodies` too.
/// Every call creates new deliveries.
#[utoipa::path(post, path = "/v1/events/{id}/deliver", tag = "events", security(("token" = ["replay"])),
    params(("id" = schema::EventId, Path)),
    request_body = EventDelivery, responses((status = 201, body = EventDelivered), Conflicts))]
pub(super) async fn deliver(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    Body(request): Body<EventDelivery>,
) -> Result<(StatusCode, Json<EventDelivered>), ApiError> {
    Ok((StatusCode::CREATED, Json(events::deliver(&control, &actor, &id, request).await?)))
}
