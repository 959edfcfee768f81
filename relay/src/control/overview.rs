//! What happens now, and what is wrong now with what a customer owns, each with the step that helps.
//!
//! Everything is read by bounded statements (`store::overview`): from counters, from what the engine has reported, and
//! from the newest rows of history. So a finding may say "at least", and history is never scanned.

use std::cmp::Reverse;

use model::destination::DestinationState;
use model::health::BreakerName;
use model::unix_time;
use serde::Serialize;
use shared::id::{CustomerId, uuid_v7_floor, uuid_v7_ms};
use store::counters::{self, Span};
use store::overview::{
    self, COUNTED_OF_ONE, DeliveredRow, HeldRow, InactiveRow, MOST_HISTORY, OldestRow, PendingRow, RejectedRow,
    TroubledRow,
};
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;
use uuid::Uuid;

use super::time::Timestamp;
use super::{Actor, Control, Error, Scope, schema};
use crate::configuration::Snapshot;
use crate::mint;

/// The time over which rates are averaged.
pub(crate) const RATE_MS: u64 = 5 * 60_000;

/// The time over which shares, latencies and rejections are counted.
pub(crate) const RECENT_MS: u64 = 3_600_000;

/// The time over which dead deliveries and events in quarantine are counted.
pub(crate) const DAY_MS: u64 = 86_400_000;

/// How long a delivery may be due before its destination has a backlog.
pub(crate) const BACKLOG_AFTER_MS: u64 = 60_000;

/// What happens now.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct OverviewFigures {
    /// The number of sources.
    pub sources: usize,
    /// The number of destinations.
    pub destinations: usize,
    /// The number of routes.
    pub routes: usize,
    /// Events stored per minute, over the last five minutes.
    pub events_per_minute: f64,
    /// Deliveries that succeeded per minute, over the last five minutes.
    pub deliveries_per_minute: f64,
    /// The share of attempts that succeeded in the last hour, from 0 to 1; null if there were none.
    #[schema(required = true)]
    pub success_share: Option<f64>,
    /// The time from the receipt of an event to its delivery, in milliseconds, that 95 % of the newest deliveries of the
    /// last hour needed at most; null if there were none. Of the newest 2,000 deliveries, those of replays are left out.
    #[schema(required = true)]
    pub delivered_within_p95_ms: Option<u64>,
    /// The number of pending and held deliveries, of each destination up to 1,000.
    pub pending: i64,
    /// Whether there may be more than `pending`.
    pub pending_and_more: bool,
}

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// The source or destination that is concerned. Absent if the finding is about several.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub subject: Option<FindingSubject>,
    /// Since when; null if that is not known.
    #[schema(required = true)]
    pub since: Option<Timestamp>,
    /// How many requests, events or deliveries are concerned; null if the finding is not about a number.
    #[schema(required = true)]
    pub count: Option<i64>,
    /// Whether there may be more than `count`.
    pub and_more: bool,
    /// What is wrong, in a sentence.
    pub detail: String,
}

/// The kind of a finding. `destination_disabled`: nothing is sent until it is resumed. `destination_paused`: deliveries
/// wait at a paused destination. `destination_failing`: attempts fail. `destination_backing_off`: the destination asked
/// to wait. `backlog`: deliveries are due and not sent. `source_rejecting`: requests are refused. `source_not_active`:
/// the edge has not confirmed the newest configuration. `deliveries_dead`: deliveries have ended without success.
/// `deliveries_held`: deliveries wait for a release. `events_quarantined`: events that failed verification are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    DestinationDisabled,
    DestinationPaused,
    DestinationFailing,
    DestinationBackingOff,
    Backlog,
    SourceRejecting,
    SourceNotActive,
    DeliveriesDead,
    DeliveriesHeld,
    EventsQuarantined,
}

impl FindingKind {
    /// How bad it is; 0 is the worst: first what stops, then what is lost to its destination until someone acts, then
    /// what is late, then what waits because someone wants it to.
    const fn rank(self) -> u8 {
        match self {
            Self::DestinationDisabled => 0,
            Self::DestinationFailing => 1,
            Self::SourceRejecting => 2,
            Self::DeliveriesDead => 3,
            Self::SourceNotActive => 4,
            Self::Backlog => 5,
            Self::DestinationBackingOff => 6,
            Self::EventsQuarantined => 7,
            Self::DeliveriesHeld => 8,
            Self::DestinationPaused => 9,
        }
    }
}

