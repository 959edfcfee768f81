//! Requests that the edge refused, as the API shows them.

use shared::id::{CustomerId, RejectionId, SourceId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::column::As;
use super::search::{self, Range, Search, remaining};
use crate::{Error, Pool, Result};

/// Refused requests with one cause.
#[derive(Debug, Clone)]
pub struct RejectionRow {
    pub id: RejectionId,
    pub source_id: SourceId,
    pub source_name: String,
    pub cause: String,
    pub detail: String,
    pub count: i64,
    pub first_at: OffsetDateTime,
    pub last_at: OffsetDateTime,
    pub size: i64,
    pub remote: String,
}

/// A search for a page of rejections, newest first. Rejections of deleted sources belong to no customer and are left
/// out.
#[derive(Debug)]
pub struct Page {
    /// `None` for all customers.
    pub customer: Option<CustomerId>,
    pub source: Option<SourceId>,
    /// How many rejections are enough.
    pub limit: i64,
    pub found: Vec<RejectionRow>,
}

impl Search for Page {
    async fn edge(&self, pool: &Pool, range: Range, rows: i64, plain: bool) -> Result<Option<Uuid>> {
        let source = self.source.filter(|_| !plain);
        search::rejections(pool, range, source, rows).await
    }

    async fn look(&mut self, pool: &Pool, range: Range) -> Result<bool> {
        let wanted = remaining(self.limit, self.found.len());
        self.found.extend(page(pool, self.customer, self.source, range, wanted).await?);
        Ok(remaining(self.limit, self.found.len()) == 0)
    }
}

/// The rejections of a range of ids, newest first.
async fn page(
    pool: &Pool,
    customer: Option<CustomerId>,
    source: Option<SourceId>,
    range: Range,
    limit: i64,
) -> Result<Vec<RejectionRow>> {
    let mut search = pool.begin_range().await?;
    sqlx::query_as!(
        RejectionRow,
        r#"select rejections.id as "id!: As<RejectionId>", source_id as "source_id!: As<SourceId>",
                  sources.name as source_name, cause, detail, count, first_at, last_at, size, remote
           from rejections join sources on sources.id = rejections.source_id
           where (sources.customer_id = $1 or $1::uuid is null) and ($2::uuid is null or source_id = $2)
             and rejections.id >= $3 and rejections.id < $4
           order by rejections.id desc limit $5"#,
        customer.map(CustomerId::uuid),
        source.map(SourceId::uuid),
        range.from,
        range.until,
        limit
    )
    .fetch_all(&mut *search)
    .await
    .map_err(Error::from)
}
