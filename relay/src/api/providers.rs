//! The catalogue of providers: what a source can be made of, and what each needs.

use axum::Json;

use super::input::Segment;
use super::problem::{ApiError, Refusals};
use crate::control::Actor;
use crate::control::page::Page;
use crate::control::providers::{self, Provider};

/// All providers; there is one page of them.
#[utoipa::path(get, path = "/v1/providers", tag = "providers", responses((status = 200, body = Page<Provider>), Refusals))]
pub(super) async fn list(actor: Actor) -> Json<Page<Provider>> {
    Json(providers::list(actor))
}

/// One provider.
#[utoipa::path(get, path = "/v1/providers/{id}", tag = "providers", params(("id" = String, Path)),
    responses((status = 200, body = Provider), Refusals))]
pub(super) async fn show(actor: Actor, Segment(id): Segment) -> Result<Json<Provider>, ApiError> {
    Ok(Json(providers::show(actor, &id)?))
}
