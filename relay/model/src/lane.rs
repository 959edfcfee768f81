//! Lanes: fresh deliveries, retries and replays of one destination wait separately.

use std::ops::{Index, IndexMut};

/// The queue of its destination in which a delivery waits. The first is the most urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Not attempted yet.
    Fresh,
    /// Attempted before, and failed.
    Retry,
    /// Created by a replay, attempted or not.
    Replay,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Fresh, Self::Retry, Self::Replay];

    /// The lane of a delivery; the table computes the same in its column `lane`.
    #[must_use]
    pub fn of(is_replay: bool, attempts: u16) -> Self {
        match (is_replay, attempts) {
            (true, _) => Self::Replay,
            (false, 0) => Self::Fresh,
            (false, _) => Self::Retry,
        }
    }

    /// The lane with this number in the table; `None` if there is none.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.number() == number)
    }

    /// Its number in the table.
    #[must_use]
    pub fn number(self) -> i16 {
        match self {
            Self::Fresh => 0,
            Self::Retry => 1,
            Self::Replay => 2,
        }
    }
}

/// A value for each lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerLane<T> {
    fresh: T,
    retry: T,
    replay: T,
}

impl<T> PerLane<T> {
    /// All values, the most urgent lane first.
    pub fn each(&self) -> [&T; 3] {
        [&self.fresh, &self.retry, &self.replay]
    }
}

impl<T> Index<Lane> for PerLane<T> {
    type Output = T;

    fn index(&self, lane: Lane) -> &T {
        match lane {
            Lane::Fresh => &self.fresh,
            Lane::Retry => &self.retry,
            Lane::Replay => &self.replay,
        }
    }
}

impl<T> IndexMut<Lane> for PerLane<T> {
    fn index_mut(&mut self, lane: Lane) -> &mut T {
        match lane {
            Lane::Fresh => &mut self.fresh,
            Lane::Retry => &mut self.retry,
            Lane::Replay => &mut self.replay,
        }
    }
}
