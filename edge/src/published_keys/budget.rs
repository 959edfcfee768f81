//! Limits the fetches of a minute. It reads no clock: `now` is an argument.

use std::collections::HashMap;

const MINUTE_MS: u64 = 60_000;

/// A number of names for each minute, and a number of fetches for each name. Unused ones are not carried over.
///
/// A name may be fetched several times, because requests that arrive together all fetch a missing key: in a Worker a
/// promise belongs to the request that made it, and no other request can wait for it.
#[derive(Debug)]
pub(super) struct Budget {
    names: usize,
    turns: u32,
    minute_began_at: u64,
    taken: HashMap<String, u32>,
}

impl Budget {
    pub(super) fn new(names: usize, turns: u32) -> Self {
        Self { names, turns, minute_began_at: 0, taken: HashMap::new() }
    }

    /// Takes a fetch for a name, if one is left. `now` is in milliseconds.
    pub(super) fn take(&mut self, name: &str, now: u64) -> bool {
        if now.saturating_sub(self.minute_began_at) >= MINUTE_MS {
            self.minute_began_at = now;
            self.taken.clear();
        }
        if let Some(taken) = self.taken.get_mut(name) {
            let left = *taken < self.turns;
            *taken += u32::from(left);
            return left;
        }
        let left = self.taken.len() < self.names;
        if left {
            self.taken.insert(name.to_owned(), 1);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_764_000_000_000;

    #[test]
    fn a_minute_has_so_many_names_and_the_next_one_as_many() {
        let mut budget = Budget::new(3, 2);
        let names = |budget: &mut Budget, at: u64| (0..100).filter(|n| budget.take(&format!("{n}"), at)).count();
        assert_eq!(names(&mut budget, NOW), 3);
        assert_eq!(names(&mut budget, NOW + 59_999), 3, "the second turn of the same three");
        assert_eq!(names(&mut budget, NOW + 59_999), 0);
        assert_eq!(names(&mut budget, NOW + 60_000), 3);
        assert_eq!(names(&mut budget, NOW + 600_000), 3, "nothing was saved up");
    }

    #[test]
    fn a_name_has_so_many_turns() {
        let mut budget = Budget::new(3, 2);
        let turns = (0..100).filter(|_| budget.take("a", NOW)).count();
        assert_eq!(turns, 2);
        assert!(budget.take("b", NOW), "another name has its own");
    }
}
