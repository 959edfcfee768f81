//! The day partitions of history: creating them, and dropping them without blocking other transactions.
//!
//! A partition is first detached concurrently, which waits for the transactions that use the table without blocking
//! others. It is dropped when it is a table of its own. A run that is interrupted between the steps leaves a
//! half-detached partition, or a table without a parent: [`Maintenance::partitions`] finds both.

use model::unix_time;
use shared::id::{uuid_v7_floor, uuid_v7_ms};
use sqlx::AssertSqlSafe;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use crate::{Connection, Error, Kind, Pool, Result};

/// Creates the partitions of one day that do not exist yet.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn create_day(pool: &Pool, day: Date) -> Result<()> {
    create_day_in(&mut pool.acquire().await?, day).await
}

/// Creates the partitions of one day in a transaction that lacks them.
pub(crate) async fn create_day_in(connection: &mut Connection, day: Date) -> Result<()> {
    sqlx::query!("select create_day($1)", day).execute(connection).await?;
    Ok(())
}

/// The most partitions that are created for one transaction: more than the number of days that it can touch.
const MADE_AT_ONCE: u32 = 50;

/// Creates the partitions that a transaction lacked, so that it can be run again.
///
/// Partitions are created days ahead, so this is for unforeseeable cases: ids of a distant day because a clock was
/// wrong for a while, a partition that was dropped manually, a restored database, or maintenance that has failed for
/// days.
#[derive(Debug, Default)]
pub struct MissingPartitions {
    made: u32,
}

impl MissingPartitions {
    /// Creates the partition if the transaction failed because it was missing. Returns whether the transaction is to be
    /// run again.
    ///
    /// # Errors
    /// Returns an error if the partition cannot be created.
    pub async fn make(&mut self, pool: &Pool, error: &Error) -> Result<bool> {
        let Kind::MissingPartition(Some(day)) = error.kind() else { return Ok(false) };
        if self.made >= MADE_AT_ONCE {
            return Ok(false);
        }
        self.made += 1;
        tracing::warn!(%day, "a history partition was missing; creating it");
        create_day(pool, day).await?;
        Ok(true)
    }
}

/// Runs a transaction that writes to history, and runs it again after creating each partition that it lacked. This is a
/// macro because a closure that borrows values for its future is not `Send` for every lifetime.
#[macro_export]
macro_rules! with_partitions {
    ($pool:expr, $transaction:expr) => {{
        let mut missing = $crate::partitions::MissingPartitions::default();
        loop {
            match $transaction.await {
                Err(error) => {
                    if !missing.make($pool, &error).await? {
                        break Err(error);
                    }
                }
                done => break done,
            }
        }
    }};
}
pub use with_partitions;

/// The day of a missing partition, from the key of the row in the error's detail.
///
/// Parses `… (id) = (0197f3c8-…)` and the like; the words before it depend on the server's language.
pub(crate) fn day_of_key(detail: &str) -> Option<Date> {
    let (_, key) = detail.split_once(") = (")?;
    let key = key.split([')', ',', ' ']).next()?;
    if let Ok(id) = key.parse::<Uuid>() {
        return Some(unix_time::timestamp(uuid_v7_ms(id)).date());
    }
    // A day, or the day of a time: all sessions have the time zone UTC.
    Date::parse(key, time::macros::format_description!("[year]-[month]-[day]")).ok()
}

/// A table of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Events,
    EventBodies,
    EventKeys,
    EventCopies,
    SettledDeliveries,
    Attempts,
    Rejections,
    UnreadableMessages,
    SourceCounters,
    DestinationCounters,
    AuditEntries,
    Changes,
}

impl Table {
    const ALL: [Self; 12] = [
        Self::Events,
        Self::EventBodies,
        Self::EventKeys,
        Self::EventCopies,
        Self::SettledDeliveries,
        Self::Attempts,
        Self::Rejections,
        Self::UnreadableMessages,
        Self::SourceCounters,
        Self::DestinationCounters,
        Self::AuditEntries,
        Self::Changes,
    ];

    /// The table with this name, if it is one of history.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::EventBodies => "event_bodies",
            Self::EventKeys => "event_keys",
            Self::EventCopies => "event_copies",
            Self::SettledDeliveries => "settled_deliveries",
            Self::Attempts => "attempts",
            Self::Rejections => "rejections",
            Self::UnreadableMessages => "unreadable_messages",
            Self::SourceCounters => "source_counters",
            Self::DestinationCounters => "destination_counters",
            Self::AuditEntries => "audit_entries",
            Self::Changes => "changes",
        }
    }
}

/// Whether and how a partition belongs to its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Attached,
    /// A run was interrupted while it was detaching the partition; queries no longer see it.
    HalfDetached,
    /// A table of its own.
    Detached,
}

/// The partition of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    pub table: Table,
    pub day: Date,
    pub state: State,
}

