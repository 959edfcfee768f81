//! Changes of events and deliveries, in an order in which a reader misses none.
//!
//! Triggers of the database write the rows of `changes`, each in the transaction of its change. Rows become visible in
//! the order in which transactions commit, which neither their ids nor their times reflect. So a reader reads only the
//! rows of transactions before the oldest one that was running when the statement began, in the order of their
//! transactions: all of these have ended, and no later row can come before them. A transaction that runs for long
//! therefore delays all readers, and never makes them miss a change.
//!
//! The numbers of transactions have a meaning within one history of a database. [`begin`] finds out whether the history
//! is still the one that the positions belong to.

use model::change::ChangeKind;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::column::Maybe;
use crate::{Error, Pool, Result};

pub use position::{NoPosition, Position};

pub mod objects;
mod position;

/// For how many days changes are kept after the day on which they were stored.
pub const KEPT_DAYS: u16 = 1;

/// The channel on which a relay announces that it has stored changes.
pub const CHANNEL: &str = "tidegate_changes";

/// What one statement has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The position before its first id.
    pub position: Position,
    pub changed_at: OffsetDateTime,
    pub kind: ChangeKind,
    /// The new state, if the kind has one.
    pub state: Option<String>,
    /// The events, attempts or deliveries that have not been read yet.
    pub ids: Vec<Uuid>,
}

impl Change {
    /// The position after the id at this index of `ids`.
    #[must_use]
    pub fn position_after(&self, index: usize) -> Position {
        if index + 1 >= self.ids.len() {
            return self.position.within(self.position.transaction, self.position.number + 1, 0);
        }
        let index = u32::try_from(index + 1).unwrap_or(u32::MAX);
        Position { index: self.position.index.saturating_add(index), ..self.position }
    }
}

/// Changes that follow a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    pub changes: Vec<Change>,
    /// The position after them. If there are no more changes now, it is that of the oldest running transaction.
    pub reached: Position,
    /// Whether there are more changes that can be read now.
    pub is_full: bool,
    /// Whether there are changes that can be read when a running transaction has ended.
    pub is_waiting: bool,
}

/// The result of reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    Changes(Changes),
    /// The position belongs to another history of the database.
    Foreign,
    /// Changes that follow the position are no longer kept.
    TooOld,
}

