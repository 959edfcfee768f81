//! All columns that are sealed with the master key, page by page, and the operation that seals them again.
//!
//! A chunk of that operation is a change of the configuration that no replica has to read: the secrets stay the same,
//! and so do the revisions and `updated_at`. No other change comes between its reads and its writes. It locks the rows
//! as it reads them, in the order of their ids: transactions that are no changes update sources too, and the plan of
//! the update could choose another order.

use std::time::Duration;

use model::operation::OperationKind;
use serde_json::json;
use shared::id::OperationId;
use uuid::Uuid;

use crate::audit::{self, NewEntry};
use crate::configuration::Change;
use crate::operations::{self, New, Next, OperationRow, Place};
use crate::{Error, Pool, Result};

/// A table with sealed columns. It is also a step of the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Sources,
    Destinations,
}

model::names! {
    Table {
        Sources => "sources",
        Destinations => "destinations",
    }
}

/// The sealed columns of a row.
#[derive(Debug, Clone)]
pub struct SealedRow {
    pub id: Uuid,
    /// The secrets of a source, or the signing secrets of a destination.
    pub secrets: String,
    /// The retired secrets of a source, or the static headers of a destination.
    pub more: Option<String>,
}

/// The next rows of all customers, in the order of their ids; locked, if `$lock` says so.
macro_rules! rows {
    ($executor:expr, $table:expr, $after:expr, $limit:expr $(, $lock:literal)?) => {
        match $table {
            Table::Sources => {
                sqlx::query_as!(
                    SealedRow,
                    "select id, secrets_sealed as secrets, retired_secrets_sealed as more from sources
                     where $1::uuid is null or id > $1 order by id limit $2" $(+ $lock)?,
                    $after,
                    $limit
                )
                .fetch_all($executor)
                .await
            }
            Table::Destinations => {
                sqlx::query_as!(
                    SealedRow,
                    "select id, signing_secrets_sealed as secrets, headers_sealed as more from destinations
                     where $1::uuid is null or id > $1 order by id limit $2" $(+ $lock)?,
                    $after,
                    $limit
                )
                .fetch_all($executor)
                .await
            }
        }
        .map_err(Error::from)
    };
}

/// At most `limit` rows of all customers after the id `after`, in the order of their ids.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn page(pool: &Pool, table: Table, after: Option<Uuid>, limit: i64) -> Result<Vec<SealedRow>> {
    rows!(pool, table, after, limit)
}

/// The rows of one chunk, with their values as the first key seals them.
#[derive(Debug, Default)]
pub struct Resealed {
    /// The rows that change, with their new values.
    pub changed: Vec<SealedRow>,
    /// How many values were looked at.
    pub values: i64,
    /// How many of them no key opens.
    pub closed: i64,
}

/// Stores an operation that seals all values again.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn create(
    pool: &Pool,
    id: OperationId,
    record: impl FnOnce(&OperationRow) -> NewEntry,
) -> Result<OperationRow> {
    let mut transaction = pool.begin().await?;
    let total = sqlx::query_scalar!(
        r#"select (select count(secrets_sealed) + count(retired_secrets_sealed) from sources)
                  + (select count(signing_secrets_sealed) + count(headers_sealed) from destinations) as "total!""#
    )
    .fetch_one(&mut *transaction)
    .await?;
    let kind = OperationKind::Reseal;
    let (step, parameters) = (Table::Sources.name(), json!({}));
    let new = New { id, customer: None, kind, step, parameters, total: Some(total), takes: None };
    let row = operations::insert_in(&mut transaction, &new).await?;
    audit::record(&mut transaction, &record(&row)).await?;
    transaction.commit().await?;
    Ok(row)
}

/// Seals the next rows of a table again, as `reseal` does. Does nothing if another replica does. After the last one of
/// all the operation ends: as failed if no key opens some of the values, with the error that `failed` makes of their
/// number.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written, or the response to the commit was lost.
pub async fn reseal(
    pool: &Pool,
    place: &Place,
    table: Table,
    limit: i64,
    reseal: impl FnOnce(Vec<SealedRow>) -> Resealed,
    failed: impl FnOnce(i64) -> String,
) -> Result<()> {
    let mut change = Change::begin(pool).await?;
    if !operations::lock(&mut change, place).await? {
        return Ok(());
    }
    let page = rows!(&mut *change, table, place.cursor, limit, " for no key update")?;
    let is_full = i64::try_from(page.len()).is_ok_and(|count| count >= limit);
    let cursor = page.last().filter(|_| is_full).map(|row| row.id);
    let resealed = reseal(page);
    write(&mut change, table, &resealed.changed).await?;
    // A table that is done leads to the next one.
    let step = if cursor.is_some() { table } else { Table::Destinations };
    let (processed, closed) = (resealed.values, resealed.closed);
    let next = Next { step: step.name(), cursor, processed, failed: closed, wait: Duration::ZERO };
    operations::advance(&mut change, place.id, &next).await?;
    if cursor.is_none() && table == Table::Destinations {
        let closed = place.failed + closed;
        let error = (closed > 0).then(|| failed(closed));
        operations::finish(&mut change, place.id, 0, error.as_deref()).await?;
    }
    change.commit_unchanged().await
}

async fn write(change: &mut Change, table: Table, rows: &[SealedRow]) -> Result<()> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let secrets: Vec<&str> = rows.iter().map(|row| row.secrets.as_str()).collect();
    let more: Vec<Option<&str>> = rows.iter().map(|row| row.more.as_deref()).collect();
    match table {
        Table::Sources => sqlx::query!(
            "update sources set secrets_sealed = sealed.secrets, retired_secrets_sealed = sealed.more
             from unnest($1::uuid[], $2::text[], $3::text[]) as sealed (id, secrets, more) where sources.id = sealed.id",
            &ids,
            &secrets as &[&str],
            &more as &[Option<&str>]
        ),
        Table::Destinations => sqlx::query!(
            "update destinations set signing_secrets_sealed = sealed.secrets, headers_sealed = sealed.more
             from unnest($1::uuid[], $2::text[], $3::text[]) as sealed (id, secrets, more)
             where destinations.id = sealed.id",
            &ids,
            &secrets as &[&str],
            &more as &[Option<&str>]
        ),
    }
    .execute(&mut **change)
    .await?;
    Ok(())
}
