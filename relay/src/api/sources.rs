//! Sources: the URLs that providers post to.

use axum::Json;
use axum::extract::State;
use http::StatusCode;

use super::input::{Body, Params, Segment};
use super::problem::{ApiError, Refusals};
use super::query::PageQuery;
use super::{created, put_answer};
use crate::control::page::Page;
use crate::control::sources::{self, NewSecret, Source, SourcePatch, SourceSpec};
use crate::control::{Actor, Control};

/// Makes a source and puts it to the edge.
#[utoipa::path(post, path = "/v1/sources", tag = "sources", request_body = SourceSpec,
    responses((status = 201, body = Source), Refusals))]
pub(super) async fn create(
    State(control): State<Control>,
    actor: Actor,
    Body(spec): Body<SourceSpec>,
) -> Result<(StatusCode, Json<Source>), ApiError> {
    created(sources::create(&control, actor, spec).await)
}

/// A page of sources, newest first.
#[utoipa::path(get, path = "/v1/sources", tag = "sources", params(PageQuery),
    responses((status = 200, body = Page<Source>), Refusals))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<Source>>, ApiError> {
    Ok(Json(sources::list(&control, actor, &query.into()).await?))
}

/// One source.
#[utoipa::path(get, path = "/v1/sources/{id}", tag = "sources", params(("id" = String, Path, description = "id or name")),
    responses((status = 200, body = Source), Refusals))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Source>, ApiError> {
    Ok(Json(sources::show(&control, actor, &id).await?))
}

/// Makes the source with this name, or changes it. What is left out is not kept, except the secrets; `dropped` names what is
/// gone. Of calls at the same time the last one wins as a whole.
#[utoipa::path(put, path = "/v1/sources/by-name/{name}", tag = "sources", params(("name" = String, Path)),
    request_body = SourceSpec,
    responses((status = 200, body = Source, description = "changed"), (status = 201, body = Source, description = "made"), Refusals))]
pub(super) async fn put(
    State(control): State<Control>,
    actor: Actor,
    Segment(name): Segment,
    Body(spec): Body<SourceSpec>,
) -> Result<(StatusCode, Json<Source>), ApiError> {
    put_answer(sources::put(&control, actor, &name, spec).await)
}

/// Changes a part of a source and puts it to the edge. Changes of different fields at the same time are all kept.
#[utoipa::path(patch, path = "/v1/sources/{id}", tag = "sources", params(("id" = String, Path, description = "id or name")),
    request_body = SourcePatch, responses((status = 200, body = Source), Refusals))]
pub(super) async fn change(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    Body(patch): Body<SourcePatch>,
) -> Result<Json<Source>, ApiError> {
    Ok(Json(sources::change(&control, actor, &id, patch).await?))
}

/// Takes a source away with its routes: first at the edge, so that nothing is accepted for a source that is gone. Its events
/// stay, and what is pending of them is still delivered with the transforms that it was routed with.
#[utoipa::path(delete, path = "/v1/sources/{id}", tag = "sources", params(("id" = String, Path, description = "id or name")),
    responses((status = 204), Refusals))]
pub(super) async fn delete(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<StatusCode, ApiError> {
    sources::delete(&control, actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Adds a secret beside those that a source has. All of them are accepted, so that a provider's secret can be rotated
/// without a refused request; PUT with the new one alone ends the rotation.
#[utoipa::path(post, path = "/v1/sources/{id}/secrets", tag = "sources",
    params(("id" = String, Path, description = "id or name")), request_body = NewSecret,
    responses((status = 200, body = Source), Refusals))]
pub(super) async fn add_secret(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    Body(new): Body<NewSecret>,
) -> Result<Json<Source>, ApiError> {
    Ok(Json(sources::add_secret(&control, actor, &id, new).await?))
}
