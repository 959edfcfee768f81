//! How destinations take what they are sent, as the engine that sends has seen it.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::deliver::core::{BreakerState, Health, Reason};
use crate::deliver::lane::Lane;
use crate::mint::timestamp;
use crate::store::Pool;

/// The most pending deliveries that are counted.
pub const COUNTED: i64 = 10_000;

/// A run of failures without a success.
pub struct FailingRow {
    pub since: OffsetDateTime,
    pub failures: i64,
}

/// What is known of a destination.
pub struct HealthRow {
    pub breaker: String,
    pub breaker_since: Option<OffsetDateTime>,
    pub probe_at: Option<OffsetDateTime>,
    pub held_until: Option<OffsetDateTime>,
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
}

/// What is pending for a destination.
pub struct PendingRow {
    /// At most [`COUNTED`].
    pub count: i64,
    pub oldest_due_at: Option<OffsetDateTime>,
}

/// Since when a destination has been failing; `None` where its last attempt succeeded, or nothing is known of it.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn failing(pool: &Pool, destination: Uuid) -> Result<Option<FailingRow>, sqlx::Error> {
    sqlx::query_as!(
        FailingRow,
        r#"select failing_since as "since!", failures from destination_health
           where destination_id = $1 and failing_since is not null"#,
        destination
    )
    .fetch_optional(pool)
    .await
}

