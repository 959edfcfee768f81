//! Tokens: with which callers authenticate.

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::conditions;
use super::input::{Body, Params, Segment};
use super::problem::{ApiError, Conflicts};
use super::query::PageQuery;
use crate::control::page::Page;
use crate::control::tokens::{self, NewToken, ShownActor, Token};
use crate::control::{Actor, Control, schema};

/// Creates a token.
///
/// The response is the only one that contains the token itself. A token that is bound to a customer cannot have the
/// scope `admin`.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", security(("token" = ["admin"])), request_body = NewToken,
    responses((status = 201, body = Token), Conflicts))]
pub(super) async fn create(
    State(control): State<Control>,
    actor: Actor,
    Body(new): Body<NewToken>,
) -> Result<Response, ApiError> {
    conditions::made(tokens::create(&control, &actor, new).await)
}

/// Lists tokens, newest first.
///
/// Expired and revoked tokens are included.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", security(("token" = ["admin"])), params(PageQuery),
    responses((status = 200, body = Page<Token>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<Token>>, ApiError> {
    Ok(Json(tokens::list(&control, &actor, &query.into()).await?))
}

/// Returns a token, without the token itself.
#[utoipa::path(get, path = "/v1/tokens/{id}", tag = "tokens", security(("token" = ["admin"])),
    params(("id" = schema::TokenId, Path)), responses((status = 200, body = Token)))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Token>, ApiError> {
    Ok(Json(tokens::show(&control, &actor, &id).await?))
}

/// Revokes a token.
///
/// No relay accepts the token from now on. It stays in the list, so that it is known whose it was. Revoking a token
/// twice has no effect.
#[utoipa::path(post, path = "/v1/tokens/{id}/revoke", tag = "tokens", security(("token" = ["admin"])),
    params(("id" = schema::TokenId, Path)), responses((status = 200, body = Token)))]
pub(super) async fn revoke(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Token>, ApiError> {
    Ok(Json(tokens::revoke(&control, &actor, &id).await?))
}

/// Returns who the caller is and what it may do.
///
/// Every token may call this.
#[utoipa::path(get, path = "/v1/whoami", tag = "tokens", security(("token" = [])),
    responses((status = 200, body = ShownActor)))]
pub(super) async fn whoami(actor: Actor) -> Json<ShownActor> {
    Json(tokens::whoami(&actor))
}
