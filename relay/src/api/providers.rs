//! The catalogue of providers: how each signs and delivers, and what its sources need.

use axum::Json;

use super::input::Segment;
use super::problem::ApiError;
use crate::control::page::Page;
use crate::control::providers::{self, Provider};
use crate::control::{Actor, schema};

/// Lists all providers of the catalogue.
///
/// All providers are returned on one page; `next_cursor` is always null.
#[utoipa::path(get, path = "/v1/providers", tag = "providers", security(("token" = ["read"])),
    responses((status = 200, body = Page<Provider>)))]
pub(super) async fn list(actor: Actor) -> Result<Json<Page<Provider>>, ApiError> {
    Ok(Json(providers::list(&actor)?))
}

/// Returns a provider.
#[utoipa::path(get, path = "/v1/providers/{id}", tag = "providers", security(("token" = ["read"])),
    params(("id" = schema::ProviderId, Path)),
    responses((status = 200, body = Provider)))]
pub(super) async fn show(actor: Actor, Segment(id): Segment) -> Result<Json<Provider>, ApiError> {
    Ok(Json(providers::show(&actor, &id)?))
}
