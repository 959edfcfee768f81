//! A destination's rate limit: the generic cell rate algorithm (GCRA), on the engine's clock.
//!
//! Sends are spaced evenly, by the period divided by the limit. A small burst makes up for timers that fire late, so a
//! window of any length holds at most as many sends as the rate allows in it, plus the burst less one.
//!
//! The whole state is one time, that of the last send on the even grid. The next owner of the destination continues
//! from it.

use model::destination::Rate;

/// The burst, in seconds of the rate: how much may be sent at once, beyond the even spacing. It makes up for timers
/// that fire late, and adds half a percent to a window of ten seconds.
pub const BURST_PART_OF_A_SECOND: f64 = 0.05;

/// The longest spacing of a reduced rate, as a multiple of the even spacing: the inverse of the lowest rate factor.
const LONGEST_REDUCED_SPACING: u64 = 16;

/// The pace of one destination.
#[derive(Debug)]
pub struct Pace {
    rate: Rate,
    spacing_ns: u64,
    burst: u64,
    /// The last send on the even grid, Unix time in nanoseconds. It is ahead of the clock after a burst, or while the
    /// rate is reduced. `None` before the first send.
    last_ns: Option<u64>,
}

impl Pace {
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, spacing_ns: spacing_ns(rate), burst: burst(rate), last_ns: None }
    }

    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Changes the rate: the next send is one spacing of the new rate after the last one.
    pub fn set_rate(&mut self, rate: Rate, now_us: u64) {
        let last_ns = self.last_ns.map(|last_ns| last_ns.min(nanoseconds(now_us)));
        *self = Self { last_ns, ..Self::new(rate) };
    }

    /// The time between two sends, in microseconds.
    #[must_use]
    pub fn spacing_us(&self) -> u64 {
        self.spacing_ns.div_ceil(1_000)
    }

    /// The last send on the even grid, Unix time in microseconds. [`Self::restore`] takes it.
    #[must_use]
    pub fn last_us(&self) -> Option<u64> {
        self.last_ns.map(|last_ns| last_ns.div_ceil(1_000))
    }

    /// Continues where an earlier owner of the destination has ended.
    pub fn restore(&mut self, last_us: u64, now_us: u64) {
        // It may have been stored under a slower rate.
        let most_ns = (LONGEST_REDUCED_SPACING + self.burst).saturating_mul(self.spacing_ns);
        self.last_ns = Some(nanoseconds(last_us).min(nanoseconds(now_us).saturating_add(most_ns)));
    }

    /// Delays the next send by at least one spacing from now, because the last send of an earlier owner is not known.
    pub fn wait_one(&mut self, now_us: u64) {
        let last_ns = nanoseconds(now_us).saturating_add((self.burst - 1).saturating_mul(self.spacing_ns));
        self.last_ns = self.last_ns.max(Some(last_ns));
    }

    /// After how many microseconds one delivery may be sent, at least 1; `None` if one may be sent now.
    #[must_use]
    pub fn wait_us(&self, now_us: u64) -> Option<u64> {
        let wait_ns = self.next_ns().saturating_sub(nanoseconds(now_us));
        (wait_ns > 0).then(|| wait_ns.div_ceil(1_000))
    }

    /// Takes one send. `factor` is the part of the rate at which the destination is sent to at present, above 0 and up
    /// to 1. A reduced rate has no burst.
    ///
    /// # Errors
    /// Returns the wait in microseconds, at least 1, if none may be sent now.
    pub fn take(&mut self, factor: f64, now_us: u64) -> Result<(), u64> {
        if let Some(wait_us) = self.wait_us(now_us) {
            return Err(wait_us);
        }
        let now_ns = nanoseconds(now_us);
        let even_ns = self.last_ns.map_or(now_ns, |last_ns| last_ns.saturating_add(self.spacing_ns).max(now_ns));
        let reduced_ns =
            if factor < 1.0 { self.last_before(now_ns.saturating_add(self.reduced_ns(factor))) } else { 0 };
        self.last_ns = Some(even_ns.max(reduced_ns));
        Ok(())
    }

    /// When the next delivery may be sent.
    fn next_ns(&self) -> u64 {
        let Some(last_ns) = self.last_ns else { return 0 };
        last_ns.saturating_add(self.spacing_ns).saturating_sub((self.burst - 1).saturating_mul(self.spacing_ns))
    }

    /// The time of the last send for which the next one may be sent at `next_ns`.
    fn last_before(&self, next_ns: u64) -> u64 {
        next_ns.saturating_add((self.burst - 1).saturating_mul(self.spacing_ns)).saturating_sub(self.spacing_ns)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "hours in nanoseconds"
    )]
    fn reduced_ns(&self, factor: f64) -> u64 {
        (self.spacing_ns as f64 / factor) as u64
    }
}

fn nanoseconds(us: u64) -> u64 {
    us.saturating_mul(1_000)
}

fn spacing_ns(rate: Rate) -> u64 {
    let spacing = rate.per.as_nanos().div_ceil(u128::from(rate.limit.get()));
    u64::try_from(spacing).unwrap_or(u64::MAX).max(1)
}

