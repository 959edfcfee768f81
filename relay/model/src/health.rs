//! How a destination takes what it is sent, as the engine sees it and the store keeps it.

use shared::id::{DeliveryId, DestinationId};

use crate::lane::PerLane;

/// How a destination takes what it is sent. Times are Unix microseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    pub destination: DestinationId,
    pub shard: i16,
    pub epoch: i64,
    /// What the next owner has to know.
    pub learned: Learned,
    /// A send waits until this is stored: when it was asked for.
    pub permit_us: Option<u64>,
    /// How many attempts may be in flight now.
    pub concurrency: usize,
    /// What part of its rate limit it is sent now, up to 1.
    pub rate_factor: f64,
    pub in_flight: usize,
    /// Deliveries in memory.
    pub waiting: PerLane<usize>,
    /// Attempts and failures in the last half minute, or up to a whole one.
    pub recent: (u32, u32),
    /// How long its answers take of late.
    pub latency_us: Option<f64>,
    pub at_us: u64,
}

/// What is stored of a destination for its next owner. Times are Unix microseconds of the engine's clock, but for
/// [`Self::since_us`].
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// Since when the destination has been as it was when this was learned, by the database's clock: the last change of its
    /// address or state. What an earlier destination has taught is forgotten.
    pub since_us: u64,
    /// Nothing is sent until then: the destination has asked for it.
    pub back_off_until_us: Option<u64>,
    /// Pauses after 429 since the last success.
    pub back_offs: u32,
    pub breaker: BreakerState,
    /// `None` if the breaker has never been in another state.
    pub breaker_since_us: Option<u64>,
    /// How often the breaker has opened without being closed for long.
    pub openings: u32,
    /// `None` if it is sent as much as the limits allow.
    pub reduced: Option<Reduction>,
    pub failing: Option<Run>,
    /// The last send on the even grid of its rate; `None` if it has no rate or was not sent anything.
    pub paced_us: Option<u64>,
    /// The owner has sent nothing after it.
    pub is_last: bool,
}

/// The state of a breaker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BreakerState {
    #[default]
    Closed,
    /// Nothing is sent until then, in microseconds.
    Open { until_us: u64 },
    /// One delivery is sent, to see; `None` where that has not been done yet.
    HalfOpen { probe: Option<DeliveryId> },
}

/// How much less than the limits allow is sent, and why.
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

/// Why less is sent than the limits allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It answered so: 429, 502, 503 or 504.
    Status(u16),
    /// It did not answer in time.
    Timeout,
    /// Its answers take much longer than usual.
    Latency,
    /// It has just recovered.
    Recovering,
}

/// A run of failures without a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// When the first of them was answered, Unix time in microseconds.
    pub since_us: u64,
    pub failures: u64,
}
