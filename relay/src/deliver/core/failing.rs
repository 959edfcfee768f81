//! Since when a destination has not had one success: what disables it after days.
//!
//! It is kept in the table `destination_health`, because no replica owns a destination for days; a line that has seen
//! no success yet asks for it at its first failure.

use super::tuning::{FAILING_DISABLES_AFTER_FAILURES, FAILING_DISABLES_AFTER_US};

/// A run of failures without a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// When the first of them was answered, Unix time in microseconds.
    pub since_us: u64,
    pub failures: u64,
}

#[derive(Debug, Default)]
pub(super) struct Failing {
    run: Option<Run>,
    /// Whether the run is whole: what an earlier owner has seen of it is part of it.
    whole: bool,
    asked: bool,
}

/// What a failure leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consequence {
    Nothing,
    /// The earlier part of the run is to be asked for.
    Recall,
    /// The destination is to be disabled.
    Disable(Run),
}

impl Failing {
    /// The run; `None` where the last answer was a success, or where the earlier part of it has not been told yet.
    pub(super) fn run(&self) -> Option<Run> {
        self.run.filter(|_| self.whole)
    }

    /// Whether [`Self::run`] is to take the place of what the table knows.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// A success, or a person who has looked after it, ends the run.
    pub(super) fn ended(&mut self) {
        *self = Self { run: None, whole: true, asked: false };
    }

    pub(super) fn failed(&mut self, now_us: u64) -> Consequence {
        let run = self.run.get_or_insert(Run { since_us: now_us, failures: 0 });
        run.failures += 1;
        let run = *run;
        if !self.whole {
            let first = !std::mem::replace(&mut self.asked, true);
            return if first { Consequence::Recall } else { Consequence::Nothing };
        }
        let for_days = now_us.saturating_sub(run.since_us) >= FAILING_DISABLES_AFTER_US;
        if for_days && run.failures >= FAILING_DISABLES_AFTER_FAILURES {
            Consequence::Disable(run)
        } else {
            Consequence::Nothing
        }
    }

    /// What the table knows of the run: `None` where there was none.
    pub(super) fn recalled(&mut self, earlier: Option<Run>) {
        if self.whole {
            return;
        }
        self.whole = true;
        if let (Some(run), Some(earlier)) = (&mut self.run, earlier) {
            run.since_us = run.since_us.min(earlier.since_us);
            run.failures += earlier.failures;
        }
    }

    /// The table could not be asked; the next failure asks again.
    pub(super) fn not_recalled(&mut self) {
        self.asked = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: u64 = 24 * 3_600 * 1_000_000;

    #[test]
    fn five_days_of_failures_disable_and_one_success_in_between_begins_anew() {
        let mut failing = Failing::default();
        assert_eq!(failing.failed(0), Consequence::Recall);
        assert_eq!(failing.failed(6 * DAY_US), Consequence::Nothing, "not before the earlier part is known");
        failing.recalled(None);
        for _ in 0..7 {
            assert_eq!(failing.failed(4 * DAY_US), Consequence::Nothing);
        }
        let run = Run { since_us: 0, failures: 10 };
        assert_eq!(failing.failed(5 * DAY_US), Consequence::Disable(run));
        failing.ended();
        for _ in 0..20 {
            assert_eq!(failing.failed(6 * DAY_US), Consequence::Nothing);
        }
    }

    #[test]
    fn what_an_earlier_owner_has_seen_is_part_of_the_run() {
        let mut failing = Failing::default();
        assert_eq!(failing.failed(4 * DAY_US), Consequence::Recall);
        failing.recalled(Some(Run { since_us: 0, failures: 50 }));
        assert_eq!(failing.failed(5 * DAY_US), Consequence::Disable(Run { since_us: 0, failures: 52 }));
    }

    #[test]
    fn few_failures_far_apart_do_not_disable() {
        let mut failing = Failing::default();
        failing.ended();
        for day in 0..9 {
            assert_eq!(failing.failed(day * DAY_US), Consequence::Nothing);
        }
    }
}
