//! Quarantine: messages of the queue that could not be stored as events. They belong to no customer, so only the
//! deployment's own token sees them.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use shared::id::QuarantineId;
use utoipa::ToSchema;

use super::auth::Caller;
use super::input::{Params, Segment};
use super::page::{Page, PageQuery};
use super::problem::{ApiError, Refusals};
use super::time::Timestamp;
use crate::App;
use crate::store::quarantine::{self, SummaryRow};

/// A quarantined message, without its text.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuarantinedMessage {
    #[schema(value_type = String, example = "qtn_0197f3c8d2a17c3e9b5d0a4c6f7e8b91")]
    pub id: QuarantineId,
    /// The queue's own id of it.
    pub queue_message_id: String,
    pub reason: String,
    /// In bytes.
    pub size: i32,
    pub quarantined_at: Timestamp,
}

/// A quarantined message with its text.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuarantinedDetail {
    #[serde(flatten)]
    pub summary: QuarantinedMessage,
    /// What is not UTF-8 in it is shown as U+FFFD.
    pub message: String,
}

/// A page of quarantined messages, newest first.
#[utoipa::path(get, path = "/v1/quarantine", tag = "quarantine", params(PageQuery),
    responses((status = 200, body = Page<QuarantinedMessage>), Refusals))]
pub(super) async fn list(
    State(app): State<App>,
    _: Caller,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<QuarantinedMessage>>, ApiError> {
    let window = query.window()?;
    let rows = quarantine::page(&app.pool, window.cursor, window.fetch()).await?;
    Ok(Json(window.page(rows, |row| row.id, view)))
}

/// One quarantined message with its text.
#[utoipa::path(get, path = "/v1/quarantine/{id}", tag = "quarantine", params(("id" = String, Path)),
    responses((status = 200, body = QuarantinedDetail), Refusals))]
pub(super) async fn show(
    State(app): State<App>,
    _: Caller,
    Segment(id): Segment,
) -> Result<Json<QuarantinedDetail>, ApiError> {
    let id: QuarantineId = id.parse().map_err(|_| ApiError::NotFound("quarantined message"))?;
    let row = quarantine::find(&app.pool, id).await?.ok_or(ApiError::NotFound("quarantined message"))?;
    Ok(Json(QuarantinedDetail {
        message: String::from_utf8_lossy(&row.message).into_owned(),
        summary: view(SummaryRow {
            id: row.id,
            queue_message_id: row.queue_message_id,
            reason: row.reason,
            size: i32::try_from(row.message.len()).unwrap_or(i32::MAX),
            quarantined_at: row.quarantined_at,
        }),
    }))
}

fn view(row: SummaryRow) -> QuarantinedMessage {
    QuarantinedMessage {
        id: QuarantineId::from_uuid(row.id),
        queue_message_id: row.queue_message_id,
        reason: row.reason,
        size: row.size,
        quarantined_at: Timestamp(row.quarantined_at),
    }
}
