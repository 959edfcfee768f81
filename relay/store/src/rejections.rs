//! Requests that the edge refused, as the API shows them.

use shared::id::{CustomerId, RejectionId, SourceId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::column::As;
use super::own;
use super::search::{self, Range, Search, remaining};
use crate::{Pool, Result};

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
    customer: Option<CustomerId>,
    /// The sources by whose index the rejections are read. `None` to read among all rejections.
    sources: Option<Vec<SourceId>>,
    /// How many rejections are enough.
    limit: i64,
    pub found: Vec<RejectionRow>,
}

impl Page {
    /// A search that has found nothing yet. `customer` is `None` for all customers; `limit` is how many rejections are
    /// enough.
    ///
    /// # Errors
    /// Returns an error if the query for the customer's sources fails.
    pub async fn begin(
        pool: &Pool,
        customer: Option<CustomerId>,
        source: Option<SourceId>,
        limit: i64,
    ) -> Result<Self> {
        let sources = match (source, customer) {
            (Some(source), _) => Some(vec![source]),
            (None, Some(customer)) => own::sources(pool, customer).await?,
            (None, None) => None,
        };
        Ok(Self { customer, sources, limit, found: Vec::new() })
    }
}

/// The rejections of a range of ids, newest first. `$owned` has a row for each source whose rejections are read by its
/// index, with the condition `$of_owned`.
macro_rules! rejection_page {
    ($owned:literal, $of_owned:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            RejectionRow,
            r#"select rejections.id as "id!: As<RejectionId>", source_id as "source_id!: As<SourceId>",
                      sources.name as source_name, cause, detail, count, first_at, last_at, size, remote
               from "# + $owned + r#" owned (id) cross join lateral (
                   select rejections.*
                   from rejections join sources on sources.id = rejections.source_id
                   where "# + $of_owned + r#" and (sources.customer_id = $1 or $1::uuid is null)
                     and rejections.id >= $2 and rejections.id < $3
                   order by rejections.id desc limit $4
               ) rejections join sources on sources.id = rejections.source_id
               order by rejections.id desc limit $4"#,
            $($argument),*
        )
    };
}

impl Search for Page {
    async fn edge(&self, pool: &Pool, range: Range, rows: i64, plain: bool) -> Result<Option<Uuid>> {
        let sources = self.sources.as_deref().filter(|_| !plain);
        search::rejections(pool, range, sources, rows).await
    }

    async fn look(&mut self, pool: &Pool, range: Range) -> Result<bool> {
        let wanted = remaining(self.limit, self.found.len());
        let customer = self.customer.map(CustomerId::uuid);
        let mut search = pool.begin_range().await?;
        let found = match &self.sources {
            Some(sources) => {
                let sources: Vec<Uuid> = sources.iter().map(|source| source.uuid()).collect();
                rejection_page!(
                    "unnest($5::uuid[])",
                    "source_id = owned.id",
                    customer,
                    range.from,
                    range.until,
                    wanted,
                    &sources
                )
                .fetch_all(&mut *search)
                .await
            }
            None => {
                rejection_page!("(values (null::uuid))", "true", customer, range.from, range.until, wanted)
                    .fetch_all(&mut *search)
                    .await
            }
        };
        self.found.extend(found?);
        Ok(remaining(self.limit, self.found.len()) == 0)
    }
}

/// The source of a rejection.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn source_of(pool: &Pool, id: RejectionId) -> Result<Option<SourceId>> {
    let source = sqlx::query_scalar!("select source_id from rejections where id = $1", id.uuid());
    Ok(source.fetch_optional(pool).await?.map(SourceId::from_uuid))
}
