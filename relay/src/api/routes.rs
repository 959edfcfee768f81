//! Routes: which events of a source go to a destination, and in which form.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::conditions::{self, When};
use super::input::{Body, Params, Segment};
use super::problem::{ApiError, Conflicts};
use crate::control::page::{Page, PageRequest};
use crate::control::routes::{self, Route, RouteFilter, RoutePatch, RouteSpec};
use crate::control::trial::{self, RouteTrial, TrialReport};
use crate::control::{Actor, Control, schema};

/// Query parameters of `GET /v1/routes`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RouteQuery {
    /// Only routes from the source with this id or name.
    #[param(value_type = Option<schema::SourceReference>)]
    source: Option<String>,
    /// Only routes to the destination with this id or name.
    #[param(value_type = Option<schema::DestinationReference>)]
    destination: Option<String>,
    /// Only the route with this name.
    #[param(value_type = Option<schema::RouteName>)]
    name: Option<String>,
    /// The maximum number of items on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<schema::PageCursor>)]
    cursor: Option<String>,
}

/// Creates a route from a source to a destination.
///
/// `source` and `destination` are required. An expression that does not compile returns 422.
#[utoipa::path(post, path = "/v1/routes", tag = "routes", security(("token" = ["write"])), request_body = RouteSpec,
    responses((status = 201, body = Route), Conflicts))]
pub(super) async fn create(
    State(control): State<Control>,
    actor: Actor,
    Body(spec): Body<RouteSpec>,
) -> Result<Response, ApiError> {
    conditions::saved(routes::create(&control, &actor, spec).await)
}

/// Lists routes, newest first.
#[utoipa::path(get, path = "/v1/routes", tag = "routes", security(("token" = ["read"])), params(RouteQuery),
    responses((status = 200, body = Page<Route>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<RouteQuery>,
) -> Result<Json<Page<Route>>, ApiError> {
    let RouteQuery { source, destination, name, limit, cursor } = query;
    let (filter, page) = (RouteFilter { source, destination, name }, PageRequest { limit, cursor });
    Ok(Json(routes::list(&control, &actor, &filter, &page).await?))
}

/// Tries the types and expressions of a route against events.
///
/// Nothing is stored or sent. The expressions are those of the request, and for what it omits those of the route that it
/// names. The events are those of the request, or the newest stored ones of a source (`recent`), which also needs the
/// scope `bodies`. Evaluations have the same limits as in routing. The order key and the transform are only evaluated if
/// the event matches. An expression that does not compile returns 422 with its place.
#[utoipa::path(post, path = "/v1/routes/try", tag = "routes", security(("token" = ["read"])), request_body = RouteTrial,
    responses((status = 200, body = TrialReport)))]
pub(super) async fn try_out(
    State(control): State<Control>,
    actor: Actor,
    Body(request): Body<RouteTrial>,
) -> Result<Json<TrialReport>, ApiError> {
    Ok(Json(trial::try_out(&control, &actor, request).await?))
}

/// Returns a route.
#[utoipa::path(get, path = "/v1/routes/{id}", tag = "routes", security(("token" = ["read"])),
    params(("id" = schema::RouteReference, Path)),
    responses((status = 200, body = Route)))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    conditions::shown(routes::show(&control, &actor, &id).await)
}

/// Replaces the settings of a route.
///
/// Omitted settings are reset to their defaults; `dropped` in the response lists those that were reset or removed. The
/// source and destination of a route cannot be changed: if `source` or `destination` is set, it must be the current
/// one.
#[utoipa::path(put, path = "/v1/routes/{id}", tag = "routes", security(("token" = ["write"])),
    params(("id" = schema::RouteReference, Path)),
    request_body = RouteSpec, responses((status = 200, body = Route), Conflicts))]
pub(super) async fn replace(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    When(when): When,
    Body(spec): Body<RouteSpec>,
) -> Result<Response, ApiError> {
    conditions::saved(routes::replace(&control, &actor, &id, spec, &when).await)
}

/// Creates the route with this name, or replaces its settings.
///
/// A new route needs `source` and `destination`. Omitted settings are reset to their defaults; `dropped` in the response
/// lists those that were reset or removed. The source and destination of a route cannot be changed: if `source` or
/// `destination` is set, it must be the current one.
#[utoipa::path(put, path = "/v1/routes/by-name/{name}", tag = "routes", security(("token" = ["write"])),
    params(("name" = schema::RouteName, Path)),
    request_body = RouteSpec,
    responses(
        (status = 200, body = Route, description = "Updated."),
        (status = 201, body = Route, description = "Created."),
        Conflicts,
    ))]
pub(super) async fn put(
    State(control): State<Control>,
    actor: Actor,
    Segment(name): Segment,
    When(when): When,
    Body(spec): Body<RouteSpec>,
) -> Result<Response, ApiError> {
    conditions::saved(routes::put(&control, &actor, &name, spec, &when).await)
}

/// Updates a route.
///
/// Concurrent changes to different fields are all applied.
#[utoipa::path(patch, path = "/v1/routes/{id}", tag = "routes", security(("token" = ["write"])),
    params(("id" = schema::RouteReference, Path)),
    request_body = RoutePatch, responses((status = 200, body = Route), Conflicts))]
pub(super) async fn change(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    When(when): When,
    Body(patch): Body<RoutePatch>,
) -> Result<Response, ApiError> {
    conditions::saved(routes::change(&control, &actor, &id, patch, &when).await)
}

/// Deletes a route.
///
/// Its pending deliveries are still sent, with the transform that was current when they were created. Manual retries
/// and replays use the route's last transform.
#[utoipa::path(delete, path = "/v1/routes/{id}", tag = "routes", security(("token" = ["write"])),
    params(("id" = schema::RouteReference, Path)),
    responses((status = 204)))]
pub(super) async fn delete(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    When(when): When,
) -> Result<StatusCode, ApiError> {
    conditions::deleted(routes::delete(&control, &actor, &id, &when).await)
}
