//! Deliveries, their attempts, and manual retries and cancellations.

use axum::Json;
use axum::extract::State;
use model::delivery::DeliveryState;
use serde::Deserialize;
use utoipa::IntoParams;

use super::input::{Body, Params, Segment};
use super::problem::{ApiError, Conflicts};
use super::query::PageQuery;
use crate::control::deliveries::release::{self, ReleaseOfHeld, ReleasedOfHeld};
use crate::control::deliveries::{self, Attempt, Delivery, DeliveryFilter, StatusClass};
use crate::control::page::{Page, PageRequest};
use crate::control::time::Timestamp;
use crate::control::{Actor, Control, schema};

/// Query parameters of `GET /v1/deliveries`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeliveryQuery {
    /// Only deliveries of the event with this id.
    #[param(value_type = Option<schema::EventId>)]
    event: Option<String>,
    /// Only deliveries to the destination with this id or name.
    #[param(value_type = Option<schema::DestinationReference>)]
    destination: Option<String>,
    /// Only deliveries in this state.
    state: Option<DeliveryState>,
    /// Only dead deliveries with this error class, such as `http_status` or `timeout`.
    error: Option<String>,
    /// Only deliveries that the route with this id or name created.
    #[param(value_type = Option<schema::RouteReference>)]
    route: Option<String>,
    /// Only deliveries whose last attempt was answered with a status of this class.
    status_class: Option<StatusClass>,
    /// Only deliveries that the replay with this id created.
    #[param(value_type = Option<schema::ReplayId>)]
    replay: Option<String>,
    /// Only deliveries created at or after this time (RFC 3339).
    #[param(value_type = Option<Timestamp>)]
    after: Option<String>,
    /// Only deliveries created before this time (RFC 3339).
    #[param(value_type = Option<Timestamp>)]
    before: Option<String>,
    /// The maximum number of items on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<schema::PageCursor>)]
    cursor: Option<String>,
}

/// Lists deliveries, newest first.
///
/// `error` selects dead deliveries. It cannot be combined with the `state` `pending` or `held`; with `succeeded` or
/// `cancelled` the page is empty.
#[utoipa::path(get, path = "/v1/deliveries", tag = "deliveries", security(("token" = ["read"])), params(DeliveryQuery),
    responses((status = 200, body = Page<Delivery>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<DeliveryQuery>,
) -> Result<Json<Page<Delivery>>, ApiError> {
    let DeliveryQuery { event, destination, state, error, route, status_class, replay, after, before, limit, cursor } =
        query;
    let filter =
        DeliveryFilter { event, destination, state, error, route, status_class, replay, ids: None, after, before };
    Ok(Json(deliveries::list(&control, &actor, filter, &PageRequest { limit, cursor }).await?))
}

/// Returns a delivery.
#[utoipa::path(get, path = "/v1/deliveries/{id}", tag = "deliveries", security(("token" = ["read"])),
    params(("id" = schema::DeliveryId, Path)),
    responses((status = 200, body = Delivery)))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Delivery>, ApiError> {
    Ok(Json(deliveries::show(&control, &actor, &id).await?))
}

/// Lists the attempts of a delivery, oldest first.
#[utoipa::path(get, path = "/v1/deliveries/{id}/attempts", tag = "deliveries", security(("token" = ["read"])),
    params(("id" = schema::DeliveryId, Path), PageQuery), responses((status = 200, body = Page<Attempt>)))]
pub(super) async fn attempts(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<Attempt>>, ApiError> {
    Ok(Json(deliveries::attempts(&control, &actor, &id, &query.into()).await?))
}

/// Retries a delivery immediately.
///
/// A delivery that is succeeded, dead or cancelled becomes pending again with the same id. Its retry schedule starts
/// over, without the initial wait. A delivery that is held individually (`held_by`) is released. In each case the
/// current transform of the route is used, or its last one if the route has been deleted.
///
/// If the filter of the route has not been evaluated for the delivery, it is evaluated first. If the filter does not
/// match, the delivery becomes `cancelled`, with a `reason`. If the filter still cannot be evaluated, the delivery
/// stays `held`.
///
/// The delivery is sent before all other deliveries to its destination, even during a back-off or while the breaker is
/// open: a success ends both, and a failure changes neither. The delivery still waits while the destination is paused
/// or disabled, while the rate limit or concurrency of the destination is exhausted, and for earlier deliveries with
/// the same order key. `waits_for` then gives the reason, and the delivery is the first to be sent afterwards. Calling
/// this again before the delivery is sent has no effect.
#[utoipa::path(post, path = "/v1/deliveries/{id}/retry", tag = "deliveries", security(("token" = ["replay"])),
    params(("id" = schema::DeliveryId, Path)),
    responses((status = 200, body = Delivery), Conflicts))]
pub(super) async fn retry(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Delivery>, ApiError> {
    Ok(Json(deliveries::retry(&control, &actor, &id).await?))
}

/// Cancels a pending or held delivery.
///
/// The relay stops sending the delivery, usually within two seconds. An attempt in flight is not aborted, but its
/// outcome does not change the delivery. Cancelling a cancelled delivery has no effect.
#[utoipa::path(post, path = "/v1/deliveries/{id}/cancel", tag = "deliveries", security(("token" = ["replay"])),
    params(("id" = schema::DeliveryId, Path)),
    responses((status = 200, body = Delivery), Conflicts))]
pub(super) async fn cancel(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Delivery>, ApiError> {
    Ok(Json(deliveries::cancel(&control, &actor, &id).await?))
}

/// Releases individually held deliveries, up to 20,000 per call.
///
/// Select deliveries by one of `destination`, `route` and `source`, by `held_by`, or by both. Released deliveries are
/// due immediately and use the current transform of their route, or its last one if the route has been deleted.
///
/// If the filter or order key of a delivery could not be evaluated, it is evaluated again first. A delivery to a
/// paused, disabled or unusable destination waits until the destination can be sent to again. Releasing a delivery
/// twice sends it once.
#[utoipa::path(post, path = "/v1/deliveries/release", tag = "deliveries", security(("token" = ["replay"])),
    request_body = ReleaseOfHeld,
    responses((status = 200, body = ReleasedOfHeld)))]
pub(super) async fn release(
    State(control): State<Control>,
    actor: Actor,
    Body(request): Body<ReleaseOfHeld>,
) -> Result<Json<ReleasedOfHeld>, ApiError> {
    Ok(Json(release::release(&control, &actor, &request).await?))
}
