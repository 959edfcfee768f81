//! Replays: work in the background that makes deliveries of stored events again.
//!
//! A replay processes events, or ended deliveries if its filter names a state, in the order of their ids and in chunks.
//! Each chunk makes its deliveries and moves the cursor in one transaction. So a replay continues after a crash where
//! it was, and no chunk is made twice. A replay includes events that were stored, or deliveries that had ended, before
//! it was created, by the database's clock. Ids do not decide that: edges and relays mint them, so an event with an
//! earlier id may be stored while the replay runs, and one with a later id may be stored already. A row that is being
//! written at the very moment at which the replay is created may or may not be included.
//!
//! Deliveries of a replay carry the `webhook-id` of their event, like the first ones. They are routed again: the
//! current filters and transforms apply, unless the replay has a destination of its own.
//!
//! The matches of a replay may be one row in a million. So a chunk searches a range of history, bounded by the number
//! of rows that it reads, and moves the cursor past rows that do not match. The matching rows are counted in such
//! ranges too, in the background ([`count`](self::count())), so that a replay begins at once, however large history is.
//!
//! A chunk is bounded by rows and by the bytes that are read for it. It is planned without the contents of its events.
//! Headers are read only for filters. Bodies are read only for filters that use them, and to verify quarantined events
//! again. Both are read in groups of a few megabytes ([`cut`]), so that the memory of a replay does not depend on the
//! sizes of its events.
//!
//! A replay that is begun several times without moving is stopped with a reason ([`worker`]): a chunk that ends the
//! relay must not end it at every start, and must not hold up other replays.

use std::num::NonZeroU32;
use std::time::Duration;

use model::delivery::DeliveryState;
use model::destination::Rate;
use model::replay::ReplayState;
use serde::{Deserialize, Serialize};
use shared::id::{CustomerId, DeliveryId, DestinationId, EventId, ReplayId, SourceId, uuid_v7_floor};
use store::Pool;
use store::audit::NewEntry;
use store::deliveries::CLOCK_DIFFERENCE_MS;
use store::partitions::with_partitions;
use store::replays::{self, Left, Newest, ReplayRow, Selection};
use store::search::{Range, after};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::engine_handle::Handle;
use crate::mint;
use crate::waiting::Wakers;
use crate::wall_clock::WallClock;

pub(crate) mod chunk;
pub(crate) mod count;
pub(crate) mod cut;
mod stopped;
pub(crate) mod worker;

pub use count::run as count;
pub use worker::run;

/// The filter of a replay, with names resolved to ids. It is stored with the replay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<DestinationId>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// With a state, the last deliveries in that state are included; without one, the events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The error class of the last attempt; only with a state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Only these events; empty for all. Not with a state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventId>,
    /// Received at or after this time, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// Received before this time, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_ms: Option<u64>,
    /// If set, the replay includes the quarantined events in place of all others, and releases them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// Of the quarantined events, includes only those that verify with the present secrets of their source. The others
    /// stay there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verifies_now: bool,
}

/// `failed`: events in quarantine. They cannot be replayed together with other events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ReplayFilterVerification)]
pub enum Verification {
    Failed,
}

/// The state of the deliveries to replay. Pending and held deliveries cannot be replayed, because they have yet to be
/// sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ReplayFilterState)]
pub enum State {
    Succeeded,
    Dead,
    Cancelled,
}

impl From<State> for DeliveryState {
    fn from(state: State) -> Self {
        match state {
            State::Succeeded => Self::Succeeded,
            State::Dead => Self::Dead,
            State::Cancelled => Self::Cancelled,
        }
    }
}

/// The content of a new replay. The names in it have been resolved already.
#[derive(Debug, Clone)]
pub struct New {
    pub customer_id: CustomerId,
    pub filter: Filter,
    /// Deliver here in place of the original destinations.
    pub destination: Option<DestinationId>,
    pub rate: Option<Rate>,
}

/// The result of counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub matched: i64,
    /// The last id that was scanned; `None` if all of history was.
    pub after: Option<Uuid>,
}

/// How many events or deliveries behind `after` a replay would include now, as far as one call counts.
///
/// # Errors
/// Returns an error if a statement fails.
pub async fn plan(pool: &Pool, clock: &WallClock, new: &New, after: Option<Uuid>) -> store::Result<Counted> {
    let (until, now) = bounds(pool, clock, &new.filter).await?;
    let selection = selection(&new.filter, new.customer_id, until, now);
    count::piece(pool, &selection, after, count::DRY_RUN).await
}

