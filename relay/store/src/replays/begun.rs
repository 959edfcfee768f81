//! Which chunks of replays have been begun, and by how many starts that did not end.
//!
//! A begin is committed before the work of its chunk, so that it outlives a relay that is ended by the chunk.
//! [`super::advance`] takes it back in the transaction that moves the cursor. A begin counts only at the cursor that it
//! was made at.

use std::time::Duration;

use uuid::Uuid;

use super::ReplayRow;
use crate::{Pool, Result};

/// Begins a chunk at the replay's cursor and reserves it for `lease`. Returns false if there is nothing to begin: another
/// replica has begun it and its lease has not ended, the cursor has moved, the replay is not due or has ended, or it has
/// been begun `most` times.
///
/// # Errors
/// If the statement fails; then nothing was begun.
pub async fn begin(pool: &Pool, replay: &ReplayRow, most: i16, lease: Duration) -> Result<bool> {
    let begun = sqlx::query!(
        "update replays set begun = case when begun_after is not distinct from cursor_id then begun + 1 else 1 end,
                            begun_after = cursor_id, begun_until = now() + $3::float8 * interval '1 second'
         where id = $1 and state = 'running' and cursor_id is not distinct from $2
           and (begun < $4 or begun_after is distinct from cursor_id)
           and next_at <= now() and (begun_until is null or begun_until <= now())",
        replay.id,
        replay.cursor_id,
        lease.as_secs_f64(),
        most
    )
    .execute(pool)
    .await?;
    Ok(begun.rows_affected() > 0)
}

/// Reserves a chunk that has been begun for `lease` from now on.
///
/// # Errors
/// If the statement fails; the lease then ends when it would have ended.
pub async fn keep(pool: &Pool, replay: &ReplayRow, lease: Duration) -> Result<()> {
    sqlx::query!(
        "update replays set begun_until = now() + $3::float8 * interval '1 second'
         where id = $1 and state = 'running' and cursor_id is not distinct from $2 and begun > 0",
        replay.id,
        replay.cursor_id,
        lease.as_secs_f64()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Takes back the begin of a chunk at `cursor` that was interrupted and is not to blame for it. Does nothing if the
/// cursor has moved since.
///
/// # Errors
/// If the statement fails; it can be called again.
pub async fn give_back(pool: &Pool, id: Uuid, cursor: Option<Uuid>) -> Result<()> {
    sqlx::query!(
        "update replays set begun = begun - 1, begun_until = null
         where id = $1 and state = 'running' and cursor_id is not distinct from $2 and begun > 0",
        id,
        cursor
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Records the error that a chunk ended with. It is not begun again before `pause` is over.
///
/// # Errors
/// If the statement fails; then the begin still counts, without its error.
pub async fn record(pool: &Pool, replay: &ReplayRow, error: &str, pause: Duration) -> Result<()> {
    sqlx::query!(
        "update replays set begun_error = $3, begun_until = now() + $4::float8 * interval '1 second'
         where id = $1 and state = 'running' and cursor_id is not distinct from $2 and begun > 0",
        replay.id,
        replay.cursor_id,
        error,
        pause.as_secs_f64()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Ends a replay as failed if it still stands at the same cursor, has been begun at least `least` times there, and no
/// chunk of it is under way. Returns whether it did.
///
/// # Errors
/// If the statement fails; it can be called again.
pub async fn fail(pool: &Pool, replay: &ReplayRow, least: i16, reason: &str) -> Result<bool> {
    let failed = sqlx::query!(
        "update replays set state = 'failed', finished_at = now(), error = $4
         where id = $1 and state = 'running' and cursor_id is not distinct from $2
           and case when begun_after is not distinct from cursor_id then begun else 0 end >= $3
           and (begun_until is null or begun_until <= now())",
        replay.id,
        replay.cursor_id,
        i32::from(least),
        reason
    )
    .execute(pool)
    .await?;
    Ok(failed.rows_affected() > 0)
}
