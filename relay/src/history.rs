//! History is kept in daily partitions: they are created ahead of time, and dropped when their retention has ended. So
//! expired history costs nothing, and is never deleted row by row.
//!
//! No event past its retention gets a new delivery, and its partition is dropped a day later than that
//! ([`GRACE_DAYS`]). So the number of pending deliveries of a day only decreases, and once there are none, the
//! partition can be dropped without checking again. A partition that a pending delivery still needs is kept, but no
//! longer than the retention of metadata: then deliveries that are still pending become dead, with that reason.
//!
//! One replica at a time does this work. Every step is a separate statement, and the next run finds the remains of an
//! interrupted one in the catalogue.

use std::sync::Arc;
use std::time::Duration;

use model::unix_time;
use shared::id::{CustomerId, uuid_v7_floor};
use store::partitions::{self, Maintenance, MissingPartitions, Partition, State, Table};
use store::{Pool, body_retention, changes};
use time::Date;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::mint;
use crate::wall_clock::WallClock;

/// How many days ahead partitions are created.
pub(crate) const DAYS_AHEAD: i64 = 3;

/// How many days a partition outlives its retention: more than clocks may differ plus the duration of a transaction.
pub(crate) const GRACE_DAYS: u16 = 1;

/// The maximum time between two checks for partitions to create and to drop.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(3_600);

/// How soon a failed run is repeated.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// The most deliveries that one statement marks as dead.
const EXPIRED_AT_ONCE: i64 = 5_000;

/// The most old signals that one statement deletes.
const SIGNALS_AT_ONCE: i64 = 5_000;

/// The most expired sessions that one statement deletes.
const SESSIONS_AT_ONCE: i64 = 1_000;

/// The most old idempotency keys that one statement deletes.
const KEYS_AT_ONCE: i64 = 1_000;

/// How many days a version of a route outlives the retention of the deliveries that refer to it. These belong to events
/// whose ids are at most a day newer than the version's end, so they have expired by then.
const ROUTE_VERSION_GRACE_DAYS: i64 = 3;

/// The most route versions, and the most sources and destinations that were deleted long ago, that one statement
/// deletes.
const FORGOTTEN_AT_ONCE: i64 = 1_000;

/// For how many days history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Retention of the bodies of events.
    pub body_days: u16,
    /// Retention of everything else; at least as long.
    pub metadata_days: u16,
    /// Retention of the keys by which copies are recognised.
    pub dedupe_days: u16,
}

impl Retention {
    /// The first id of an event that is entitled to its body. No delivery is made of an earlier event.
    #[must_use]
    pub fn first_with_body(&self, now_ms: u64) -> Uuid {
        floor(now_ms, self.body_days)
    }

    /// As [`Self::first_with_body`], for the events of a customer, whose retention may be shorter.
    ///
    /// # Errors
    /// Returns an error if the query fails.
    pub async fn first_with_body_of(&self, pool: &Pool, customer: CustomerId, now_ms: u64) -> store::Result<Uuid> {
        let days = body_retention::days_of(pool, customer).await?;
        Ok(body_retention::first_with_body(now_ms, days, self.first_with_body(now_ms)))
    }

    /// The first id whose metadata is still kept.
    #[must_use]
    pub fn first_known(&self, now_ms: u64) -> Uuid {
        floor(now_ms, self.metadata_days)
    }

    /// The first day (UTC) on which the partition of a day may be dropped; `None` beyond the calendar.
    #[must_use]
    pub fn dropped_on(&self, table: Table, day: Date) -> Option<Date> {
        let kept = i64::from(self.days_of(table)) + i64::from(GRACE_DAYS) + 1;
        day.checked_add(time::Duration::days(kept))
    }

    fn days_of(&self, table: Table) -> u16 {
        match table {
            Table::EventBodies => self.body_days,
            Table::EventKeys => self.dedupe_days,
            Table::Events
            | Table::EventCopies
            | Table::SettledDeliveries
            | Table::Attempts
            | Table::Rejections
            | Table::UnreadableMessages
            | Table::SourceCounters
            | Table::DestinationCounters
            | Table::AuditEntries => self.metadata_days,
            Table::Changes => changes::KEPT_DAYS,
        }
    }
}

fn floor(now_ms: u64, days: u16) -> Uuid {
    uuid_v7_floor(unix_time::days_before(now_ms, days))
}

/// Creates the partitions of today, by the database's clock, and of the coming days, unless they exist.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn make_days(pool: &Pool) -> store::Result<()> {
    let today = store::health::now(pool).await?.date();
    for ahead in 0..=DAYS_AHEAD {
        if let Some(day) = today.checked_add(time::Duration::days(ahead)) {
            partitions::create_day(pool, day).await?;
        }
    }
    Ok(())
}

