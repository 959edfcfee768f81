//! Sources: the URLs that providers post to.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::conditions::{self, When};
use super::input::{Body, Params, Segment};
use super::problem::{ApiError, Conflicts, EdgeFailed};
use super::query::PageQuery;
use crate::control::page::Page;
use crate::control::sources::{self, CheckRequest, NewSecret, Source, SourceCheck, SourcePatch, SourceSpec};
use crate::control::{Actor, Control, schema};

/// Creates a source and activates it at the edge.
///
/// `name` is required. The settings and the format of the secrets depend on the provider; invalid ones return 422.
/// `edge` in the response is `pending` until the edge has confirmed the source.
#[utoipa::path(post, path = "/v1/sources", tag = "sources", security(("token" = ["write"])), request_body = SourceSpec,
    responses((status = 201, body = Source), Conflicts))]
pub(super) async fn create(
    State(control): State<Control>,
    actor: Actor,
    Body(spec): Body<SourceSpec>,
) -> Result<Response, ApiError> {
    conditions::saved(sources::create(&control, &actor, spec).await)
}

/// Lists sources, newest first.
#[utoipa::path(get, path = "/v1/sources", tag = "sources", security(("token" = ["read"])), params(PageQuery),
    responses((status = 200, body = Page<Source>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<Source>>, ApiError> {
    Ok(Json(sources::list(&control, &actor, &query.into()).await?))
}

/// Returns a source.
#[utoipa::path(get, path = "/v1/sources/{id}", tag = "sources", security(("token" = ["read"])),
    params(("id" = schema::SourceReference, Path)),
    responses((status = 200, body = Source)))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    conditions::shown(sources::show(&control, &actor, &id).await)
}

/// Creates the source with this name, or replaces its settings.
///
/// Omitted settings are reset to their defaults. Omitted secrets are kept. `dropped` in the response lists every
/// setting that was reset or removed. If calls are concurrent, the last one replaces all settings. If the body has a
/// `name`, it must equal the name in the path.
#[utoipa::path(put, path = "/v1/sources/by-name/{name}", tag = "sources", security(("token" = ["write"])),
    params(("name" = schema::SourceName, Path)),
    request_body = SourceSpec,
    responses(
        (status = 200, body = Source, description = "Updated."),
        (status = 201, body = Source, description = "Created."),
        Conflicts,
    ))]
pub(super) async fn put(
    State(control): State<Control>,
    actor: Actor,
    Segment(name): Segment,
    When(when): When,
    Body(spec): Body<SourceSpec>,
) -> Result<Response, ApiError> {
    conditions::saved(sources::put(&control, &actor, &name, spec, &when).await)
}

/// Updates a source.
///
/// Concurrent changes to different fields are all applied.
#[utoipa::path(patch, path = "/v1/sources/{id}", tag = "sources", security(("token" = ["write"])),
    params(("id" = schema::SourceReference, Path)),
    request_body = SourcePatch, responses((status = 200, body = Source)))]
pub(super) async fn change(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    When(when): When,
    Body(patch): Body<SourcePatch>,
) -> Result<Response, ApiError> {
    conditions::saved(sources::change(&control, &actor, &id, patch, &when).await)
}

/// Deletes a source and its routes.
///
/// First, the edge stops accepting requests for the source. If the edge does not confirm that, nothing is deleted and
/// 502 is returned. Events are kept, and their pending deliveries are still sent with the transform that was current
/// when they were created.
#[utoipa::path(delete, path = "/v1/sources/{id}", tag = "sources", security(("token" = ["write"])),
    params(("id" = schema::SourceReference, Path)),
    responses((status = 204), Conflicts, EdgeFailed))]
pub(super) async fn delete(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    When(when): When,
) -> Result<StatusCode, ApiError> {
    conditions::deleted(sources::delete(&control, &actor, &id, &when).await)
}

/// Adds a secret to a source.
///
/// The source then accepts the new secret and its existing ones, so that the secret can be replaced at the provider
/// without rejecting requests. Afterwards, PATCH the source with the new secret as the only entry of `secrets`.
#[utoipa::path(post, path = "/v1/sources/{id}/secrets", tag = "sources", security(("token" = ["write"])),
    params(("id" = schema::SourceReference, Path)), request_body = NewSecret,
    responses((status = 200, body = Source)))]
pub(super) async fn add_secret(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    Body(new): Body<NewSecret>,
) -> Result<Response, ApiError> {
    conditions::saved(sources::add_secret(&control, &actor, &id, new).await)
}

/// Checks a request against a source, step by step.
///
/// The request is one that a provider has sent, pasted by its parts, as an HTTP message or as a curl command. The
/// response says for each step of the verification what was expected and found, and what the edge would do with the
/// request, with the current settings and secrets of the source. Nothing is stored. It contains no secret and no
/// signature that would be right.
#[utoipa::path(post, path = "/v1/sources/{id}/check", tag = "sources", security(("token" = ["read"])),
    params(("id" = schema::SourceReference, Path)),
    request_body = CheckRequest, responses((status = 200, body = SourceCheck)))]
pub(super) async fn check(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    Body(request): Body<CheckRequest>,
) -> Result<Json<SourceCheck>, ApiError> {
    Ok(Json(sources::check(&control, &actor, &id, request).await?))
}