impl Partition {
    /// Its name in the database, as `create_day` forms it.
    #[must_use]
    pub fn name(&self) -> String {
        let (year, month, day) = self.day.to_calendar_date();
        format!("{}_{year:04}{:02}{day:02}", self.table.name(), u8::from(month))
    }

    fn read(name: &str, state: State) -> Option<Self> {
        let (table, day) = name.rsplit_once('_')?;
        Some(Self { table: Table::from_name(table)?, day: day_of_name(day)?, state })
    }
}

/// The day that ends the name of a partition.
pub(crate) fn day_of_name(text: &str) -> Option<Date> {
    Date::parse(text, time::macros::format_description!("[year][month][day]")).ok()
}

/// The connection of the one replica that drops partitions. When it is dropped, another replica can take over.
pub struct Maintenance {
    connection: Connection,
}

impl Maintenance {
    /// Returns `None` if another replica is doing maintenance.
    ///
    /// # Errors
    /// Returns an error if a query fails.
    pub async fn begin(pool: &Pool) -> Result<Option<Self>> {
        // Not from the pool: its locks must not outlive this run, however it ends.
        let mut connection = pool.detached().await?;
        let locked = sqlx::query_scalar!(r#"select pg_try_advisory_lock(hashtext('tidegate history')) as "locked!""#)
            .fetch_one(&mut connection)
            .await?;
        if !locked {
            return Ok(None);
        }
        // A statement that waits for a lock blocks others behind it, for at most this long.
        sqlx::query!("set lock_timeout = '2s'").execute(&mut connection).await?;
        Ok(Some(Self { connection }))
    }

    /// The database's clock, which is the same for all replicas.
    ///
    /// # Errors
    /// Returns an error if the query fails.
    pub async fn now(&mut self) -> Result<OffsetDateTime> {
        sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(&mut self.connection).await.map_err(Error::from)
    }

    /// All partitions, the oldest day first, and within a day bodies before their events.
    ///
    /// # Errors
    /// Returns an error if the query fails.
    pub async fn partitions(&mut self) -> Result<Vec<Partition>> {
        let rows = sqlx::query!(
            r#"select relname::text as "name!", inhdetachpending as "half_detached?"
               from pg_class left join pg_inherits on inhrelid = pg_class.oid
               where relnamespace = current_schema()::regnamespace and relkind = 'r' and relname ~ '_[0-9]{8}$'
               order by right(relname::text, 8), relname"#
        )
        .fetch_all(&mut self.connection)
        .await?;
        let state = |half_detached: Option<bool>| match half_detached {
            Some(false) => State::Attached,
            Some(true) => State::HalfDetached,
            None => State::Detached,
        };
        Ok(rows.iter().filter_map(|row| Partition::read(&row.name, state(row.half_detached))).collect())
    }

    /// Whether pending deliveries need the partition: for their event or its body, or as the place where they are
    /// settled.
    ///
    /// # Errors
    /// Returns an error if a query fails.
    pub async fn is_needed(&mut self, partition: &Partition) -> Result<bool> {
        let floor = |day: Date| uuid_v7_floor(unix_time::unix_ms(day.midnight().assume_utc()));
        let (first, next) = (floor(partition.day), floor(partition.day.next_day().unwrap_or(Date::MAX)));
        match partition.table {
            Table::Events | Table::EventBodies => sqlx::query_scalar!(
                r#"select coalesce((select event_id from pending_deliveries where event_id >= $1
                                        order by event_id limit 1) < $2, false) as "needed!""#,
                first,
                next
            )
            .fetch_one(&mut self.connection)
            .await
            .map_err(Error::from),
            Table::SettledDeliveries => sqlx::query_scalar!(
                r#"select coalesce((select id from pending_deliveries where id >= $1 order by id limit 1) < $2,
                                       false) as "needed!""#,
                first,
                next
            )
            .fetch_one(&mut self.connection)
            .await
            .map_err(Error::from),
            Table::EventKeys
            | Table::EventCopies
            | Table::Attempts
            | Table::Rejections
            | Table::UnreadableMessages
            | Table::SourceCounters
            | Table::DestinationCounters
            | Table::AuditEntries
            | Table::Changes => Ok(false),
        }
    }

    /// Makes pending deliveries of events before `first` dead, at most `limit`, and returns their number. Deliveries
    /// that other transactions have locked are left for the next run.
    ///
    /// # Errors
    /// Returns an error if the query fails; then nothing was written.
    pub async fn expire_pending(&mut self, first: Uuid, reason: &str, limit: i64) -> Result<i64> {
        sqlx::query_scalar!(
            r#"with ended as (
                   delete from pending_deliveries
                   where id = any(array(
                       select id from pending_deliveries where event_id < $1 order by event_id limit $2
                       for update skip locked))
                   returning *
               ), moved as (
                   insert into settled_deliveries (id, customer_id, destination_id, event_id, source_id, route_id,
                                                   replay_id, state, error, reason, attempts, schedule_start,
                                                   undecided)
                   select id, customer_id, destination_id, event_id, source_id, route_id, replay_id, 'dead', 'expired', $3,
                          attempts, schedule_start, undecided
                   from ended
                   returning replay_id
               ), locked as (
                   select id from replays where id = any(array(select replay_id from moved)) order by id for no key update
               ), counted as (
                   update replays set dead = replays.dead + more.count
                   from (select replay_id, count(*) from moved group by replay_id) as more (id, count)
                   join locked on locked.id = more.id
                   where replays.id = more.id
               )
               select count(*) as "count!" from moved"#,
            first,
            limit,
            reason
        )
        .fetch_one(&mut self.connection)
        .await
        .map_err(Error::from)
    }

    /// Deletes versions of routes that were kept before `before`, at most `limit`, and returns their number.
    ///
    /// # Errors
    /// Returns an error if the query fails; then nothing was written.
    pub async fn forget_route_versions(&mut self, before: OffsetDateTime, limit: i64) -> Result<u64> {
        let deleted = sqlx::query!(
            "delete from route_versions where (route_id, version) in (
                 select route_id, version from route_versions where kept_at < $1
                 order by kept_at limit $2 for update skip locked)",
            before,
            limit
        )
        .execute(&mut self.connection)
        .await?;
        Ok(deleted.rows_affected())
    }

    /// Deletes the rows of sources and destinations that were deleted before `before`, at most `limit` of each, and
    /// returns their number.
    ///
    /// # Errors
    /// Returns an error if the query fails; then nothing was written.
    pub async fn forget_former_objects(&mut self, before: OffsetDateTime, limit: i64) -> Result<u64> {
        sqlx::query_scalar!(
            r#"with sources as (
                   delete from former_sources
                   where id in (select id from former_sources where deleted_at < $1 order by deleted_at limit $2)
                   returning id
               ), destinations as (
                   delete from former_destinations
                   where id in (select id from former_destinations where deleted_at < $1 order by deleted_at limit $2)
                   returning id
               )
               select (select count(*) from sources) + (select count(*) from destinations) as "count!""#,
            before,
            limit
        )
        .fetch_one(&mut self.connection)
        .await
        .map(i64::unsigned_abs)
        .map_err(Error::from)
    }

    /// Drops a partition, continuing after the step that an earlier run reached.
    ///
    /// # Errors
    /// Returns an error if a query fails, also because the table is in use ([`Error::is_in_use`]); the next run
    /// continues from there.
    pub async fn drop(&mut self, partition: &Partition) -> Result<()> {
        let (table, name) = (partition.table.name(), partition.name());
        let detach = match partition.state {
            State::Attached => Some("concurrently"),
            State::HalfDetached => Some("finalize"),
            State::Detached => None,
        };
        if partition.table == Table::Changes && partition.state == State::Attached {
            // Positions before or within them are refused from now on.
            sqlx::query!(
                "update change_history
                 set kept_from = greatest(kept_from,
                                          coalesce((select max(written_by) + 1 from changes where day = $1), 0))",
                partition.day
            )
            .execute(&mut self.connection)
            .await?;
        }
        // Names cannot be parameters; these consist of the table names above and digits.
        if let Some(how) = detach {
            let detach = format!("alter table {table} detach partition {name} {how}");
            sqlx::raw_sql(AssertSqlSafe(detach)).execute(&mut self.connection).await?;
        }
        sqlx::raw_sql(AssertSqlSafe(format!("drop table {name}"))).execute(&mut self.connection).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn the_day_of_a_missing_partition_is_parsed_from_the_error_detail_in_any_language() {
        for (detail, day) in [
            (
                "Partition key of the failing row contains (id) = (019ac9b2-8f00-7000-8000-000000000001).",
                Some(date!(2025 - 11 - 28)),
            ),
            (
                "Partitionierungsschlüssel der fehlgeschlagenen Zeile enthält (day) = (2026-01-09).",
                Some(date!(2026 - 01 - 09)),
            ),
            (
                "Partition key of the failing row contains (minute) = (2026-01-09 23:59:00+00).",
                Some(date!(2026 - 01 - 09)),
            ),
            ("Failing row contains (1, 2).", None),
            ("", None),
        ] {
            assert_eq!(day_of_key(detail), day, "{detail}");
        }
    }

    #[test]
    fn a_partition_is_parsed_from_its_name() {
        for table in Table::ALL {
            let partition = Partition { table, day: date!(2026 - 01 - 09), state: State::Attached };
            assert_eq!(Partition::read(&partition.name(), State::Attached), Some(partition));
        }
        assert_eq!(
            Partition::read("event_bodies_20260109", State::Detached).map(|read| read.table),
            Some(Table::EventBodies)
        );
        for other in ["events", "events_2026010", "events_20261309", "mine_20260109"] {
            assert_eq!(Partition::read(other, State::Attached), None, "{other}");
        }
    }
}
