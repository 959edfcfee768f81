//! The health of a destination, as the engine sees it and the store keeps it.

use serde::Serialize;
use shared::id::{DeliveryId, DestinationId};
use utoipa::ToSchema;

use crate::lane::PerLane;
/// The health of a destination. Times are Unix microseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    pub destination: DestinationId,
    pub shard: i16,
    pub epoch: i64,
    /// The state that the next owner needs.
    pub learned: Learned,
    /// When a permit was requested, if a send waits until this report is stored.
    pub permit_us: Option<u64>,
    /// How many attempts may be in flight now.
    pub concurrency: usize,
    /// The part of its rate limit at which it is sent to now, up to 1.
    pub rate_factor: f64,
    pub in_flight: usize,
    /// Deliveries in memory.
    pub waiting: PerLane<usize>,
    /// Attempts and failures in the last 30 to 60 seconds.
    pub recent: (u32, u32),
    /// The present latency of its responses.
    pub latency_us: Option<f64>,
    pub at_us: u64,
}

/// The stored state of a destination for its next owner. Times are Unix microseconds of the engine's clock, except for
/// [`Self::since_us`].
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// Since when this state is valid, by the database's clock: the last change of the destination's address or state.
    /// What was learned before is forgotten.
    pub since_us: u64,
    /// Nothing is sent until then: the destination has asked for it.
    pub back_off_until_us: Option<u64>,
    /// Back-offs after 429 since the last success.
    pub back_offs: u32,
    pub breaker: BreakerState,
    /// `None` if the breaker has never been in another state.
    pub breaker_since_us: Option<u64>,
    /// How often the breaker has opened without having been closed for long.
    pub openings: u32,
    /// `None` if the limits are not reduced.
    pub reduced: Option<Reduction>,
    pub failing: Option<Run>,
    /// The last send on the even grid of its rate; `None` if it has no rate or was never sent to.
    pub paced_us: Option<u64>,
    /// The owner has sent nothing after this.
    pub is_last: bool,
}

/// The state of a breaker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BreakerState {
    #[default]
    Closed,
    /// Nothing is sent until then, in microseconds.
    Open { until_us: u64 },
    /// One delivery is sent as a probe; `None` if it has not been sent yet.
    HalfOpen { probe: Option<DeliveryId> },
}

impl BreakerState {
    /// The state without its details.
    #[must_use]
    pub const fn without_details(self) -> BreakerName {
        match self {
            Self::Closed => BreakerName::Closed,
            Self::Open { .. } => BreakerName::Open,
            Self::HalfOpen { .. } => BreakerName::HalfOpen,
        }
    }
}

/// The state of the breaker. `closed`: deliveries are sent normally. `open`: nothing but manual retries is sent until
/// `next_probe_at`. `half_open`: one delivery is sent as a probe; if it succeeds, the breaker closes, and if it fails,
/// the breaker opens again for twice as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BreakerState)]
pub enum BreakerName {
    /// Deliveries are sent normally.
    Closed,
    /// Nothing but manual retries is sent until `next_probe_at`.
    Open,
    /// One delivery is sent as a probe. If it succeeds, the breaker closes. If it fails, the breaker opens again.
    HalfOpen,
}

crate::names! {
    BreakerName {
        Closed => "closed",
        Open => "open",
        HalfOpen => "half_open",
    }
}

/// How far concurrency and rate are reduced below the limits, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reduction {
    pub why: Reason,
    /// Unix time in microseconds.
    pub since_us: u64,
    /// How many attempts may be in flight.
    pub concurrency: f64,
    /// Below it the concurrency doubles with each round of successes.
    pub slow_start_below: f64,
    /// The part of the rate, up to 1.
    pub rate_factor: f64,
}

/// Why concurrency and rate are reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It answered with this status: 429, 502, 503 or 504.
    Status(u16),
    /// It did not answer in time.
    Timeout,
    /// Its responses take much longer than usual.
    Latency,
    /// It has just recovered.
    Recovering,
}

/// A run of failures without a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// When the first of them ended, Unix time in microseconds.
    pub since_us: u64,
    pub failures: u64,
}
