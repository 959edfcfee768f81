//! Converts a message into the rows that are stored for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use engine::item::{Before, Event, Item};
use model::event::EventMeta;
use model::unix_time;
use model::unreadable::Reason;
use shared::envelope::{EventHeader, Failure, RejectionSample, Verification};
use shared::extract::Extracted;
use shared::header::HeaderList;
use shared::id::{DeliveryId, DestinationId, EventId, RejectionId, uuid_v7_ms};
use store::admit::{Batch, NewRejection};
use store::new_event::{NewDelivery, NewEvent};
use store::pending::SMALL_BODY_BYTES;
use uuid::Uuid;

use super::message::{Arrival, Content, without_nul};
use super::routing::{Routed, Routing};
use crate::configuration::{Snapshot, Source};
use crate::mint;
use crate::route::{Answer, Becomes};

/// The maximum age of an event by its id. The queue keeps a message for at most 14 days.
pub(crate) const OLDEST_MS: u64 = 20 * 86_400_000;

/// How far an event's id may lie in the future, to allow for clocks that differ.
pub(crate) const NEWEST_MS: u64 = 86_400_000;

/// The range in which the time in an event's id is plausible. An event outside of it is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plausible {
    /// The current time by the database's clock, in Unix milliseconds.
    pub now_ms: u64,
    from_ms: u64,
    /// The reason given for an event that is older.
    older: Reason,
}

impl Plausible {
    /// For messages that come out of a queue now.
    #[must_use]
    pub fn from_queue(now_ms: u64) -> Self {
        Self { now_ms, from_ms: now_ms.saturating_sub(OLDEST_MS), older: Reason::ImplausibleTime }
    }

    /// For messages that have been kept since they arrived: events may be as old as the retention of bodies.
    #[must_use]
    pub fn from_history(now_ms: u64, first_with_body: Uuid) -> Self {
        Self { now_ms, from_ms: uuid_v7_ms(first_with_body), older: Reason::PastRetention }
    }

    fn check(self, id: EventId) -> Result<(), (Reason, String)> {
        let (at_ms, at) = (id.minted_at_ms(), unix_time::timestamp(id.minted_at_ms()));
        if at_ms < self.from_ms {
            return Err((self.older, format!("the timestamp in the event id, {at}, is too old")));
        }
        if at_ms > self.now_ms.saturating_add(NEWEST_MS) {
            return Err((
                Reason::ImplausibleTime,
                format!(
                    "the timestamp in the event id, {at}, is in the future; check the clock of the relay and of the \
                     edge"
                ),
            ));
        }
        Ok(())
    }
}

/// The rows to store, and what the engine gets once they are stored.
pub struct Prepared {
    pub batch: Batch,
    /// The arrivals that cannot be stored as events: their index, and why.
    pub unreadable: Vec<(usize, Reason, String)>,
    items: HashMap<EventId, Vec<Item>>,
    /// The deliveries that wait for their first attempt, by event.
    later: HashMap<EventId, Vec<(DestinationId, Duration)>>,
}

impl Prepared {
    /// The deliveries of the new events that are due now.
    #[must_use]
    pub fn fresh(&mut self, stored: &HashSet<EventId>) -> Vec<Item> {
        stored.iter().filter_map(|event| self.items.remove(event)).flatten().collect()
    }

    /// The destinations of the deliveries that wait for their first attempt, and how long each waits.
    pub fn later<'a>(&'a self, stored: &'a HashSet<EventId>) -> impl Iterator<Item = (DestinationId, Duration)> + 'a {
        let of_stored = self.later.iter().filter(|(event, _)| stored.contains(event));
        of_stored.flat_map(|(_, deliveries)| deliveries.iter().copied())
    }
}

/// Makes the rows of a batch from the results of the routes.
#[must_use]
pub fn prepare(arrivals: &[Arrival], snapshot: &Snapshot, routing: &Routing, plausible: Plausible) -> Prepared {
    let mut prepared =
        Prepared { batch: Batch::default(), unreadable: Vec::new(), items: HashMap::new(), later: HashMap::new() };
    for (at, arrival) in arrivals.iter().enumerate() {
        match &arrival.content {
            Content::Rejection(sample) => {
                let id = RejectionId::from_uuid(arrival.raw.id(plausible.now_ms));
                prepared.batch.rejections.push(rejection(id, sample));
            }
            Content::Event { header, body, .. } => {
                let source = snapshot.sources.get(&header.source).zip(routing.get(at));
                match (source, plausible.check(header.id)) {
                    (Some((source, routed)), Ok(())) => event(&mut prepared, snapshot, header, body, source, routed),
                    (_, Err((reason, detail))) => prepared.unreadable.push((at, reason, detail)),
                    (None, Ok(())) => {
                        let detail = format!(
                            "the source {} does not exist; it was deleted, or it was created after the backup that was \
                             restored. The message can only be released if the source with this id exists again",
                            header.source
                        );
                        prepared.unreadable.push((at, Reason::UnknownSource, detail));
                    }
                }
            }
        }
    }
    prepared
}

