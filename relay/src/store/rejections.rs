//! Requests that the edge refused, as the API shows them.

use shared::id::{CustomerId, SourceId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::store::Pool;

/// Refused requests with one cause.
#[derive(Debug, Clone)]
pub struct RejectionRow {
    pub id: Uuid,
    pub source_id: Uuid,
    pub source_name: String,
    pub cause: String,
    pub detail: String,
    pub count: i64,
    pub first_at: OffsetDateTime,
    pub last_at: OffsetDateTime,
    pub size: i64,
    pub remote: String,
}

/// A page of rejections, newest first. `from` and `until` are bounds of the ids, inclusive and exclusive. Those of
/// sources that have been deleted belong to nobody and are left out.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn page(
    pool: &Pool,
    customer: CustomerId,
    source: Option<SourceId>,
    from: Option<Uuid>,
    until: Option<Uuid>,
    limit: i64,
) -> Result<Vec<RejectionRow>, sqlx::Error> {
    let mut search = pool.begin_search().await?;
    sqlx::query_as!(
        RejectionRow,
        "select rejections.id, source_id, sources.name as source_name, cause, detail, count, first_at, last_at, size, remote
         from rejections join sources on sources.id = rejections.source_id
         where sources.customer_id = $1 and ($2::uuid is null or source_id = $2)
           and ($3::uuid is null or rejections.id >= $3) and ($4::uuid is null or rejections.id < $4)
         order by rejections.id desc limit $5",
        customer.uuid(),
        source.map(SourceId::uuid),
        from,
        until,
        limit
    )
    .fetch_all(&mut *search)
    .await
}
