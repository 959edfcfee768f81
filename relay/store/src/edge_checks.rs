//! When what the edge holds is compared with what it was given, and what becomes of it.

use std::time::Duration;

use shared::id::SourceId;
use uuid::Uuid;

use super::sources::{EDGE_CHECK_SOON, SourceRow};
use crate::{Error, Pool, Result};

/// How long after a comparison without a difference the next one is due.
pub const LATER: Duration = Duration::from_secs(86_400);

/// How long a comparison that is under way keeps others from making it. A replica that dies leaves it due after that.
const CLAIM: Duration = Duration::from_secs(600);

/// How long a deleted source is looked after.
pub const AFTER_DELETION: Duration = Duration::from_secs(7 * 86_400);

/// A comparison that is due and that no other replica makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    Source(SourceId),
    Deleted(SourceId),
}

/// A source that was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedRow {
    pub id: Uuid,
    pub name: String,
    /// Of the tombstone.
    pub revision: i64,
}

/// Claims comparisons that are due, at most `limit` of each kind.
///
/// # Errors
/// The query fails.
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
         select id as "id!", true as "live!" from live union all select id, false from deleted"#,
        limit,
        CLAIM.as_secs_f64()
    )
    .fetch_all(pool)
    .await?;
    let claimed = claimed.into_iter().map(|row| match (SourceId::from_uuid(row.id), row.live) {
        (id, true) => Claimed::Source(id),
        (id, false) => Claimed::Deleted(id),
    });
    Ok(claimed.collect())
}

/// Makes the comparison of every source due within this time: the database may have gone back, and the edge may hold newer
/// revisions.
///
/// # Errors
/// The query fails.
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

/// A source whose newest revision the edge has confirmed; `None` if it is gone, or the edge is behind.
///
/// # Errors
/// The query fails.
pub async fn confirmed_source(pool: &Pool, id: SourceId) -> Result<Option<SourceRow>> {
    sqlx::query_as!(SourceRow, "select * from sources where id = $1 and edge_revision = revision", id.uuid())
        .fetch_optional(pool)
        .await
        .map_err(Error::from)
}

/// A source that was deleted; `None` if it is no longer looked after.
///
/// # Errors
/// The query fails.
pub async fn deleted_source(pool: &Pool, id: SourceId) -> Result<Option<DeletedRow>> {
    sqlx::query_as!(DeletedRow, "select id, name, revision from deleted_sources where id = $1", id.uuid())
        .fetch_optional(pool)
        .await
        .map_err(Error::from)
}

/// Notes that the edge holds a source as it is in this row.
///
/// # Errors
/// The query fails.
pub async fn source_is_held(pool: &Pool, row: &SourceRow) -> Result<()> {
    sqlx::query!(
        "update sources set edge_check_at = now() + $3::float8 * interval '1 second'
         where id = $1 and edge_revision = $2 and edge_check_at = $4",
        row.id,
        row.edge_revision,
        LATER.as_secs_f64(),
        row.edge_check_at
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Notes that the edge does not hold a source as it is in this row, and why, and raises the revision to `least` if that is
/// larger: from then on the edge is behind. Returns the row; `None` if it has changed since, or the edge has confirmed it
/// again.
///
/// # Errors
/// The query fails.
pub async fn source_differs(pool: &Pool, row: &SourceRow, least: i64, difference: &str) -> Result<Option<SourceRow>> {
    sqlx::query_as!(
        SourceRow,
        "update sources set revision = greatest(revision, $4), edge_revision = 0, edge_digest = null, edge_error = $5
         where id = $1 and revision = $2 and edge_revision = revision and edge_digest is not distinct from $3
         returning *",
        row.id,
        row.revision,
        row.edge_digest,
        least,
        difference
    )
    .fetch_optional(pool)
    .await
    .map_err(Error::from)
}

/// Notes that the edge holds nothing of a deleted source. After a week that is the last comparison.
///
/// # Errors
/// The query fails.
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
/// The query fails.
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
