//! Messages that came out of the queue and could not be stored as events. They belong to no customer: whose they are is
//! what could not be read.

use shared::id::QuarantineId;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

/// A quarantined message, without its text.
#[derive(Debug, Clone)]
pub struct SummaryRow {
    pub id: Uuid,
    pub queue_message_id: String,
    pub reason: String,
    pub size: i32,
    pub quarantined_at: OffsetDateTime,
}

/// A quarantined message.
#[derive(Debug, Clone)]
pub struct QuarantineRow {
    pub id: Uuid,
    pub queue_message_id: String,
    pub reason: String,
    pub message: Vec<u8>,
    pub quarantined_at: OffsetDateTime,
}

/// A page of quarantined messages, newest first.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn page(pool: &PgPool, cursor: Option<Uuid>, limit: i64) -> Result<Vec<SummaryRow>, sqlx::Error> {
    sqlx::query_as!(
        SummaryRow,
        r#"select id, queue_message_id, reason, octet_length(message) as "size!", quarantined_at
           from quarantine where ($1::uuid is null or id < $1) order by id desc limit $2"#,
        cursor,
        limit
    )
    .fetch_all(pool)
    .await
}

/// One quarantined message.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn find(pool: &PgPool, id: QuarantineId) -> Result<Option<QuarantineRow>, sqlx::Error> {
    sqlx::query_as!(QuarantineRow, "select * from quarantine where id = $1", id.uuid()).fetch_optional(pool).await
}
