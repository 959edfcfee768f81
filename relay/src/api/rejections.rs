//! Rejections: requests that the edge refused, and why.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::input::Params;
use super::problem::{ApiError, Refusals};
use crate::control::page::{Page, PageRequest};
use crate::control::rejections::{self, Rejection, RejectionFilter};
use crate::control::{Actor, Control};

/// Which rejections.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RejectionQuery {
    /// Id or name.
    source: Option<String>,
    /// Stored at or after this time, RFC 3339.
    after: Option<String>,
    /// Stored before this time, RFC 3339.
    before: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A page of rejections, newest first.
#[utoipa::path(get, path = "/v1/rejections", tag = "rejections", params(RejectionQuery),
    responses((status = 200, body = Page<Rejection>), Refusals))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<RejectionQuery>,
) -> Result<Json<Page<Rejection>>, ApiError> {
    let RejectionQuery { source, after, before, limit, cursor } = query;
    let (filter, page) = (RejectionFilter { source, after, before }, PageRequest { limit, cursor });
    Ok(Json(rejections::list(&control, actor, &filter, &page).await?))
}
