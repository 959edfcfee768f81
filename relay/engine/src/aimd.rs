//! How much a destination can take at a time: additive increase, multiplicative decrease (RFC 5681), between one and
//! the destination's concurrency limit.
//!
//! The concurrency is halved when the destination says that it is overloaded (429, 502, 503, 504), when it does not
//! answer in time, or when its latency grows, but only once for all attempts that were in flight together. Then each
//! round of successes adds one. The rate, if there is one, is reduced and restored with it. After a breaker has closed,
//! a slow start follows: from one, doubled with each round, up to half of what it was.

use model::health::{Reason, Reduction};

use super::tuning::{
    LATENCY_GROWN_BY_US, LATENCY_LEAVES_PART, LATENCY_OF_AT_LEAST, LATENCY_WEIGHT, LEAST_RATE_FACTOR,
    RATE_GROWS_EVERY_US, RATE_GROWTH, USUAL_LATENCY_WEIGHT,
};

pub(super) struct Aimd {
    /// `None` if nothing is reduced.
    reduced: Option<Reduced>,
    latency: Latency,
}

struct Reduced {
    concurrency: f64,
    /// Below it the concurrency doubles with each round.
    slow_start_below: f64,
    rate_factor: f64,
    rate_grown_us: u64,
    /// When it was last reduced: attempts that were sent before are ignored.
    at_us: u64,
    why: Reason,
}

#[derive(Default)]
struct Latency {
    attempts: u32,
    now_us: f64,
    usual_us: f64,
}

impl Aimd {
    pub(super) fn unreduced() -> Self {
        Self { reduced: None, latency: Latency::default() }
    }

    /// The reduction of an earlier owner of the destination. The latencies begin anew.
    pub(super) fn restored(reduction: Option<Reduction>, now_us: u64) -> Self {
        let reduced =
            reduction.map(|Reduction { why, since_us, concurrency, slow_start_below, rate_factor }| Reduced {
                concurrency,
                slow_start_below,
                rate_factor: rate_factor.clamp(LEAST_RATE_FACTOR, 1.0),
                rate_grown_us: now_us,
                at_us: since_us,
                why,
            });
        Self { reduced, ..Self::unreduced() }
    }

    /// The reduction, for the next owner.
    pub(super) fn reduction(&self) -> Option<Reduction> {
        self.reduced.as_ref().map(|reduced| Reduction {
            why: reduced.why,
            since_us: reduced.at_us,
            concurrency: reduced.concurrency,
            slow_start_below: reduced.slow_start_below,
            rate_factor: reduced.rate_factor,
        })
    }

    /// How many attempts may be in flight, if the destination's limit is `limit`.
    pub(super) fn concurrency(&self, limit: usize) -> usize {
        self.reduced.as_ref().map_or(limit, |reduced| whole(reduced.concurrency).clamp(1, limit))
    }

    /// The part of its rate limit at which the destination is sent to, up to 1.
    pub(super) fn rate_factor(&self) -> f64 {
        self.reduced.as_ref().map_or(1.0, |reduced| reduced.rate_factor)
    }

    /// The present latency, in microseconds; `None` before the first success.
    pub(super) fn latency_us(&self) -> Option<f64> {
        (self.latency.attempts > 0).then_some(self.latency.now_us)
    }

    /// An attempt has succeeded.
    pub(super) fn succeeded(&mut self, sent_us: u64, latency_us: f64, limit: usize, now_us: u64) {
        if let Some(reduced) = &mut self.reduced {
            reduced.grow(now_us);
            if reduced.concurrency >= as_f64(limit) && reduced.rate_factor >= 1.0 {
                self.reduced = None;
            }
        }
        let least = as_f64(limit) / LATENCY_LEAVES_PART;
        if self.latency.has_grown(latency_us) && as_f64(self.concurrency(limit)) / 2.0 >= least {
            self.reduce(Reason::Latency, sent_us, limit, now_us);
        }
    }

    /// The destination is overloaded.
    pub(super) fn overloaded(&mut self, why: Reason, sent_us: u64, limit: usize, now_us: u64) {
        self.reduce(why, sent_us, limit, now_us);
    }

    /// The breaker has closed again: slow start.
    pub(super) fn restart(&mut self, limit: usize, now_us: u64) {
        let half = as_f64(self.concurrency(limit)) / 2.0;
        self.reduced = Some(Reduced {
            concurrency: 1.0,
            slow_start_below: half,
            rate_factor: self.rate_factor().min(0.5),
            rate_grown_us: now_us,
            at_us: now_us,
            why: Reason::Recovering,
        });
    }

    fn reduce(&mut self, why: Reason, sent_us: u64, limit: usize, now_us: u64) {
        if self.reduced.as_ref().is_some_and(|reduced| sent_us < reduced.at_us) {
            return;
        }
        let half = (as_f64(self.concurrency(limit)) / 2.0).max(1.0);
        self.reduced = Some(Reduced {
            concurrency: half,
            slow_start_below: half,
            rate_factor: (self.rate_factor() / 2.0).max(LEAST_RATE_FACTOR),
            rate_grown_us: now_us,
            at_us: now_us,
            why,
        });
    }
}

