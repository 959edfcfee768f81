//! Rejections: requests that the edge refused, and why.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use shared::id::{RejectionId, SourceId};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::input::Params;
use super::page::{Page, Window};
use super::problem::{ApiError, Problems, Refusals};
use super::sources;
use super::time::{Timestamp, id_range};
use crate::App;
use crate::store::rejections::{self, RejectionRow};

/// Requests to a source that were refused for the same cause.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rejection {
    #[schema(value_type = String, example = "rej_0197f3c8d2a17c3e9b5d0a4c6f7e8b91")]
    pub id: RejectionId,
    #[schema(value_type = String)]
    pub source_id: SourceId,
    /// The source's name.
    pub source: String,
    /// A stable code.
    pub cause: String,
    /// What is known, for the source's owner; the sender was told nothing of it.
    pub detail: String,
    /// How many requests this stands for.
    pub count: i64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// The size in bytes of one of them.
    pub size: i64,
    /// Where it came from.
    pub remote: String,
}

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
    State(app): State<App>,
    caller: Caller,
    Params(query): Params<RejectionQuery>,
) -> Result<Json<Page<Rejection>>, ApiError> {
    let mut problems = Problems::default();
    let window = Window::read(query.limit, query.cursor.as_deref(), &mut problems);
    let range = id_range(query.after.as_deref(), query.before.as_deref(), window, &mut problems);
    let source = sources::id_of(&app, caller.customer, "source", query.source.as_deref(), &mut problems).await?;
    problems.finish()?;
    let mut search = rejections::Page { customer: caller.customer, source, limit: window.fetch(), found: Vec::new() };
    let ended = window.search(&app, &mut search, range).await?;
    Ok(Json(window.found(ended, search.found, |row| row.id, view)))
}

fn view(row: RejectionRow) -> Rejection {
    Rejection {
        id: RejectionId::from_uuid(row.id),
        source_id: SourceId::from_uuid(row.source_id),
        source: row.source_name,
        cause: row.cause,
        detail: row.detail,
        count: row.count,
        first_at: Timestamp(row.first_at),
        last_at: Timestamp(row.last_at),
        size: row.size,
        remote: row.remote,
    }
}