/// The position of now: all changes that are stored later follow it. Checks first whether the database still has the
/// history that earlier positions belong to. If not, those become foreign, and its changes are deleted: their
/// transactions have numbers of another history.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn begin(pool: &Pool) -> Result<Position> {
    let found = sqlx::query!(
        r#"select history, database = database_history() as "same!",
                  pg_snapshot_xmin(pg_current_snapshot())::text::bigint as "horizon!"
           from change_history"#
    )
    .fetch_one(pool)
    .await?;
    if found.same {
        return Ok(Position::before(found.history.unsigned_abs(), found.horizon.unsigned_abs()));
    }
    let mut transaction = pool.begin().await?;
    let moved = sqlx::query_scalar!(
        "update change_history
         set database = database_history(), history = (history::bigint + 1 + floor(random() * 2147483646)::bigint) % 2147483647,
             kept_from = pg_snapshot_xmin(pg_current_snapshot())::text::bigint
         where database <> database_history()
         returning history"
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if moved.is_some() {
        tracing::warn!(
            "the database was restored, or another server has taken over; positions of the stream from before are refused"
        );
        sqlx::raw_sql("truncate changes").execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    let found = sqlx::query!(
        r#"select history, pg_snapshot_xmin(pg_current_snapshot())::text::bigint as "horizon!" from change_history"#
    )
    .fetch_one(pool)
    .await?;
    Ok(Position::before(found.history.unsigned_abs(), found.horizon.unsigned_abs()))
}

/// Reads the changes that follow a position, at most `limit` rows.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn read(pool: &Pool, from: Position, limit: i64) -> Result<Read> {
    let rows = sqlx::query!(
        r#"select history.history, history.kept_from,
                  pg_snapshot_xmin(pg_current_snapshot())::text::bigint as "horizon!",
                  exists (select from changes
                          where written_by >= pg_snapshot_xmin(pg_current_snapshot())::text::bigint) as "waiting!",
                  change.written_by as "written_by?", change.number as "number?", change.changed_at as "changed_at?",
                  change.kind as "kind!: Maybe<ChangeKind>", change.state as "state?", change.ids as "ids?"
           from change_history history left join lateral (
               select written_by, number, changed_at, kind, state, ids from changes
               where (written_by, number) >= ($1, $2)
                 and written_by < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
               order by written_by, number limit $3
           ) change on true
           order by change.written_by, change.number"#,
        signed(from.transaction),
        signed(from.number),
        limit
    )
    .fetch_all(pool)
    .await?;
    let Some(first) = rows.first() else { return Err(Error::changed("the row of change_history is missing")) };
    if first.history.unsigned_abs() != from.history || signed(from.transaction) > first.horizon {
        return Ok(Read::Foreign);
    }
    if signed(from.transaction) < first.kept_from {
        return Ok(Read::TooOld);
    }
    let (horizon, is_waiting) = (first.horizon.unsigned_abs(), first.waiting);
    let is_full = first.written_by.is_some() && i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
    let mut changes = Vec::with_capacity(rows.len());
    let mut reached = from;
    for row in rows {
        let (Some(transaction), Some(number)) = (row.written_by, row.number) else { continue };
        let (transaction, number) = (transaction.unsigned_abs(), number.unsigned_abs());
        let is_begun = (transaction, number) == (from.transaction, from.number);
        let index = if is_begun { from.index } else { 0 };
        reached = from.within(transaction, number + 1, 0);
        let (Some(kind), Some(changed_at), Some(mut ids)) = (row.kind.into(), row.changed_at, row.ids) else {
            continue;
        };
        ids.drain(..ids.len().min(usize::try_from(index).unwrap_or(usize::MAX)));
        if !ids.is_empty() {
            let position = from.within(transaction, number, index);
            changes.push(Change { position, changed_at, kind, state: row.state, ids });
        }
    }
    if !is_full {
        reached = Position::before(from.history, horizon);
    }
    Ok(Read::Changes(Changes { changes, reached, is_full, is_waiting }))
}

/// Wakes the readers of all replicas. The commit of this statement does not wait for the disk: there is nothing to lose.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn announce(pool: &Pool) -> Result<()> {
    sqlx::query!("select set_config('synchronous_commit', 'off', true), pg_notify($1, '')::text", CHANNEL)
        .fetch_one(pool)
        .await?;
    Ok(())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A connection that receives the announcements ([`announce`]) of all replicas.
pub struct Listener {
    listener: sqlx::postgres::PgListener,
}

impl Listener {
    /// Opens a connection of its own and listens.
    ///
    /// # Errors
    /// Returns an error if the connection cannot be opened within 10 seconds.
    pub async fn open(pool: &Pool) -> Result<Self> {
        let own = pool.single();
        let mut listener = sqlx::postgres::PgListener::connect_with(&own).await?;
        listener.listen(CHANNEL).await?;
        Ok(Self { listener })
    }

    /// Waits for the next announcement. Announcements that have arrived meanwhile count as one.
    ///
    /// # Errors
    /// Returns an error if the connection is lost.
    pub async fn announced(&mut self) -> Result<()> {
        if self.listener.try_recv().await?.is_none() {
            return Err(Error::changed("the connection that listens for changes was lost"));
        }
        while self.listener.next_buffered().is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(index: u32, ids: usize) -> Change {
        Change {
            position: Position { history: 1, transaction: 5, number: 9, index },
            changed_at: OffsetDateTime::UNIX_EPOCH,
            kind: ChangeKind::EventStored,
            state: None,
            ids: vec![Uuid::nil(); ids],
        }
    }

    #[test]
    fn the_position_after_the_last_id_is_that_of_the_next_row() {
        let row = change(2, 3);
        assert_eq!(row.position_after(0), Position { index: 3, ..row.position });
        assert_eq!(row.position_after(1), Position { index: 4, ..row.position });
        assert_eq!(row.position_after(2), Position { number: 10, index: 0, ..row.position });
    }
}
