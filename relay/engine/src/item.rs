//! What travels through the engine: a delivery that is due, and the event it carries.

use std::sync::Arc;

use shared::header::HeaderList;
use shared::id::{DeliveryId, DestinationId, EventId, ReplayId, RouteId, SourceId};

use model::lane::Lane;

/// A delivery that is due, as the engine holds it. Its row stays in the table until the attempt is settled, so nothing
/// is lost with the memory.
#[derive(Debug, Clone)]
pub struct Item {
    pub id: DeliveryId,
    pub destination_id: DestinationId,
    pub event: Arc<Event>,
    pub route_id: Option<RouteId>,
    /// The version of the route by which it was routed; means nothing without a route.
    pub route_version: i32,
    /// Later ones of its key do not wait while it is retried, as its route says. Known of deliveries that were read from the
    /// table.
    pub skips: bool,
    pub replay_id: Option<ReplayId>,
    /// When it became due by the database's clock, Unix time in microseconds; 0 where it has just been stored and that
    /// clock was not asked.
    pub due_us: u64,
    /// Attempts made before this one.
    pub attempts: u16,
    /// Of those, the ones made before the present retry schedule began.
    pub schedule_start: u16,
    /// Of the attempts of the present schedule, those that it is not charged for: they were answered with 429.
    pub throttled: u16,
    /// A hash of the key of deliveries that go one after the other; `None` where it has no order.
    pub order_key: Option<i64>,
    /// What had to go before it when it was read.
    pub before: Before,
    /// How often in a row it was due and nothing was sent because of the relay.
    pub not_sent: u16,
    /// Tells apart the times at which it was pending: 0 the first time, and else the id of the transaction that made it pending
    /// again after it was settled.
    pub generation: i64,
    /// A caller has asked to send it at once, and no attempt was made since.
    pub expedited: bool,
}

/// Which earlier deliveries of its key have to go before a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// Only such as have been tried, or are held: it is the next one.
    Tried,
    /// Some that have not been tried.
    Untried,
}

impl Item {
    /// The lane it waits in.
    #[must_use]
    pub fn lane(&self) -> Lane {
        Lane::of(self.replay_id.is_some(), self.attempts)
    }
}

/// An event as a delivery needs it.
#[derive(Debug)]
pub struct Event {
    pub id: EventId,
    pub source_id: SourceId,
    pub event_type: Option<String>,
    pub provider_event_id: Option<String>,
    pub received_at_ms: u64,
    pub method: String,
    pub query: String,
    pub headers: HeaderList,
    /// `None` where the body is large, or where too many wait in memory: it is read from the database when it is sent.
    pub body: Option<Vec<u8>>,
    /// The size of the body, be it here or not.
    pub body_bytes: usize,
}

impl Event {
    /// About how many bytes of memory it takes without its body.
    #[must_use]
    pub fn bytes_besides_body(&self) -> usize {
        // The structs, and for each header two strings with their allocations.
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 80).sum();
        500 + self.query.len() + headers
    }

    /// The same without its body.
    #[must_use]
    pub fn without_body(&self) -> Self {
        Self {
            id: self.id,
            source_id: self.source_id,
            event_type: self.event_type.clone(),
            provider_event_id: self.provider_event_id.clone(),
            received_at_ms: self.received_at_ms,
            method: self.method.clone(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            body: None,
            body_bytes: self.body_bytes,
        }
    }
}
