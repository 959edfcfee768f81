//! Signals of cancelled deliveries, for the engines of all replicas: each engine drops the deliveries from its memory.
//!
//! A signal is written in the transaction that cancels. A replica reads new signals after a scan
//! ([`super::pending::next_due`]) has reported them, and remembers a [`Position`]. Signals become visible in the order
//! in which their transactions commit, and neither their ids nor their times reflect that order. So the position is the
//! oldest transaction that was still running at the last scan. All signals of earlier transactions have been read.
//! Signals of later transactions that have been read are remembered by their ids.

use std::collections::BTreeMap;

use model::signal::Signal;
use shared::id::{DeliveryId, DestinationId, ReplayId};

use crate::{Pool, Result};

/// The most signals that one statement reads.
pub const AT_ONCE: i64 = 1_000;

/// How long signals are kept, in seconds. A replica that reads no signals for this long has lost its shards, and with
/// them all deliveries in its memory.
pub const KEPT_S: f64 = 3_600.0;

/// How far a replica has read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// All signals of transactions before this one have been read. `None` before the first scan: a replica that starts
    /// needs no old signals.
    from: Option<i64>,
    /// Signals of later transactions that have been read, by their ids, each with its transaction.
    seen: BTreeMap<i64, i64>,
}

impl Position {
    /// The first transaction whose signals may be new.
    #[must_use]
    pub fn from(&self) -> i64 {
        self.from.unwrap_or(i64::MAX)
    }

    /// The ids of the signals since that transaction that have been read.
    #[must_use]
    pub fn seen(&self) -> Vec<i64> {
        self.seen.keys().copied().collect()
    }

    /// Moves the position after a scan that has found no new signals. `horizon` is the oldest transaction that was
    /// running then.
    pub fn move_to(&mut self, horizon: i64) {
        // The horizon goes back if the database was restored.
        if self.from.is_some_and(|from| horizon < from) {
            self.seen.clear();
        }
        self.from = Some(horizon);
        self.seen.retain(|_, written_by| *written_by >= horizon);
    }

    fn saw(&mut self, id: i64, written_by: i64) {
        self.seen.insert(id, written_by);
    }
}

/// The position at which a replica that starts begins to read.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn begin(pool: &Pool) -> Result<Position> {
    let horizon = sqlx::query_scalar!(r#"select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as "horizon!""#)
        .fetch_one(pool)
        .await?;
    let mut position = Position::default();
    position.move_to(horizon);
    Ok(position)
}

/// Reads the new signals and moves the position.
///
/// # Errors
/// Returns an error if a query fails; then the next call reads the same signals again.
pub async fn read(pool: &Pool, position: &mut Position) -> Result<Vec<Signal>> {
    let mut moved = position.clone();
    let mut signals = Vec::new();
    loop {
        let rows = sqlx::query!(
            r#"select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as "horizon!", signal.id as "id?",
                      signal.written_by as "written_by?", signal.destination_id as "destination_id?",
                      signal.delivery_id as "delivery_id?", signal.replay_id as "replay_id?"
               from (values (true)) as one (row)
               left join lateral (
                   select * from delivery_signals where written_by >= $1 and id <> all($2) order by written_by, id limit $3
               ) signal on true"#,
            moved.from(),
            &moved.seen(),
            AT_ONCE
        )
        .fetch_all(pool)
        .await?;
        let is_full = i64::try_from(rows.len()).is_ok_and(|count| count >= AT_ONCE);
        let horizon = rows.first().map(|row| row.horizon);
        for row in rows {
            let (Some(id), Some(written_by)) = (row.id, row.written_by) else { continue };
            moved.saw(id, written_by);
            match (row.destination_id, row.delivery_id, row.replay_id) {
                (Some(destination), Some(delivery), _) => {
                    let destination = DestinationId::from_uuid(destination);
                    signals.push(Signal::Delivery(destination, DeliveryId::from_uuid(delivery)));
                }
                (_, _, Some(replay)) => signals.push(Signal::Replay(ReplayId::from_uuid(replay))),
                (_, _, None) => {}
            }
        }
        if !is_full {
            if let Some(horizon) = horizon {
                moved.move_to(horizon);
            }
            *position = moved;
            return Ok(signals);
        }
    }
}

/// Deletes signals that are older than an hour, at most `limit`, and returns their number.
///
/// # Errors
/// Returns an error if the query fails; then nothing was deleted, or the response to the commit was lost.
pub async fn delete_old(pool: &Pool, limit: i64) -> Result<u64> {
    let deleted = sqlx::query!(
        "delete from delivery_signals
         where (written_by, id) in (
             select written_by, id from delivery_signals
             where written_at < now() - $2::float8 * interval '1 second'
             order by written_at limit $1 for update skip locked)",
        limit,
        KEPT_S
    )
    .execute(pool)
    .await?;
    Ok(deleted.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_starts_reads_none_of_the_old_signals() {
        let mut position = Position::default();
        assert_eq!(position.from(), i64::MAX);
        position.move_to(40);
        assert_eq!((position.from(), position.seen()), (40, vec![]));
    }

    #[test]
    fn a_signal_is_remembered_until_no_earlier_transaction_can_commit() {
        let mut position = Position::default();
        position.move_to(40);
        // 41 commits while 40 is still running.
        position.saw(7, 41);
        position.move_to(40);
        assert_eq!((position.from(), position.seen()), (40, vec![7]), "the signal of 40 is not visible yet");
        position.saw(3, 40);
        position.move_to(41);
        assert_eq!((position.from(), position.seen()), (41, vec![7]));
        position.move_to(42);
        assert_eq!((position.from(), position.seen()), (42, vec![]));
    }

    #[test]
    fn a_restored_database_is_read_from_its_own_horizon() {
        let mut position = Position::default();
        position.move_to(1_000);
        position.saw(7, 1_001);
        position.move_to(500);
        assert_eq!((position.from(), position.seen()), (500, vec![]));
    }
}
