//! Compares the relay's clock with the database's, which all replicas share.
//!
//! A machine may start before its clock has been set, and one that was suspended resumes with an old time. Decisions
//! that depend on the time of day, such as whether an event's id is plausible or its body is past its retention, use
//! the database's clock. While the two differ by more than [`TOLERANCE`], nothing is pulled.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use model::unix_time;
use store::Pool;

use crate::mint;

/// The maximum difference between the two clocks.
pub const TOLERANCE: Duration = Duration::from_secs(60);

/// The difference above which the log warns, in milliseconds: receivers see the relay's clock in `webhook-timestamp`.
const WARN_MS: u64 = 5_000;

/// How long a comparison is valid.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// How far the clock may have drifted from the monotonic clock since a comparison, in milliseconds. If it is further,
/// the clock was set, or the machine was suspended: on Linux the monotonic clock stops during a suspension.
const STEP_MS: u64 = 1_000;

/// How long the database may take to return its time.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The relay's clock.
pub struct WallClock {
    pool: Pool,
    last: Mutex<Option<Comparison>>,
}

/// A comparison of the two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Comparison {
    steady: Instant,
    ours: SystemTime,
    /// How far the relay's clock is ahead, in milliseconds.
    ahead_ms: i64,
}

impl WallClock {
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self { pool, last: Mutex::new(None) }
    }

    /// How far the relay's clock is ahead of the database's, in milliseconds; negative if it is behind. Queries the
    /// database if the last comparison is too old, or the clock was set since.
    ///
    /// # Errors
    /// Returns an error if the query fails or takes too long.
    pub async fn ahead_ms(&self) -> store::Result<i64> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.filter(|last| still_good(*last, Instant::now(), SystemTime::now())) {
            return Ok(last.ahead_ms);
        }
        let before = mint::now_ms();
        let theirs = tokio::time::timeout(ANSWER_WITHIN, store::health::now(&self.pool));
        let theirs = unix_time::unix_ms(theirs.await.map_err(|_| store::Error::took_longer_than(ANSWER_WITHIN))??);
        let (steady, ours) = (Instant::now(), SystemTime::now());
        let ahead_ms = ahead(before, mint::now_ms(), theirs);
        if is_new_difference(last.map(|last| last.ahead_ms), ahead_ms) {
            tracing::warn!(ahead_ms, error = describe(ahead_ms), "the clock of the relay differs from the database's");
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Comparison { steady, ours, ahead_ms });
        Ok(ahead_ms)
    }

    /// Unix time by the database's clock, in milliseconds.
    ///
    /// # Errors
    /// Returns an error if the query fails or takes too long.
    pub async fn now_ms(&self) -> store::Result<u64> {
        let ahead_ms = self.ahead_ms().await?;
        Ok(mint::now_ms().saturating_add_signed(-ahead_ms))
    }

    /// Whether the two clocks differ by more than [`TOLERANCE`]. The text contains the difference.
    ///
    /// # Errors
    /// Returns an error if the query fails or takes too long.
    pub async fn is_wrong(&self) -> store::Result<Option<String>> {
        let ahead_ms = self.ahead_ms().await?;
        Ok((u128::from(ahead_ms.unsigned_abs()) > TOLERANCE.as_millis()).then(|| describe(ahead_ms)))
    }
}

/// Whether a difference is logged: one that lasts is logged once.
fn is_new_difference(before: Option<i64>, ahead_ms: i64) -> bool {
    let is_far = |ahead_ms: i64| ahead_ms.unsigned_abs() > WARN_MS;
    is_far(ahead_ms) && !before.is_some_and(is_far)
}

fn describe(ahead_ms: i64) -> String {
    let side = if ahead_ms > 0 { "ahead of" } else { "behind" };
    format!(
        "the relay's clock is {} s {side} the database's; synchronise both machines with NTP",
        ahead_ms.abs() / 1_000
    )
}

/// How far the relay's clock is ahead of the database's, which was read between `before` and `after`. Zero if they may
/// be equal.
fn ahead(before: u64, after: u64, theirs: u64) -> i64 {
    if (before.min(after)..=before.max(after)).contains(&theirs) {
        return 0;
    }
    let middle = before.midpoint(after);
    i64::try_from(i128::from(middle) - i128::from(theirs)).unwrap_or(i64::MAX)
}

fn still_good(last: Comparison, steady: Instant, ours: SystemTime) -> bool {
    let passed = steady.saturating_duration_since(last.steady);
    let expected = last.ours + passed;
    let apart = ours.duration_since(expected).unwrap_or_else(|error| error.duration());
    passed < CHECK_EVERY && apart < Duration::from_millis(STEP_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_again_after_a_while_and_at_once_after_a_step_or_a_suspension() {
        let last = Comparison { steady: Instant::now(), ours: SystemTime::now(), ahead_ms: 0 };
        let after = |steady: u64, ours: u64| {
            still_good(last, last.steady + Duration::from_secs(steady), last.ours + Duration::from_secs(ours))
        };
        assert!(after(10, 10));
        assert!(!after(30, 30), "the comparison is old");
        assert!(!after(10, 13), "set forward, or suspended for three seconds");
        assert!(!after(10, 5), "set back");
    }

    #[test]
    fn a_difference_of_seconds_is_logged_when_it_begins() {
        let logged = |before, now| is_new_difference(before, now);
        assert!(logged(None, 6_000) && logged(Some(0), -6_000));
        assert!(!logged(Some(6_000), 7_000) && !logged(Some(0), 4_000) && !logged(Some(9_000), 0));
    }

    #[test]
    fn clocks_that_may_be_equal_do_not_differ() {
        assert_eq!(ahead(1_000, 1_200, 1_100), 0);
        assert_eq!(ahead(1_000, 1_200, 900), 200);
        assert_eq!(ahead(1_000, 1_200, 172_801_100), -172_800_000);
        assert!(describe(-172_800_000).contains("172800 s behind"));
    }
}
