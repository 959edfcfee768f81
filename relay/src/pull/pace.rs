//! How fast the queue is polled: at once while there is a backlog, and less and less often while it is empty.

use std::time::Duration;

/// The most pulls in flight for one queue. Storing is the bottleneck; two batches in transit keep it busy.
pub(crate) const MOST_AT_ONCE: usize = 4;

/// The pause after a pull that found messages but no backlog.
const SHORT_PAUSE: Duration = Duration::from_millis(20);

/// The state of the pacing.
#[derive(Debug)]
pub struct Pace {
    idle: Duration,
    pause: Duration,
    at_once: usize,
}

impl Pace {
    /// `idle` is the longest pause between two pulls of an empty queue.
    #[must_use]
    pub fn new(idle: Duration) -> Self {
        Self { idle, pause: SHORT_PAUSE, at_once: 1 }
    }

    /// How many pulls may be in flight.
    #[must_use]
    pub fn pulls_at_once(&self) -> usize {
        self.at_once
    }

    /// Records the result of a pull of `asked` messages and returns the pause before the next one.
    pub fn after(&mut self, asked: usize, found: usize) -> Duration {
        if found >= asked {
            self.at_once = (self.at_once * 2).min(MOST_AT_ONCE);
            self.pause = SHORT_PAUSE;
            return Duration::ZERO;
        }
        self.at_once = 1;
        if found > 0 {
            self.pause = SHORT_PAUSE;
            return SHORT_PAUSE;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(self.idle);
        pause.min(self.idle)
    }
}

#[cfg(test)]
mod tests {
    use super::super::api::BATCH;
    use super::*;

    #[test]
    fn a_backlog_is_pulled_without_a_pause_by_several_concurrent_pulls() {
        let mut pace = Pace::new(Duration::from_secs(1));
        assert_eq!((pace.after(BATCH, BATCH), pace.pulls_at_once()), (Duration::ZERO, 2));
        assert_eq!((pace.after(BATCH, BATCH), pace.pulls_at_once()), (Duration::ZERO, 4));
        assert_eq!((pace.after(BATCH, BATCH), pace.pulls_at_once()), (Duration::ZERO, 4));
        assert_eq!((pace.after(BATCH, 1), pace.pulls_at_once()), (SHORT_PAUSE, 1));
    }

    #[test]
    fn an_empty_queue_is_polled_less_and_less_often_until_a_message_arrives() {
        let mut pace = Pace::new(Duration::from_millis(100));
        let pauses: Vec<u128> = (0..5).map(|_| pace.after(BATCH, 0).as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 100, 100]);
        assert_eq!(pace.after(BATCH, 3), SHORT_PAUSE);
        assert_eq!(pace.after(BATCH, 0), SHORT_PAUSE);
    }
}