fn burst(rate: Rate) -> u64 {
    let per_second = f64::from(rate.limit.get()) / rate.per.as_secs_f64();
    // Two if the period is short enough for a late timer to matter, one for slower rates.
    let least = if per_second >= 2.0 { 2.0 } else { 1.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and u32::MAX / 20")]
    let burst = (per_second * BURST_PART_OF_A_SECOND).max(least) as u64;
    burst
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    const START_US: u64 = 1_764_000_000_000_000;
    const HOUR_US: u64 = 3_600_000_000;

    fn rate(limit: u32, per_s: u64) -> Rate {
        Rate { limit: NonZeroU32::new(limit).expect("not 0"), per: Duration::from_secs(per_s) }
    }

    fn sent(limit: u32, per_s: u64, seconds: u64, step_us: u64) -> u64 {
        let mut pace = Pace::new(rate(limit, per_s));
        let mut count = 0;
        for now_us in (0..seconds * 1_000_000).step_by(usize::try_from(step_us).expect("small")) {
            while pace.take(1.0, START_US + now_us).is_ok() {
                count += 1;
            }
        }
        count
    }

    #[test]
    fn a_rate_is_kept_within_five_percent_over_ten_seconds_although_timers_are_late() {
        for (limit, expected) in [(20, 200), (50, 500), (1000, 10_000)] {
            let count = sent(limit, 1, 10, 7_000);
            assert!(count.abs_diff(expected) * 20 <= expected, "{limit}/s: {count}");
        }
    }

    #[test]
    fn a_rate_per_minute_or_hour_is_spaced_evenly() {
        assert_eq!(sent(60, 60, 10, 1_000), 10);
        assert_eq!(sent(3600, 3600, 10, 1_000), 10);
        assert_eq!(sent(1, 3600, 10, 10_000), 1);
    }

    #[test]
    fn a_window_holds_at_most_the_limit_and_the_burst_less_one() {
        for (limit, per_s, burst) in [(120, 60, 2), (60, 60, 1), (50, 1, 2), (1_000, 1, 50)] {
            let most = sent(limit, per_s, per_s, 1_000);
            assert!((u64::from(limit)..=u64::from(limit) + burst - 1).contains(&most), "{limit} in {per_s} s: {most}");
        }
    }

    #[test]
    fn the_wait_ends_when_the_next_send_is_allowed() {
        let mut pace = Pace::new(rate(1, 1));
        assert_eq!(pace.take(1.0, 0), Ok(()));
        assert_eq!(pace.take(1.0, 0), Err(1_000_000));
        assert_eq!(pace.take(1.0, 400_000), Err(600_000));
        assert_eq!(pace.take(1.0, 1_000_000), Ok(()));
    }

    #[test]
    fn a_reduced_rate_is_spaced_evenly_and_restored_without_a_burst() {
        let mut pace = Pace::new(rate(100, 1));
        let mut count = 0;
        for now_us in (0..20_000_000_u64).step_by(1_000) {
            let factor = if now_us < 10_000_000 { 0.25 } else { 1.0 };
            while pace.take(factor, START_US + now_us).is_ok() {
                count += 1;
            }
            if now_us == 9_999_000 {
                assert_eq!(count, 250);
            }
        }
        assert!((1_240..=1_256).contains(&count), "{count}");
    }

    #[test]
    fn another_owner_continues_where_the_earlier_one_has_ended() {
        for (limit, per_s) in [(1, 3_600), (60, 60), (20, 1), (1_000, 1)] {
            let (mut alone, mut first) = (Pace::new(rate(limit, per_s)), Pace::new(rate(limit, per_s)));
            while alone.take(1.0, START_US).is_ok() {
                assert_eq!(first.take(1.0, START_US), Ok(()));
            }
            let mut second = Pace::new(rate(limit, per_s));
            second.restore(first.last_us().expect("one was sent"), START_US);
            assert_eq!(second.wait_us(START_US), alone.wait_us(START_US), "{limit} in {per_s} s");
        }
    }

    #[test]
    fn if_the_last_send_is_not_known_the_next_one_waits_for_one_spacing() {
        for (limit, per_s) in [(1, 4), (20, 1), (1_000, 1)] {
            let mut pace = Pace::new(rate(limit, per_s));
            pace.wait_one(START_US);
            assert_eq!(pace.wait_us(START_US), Some(pace.spacing_us()));
            assert_eq!(pace.take(1.0, START_US + pace.spacing_us()), Ok(()));
            assert!(pace.wait_us(START_US + pace.spacing_us()).is_some(), "no burst");
        }
    }

    #[test]
    fn a_changed_rate_counts_from_the_last_send() {
        let mut pace = Pace::new(rate(1, 3_600));
        pace.take(1.0, START_US).expect("the first");
        pace.set_rate(rate(2, 3_600), START_US + HOUR_US / 4);
        assert_eq!(pace.wait_us(START_US + HOUR_US / 4), Some(HOUR_US / 4));
        pace.take(1.0 / 16.0, START_US + HOUR_US / 2).expect("half an hour later");
        pace.set_rate(rate(60, 60), START_US + HOUR_US / 2);
        assert_eq!(pace.wait_us(START_US + HOUR_US / 2), Some(1_000_000), "the longer wait of the old rate is dropped");
        pace.restore(START_US + 100 * HOUR_US, START_US);
        assert!(pace.wait_us(START_US).is_some_and(|wait_us| wait_us <= 18_000_000));
    }
}
