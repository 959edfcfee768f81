//! Replays: jobs that make deliveries again.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::input::{Body, Params, Segment};
use super::problem::{ApiError, Refusals};
use super::query::PageQuery;
use crate::control::page::Page;
use crate::control::replays::{self, Made, NewReplay, Replay, ReplayPlan};
use crate::control::{Actor, Control};

/// Makes a replay, or with `dry_run` says what it would do. It takes events that were stored, or with a state deliveries that were
/// settled, before the call, by the database's clock. What it makes are new deliveries: they wait for the first entry of their
/// destination's retry schedule. Neither call waits until all of a large history has been looked at:
/// what a replay matches is counted while it runs, and a dry run says how far it has counted.
#[utoipa::path(post, path = "/v1/replays", tag = "replays", request_body = NewReplay,
    responses((status = 201, body = Replay), (status = 200, body = ReplayPlan, description = "a dry run"), Refusals))]
pub(super) async fn create(
    State(control): State<Control>,
    actor: Actor,
    Body(request): Body<NewReplay>,
) -> Result<Response, ApiError> {
    Ok(match replays::create(&control, actor, request).await? {
        Made::Replay(replay) => (StatusCode::CREATED, Json(replay)).into_response(),
        Made::Plan(plan) => Json(plan).into_response(),
    })
}

/// A page of replays, newest first.
#[utoipa::path(get, path = "/v1/replays", tag = "replays", params(PageQuery),
    responses((status = 200, body = Page<Replay>), Refusals))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<Replay>>, ApiError> {
    Ok(Json(replays::list(&control, actor, &query.into()).await?))
}

/// One replay and how far it is.
#[utoipa::path(get, path = "/v1/replays/{id}", tag = "replays", params(("id" = String, Path)),
    responses((status = 200, body = Replay), Refusals))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Replay>, ApiError> {
    Ok(Json(replays::show(&control, actor, &id).await?))
}

/// Ends a replay and cancels what it has made and what is not delivered yet. The relays that send for its destinations learn of
/// it usually within two seconds. Attempts that are under way by then are not called back.
#[utoipa::path(post, path = "/v1/replays/{id}/cancel", tag = "replays", params(("id" = String, Path)),
    responses((status = 200, body = Replay), Refusals))]
pub(super) async fn cancel(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Replay>, ApiError> {
    Ok(Json(replays::cancel(&control, actor, &id).await?))
}
