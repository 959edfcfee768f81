//! Destinations: the endpoints that deliveries go to, with their limits and signing secrets.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::conditions::{self, When};
use super::input::{Body, OptionalBody, Params, Segment};
use super::problem::{ApiError, Conflicts};
use super::query::PageQuery;
use crate::control::destinations::health::{self, DestinationHealth};
use crate::control::destinations::signing::{self, Rotation, SigningSecret};
use crate::control::destinations::{self, Destination, DestinationPatch, DestinationSpec};
use crate::control::page::Page;
use crate::control::{Actor, Control, schema};

/// Creates a destination.
///
/// `name` is required. The response contains the signing secret.
#[utoipa::path(post, path = "/v1/destinations", tag = "destinations", security(("token" = ["write"])),
    request_body = DestinationSpec,
    responses((status = 201, body = Destination), Conflicts))]
pub(super) async fn create(
    State(control): State<Control>,
    actor: Actor,
    Body(spec): Body<DestinationSpec>,
) -> Result<Response, ApiError> {
    conditions::saved(destinations::create(&control, &actor, spec).await)
}

/// Lists destinations, newest first.
#[utoipa::path(get, path = "/v1/destinations", tag = "destinations", security(("token" = ["read"])), params(PageQuery),
    responses((status = 200, body = Page<Destination>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<Destination>>, ApiError> {
    Ok(Json(destinations::list(&control, &actor, &query.into()).await?))
}

/// Returns a destination.
#[utoipa::path(get, path = "/v1/destinations/{id}", tag = "destinations", security(("token" = ["read"])),
    params(("id" = schema::DestinationReference, Path)), responses((status = 200, body = Destination)))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    conditions::shown(destinations::show(&control, &actor, &id).await)
}

/// Creates the destination with this name, or replaces its settings.
///
/// Omitted settings are reset to their defaults. An omitted signing secret is kept, and so are omitted static headers
/// if the scheme, host and port of the URL are unchanged. `dropped` in the response lists every setting that was reset
/// or removed. If calls are concurrent, the last one replaces all settings. If the body has a `name`, it must equal the
/// name in the path.
#[utoipa::path(put, path = "/v1/destinations/by-name/{name}", tag = "destinations", security(("token" = ["write"])),
    params(("name" = schema::DestinationName, Path)),
    request_body = DestinationSpec,
    responses(
        (status = 200, body = Destination, description = "Updated."),
        (status = 201, body = Destination, description = "Created."),
        Conflicts,
    ))]
pub(super) async fn put(
    State(control): State<Control>,
    actor: Actor,
    Segment(name): Segment,
    When(when): When,
    Body(spec): Body<DestinationSpec>,
) -> Result<Response, ApiError> {
    conditions::saved(destinations::put(&control, &actor, &name, spec, &when).await)
}

/// Updates a destination.
///
/// Concurrent changes to different fields are all applied. The merged settings must be complete: a rate limit needs
/// `limit` and `per`, and a retry policy needs either `schedule_s` or all of `initial_s`, `multiplier`, `max_s` and
/// `attempts`.
#[utoipa::path(patch, path = "/v1/destinations/{id}", tag = "destinations", security(("token" = ["write"])),
    params(("id" = schema::DestinationReference, Path)), request_body = DestinationPatch,
    responses((status = 200, body = Destination), Conflicts))]
pub(super) async fn change(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    When(when): When,
    Body(patch): Body<DestinationPatch>,
) -> Result<Response, ApiError> {
    conditions::saved(destinations::change(&control, &actor, &id, patch, &when).await)
}

/// Deletes a destination and its routes.
///
/// The name can be reused immediately, and nothing more is sent to the destination. An attempt in flight is not
/// aborted.
///
/// Pending deliveries are cancelled in the background, at several thousand per second. Until then, each of them is
/// `held` with the deletion as `held_reason`, counts as pending in the replay that created it, cannot be retried, and
/// is not matched by replays of cancelled deliveries. Replays whose `destination` is this destination are cancelled.
#[utoipa::path(delete, path = "/v1/destinations/{id}", tag = "destinations", security(("token" = ["write"])),
    params(("id" = schema::DestinationReference, Path)), responses((status = 204)))]
pub(super) async fn delete(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    When(when): When,
) -> Result<StatusCode, ApiError> {
    conditions::deleted(destinations::delete(&control, &actor, &id, &when).await)
}

/// Pauses a destination.
///
/// Deliveries to the destination are held until it is resumed.
#[utoipa::path(post, path = "/v1/destinations/{id}/pause", tag = "destinations", security(("token" = ["write"])),
    params(("id" = schema::DestinationReference, Path)), responses((status = 200, body = Destination)))]
pub(super) async fn pause(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    conditions::saved(destinations::pause(&control, &actor, &id).await)
}

/// Resumes a paused or disabled destination.
///
/// Its deliveries are sent again, within its limits. The previous health of the destination is reset: back-off,
/// breaker, reduction and failures.
#[utoipa::path(post, path = "/v1/destinations/{id}/resume", tag = "destinations", security(("token" = ["write"])),
    params(("id" = schema::DestinationReference, Path)), responses((status = 200, body = Destination)))]
pub(super) async fn resume(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    conditions::saved(destinations::resume(&control, &actor, &id).await)
}

/// Returns the health of a destination: breaker, back-off, reduced limits, failures and waiting deliveries.
#[utoipa::path(get, path = "/v1/destinations/{id}/health", tag = "destinations", security(("token" = ["read"])),
    params(("id" = schema::DestinationReference, Path)),
    responses((status = 200, body = DestinationHealth)))]
pub(super) async fn health(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<DestinationHealth>, ApiError> {
    Ok(Json(health::show(&control, &actor, &id).await?))
}

/// Returns the signing secret of a destination.
#[utoipa::path(get, path = "/v1/destinations/{id}/signing-secret", tag = "destinations",
    security(("token" = ["secrets"])),
    params(("id" = schema::DestinationReference, Path)), responses((status = 200, body = SigningSecret), Conflicts))]
pub(super) async fn signing_secret(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<SigningSecret>, ApiError> {
    Ok(Json(signing::show(&control, &actor, &id).await?))
}

/// Rotates the signing secret of a destination.
///
/// Until the overlap ends, deliveries are signed with both the new and the previous signing secrets, so that the
/// destination can switch without rejecting any. The request body is optional.
#[utoipa::path(post, path = "/v1/destinations/{id}/signing-secret/rotate", tag = "destinations",
    security(("token" = ["secrets"])),
    params(("id" = schema::DestinationReference, Path)), request_body = Rotation,
    responses((status = 200, body = SigningSecret)))]
pub(super) async fn rotate_signing_secret(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    OptionalBody(rotation): OptionalBody<Rotation>,
) -> Result<Response, ApiError> {
    conditions::made(signing::rotate(&control, &actor, &id, rotation).await)
}
