//! A destination's rate limit: GCRA by the crate governor, on the engine's clock.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::{Clock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::configuration::Rate;

/// How much of a second a destination may be sent at once, beyond the even spacing of its rate. It makes up for timers
/// that fire late; what it adds to a window of ten seconds is half a percent.
const BURST_PART_OF_A_SECOND: f64 = 0.05;

/// Time as the engine sets it.
#[derive(Debug, Clone, Default)]
pub struct SetClock(Arc<AtomicU64>);

impl SetClock {
    /// Sets the time, in microseconds.
    pub fn set_us(&self, now_us: u64) {
        self.0.store(now_us, Ordering::Relaxed);
    }

    fn now_us(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clock for SetClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(Duration::from_micros(self.now_us()))
    }
}

/// The pace of one destination.
pub struct Pace {
    rate: Rate,
    /// While the rate is reduced: when the next one may be taken, in microseconds.
    not_before_us: u64,
    clock: SetClock,
    limiter: RateLimiter<NotKeyed, InMemoryState, SetClock, NoOpMiddleware<Nanos>>,
}

impl Pace {
    #[must_use]
    pub fn new(rate: Rate, clock: &SetClock) -> Self {
        let quota = Quota::with_period(rate.per / rate.limit.get())
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MAX))
            .allow_burst(burst(rate));
        Self {
            rate,
            not_before_us: 0,
            clock: clock.clone(),
            limiter: RateLimiter::direct_with_clock(quota, clock.clone()),
        }
    }

    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes one, or says after how many microseconds one may be taken. `factor` is the part of the rate that the
    /// destination is sent at present, up to 1; a reduced rate has no burst.
    ///
    /// # Errors
    /// The wait in microseconds, at least 1.
    pub fn take(&mut self, factor: f64) -> Result<(), u64> {
        let now_us = self.clock.now_us();
        if now_us < self.not_before_us {
            return Err(self.not_before_us - now_us);
        }
        self.limiter.check().map_err(|not_until| {
            let wait = not_until.earliest_possible().duration_since(self.clock.now());
            u64::try_from(Duration::from(wait).as_micros()).unwrap_or(u64::MAX).max(1)
        })?;
        if factor < 1.0 {
            let spacing = self.rate.per.div_f64(f64::from(self.rate.limit.get()) * factor);
            self.not_before_us = now_us.saturating_add(u64::try_from(spacing.as_micros()).unwrap_or(u64::MAX));
        }
        Ok(())
    }
}

fn burst(rate: Rate) -> NonZeroU32 {
    let per_second = f64::from(rate.limit.get()) / rate.per.as_secs_f64();
    // Two where a period is short enough for a late timer to matter; one where the limit is slower than that.
    let least = if per_second >= 2.0 { 2.0 } else { 1.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and u32::MAX / 20")]
    NonZeroU32::new((per_second * BURST_PART_OF_A_SECOND).max(least) as u32).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(limit: u32, per_s: u64, seconds: u64, step_us: u64) -> u64 {
        let clock = SetClock::default();
        let rate = Rate { limit: NonZeroU32::new(limit).expect("not 0"), per: Duration::from_secs(per_s) };
        let mut pace = Pace::new(rate, &clock);
        let mut count = 0;
        for now_us in (0..seconds * 1_000_000).step_by(usize::try_from(step_us).expect("small")) {
            clock.set_us(1_764_000_000_000_000 + now_us);
            while pace.take(1.0).is_ok() {
                count += 1;
            }
        }
        count
    }

    #[test]
    fn a_rate_is_kept_within_five_percent_of_ten_seconds_though_timers_are_late() {
        for (limit, expected) in [(20, 200), (50, 500), (1000, 10_000)] {
            let count = sent(limit, 1, 10, 7_000);
            assert!(count.abs_diff(expected) * 20 <= expected, "{limit}/s: {count}");
        }
    }

    #[test]
    fn a_rate_per_minute_or_hour_is_spread_evenly() {
        assert_eq!(sent(60, 60, 10, 1_000), 10);
        assert_eq!(sent(3600, 3600, 10, 1_000), 10);
        assert_eq!(sent(1, 3600, 10, 10_000), 1);
    }

    #[test]
    fn the_wait_is_as_long_as_it_has_to_be() {
        let clock = SetClock::default();
        let mut pace = Pace::new(Rate { limit: NonZeroU32::MIN, per: Duration::from_secs(1) }, &clock);
        assert_eq!(pace.take(1.0), Ok(()));
        assert_eq!(pace.take(1.0), Err(1_000_000));
        clock.set_us(400_000);
        assert_eq!(pace.take(1.0), Err(600_000));
        clock.set_us(1_000_000);
        assert_eq!(pace.take(1.0), Ok(()));
    }

    #[test]
    fn a_reduced_rate_is_spread_evenly_and_comes_back_without_a_burst() {
        let clock = SetClock::default();
        let mut pace =
            Pace::new(Rate { limit: NonZeroU32::new(100).expect("not 0"), per: Duration::from_secs(1) }, &clock);
        let mut count = 0;
        for now_us in (0..20_000_000_u64).step_by(1_000) {
            clock.set_us(1_764_000_000_000_000 + now_us);
            let factor = if now_us < 10_000_000 { 0.25 } else { 1.0 };
            while pace.take(factor).is_ok() {
                count += 1;
            }
            if now_us == 9_999_000 {
                assert_eq!(count, 250);
            }
        }
        assert!((1_240..=1_256).contains(&count), "{count}");
    }
}
