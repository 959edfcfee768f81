//! The result of an attempt for its delivery, as the engine decides it and the store writes it.

use std::time::Duration;

use shared::id::{AttemptId, DeliveryId, DestinationId, EventId, ReplayId};
use time::OffsetDateTime;

use crate::held_by::HeldBy;

/// An attempt and its result for the delivery.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub delivery_id: DeliveryId,
    pub destination_id: DestinationId,
    pub event_id: EventId,
    pub shard: i16,
    pub epoch: i64,
    pub replay_id: Option<ReplayId>,
    /// `None` if nothing was sent.
    pub attempt: Option<AttemptRow>,
    /// All attempts of the delivery so far, this one included.
    pub attempts: i16,
    /// The attempts before this one. With [`Self::generation`] this identifies the state of the delivery that this
    /// settles, so that it is written only once, and not to a delivery that was cancelled and made pending again in the
    /// meantime.
    pub attempts_before: i16,
    /// The generation of the row that was read, see `engine::item::Item::generation`.
    pub generation: i64,
    /// The delivery was expedited when it was read.
    pub expedited: bool,
    /// Of the attempts of the present schedule, those that are not charged.
    pub throttled: i16,
    /// A hash of the order key; `None` if the delivery has no order.
    pub order_key: Option<i64>,
    /// Whether the next delivery of its key may go.
    pub frees_key: bool,
    pub next: Next,
}

/// An attempt, as it is stored.
#[derive(Debug, Clone)]
pub struct AttemptRow {
    pub id: AttemptId,
    pub started_at: OffsetDateTime,
    pub latency_ms: i32,
    pub status: Option<i16>,
    pub error: Option<&'static str>,
    pub detail: Option<String>,
    pub response_excerpt: Option<String>,
    /// Where a redirect points to.
    pub location: Option<String>,
}

/// The new state of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    Succeeded,
    Dead {
        error: &'static str,
        reason: String,
    },
    /// It is due again after this wait, counted from when this is written.
    RetryIn(Duration),
    /// Nothing was sent because of the relay, for the `times`th time in a row. It is due again after this wait, counted
    /// from when this is written.
    NotSent {
        wait: Duration,
        times: u16,
        reason: String,
    },
    /// It cannot be sent. It is held until the cause is removed or it is retried manually.
    Held {
        by: HeldBy,
        reason: String,
    },
    /// Nothing was sent: an earlier delivery of its key is pending. It is due when that one frees the key, or otherwise
    /// after this wait, counted from when this is written.
    Behind {
        wait: Duration,
    },
}
