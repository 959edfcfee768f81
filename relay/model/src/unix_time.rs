//! Conversions between times of the database's type and Unix times.

use time::OffsetDateTime;

/// A day in milliseconds.
pub const DAY_MS: u64 = 86_400_000;

/// The Unix time in milliseconds of this many days before `now_ms`.
#[must_use]
pub fn days_before(now_ms: u64, days: u16) -> u64 {
    now_ms.saturating_sub(u64::from(days) * DAY_MS)
}

/// A time of the database's type from Unix milliseconds; times beyond the year 9999 are capped.
#[must_use]
pub fn timestamp(at_ms: u64) -> OffsetDateTime {
    const LAST: OffsetDateTime = time::macros::datetime!(9999-12-31 23:59:59 UTC);
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000).unwrap_or(LAST)
}

/// As [`timestamp`], from Unix microseconds.
#[must_use]
pub fn timestamp_us(at_us: u64) -> OffsetDateTime {
    let at_ns = i128::from(at_us) * 1_000;
    OffsetDateTime::from_unix_timestamp_nanos(at_ns).unwrap_or_else(|_| timestamp(at_us / 1_000))
}

/// Unix microseconds of a time of the database; 0 for times before 1970.
#[must_use]
pub fn unix_us(at: OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(0)
}

/// Unix milliseconds of a time of the database; 0 for times before 1970.
#[must_use]
pub fn unix_ms(at: OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}
