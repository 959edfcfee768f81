//! The counts and the health of several sources or destinations at once, for a page of them.

use std::collections::HashMap;

use serde::Serialize;
use shared::id::{DestinationId, SourceId};
use store::counters::Span;
use store::figures;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{DeliveryStats, EventStats, StatsFilter, Step, delivery_stats, event_stats, span, took_too_long};
use crate::control::destinations::health::{self, DestinationHealth};
use crate::control::error::Noun;
use crate::control::fields::{FieldError, Problems};
use crate::control::time::Timestamp;
use crate::control::{Actor, Control, Error, Scope, schema};
use crate::mint;

/// The maximum number of objects of one call.
pub(crate) const MOST_OBJECTS: usize = 100;

/// The maximum number of steps for each of several objects.
pub(crate) const MOST_STEPS_OF_EACH: u64 = 200;

/// Selects several objects and a range of time.
#[derive(Debug, Default)]
pub struct SeveralFilter {
    /// The ids of sources or of destinations, with commas between them.
    pub ids: String,
    /// The start of the range (RFC 3339), rounded down to a full step. Default: 24 hours before `to`.
    pub from: Option<String>,
    /// The end of the range (RFC 3339), exclusive. Default: now.
    pub to: Option<String>,
    pub step: Step,
}

/// Counts of several sources.
#[derive(Debug, Serialize, ToSchema)]
pub struct SourcesStats {
    /// The length of each step.
    pub step: Step,
    /// The start of the range, rounded down to a full step.
    pub from: Timestamp,
    /// The end of the range, exclusive.
    pub to: Timestamp,
    /// The requested sources, in the order of the request, each once.
    pub sources: Vec<SourceStats>,
}

/// Counts of a source.
#[derive(Debug, Serialize, ToSchema)]
pub struct SourceStats {
    /// The id of the source.
    #[schema(value_type = schema::SourceId)]
    pub source_id: SourceId,
    /// Counts of incoming events. Steps without events are omitted.
    pub events: Vec<EventStats>,
}

/// Counts of several destinations.
#[derive(Debug, Serialize, ToSchema)]
pub struct DestinationsStats {
    /// The length of each step.
    pub step: Step,
    /// The start of the range, rounded down to a full step.
    pub from: Timestamp,
    /// The end of the range, exclusive.
    pub to: Timestamp,
    /// The requested destinations, in the order of the request, each once.
    pub destinations: Vec<DestinationStats>,
}

/// Counts of a destination.
#[derive(Debug, Serialize, ToSchema)]
pub struct DestinationStats {
    /// The id of the destination.
    #[schema(value_type = schema::DestinationId)]
    pub destination_id: DestinationId,
    /// Counts of outgoing deliveries. Steps without deliveries are omitted.
    pub deliveries: Vec<DeliveryStats>,
}

/// The health of several destinations.
#[derive(Debug, Serialize, ToSchema)]
pub struct DestinationsHealth {
    /// The requested destinations that exist, in the order of the request, each once. Deliveries are counted up to 1,000
    /// for each destination and cause.
    pub destinations: Vec<DestinationHealth>,
}

/// The counts of several sources. A source without events in the range, or one that does not exist, has no steps.
///
/// # Errors
/// Returns every invalid field, or an error if the range takes too long to read or a query fails.
pub async fn of_sources(control: &Control, actor: &Actor, filter: SeveralFilter) -> Result<SourcesStats, Error> {
    actor.require(Scope::Read)?;
    let (ids, span, step) = read::<SourceId>(filter, Noun::Source)?;
    let mut counts = figures::of_sources(&control.pool, actor.customer()?, &ids, span).await.map_err(took_too_long)?;
    let sources = ids.into_iter().map(|source_id| SourceStats {
        source_id,
        events: counts.remove(&source_id).unwrap_or_default().into_iter().map(event_stats).collect(),
    });
    Ok(SourcesStats { step, from: Timestamp(span.from), to: Timestamp(span.until), sources: sources.collect() })
}

/// When the last event or copy of each of these sources was stored, to the minute, since a time. A source without one
/// is left out.
///
/// # Errors
/// Returns an error if the sources are too many, or if a query fails.
pub async fn last_of_sources(
    control: &Control,
    actor: &Actor,
    ids: &[SourceId],
    since: OffsetDateTime,
) -> Result<HashMap<SourceId, OffsetDateTime>, Error> {
    actor.require(Scope::Read)?;
    if ids.len() > MOST_OBJECTS {
        let message = format!("has {} ids, but may have at most {MOST_OBJECTS}", ids.len());
        return Err(Error::Invalid(vec![FieldError::new("ids", message)]));
    }
    figures::last_of_sources(&control.pool, actor.customer()?, ids, since).await.map_err(took_too_long)
}

