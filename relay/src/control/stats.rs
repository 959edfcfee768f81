//! Statistics: counts of events, deliveries and attempts per minute, hour or day.

use model::unix_time;
use serde::{Deserialize, Serialize};
use store::counters::{self, DestinationCounts, LATENCIES_MS, SourceCounts, Span};
use store::{Kind, Limit};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::fields::{FieldError, Problems};
use super::time::{Timestamp, read_ms};
use super::{Actor, Control, Error, Scope, destinations, sources};
use crate::mint;

pub use several::{
    DestinationsHealth, DestinationsStats, SeveralFilter, SourceStats, SourcesStats, health_of, last_of_sources,
    of_destinations, of_sources,
};

pub(crate) mod several;

/// The maximum number of steps in one response.
pub(crate) const MOST_STEPS: u64 = 1_500;

/// The length of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Minute,
    #[default]
    Hour,
    /// A day of UTC.
    Day,
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    fn ms(self) -> u64 {
        match self {
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
        }
    }
}

/// Selects counters and a range of time.
#[derive(Debug, Default)]
pub struct StatsFilter {
    /// The id or name of a source. Only its events are counted.
    pub source: Option<String>,
    /// The id or name of a destination. Only its deliveries are counted.
    pub destination: Option<String>,
    /// The start of the range (RFC 3339), rounded down to a full step. Default: 24 hours before `to`.
    pub from: Option<String>,
    /// The end of the range (RFC 3339), exclusive. Default: now.
    pub to: Option<String>,
    pub step: Step,
}

/// Counts of events, deliveries and attempts per step.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stats {
    /// The length of each step.
    pub step: Step,
    /// The start of the range, rounded down to a full step.
    pub from: Timestamp,
    /// The end of the range, exclusive.
    pub to: Timestamp,
    /// Counts of incoming events. Steps without events are omitted. Empty if `destination` is set.
    pub events: Vec<EventStats>,
    /// Counts of outgoing deliveries. Steps without deliveries are omitted. Empty if `source` is set.
    pub deliveries: Vec<DeliveryStats>,
}

/// Incoming events in a step.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventStats {
    /// When the step begins.
    pub at: Timestamp,
    /// The number of events that were stored.
    pub stored: i64,
    /// The number of copies, which are counted but not stored again.
    pub copies: i64,
    /// The number of requests that were not stored as events, including requests that failed verification beyond the
    /// limits of the quarantine.
    pub rejected: i64,
}

/// Outgoing deliveries in a step.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryStats {
    /// When the step begins.
    pub at: Timestamp,
    /// The number of deliveries that succeeded.
    pub succeeded: i64,
    /// The number of deliveries that became dead.
    pub dead: i64,
    /// The number of attempts that failed.
    pub failed_attempts: i64,
    /// The number of attempts, including failed ones, by latency.
    pub attempts: Vec<Latency>,
}

/// One bucket of a latency histogram.
#[derive(Debug, Serialize, ToSchema)]
pub struct Latency {
    /// The upper bound of the bucket in milliseconds; null in the last bucket. The lower bound is the `within_ms` of
    /// the previous bucket.
    #[schema(required = true)]
    pub within_ms: Option<i32>,
    /// The number of attempts in this bucket.
    pub count: i64,
}

/// Counts of events, deliveries and attempts per minute, hour or day. Counts are kept for the retention of metadata.
///
/// # Errors
/// Returns every invalid field of the filter, or an error if a query fails.
pub async fn show(control: &Control, actor: &Actor, filter: &StatsFilter) -> Result<Stats, Error> {
    actor.require(Scope::Read)?;
    let mut problems = Problems::default();
    let span = span(filter, MOST_STEPS, mint::now_ms(), &mut problems);
    let source = sources::id_of(control, actor, "source", filter.source.as_deref(), &mut problems).await?;
    let destination =
        destinations::id_of(control, actor, "destination", filter.destination.as_deref(), &mut problems).await?;
    if source.is_some() && destination.is_some() {
        problems.add("destination", "cannot be combined with source; omit one of them");
    }
    let span = problems.finish_with(span)?;
    let customer = actor.customer()?;
    let events = match destination {
        Some(_) => Vec::new(),
        None => {
            let counts = counters::of_sources(&control.pool, customer, source, span).await.map_err(took_too_long)?;
            counts.into_iter().map(event_stats).collect()
        }
    };
    let deliveries = match source {
        Some(_) => Vec::new(),
        None => {
            let counts =
                counters::of_destinations(&control.pool, customer, destination, span).await.map_err(took_too_long)?;
            counts.into_iter().map(delivery_stats).collect()
        }
    };
    Ok(Stats { step: filter.step, from: Timestamp(span.from), to: Timestamp(span.until), events, deliveries })
}

