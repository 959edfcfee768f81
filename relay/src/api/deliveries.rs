//! Deliveries: each event on its way to each destination, what was tried, and trying again.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::input::{Body, Params, Segment};
use super::problem::{ApiError, Conflicts};
use super::query::PageQuery;
use crate::control::deliveries::release::{self, ReleaseOfHeld, ReleasedOfHeld};
use crate::control::deliveries::{self, Attempt, Delivery, DeliveryFilter, DeliveryState};
use crate::control::page::{Page, PageRequest};
use crate::control::time::Timestamp;
use crate::control::{Actor, Control, schema};

/// Which deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeliveryQuery {
    /// The id of an event.
    #[param(value_type = Option<schema::EventId>)]
    event: Option<String>,
    /// The id or name of a destination.
    #[param(value_type = Option<schema::DestinationReference>)]
    destination: Option<String>,
    state: Option<DeliveryState>,
    /// The error class of the last attempt; only settled deliveries have one.
    error: Option<String>,
    /// Created at or after this time, RFC 3339.
    #[param(value_type = Option<Timestamp>)]
    after: Option<String>,
    /// Created before this time, RFC 3339.
    #[param(value_type = Option<Timestamp>)]
    before: Option<String>,
    /// The most rows of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<schema::PageCursor>)]
    cursor: Option<String>,
}

/// Lists deliveries, newest first.
///
/// `error` can only be combined with a state of settled deliveries.
#[utoipa::path(get, path = "/v1/deliveries", tag = "deliveries", params(DeliveryQuery),
    responses((status = 200, body = Page<Delivery>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<DeliveryQuery>,
) -> Result<Json<Page<Delivery>>, ApiError> {
    let DeliveryQuery { event, destination, state, error, after, before, limit, cursor } = query;
    let filter = DeliveryFilter { event, destination, state, error, after, before };
    Ok(Json(deliveries::list(&control, actor, filter, &PageRequest { limit, cursor }).await?))
}

/// Returns one delivery.
#[utoipa::path(get, path = "/v1/deliveries/{id}", tag = "deliveries", params(("id" = schema::DeliveryId, Path)),
    responses((status = 200, body = Delivery)))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Delivery>, ApiError> {
    Ok(Json(deliveries::show(&control, actor, &id).await?))
}

/// Lists the attempts of a delivery, oldest first.
#[utoipa::path(get, path = "/v1/deliveries/{id}/attempts", tag = "deliveries", params(("id" = schema::DeliveryId, Path), PageQuery),
    responses((status = 200, body = Page<Attempt>)))]
pub(super) async fn attempts(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<Attempt>>, ApiError> {
    Ok(Json(deliveries::attempts(&control, actor, &id, &query.into()).await?))
}

/// Sends a delivery now.
///
/// Whichever replica sends for its destination does so. A settled delivery becomes pending again, with the same id and a fresh
/// retry schedule, without the wait before its first attempt. A delivery that is held by itself is released. It is sent with
/// the current transform of its route, or with the last one if the route has been deleted. A delivery that no filter has
/// approved is decided first: it is then `cancelled` with the reason if it is not to be sent, and `held` if that is still
/// unknown.
///
/// The delivery goes before all others of its destination, and is sent even while the destination has asked for a pause or its
/// breaker is open: success ends both, and failure changes neither. It is not sent while the destination is paused or disabled,
/// beyond its rate and its concurrency, or before an earlier delivery with the same order key: then `waits_for` says why, and it
/// is sent first as soon as that ends. A second call before the delivery is sent changes nothing and returns the same.
#[utoipa::path(post, path = "/v1/deliveries/{id}/retry", tag = "deliveries", params(("id" = schema::DeliveryId, Path)),
    responses((status = 200, body = Delivery), Conflicts))]
pub(super) async fn retry(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Delivery>, ApiError> {
    Ok(Json(deliveries::retry(&control, actor, &id).await?))
}

/// Cancels a pending or held delivery.
///
/// The replica that sends for its destination is notified, usually within two seconds, and does not send the delivery any more.
/// An attempt in flight is not aborted, and does not change the delivery. A cancelled delivery stays as it is.
#[utoipa::path(post, path = "/v1/deliveries/{id}/cancel", tag = "deliveries", params(("id" = schema::DeliveryId, Path)),
    responses((status = 200, body = Delivery), Conflicts))]
pub(super) async fn cancel(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Delivery>, ApiError> {
    Ok(Json(deliveries::cancel(&control, actor, &id).await?))
}

/// Releases deliveries that are held by themselves, up to 20,000 per call.
///
/// The request selects deliveries by one of `destination`, `route` and `source`, by `held_by`, or by both. They are due at once,
/// with the current transform of their route, or with the last one if the route has been deleted. Deliveries whose filter or
/// order key could not be evaluated are decided again first. A delivery whose destination is paused, disabled or unusable waits
/// for that. A delivery that is released twice is sent once.
#[utoipa::path(post, path = "/v1/deliveries/release", tag = "deliveries", request_body = ReleaseOfHeld,
    responses((status = 200, body = ReleasedOfHeld)))]
pub(super) async fn release(
    State(control): State<Control>,
    actor: Actor,
    Body(request): Body<ReleaseOfHeld>,
) -> Result<Json<ReleasedOfHeld>, ApiError> {
    Ok(Json(release::release(&control, actor, &request).await?))
}
