//! Changes of events and deliveries, as a stream reports them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What has changed. `event_stored`: a new event. `event_state_changed`: an event was released from quarantine, or its
/// body was erased. `attempt_made`: a request of a delivery, with its outcome. `delivery_state_changed`: a delivery was
/// made, held, released, retried, or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A new event.
    EventStored,
    /// An event was released from quarantine, or its body was erased.
    EventStateChanged,
    /// A request of a delivery, with its outcome.
    AttemptMade,
    /// A delivery was made, held, released, retried, or has ended.
    DeliveryStateChanged,
}

crate::names! {
    ChangeKind {
        EventStored => "event_stored",
        EventStateChanged => "event_state_changed",
        AttemptMade => "attempt_made",
        DeliveryStateChanged => "delivery_state_changed",
    }
}

impl ChangeKind {
    /// Whether it is a change of an event, and not of a delivery or its attempts.
    #[must_use]
    pub const fn is_of_event(self) -> bool {
        match self {
            Self::EventStored | Self::EventStateChanged => true,
            Self::AttemptMade | Self::DeliveryStateChanged => false,
        }
    }
}