/// The counts of several destinations. A destination without deliveries in the range, or one that does not exist, has no
/// steps.
///
/// # Errors
/// Returns every invalid field, or an error if the range takes too long to read or a query fails.
pub async fn of_destinations(
    control: &Control,
    actor: &Actor,
    filter: SeveralFilter,
) -> Result<DestinationsStats, Error> {
    actor.require(Scope::Read)?;
    let (ids, span, step) = read::<DestinationId>(filter, Noun::Destination)?;
    let mut counts =
        figures::of_destinations(&control.pool, actor.customer()?, &ids, span).await.map_err(took_too_long)?;
    let destinations = ids.into_iter().map(|destination_id| DestinationStats {
        destination_id,
        deliveries: counts.remove(&destination_id).unwrap_or_default().into_iter().map(delivery_stats).collect(),
    });
    Ok(DestinationsStats {
        step,
        from: Timestamp(span.from),
        to: Timestamp(span.until),
        destinations: destinations.collect(),
    })
}

/// The health of several destinations.
///
/// # Errors
/// Returns an error if the ids are invalid, or if a query fails.
pub async fn health_of(control: &Control, actor: &Actor, ids: &str) -> Result<DestinationsHealth, Error> {
    actor.require(Scope::Read)?;
    let mut problems = Problems::default();
    let ids = read_ids::<DestinationId>(ids, Noun::Destination, &mut problems);
    problems.finish()?;
    let destinations = health::several(control, actor, &ids).await?;
    Ok(DestinationsHealth { destinations })
}

fn read<T: std::str::FromStr + PartialEq + Copy>(
    filter: SeveralFilter,
    noun: Noun,
) -> Result<(Vec<T>, Span, Step), Error> {
    let SeveralFilter { ids, from, to, step } = filter;
    let mut problems = Problems::default();
    let ids = read_ids(&ids, noun, &mut problems);
    let one = StatsFilter { source: None, destination: None, from, to, step };
    let span = span(&one, MOST_STEPS_OF_EACH, mint::now_ms(), &mut problems);
    problems.finish_with(span).map(|span| (ids, span, step))
}

/// The ids, each once. Problems are noted.
fn read_ids<T: std::str::FromStr + PartialEq + Copy>(text: &str, noun: Noun, problems: &mut Problems) -> Vec<T> {
    let mut ids: Vec<T> = Vec::new();
    for id in text.split(',') {
        match id.parse() {
            Ok(id) if ids.contains(&id) => {}
            Ok(id) => ids.push(id),
            Err(_) => {
                problems.add("ids", format!("has \"{id}\", which is not the id of a {noun}; separate ids by commas"));
                return Vec::new();
            }
        }
    }
    if ids.len() > MOST_OBJECTS {
        problems.add("ids", format!("has {} ids, but may have at most {MOST_OBJECTS}", ids.len()));
    }
    ids
}

#[cfg(test)]
mod tests {
    use store::{Kind, Limit};

    use super::super::super::fields::wrong_fields;
    use super::*;

    #[test]
    fn ids_are_read_once_each_and_their_number_is_limited() {
        let id = |n: u8| DestinationId::mint(1, [n; 10]);
        let read = |text: &str| {
            let mut problems = Problems::default();
            let ids = read_ids::<DestinationId>(text, Noun::Destination, &mut problems);
            problems.finish().map(|()| ids)
        };
        let twice = format!("{},{},{}", id(2), id(1), id(2));
        assert_eq!(read(&twice).ok(), Some(vec![id(2), id(1)]));
        let many: Vec<_> = (0..=100).map(|n| id(n).to_string()).collect();
        assert_eq!(read(&many[..100].join(",")).map(|ids| ids.len()).ok(), Some(100));
        assert_eq!(wrong_fields(read(&many.join(",")))[0].field, "ids");
        for wrong in ["", "billing", "dst_1,", &format!("{},", id(1))] {
            assert_eq!(wrong_fields(read(wrong))[0].field, "ids", "{wrong}");
        }
    }

    #[test]
    fn a_timeout_of_the_statement_asks_for_a_shorter_range() {
        let error = took_too_long(store::Error::new(Kind::Timeout(Limit::Server), "canceled"));
        assert_eq!(wrong_fields::<()>(Err(error))[0].code, Some("range_too_long"));
        let other = took_too_long(store::Error::new(Kind::Unavailable, "gone"));
        assert!(matches!(other, Error::Unavailable(_)), "{other:?}");
    }
}
