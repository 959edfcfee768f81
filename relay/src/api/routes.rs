//! Routes: which events of a source go to a destination, and in which form.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::created;
use super::input::{Body, Params, Segment};
use super::problem::{ApiError, Refusals};
use crate::control::page::{Page, PageRequest};
use crate::control::routes::{self, Route, RouteFilter, RoutePatch, RouteSpec};
use crate::control::{Actor, Control};

/// Which routes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RouteQuery {
    /// Id or name.
    source: Option<String>,
    /// Id or name.
    destination: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Joins a source to a destination.
#[utoipa::path(post, path = "/v1/routes", tag = "routes", request_body = RouteSpec,
    responses((status = 201, body = Route), Refusals))]
pub(super) async fn create(
    State(control): State<Control>,
    actor: Actor,
    Body(spec): Body<RouteSpec>,
) -> Result<(StatusCode, Json<Route>), ApiError> {
    created(routes::create(&control, actor, spec).await)
}

/// A page of routes, newest first.
#[utoipa::path(get, path = "/v1/routes", tag = "routes", params(RouteQuery),
    responses((status = 200, body = Page<Route>), Refusals))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<RouteQuery>,
) -> Result<Json<Page<Route>>, ApiError> {
    let RouteQuery { source, destination, limit, cursor } = query;
    let (filter, page) = (RouteFilter { source, destination }, PageRequest { limit, cursor });
    Ok(Json(routes::list(&control, actor, &filter, &page).await?))
}

/// One route.
#[utoipa::path(get, path = "/v1/routes/{id}", tag = "routes", params(("id" = String, Path)),
    responses((status = 200, body = Route), Refusals))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Route>, ApiError> {
    Ok(Json(routes::show(&control, actor, &id).await?))
}

/// Puts other expressions in place; what is left out is taken away, and the answer names what that was.
#[utoipa::path(put, path = "/v1/routes/{id}", tag = "routes", params(("id" = String, Path)), request_body = RouteSpec,
    responses((status = 200, body = Route), Refusals))]
pub(super) async fn replace(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    Body(spec): Body<RouteSpec>,
) -> Result<Json<Route>, ApiError> {
    Ok(Json(routes::replace(&control, actor, &id, spec).await?))
}

/// Changes a part of a route. Changes of different fields at the same time are all kept.
#[utoipa::path(patch, path = "/v1/routes/{id}", tag = "routes", params(("id" = String, Path)), request_body = RoutePatch,
    responses((status = 200, body = Route), Refusals))]
pub(super) async fn change(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    Body(patch): Body<RoutePatch>,
) -> Result<Json<Route>, ApiError> {
    Ok(Json(routes::change(&control, actor, &id, patch).await?))
}

/// Takes a route away. What it has made already is still delivered, with the transform that it was routed with. Retries by hand
/// and replays of it use the last transform that the route had.
#[utoipa::path(delete, path = "/v1/routes/{id}", tag = "routes", params(("id" = String, Path)),
    responses((status = 204), Refusals))]
pub(super) async fn delete(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<StatusCode, ApiError> {
    routes::delete(&control, actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
