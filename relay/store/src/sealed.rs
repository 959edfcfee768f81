//! All columns that are sealed with the master key, page by page, and the operation that seals them again.
//!
//! A chunk of that operation is a change of the configuration that no replica has to read: the secrets stay the same, and
//! so do the revisions and `updated_at`. No other change comes between its reads and its writes. It locks the rows as it reads
//! them, in the order of their ids: transactions that are no changes update sources too, and the plan of the update could
//! choose another order.

use model::operation::OperationKind;
use serde_json::json;
use shared::id::{DestinationId, OperationId, SourceId};
use uuid::Uuid;

use crate::audit::{self, NewEntry};
use crate::column::As;
use crate::configuration::Change;
use crate::operations::{self, New, Next, OperationRow, Place};
use crate::{Connection, Error, Pool, Result};

/// The sealed columns of a source.
#[derive(Debug, Clone)]
pub struct SealedSource {
    pub id: SourceId,
    pub secrets_sealed: String,
    pub retired_secrets_sealed: Option<String>,
}

/// The sealed columns of a destination.
#[derive(Debug, Clone)]
pub struct SealedDestination {
    pub id: DestinationId,
    pub signing_secrets_sealed: String,
    pub headers_sealed: Option<String>,
}

/// At most 1,000 sources of all customers after the id `after`, in the order of their ids.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn sources(pool: &Pool, after: Option<SourceId>) -> Result<Vec<SealedSource>> {
    sqlx::query_as!(
        SealedSource,
        r#"select id as "id!: As<SourceId>", secrets_sealed, retired_secrets_sealed from sources
           where $1::uuid is null or id > $1 order by id limit 1000"#,
        after.map(SourceId::uuid)
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// At most 1,000 destinations of all customers after the id `after`, in the order of their ids.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn destinations(pool: &Pool, after: Option<DestinationId>) -> Result<Vec<SealedDestination>> {
    sqlx::query_as!(
        SealedDestination,
        r#"select id as "id!: As<DestinationId>", signing_secrets_sealed, headers_sealed from destinations
           where $1::uuid is null or id > $1 order by id limit 1000"#,
        after.map(DestinationId::uuid)
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// The first step of the operation that seals all values again.
pub const SOURCES: &str = "sources";

/// Its second step.
pub const DESTINATIONS: &str = "destinations";

/// The rows of one chunk, with their values as the first key seals them.
#[derive(Debug, Default)]
pub struct Resealed<T> {
    /// The rows that change, with their new values.
    pub changed: Vec<T>,
    /// How many values were looked at.
    pub values: i64,
    /// How many of them no key opens.
    pub closed: i64,
}

/// Stores an operation that seals all values again.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn create(pool: &Pool, id: OperationId, entry: &NewEntry) -> Result<OperationRow> {
    let mut transaction = pool.begin().await?;
    let total = sqlx::query_scalar!(
        r#"select (select count(secrets_sealed) + count(retired_secrets_sealed) from sources)
                  + (select count(signing_secrets_sealed) + count(headers_sealed) from destinations) as "total!""#
    )
    .fetch_one(&mut *transaction)
    .await?;
    let kind = OperationKind::Reseal;
    let new = New { id, customer: None, kind, step: SOURCES, parameters: json!({}), total: Some(total) };
    let row = operations::insert_in(&mut transaction, &new).await?;
    audit::record(&mut transaction, entry).await?;
    transaction.commit().await?;
    Ok(row)
}

/// Seals the next sources again, as `reseal` does. Does nothing if another replica does.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written, or the response to the commit was lost.
pub async fn reseal_sources(
    pool: &Pool,
    place: &Place,
    limit: i64,
    reseal: impl FnOnce(Vec<SealedSource>) -> Resealed<SealedSource>,
) -> Result<()> {
    let mut change = Change::begin(pool).await?;
    if !operations::lock(&mut change, place).await? {
        return Ok(());
    }
    let page = sqlx::query_as!(
        SealedSource,
        r#"select id as "id!: As<SourceId>", secrets_sealed, retired_secrets_sealed from sources
           where $1::uuid is null or id > $1 order by id limit $2 for no key update"#,
        place.cursor,
        limit
    )
    .fetch_all(&mut *change)
    .await?;
    let (count, last) = (page.len(), page.last().map(|row| row.id.uuid()));
    let resealed = reseal(page);
    let ids: Vec<Uuid> = resealed.changed.iter().map(|row| row.id.uuid()).collect();
    let secrets: Vec<&str> = resealed.changed.iter().map(|row| row.secrets_sealed.as_str()).collect();
    let retired: Vec<Option<&str>> = resealed.changed.iter().map(|row| row.retired_secrets_sealed.as_deref()).collect();
    sqlx::query!(
        "update sources set secrets_sealed = sealed.secrets, retired_secrets_sealed = sealed.retired
         from unnest($1::uuid[], $2::text[], $3::text[]) as sealed (id, secrets, retired) where sources.id = sealed.id",
        &ids,
        &secrets as &[&str],
        &retired as &[Option<&str>]
    )
    .execute(&mut *change)
    .await?;
    move_to(&mut change, place, &resealed, (SOURCES, last.filter(|_| is_full(count, limit)))).await?;
    change.commit_unchanged().await
}

/// Seals the next destinations again, as `reseal` does. Does nothing if another replica does. After the last one the
/// operation ends: as failed if no key opens some of the values, with the error that `failed` makes of their number.
///
/// # Errors
/// As [`reseal_sources`].
pub async fn reseal_destinations(
    pool: &Pool,
    place: &Place,
    limit: i64,
    reseal: impl FnOnce(Vec<SealedDestination>) -> Resealed<SealedDestination>,
    failed: impl FnOnce(i64) -> String,
) -> Result<()> {
    let mut change = Change::begin(pool).await?;
    if !operations::lock(&mut change, place).await? {
        return Ok(());
    }
    let page = sqlx::query_as!(
        SealedDestination,
        r#"select id as "id!: As<DestinationId>", signing_secrets_sealed, headers_sealed from destinations
           where $1::uuid is null or id > $1 order by id limit $2 for no key update"#,
        place.cursor,
        limit
    )
    .fetch_all(&mut *change)
    .await?;
    let (count, last) = (page.len(), page.last().map(|row| row.id.uuid()));
    let resealed = reseal(page);
    let ids: Vec<Uuid> = resealed.changed.iter().map(|row| row.id.uuid()).collect();
    let secrets: Vec<&str> = resealed.changed.iter().map(|row| row.signing_secrets_sealed.as_str()).collect();
    let headers: Vec<Option<&str>> = resealed.changed.iter().map(|row| row.headers_sealed.as_deref()).collect();
    sqlx::query!(
        "update destinations set signing_secrets_sealed = sealed.secrets, headers_sealed = sealed.headers
         from unnest($1::uuid[], $2::text[], $3::text[]) as sealed (id, secrets, headers)
         where destinations.id = sealed.id",
        &ids,
        &secrets as &[&str],
        &headers as &[Option<&str>]
    )
    .execute(&mut *change)
    .await?;
    let cursor = last.filter(|_| is_full(count, limit));
    move_to(&mut change, place, &resealed, (DESTINATIONS, cursor)).await?;
    if cursor.is_none() {
        let closed = place.failed + resealed.closed;
        let error = (closed > 0).then(|| failed(closed));
        operations::finish(&mut change, place.id, 0, error.as_deref()).await?;
    }
    change.commit_unchanged().await
}

fn is_full(count: usize, limit: i64) -> bool {
    i64::try_from(count).is_ok_and(|count| count >= limit)
}

/// Moves the operation to a place, or if that has no cursor to the step after it.
async fn move_to<T>(
    connection: &mut Connection,
    place: &Place,
    resealed: &Resealed<T>,
    (step, cursor): (&'static str, Option<Uuid>),
) -> Result<()> {
    let step = if cursor.is_none() { DESTINATIONS } else { step };
    let (processed, failed) = (resealed.values, resealed.closed);
    let next = Next { step, cursor, processed, failed, wait: std::time::Duration::ZERO };
    operations::advance(connection, place.id, &next).await
}
