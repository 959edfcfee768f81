//! Sources: how the API changes them, and whether the edge has their newest revision.

use std::time::Duration;

use shared::id::{CustomerId, SourceId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, NewEntry};
use super::column::As;
use super::configuration::{Change, Version};
use super::{customers, route_versions};
use crate::{Connection, Error, Pool, Result};

/// How long after a confirmation or a deletion the edge is read back and compared: longer than KV can return an earlier
/// value, which is a minute.
pub const EDGE_CHECK_SOON: Duration = Duration::from_secs(180);

/// The maximum number of sources that are read at once to be written to the edge.
pub const BEHIND_AT_ONCE: usize = 1_000;

/// A source as it is stored.
#[derive(Debug, Clone)]
pub struct SourceRow {
    pub id: SourceId,
    pub customer_id: CustomerId,
    pub name: String,
    pub provider: String,
    pub config: serde_json::Value,
    pub secrets_sealed: String,
    pub retired_secrets_sealed: Option<String>,
    pub revision: i64,
    /// The newest revision that the edge has confirmed.
    pub edge_revision: i64,
    /// Why the edge does not have the newest revision.
    pub edge_error: Option<String>,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
    /// The digest of the sealed text that the edge wrote when it confirmed `edge_revision`.
    pub edge_digest: Option<String>,
    /// When the edge is next compared with this row.
    pub edge_check_at: OffsetDateTime,
}

/// The query for [`SourceRow`]s with these texts before and after its columns.
macro_rules! source_rows {
    ($before:literal + COLUMNS $(+ $after:literal)?, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            SourceRow,
            $before
                + r#" id as "id!: As<SourceId>", customer_id as "customer_id!: As<CustomerId>", name, provider, config,
                      secrets_sealed, retired_secrets_sealed, revision, edge_revision, edge_error, created_at,
                      updated_at, edge_digest, edge_check_at "#
                $(+ $after)?,
            $($argument),*
        )
    };
}
pub(super) use source_rows;

/// The content of a source, except its id and name.
pub struct Content {
    pub provider: String,
    pub config: serde_json::Value,
    pub secrets: SealedSecrets,
}

/// The secrets of a source as they are stored.
pub struct SealedSecrets {
    pub active: String,
    /// `None` if there are none.
    pub retired: Option<String>,
}

/// The result of a change of a source.
pub struct Changed {
    /// The row before the change; `None` if the source is new.
    pub before: Option<SourceRow>,
    pub row: SourceRow,
    pub version: Version,
}

/// Stores a new source.
///
/// # Errors Returns [`Constraint::SourceName`](crate::Constraint) if the name is taken, `SourceLimit` if the customer
/// may have no more sources, or an error if a query fails.
pub async fn insert(
    pool: &Pool,
    customer: CustomerId,
    id: SourceId,
    name: &str,
    content: &Content,
    record: impl FnOnce(Option<&SourceRow>, Option<&SourceRow>) -> NewEntry,
) -> Result<Changed> {
    let mut change = Change::begin(pool).await?;
    let row = insert_in(&mut change, customer, id, name, content).await?;
    audit::record(&mut change, &record(None, Some(&row))).await?;
    Ok(Changed { before: None, row, version: change.commit().await? })
}

/// Changes the source with this id or this name to the content that `plan` makes from its row; no other change runs at
/// the same time. `None` if there is no such source.
///
/// # Errors
/// Returns the error of `plan`, or an error if a query fails.
pub async fn change<E: From<Error>>(
    pool: &Pool,
    customer: CustomerId,
    id: Option<SourceId>,
    name: Option<&str>,
    plan: impl FnOnce(&SourceRow) -> Result<Content, E>,
    record: impl FnOnce(Option<&SourceRow>, Option<&SourceRow>) -> NewEntry,
) -> Result<Option<Changed>, E> {
    let mut change = Change::begin(pool).await?;
    let Some(before) = find_in(&mut change, customer, id, name).await? else { return Ok(None) };
    let content = plan(&before)?;
    let row = update_in(&mut change, before.id, &content).await?;
    audit::record(&mut change, &record(Some(&before), Some(&row))).await?;
    Ok(Some(Changed { before: Some(before), row, version: change.commit().await? }))
}

/// Changes the source with this name, or stores a new one with the id `new`. `plan` is given the id, and the row if
/// there is one; no other change runs at the same time.
///
/// # Errors
/// Returns the error of `plan`, or an error if a query fails.
pub async fn put<E: From<Error>>(
    pool: &Pool,
    customer: CustomerId,
    name: &str,
    new: SourceId,
    plan: impl FnOnce(SourceId, Option<&SourceRow>) -> Result<Content, E>,
    record: impl FnOnce(Option<&SourceRow>, Option<&SourceRow>) -> NewEntry,
) -> Result<Changed, E> {
    let mut change = Change::begin(pool).await?;
    let before = find_in(&mut change, customer, None, Some(name)).await?;
    let id = before.as_ref().map_or(new, |row| row.id);
    let content = plan(id, before.as_ref())?;
    let row = match &before {
        Some(before) => update_in(&mut change, before.id, &content).await?,
        None => insert_in(&mut change, customer, id, name, &content).await?,
    };
    audit::record(&mut change, &record(before.as_ref(), Some(&row))).await?;
    Ok(Changed { before, row, version: change.commit().await? })
}

