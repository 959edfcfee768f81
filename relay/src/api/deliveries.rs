//! Deliveries: each event on its way to each destination, what was tried, and trying again.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::input::{Body, Params, Segment};
use super::problem::{ApiError, Refusals};
use super::query::PageQuery;
use crate::control::deliveries::release::{self, ReleaseOfHeld, ReleasedOfHeld};
use crate::control::deliveries::{self, Attempt, Delivery, DeliveryFilter, DeliveryState};
use crate::control::page::{Page, PageRequest};
use crate::control::{Actor, Control};

/// Which deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeliveryQuery {
    /// The id of an event.
    event: Option<String>,
    /// Id or name.
    destination: Option<String>,
    state: Option<DeliveryState>,
    /// The error class of the last attempt; only settled deliveries have one.
    error: Option<String>,
    /// Made at or after this time, RFC 3339.
    after: Option<String>,
    /// Made before this time, RFC 3339.
    before: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A page of deliveries, newest first.
#[utoipa::path(get, path = "/v1/deliveries", tag = "deliveries", params(DeliveryQuery),
    responses((status = 200, body = Page<Delivery>), Refusals))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<DeliveryQuery>,
) -> Result<Json<Page<Delivery>>, ApiError> {
    let DeliveryQuery { event, destination, state, error, after, before, limit, cursor } = query;
    let filter = DeliveryFilter { event, destination, state, error, after, before };
    Ok(Json(deliveries::list(&control, actor, filter, &PageRequest { limit, cursor }).await?))
}

/// One delivery.
#[utoipa::path(get, path = "/v1/deliveries/{id}", tag = "deliveries", params(("id" = String, Path)),
    responses((status = 200, body = Delivery), Refusals))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Delivery>, ApiError> {
    Ok(Json(deliveries::show(&control, actor, &id).await?))
}

/// Every try of a delivery, oldest first.
#[utoipa::path(get, path = "/v1/deliveries/{id}/attempts", tag = "deliveries", params(("id" = String, Path), PageQuery),
    responses((status = 200, body = Page<Attempt>), Refusals))]
pub(super) async fn attempts(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<Attempt>>, ApiError> {
    Ok(Json(deliveries::attempts(&control, actor, &id, &query.into()).await?))
}

/// Sends a delivery now, whichever relay sends for its destination. One that was settled becomes pending again, with the same
/// id and a fresh retry schedule, without the wait before its first attempt; one that is held by something of its own is released. It is sent with the transform that its
/// route has now, or had last if the route is deleted. One that no filter has approved is decided first: the answer shows what
/// became of it, which is `cancelled` with the reason if it is not to be sent, and `held` if that is still not known.
///
/// It goes before all others of its destination, and it is sent even while the destination has asked for a pause or its breaker
/// is open: if it succeeds that is over, and if it fails all stays as it was. It is not sent while the destination is paused or
/// disabled, beyond its rate and its concurrency, or before an earlier delivery of its order key: then `waits_for` of the
/// answer says what it waits for, and it is sent first as soon as that is over. Asking again before it is sent changes nothing
/// and answers the same.
#[utoipa::path(post, path = "/v1/deliveries/{id}/retry", tag = "deliveries", params(("id" = String, Path)),
    responses((status = 200, body = Delivery), Refusals))]
pub(super) async fn retry(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Delivery>, ApiError> {
    Ok(Json(deliveries::retry(&control, actor, &id).await?))
}

/// Cancels a pending or held delivery. The relay that sends for its destination learns of it usually within two seconds and
/// does not send it any more. An attempt that is under way by then is not called back, and does not change the delivery. One that
/// is cancelled already is answered the same.
#[utoipa::path(post, path = "/v1/deliveries/{id}/cancel", tag = "deliveries", params(("id" = String, Path)),
    responses((status = 200, body = Delivery), Refusals))]
pub(super) async fn cancel(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Delivery>, ApiError> {
    Ok(Json(deliveries::cancel(&control, actor, &id).await?))
}

/// Releases deliveries that are held by something of their own (`held_by`), up to 20,000 at a call. They are due now, with the
/// transform that their route has now, or had last if it is deleted, and
/// those whose filter or order key could not be evaluated are decided again first. A delivery whose destination is paused,
/// disabled or unusable waits for that. What is released twice is sent once.
#[utoipa::path(post, path = "/v1/deliveries/release", tag = "deliveries", request_body = ReleaseOfHeld,
    responses((status = 200, body = ReleasedOfHeld), Refusals))]
pub(super) async fn release(
    State(control): State<Control>,
    actor: Actor,
    Body(request): Body<ReleaseOfHeld>,
) -> Result<Json<ReleasedOfHeld>, ApiError> {
    Ok(Json(release::release(&control, actor, &request).await?))
}
