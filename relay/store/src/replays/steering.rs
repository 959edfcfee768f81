//! Pauses and resumes replays, and changes their rates.
//!
//! A paused replay keeps its state in the table. Its next chunk may begin in a thousand years, so no replica begins one,
//! and a chunk that is in progress is not committed.

use std::time::Duration;

use shared::id::ReplayId;

use super::ReplayRow;
use crate::audit::{self, NewEntry};
use crate::{Pool, Result};

/// The result of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steered {
    Done,
    /// Nothing was written, because it was so already.
    Already,
    /// Nothing was written, because the replay has ended.
    Ended,
    /// Nothing was written, because another call has changed the rate in the meantime.
    ChangedMeanwhile,
}

/// Pauses a replay. It waits for a chunk that is being committed; no other chunk follows.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn pause(pool: &Pool, id: ReplayId, entry: &NewEntry) -> Result<Steered> {
    let mut transaction = pool.begin().await?;
    let paused = sqlx::query!(
        "update replays set paused_at = now(), continue_at = next_at, next_at = now() + interval '1000 years',
                            updated_at = now()
         where id = $1 and state = 'running' and paused_at is null",
        id.uuid()
    )
    .execute(&mut *transaction)
    .await?;
    if paused.rows_affected() == 0 {
        return unchanged(pool, id, true).await;
    }
    audit::record(&mut transaction, entry).await?;
    transaction.commit().await?;
    Ok(Steered::Done)
}

/// Resumes a paused replay. Its next chunk begins no earlier than its rate allows.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn resume(pool: &Pool, id: ReplayId, entry: &NewEntry) -> Result<Steered> {
    let mut transaction = pool.begin().await?;
    let resumed = sqlx::query!(
        "update replays set paused_at = null, next_at = greatest(coalesce(continue_at, now()), now()), continue_at = null,
                            updated_at = now()
         where id = $1 and state = 'running' and paused_at is not null",
        id.uuid()
    )
    .execute(&mut *transaction)
    .await?;
    if resumed.rows_affected() == 0 {
        return unchanged(pool, id, false).await;
    }
    audit::record(&mut transaction, entry).await?;
    transaction.commit().await?;
    Ok(Steered::Done)
}

/// Why nothing was written.
async fn unchanged(pool: &Pool, id: ReplayId, wants_pause: bool) -> Result<Steered> {
    let is_so = sqlx::query_scalar!(
        r#"select state = 'running' and (paused_at is not null) = $2 as "is_so!" from replays where id = $1"#,
        id.uuid(),
        wants_pause
    )
    .fetch_optional(pool)
    .await?;
    Ok(if is_so == Some(true) { Steered::Already } else { Steered::Ended })
}

/// Gives a replay another rate, if it still has that of `replay`. Its next chunk begins after `interval`, the time
/// between two deliveries at the new rate, or earlier if the old rate says so.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn set_rate(
    pool: &Pool,
    replay: &ReplayRow,
    (limit, per): (Option<i32>, Option<&str>),
    interval: Duration,
    entry: &NewEntry,
) -> Result<Steered> {
    let mut transaction = pool.begin().await?;
    let found = sqlx::query!(
        r#"select state = 'running' as "is_running!", rate_limit, rate_per from replays where id = $1 for no key update"#,
        replay.id.uuid()
    )
    .fetch_optional(&mut *transaction)
    .await?;
    match found {
        Some(row) if !row.is_running => return Ok(Steered::Ended),
        None => return Ok(Steered::Ended),
        Some(row) if (row.rate_limit, &row.rate_per) != (replay.rate_limit, &replay.rate_per) => {
            return Ok(Steered::ChangedMeanwhile);
        }
        Some(_) => {}
    }
    sqlx::query!(
        "update replays
         set rate_limit = $2, rate_per = $3, updated_at = now(),
             next_at = case when paused_at is null then least(next_at, now() + $4::float8 * interval '1 second')
                            else next_at end,
             continue_at = case when paused_at is not null
                                then least(continue_at, now() + $4::float8 * interval '1 second') end
         where id = $1",
        replay.id.uuid(),
        limit,
        per,
        interval.as_secs_f64()
    )
    .execute(&mut *transaction)
    .await?;
    audit::record(&mut transaction, entry).await?;
    transaction.commit().await?;
    Ok(Steered::Done)
}
