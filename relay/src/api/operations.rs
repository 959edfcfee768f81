//! Operations: bulk work in the background.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use model::operation::{OperationKind, OperationState};
use serde::Deserialize;
use utoipa::IntoParams;

use super::input::{Body, Params, Segment};
use super::problem::{ApiError, Conflicts};
use crate::control::operations::{self, Made, NewOperation, Operation, OperationFilter, OperationPlan};
use crate::control::page::{Page, PageRequest};
use crate::control::{Actor, Control, schema};

/// Query parameters of `GET /v1/operations`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OperationQuery {
    /// Only operations of this kind.
    #[param(value_type = Option<schema::OperationKind>)]
    kind: Option<OperationKind>,
    /// Only operations in this state.
    #[param(value_type = Option<schema::OperationState>)]
    state: Option<OperationState>,
    /// The maximum number of items on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<schema::PageCursor>)]
    cursor: Option<String>,
}

/// Creates an operation or, if `dry_run` is true, says what it would do.
///
/// `retry_deliveries`, `cancel_deliveries` and `release_deliveries` change the deliveries that `deliveries` selects, the
/// newest first. They take deliveries that were created before the call and match when the operation comes to them. A
/// retry does not take deliveries that settled after the call, and a release none that were held after it. Deliveries
/// that become due are sent like all others, at the rate of their destination, and not before them like after
/// `POST /v1/deliveries/{id}/retry`.
///
/// `release_events` creates a replay of the events in quarantine that `events` selects, and shows it as an operation.
///
/// `reseal` encrypts every stored secret with the first key in `TIDEGATE_MASTER_KEY`, and needs the scope `admin` and a
/// token that is bound to no customer. Start it after every relay has been restarted with the new key. If no key
/// decrypts some of the values, the operation ends as `failed` and all others are encrypted again.
#[utoipa::path(post, path = "/v1/operations", tag = "operations", security(("token" = ["replay"])),
    request_body = NewOperation,
    responses(
        (status = 202, body = Operation, description = "Accepted. The operation runs in the background."),
        (status = 200, body = OperationPlan, description = "Dry run: what would be changed. Nothing was changed."),
        Conflicts,
    ))]
pub(super) async fn create(
    State(control): State<Control>,
    actor: Actor,
    Body(new): Body<NewOperation>,
) -> Result<Response, ApiError> {
    Ok(match operations::create(&control, &actor, new).await? {
        Made::Operation(operation) => (StatusCode::ACCEPTED, Json(operation)).into_response(),
        Made::Plan(plan) => Json(plan).into_response(),
    })
}

/// Lists operations of all kinds, replays among them, newest first.
///
/// A token that is bound to a customer sees the operations of that customer, and any other token all of them.
#[utoipa::path(get, path = "/v1/operations", tag = "operations", security(("token" = ["read"])), params(OperationQuery),
    responses((status = 200, body = Page<Operation>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<OperationQuery>,
) -> Result<Json<Page<Operation>>, ApiError> {
    let OperationQuery { kind, state, limit, cursor } = query;
    let (filter, page) = (OperationFilter { kind, state }, PageRequest { limit, cursor });
    Ok(Json(operations::list(&control, &actor, filter, &page).await?))
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

/// Cancels an operation that changes deliveries, or a replay.
///
/// The chunk that is in progress is finished, and what the operation has done is kept. A replay is cancelled as by
/// `POST /v1/replays/{id}/cancel`, with its deliveries. `delete_customer` and `reseal` cannot be cancelled.
#[utoipa::path(post, path = "/v1/operations/{id}/cancel", tag = "operations", security(("token" = ["replay"])),
    params(("id" = schema::OperationId, Path)),
    responses((status = 200, body = Operation), Conflicts))]
pub(super) async fn cancel(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Json<Operation>, ApiError> {
    Ok(Json(operations::cancel(&control, &actor, &id).await?))
}
