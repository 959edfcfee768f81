//! The health of destinations, as their owners report it.

use std::collections::HashMap;

use model::health::{BreakerName, BreakerState, Health, Learned, Reason, Reduction, Run};
use model::lane::Lane;
use model::unix_time::{timestamp_us, unix_us};
use shared::id::DestinationId;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::column::As;
use crate::{Pool, Result};

/// The last report about a destination.
pub struct HealthRow {
    pub breaker: BreakerName,
    pub breaker_since: Option<OffsetDateTime>,
    pub probe_at: Option<OffsetDateTime>,
    pub back_off_until: Option<OffsetDateTime>,
    pub reduced_by: Option<String>,
    pub reduced_since: Option<OffsetDateTime>,
    pub rate_factor: f64,
    pub concurrency: i32,
    pub in_flight: i32,
    pub waiting_fresh: i32,
    pub waiting_retry: i32,
    pub waiting_replay: i32,
    pub recent_attempts: i32,
    pub recent_failures: i32,
    pub latency_ms: Option<i32>,
    pub failing_since: Option<OffsetDateTime>,
    pub failures: i64,
    pub reported_at: OffsetDateTime,
    /// See [`Learned::since_us`].
    pub learned_since: OffsetDateTime,
}

/// The pending deliveries of a destination.
pub struct PendingRow {
    /// At most as many as were to be counted.
    pub count: i64,
    pub oldest_due_at: Option<OffsetDateTime>,
}

/// The state that the owner of a destination stores for the next owner. Its times, except `learned_since`, are by the
/// clock of the relay that wrote it.
pub struct LearnedRow {
    pub destination_id: DestinationId,
    pub learned_since: OffsetDateTime,
    pub back_off_until: Option<OffsetDateTime>,
    pub back_offs: i32,
    pub breaker: BreakerName,
    pub breaker_since: Option<OffsetDateTime>,
    pub probe_at: Option<OffsetDateTime>,
    pub openings: i32,
    pub reduced_by: Option<String>,
    pub reduced_since: Option<OffsetDateTime>,
    pub concurrency: i32,
    pub slow_start_below: Option<f64>,
    pub rate_factor: f64,
    pub failing_since: Option<OffsetDateTime>,
    pub failures: i64,
    pub paced_at: Option<OffsetDateTime>,
    pub last_of_epoch: Option<i64>,
    /// How far the database's clock was ahead of the clock of the relay that wrote the row.
    pub ahead_us: i64,
    /// When it was read, by the database's clock.
    pub read_us: i64,
}

impl LearnedRow {
    /// The state for the owner of `epoch`, with times converted to its own clock, which showed `now_us` when the row
    /// was read.
    #[must_use]
    pub fn learned(&self, epoch: i64, now_us: u64) -> Learned {
        // From the writer's clock to the database's, and from there to ours. The duration of the statement shifts times
        // later, never earlier.
        let shift_us = self.ahead_us.saturating_sub(self.read_us).saturating_add_unsigned(now_us);
        let us = |at: OffsetDateTime| unix_us(at).saturating_add_signed(shift_us);
        let probe_us = self.probe_at.map(us);
        Learned {
            since_us: unix_us(self.learned_since),
            back_off_until_us: self.back_off_until.map(us),
            back_offs: u32::try_from(self.back_offs).unwrap_or(0),
            breaker: match self.breaker {
                BreakerName::Open => BreakerState::Open { until_us: probe_us.unwrap_or(now_us) },
                BreakerName::HalfOpen => BreakerState::HalfOpen { probe: None },
                BreakerName::Closed => BreakerState::Closed,
            },
            breaker_since_us: self.breaker_since.map(us),
            openings: u32::try_from(self.openings).unwrap_or(0),
            reduced: self.reduced_by.as_deref().and_then(reason_of).zip(self.reduced_since).map(|(why, since)| {
                let concurrency = f64::from(self.concurrency);
                Reduction {
                    why,
                    since_us: us(since),
                    concurrency,
                    slow_start_below: self.slow_start_below.unwrap_or(concurrency),
                    rate_factor: self.rate_factor,
                }
            }),
            failing: self
                .failing_since
                .map(|since| Run { since_us: us(since), failures: u64::try_from(self.failures).unwrap_or(0) }),
            paced_us: self.paced_at.map(us),
            // If the row is from an earlier epoch, an owner in between has stored nothing, but may have sent something.
            is_last: self.last_of_epoch == Some(epoch - 1),
        }
    }
}