fn span(filter: &StatsFilter, most_steps: u64, now_ms: u64, problems: &mut Problems) -> Option<Span> {
    let until_ms = read_ms("to", filter.to.as_deref(), problems).unwrap_or(now_ms);
    let from_ms = match read_ms("from", filter.from.as_deref(), problems) {
        Some(from_ms) => from_ms,
        None => until_ms.saturating_sub(Step::Day.ms()),
    };
    let from_ms = from_ms - from_ms % filter.step.ms();
    if from_ms >= until_ms {
        problems.add("to", "must be later than from");
        return None;
    }
    let steps = (until_ms - from_ms).div_ceil(filter.step.ms());
    if steps > most_steps {
        problems.add(
            "step",
            format!(
                "results in {steps} steps, but at most {most_steps} are allowed; use a longer step, or a later from"
            ),
        );
        return None;
    }
    Some(Span {
        from: unix_time::timestamp(from_ms),
        until: unix_time::timestamp(until_ms),
        step: filter.step.as_str(),
    })
}

/// A range that the database could not read within its time limit is an error of the caller: a shorter one can be read.
fn took_too_long(error: store::Error) -> Error {
    if error.kind() == Kind::Timeout(Limit::Server) {
        Error::Invalid(vec![FieldError::with_code(
            "from",
            "range_too_long",
            "the counts of this range take too long to read; choose a shorter range, or fewer objects".to_owned(),
        )])
    } else {
        error.into()
    }
}

fn event_stats((at, counts): (OffsetDateTime, SourceCounts)) -> EventStats {
    let SourceCounts { stored, copies, rejected } = counts;
    EventStats { at: Timestamp(at), stored, copies, rejected }
}

fn delivery_stats((at, counts): (OffsetDateTime, DestinationCounts)) -> DeliveryStats {
    let DestinationCounts { succeeded, dead, failed_attempts, attempts } = counts;
    let limits = LATENCIES_MS.iter().map(|most| Some(*most)).chain([None]);
    let attempts = limits.zip(attempts).map(|(within_ms, count)| Latency { within_ms, count }).collect();
    DeliveryStats { at: Timestamp(at), succeeded, dead, failed_attempts, attempts }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_769_846_400_500;

    fn read(from: Option<&str>, to: Option<&str>, step: Step) -> Result<Span, Error> {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let filter = StatsFilter { source: None, destination: None, from: text(from), to: text(to), step };
        let mut problems = Problems::default();
        let span = span(&filter, MOST_STEPS, NOW_MS, &mut problems);
        problems.finish_with(span)
    }

    #[test]
    fn the_default_is_the_last_day_in_hours() {
        let span = read(None, None, Step::default()).expect("a span");
        assert_eq!(unix_time::unix_ms(span.until), NOW_MS);
        assert_eq!(unix_time::unix_ms(span.from), NOW_MS - 500 - 86_400_000);
        assert_eq!(span.step, "hour");
    }

    #[test]
    fn a_span_that_ends_before_it_begins_or_has_too_many_steps_is_refused() {
        assert!(read(Some("2026-02-01T00:00:00Z"), None, Step::Hour).is_err(), "the range starts in the future");
        assert!(
            read(Some("2026-01-01T00:00:00Z"), None, Step::Minute).is_err(),
            "a month in minutes has too many steps"
        );
        assert!(read(Some("2026-01-01T00:00:00Z"), None, Step::Hour).is_ok());
        assert!(read(Some("yesterday"), None, Step::Hour).is_err());
    }
}