impl Reduced {
    fn grow(&mut self, now_us: u64) {
        let slow_start = self.concurrency < self.slow_start_below;
        self.concurrency += if slow_start { 1.0 } else { 1.0 / as_f64(whole(self.concurrency).max(1)) };
        if now_us >= self.rate_grown_us + RATE_GROWS_EVERY_US {
            self.rate_factor = (self.rate_factor + RATE_GROWTH).min(1.0);
            self.rate_grown_us = now_us;
        }
    }
}

impl Latency {
    /// Adds one latency. Returns whether latencies have grown.
    fn has_grown(&mut self, latency_us: f64) -> bool {
        if self.attempts == 0 {
            *self = Self { attempts: 0, now_us: latency_us, usual_us: latency_us };
        }
        self.attempts = self.attempts.saturating_add(1);
        self.now_us += (latency_us - self.now_us) * LATENCY_WEIGHT;
        let weight = if self.now_us < self.usual_us { LATENCY_WEIGHT } else { USUAL_LATENCY_WEIGHT };
        self.usual_us += (self.now_us - self.usual_us) * weight;
        self.attempts >= LATENCY_OF_AT_LEAST && self.now_us > 2.0 * self.usual_us + LATENCY_GROWN_BY_US
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(value: f64) -> usize {
    // The sum of a round may fall short of one by a rounding error.
    (value + 1e-6) as usize
}

#[expect(clippy::cast_precision_loss, reason = "at most 1000")]
fn as_f64(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 16;

    /// A round: as many successes as may be in flight. Returns the concurrency after it.
    fn round(aimd: &mut Aimd, now_us: u64) -> usize {
        for _ in 0..aimd.concurrency(LIMIT) {
            aimd.succeeded(now_us, 1_000.0, LIMIT, now_us);
        }
        aimd.concurrency(LIMIT)
    }

    #[test]
    fn it_is_halved_once_for_all_attempts_in_flight_and_grows_by_one_per_round() {
        let mut aimd = Aimd::unreduced();
        for _ in 0..16 {
            aimd.overloaded(Reason::Status(429), 5, LIMIT, 10);
        }
        assert_eq!((aimd.concurrency(LIMIT), aimd.rate_factor()), (8, 0.5));
        aimd.overloaded(Reason::Timeout, 10, LIMIT, 20);
        assert_eq!((aimd.concurrency(LIMIT), aimd.rate_factor()), (4, 0.25));
        let grown: Vec<usize> = (0..4).map(|_| round(&mut aimd, 30)).collect();
        assert_eq!(grown, [5, 6, 7, 8]);
    }

    #[test]
    fn it_never_falls_below_one_and_returns_to_the_limit() {
        let mut aimd = Aimd::unreduced();
        for now_us in 0..20 {
            aimd.overloaded(Reason::Status(503), now_us, LIMIT, now_us);
        }
        assert_eq!((aimd.concurrency(LIMIT), aimd.rate_factor()), (1, LEAST_RATE_FACTOR));
        for second in 1..40 {
            round(&mut aimd, second * 1_000_000);
        }
        assert_eq!((aimd.concurrency(LIMIT), aimd.rate_factor(), aimd.reduction()), (LIMIT, 1.0, None));
    }

    #[test]
    fn after_a_recovery_it_doubles_up_to_half_and_then_adds_one() {
        let mut aimd = Aimd::unreduced();
        aimd.restart(LIMIT, 10);
        assert_eq!(aimd.concurrency(LIMIT), 1);
        let grown: Vec<usize> = (0..5).map(|_| round(&mut aimd, 20)).collect();
        assert_eq!(grown, [2, 4, 8, 9, 10]);
    }

    #[test]
    fn a_grown_latency_reduces_it_to_no_less_than_a_quarter_and_becomes_the_usual_one() {
        let mut aimd = Aimd::unreduced();
        for now_us in 0..100 {
            aimd.succeeded(now_us, 20_000.0, LIMIT, now_us);
        }
        assert_eq!(aimd.concurrency(LIMIT), LIMIT);
        let mut least = LIMIT;
        for now_us in 100..120 {
            aimd.succeeded(now_us, 2_000_000.0, LIMIT, now_us);
            least = least.min(aimd.concurrency(LIMIT));
        }
        assert_eq!(least, LIMIT / 4);
        for now_us in 120..5_000_000 {
            aimd.succeeded(now_us, 2_000_000.0, LIMIT, now_us * 1_000);
            if aimd.reduction().is_none() {
                return;
            }
        }
        unreachable!("a permanently slow destination gets all its slots back");
    }

    #[test]
    fn short_latencies_may_vary_without_a_reduction() {
        let mut aimd = Aimd::unreduced();
        for now_us in 0..1_000_u32 {
            let latency_us = if now_us % 100 < 50 { 500.0 } else { 200_000.0 };
            aimd.succeeded(u64::from(now_us), latency_us, LIMIT, u64::from(now_us));
        }
        assert_eq!(aimd.reduction(), None);
    }
}
