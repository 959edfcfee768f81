//! The audit log: who changed what, and who read what they are not bound to.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::input::Params;
use super::problem::ApiError;
use crate::control::audit::{self, Action, AuditEntry, AuditFilter};
use crate::control::page::{Page, PageRequest};
use crate::control::time::Timestamp;
use crate::control::{Actor, Control, schema};

/// Query parameters of `GET /v1/audit`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only entries about the customer with this id or name, or about what it owns. Use the id if the customer is
    /// deleted.
    #[param(value_type = Option<schema::CustomerReference>)]
    customer: Option<String>,
    /// Only entries of this actor: the id of a token, which includes what its sessions did, or `root` or `relay`; or
    /// the issuer and the subject of a user of the OpenID Connect provider, with a space between them.
    #[param(example = "root", max_length = 1000)]
    actor: Option<String>,
    /// Only entries with this action.
    action: Option<Action>,
    /// Only entries about the object with this id.
    #[param(value_type = Option<schema::AuditObjectId>)]
    object: Option<String>,
    /// Only entries of the request with this `x-request-id`.
    #[param(max_length = 100)]
    request_id: Option<String>,
    /// Only entries at or after this time (RFC 3339).
    #[param(value_type = Option<Timestamp>)]
    after: Option<String>,
    /// Only entries before this time (RFC 3339).
    #[param(value_type = Option<Timestamp>)]
    before: Option<String>,
    /// The maximum number of items on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<schema::PageCursor>)]
    cursor: Option<String>,
}

/// Lists the entries of the audit log, newest first.
///
/// Each change of the configuration, each token, each retry, release, replay and cancellation has an entry, and so have
/// a revealed signing secret and, once per token, event and hour, a body that a token reads that is not bound to a
/// customer. The token must not be bound to a customer.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", security(("token" = ["read"])), params(AuditQuery),
    responses((status = 200, body = Page<AuditEntry>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<AuditQuery>,
) -> Result<Json<Page<AuditEntry>>, ApiError> {
    let AuditQuery { customer, actor: by, action, object, request_id, after, before, limit, cursor } = query;
    let filter = AuditFilter { customer, actor: by, action, object, request_id, after, before };
    Ok(Json(audit::list(&control, &actor, filter, &PageRequest { limit, cursor }).await?))
}
