//! The health of a destination.
//!
//! The replica that owns a destination reports its health when its state changes, and every few seconds while
//! deliveries are sent to it. Every replica shows the last report.

use std::collections::HashMap;

use model::destination::DestinationState;
use model::health::BreakerName;
use model::held_by::HeldBy;
use serde::Serialize;
use shared::id::DestinationId;
use store::destination_health::{HealthRow, PendingRow};
use store::destinations::DestinationRow;
use store::figures::{self, COUNTED, COUNTED_OF_ONE};
use store::held::CountRow;
use utoipa::ToSchema;

use super::find;
use crate::control::error::Noun;
use crate::control::rate::RateLimit;
use crate::control::time::Timestamp;
use crate::control::{Actor, Control, Error, Scope, schema};

/// The health of a destination, as last reported by the relay that sends to it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DestinationHealth {
    /// The id of the destination.
    #[schema(value_type = schema::DestinationId)]
    pub destination_id: DestinationId,
    /// The current state of the destination.
    pub state: DestinationState,
    /// Why the destination was disabled; otherwise absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub state_reason: Option<String>,
    /// When the state last changed.
    pub state_changed_at: Timestamp,
    /// The circuit breaker of the destination.
    pub breaker: Breaker,
    /// When the back-off ends that the destination requested with `Retry-After` (up to one day) or with a 429 response
    /// without it; null if there is none.
    #[schema(required = true)]
    pub back_off_until: Option<Timestamp>,
    /// The concurrency of the destination.
    pub concurrency: Concurrency,
    /// The rate limit and the rate that currently applies; null if the destination has no rate limit.
    #[schema(required = true)]
    pub rate: Option<RateNow>,
    /// Why and since when the concurrency and rate are below their limits; null if they are not.
    #[schema(required = true)]
    pub reduced: Option<Reduced>,
    /// How many deliveries the relay that sends to the destination has in memory. All other deliveries are only in the
    /// database.
    pub in_memory: InMemory,
    /// The recent attempts.
    pub recent: Recent,
    /// The failures since the last success; null if there are none.
    #[schema(required = true)]
    pub failing: Option<Failing>,
    /// The pending deliveries.
    pub pending: Pending,
    /// Why this relay cannot send to the destination; absent if it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub unusable: Option<String>,
    /// The numbers of individually held deliveries, by `held_by`. They are included in `pending`.
    pub held: Vec<Held>,
    /// When the health was last reported; null if nothing has been sent to the destination yet.
    #[schema(required = true)]
    pub reported_at: Option<Timestamp>,
}

/// The circuit breaker. While it is open, nothing but manual retries is sent, and waiting deliveries use up no attempts
/// of their retry schedule. At `next_probe_at` it becomes half-open: one delivery is sent as a probe.
#[derive(Debug, Serialize, ToSchema)]
pub struct Breaker {
    /// The state of the breaker.
    pub state: BreakerName,
    /// When the breaker entered this state; null if it has always been closed.
    #[schema(required = true)]
    pub since: Option<Timestamp>,
    /// When the next probe is sent, if the breaker is open; otherwise null.
    #[schema(required = true)]
    pub next_probe_at: Option<Timestamp>,
}

/// The concurrency of a destination: how many attempts may be, and are, in flight.
#[derive(Debug, Serialize, ToSchema)]
pub struct Concurrency {
    /// The `max_concurrency` of the destination.
    pub limit: i32,
    /// How many attempts may currently be in flight. Lower than `limit` while the destination is reduced.
    pub now: i32,
    /// How many attempts are in flight.
    pub in_flight: i32,
}

/// The rate of a destination.
#[derive(Debug, Serialize, ToSchema)]
pub struct RateNow {
    /// The configured rate limit.
    pub limit: RateLimit,
    /// The number of deliveries per `limit.per` that are currently sent at most. Lower than `limit.limit` while the
    /// rate is reduced.
    pub now: f64,
}

/// Why and since when concurrency and rate are reduced.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reduced {
    /// The reason.
    #[schema(example = "the destination returned 429")]
    pub why: String,
    /// When the reduction began.
    pub since: Timestamp,
}

/// How many deliveries wait in memory, by lane.
#[derive(Debug, Serialize, ToSchema)]
pub struct InMemory {
    /// Deliveries that wait for their first attempt.
    pub fresh: i32,
    /// Deliveries that wait for a retry.
    pub retry: i32,
    /// Deliveries of replays.
    pub replay: i32,
}

/// Statistics of the last 30 to 60 seconds.
#[derive(Debug, Serialize, ToSchema)]
pub struct Recent {
    /// The number of attempts.
    pub attempts: i32,
    /// The share of attempts that succeeded, from 0 to 1; null if there were no attempts.
    #[schema(required = true)]
    pub success_share: Option<f64>,
    /// The moving average of the latency of successful attempts, in milliseconds.
    #[schema(required = true)]
    pub latency_ms: Option<i32>,
}

/// Consecutive failures.
#[derive(Debug, Serialize, ToSchema)]
pub struct Failing {
    /// When the first of these failures occurred.
    pub since: Timestamp,
    /// The number of consecutive failures.
    pub failures: i64,
}

/// The pending deliveries of a destination.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pending {
    /// The number of deliveries, counted up to 10,000.
    pub count: i64,
    /// Whether there are more than `count`.
    pub and_more: bool,
    /// When the delivery that is due first is, or was, due; null if there are no pending deliveries.
    #[schema(required = true)]
    pub oldest_due_at: Option<Timestamp>,
}

