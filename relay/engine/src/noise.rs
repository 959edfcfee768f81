//! Which destinations use more than their fair part: when slots are short, noisy destinations take only slots that no
//! other one wants (after Amazon SQS fair queues).

use super::tuning::{KEPT_SLOTS_PART, NOISY_IN_FLIGHT, NOISY_PART, RECENT_HALF_LIFE_US, SLOTS_ARE_SHORT_PERCENT};

/// What one destination uses, or all of them together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Use {
    pub(super) in_flight: usize,
    pub(super) time: Recent,
}

/// A sum in which older amounts count less.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Recent {
    sum: f64,
    at_us: u64,
}

impl Recent {
    pub(super) fn add(&mut self, amount: f64, now_us: u64) {
        self.sum = self.at(now_us) + amount;
        self.at_us = now_us;
    }

    fn at(&self, now_us: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "only the order of magnitude matters")]
        let age_us = now_us.saturating_sub(self.at_us) as f64;
        self.sum * (-age_us / RECENT_HALF_LIFE_US).exp2()
    }
}

/// Whether slots are short: the remaining ones go first to destinations that are not noisy or have less than their fair
/// share.
pub(super) fn slots_are_short(in_flight: usize, all_slots: usize) -> bool {
    in_flight * 100 >= all_slots * SLOTS_ARE_SHORT_PERCENT
}

/// How many slots are shared among the destinations that want some. The others are kept for destinations that begin to
/// send, because attempts in flight may take as long as their timeout to return a slot.
pub(super) fn shared_slots(all_slots: usize) -> usize {
    all_slots - all_slots / KEPT_SLOTS_PART
}

/// The fair share of a destination: the shared slots, divided by the number of destinations that want some.
pub(super) fn fair_share(shared_slots: usize, wanting: usize) -> usize {
    shared_slots / wanting.max(1)
}

/// Whether a destination uses more than its part of `all`.
pub(super) fn is_noisy(one: &Use, all: &Use, now_us: u64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "at most 20000")]
    let (in_flight, all_in_flight) = (one.in_flight as f64, all.in_flight as f64);
    (one.in_flight >= NOISY_IN_FLIGHT && in_flight > all_in_flight * NOISY_PART)
        || one.time.at(now_us) > all.time.at(now_us) * NOISY_PART
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_slow_attempts_make_a_destination_noisy_until_they_are_long_past() {
        let (mut slow, mut quick, mut all) = (Use::default(), Use::default(), Use::default());
        for _ in 0..10 {
            slow.time.add(15_000_000.0, 0);
            all.time.add(15_000_000.0, 0);
        }
        for _ in 0..1_000 {
            quick.time.add(10_000.0, 0);
            all.time.add(10_000.0, 0);
        }
        assert!(is_noisy(&slow, &all, 0) && !is_noisy(&quick, &all, 0));
        let later_us = 300_000_000;
        for _ in 0..1_000 {
            all.time.add(10_000.0, later_us);
        }
        assert!(!is_noisy(&slow, &all, later_us));
    }

    #[test]
    fn more_than_a_tenth_of_the_attempts_in_flight_is_noisy_from_thirty_on() {
        let all = Use { in_flight: 100, ..Use::default() };
        assert!(is_noisy(&Use { in_flight: 30, ..Use::default() }, &all, 0));
        assert!(!is_noisy(&Use { in_flight: 29, ..Use::default() }, &all, 0), "too few to be noisy");
        assert!(!is_noisy(&Use { in_flight: 30, ..Use::default() }, &Use { in_flight: 300, ..Use::default() }, 0));
    }

    #[test]
    fn slots_are_short_from_three_quarters_on() {
        assert!(!slots_are_short(74, 100) && slots_are_short(75, 100));
        assert!(!slots_are_short(0, 1), "slots are not short if nothing is in flight");
    }
}
