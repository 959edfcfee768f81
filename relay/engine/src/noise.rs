//! Who takes more than a fair part: when slots are short, noisy destinations take what no other one wants (after Amazon SQS
//! fair queues).

use super::tuning::{KEPT_SLOTS_PART, NOISY_IN_FLIGHT, NOISY_PART, RECENT_HALF_LIFE_US, SLOTS_ARE_SHORT_PERCENT};

/// What one destination takes, or all together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Use {
    pub(super) in_flight: usize,
    pub(super) time: Recent,
}

/// A sum in which what is older counts less.
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

/// Whether slots are short: the rest is first for destinations that are not noisy, or have less than their fair share.
pub(super) fn slots_are_short(in_flight: usize, all_slots: usize) -> bool {
    in_flight * 100 >= all_slots * SLOTS_ARE_SHORT_PERCENT
}

/// How many slots are shared among those that want some. The rest is kept for destinations that come: attempts of the others
/// may take as long as their timeout to give a slot back.
pub(super) fn shared_slots(all_slots: usize) -> usize {
    all_slots - all_slots / KEPT_SLOTS_PART
}

/// The fair share of a destination: the shared slots, divided by the destinations that want some.
pub(super) fn fair_share(shared_slots: usize, wanting: usize) -> usize {
    shared_slots / wanting.max(1)
}

/// Whether a destination takes more than its part of `all`.
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
    fn slow_attempts_make_a_destination_noisy_though_they_are_few_until_they_are_long_past() {
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
    fn a_tenth_of_what_is_in_flight_is_noisy_from_thirty_on() {
        let all = Use { in_flight: 100, ..Use::default() };
        assert!(is_noisy(&Use { in_flight: 30, ..Use::default() }, &all, 0));
        assert!(!is_noisy(&Use { in_flight: 29, ..Use::default() }, &all, 0), "few are not noisy, whatever their part");
        assert!(!is_noisy(&Use { in_flight: 30, ..Use::default() }, &Use { in_flight: 300, ..Use::default() }, 0));
    }

    #[test]
    fn slots_are_short_from_three_quarters_on() {
        assert!(!slots_are_short(74, 100) && slots_are_short(75, 100));
        assert!(!slots_are_short(0, 1), "what is in flight nowhere is waited for by nobody");
    }
}
