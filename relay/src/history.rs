//! History is kept in partitions of a day: they are made ahead, and dropped when their retention has passed. What has
//! been delivered costs nothing, and nothing of it is ever deleted row by row.
//!
//! Nothing that is past its retention gets a new delivery, and a partition goes a day later than that ([`GRACE_DAYS`]).
//! So what is pending of a day only becomes less, and once nothing is, the partition can go without asking twice. A
//! partition that something pending still needs is kept, for as long as what is known of events is kept at the longest:
//! then what is still pending is dead, with that reason.
//!
//! One replica at a time does it. Every step is a statement of its own, and what an interrupted run has left is found in
//! the catalogue by the next one.

use std::sync::Arc;
use std::time::Duration;

use model::unix_time;
use shared::id::uuid_v7_floor;
use store::Pool;
use store::partitions::{self, Maintenance, MissingPartitions, Partition, State, Table};
use time::Date;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::mint;
use crate::wall_clock::WallClock;

/// How many days of partitions are made ahead.
pub(crate) const DAYS_AHEAD: i64 = 3;

/// How many days a partition outlives its retention: more than clocks differ and than a transaction takes.
pub(crate) const GRACE_DAYS: i64 = 1;

/// How often it is looked for what has to be made and dropped, at least.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(3_600);

/// How soon it is tried again where something failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// The most deliveries that are given up in one statement.
const EXPIRED_AT_ONCE: i64 = 5_000;

/// The most old signals that are deleted in one statement.
const SIGNALS_AT_ONCE: i64 = 5_000;

/// How many days a version of a route outlives the retention of the deliveries that name it. These are of events whose ids
/// are at most a day newer than the version's end, and they have expired by then.
const ROUTE_VERSION_GRACE_DAYS: i64 = 3;

/// The most versions of routes that are deleted in one statement.
const FORGOTTEN_AT_ONCE: i64 = 1_000;

const DAY_MS: u64 = 86_400_000;

/// For how many days history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Of the bodies of events.
    pub body_days: u16,
    /// Of everything else, at least as many.
    pub metadata_days: u16,
    /// Of the keys by which copies are found.
    pub dedupe_days: u16,
}

impl Retention {
    /// The first id whose event still has its body by right; no delivery is made of an event before it.
    #[must_use]
    pub fn first_with_body(&self, now_ms: u64) -> Uuid {
        floor(now_ms, self.body_days)
    }

    /// The first id of what is still known.
    #[must_use]
    pub fn first_known(&self, now_ms: u64) -> Uuid {
        floor(now_ms, self.metadata_days)
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
            | Table::DestinationCounters => self.metadata_days,
        }
    }
}

fn floor(now_ms: u64, days: u16) -> Uuid {
    uuid_v7_floor(now_ms.saturating_sub(u64::from(days) * DAY_MS))
}

/// Makes the partitions of today, by the database's clock, and of the coming days, unless they are there.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn make_days(pool: &Pool) -> store::Result<()> {
    let today = store::health::now(pool).await?.date();
    for ahead in 0..=DAYS_AHEAD {
        if let Some(day) = today.checked_add(time::Duration::days(ahead)) {
            partitions::create_day(pool, day).await?;
        }
    }
    Ok(())
}

/// Makes and drops partitions until `stop`; the first time at once.
pub async fn run(pool: Pool, retention: Retention, clock: Arc<WallClock>, stop: CancellationToken) {
    loop {
        let pause = match keep(&pool, retention, &clock).await {
            Ok(Kept::Done) => MAINTENANCE_INTERVAL.mul_f64(1.0 + mint::jitter()),
            Ok(Kept::Unfinished) => RETRY_INTERVAL,
            // A delivery that expires may be of a day without a partition; it is made, and the next run goes on.
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

/// How far a run came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Done,
    /// Somebody uses what is to be dropped; nobody is made to wait for it.
    Unfinished,
}

async fn keep(pool: &Pool, retention: Retention, clock: &WallClock) -> store::Result<Kept> {
    make_days(pool).await?;
    while store::signals::delete_old(pool, SIGNALS_AT_ONCE).await? > 0 {}
    // One of the two clocks is wrong, and what is dropped does not come back.
    if let Some(wrong) = clock.is_wrong().await? {
        tracing::warn!(error = wrong, "deleting old history is suspended");
        return Ok(Kept::Unfinished);
    }
    let Some(mut maintenance) = Maintenance::begin(pool).await? else {
        // Another replica is at it.
        return Ok(Kept::Done);
    };
    drop_what_is_past(&mut maintenance, retention).await
}

async fn drop_what_is_past(maintenance: &mut Maintenance, retention: Retention) -> store::Result<Kept> {
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
    let mut kept = Kept::Done;
    for partition in maintenance.partitions().await? {
        if !is_past(&partition, now.date(), retention) {
            continue;
        }
        if partition.state == State::Attached && maintenance.is_needed(&partition).await? {
            tracing::warn!(
                partition = partition.name(),
                "a partition is kept beyond its retention because pending deliveries need it; resume, \
                 release or cancel the deliveries listed by GET /v1/deliveries?state=held"
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

/// Whether a partition may go: its last moment is past its retention, and the grace besides.
fn is_past(partition: &Partition, today: Date, retention: Retention) -> bool {
    let age_days = i64::from(today.to_julian_day()) - i64::from(partition.day.to_julian_day());
    age_days > i64::from(retention.days_of(partition.table)) + GRACE_DAYS
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
    fn a_partition_goes_when_its_last_moment_is_a_day_past_its_retention() {
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
    fn no_partition_goes_while_an_event_in_it_may_still_get_a_delivery() {
        let last_moment = date!(2026 - 05 - 30).midnight().assume_utc() - time::Duration::MILLISECOND;
        let last = uuid_v7_floor(unix_time::unix_ms(last_moment));
        let dropped_from = unix_time::unix_ms(date!(2026 - 06 - 30).midnight().assume_utc());
        assert!(past(Table::EventBodies, last_moment.date()));
        assert!(RETENTION.first_with_body(dropped_from - DAY_MS) > last, "for a day nothing new was made of it");
    }
}