/// A source or a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FindingSubject {
    /// The id.
    #[schema(value_type = schema::AuditObjectId)]
    pub id: String,
    /// The name.
    pub name: String,
}

/// The step that helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Resume this destination.
    Resume(String),
    /// Look at the health of this destination.
    Health(String),
    /// Look at the rejections of this source.
    Rejections(String),
    /// Look at this source, which names what the edge says.
    Source(String),
    /// Look at the dead deliveries.
    Dead,
    /// Look at the held deliveries, to release them.
    Held,
    /// Look at the events in quarantine.
    Quarantine,
}

/// A finding and the step that helps.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub finding: Finding,
    pub next: Next,
}

/// What happens and what is wrong now.
#[derive(Debug)]
pub struct Overview {
    pub figures: OverviewFigures,
    pub findings: Vec<Found>,
}

/// What happens now and what is wrong now.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn show(control: &Control, actor: &Actor) -> Result<Overview, Error> {
    actor.require(Scope::Read)?;
    let customer = actor.customer()?;
    let (pool, now_ms) = (&control.pool, mint::now_ms());
    let span = |ms: u64| Span {
        from: unix_time::timestamp(now_ms.saturating_sub(ms) / 60_000 * 60_000),
        until: unix_time::timestamp(now_ms),
        step: "day",
    };
    let range = |ms: u64| -> (Uuid, Uuid) {
        (uuid_v7_floor(now_ms.saturating_sub(ms)), uuid_v7_floor(now_ms.saturating_add(RECENT_MS)))
    };
    let stored: i64 = counters::of_sources(pool, customer, None, span(RATE_MS)).await?.values().map(|c| c.stored).sum();
    let succeeded: i64 =
        counters::of_destinations(pool, customer, None, span(RATE_MS)).await?.values().map(|c| c.succeeded).sum();
    let hour = counters::of_destinations(pool, customer, None, span(RECENT_MS)).await?;
    let attempts: i64 = hour.values().flat_map(|counts| counts.attempts).sum();
    let failed: i64 = hour.values().map(|counts| counts.failed_attempts).sum();
    let (from, until) = range(RECENT_MS);
    let delivered = overview::delivered(pool, customer, from, until).await?;
    let pending = overview::pending(pool, customer).await?;
    let rejected = overview::rejected(pool, customer, from, until).await?;
    let (from, until) = range(DAY_MS);
    let dead = overview::dead(pool, customer, from, until).await?;
    let quarantined = overview::quarantined(pool, customer, from, until).await?;
    let seen = Seen {
        now_ms,
        troubled: overview::troubled(pool, customer).await?,
        rejected,
        inactive: overview::inactive(pool, customer).await?,
        held: overview::held(pool, customer).await?,
        dead,
        quarantined,
        pending,
    };
    let snapshot = control.configuration.current();
    let (sources, destinations, routes) = counts(&snapshot, customer);
    let figures = OverviewFigures {
        sources,
        destinations,
        routes,
        events_per_minute: per_minute(stored),
        deliveries_per_minute: per_minute(succeeded),
        success_share: share(attempts, failed),
        delivered_within_p95_ms: p95(&delivered),
        pending: seen.pending.iter().map(|row| row.count).sum(),
        pending_and_more: seen.pending.iter().any(|row| row.count >= COUNTED_OF_ONE)
            || destinations > usize::try_from(overview::MOST_DESTINATIONS).unwrap_or(usize::MAX),
    };
    Ok(Overview { figures, findings: seen.findings() })
}

