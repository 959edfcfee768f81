//! Routes: which events of a source go to a destination, and in which form.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::created;
use super::input::{Body, Params, Segment};
use super::problem::{ApiError, Conflicts};
use crate::control::page::{Page, PageRequest};
use crate::control::routes::{self, Route, RouteFilter, RoutePatch, RouteSpec};
use crate::control::{Actor, Control, schema};

/// Which routes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RouteQuery {
    /// The id or name of a source.
    #[param(value_type = Option<schema::SourceReference>)]
    source: Option<String>,
    /// The id or name of a destination.
    #[param(value_type = Option<schema::DestinationReference>)]
    destination: Option<String>,
    /// The most rows of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<schema::PageCursor>)]
    cursor: Option<String>,
}

/// Creates a route from a source to a destination.
///
/// `source` and `destination` are required. Expressions that do not compile are answered with 422.
#[utoipa::path(post, path = "/v1/routes", tag = "routes", request_body = RouteSpec,
    responses((status = 201, body = Route), Conflicts))]
pub(super) async fn create(
    State(control): State<Control>,
    actor: Actor,
    Body(spec): Body<RouteSpec>,
) -> Result<(StatusCode, Json<Route>), ApiError> {
    created(routes::create(&control, actor, spec).await)
}

/// Lists routes, newest first.
#[utoipa::path(get, path = "/v1/routes", tag = "routes", params(RouteQuery),
    responses((status = 200, body = Page<Route>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<RouteQuery>,
) -> Result<Json<Page<Route>>, ApiError> {
    let RouteQuery { source, destination, limit, cursor } = query;
    let (filter, page) = (RouteFilter { source, destination }, PageRequest { limit, cursor });
    Ok(Json(routes::list(&control, actor, &filter, &page).await?))
}

/// Returns one route.
#[utoipa::path(get, path = "/v1/routes/{id}", tag = "routes", params(("id" = schema::RouteId, Path)),
    responses((status = 200, body = Route)))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Route>, ApiError> {
    Ok(Json(routes::show(&control, actor, &id).await?))
}

/// Replaces the settings of a route.
///
/// Omitted settings get their defaults; `dropped` of the answer names every one that was reset or removed. The source and the
/// destination of a route cannot be changed: if they are given they must be the current ones.
#[utoipa::path(put, path = "/v1/routes/{id}", tag = "routes", params(("id" = schema::RouteId, Path)), request_body = RouteSpec,
    responses((status = 200, body = Route)))]
pub(super) async fn replace(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    Body(spec): Body<RouteSpec>,
) -> Result<Json<Route>, ApiError> {
    Ok(Json(routes::replace(&control, actor, &id, spec).await?))
}

/// Changes some settings of a route.
///
/// Concurrent changes of different fields are all kept.
#[utoipa::path(patch, path = "/v1/routes/{id}", tag = "routes", params(("id" = schema::RouteId, Path)), request_body = RoutePatch,
    responses((status = 200, body = Route)))]
pub(super) async fn change(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    Body(patch): Body<RoutePatch>,
) -> Result<Json<Route>, ApiError> {
    Ok(Json(routes::change(&control, actor, &id, patch).await?))
}

/// Deletes a route.
///
/// Its deliveries are still sent, with the transform that they were routed with. Retries by hand and replays of them use the
/// last transform that the route had.
#[utoipa::path(delete, path = "/v1/routes/{id}", tag = "routes", params(("id" = schema::RouteId, Path)),
    responses((status = 204)))]
pub(super) async fn delete(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<StatusCode, ApiError> {
    routes::delete(&control, actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