/// Individually held deliveries with the same cause.
#[derive(Debug, Serialize, ToSchema)]
pub struct Held {
    /// The cause.
    pub held_by: HeldBy,
    /// The number of deliveries, counted up to 10,000.
    pub count: i64,
    /// Whether there are more than `count`.
    pub and_more: bool,
    /// When the oldest of these deliveries was held.
    #[schema(required = true)]
    pub since: Option<Timestamp>,
}

/// The health of a destination: its breaker, its current limits and why they are reduced, and its waiting deliveries.
///
/// # Errors
/// Returns an error if the destination does not exist, or if a query fails.
pub async fn show(control: &Control, actor: &Actor, id: &str) -> Result<DestinationHealth, Error> {
    actor.require(Scope::Read)?;
    let destination = find(control, actor, id).await?;
    let shown = of_rows(control, vec![destination], COUNTED_OF_ONE).await?.pop();
    shown.ok_or(Error::NotFound(Noun::Destination))
}

/// The health of those of these destinations that belong to the actor's customer, in this order. Deliveries are counted
/// up to [`COUNTED`].
pub(in crate::control) async fn several(
    control: &Control,
    actor: &Actor,
    ids: &[DestinationId],
) -> Result<Vec<DestinationHealth>, Error> {
    let found = store::destinations::find_several(&control.pool, actor.customer()?, ids).await?;
    let mut found: HashMap<DestinationId, DestinationRow> = found.into_iter().map(|row| (row.id, row)).collect();
    of_rows(control, ids.iter().filter_map(|id| found.remove(id)).collect(), COUNTED).await
}

/// The health of these destinations. Deliveries are counted up to `most`.
async fn of_rows(control: &Control, rows: Vec<DestinationRow>, most: i64) -> Result<Vec<DestinationHealth>, Error> {
    let ids: Vec<DestinationId> = rows.iter().map(|row| row.id).collect();
    let mut reports = figures::reports(&control.pool, &ids).await?;
    let mut pending = figures::pending(&control.pool, &ids, most).await?;
    let mut held = figures::held(&control.pool, &ids, most).await?;
    let snapshot = control.configuration.current();
    let health = rows.into_iter().map(|row| {
        let id = row.id;
        let pending = pending.remove(&id).unwrap_or(PendingRow { count: 0, oldest_due_at: None });
        let unusable = snapshot.unusable.get(&id).map(|unusable| unusable.reason.clone());
        let held = held.remove(&id).unwrap_or_default();
        let held = held.into_iter().map(|row| held_view(row, most)).collect();
        DestinationHealth { unusable, held, ..view(row, reports.remove(&id), &pending, most) }
    });
    Ok(health.collect())
}

fn held_view(row: CountRow, counted: i64) -> Held {
    Held { held_by: row.held_by, count: row.count, and_more: row.count >= counted, since: row.since.map(Timestamp) }
}

fn view(
    destination: DestinationRow,
    report: Option<HealthRow>,
    pending: &PendingRow,
    counted: i64,
) -> DestinationHealth {
    // A report about a previous address is not shown.
    let report = report.as_ref().filter(|report| report.learned_since >= destination.moved_at);
    let limit = RateLimit::of_columns(destination.rate_limit, destination.rate_per.as_deref());
    let time = |at: Option<time::OffsetDateTime>| at.map(Timestamp);
    DestinationHealth {
        destination_id: destination.id,
        state: destination.state,
        state_reason: destination.state_reason,
        state_changed_at: Timestamp(destination.state_changed_at),
        breaker: Breaker {
            state: report.map_or(BreakerName::Closed, |report| report.breaker),
            since: time(report.and_then(|report| report.breaker_since)),
            next_probe_at: time(report.and_then(|report| report.probe_at)),
        },
        back_off_until: time(report.and_then(|report| report.back_off_until)),
        concurrency: Concurrency {
            limit: destination.max_concurrency,
            now: report
                .map_or(destination.max_concurrency, |report| report.concurrency.min(destination.max_concurrency)),
            in_flight: report.map_or(0, |report| report.in_flight),
        },
        rate: limit.map(|limit| RateNow {
            limit,
            now: f64::from(limit.limit) * report.map_or(1.0, |report| report.rate_factor),
        }),
        reduced: report
            .and_then(|report| report.reduced_by.clone().zip(report.reduced_since))
            .map(|(why, since)| Reduced { why, since: Timestamp(since) }),
        in_memory: InMemory {
            fresh: report.map_or(0, |report| report.waiting_fresh),
            retry: report.map_or(0, |report| report.waiting_retry),
            replay: report.map_or(0, |report| report.waiting_replay),
        },
        recent: recent(report),
        failing: report.and_then(|report| {
            report.failing_since.map(|since| Failing { since: Timestamp(since), failures: report.failures })
        }),
        pending: Pending {
            count: pending.count,
            and_more: pending.count >= counted,
            oldest_due_at: time(pending.oldest_due_at),
        },
        unusable: None,
        held: Vec::new(),
        reported_at: time(report.map(|report| report.reported_at)),
    }
}

fn recent(report: Option<&HealthRow>) -> Recent {
    let (attempts, failures) = report.map_or((0, 0), |report| (report.recent_attempts, report.recent_failures));
    Recent {
        attempts,
        success_share: (attempts > 0).then(|| f64::from(attempts - failures) / f64::from(attempts)),
        latency_ms: report.and_then(|report| report.latency_ms),
    }
}
