//! Order per key: at most one delivery of a key is in memory, and the others wait in the table.
//!
//! Ordered deliveries are always read from the table and never handed over in memory, because only the table knows
//! whether an earlier one waits for its next attempt, at this owner or an earlier one. A read says of each delivery
//! whether it is behind another one of its key. The engine postpones such a delivery, so that a key that is blocked by
//! a failing delivery costs no reads. The transaction that settles the delivery in front makes the next one due. If the
//! one in front has ended since the read, the row is left unchanged and is read again.
//!
//! A delivery that has been tried has a due time of its own and stays due while another one of its key is in memory.
//! Once one has been read in vain, its key is *busy*: reads skip the key and return the deliveries after it, until the
//! delivery in memory has been settled.

use std::collections::HashMap;
use std::time::Duration;

use model::lane::{Lane, PerLane};
use shared::id::DeliveryId;

use super::tuning::{BEHIND_WAIT_US, LONGEST_BEHIND_WAIT_US};
use crate::item::{Before, Item};

#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The delivery of each key that is in memory, in flight, or not yet settled.
    active: HashMap<i64, Active>,
}

#[derive(Debug)]
struct Active {
    id: DeliveryId,
    answered: bool,
    /// Since when unread deliveries of the key have been due, in microseconds, once one was read in vain.
    in_vain: PerLane<Option<u64>>,
}

/// What happens to a delivery that has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    /// Read again when the one in front has been settled.
    AfterSettled,
    /// It waits in the table until the one in front frees the key.
    Behind,
}

impl Keys {
    /// Whether a delivery with this key may be taken.
    pub(super) fn turn(&self, key: i64, item: &Item) -> Turn {
        match self.active.get(&key) {
            // Its settlement, which may free the key, is in progress.
            Some(active) if active.answered => Turn::AfterSettled,
            // A retry keeps its own due time.
            Some(_) if item.attempts > item.schedule_start => Turn::AfterSettled,
            Some(_) => Turn::Behind,
            None if item.before == Before::Nothing => Turn::Now,
            None => Turn::Behind,
        }
    }

    /// A delivery has been taken into memory.
    pub(super) fn taken(&mut self, key: i64, id: DeliveryId) {
        self.active.insert(key, Active { id, answered: false, in_vain: PerLane::default() });
    }

    /// The attempt of a delivery has ended.
    pub(super) fn answered(&mut self, key: i64, id: DeliveryId) {
        if let Some(active) = self.active.get_mut(&key).filter(|active| active.id == id) {
            active.answered = true;
        }
    }

    /// A delivery was read that cannot be taken until the one in memory has been settled. No delivery of its key is
    /// read in that lane until [`Keys::left`]. Those that wait have been due since `since_us` or later, in
    /// microseconds.
    pub(super) fn read_in_vain(&mut self, key: i64, lane: Lane, since_us: u64) {
        if let Some(active) = self.active.get_mut(&key) {
            let first_us = active.in_vain[lane].map_or(since_us, |us| us.min(since_us));
            active.in_vain[lane] = Some(first_us);
        }
    }

    /// A delivery that has been due since `due_us` has been put back, and its row may be unchanged.
    pub(super) fn put_back(&mut self, key: i64, lane: Lane, due_us: u64) {
        if let Some(since_us) = self.active.get_mut(&key).and_then(|active| active.in_vain[lane].as_mut()) {
            *since_us = due_us.min(*since_us);
        }
    }

    /// The keys that reads of a lane skip.
    pub(super) fn busy(&self, lane: Lane) -> Vec<i64> {
        self.active.iter().filter(|(_, active)| active.in_vain[lane].is_some()).map(|(key, _)| *key).collect()
    }

    /// A delivery is no longer in memory. Returns, by lane, since when unread deliveries of its key have been due.
    pub(super) fn left(&mut self, key: i64, id: DeliveryId) -> PerLane<Option<u64>> {
        if self.active.get(&key).is_some_and(|active| active.id == id) {
            self.active.remove(&key).map(|active| active.in_vain).unwrap_or_default()
        } else {
            PerLane::default()
        }
    }
}

/// How long a delivery that is behind another one of its key waits until it is read again. It was read at `read_us` by
/// the database's clock.
pub(super) fn behind_wait(item: &Item, read_us: u64) -> Duration {
    let waited_us = read_us.saturating_sub(item.id.minted_at_ms() * 1_000);
    Duration::from_micros(match item.before {
        Before::Tried => BEHIND_WAIT_US,
        Before::Untried | Before::Nothing => waited_us.clamp(BEHIND_WAIT_US, LONGEST_BEHIND_WAIT_US),
    })
}