/// The numbers of a customer's sources, destinations and routes.
pub(super) fn counts(snapshot: &Snapshot, customer: CustomerId) -> (usize, usize, usize) {
    let of = |owner: CustomerId| owner == customer;
    let sources = || snapshot.sources.values().filter(|source| of(source.customer_id));
    let destinations = snapshot.destinations.values().filter(|destination| of(destination.customer_id)).count()
        + snapshot.unusable.values().filter(|destination| of(destination.customer_id)).count();
    let routes = sources().filter_map(|source| snapshot.routes_of_source.get(&source.id)).map(Vec::len).sum();
    (sources().count(), destinations, routes)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few minutes are far below 2^52")]
fn per_minute(count: i64) -> f64 {
    count as f64 / (RATE_MS / 60_000) as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts of an hour are far below 2^52")]
fn share(attempts: i64, failed: i64) -> Option<f64> {
    (attempts > 0).then(|| ((attempts - failed) as f64 / attempts as f64).clamp(0.0, 1.0))
}

/// The time that 95 % of the deliveries needed at most.
fn p95(delivered: &[DeliveredRow]) -> Option<u64> {
    let took = |row: &DeliveredRow| unix_time::unix_ms(row.settled_at).saturating_sub(uuid_v7_ms(row.event.uuid()));
    let mut took: Vec<u64> = delivered.iter().map(took).collect();
    took.sort_unstable();
    let at = (took.len() * 95).div_ceil(100);
    took.get(at.checked_sub(1)?).copied()
}

/// Everything that was read.
struct Seen {
    now_ms: u64,
    troubled: Vec<TroubledRow>,
    pending: Vec<PendingRow>,
    rejected: Vec<RejectedRow>,
    inactive: Vec<InactiveRow>,
    held: Vec<HeldRow>,
    dead: OldestRow,
    quarantined: OldestRow,
}

impl Seen {
    fn findings(&self) -> Vec<Found> {
        let troubled = self.troubled.iter().filter_map(|row| self.of_destination(row));
        let backlog = self.pending.iter().filter_map(|row| self.backlog(row));
        let rejecting = self.rejected.iter().map(rejecting);
        let inactive = self.inactive.iter().map(inactive);
        let held = self.held.iter().map(held);
        let whole = [dead(self.dead), quarantined(self.quarantined)];
        let all = troubled.chain(backlog).chain(rejecting).chain(inactive).chain(held);
        let mut findings: Vec<Found> = all.chain(whole.into_iter().flatten()).collect();
        findings.sort_by_key(|found| (found.finding.kind.rank(), Reverse(found.finding.count)));
        findings
    }

    fn pending_of(&self, row: &TroubledRow) -> i64 {
        self.pending.iter().find(|pending| pending.id == row.id).map_or(0, |pending| pending.count)
    }

    fn of_destination(&self, row: &TroubledRow) -> Option<Found> {
        let waiting = self.pending_of(row);
        let (id, name) = (row.id.to_string(), &row.name);
        let waits = match waiting {
            0 => "no delivery waits for it".to_owned(),
            1 => "1 delivery waits for it".to_owned(),
            more => format!("{} deliveries wait for it", at_least(more)),
        };
        let (kind, since, detail, next) = match row.state {
            DestinationState::Disabled => {
                let why = row.state_reason.clone().unwrap_or_else(|| "it was disabled".to_owned());
                let detail = format!("the destination {name} is disabled ({why}); {waits}");
                (FindingKind::DestinationDisabled, Some(row.state_changed_at), detail, Next::Resume(id.clone()))
            }
            DestinationState::Paused if waiting > 0 => {
                let detail = format!("the destination {name} is paused; {waits}");
                (FindingKind::DestinationPaused, Some(row.state_changed_at), detail, Next::Resume(id.clone()))
            }
            DestinationState::Paused => return None,
            DestinationState::Active if row.failing_since.is_some() || row.breaker != BreakerName::Closed => {
                let failures = row.failures.unwrap_or_default();
                let breaker = match row.breaker {
                    BreakerName::Closed => "",
                    BreakerName::Open | BreakerName::HalfOpen => ", and its breaker is open",
                };
                let detail = format!(
                    "attempts to the destination {name} fail ({failures} since the last success){breaker}; {waits}"
                );
                let since = row.failing_since.or(row.breaker_since);
                (FindingKind::DestinationFailing, since, detail, Next::Health(id.clone()))
            }
            DestinationState::Active => {
                let until = row.back_off_until?.format(&Rfc3339).unwrap_or_default();
                let detail = format!("the destination {name} asked to wait until {until}; {waits}");
                (FindingKind::DestinationBackingOff, None, detail, Next::Health(id.clone()))
            }
        };
        let finding = Finding {
            kind,
            subject: Some(FindingSubject { id, name: name.clone() }),
            since: since.map(Timestamp),
            count: Some(waiting),
            and_more: waiting >= COUNTED_OF_ONE,
            detail,
        };
        Some(Found { finding, next })
    }

    /// Deliveries that are due and not sent although nothing is known to be wrong with their destination.
    fn backlog(&self, row: &PendingRow) -> Option<Found> {
        let due = row.oldest_due_at.filter(|_| row.state == DestinationState::Active)?;
        let overdue_ms = self.now_ms.saturating_sub(unix_time::unix_ms(due));
        if overdue_ms < BACKLOG_AFTER_MS || self.troubled.iter().any(|troubled| troubled.id == row.id) {
            return None;
        }
        let detail = format!(
            "{} deliveries wait for the destination {}, the first for {} s: it gets more events than its rate limit and \
             concurrency let through",
            at_least(row.count),
            row.name,
            overdue_ms / 1_000
        );
        let id = row.id.to_string();
        let finding = Finding {
            kind: FindingKind::Backlog,
            subject: Some(FindingSubject { id: id.clone(), name: row.name.clone() }),
            since: Some(Timestamp(due)),
            count: Some(row.count),
            and_more: row.count >= COUNTED_OF_ONE,
            detail,
        };
        Some(Found { finding, next: Next::Health(id) })
    }
}

fn at_least(count: i64) -> String {
    if count >= COUNTED_OF_ONE { format!("at least {count}") } else { count.to_string() }
}

fn rejecting(row: &RejectedRow) -> Found {
    let detail = format!(
        "{} requests to the source {} were refused in the last hour ({}): {}",
        row.count, row.name, row.cause, row.detail
    );
    let id = row.id.to_string();
    let finding = Finding {
        kind: FindingKind::SourceRejecting,
        subject: Some(FindingSubject { id: id.clone(), name: row.name.clone() }),
        since: None,
        count: Some(row.count),
        and_more: false,
        detail,
    };
    Found { finding, next: Next::Rejections(id) }
}

fn inactive(row: &InactiveRow) -> Found {
    let why = row.error.as_deref().unwrap_or("the edge has not answered yet");
    let detail = format!("the newest configuration of the source {} is not active at the edge: {why}", row.name);
    let id = row.id.to_string();
    let finding = Finding {
        kind: FindingKind::SourceNotActive,
        subject: Some(FindingSubject { id: id.clone(), name: row.name.clone() }),
        since: Some(Timestamp(row.updated_at)),
        count: None,
        and_more: false,
        detail,
    };
    Found { finding, next: Next::Source(id) }
}

fn held(row: &HeldRow) -> Found {
    let by = row.held_by.name();
    let detail = format!("{} deliveries are held individually ({by}) and wait for a release", at_least(row.count));
    let finding = Finding {
        kind: FindingKind::DeliveriesHeld,
        subject: None,
        since: row.since.map(Timestamp),
        count: Some(row.count),
        and_more: row.count >= COUNTED_OF_ONE,
        detail,
    };
    Found { finding, next: Next::Held }
}

fn dead(row: OldestRow) -> Option<Found> {
    let detail = format!("{} deliveries have become dead in the last day; they can be retried or replayed", row.count);
    of_day(FindingKind::DeliveriesDead, row, detail, Next::Dead)
}

fn quarantined(row: OldestRow) -> Option<Found> {
    let detail = format!("{} events of the last day failed verification and are in quarantine", row.count);
    of_day(FindingKind::EventsQuarantined, row, detail, Next::Quarantine)
}

fn of_day(kind: FindingKind, row: OldestRow, detail: String, next: Next) -> Option<Found> {
    (row.count > 0).then(|| Found {
        finding: Finding {
            kind,
            subject: None,
            since: row.oldest.map(Timestamp),
            count: Some(row.count),
            and_more: row.count >= MOST_HISTORY,
            detail,
        },
        next,
    })
}

#[cfg(test)]
mod tests {
    use shared::id::{DestinationId, EventId};
    use time::OffsetDateTime;

    use super::*;

    const NOW_MS: u64 = 1_769_846_400_000;

    fn at(before_ms: u64) -> OffsetDateTime {
        unix_time::timestamp(NOW_MS - before_ms)
    }

    fn destination(state: DestinationState) -> TroubledRow {
        TroubledRow {
            id: DestinationId::mint(1, [1; 10]),
            name: "billing".to_owned(),
            state,
            state_reason: None,
            state_changed_at: at(5_000),
            breaker: BreakerName::Closed,
            breaker_since: None,
            back_off_until: None,
            failing_since: None,
            failures: None,
        }
    }

    fn pending(count: i64, due_before_ms: u64) -> PendingRow {
        PendingRow {
            id: DestinationId::mint(1, [1; 10]),
            name: "billing".to_owned(),
            state: DestinationState::Active,
            count,
            oldest_due_at: Some(at(due_before_ms)),
        }
    }

    fn seen(troubled: Vec<TroubledRow>, pending: Vec<PendingRow>) -> Vec<Found> {
        let seen = Seen {
            now_ms: NOW_MS,
            troubled,
            pending,
            rejected: Vec::new(),
            inactive: Vec::new(),
            held: Vec::new(),
            dead: OldestRow::default(),
            quarantined: OldestRow::default(),
        };
        seen.findings()
    }

    #[test]
    fn a_paused_destination_is_a_finding_only_if_deliveries_wait_for_it() {
        assert_eq!(seen(vec![destination(DestinationState::Paused)], Vec::new()), []);
        let paused = PendingRow { state: DestinationState::Paused, ..pending(2, 0) };
        let found = seen(vec![destination(DestinationState::Paused)], vec![paused]).remove(0);
        assert_eq!((found.finding.kind, found.finding.count), (FindingKind::DestinationPaused, Some(2)));
        assert!(matches!(found.next, Next::Resume(_)));
    }

    #[test]
    fn a_destination_that_fails_is_one_finding_and_not_a_backlog_too() {
        let failing = TroubledRow {
            failing_since: Some(at(60_000)),
            failures: Some(12),
            breaker: BreakerName::Open,
            ..destination(DestinationState::Active)
        };
        let found = seen(vec![failing], vec![pending(5_000, 600_000)]);
        assert_eq!(found.len(), 1, "{found:?}");
        let Finding { kind, since, and_more, detail, .. } = &found[0].finding;
        assert_eq!((*kind, *and_more), (FindingKind::DestinationFailing, true));
        assert_eq!(since.map(|since| since.0), Some(at(60_000)));
        assert!(detail.contains("12 since the last success") && detail.contains("at least 5000"), "{detail}");
    }

    #[test]
    fn the_worst_finding_is_the_first_and_of_one_kind_the_one_that_concerns_the_most() {
        let disabled = destination(DestinationState::Disabled);
        let failing = |id, name: &str| TroubledRow {
            id: DestinationId::mint(1, [id; 10]),
            name: name.to_owned(),
            failing_since: Some(at(1)),
            ..destination(DestinationState::Active)
        };
        let waiting = |id, count| PendingRow { id: DestinationId::mint(1, [id; 10]), ..pending(count, 0) };
        let troubled = vec![failing(2, "few"), failing(3, "many"), disabled];
        let found = seen(troubled, vec![waiting(2, 1), waiting(3, 50)]);
        let names: Vec<&str> = found
            .iter()
            .filter_map(|found| found.finding.subject.as_ref())
            .map(|subject| subject.name.as_str())
            .collect();
        assert_eq!(names, ["billing", "many", "few"]);
    }

    #[test]
    fn deliveries_that_are_due_for_long_are_a_backlog() {
        assert_eq!(seen(Vec::new(), vec![pending(5, BACKLOG_AFTER_MS - 1)]), []);
        let found = seen(Vec::new(), vec![pending(5, BACKLOG_AFTER_MS)]).remove(0).finding;
        assert_eq!((found.kind, found.since.map(|since| since.0)), (FindingKind::Backlog, Some(at(BACKLOG_AFTER_MS))));
    }

    #[test]
    fn a_back_off_names_its_end_and_a_disabled_destination_its_reason() {
        let waiting = TroubledRow { back_off_until: Some(at(0)), ..destination(DestinationState::Active) };
        assert_eq!(seen(vec![waiting], Vec::new())[0].finding.kind, FindingKind::DestinationBackingOff);
        let gone =
            TroubledRow { state_reason: Some("it returned 410".to_owned()), ..destination(DestinationState::Disabled) };
        assert!(seen(vec![gone], Vec::new())[0].finding.detail.contains("it returned 410"));
    }

    #[test]
    fn the_95th_percentile_is_that_of_the_deliveries() {
        let row = |took_ms: u64| DeliveredRow { event: EventId::mint(NOW_MS - took_ms, [1; 10]), settled_at: at(0) };
        assert_eq!(p95(&[]), None);
        assert_eq!(p95(&[row(7)]), Some(7));
        let rows: Vec<_> = (1..=100).rev().map(row).collect();
        assert_eq!(p95(&rows), Some(95));
    }

    #[test]
    fn a_share_is_that_of_the_attempts() {
        assert_eq!((share(0, 0), share(4, 1), share(1, 2)), (None, Some(0.75), Some(0.0)));
        assert!((per_minute(10) - 2.0).abs() < f64::EPSILON);
    }
}
