//! The engine's clock: Unix time that never runs backwards.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::microseconds;

use crate::moment::Moment;

/// Unix time at the start, advanced by a monotonic clock: a correction of the system's clock neither opens nor closes a
/// rate limit. So it may differ from the system's time by the corrections since the start, and from the database's by
/// any amount. Therefore a waiting time that is stored for others is a duration, which the database adds to its own
/// time.
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

    /// The Unix time of a moment in microseconds. A moment before the start counts as the start.
    #[must_use]
    pub fn at_us(&self, at: Moment) -> u64 {
        self.started_us.saturating_add(microseconds(at.since(self.started)))
    }

    /// When a timer has to fire for a Unix time in microseconds; now if that has passed. A timer stops while the
    /// machine is suspended, so it is set again after every other input.
    #[must_use]
    pub fn timer(&self, at_us: u64) -> tokio::time::Instant {
        tokio::time::Instant::now() + Duration::from_micros(at_us.saturating_sub(self.now_us()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_counts_and_a_moment_before_the_start_counts_as_the_start() {
        let clock = Clock { started: Moment::after_start(Duration::from_secs(100)), started_us: 7_000_000 };
        assert_eq!(clock.at_us(Moment::after_start(Duration::from_secs(99))), 7_000_000);
        assert_eq!(
            clock.at_us(Moment::after_start(Duration::from_secs(100 + 8 * 3_600))),
            7_000_000 + 8 * 3_600_000_000
        );
    }

    #[tokio::test]
    async fn a_timer_for_a_past_time_fires_at_once() {
        let clock = Clock::start();
        tokio::time::sleep_until(clock.timer(0)).await;
        tokio::time::sleep_until(clock.timer(clock.now_us() + 1_000)).await;
    }
}
