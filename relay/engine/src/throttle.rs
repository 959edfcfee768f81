//! The back-offs of a destination that answers 429 without saying for how long.
//!
//! The first back-off is short, and each 429 to an attempt that was sent after a back-off doubles it. A success ends
//! the run.

use super::tuning::{FIRST_THROTTLE_BACK_OFF_US, LONGEST_THROTTLE_BACK_OFF_US, THROTTLE_SPREAD};

/// The run of back-offs of one destination.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Back-offs since the last success.
    back_offs: u32,
    /// When the last of them began, and when it ends, in microseconds.
    since_us: u64,
    until_us: u64,
}

impl Throttle {
    /// The run as an earlier owner has left it. Every send of this owner comes after the beginning of the last
    /// back-off.
    pub(super) fn restored(back_offs: u32) -> Self {
        Self { back_offs, ..Self::default() }
    }

    /// Back-offs since the last success.
    pub(super) fn back_offs(&self) -> u32 {
        self.back_offs
    }

    /// An attempt that was sent at `sent_us` was answered 429. Returns the end of the back-off in microseconds.
    /// `jitter` is in 0..1.
    pub(super) fn throttled(&mut self, sent_us: u64, jitter: f64, now_us: u64) -> u64 {
        // An attempt that was sent before the back-off began is part of its cause.
        if self.back_offs > 0 && sent_us <= self.since_us {
            return self.until_us;
        }
        self.until_us = now_us + back_off_us(self.back_offs, jitter);
        self.since_us = now_us;
        self.back_offs = self.back_offs.saturating_add(1);
        self.until_us
    }

    /// The end of the back-off in microseconds; `None` if it has passed.
    pub(super) fn lasts_until(&self, now_us: u64) -> Option<u64> {
        Some(self.until_us).filter(|until_us| *until_us > now_us)
    }

    /// An attempt that was sent at `sent_us` has succeeded.
    pub(super) fn succeeded(&mut self, sent_us: u64) {
        if sent_us > self.since_us {
            *self = Self::default();
        }
    }
}

/// The length of the back-off that follows `back_offs` others.
fn back_off_us(back_offs: u32, jitter: f64) -> u64 {
    let back_off_us =
        FIRST_THROTTLE_BACK_OFF_US.saturating_mul(2_u64.saturating_pow(back_offs)).min(LONGEST_THROTTLE_BACK_OFF_US);
    let factor = 1.0 - THROTTLE_SPREAD + 2.0 * THROTTLE_SPREAD * jitter.clamp(0.0, 1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "minutes, in microseconds"
    )]
    let spread_us = (back_off_us as f64 * factor) as u64;
    spread_us
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn each_429_to_an_attempt_after_a_back_off_doubles_it_up_to_five_minutes() {
        let mut throttle = Throttle::default();
        let mut now_us = 1_000 * SECOND;
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let until_us = throttle.throttled(now_us, 0.5, now_us);
            assert_eq!(until_us - now_us, seconds * SECOND);
            assert_eq!(throttle.throttled(now_us - 1, 0.5, now_us + 1), until_us, "sent before: the same back-off");
            now_us = until_us;
        }
    }

    #[test]
    fn a_success_after_a_back_off_resets_it_to_the_first() {
        let mut throttle = Throttle::default();
        throttle.throttled(1, 0.5, 10);
        throttle.succeeded(5);
        assert_eq!(throttle.throttled(20, 0.5, 30), 30 + 2 * SECOND, "a success of an earlier attempt is ignored");
        throttle.succeeded(31);
        assert_eq!(throttle.throttled(40, 0.5, 50), 50 + SECOND);
    }

    #[test]
    fn another_owner_continues_the_back_offs_of_the_earlier_one() {
        let mut throttle = Throttle::restored(3);
        assert_eq!(throttle.throttled(10, 0.5, 20), 20 + 8 * SECOND);
        let mut throttle = Throttle::restored(3);
        throttle.succeeded(10);
        assert_eq!(throttle.throttled(20, 0.5, 30), 30 + SECOND);
    }

    #[test]
    fn back_offs_are_spread() {
        let back_off = |jitter| Throttle::default().throttled(1, jitter, 10) - 10;
        assert_eq!((back_off(0.0), back_off(1.0)), (800_000, 1_200_000));
    }
}
