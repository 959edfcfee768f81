//! Destinations: the endpoints that deliveries go to, with their limits and their signing keys.

use axum::Json;
use axum::extract::State;
use http::StatusCode;

use super::input::{Body, OptionalBody, Params, Segment};
use super::problem::{ApiError, Refusals};
use super::query::PageQuery;
use super::{created, put_answer};
use crate::control::destinations::health::{self, DestinationHealth};
use crate::control::destinations::signing::{self, Rotation, SigningSecret};
use crate::control::destinations::{self, Destination, DestinationPatch, DestinationSpec};
use crate::control::page::Page;
use crate::control::{Actor, Control};

/// Makes a destination. The answer holds the signing secret.
#[utoipa::path(post, path = "/v1/destinations", tag = "destinations", request_body = DestinationSpec,
    responses((status = 201, body = Destination), Refusals))]
pub(super) async fn create(
    State(control): State<Control>,
    actor: Actor,
    Body(spec): Body<DestinationSpec>,
) -> Result<(StatusCode, Json<Destination>), ApiError> {
    created(destinations::create(&control, actor, spec).await)
}

/// A page of destinations, newest first.
#[utoipa::path(get, path = "/v1/destinations", tag = "destinations", params(PageQuery),
    responses((status = 200, body = Page<Destination>), Refusals))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<Destination>>, ApiError> {
    Ok(Json(destinations::list(&control, actor, &query.into()).await?))
}

/// One destination.
#[utoipa::path(get, path = "/v1/destinations/{id}", tag = "destinations",
    params(("id" = String, Path, description = "id or name")), responses((status = 200, body = Destination), Refusals))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Destination>, ApiError> {
    Ok(Json(destinations::show(&control, actor, &id).await?))
}

/// Makes the destination with this name, or changes it. What is left out gets its default, except the signing keys, which
/// are kept, and the static headers, which are kept as long as the URL's scheme, host and port stay the same; `dropped` names
/// what is gone. Of calls at the same time the last one wins as a whole.
#[utoipa::path(put, path = "/v1/destinations/by-name/{name}", tag = "destinations", params(("name" = String, Path)),
    request_body = DestinationSpec,
    responses((status = 200, body = Destination, description = "changed"), (status = 201, body = Destination, description = "made"), Refusals))]
pub(super) async fn put(
    State(control): State<Control>,
    actor: Actor,
    Segment(name): Segment,
    Body(spec): Body<DestinationSpec>,
) -> Result<(StatusCode, Json<Destination>), ApiError> {
    put_answer(destinations::put(&control, actor, &name, spec).await)
}

/// Changes a part of a destination. Changes of different fields at the same time are all kept.
#[utoipa::path(patch, path = "/v1/destinations/{id}", tag = "destinations",
    params(("id" = String, Path, description = "id or name")), request_body = DestinationPatch,
    responses((status = 200, body = Destination), Refusals))]
pub(super) async fn change(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    Body(patch): Body<DestinationPatch>,
) -> Result<Json<Destination>, ApiError> {
    Ok(Json(destinations::change(&control, actor, &id, patch).await?))
}

/// Deletes a destination with its routes. Its name is free at once, and nothing is sent to it any more; an attempt that is
/// under way is not called back.
///
/// What is pending for it is cancelled in the background, which takes a while if it is much: some thousands a second. Until
/// then such a delivery is shown as held, with that as its reason, counts as pending in the replay that made it, cannot be
/// retried, and is not taken by a replay of what is cancelled. Replays that deliver to it are cancelled.
#[utoipa::path(delete, path = "/v1/destinations/{id}", tag = "destinations",
    params(("id" = String, Path, description = "id or name")), responses((status = 204), Refusals))]
pub(super) async fn delete(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<StatusCode, ApiError> {
    destinations::delete(&control, actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Holds the deliveries of a destination until it is resumed.
#[utoipa::path(post, path = "/v1/destinations/{id}/pause", tag = "destinations",
    params(("id" = String, Path, description = "id or name")), responses((status = 200, body = Destination), Refusals))]
pub(super) async fn pause(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Destination>, ApiError> {
    Ok(Json(destinations::pause(&control, actor, &id).await?))
}

/// Lets the deliveries of a paused or disabled destination go, at the rate of the destination. What was learned of it before is
/// forgotten: Retry-After, pauses, breaker, reduction and run of failures.
#[utoipa::path(post, path = "/v1/destinations/{id}/resume", tag = "destinations",
    params(("id" = String, Path, description = "id or name")), responses((status = 200, body = Destination), Refusals))]
pub(super) async fn resume(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Destination>, ApiError> {
    Ok(Json(destinations::resume(&control, actor, &id).await?))
}

/// How a destination takes what it is sent: its breaker, its pace now and why, and what waits.
#[utoipa::path(get, path = "/v1/destinations/{id}/health", tag = "destinations",
    params(("id" = String, Path, description = "id or name")),
    responses((status = 200, body = DestinationHealth), Refusals))]
pub(super) async fn health(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<DestinationHealth>, ApiError> {
    Ok(Json(health::show(&control, actor, &id).await?))
}

/// The secret that a destination verifies deliveries with.
#[utoipa::path(get, path = "/v1/destinations/{id}/signing-secret", tag = "destinations",
    params(("id" = String, Path, description = "id or name")), responses((status = 200, body = SigningSecret), Refusals))]
pub(super) async fn signing_secret(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<SigningSecret>, ApiError> {
    Ok(Json(signing::show(&control, actor, &id).await?))
}

/// Puts a new signing key in front. Until the overlap ends deliveries are signed with the old ones too, so that the
/// destination can take its time to change.
#[utoipa::path(post, path = "/v1/destinations/{id}/signing-secret/rotate", tag = "destinations",
    params(("id" = String, Path, description = "id or name")), request_body = Option<Rotation>,
    responses((status = 200, body = SigningSecret), Refusals))]
pub(super) async fn rotate_signing_secret(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    OptionalBody(rotation): OptionalBody<Rotation>,
) -> Result<Json<SigningSecret>, ApiError> {
    Ok(Json(signing::rotate(&control, actor, &id, rotation).await?))
}
