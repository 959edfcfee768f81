//! When the configuration that the edge holds is compared with the one it was given, and how the result is recorded.

use std::time::Duration;

use shared::id::{CustomerId, SourceId};

use super::column::As;
use super::sources::{EDGE_CHECK_SOON, SourceRow, source_rows};
use crate::{Error, Pool, Result};

/// How long after a comparison without a difference the next one is due.
pub const LATER: Duration = Duration::from_secs(86_400);

/// How long a comparison is reserved for the replica that claimed it. If that replica dies, the comparison is due again
/// afterwards.
const CLAIM: Duration = Duration::from_secs(600);

/// How long a deleted source is still compared.
pub const AFTER_DELETION: Duration = Duration::from_secs(7 * 86_400);

/// A due comparison that is reserved for this replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    Source(SourceId),
    Deleted(SourceId),
}

/// A deleted source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedRow {
    pub id: SourceId,
    pub name: String,
    /// The revision of the tombstone.
    pub revision: i64,
}

/// Claims due comparisons, at most `limit` of each kind.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn claim(pool: &Pool, limit: i64) -> Result<Vec<Claimed>> {
    let claimed = sqlx::query!(
        r#"with live as (
            update sources set edge_check_at = now() + $2::float8 * interval '1 second'
            where id in (select id from sources where edge_check_at <= now() and edge_revision = revision
                         order by edge_check_at limit $1 for update skip locked)
            returning id
         ), deleted as (
            update deleted_sources set edge_check_at = now() + $2::float8 * interval '1 second'
            where id in (select id from deleted_sources where edge_check_at <= now()
                         order by edge_check_at limit $1 for update skip locked)
            returning id
         )
         select id as "id!: As<SourceId>", true as "live!" from live union all select id, false from deleted"#,
        limit,
        CLAIM.as_secs_f64()
    )
    .fetch_all(pool)
    .await?;
    let claimed = claimed.into_iter().map(|row| match row.live {
        true => Claimed::Source(row.id.into()),
        false => Claimed::Deleted(row.id.into()),
    });
    Ok(claimed.collect())
}

/// Makes the comparison of every source due within this time. It is called when the database may have gone back to an
/// earlier state, because the edge may then hold newer revisions.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn make_all_due(pool: &Pool, within: Duration) -> Result<()> {
    sqlx::query!(
        "update sources set edge_check_at = now() + random() * $1::float8 * interval '1 second'
         where id in (select id from sources where edge_check_at > now() + $1::float8 * interval '1 second'
                      order by id for update skip locked)",
        within.as_secs_f64()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// A source whose newest revision the edge has confirmed; `None` if it is gone, or if the edge does not have that
/// revision.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn confirmed_source(pool: &Pool, id: SourceId) -> Result<Option<SourceRow>> {
    source_rows!("select" + COLUMNS + "from sources where id = $1 and edge_revision = revision", id.uuid())
        .fetch_optional(pool)
        .await
        .map_err(Error::from)
}

/// A deleted source; `None` if it is no longer compared.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn deleted_source(pool: &Pool, id: SourceId) -> Result<Option<DeletedRow>> {
    sqlx::query_as!(
        DeletedRow,
        r#"select id as "id!: As<SourceId>", name, revision from deleted_sources where id = $1"#,
        id.uuid()
    )
    .fetch_optional(pool)
    .await
    .map_err(Error::from)
}

/// Records that the edge holds a source exactly as in this row.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn source_is_held(pool: &Pool, row: &SourceRow) -> Result<()> {
    sqlx::query!(
        "update sources set edge_check_at = now() + $3::float8 * interval '1 second'
         where id = $1 and edge_revision = $2 and edge_check_at = $4",
        row.id.uuid(),
        row.edge_revision,
        LATER.as_secs_f64(),
        row.edge_check_at
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Records that the edge does not hold a source as in this row, and why, and raises the revision to `least` if that is
/// larger. The edge then counts as behind. Returns the new row; `None` if the row has changed in the meantime, or the
/// edge has confirmed it again.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn source_differs(pool: &Pool, row: &SourceRow, least: i64, difference: &str) -> Result<Option<SourceRow>> {
    source_rows!(
        "update sources set revision = greatest(revision, $4), edge_revision = 0, edge_digest = null, edge_error = $5
         where id = $1 and revision = $2 and edge_revision = revision and edge_digest is not distinct from $3
         returning"
            + COLUMNS,
        row.id.uuid(),
        row.revision,
        row.edge_digest,
        least,
        difference
    )
    .fetch_optional(pool)
    .await
    .map_err(Error::from)
}

/// Records that the edge holds nothing of a deleted source. A week after the deletion this is the last comparison.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn deleted_is_gone(pool: &Pool, id: SourceId) -> Result<()> {
    let mut transaction = pool.begin().await?;
    let over = sqlx::query!(
        "delete from deleted_sources where id = $1 and deleted_at < now() - $2::float8 * interval '1 second'",
        id.uuid(),
        AFTER_DELETION.as_secs_f64()
    )
    .execute(&mut *transaction)
    .await?;
    if over.rows_affected() == 0 {
        sqlx::query!(
            "update deleted_sources set edge_check_at = now() + $2::float8 * interval '1 second' where id = $1",
            id.uuid(),
            LATER.as_secs_f64()
        )
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await
}

/// Raises the revision of a deleted source's tombstone, which is to be written again, and makes the next comparison due
/// soon.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn raise_deleted(pool: &Pool, id: SourceId, revision: i64) -> Result<()> {
    sqlx::query!(
        "update deleted_sources set revision = greatest(revision, $2),
                                    edge_check_at = now() + $3::float8 * interval '1 second'
         where id = $1",
        id.uuid(),
        revision,
        EDGE_CHECK_SOON.as_secs_f64()
    )
    .execute(pool)
    .await?;
    Ok(())
}