/// The stored states of these destinations. Destinations that nothing has been sent to are left out.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn load(pool: &Pool, destinations: &[DestinationId]) -> Result<HashMap<DestinationId, LearnedRow>> {
    let destinations: Vec<Uuid> = destinations.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query_as!(
        LearnedRow,
        r#"select destination_id as "destination_id!: As<DestinationId>", learned_since, back_off_until, back_offs,
                  breaker as "breaker!: As<BreakerName>", breaker_since, probe_at, openings, reduced_by,
                  reduced_since, concurrency, slow_start_below, rate_factor, failing_since, failures, paced_at, last_of_epoch,
                  ahead_us, (extract(epoch from now()) * 1000000)::bigint as "read_us!"
           from destination_health where destination_id = any($1)"#,
        &destinations
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.destination_id, row)).collect())
}

/// Writes one report for each destination; `now_us` is the current time by the clock that the reports use. A row that a
/// later owner has written is kept.
///
/// # Errors
/// Returns an error if the query fails; then nothing was written.
pub async fn write(pool: &Pool, reports: &[&Health], now_us: u64) -> Result<()> {
    // The same order in every replica, so that two replicas wait for each other and do not deadlock.
    let mut reports = reports.to_vec();
    reports.sort_unstable_by_key(|health| health.destination);
    let at = timestamp_us;
    let learned = || reports.iter().map(|health| &health.learned);
    let ids: Vec<Uuid> = reports.iter().map(|health| health.destination.uuid()).collect();
    let epochs: Vec<i64> = reports.iter().map(|health| health.epoch).collect();
    let breakers: Vec<&str> = learned().map(|learned| learned.breaker.without_details().name()).collect();
    let since: Vec<Option<OffsetDateTime>> = learned().map(|learned| learned.breaker_since_us.map(at)).collect();
    let probes: Vec<Option<OffsetDateTime>> = learned().map(|learned| probe_us(learned.breaker).map(at)).collect();
    let held: Vec<Option<OffsetDateTime>> = learned().map(|learned| learned.back_off_until_us.map(at)).collect();
    let reduced_by: Vec<Option<String>> =
        learned().map(|learned| learned.reduced.map(|reduced| reason_text(reduced.why))).collect();
    let reduced_since: Vec<Option<OffsetDateTime>> =
        learned().map(|learned| learned.reduced.map(|reduced| at(reduced.since_us))).collect();
    let slow_start_below: Vec<Option<f64>> =
        learned().map(|learned| learned.reduced.map(|reduced| reduced.slow_start_below)).collect();
    let factors: Vec<f64> = reports.iter().map(|health| health.rate_factor).collect();
    let concurrency: Vec<i32> = reports.iter().map(|health| int(health.concurrency)).collect();
    let in_flight: Vec<i32> = reports.iter().map(|health| int(health.in_flight)).collect();
    let waiting = |lane: Lane| -> Vec<i32> { reports.iter().map(|health| int(health.waiting[lane])).collect() };
    let attempts: Vec<i32> = reports.iter().map(|health| i32::try_from(health.recent.0).unwrap_or(i32::MAX)).collect();
    let failures: Vec<i32> = reports.iter().map(|health| i32::try_from(health.recent.1).unwrap_or(i32::MAX)).collect();
    let latency: Vec<Option<i32>> = reports.iter().map(|health| health.latency_us.map(milliseconds)).collect();
    let failing: Vec<Option<OffsetDateTime>> =
        learned().map(|learned| learned.failing.map(|run| at(run.since_us))).collect();
    let runs: Vec<i64> = learned()
        .map(|learned| learned.failing.map_or(0, |run| i64::try_from(run.failures).unwrap_or(i64::MAX)))
        .collect();
    let learned_since: Vec<OffsetDateTime> = learned().map(|learned| at(learned.since_us)).collect();
    let back_offs: Vec<i32> = learned().map(|learned| count(learned.back_offs)).collect();
    let openings: Vec<i32> = learned().map(|learned| count(learned.openings)).collect();
    let paced: Vec<Option<OffsetDateTime>> = learned().map(|learned| learned.paced_us.map(at)).collect();
    let last: Vec<Option<i64>> = reports.iter().map(|health| health.learned.is_last.then_some(health.epoch)).collect();
    let reported: Vec<OffsetDateTime> = reports.iter().map(|health| at(health.at_us)).collect();
    sqlx::query!(
        "insert into destination_health as held (destination_id, epoch, breaker, breaker_since, probe_at, back_off_until,
             reduced_by, reduced_since, rate_factor, concurrency, in_flight, waiting_fresh, waiting_retry, waiting_replay,
             recent_attempts, recent_failures, latency_ms, failing_since, failures, reported_at, learned_since, back_offs,
             openings, slow_start_below, paced_at, last_of_epoch, ahead_us)
         select report.*, (extract(epoch from now()) * 1000000)::bigint - $27::bigint
         from unnest($1::uuid[], $2::bigint[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[],
                     $7::text[], $8::timestamptz[], $9::float8[], $10::int[], $11::int[], $12::int[], $13::int[],
                     $14::int[], $15::int[], $16::int[], $17::int[], $18::timestamptz[], $19::bigint[],
                     $20::timestamptz[], $21::timestamptz[], $22::int[], $23::int[], $24::float8[], $25::timestamptz[],
                     $26::bigint[])
              as report (id, epoch, breaker, breaker_since, probe_at, back_off_until, reduced_by, reduced_since, rate_factor,
                         concurrency, in_flight, fresh, retry, replay, attempts, recent_failures, latency_ms,
                         failing_since, failures, reported_at, learned_since, back_offs, openings, slow_start_below, paced_at,
                         last_of_epoch)
         join destinations on destinations.id = report.id
         on conflict (destination_id) do update
         set epoch = excluded.epoch, breaker = excluded.breaker, breaker_since = excluded.breaker_since,
             probe_at = excluded.probe_at, back_off_until = excluded.back_off_until, reduced_by = excluded.reduced_by,
             reduced_since = excluded.reduced_since, rate_factor = excluded.rate_factor,
             concurrency = excluded.concurrency, in_flight = excluded.in_flight, waiting_fresh = excluded.waiting_fresh,
             waiting_retry = excluded.waiting_retry, waiting_replay = excluded.waiting_replay,
             recent_attempts = excluded.recent_attempts, recent_failures = excluded.recent_failures,
             latency_ms = excluded.latency_ms, failing_since = excluded.failing_since, failures = excluded.failures,
             reported_at = excluded.reported_at, learned_since = excluded.learned_since, back_offs = excluded.back_offs,
             openings = excluded.openings, slow_start_below = excluded.slow_start_below, paced_at = excluded.paced_at,
             last_of_epoch = excluded.last_of_epoch, ahead_us = excluded.ahead_us
         where held.epoch <= excluded.epoch",
        &ids,
        &epochs,
        &breakers as &[&str],
        &since as &[Option<OffsetDateTime>],
        &probes as &[Option<OffsetDateTime>],
        &held as &[Option<OffsetDateTime>],
        &reduced_by as &[Option<String>],
        &reduced_since as &[Option<OffsetDateTime>],
        &factors,
        &concurrency,
        &in_flight,
        &waiting(Lane::Fresh),
        &waiting(Lane::Retry),
        &waiting(Lane::Replay),
        &attempts,
        &failures,
        &latency as &[Option<i32>],
        &failing as &[Option<OffsetDateTime>],
        &runs,
        &reported,
        &learned_since,
        &back_offs,
        &openings,
        &slow_start_below as &[Option<f64>],
        &paced as &[Option<OffsetDateTime>],
        &last as &[Option<i64>],
        i64::try_from(now_us).unwrap_or(i64::MAX)
    )
    .execute(pool)
    .await?;
    Ok(())
}

