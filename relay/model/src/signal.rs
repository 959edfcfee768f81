//! Signals that the replicas send each other through the store.

use shared::id::{DeliveryId, DestinationId, ReplayId};

/// A cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Delivery(DestinationId, DeliveryId),
    /// Some or all of the deliveries of this replay.
    Replay(ReplayId),
}
