//! The engine's clock: Unix time that never runs backwards.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Unix time at the start, counted on by the monotonic clock: a correction of the system's clock neither opens a rate
/// limit nor closes it. It may therefore differ from the system's time by what was corrected since the start.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_us: u64,
}

impl Clock {
    #[must_use]
    pub fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_us: u64::try_from(since.as_micros()).unwrap_or(u64::MAX) }
    }

    /// Unix time in microseconds.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.started_us + u64::try_from(self.started.elapsed().as_micros()).unwrap_or(0)
    }

    /// The Unix time of a moment in microseconds; what lies before the start is the start.
    #[must_use]
    pub fn at_us(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.started);
        self.started_us + u64::try_from(since.as_micros()).unwrap_or(0)
    }

    /// The moment of a Unix time in microseconds, for a timer; what is past is the start.
    #[must_use]
    pub fn instant(&self, at_us: u64) -> Instant {
        self.started + Duration::from_micros(at_us.saturating_sub(self.started_us))
    }
}
