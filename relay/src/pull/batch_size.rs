//! How many messages a pull requests: fewer when a response cannot be read.
//!
//! A response that is truncated, late or unreadable has leased its messages nevertheless, and each lease counts towards
//! the queue's limit of retries. So the next pull requests half as many, until the response fits through the
//! connection, or until the message that makes it unreadable is alone.

use std::time::{Duration, Instant};

use super::api::BATCH;

/// For how long sizes that have failed are not tried again. It is several times longer than the leases of a pull that
/// failed, so that its messages are pulled with the smaller size when they return.
pub(crate) const AVOIDED_FOR: Duration = Duration::from_secs(600);

/// For how long messages are pulled one by one after one of them was kept apart.
const ALONE_FOR: Duration = Duration::from_secs(60);

/// The size of the next pull of one queue, shared by all its pulls.
#[derive(Debug)]
pub struct BatchSize {
    /// 1 to [`BATCH`].
    size: usize,
    /// The smallest size that has failed recently, and the time of the last failure.
    failed: Option<(usize, Instant)>,
}

impl Default for BatchSize {
    fn default() -> Self {
        Self { size: BATCH, failed: None }
    }
}

impl BatchSize {
    /// How many messages to request: 1 to [`BATCH`].
    #[must_use]
    pub fn get(&self) -> usize {
        self.size
    }

    /// The response to a pull of `asked` messages could not be read. Concurrent pulls that fail together count as one
    /// failure.
    pub fn failed(&mut self, asked: usize, now: Instant) {
        let smallest = self.avoided(now).map_or(asked, |size| size.min(asked));
        self.failed = Some((smallest, now));
        self.size = self.size.min(asked / 2).max(1);
    }

    /// A pull of `asked` messages was not answered in time, possibly because of its size. Larger sizes are not avoided:
    /// the queue's API may only have been unreachable.
    pub fn timed_out(&mut self, asked: usize) {
        self.size = self.size.min(asked / 2).max(1);
    }

    /// The message that made the responses unreadable was found and is gone. There may be more of its kind, so for a
    /// while the next messages are pulled one by one, so that they do not affect one another.
    pub fn kept_apart(&mut self, now: Instant) {
        let avoided_since = now.checked_sub(AVOIDED_FOR.saturating_sub(ALONE_FOR)).unwrap_or(now);
        self.failed = Some((1, avoided_since));
        self.size = 1;
    }

    /// The response to a pull of `asked` messages was read and contained `found`. Only a full response shows that the
    /// connection can carry more.
    pub fn succeeded(&mut self, asked: usize, found: usize, now: Instant) {
        let grown = (self.size * 2).min(BATCH);
        let is_avoided = self.avoided(now).is_some_and(|size| grown >= size);
        if found >= asked && asked >= self.size && !is_avoided {
            self.size = grown;
        }
    }

    fn avoided(&self, now: Instant) -> Option<usize> {
        let (size, at) = self.failed?;
        (now.saturating_duration_since(at) < AVOIDED_FOR).then_some(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds full responses until the size no longer changes.
    fn grow(batch: &mut BatchSize, now: Instant) -> usize {
        for _ in 0..10 {
            batch.succeeded(batch.get(), batch.get(), now);
        }
        batch.get()
    }

    #[test]
    fn each_failure_halves_the_size_down_to_one() {
        let now = Instant::now();
        let mut batch = BatchSize::default();
        let sizes: Vec<usize> = (0..9)
            .map(|_| {
                let asked = batch.get();
                batch.failed(asked, now);
                asked
            })
            .collect();
        assert_eq!(sizes, [100, 50, 25, 12, 6, 3, 1, 1, 1]);
    }

    #[test]
    fn pulls_that_fail_together_halve_the_size_once() {
        let now = Instant::now();
        let mut batch = BatchSize::default();
        for _ in 0..4 {
            batch.failed(100, now);
        }
        assert_eq!(batch.get(), 50);
        batch.failed(50, now);
        batch.failed(100, now);
        assert_eq!(batch.get(), 25, "an older and larger pull that fails late does not enlarge it");
    }

    #[test]
    fn the_size_grows_back_but_stays_below_the_failed_size_for_ten_minutes() {
        let now = Instant::now();
        let mut batch = BatchSize::default();
        batch.failed(100, now);
        assert_eq!(grow(&mut batch, now), 50);
        batch.failed(50, now);
        batch.failed(25, now);
        assert_eq!(grow(&mut batch, now + Duration::from_secs(599)), 24, "the next size below 25");
        assert_eq!(grow(&mut batch, now + Duration::from_secs(600)), 100);
    }

    #[test]
    fn after_a_message_was_kept_apart_the_next_are_pulled_one_by_one_for_a_minute() {
        let now = Instant::now() + AVOIDED_FOR;
        let mut batch = BatchSize::default();
        batch.failed(100, now);
        batch.kept_apart(now);
        assert_eq!(grow(&mut batch, now + Duration::from_secs(59)), 1);
        assert_eq!(grow(&mut batch, now + Duration::from_secs(60)), 100);
    }

    #[test]
    fn a_pull_that_was_not_answered_in_time_halves_the_size_until_one_is() {
        let now = Instant::now();
        let mut batch = BatchSize::default();
        batch.timed_out(100);
        batch.timed_out(50);
        assert_eq!(batch.get(), 25);
        assert_eq!(grow(&mut batch, now), 100);
    }

    #[test]
    fn only_a_full_response_of_the_present_size_lets_the_size_grow() {
        let now = Instant::now();
        let later = now + AVOIDED_FOR;
        let mut batch = BatchSize::default();
        batch.failed(100, now);
        for (asked, found) in [(50, 0), (50, 49), (25, 25)] {
            batch.succeeded(asked, found, later);
        }
        assert_eq!(batch.get(), 50);
        batch.succeeded(50, 50, later);
        assert_eq!(batch.get(), 100);
    }

    #[test]
    fn a_message_that_makes_responses_unreadable_is_found_among_good_messages() {
        // One of a hundred messages makes every response that contains it unreadable. Leased messages return after 70
        // s. In the meantime, full responses with other messages arrive.
        let mut now = Instant::now();
        let mut batch = BatchSize::default();
        let mut with_the_bad_one = 100;
        let mut rounds = 0;
        while with_the_bad_one > 1 {
            let asked = batch.get();
            with_the_bad_one = with_the_bad_one.min(asked);
            batch.failed(asked, now);
            now += Duration::from_secs(70);
            grow(&mut batch, now);
            rounds += 1;
            assert!(rounds <= 12, "{batch:?}");
        }
    }
}
