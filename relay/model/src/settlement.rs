//! What an attempt made of its delivery, as the engine decides it and the store writes it.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::held_by::HeldBy;

/// An attempt and what it made of its delivery.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub delivery_id: Uuid,
    pub destination_id: Uuid,
    pub event_id: Uuid,
    pub shard: i16,
    pub epoch: i64,
    pub replay_id: Option<Uuid>,
    /// `None` where nothing was sent: the transform failed.
    pub attempt: Option<AttemptRow>,
    /// All attempts of the delivery so far, this one included.
    pub attempts: i16,
    /// Those before this one. Together with [`Self::generation`] it says which state of the delivery this settles: it is
    /// written once, and not to a delivery that was cancelled and made pending again meanwhile.
    pub attempts_before: i16,
    /// Which stay in the table the delivery was read in.
    pub generation: i64,
    /// A caller had asked to send it at once when it was read.
    pub expedited: bool,
    /// Of those of the present schedule, the ones it is not charged for.
    pub throttled: i16,
    /// Of a delivery that goes in order.
    pub order_key: Option<i64>,
    /// The next one of its key may go.
    pub frees_key: bool,
    pub next: Next,
}

/// An attempt, as it is stored.
#[derive(Debug, Clone)]
pub struct AttemptRow {
    pub id: Uuid,
    pub started_at: OffsetDateTime,
    pub latency_ms: i32,
    pub status: Option<i16>,
    pub error: Option<&'static str>,
    pub detail: Option<String>,
    pub response_excerpt: Option<String>,
    /// Where a redirect points to.
    pub location: Option<String>,
}

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    Succeeded,
    Dead {
        error: &'static str,
        reason: String,
    },
    /// It is due again so long after this is written.
    RetryIn(Duration),
    /// Nothing was sent because of the relay, for the `times`th time in a row. It is due again so long after this is written.
    NotSent {
        wait: Duration,
        times: u16,
        reason: String,
    },
    /// It cannot be sent. It is held until its route is changed, or until it is retried by hand.
    Held {
        by: HeldBy,
        reason: String,
    },
    /// Nothing was sent: an earlier one of its key is pending. It is due when that one frees the key, or else so long after
    /// this is written.
    Behind {
        wait: Duration,
    },
}
