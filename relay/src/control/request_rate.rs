//! How many requests a caller may make. Each replica counts for itself, in memory.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How many callers are remembered. When there are more, the one that has made the fewest requests lately is forgotten.
pub const MAX_CALLERS: usize = 10_000;

/// The period of the limit.
pub const PERIOD: Duration = Duration::from_secs(60);

/// The requests of the callers.
#[derive(Debug, Default)]
pub struct RequestRates {
    /// When each caller will have the whole limit again.
    recovered_at: HashMap<String, Instant>,
}

/// How many more requests a caller may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The requests in a period.
    pub limit: u32,
    /// How many more it may make now.
    pub remaining: u32,
    /// When it may make as many as the limit again.
    pub recovers_in: Duration,
    /// How long it has to wait; `None` if this request is accepted.
    pub wait: Option<Duration>,
}

impl RequestRates {
    /// Counts a request of a caller that may make `limit` requests in each [`PERIOD`]. A request that is refused does
    /// not count.
    pub fn request(&mut self, caller: &str, limit: u32, now: Instant) -> Quota {
        let each = PERIOD / limit.max(1);
        let used = self.recovered_at.get(caller).map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let after = used + each;
        if after > PERIOD {
            return Quota { limit, remaining: 0, recovers_in: used, wait: Some(after - PERIOD) };
        }
        if !self.recovered_at.contains_key(caller) {
            self.make_room(now);
        }
        self.recovered_at.insert(caller.to_owned(), now + after);
        let left = (PERIOD - after).as_nanos() / each.as_nanos().max(1);
        Quota { limit, remaining: u32::try_from(left).unwrap_or(u32::MAX), recovers_in: after, wait: None }
    }

    fn make_room(&mut self, now: Instant) {
        if self.recovered_at.len() < MAX_CALLERS {
            return;
        }
        self.recovered_at.retain(|_, recovered| *recovered > now);
        if self.recovered_at.len() >= MAX_CALLERS {
            let first = self.recovered_at.iter().min_by_key(|(_, recovered)| **recovered);
            if let Some(first) = first.map(|(caller, _)| caller.clone()) {
                self.recovered_at.remove(&first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_may_make_all_its_requests_at_once_and_then_waits_for_each() {
        let (mut rates, now) = (RequestRates::default(), Instant::now());
        for number in 1..=6 {
            let quota = rates.request("a", 6, now);
            assert_eq!((quota.remaining, quota.wait), (6 - number, None));
        }
        let refused = rates.request("a", 6, now);
        assert_eq!((refused.remaining, refused.wait, refused.recovers_in), (0, Some(PERIOD / 6), PERIOD));
        assert_eq!(rates.request("b", 6, now).wait, None, "another caller has a limit of its own");
        assert_eq!(rates.request("a", 6, now + PERIOD / 6).wait, None);
        assert!(rates.request("a", 6, now + PERIOD / 6).wait.is_some());
        assert_eq!(rates.request("a", 6, now + PERIOD * 3).remaining, 5);
    }

    #[test]
    fn the_table_is_bounded_and_the_callers_with_the_most_requests_stay() {
        let (mut rates, now) = (RequestRates::default(), Instant::now());
        (0..5).for_each(|_| assert_eq!(rates.request("busy", 5, now).wait, None));
        for number in 0..2 * MAX_CALLERS {
            rates.request(&number.to_string(), 5, now);
        }
        assert_eq!(rates.recovered_at.len(), MAX_CALLERS);
        assert!(rates.request("busy", 5, now).wait.is_some());
    }
}