/// Creates and drops partitions until `stop`; the first time at once.
pub async fn run(pool: Pool, retention: Retention, clock: Arc<WallClock>, stop: CancellationToken) {
    loop {
        let pause = match keep(&pool, retention, &clock).await {
            Ok(Kept::Done) => MAINTENANCE_INTERVAL.mul_f64(1.0 + mint::jitter()),
            Ok(Kept::Unfinished) => RETRY_INTERVAL,
            // A delivery that expires may belong to a day without a partition. It is created, and the next run
            // continues.
            Err(error) if MissingPartitions::default().make(&pool, &error).await.unwrap_or(false) => RETRY_INTERVAL,
            Err(error) => {
                tracing::error!(%error, "could not maintain the history partitions; retrying");
                RETRY_INTERVAL
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// The result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Done,
    /// Work remains: a partition to drop is in use, or the clocks disagree. The run waits for neither, so that queries
    /// do not queue up behind a drop.
    Unfinished,
}

async fn keep(pool: &Pool, retention: Retention, clock: &WallClock) -> store::Result<Kept> {
    make_days(pool).await?;
    while store::signals::delete_old(pool, SIGNALS_AT_ONCE).await? > 0 {}
    store::operations::forget(pool, retention.metadata_days).await?;
    while store::sessions::delete_expired(pool, SESSIONS_AT_ONCE).await? > 0 {}
    while store::idempotency::delete_old(pool, KEYS_AT_ONCE).await? > 0 {}
    // One of the two clocks is wrong, and a dropped partition cannot be recovered.
    if let Some(wrong) = clock.is_wrong().await? {
        tracing::warn!(error = wrong, "the deletion of old history is suspended until the clocks agree");
        return Ok(Kept::Unfinished);
    }
    let Some(mut maintenance) = Maintenance::begin(pool).await? else {
        // Another replica is doing this.
        return Ok(Kept::Done);
    };
    drop_expired(&mut maintenance, retention).await
}

async fn drop_expired(maintenance: &mut Maintenance, retention: Retention) -> store::Result<Kept> {
    let now = maintenance.now().await?;
    let first_known = retention.first_known(unix_time::unix_ms(now));
    let reason = format!("not delivered within {} days (TIDEGATE_METADATA_RETENTION_DAYS)", retention.metadata_days);
    loop {
        let expired = maintenance.expire_pending(first_known, &reason, EXPIRED_AT_ONCE).await?;
        if expired == 0 {
            break;
        }
        tracing::warn!(deliveries = expired, error = reason, "pending deliveries have expired and are now dead");
    }
    let before = now - time::Duration::days(i64::from(retention.metadata_days) + ROUTE_VERSION_GRACE_DAYS);
    while maintenance.forget_route_versions(before, FORGOTTEN_AT_ONCE).await? > 0 {}
    // Nothing that was stored for them is kept any more.
    while maintenance.forget_former_objects(before, FORGOTTEN_AT_ONCE).await? > 0 {}
    let mut kept = Kept::Done;
    for partition in maintenance.partitions().await? {
        if !is_past(&partition, now.date(), retention) {
            continue;
        }
        if partition.state == State::Attached && maintenance.is_needed(&partition).await? {
            tracing::warn!(
                partition = partition.name(),
                "a partition is kept beyond its retention because pending or held deliveries need it; resume their \
                 destinations, and release or cancel the deliveries that GET /v1/deliveries?state=held and \
                 GET /v1/deliveries?state=pending list"
            );
            continue;
        }
        match maintenance.drop(&partition).await {
            Ok(()) => {
                tracing::info!(partition = partition.name(), "a partition past its retention was dropped")
            }
            Err(error) if error.is_in_use() => {
                tracing::info!(
                    partition = partition.name(),
                    "a partition could not be dropped because a query is reading it; retrying"
                );
                kept = Kept::Unfinished;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(kept)
}

/// Whether a partition may be dropped: its last moment is past its retention plus the grace.
fn is_past(partition: &Partition, today: Date, retention: Retention) -> bool {
    let age_days = i64::from(today.to_julian_day()) - i64::from(partition.day.to_julian_day());
    age_days > i64::from(retention.days_of(partition.table)) + i64::from(GRACE_DAYS)
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    const RETENTION: Retention = Retention { body_days: 30, metadata_days: 90, dedupe_days: 3 };

    fn past(table: Table, day: Date) -> bool {
        is_past(&Partition { table, day, state: State::Attached }, date!(2026 - 06 - 30), RETENTION)
    }

    #[test]
    fn a_partition_is_dropped_when_its_last_moment_is_a_day_past_its_retention() {
        assert!(!past(Table::EventBodies, date!(2026 - 05 - 30)));
        assert!(past(Table::EventBodies, date!(2026 - 05 - 29)));
        assert!(!past(Table::EventKeys, date!(2026 - 06 - 26)));
        assert!(past(Table::EventKeys, date!(2026 - 06 - 25)));
        for table in
            [Table::Events, Table::SettledDeliveries, Table::Attempts, Table::Rejections, Table::UnreadableMessages]
        {
            assert!(!past(table, date!(2026 - 03 - 31)), "{table:?}");
            assert!(past(table, date!(2026 - 03 - 30)), "{table:?}");
        }
    }

    #[test]
    fn the_day_of_the_drop_is_the_first_day_on_which_the_partition_is_past_its_retention() {
        let day = date!(2026 - 03 - 01);
        for table in [Table::Events, Table::EventBodies, Table::EventKeys, Table::Changes] {
            let dropped_on = RETENTION.dropped_on(table, day).expect("a day");
            let partition = Partition { table, day, state: State::Attached };
            assert!(is_past(&partition, dropped_on, RETENTION), "{table:?}");
            assert!(!is_past(&partition, dropped_on.previous_day().expect("a day"), RETENTION), "{table:?}");
        }
    }

    #[test]
    fn no_partition_is_dropped_while_an_event_in_it_may_still_get_a_delivery() {
        let last_moment = date!(2026 - 05 - 30).midnight().assume_utc() - time::Duration::MILLISECOND;
        let last = uuid_v7_floor(unix_time::unix_ms(last_moment));
        let dropped_from = unix_time::unix_ms(date!(2026 - 06 - 30).midnight().assume_utc());
        assert!(past(Table::EventBodies, last_moment.date()));
        assert!(
            RETENTION.first_with_body(dropped_from - unix_time::DAY_MS) > last,
            "for a day it got no new deliveries"
        );
    }
}