async fn insert_in(
    connection: &mut Connection,
    customer: CustomerId,
    id: SourceId,
    name: &str,
    content: &Content,
) -> Result<SourceRow> {
    customers::room_for_source(connection, customer).await?;
    source_rows!(
        "insert into sources (id, customer_id, name, provider, config, secrets_sealed, retired_secrets_sealed)
         values ($1, $2, $3, $4, $5, $6, $7)
         returning"
            + COLUMNS,
        id.uuid(),
        customer.uuid(),
        name,
        content.provider,
        content.config,
        content.secrets.active,
        content.secrets.retired
    )
    .fetch_one(connection)
    .await
    .map_err(Error::from)
}

/// Changes a source and raises its revision. Concurrently, other transactions may raise the revision of the source and
/// record the edge's state, but change nothing else.
async fn update_in(connection: &mut Connection, id: SourceId, content: &Content) -> Result<SourceRow> {
    source_rows!(
        "update sources set provider = $2, config = $3, secrets_sealed = $4, retired_secrets_sealed = $5,
                            revision = revision + 1,
                            updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
         where id = $1
         returning"
            + COLUMNS,
        id.uuid(),
        content.provider,
        content.config,
        content.secrets.active,
        content.secrets.retired
    )
    .fetch_one(connection)
    .await
    .map_err(Error::from)
}

/// The source with this id or this name.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn find(
    pool: &Pool,
    customer: CustomerId,
    id: Option<SourceId>,
    name: Option<&str>,
) -> Result<Option<SourceRow>> {
    find_in(&mut pool.acquire().await?, customer, id, name).await
}

async fn find_in(
    connection: &mut Connection,
    customer: CustomerId,
    id: Option<SourceId>,
    name: Option<&str>,
) -> Result<Option<SourceRow>> {
    source_rows!(
        "select" + COLUMNS + "from sources where customer_id = $1 and (id = $2 or name = $3)",
        customer.uuid(),
        id.map(SourceId::uuid),
        name
    )
    .fetch_optional(connection)
    .await
    .map_err(Error::from)
}

/// A page of the sources of a customer, or of all customers, newest first.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn page(
    pool: &Pool,
    customer: Option<CustomerId>,
    cursor: Option<Uuid>,
    limit: i64,
) -> Result<Vec<SourceRow>> {
    source_rows!(
        "select"
            + COLUMNS
            + "from sources where (customer_id = $1 or $1::uuid is null) and ($2::uuid is null or id < $2)
               order by id desc limit $3",
        customer.map(CustomerId::uuid),
        cursor,
        limit
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// Deletes a source at a revision, with its routes. Its events stay, and their pending deliveries are sent as they were
/// routed. The edge's tombstone of that revision is compared from then on. Returns the new version of the
/// configuration; `None` if the source has been changed or deleted in the meantime.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn delete(
    pool: &Pool,
    customer: CustomerId,
    id: SourceId,
    revision: i64,
    entry: &NewEntry,
) -> Result<Option<Version>> {
    let mut change = Change::begin(pool).await?;
    route_versions::keep_before_deletion(&mut change, id.uuid()).await?;
    let deleted = sqlx::query!(
        "with deleted as (
            delete from sources where customer_id = $1 and id = $2 and revision = $3
            returning id, customer_id, name, revision
         )
         insert into deleted_sources (id, customer_id, name, revision, edge_check_at)
         select id, customer_id, name, revision, now() + $4::float8 * interval '1 second' from deleted",
        customer.uuid(),
        id.uuid(),
        revision,
        EDGE_CHECK_SOON.as_secs_f64()
    )
    .execute(&mut *change)
    .await?;
    if deleted.rows_affected() > 0 {
        audit::record(&mut change, entry).await?;
    }
    change.commit_if_any(&deleted).await
}

/// Raises a source's revision to `least` if it is lower, and changes nothing else. A later write to the edge is then
/// newer than any write that is in flight. Returns the row; `None` if it is gone.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn raise_to(pool: &Pool, id: SourceId, least: i64) -> Result<Option<SourceRow>> {
    source_rows!(
        "update sources set revision = greatest(revision, $2) where id = $1 returning" + COLUMNS,
        id.uuid(),
        least
    )
    .fetch_optional(pool)
    .await
    .map_err(Error::from)
}

/// The sources of all customers whose newest revision the edge has not confirmed; at most [`BEHIND_AT_ONCE`].
///
/// # Errors
/// Returns an error if the query fails.
pub async fn behind_edge(pool: &Pool) -> Result<Vec<SourceRow>> {
    source_rows!(
        "select" + COLUMNS + "from sources where edge_revision < revision order by updated_at limit $1",
        i64::try_from(BEHIND_AT_ONCE).unwrap_or(i64::MAX)
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// Records that the edge has written this revision, and when the edge is to be compared with it. If the edge has
/// already confirmed a newer revision, nothing changes.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn edge_confirmed(pool: &Pool, id: SourceId, revision: i64, digest: Option<&str>) -> Result<()> {
    sqlx::query!(
        "update sources set edge_revision = $2, edge_digest = $3, edge_check_at = now() + $4::float8 * interval '1 second',
                            edge_error = case when $2 = revision then null else edge_error end
         where id = $1 and edge_revision <= $2 and revision >= $2",
        id.uuid(),
        revision,
        digest,
        EDGE_CHECK_SOON.as_secs_f64()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Records why the edge does not have this revision.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn edge_failed(pool: &Pool, id: SourceId, revision: i64, error: &str) -> Result<()> {
    sqlx::query!("update sources set edge_error = $3 where id = $1 and edge_revision < $2", id.uuid(), revision, error)
        .execute(pool)
        .await?;
    Ok(())
}