fn probe_us(state: BreakerState) -> Option<u64> {
    match state {
        BreakerState::Open { until_us } => Some(until_us),
        BreakerState::Closed | BreakerState::HalfOpen { .. } => None,
    }
}

fn reason_text(reason: Reason) -> String {
    match reason {
        Reason::Status(status) => format!("the destination returned {status}"),
        Reason::Timeout => "the destination did not respond in time".to_owned(),
        Reason::Latency => "the destination responds much more slowly than usual".to_owned(),
        Reason::Recovering => "the destination has just recovered".to_owned(),
    }
}

/// The inverse of [`reason_text`].
fn reason_of(text: &str) -> Option<Reason> {
    let others = [Reason::Timeout, Reason::Latency, Reason::Recovering];
    let other = others.into_iter().find(|reason| reason_text(*reason) == text);
    let status = || text.strip_prefix("the destination returned ")?.parse().ok();
    other.or_else(|| status().map(Reason::Status))
}

fn count(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn int(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "saturates")]
fn milliseconds(microseconds: f64) -> i32 {
    (microseconds / 1000.0) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    /// By the clock of the relay that wrote the row.
    const WRITTEN_US: u64 = 1_764_000_000_000_000;

    fn row() -> LearnedRow {
        let at = |second| Some(timestamp_us(WRITTEN_US + second * SECOND));
        LearnedRow {
            destination_id: DestinationId::mint(1, [1; 10]),
            learned_since: timestamp_us(WRITTEN_US),
            back_off_until: at(60),
            back_offs: 3,
            breaker: BreakerName::Open,
            breaker_since: at(1),
            probe_at: at(30),
            openings: 2,
            reduced_by: Some(reason_text(Reason::Status(429))),
            reduced_since: at(2),
            concurrency: 4,
            slow_start_below: Some(5.0),
            rate_factor: 0.25,
            failing_since: at(3),
            failures: 7,
            paced_at: at(10),
            last_of_epoch: Some(8),
            ahead_us: -20_000_000,
            read_us: 0,
        }
    }

    #[test]
    fn times_are_converted_to_the_clock_of_the_relay_that_reads_them() {
        // Read five seconds after it was written. The database's clock is 20 s behind the writer's and 100 s behind the
        // reader's.
        let read_us = WRITTEN_US - 20 * SECOND + 5 * SECOND;
        let row = LearnedRow { read_us: i64::try_from(read_us).expect("small"), ..row() };
        let now_us = read_us + 100 * SECOND;
        let learned = row.learned(9, now_us);
        let after = |seconds| Some(now_us + seconds * SECOND);
        assert_eq!((learned.back_off_until_us, learned.paced_us), (after(55), after(5)));
        assert_eq!(learned.breaker, BreakerState::Open { until_us: now_us + 25 * SECOND });
        assert_eq!(learned.since_us, WRITTEN_US, "it is a time of the database's clock and is not shifted");
        assert_eq!((learned.back_offs, learned.openings, learned.is_last), (3, 2, true));
        assert_eq!(learned.reduced.map(|reduced| (reduced.why, reduced.concurrency)), Some((Reason::Status(429), 4.0)));
        assert_eq!(learned.failing.map(|run| run.failures), Some(7));
        assert!(!row.learned(10, now_us).is_last, "there was an owner in between");
    }

    #[test]
    fn every_reason_is_read_back_unchanged() {
        for reason in [Reason::Status(503), Reason::Timeout, Reason::Latency, Reason::Recovering] {
            assert_eq!(reason_of(&reason_text(reason)), Some(reason));
        }
        assert_eq!(reason_of("something of a later version"), None);
    }
}
