//! From a message to the rows that are stored for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use shared::envelope::{EventHeader, Failure, RejectionSample, Verification};
use shared::extract::Extracted;
use shared::header::HeaderList;
use shared::id::{DeliveryId, DestinationId, EventId, RouteId, SourceId};
use uuid::Uuid;

use crate::configuration::{Snapshot, Source};
use crate::deliver::item::{Event, Item};
use crate::expression::Evaluator;
use crate::mint;
use crate::route::{self, Answer, EventView, Verdict};
use crate::store::admit::{Batch, NewDelivery, NewEvent, NewQuarantined, NewRejection};
use crate::store::pending::SMALL_BODY_BYTES;

/// How far an event's id may lie in the past. The queue keeps a message for 14 days at most.
const OLDEST: Duration = Duration::from_secs(20 * 86_400);

/// How far an event's id may lie in the future, for clocks that differ.
const NEWEST: Duration = Duration::from_secs(86_400);

/// The longest provider's id and event type that are kept, in bytes.
const LONGEST_NAME_BYTES: usize = 512;

/// A message that could be read, with the queue's id of it.
pub enum Arrival {
    Event(String, EventHeader, Vec<u8>),
    /// With the message itself, for quarantine.
    Rejection(String, RejectionSample, Vec<u8>),
}

/// What is to be stored, and what the engine is told once it is.
pub struct Prepared {
    pub batch: Batch,
    items: HashMap<Uuid, Vec<Item>>,
}

impl Prepared {
    /// The deliveries of the events that were new.
    #[must_use]
    pub fn fresh(mut self, stored: &HashSet<Uuid>) -> Vec<Item> {
        stored.iter().filter_map(|event| self.items.remove(event)).flatten().collect()
    }
}

impl Arrival {
    /// The source it came in by.
    #[must_use]
    pub fn source(&self) -> Option<SourceId> {
        match self {
            Self::Event(_, header, _) => Some(header.source),
            Self::Rejection(_, sample, _) => Some(sample.source),
        }
    }

    /// The row that keeps it whole where it cannot be stored as what it is.
    #[must_use]
    pub fn quarantined(&self, reason: &str) -> NewQuarantined {
        let (message_id, message) = match self {
            Self::Rejection(message_id, _, message) => (message_id, message.clone()),
            Self::Event(message_id, header, body) => {
                // The header line, then the raw body: the envelope's own form, without its limit of size.
                let mut message = serde_json::to_vec(header).unwrap_or_default();
                message.push(b'\n');
                message.extend_from_slice(body);
                (message_id, message)
            }
        };
        NewQuarantined {
            id: mint::uuid(),
            queue_message_id: message_id.replace('\0', ""),
            reason: reason.replace('\0', ""),
            message,
        }
    }
}

/// Extracts, routes and makes the rows of a batch.
pub async fn prepare(arrivals: &[Arrival], snapshot: &Snapshot, evaluator: &Evaluator, now_ms: u64) -> Prepared {
    let mut prepared = Prepared { batch: Batch::default(), items: HashMap::new() };
    for arrival in arrivals {
        match arrival {
            Arrival::Rejection(_, sample, _) => prepared.batch.rejections.push(rejection(sample)),
            Arrival::Event(_, header, body) => {
                let source = snapshot.sources.get(&header.source);
                match (source, believable(header.id, now_ms)) {
                    (Some(source), true) => event(&mut prepared, header, body, source, snapshot, evaluator).await,
                    (Some(_), false) => {
                        prepared.batch.quarantined.push(arrival.quarantined("the time in its event id cannot be right"))
                    }
                    (None, _) => prepared.batch.quarantined.push(arrival.quarantined("its source does not exist")),
                }
            }
        }
    }
    prepared
}

fn believable(id: EventId, now_ms: u64) -> bool {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    (now_ms.saturating_sub(ms(OLDEST))..=now_ms.saturating_add(ms(NEWEST))).contains(&id.minted_at_ms())
}

