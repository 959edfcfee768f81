//! Rejections: counts of requests that were not stored as events, by source and cause.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::input::Params;
use super::problem::ApiError;
use crate::control::page::{Page, PageRequest};
use crate::control::rejections::{self, Rejection, RejectionFilter};
use crate::control::time::Timestamp;
use crate::control::{Actor, Control, schema};

/// Query parameters of `GET /v1/rejections`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RejectionQuery {
    /// Only rejections of the source with this id or name.
    #[param(value_type = Option<schema::SourceReference>)]
    source: Option<String>,
    /// Only rejections that were stored at or after this time (RFC 3339).
    #[param(value_type = Option<Timestamp>)]
    after: Option<String>,
    /// Only rejections that were stored before this time (RFC 3339).
    #[param(value_type = Option<Timestamp>)]
    before: Option<String>,
    /// The maximum number of items on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<schema::PageCursor>)]
    cursor: Option<String>,
}

/// Lists rejections, newest first.
#[utoipa::path(get, path = "/v1/rejections", tag = "rejections", security(("token" = ["read"])), params(RejectionQuery),
    responses((status = 200, body = Page<Rejection>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<RejectionQuery>,
) -> Result<Json<Page<Rejection>>, ApiError> {
    let RejectionQuery { source, after, before, limit, cursor } = query;
    let (filter, page) = (RejectionFilter { source, after, before }, PageRequest { limit, cursor });
    Ok(Json(rejections::list(&control, &actor, &filter, &page).await?))
}
