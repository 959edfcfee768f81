//! The state of a delivery.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The state of a delivery. `pending`: waiting for its next attempt, or being sent. `held`: not sent, because its
/// destination is paused, disabled or unusable, because the delivery is held individually (`held_by`), or because its
/// destination was deleted and it is about to be cancelled. `succeeded`: the destination returned 2xx. `dead`: no
/// further attempt is made, because the retry schedule or the retention of metadata has ended, or because the
/// destination returned 410; the delivery can be retried or replayed. `cancelled`: cancelled by an operator, by the
/// deletion of its destination, or because its filter did not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Waits for its next attempt, or is being sent.
    Pending,
    /// Not sent: its destination is paused, disabled or unusable, the delivery is held individually (`held_by`), or its
    /// destination was deleted and the delivery is about to be cancelled.
    Held,
    /// The destination accepted the delivery.
    Succeeded,
    /// No further attempt is made; it can be retried or replayed.
    Dead,
    /// The delivery was cancelled and is no longer sent.
    Cancelled,
}

crate::names! {
    DeliveryState {
        Pending => "pending",
        Held => "held",
        Succeeded => "succeeded",
        Dead => "dead",
        Cancelled => "cancelled",
    }
}

impl DeliveryState {
    /// Whether no attempt follows any more, unless the delivery is retried.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        match self {
            Self::Pending | Self::Held => false,
            Self::Succeeded | Self::Dead | Self::Cancelled => true,
        }
    }
}