async fn event(
    prepared: &mut Prepared,
    header: &EventHeader,
    body: &[u8],
    source: &Source,
    snapshot: &Snapshot,
    evaluator: &Evaluator,
) {
    let Extracted { provider_event_id, event_type, dedupe_key } = match &source.extractor {
        Some(extractor) => extractor.extract(&header.query, &header.headers, body),
        None => Extracted { provider_event_id: None, event_type: None, dedupe_key: None },
    };
    // PostgreSQL's text holds every character but this one.
    let (provider_event_id, event_type) = (provider_event_id.map(without_nul), event_type.map(without_nul));
    // An index entry has a limit. What is longer than any id or type is not looked for; the dedupe key is a hash of it.
    let provider_event_id = provider_event_id.filter(|id| id.len() <= LONGEST_NAME_BYTES);
    let event_type = event_type.filter(|event_type| event_type.len() <= LONGEST_NAME_BYTES);
    let dedupe_key = match &header.verification {
        // A forged request must not take the key of the genuine one.
        Verification::Failed(_) => None,
        Verification::Verified | Verification::Stale | Verification::Unsigned => dedupe_key,
    };
    let view = EventView {
        id: header.id,
        source_id: header.source,
        source_name: &source.name,
        event_type: event_type.as_deref(),
        provider_event_id: provider_event_id.as_deref(),
        received_at_ms: header.received_at_ms,
        method: &header.method,
        query: &header.query,
        headers: &header.headers,
        body,
    };
    let answers = match &header.verification {
        // Never forwarded until it is released.
        Verification::Failed(_) => Vec::new(),
        Verification::Verified | Verification::Stale | Verification::Unsigned => {
            route::ask(evaluator, snapshot, &view).await
        }
    };
    let deliveries = deliveries(&answers);
    let items = items(&deliveries, header, body, provider_event_id.as_deref(), event_type.as_deref());
    if !items.is_empty() {
        prepared.items.insert(header.id.uuid(), items);
    }
    prepared.batch.events.push(NewEvent {
        id: header.id.uuid(),
        customer_id: source.customer_id.uuid(),
        source_id: header.source.uuid(),
        received_at: mint::timestamp(header.received_at_ms),
        event_type,
        provider_event_id,
        dedupe_key,
        method: without_nul(header.method.clone()),
        query: without_nul(header.query.clone()),
        headers: serde_json::to_value(storable(&header.headers)).unwrap_or_default(),
        body: body.to_vec(),
        verification: match header.verification {
            Verification::Verified => "verified",
            Verification::Stale => "stale",
            Verification::Unsigned => "unsigned",
            Verification::Failed(_) => "failed",
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

/// The rows of the routes that matched, or could not tell.
pub(crate) fn deliveries(answers: &[Answer]) -> Vec<NewDelivery> {
    let mut deliveries = Vec::new();
    for Answer { route, verdict, order_key } in answers {
        let parked_reason = match verdict {
            Verdict::Matched => None,
            Verdict::Undecided { reason } => {
                Some(format!("the filter could not be evaluated: {}", without_nul(reason.clone())))
            }
            Verdict::Unordered { reason } => {
                Some(format!("its order key could not be evaluated: {}", without_nul(reason.clone())))
            }
            Verdict::Off | Verdict::NotMatched | Verdict::FilterFailed { .. } => continue,
        };
        deliveries.push(NewDelivery {
            id: mint::uuid(),
            destination_id: route.destination_id.uuid(),
            route_id: route.id.uuid(),
            order_key: *order_key,
            parked_reason,
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
    let due = deliveries.iter().filter(|delivery| delivery.parked_reason.is_none());
    let small = i32::try_from(body.len()).is_ok_and(|size| size <= SMALL_BODY_BYTES);
    let event = Arc::new(Event {
        id: header.id,
        source_id: header.source,
        event_type: event_type.map(str::to_owned),
        provider_event_id: provider_event_id.map(str::to_owned),
        received_at_ms: header.received_at_ms,
        method: header.method.clone(),
        query: header.query.clone(),
        headers: header.headers.clone(),
        body: small.then(|| body.to_vec()),
    });
    due.map(|delivery| Item {
        id: DeliveryId::from_uuid(delivery.id),
        destination_id: DestinationId::from_uuid(delivery.destination_id),
        event: Arc::clone(&event),
        route_id: Some(RouteId::from_uuid(delivery.route_id)),
        replay_id: None,
        due_us: 0,
        attempts: 0,
        schedule_start: 0,
        order_key: delivery.order_key,
        is_behind: false,
    })
    .collect()
}

fn rejection(sample: &RejectionSample) -> NewRejection {
    NewRejection {
        id: mint::uuid(),
        source_id: sample.source.uuid(),
        cause: without_nul(sample.cause.clone()),
        detail: without_nul(sample.detail.clone()),
        count: i64::try_from(sample.count).unwrap_or(i64::MAX).max(1),
        first_at: mint::timestamp(sample.first_at_ms),
        last_at: mint::timestamp(sample.last_at_ms),
        size: i64::try_from(sample.size).unwrap_or(i64::MAX),
        remote: without_nul(sample.remote.clone()),
    }
}

fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// Headers without the characters that the database cannot hold.
#[must_use]
fn storable(headers: &HeaderList) -> HeaderList {
    HeaderList::new(headers.iter().map(|(name, value)| (name.replace('\0', ""), value.replace('\0', "\u{fffd}"))))
}
