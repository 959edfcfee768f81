//! How many things may be done in a minute. It reads no clock: `now` is an argument.

const MINUTE_MS: u64 = 60_000;

/// A number of turns for each minute; those that are not taken are not saved up.
#[derive(Debug)]
pub(super) struct Budget {
    per_minute: u32,
    minute_began_at: u64,
    taken: u32,
}

impl Budget {
    pub(super) const fn new(per_minute: u32) -> Self {
        Self { per_minute, minute_began_at: 0, taken: 0 }
    }

    /// Takes a turn where one is left; `now` is in milliseconds.
    pub(super) fn take(&mut self, now: u64) -> bool {
        if now.saturating_sub(self.minute_began_at) >= MINUTE_MS {
            self.minute_began_at = now;
            self.taken = 0;
        }
        let left = self.taken < self.per_minute;
        self.taken += u32::from(left);
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_764_000_000_000;

    #[test]
    fn a_minute_has_so_many_turns_and_the_next_one_as_many() {
        let mut budget = Budget::new(3);
        let taken = |budget: &mut Budget, from: u64| (0..100).filter(|n| budget.take(from + n)).count();
        assert_eq!(taken(&mut budget, NOW), 3);
        assert_eq!(taken(&mut budget, NOW + 59_900), 0);
        assert_eq!(taken(&mut budget, NOW + 60_000), 3);
        assert_eq!(taken(&mut budget, NOW + 600_000), 3, "nothing was saved up");
    }
}
