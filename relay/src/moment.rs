//! Points in time on a monotonic clock that includes suspensions, unlike `Instant` on Linux.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The clock that continues while the machine is suspended. `Instant` does not on Linux: after a night of suspension, a
/// lease of ten seconds would seem not to have ended.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SUSPENSION_COUNTS: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SUSPENSION_COUNTS: ClockId = ClockId::Monotonic;

/// A point in time, as the time since the machine was started, suspensions included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// The moment that lies `time` after the start of the machine.
    #[cfg(test)]
    pub(crate) fn after_start(time: Duration) -> Self {
        Self(time)
    }

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

    /// How long it is after `earlier`; zero if it is before `earlier`.
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
