//! The engine's clock: Unix time that never runs backwards.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use super::core::microseconds;

/// The clock that counts on while the machine is suspended. `Instant` does not on Linux: after a night of suspension it
/// would say that a lease of ten seconds has not ended.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SUSPENSION_COUNTS: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SUSPENSION_COUNTS: ClockId = ClockId::Monotonic;

/// A moment as the time since the machine was started, suspensions included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        let time = clock_gettime(SUSPENSION_COUNTS);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Self(Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0)))
    }

    /// How long ago it was.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// How long after `earlier` it is; zero if it is before that.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}

/// Unix time at the start, counted on by a steady clock: a correction of the system's clock neither opens a rate limit nor
/// closes it. It may therefore differ from the system's time by what was corrected since the start, and from the database's
/// by any amount: what is written for others to wait for is a duration, which the database adds to its own time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Moment,
    started_us: u64,
}

impl Clock {
    #[must_use]
    pub fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Moment::now(), started_us: microseconds(since) }
    }

    /// Unix time in microseconds.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.at_us(Moment::now())
    }

    /// The Unix time of a moment in microseconds; what lies before the start is the start.
    #[must_use]
    pub fn at_us(&self, at: Moment) -> u64 {
        self.started_us.saturating_add(microseconds(at.since(self.started)))
    }

    /// When a timer has to fire for a Unix time in microseconds; what is past is now. A timer stands still while the machine
    /// is suspended, so it is set anew after every other thing that happens.
    #[must_use]
    pub fn timer(&self, at_us: u64) -> tokio::time::Instant {
        tokio::time::Instant::now() + Duration::from_micros(at_us.saturating_sub(self.now_us()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_counts_as_time_and_a_moment_before_the_start_is_the_start() {
        let clock = Clock { started: Moment(Duration::from_secs(100)), started_us: 7_000_000 };
        assert_eq!(clock.at_us(Moment(Duration::from_secs(99))), 7_000_000);
        assert_eq!(clock.at_us(Moment(Duration::from_secs(100 + 8 * 3_600))), 7_000_000 + 8 * 3_600_000_000);
    }

    #[tokio::test]
    async fn a_timer_for_what_is_past_fires_at_once() {
        let clock = Clock::start();
        tokio::time::sleep_until(clock.timer(0)).await;
        tokio::time::sleep_until(clock.timer(clock.now_us() + 1_000)).await;
    }
}
