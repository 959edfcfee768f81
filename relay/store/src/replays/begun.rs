//! Which chunks of replays have been begun, and how many times without finishing.
//!
//! The start of a chunk is committed before the work on it, so that it survives a crash that the chunk causes.
//! [`super::advance`] resets the count of starts in the transaction that moves the cursor. Starts count only at the
//! cursor at which they were made.

use std::time::Duration;

use shared::id::ReplayId;
use uuid::Uuid;

use super::ReplayRow;
use crate::{Pool, Result};

/// Begins a chunk at the replay's cursor and reserves it for `lease`. Returns false if there is nothing to begin:
/// another replica has begun it and its lease has not expired, the cursor has moved, the replay is not due or has
/// ended, or the chunk has been begun `most` times.
///
/// # Errors
/// Returns an error if the query fails; then nothing was begun.
pub async fn begin(pool: &Pool, replay: &ReplayRow, most: i16, lease: Duration) -> Result<bool> {
    let begun = sqlx::query!(
        "update replays set begun = case when begun_after is not distinct from cursor_id then begun + 1 else 1 end,
                            begun_after = cursor_id, begun_until = now() + $3::float8 * interval '1 second'
         where id = $1 and state = 'running' and cursor_id is not distinct from $2
           and (begun < $4 or begun_after is distinct from cursor_id)
           and next_at <= now() and (begun_until is null or begun_until <= now())",
        replay.id.uuid(),
        replay.cursor_id,
        lease.as_secs_f64(),
        most
    )
    .execute(pool)
    .await?;
    Ok(begun.rows_affected() > 0)
}

/// Reserves a chunk that has been begun, for `lease` from now on.
///
/// # Errors
/// Returns an error if the query fails; the lease then keeps its earlier end.
pub async fn keep(pool: &Pool, replay: &ReplayRow, lease: Duration) -> Result<()> {
    sqlx::query!(
        "update replays set begun_until = now() + $3::float8 * interval '1 second'
         where id = $1 and state = 'running' and cursor_id is not distinct from $2 and begun > 0",
        replay.id.uuid(),
        replay.cursor_id,
        lease.as_secs_f64()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Takes back the start of a chunk at `cursor` that was interrupted for a reason other than the chunk itself. Does
/// nothing if the cursor has moved since.
///
/// # Errors
/// Returns an error if the query fails; it can be called again.
pub async fn give_back(pool: &Pool, id: ReplayId, cursor: Option<Uuid>) -> Result<()> {
    sqlx::query!(
        "update replays set begun = begun - 1, begun_until = null
         where id = $1 and state = 'running' and cursor_id is not distinct from $2 and begun > 0",
        id.uuid(),
        cursor
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Records the error with which a chunk ended. It is not begun again before `pause` has passed.
///
/// # Errors
/// Returns an error if the query fails; then the start still counts, without its error.
pub async fn record(pool: &Pool, replay: &ReplayRow, error: &str, pause: Duration) -> Result<()> {
    sqlx::query!(
        "update replays set begun_error = $3, begun_until = now() + $4::float8 * interval '1 second'
         where id = $1 and state = 'running' and cursor_id is not distinct from $2 and begun > 0",
        replay.id.uuid(),
        replay.cursor_id,
        error,
        pause.as_secs_f64()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Ends a replay as failed if its cursor has not moved, it has been begun at least `least` times there, and no chunk of
/// it is in progress. Returns whether it did.
///
/// # Errors
/// Returns an error if the query fails; it can be called again.
pub async fn fail(pool: &Pool, replay: &ReplayRow, least: i16, reason: &str) -> Result<bool> {
    let failed = sqlx::query!(
        "update replays set state = 'failed', finished_at = now(), error = $4
         where id = $1 and state = 'running' and cursor_id is not distinct from $2
           and case when begun_after is not distinct from cursor_id then begun else 0 end >= $3
           and (begun_until is null or begun_until <= now())",
        replay.id.uuid(),
        replay.cursor_id,
        i32::from(least),
        reason
    )
    .execute(pool)
    .await?;
    Ok(failed.rows_affected() > 0)
}