fn event(
    prepared: &mut Prepared,
    snapshot: &Snapshot,
    header: &EventHeader,
    body: &[u8],
    source: &Source,
    routed: &Routed,
) {
    let Extracted { provider_event_id, event_type, dedupe_key, job } = routed.names.clone();
    let deliveries = deliveries(snapshot, &routed.answers);
    let items = items(&deliveries, header, body, provider_event_id.as_deref(), event_type.as_deref());
    if !items.is_empty() {
        prepared.items.insert(header.id, items);
    }
    let waits = |delivery: &&NewDelivery| delivery.undecided.is_none() && !delivery.first_wait.is_zero();
    let later: Vec<_> =
        deliveries.iter().filter(waits).map(|delivery| (delivery.destination_id, delivery.first_wait)).collect();
    if !later.is_empty() {
        prepared.later.insert(header.id, later);
    }
    prepared.batch.events.push(NewEvent {
        id: header.id,
        customer_id: source.customer_id,
        source_id: header.source,
        received_at: unix_time::timestamp(header.received_at_ms),
        event_type,
        provider_event_id,
        dedupe_key,
        job,
        edited_of: None,
        method: without_nul(header.method.clone()),
        query: without_nul(header.query.clone()),
        headers: storable(&header.headers),
        body: body.to_vec(),
        verification: (&header.verification).into(),
        quarantine: match header.verification {
            Verification::Failed(_) => Some(source.quarantine),
            Verification::Verified | Verification::Stale | Verification::Unsigned => None,
        },
        failure: match &header.verification {
            Verification::Failed(Failure { cause, detail }) => {
                Some(Failure { cause: without_nul(cause.clone()), detail: without_nul(detail.clone()) })
            }
            Verification::Verified | Verification::Stale | Verification::Unsigned => None,
        },
        deliveries,
    });
}

/// The rows for the routes that matched or are undecided.
pub(crate) fn deliveries(snapshot: &Snapshot, answers: &[Answer]) -> Vec<NewDelivery> {
    let mut deliveries = Vec::new();
    for answer in answers {
        let (order_key, undecided) = match answer.becomes() {
            Becomes::Due { order_key } => (order_key, None),
            Becomes::Held(undecided) => (None, Some(undecided)),
            Becomes::Nothing(_) => continue,
        };
        deliveries.push(NewDelivery {
            id: DeliveryId::from_uuid(mint::uuid()),
            destination_id: answer.route.destination_id,
            route_id: Some(answer.route.id),
            route_version: answer.route.version,
            order_key,
            first_wait: snapshot.first_wait(answer.route.destination_id),
            undecided,
        });
    }
    deliveries
}

fn items(
    deliveries: &[NewDelivery],
    header: &EventHeader,
    body: &[u8],
    provider_event_id: Option<&str>,
    event_type: Option<&str>,
) -> Vec<Item> {
    let due = deliveries.iter().filter(|delivery| delivery.undecided.is_none() && delivery.first_wait.is_zero());
    let small = i32::try_from(body.len()).is_ok_and(|size| size <= SMALL_BODY_BYTES);
    let event = Arc::new(Event {
        meta: EventMeta {
            id: header.id,
            source_id: header.source,
            received_at: unix_time::timestamp(header.received_at_ms),
            event_type: event_type.map(str::to_owned),
            provider_event_id: provider_event_id.map(str::to_owned),
            method: header.method.clone(),
            query: header.query.clone(),
            headers: header.headers.clone(),
        },
        body: small.then(|| body.to_vec()),
        body_bytes: body.len(),
    });
    due.map(|delivery| Item {
        id: delivery.id,
        destination_id: delivery.destination_id,
        event: Arc::clone(&event),
        route_id: delivery.route_id,
        route_version: delivery.route_version,
        // Deliveries with an order are read from the table before they are sent.
        skips: false,
        replay_id: None,
        due_us: 0,
        attempts: 0,
        schedule_start: 0,
        throttled: 0,
        order_key: delivery.order_key,
        before: Before::Nothing,
        not_sent: 0,
        generation: 0,
        expedited: false,
    })
    .collect()
}

fn rejection(id: RejectionId, sample: &RejectionSample) -> NewRejection {
    NewRejection {
        id,
        source_id: sample.source,
        cause: without_nul(sample.cause.clone()),
        detail: without_nul(sample.detail.clone()),
        count: i64::try_from(sample.count).unwrap_or(i64::MAX).max(1),
        first_at: unix_time::timestamp(sample.first_at_ms),
        last_at: unix_time::timestamp(sample.last_at_ms),
        size: i64::try_from(sample.size).unwrap_or(i64::MAX),
        remote: without_nul(sample.remote.clone()),
    }
}

/// The headers without the characters that the database cannot store.
#[must_use]
fn storable(headers: &HeaderList) -> HeaderList {
    HeaderList::new(headers.iter().map(|(name, value)| (name.replace('\0', ""), value.replace('\0', "\u{fffd}"))))
}
