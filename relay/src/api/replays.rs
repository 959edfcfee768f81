//! Replays: work in the background that makes deliveries of stored events again.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::input::{Body, Params, Segment};
use super::problem::{ApiError, Conflicts};
use super::query::PageQuery;
use crate::control::page::Page;
use crate::control::replays::{self, Made, NewReplay, Replay, ReplayPatch, ReplayPlan};
use crate::control::{Actor, Control, schema};

/// Creates a replay, or counts what it would match if `dry_run` is true.
///
/// A replay covers events that were stored before the call or, if `filter.state` is set, deliveries that reached that
/// state before the call, by the database's clock. The replay creates new deliveries, which first wait for the initial
/// delay of their destination's retry schedule. The call returns without waiting for the whole count: a replay counts
/// its matches while it runs, and a dry run reports how far it has counted.
///
/// `filter.error` requires `filter.state`; use `dead`, because only dead deliveries have an error class.
/// `filter.verification` cannot be combined with `filter.state`, `filter.destination` or `destination`, and
/// `filter.verifies_now` requires it. `cursor` requires `dry_run`. `filter.before` must be later than `filter.after`.
#[utoipa::path(post, path = "/v1/replays", tag = "replays", security(("token" = ["replay"])), request_body = NewReplay,
    responses(
        (status = 201, body = Replay),
        (status = 200, body = ReplayPlan, description = "Dry run: the number of matches. Nothing was created."),
        Conflicts,
    ))]
pub(super) async fn create(
    State(control): State<Control>,
    actor: Actor,
    Body(request): Body<NewReplay>,
) -> Result<Response, ApiError> {
    Ok(match replays::create(&control, &actor, request).await? {
        Made::Replay(replay) => (StatusCode::CREATED, Json(replay)).into_response(),
        Made::Plan(plan) => Json(plan).into_response(),
    })
}

/// Lists replays, newest first.
#[utoipa::path(get, path = "/v1/replays", tag = "replays", security(("token" = ["read"])), params(PageQuery),
    responses((status = 200, body = Page<Replay>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<Replay>>, ApiError> {
    Ok(Json(replays::list(&control, &actor, &query.into()).await?))
}

/// Returns a replay and its progress.
#[utoipa::path(get, path = "/v1/replays/{id}", tag = "replays", security(("token" = ["read"])),
    params(("id" = schema::ReplayId, Path)),
    responses((status = 200, body = Replay)))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Replay>, ApiError> {
    Ok(Json(replays::show(&control, &actor, &id).await?))
}

/// Cancels a replay and its pending and held deliveries.
///
/// The relay stops sending the deliveries of the replay, usually within two seconds. Attempts in flight are not
/// aborted.
#[utoipa::path(post, path = "/v1/replays/{id}/cancel", tag = "replays", security(("token" = ["replay"])),
    params(("id" = schema::ReplayId, Path)),
    responses((status = 200, body = Replay), Conflicts))]
pub(super) async fn cancel(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Replay>, ApiError> {
    Ok(Json(replays::cancel(&control, &actor, &id).await?))
}

/// Pauses a replay.
///
/// The replay creates no more deliveries until it is resumed. Deliveries that it has created are sent. Pausing a paused
/// replay has no effect.
#[utoipa::path(post, path = "/v1/replays/{id}/pause", tag = "replays", security(("token" = ["replay"])),
    params(("id" = schema::ReplayId, Path)),
    responses((status = 200, body = Replay), Conflicts))]
pub(super) async fn pause(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Replay>, ApiError> {
    Ok(Json(replays::pause(&control, &actor, &id).await?))
}

/// Resumes a paused replay where it was.
///
/// Resuming a replay that is not paused has no effect.
#[utoipa::path(post, path = "/v1/replays/{id}/resume", tag = "replays", security(("token" = ["replay"])),
    params(("id" = schema::ReplayId, Path)),
    responses((status = 200, body = Replay), Conflicts))]
pub(super) async fn resume(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Replay>, ApiError> {
    Ok(Json(replays::resume(&control, &actor, &id).await?))
}

/// Changes the rate limit of a replay that is running or paused.
#[utoipa::path(patch, path = "/v1/replays/{id}", tag = "replays", security(("token" = ["replay"])),
    params(("id" = schema::ReplayId, Path)), request_body = ReplayPatch,
    responses((status = 200, body = Replay), Conflicts))]
pub(super) async fn change(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    Body(patch): Body<ReplayPatch>,
) -> Result<Json<Replay>, ApiError> {
    Ok(Json(replays::change(&control, &actor, &id, patch).await?))
}