/// Writes reports, one of a destination. What a later owner has written stays, and so does what an earlier one knows of
/// a run of failures, as long as the present one has not been told of it.
///
/// # Errors
/// Where the database cannot be asked; then nothing was written.
pub async fn write(pool: &Pool, reports: &[&Health]) -> Result<(), sqlx::Error> {
    // In one order everywhere, so that two replicas wait for each other and do not deadlock.
    let mut reports = reports.to_vec();
    reports.sort_unstable_by_key(|health| health.destination);
    let at = |at_us: u64| timestamp(at_us / 1000);
    let ids: Vec<Uuid> = reports.iter().map(|health| health.destination.uuid()).collect();
    let epochs: Vec<i64> = reports.iter().map(|health| health.epoch).collect();
    let breakers: Vec<&str> = reports.iter().map(|health| breaker_name(health.breaker)).collect();
    let since: Vec<Option<OffsetDateTime>> = reports.iter().map(|health| health.breaker_since_us.map(at)).collect();
    let probes: Vec<Option<OffsetDateTime>> = reports.iter().map(|health| probe_us(health.breaker).map(at)).collect();
    let held: Vec<Option<OffsetDateTime>> = reports.iter().map(|health| health.held_until_us.map(at)).collect();
    let reduced_by: Vec<Option<String>> =
        reports.iter().map(|health| health.reduced.map(|(why, _)| reason_text(why))).collect();
    let reduced_since: Vec<Option<OffsetDateTime>> =
        reports.iter().map(|health| health.reduced.map(|(_, since_us)| at(since_us))).collect();
    let factors: Vec<f64> = reports.iter().map(|health| health.rate_factor).collect();
    let concurrency: Vec<i32> = reports.iter().map(|health| int(health.concurrency)).collect();
    let in_flight: Vec<i32> = reports.iter().map(|health| int(health.in_flight)).collect();
    let waiting = |lane: Lane| -> Vec<i32> { reports.iter().map(|health| int(health.waiting[lane])).collect() };
    let attempts: Vec<i32> = reports.iter().map(|health| i32::try_from(health.recent.0).unwrap_or(i32::MAX)).collect();
    let failures: Vec<i32> = reports.iter().map(|health| i32::try_from(health.recent.1).unwrap_or(i32::MAX)).collect();
    let latency: Vec<Option<i32>> = reports.iter().map(|health| health.latency_us.map(milliseconds)).collect();
    let failing: Vec<Option<OffsetDateTime>> =
        reports.iter().map(|health| health.failing.map(|run| at(run.since_us))).collect();
    let runs: Vec<i64> = reports
        .iter()
        .map(|health| health.failing.map_or(0, |run| i64::try_from(run.failures).unwrap_or(i64::MAX)))
        .collect();
    let whole: Vec<bool> = reports.iter().map(|health| health.failing_is_whole).collect();
    let reported: Vec<OffsetDateTime> = reports.iter().map(|health| at(health.at_us)).collect();
    sqlx::query!(
        "insert into destination_health as held (destination_id, epoch, breaker, breaker_since, probe_at, held_until,
             reduced_by, reduced_since, rate_factor, concurrency, in_flight, waiting_fresh, waiting_retry, waiting_replay,
             recent_attempts, recent_failures, latency_ms, failing_since, failures, reported_at)
         select report.id, report.epoch, report.breaker, report.breaker_since, report.probe_at, report.held_until,
             report.reduced_by, report.reduced_since, report.rate_factor, report.concurrency, report.in_flight,
             report.fresh, report.retry, report.replay, report.attempts, report.recent_failures, report.latency_ms,
             case when report.whole then report.failing_since else before.failing_since end,
             case when report.whole then report.failures else coalesce(before.failures, 0) end,
             report.reported_at
         from unnest($1::uuid[], $2::bigint[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[],
                     $7::text[], $8::timestamptz[], $9::float8[], $10::int[], $11::int[], $12::int[], $13::int[],
                     $14::int[], $15::int[], $16::int[], $17::int[], $18::timestamptz[], $19::bigint[], $20::bool[],
                     $21::timestamptz[])
              as report (id, epoch, breaker, breaker_since, probe_at, held_until, reduced_by, reduced_since, rate_factor,
                         concurrency, in_flight, fresh, retry, replay, attempts, recent_failures, latency_ms,
                         failing_since, failures, whole, reported_at)
         join destinations on destinations.id = report.id
         left join destination_health before on before.destination_id = report.id
         on conflict (destination_id) do update
         set epoch = excluded.epoch, breaker = excluded.breaker, breaker_since = excluded.breaker_since,
             probe_at = excluded.probe_at, held_until = excluded.held_until, reduced_by = excluded.reduced_by,
             reduced_since = excluded.reduced_since, rate_factor = excluded.rate_factor,
             concurrency = excluded.concurrency, in_flight = excluded.in_flight, waiting_fresh = excluded.waiting_fresh,
             waiting_retry = excluded.waiting_retry, waiting_replay = excluded.waiting_replay,
             recent_attempts = excluded.recent_attempts, recent_failures = excluded.recent_failures,
             latency_ms = excluded.latency_ms, failing_since = excluded.failing_since, failures = excluded.failures,
             reported_at = excluded.reported_at
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
        &whole,
        &reported
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The last report of a destination; `None` where nothing has been sent to it yet.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn find(pool: &Pool, destination: Uuid) -> Result<Option<HealthRow>, sqlx::Error> {
    sqlx::query_as!(
        HealthRow,
        "select breaker, breaker_since, probe_at, held_until, reduced_by, reduced_since, rate_factor, concurrency, in_flight,
                waiting_fresh, waiting_retry, waiting_replay, recent_attempts, recent_failures, latency_ms,
                failing_since, failures, reported_at
         from destination_health where destination_id = $1",
        destination
    )
    .fetch_optional(pool)
    .await
}

/// What is pending for a destination, counted no further than [`COUNTED`], and since when the oldest is due; parked ones
/// are counted and never due.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn pending(pool: &Pool, destination: Uuid) -> Result<PendingRow, sqlx::Error> {
    sqlx::query_as!(
        PendingRow,
        r#"select (select count(*) from (select from pending_deliveries where destination_id = $1 limit $2) counted)
                      as "count!",
                  (select min(first.due_at) from unnest(array[0, 1, 2]::smallint[]) as lanes (lane)
                   cross join lateral (
                       select due_at from pending_deliveries pending
                       where pending.destination_id = $1 and pending.lane = lanes.lane and due_at < 'infinity'
                       order by due_at limit 1
                   ) first) as oldest_due_at"#,
        destination,
        COUNTED
    )
    .fetch_one(pool)
    .await
}

fn breaker_name(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => "closed",
        BreakerState::Open { .. } => "open",
        BreakerState::HalfOpen { .. } => "half_open",
    }
}

fn probe_us(state: BreakerState) -> Option<u64> {
    match state {
        BreakerState::Open { until_us } => Some(until_us),
        BreakerState::Closed | BreakerState::HalfOpen { .. } => None,
    }
}

fn reason_text(reason: Reason) -> String {
    match reason {
        Reason::Status(status) => format!("it answered {status}"),
        Reason::Timeout => "it did not answer in time".to_owned(),
        Reason::Latency => "its answers take much longer than usual".to_owned(),
        Reason::Recovering => "it has just recovered".to_owned(),
    }
}

fn int(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "saturates")]
fn milliseconds(microseconds: f64) -> i32 {
    (microseconds / 1000.0) as i32
}
