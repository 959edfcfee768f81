//! Operations: bulk work in the background.

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::conditions;
use super::input::{Body, Params, Segment};
use super::problem::ApiError;
use super::query::PageQuery;
use crate::control::operations::{self, NewOperation, Operation};
use crate::control::page::Page;
use crate::control::{Actor, Control, schema};

/// Creates an operation of the deployment.
///
/// `reseal` encrypts every stored secret with the first key in `TIDEGATE_MASTER_KEY`. Start it after every relay has
/// been restarted with the new key. If no key decrypts some of the values, the operation ends as `failed` and all
/// others are encrypted again.
#[utoipa::path(post, path = "/v1/operations", tag = "operations", security(("token" = ["admin"])),
    request_body = NewOperation,
    responses((status = 202, body = Operation, description = "Accepted. The operation runs in the background.")))]
pub(super) async fn create(
    State(control): State<Control>,
    actor: Actor,
    Body(new): Body<NewOperation>,
) -> Result<Response, ApiError> {
    conditions::made(operations::create(&control, &actor, new).await)
}

/// Lists operations, newest first.
///
/// A token that is bound to a customer sees the operations of that customer, and any other token all of them.
#[utoipa::path(get, path = "/v1/operations", tag = "operations", security(("token" = ["read"])), params(PageQuery),
    responses((status = 200, body = Page<Operation>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<Operation>>, ApiError> {
    Ok(Json(operations::list(&control, &actor, &query.into()).await?))
}

/// Returns an operation and its progress.
#[utoipa::path(get, path = "/v1/operations/{id}", tag = "operations", security(("token" = ["read"])),
    params(("id" = schema::OperationId, Path)), responses((status = 200, body = Operation)))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Operation>, ApiError> {
    Ok(Json(operations::show(&control, &actor, &id).await?))
}
