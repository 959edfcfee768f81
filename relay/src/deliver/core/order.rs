//! Order per key: of the deliveries with one key at most one is in memory, and the others wait in the table.
//!
//! What goes in order is always read from the table and never handed over in memory, because only the table knows
//! whether an earlier one is waiting for its next attempt, here or at an owner before. A read says of each delivery
//! whether it is behind another one. Such a one is taken out of what is due, once, so that a key that is blocked by a
//! delivery that fails costs no reads; the transaction that settles the one in front makes the next one due. Where the one
//! in front has ended since the read, the row stays as it is, and is read again.

use std::collections::HashMap;

use shared::id::DeliveryId;

use crate::deliver::item::Item;

#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The delivery of each key that is in memory, in flight, or answered and not yet settled.
    active: HashMap<i64, Active>,
}

#[derive(Debug)]
struct Active {
    id: DeliveryId,
    answered: bool,
}

/// What becomes of a delivery that has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    /// Read again when the one in front has been settled.
    AfterSettled,
    /// It waits in the table until the one in front lets it go.
    Behind,
}

impl Keys {
    /// Whether a delivery with this key may be taken.
    pub(super) fn turn(&self, key: i64, item: &Item) -> Turn {
        match self.active.get(&key) {
            // Its settlement lets the next one go, and is under way already.
            Some(active) if active.answered => Turn::AfterSettled,
            // One that is retried has a time of its own, which it keeps.
            Some(_) if item.attempts > item.schedule_start => Turn::AfterSettled,
            Some(_) => Turn::Behind,
            None if !item.is_behind => Turn::Now,
            None => Turn::Behind,
        }
    }

    /// A delivery has been taken into memory.
    pub(super) fn taken(&mut self, key: i64, id: DeliveryId) {
        self.active.insert(key, Active { id, answered: false });
    }

    /// A delivery has been answered.
    pub(super) fn answered(&mut self, key: i64, id: DeliveryId) {
        if let Some(active) = self.active.get_mut(&key).filter(|active| active.id == id) {
            active.answered = true;
        }
    }

    /// A delivery is not in memory any more.
    pub(super) fn left(&mut self, key: i64, id: DeliveryId) {
        if self.active.get(&key).is_some_and(|active| active.id == id) {
            self.active.remove(&key);
        }
    }
}