/// Creates a replay with the entry of the audit log that `record` makes, and wakes the workers. Its matches are counted
/// here as far as that is fast, and otherwise in the background.
///
/// # Errors
/// Returns an error if a statement fails.
pub async fn create(
    pool: &Pool,
    clock: &WallClock,
    wakers: &Wakers,
    new: &New,
    record: impl FnOnce(&ReplayRow) -> NewEntry,
) -> store::Result<ReplayRow> {
    let (until, now) = bounds(pool, clock, &new.filter).await?;
    let (rate_limit, rate_per) = match new.rate {
        None => (None, None),
        Some(rate) => (i32::try_from(rate.limit.get()).ok(), Some(rate.per_name().to_owned())),
    };
    let (matched, counting, count_after) =
        match count::at_once(pool, &selection(&new.filter, new.customer_id, until, now)).await {
            Some(Counted { matched, after }) => (matched, after.is_some(), after),
            None => (0, true, None),
        };
    let row = ReplayRow {
        id: ReplayId::from_uuid(mint::uuid()),
        customer_id: new.customer_id,
        filter: serde_json::to_value(&new.filter).unwrap_or_default(),
        destination_id: new.destination,
        rate_limit,
        rate_per,
        state: ReplayState::Running,
        matched,
        counting,
        count_after,
        until_id: until,
        cursor_id: None,
        next_at: now,
        processed: 0,
        created: 0,
        skipped: 0,
        succeeded: 0,
        dead: 0,
        cancelled: 0,
        error: None,
        created_at: now,
        finished_at: None,
        begun: 0,
        begun_after: None,
        begun_until: None,
        begun_error: None,
        paused_at: None,
        updated_at: now,
    };
    replays::insert(pool, &row, &record(&row)).await?;
    wakers.replays.notify_one();
    if counting {
        wakers.counts.notify_one();
    }
    Ok(row)
}

/// How soon a cancellation retries deliveries that other transactions have locked.
const LOCKED_PAUSE: Duration = Duration::from_millis(20);

/// Ends a replay and cancels its deliveries that are not delivered yet.
///
/// # Errors
/// Returns an error if the query fails. It can be called again.
pub async fn cancel(pool: &Pool, engine: &Handle, id: ReplayId, entry: &NewEntry) -> store::Result<()> {
    replays::cancel(pool, id, entry).await?;
    loop {
        match with_partitions!(pool, replays::cancel_pending(pool, id, 5_000))? {
            Left::More => engine.replay_cancelled(id),
            Left::Locked => tokio::time::sleep(LOCKED_PAUSE).await,
            Left::Nothing => return Ok(()),
        }
    }
}

/// The upper bound of the ids that a replay created now can include, and the current time by the database's clock.
async fn bounds(pool: &Pool, clock: &WallClock, filter: &Filter) -> store::Result<(Uuid, OffsetDateTime)> {
    let from = uuid_v7_floor(clock.now_ms().await?);
    let Newest { now, event_id, delivery_id } = replays::newest(pool, from).await?;
    let last = if filter.state.is_some() { delivery_id.map(DeliveryId::uuid) } else { event_id.map(EventId::uuid) };
    Ok((last.map_or(from, after), now))
}

fn selection(filter: &Filter, customer_id: CustomerId, until: Uuid, made_at: OffsetDateTime) -> Selection {
    let mut events = Range {
        from: filter.after_ms.map_or(Uuid::nil(), uuid_v7_floor),
        until: filter.before_ms.map_or(Uuid::max(), uuid_v7_floor),
    };
    if let Some((first, last)) = filter.events.iter().min().zip(filter.events.iter().max()) {
        events = Range { from: events.from.max(first.uuid()), until: events.until.min(after(last.uuid())) };
    }
    let ids = match filter.state {
        None => Range { until: events.until.min(until), ..events },
        // The clock that minted an event's id may be ahead of the one that minted its delivery's.
        Some(_) => Range { from: filter.after_ms.map_or(Uuid::nil(), first_delivery), until },
    };
    Selection {
        customer_id,
        source_id: filter.source,
        destination_id: filter.destination,
        event_type: filter.event_type.clone(),
        state: filter.state.map(DeliveryState::from),
        error: filter.error.clone(),
        failed: filter.verification.is_some(),
        only: (!filter.events.is_empty()).then(|| filter.events.iter().map(|id| id.uuid()).collect()),
        events,
        ids,
        made_at,
    }
}

/// An id before that of any delivery of an event that was received at this time, however much the clocks of the
/// replicas differ.
fn first_delivery(received_ms: u64) -> Uuid {
    uuid_v7_floor(received_ms.saturating_sub(CLOCK_DIFFERENCE_MS))
}

/// The minimum duration of a replay of `matched` rows, in seconds; `None` if it has no rate.
#[must_use]
pub fn estimate_s(matched: i64, rate: Option<Rate>) -> Option<f64> {
    let rate = rate?;
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    Some(matched as f64 * rate.per.as_secs_f64() / f64::from(NonZeroU32::get(rate.limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(limit: u32, per_s: u64) -> Option<Rate> {
        NonZeroU32::new(limit).map(|limit| Rate { limit, per: Duration::from_secs(per_s) })
    }

    #[test]
    fn the_estimate_is_the_number_over_the_rate() {
        assert_eq!(estimate_s(600, rate(60, 60)), Some(600.0));
        assert_eq!(estimate_s(600, None), None);
    }
}
