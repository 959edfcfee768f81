//! A due delivery, as it passes through the engine, and the event it carries.

use std::sync::Arc;

use shared::id::{DeliveryId, DestinationId, ReplayId, RouteId};

use model::event::EventMeta;
use model::lane::Lane;

/// A due delivery, as the engine holds it. Its row stays in the table until the attempt is settled, so nothing is lost
/// if the memory is lost.
#[derive(Debug, Clone)]
pub struct Item {
    pub id: DeliveryId,
    pub destination_id: DestinationId,
    pub event: Arc<Event>,
    pub route_id: Option<RouteId>,
    /// The version of the route that created it; without a route it has no meaning.
    pub route_version: i32,
    /// Whether later deliveries of its key go on while it is retried, as its route says. Set only for deliveries that
    /// were read from the table.
    pub skips: bool,
    pub replay_id: Option<ReplayId>,
    /// When it became due by the database's clock, Unix time in microseconds; 0 if it has just been stored and that
    /// time is not known.
    pub due_us: u64,
    /// Attempts made before this one.
    pub attempts: u16,
    /// Of those, the attempts made before the present retry schedule began.
    pub schedule_start: u16,
    /// Of the attempts of the present schedule, those that are not charged: they were answered 429.
    pub throttled: u16,
    /// A hash of its order key; `None` if it has no order.
    pub order_key: Option<i64>,
    /// What had to go before it at the time of the read.
    pub before: Before,
    /// How many times in a row it was due and nothing was sent because of the relay.
    pub not_sent: u16,
    /// Distinguishes the times at which it was pending: 0 for the first time, and otherwise the id of the transaction
    /// that made it pending again after it was settled.
    pub generation: i64,
    /// A caller has expedited it, and no attempt has been made since.
    pub expedited: bool,
}

/// Which earlier deliveries of its key have to go before a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// Only deliveries that have been tried or are held: it is the next one.
    Tried,
    /// At least one that has not been tried.
    Untried,
}

impl Item {
    /// The lane it waits in.
    #[must_use]
    pub fn lane(&self) -> Lane {
        Lane::of(self.replay_id.is_some(), self.attempts)
    }
}

/// The fields of an event that a delivery needs.
#[derive(Debug)]
pub struct Event {
    pub meta: EventMeta,
    /// `None` if the body is large, or if too many bodies wait in memory: it is then read from the database when it is
    /// sent.
    pub body: Option<Vec<u8>>,
    /// The size of the body, in memory or not.
    pub body_bytes: usize,
}

impl Event {
    /// The approximate number of bytes of memory that it takes without its body.
    #[must_use]
    pub fn bytes_besides_body(&self) -> usize {
        // The structs, and for each header two strings with their allocations.
        let headers: usize = self.meta.headers.iter().map(|(name, value)| name.len() + value.len() + 80).sum();
        500 + self.meta.query.len() + headers
    }

    /// A copy without the body.
    #[must_use]
    pub fn without_body(&self) -> Self {
        Self { meta: self.meta.clone(), body: None, body_bytes: self.body_bytes }
    }
}
