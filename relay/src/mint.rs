//! The relay's clock and its source of randomness, for what takes both as arguments.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use uuid::Uuid;

/// Unix time in milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A UUIDv7 of now. Those of one process are ordered even within a millisecond.
#[must_use]
pub fn uuid() -> Uuid {
    Uuid::now_v7()
}

/// Random bytes for keys and nonces.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::Rng::fill(&mut rand::rng(), &mut bytes[..]);
    bytes
}

/// A random number from 0 to 1, for jitter.
#[must_use]
pub fn jitter() -> f64 {
    rand::random()
}

/// A time of the database's type from Unix milliseconds; what lies beyond year 9999 is capped.
#[must_use]
pub fn timestamp(at_ms: u64) -> OffsetDateTime {
    const LAST: OffsetDateTime = time::macros::datetime!(9999-12-31 23:59:59 UTC);
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000).unwrap_or(LAST)
}

/// Unix milliseconds of a time of the database; 0 for what lies before 1970.
#[must_use]
pub fn unix_ms(at: OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}
