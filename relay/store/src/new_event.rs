//! An event that is to be stored, with its deliveries.

use std::time::Duration;

use model::event::Verification;
use model::held_by::HeldBy;
use shared::envelope::Failure;
use shared::extract::DedupeKey;
use shared::header::HeaderList;
use shared::id::{CustomerId, DeliveryId, DestinationId, EventId, RouteId, SourceId};
use shared::job::Job;
use shared::source::QuarantineLimits;

/// An event to be stored, with the deliveries that its routes make.
pub struct NewEvent {
    pub id: EventId,
    pub customer_id: CustomerId,
    pub source_id: SourceId,
    pub received_at: time::OffsetDateTime,
    pub event_type: Option<String>,
    pub provider_event_id: Option<String>,
    pub dedupe_key: Option<DedupeKey>,
    /// The job of an AI provider that it is about; `None` if it is about none.
    pub job: Option<Job>,
    /// The event of which it is an edited copy.
    pub edited_of: Option<EventId>,
    pub method: String,
    pub query: String,
    pub headers: HeaderList,
    pub body: Vec<u8>,
    pub verification: Verification,
    /// Why its verification failed, if it is stored nevertheless.
    pub failure: Option<Failure>,
    /// The limits of its source, if its verification failed and the source keeps such events.
    pub quarantine: Option<QuarantineLimits>,
    pub deliveries: Vec<NewDelivery>,
}

impl NewEvent {
    /// The claim to its key, if it has one.
    #[must_use]
    pub fn claim(&self) -> Option<Claim> {
        Some(Claim { source_id: self.source_id, event_id: self.id, key: self.dedupe_key? })
    }

    /// Whether one of its deliveries is held.
    #[must_use]
    pub fn has_held_delivery(&self) -> bool {
        self.deliveries.iter().any(|delivery| delivery.undecided.is_some())
    }
}

/// A delivery to be stored with its event.
pub struct NewDelivery {
    pub id: DeliveryId,
    pub destination_id: DestinationId,
    /// The route that made the delivery; `None` if a caller has named the destination.
    pub route_id: Option<RouteId>,
    /// The version of the route that made the delivery.
    pub route_version: i32,
    /// A hash of its order key: deliveries with the same one are sent one after the other.
    pub order_key: Option<i64>,
    /// How long it waits before its first attempt.
    pub first_wait: Duration,
    /// Why it is not sent before its route has been evaluated again.
    pub undecided: Option<Undecided>,
}

/// Why a route could not decide whether, or in which order, a delivery is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecided {
    pub by: HeldBy,
    pub reason: String,
    /// Whether the relay evaluates the route again automatically; otherwise it does so only after a change of the
    /// route.
    pub again: bool,
}

/// The claim of an event to the key that its copies share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub source_id: SourceId,
    pub event_id: EventId,
    pub key: DedupeKey,
}
