//! Await tokens: with which a browser awaits one job.

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};

use super::auth;
use super::input::Body;
use super::problem::ApiError;
use crate::control::await_tokens::{self, AwaitToken, NewAwaitToken};
use crate::control::{Actor, Control};

/// Makes an await token, with which a browser awaits one job.
///
/// The token allows nothing but `GET /v1/await/{source}/{key}` for this job, and shows only the fields of the body that
/// `expose` in the `config` of the source names. It is accepted as the parameter `token` or as a bearer token, and ends
/// with the token with which it was made. It is not stored, and making one changes nothing. A session cannot make one.
#[utoipa::path(post, path = "/v1/await-tokens", tag = "await-tokens", security(("token" = ["bodies"])),
    request_body = NewAwaitToken, responses((status = 201, body = AwaitToken)))]
pub(super) async fn create(
    State(control): State<Control>,
    actor: Actor,
    headers: HeaderMap,
    Body(new): Body<NewAwaitToken>,
) -> Result<(StatusCode, Json<AwaitToken>), ApiError> {
    let with = auth::token(&headers).unwrap_or_default();
    Ok((StatusCode::CREATED, Json(await_tokens::create(&control, &actor, with, new).await?)))
}
