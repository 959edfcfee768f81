//! A window on the head of one lane in the table: what has been read or handed over, and when to read again.

use std::collections::{BTreeSet, HashSet, VecDeque};

use shared::id::DeliveryId;

use super::budget::{Budget, Kept};
use super::tuning::DUE_STEP_US;
use crate::deliver::item::Item;

#[derive(Default)]
pub(super) struct Window {
    /// What may be sent, in its order.
    ready: VecDeque<Kept>,
    /// When something is known to be due in the table, in microseconds.
    due: BTreeSet<u64>,
    reading: bool,
    /// Something arrived in the table after the read under way had begun.
    missed: bool,
    /// The read under way may still show these as they were.
    settled_meanwhile: HashSet<DeliveryId>,
}

impl Window {
    /// A window whose lane has not been read yet.
    pub(super) fn unread() -> Self {
        Self { due: BTreeSet::from([0]), ..Self::default() }
    }

    /// Takes a delivery that is not known yet.
    pub(super) fn take(&mut self, item: Item, budget: &Budget) {
        self.ready.push_back(budget.keep(item));
    }

    /// The next delivery, to be sent.
    pub(super) fn pop(&mut self) -> Option<Item> {
        self.ready.pop_front().map(|kept| kept.item)
    }

    /// How many wait in memory.
    pub(super) fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// Whether what has just been stored may go to the end of what waits here. Otherwise older rows are in the table, and
    /// it waits for its turn there.
    pub(super) fn is_up_to_date(&self, now_us: u64) -> bool {
        !self.reading && !self.is_due(now_us)
    }

    /// A delivery has been settled, or is not ours to settle any more.
    pub(super) fn settled(&mut self, id: DeliveryId) {
        if self.reading {
            self.settled_meanwhile.insert(id);
        }
    }

    /// Forgets deliveries that wait here and are no longer in the table; returns them.
    pub(super) fn drop_ready(&mut self, is_gone: impl Fn(&Item) -> bool) -> Vec<DeliveryId> {
        let mut gone = Vec::new();
        self.ready.retain(|kept| {
            let is_gone = is_gone(&kept.item);
            if is_gone {
                gone.push(kept.item.id);
            }
            !is_gone
        });
        gone
    }

    /// Something may be due in the table.
    pub(super) fn look(&mut self, now_us: u64) {
        self.missed = true;
        if !self.is_due(now_us) {
            self.due.insert(now_us);
        }
    }

    /// Something is due in the table at a time to come. Returns when to wake up for it, unless that is known already.
    pub(super) fn due_at(&mut self, due_us: u64) -> Option<u64> {
        let due_us = due_us.next_multiple_of(DUE_STEP_US);
        self.due.insert(due_us).then_some(due_us)
    }

    /// Whether the table is to be read now, where `chunk` rows are worth having in memory: from here on it is being read.
    pub(super) fn read(&mut self, now_us: u64, chunk: usize) -> bool {
        if self.reading || self.ready.len() > chunk / 2 || !self.is_due(now_us) {
            return false;
        }
        self.due = self.due.split_off(&(now_us + 1));
        self.reading = true;
        self.missed = false;
        true
    }

    /// The read has ended and was complete, or there is more. Returns what was settled while it was under way.
    pub(super) fn has_read(&mut self, complete: bool, now_us: u64) -> HashSet<DeliveryId> {
        self.reading = false;
        if !complete || self.missed {
            self.look(now_us);
        }
        std::mem::take(&mut self.settled_meanwhile)
    }

    /// The read has failed; it is made again at `again_us`.
    pub(super) fn has_not_read(&mut self, again_us: u64) {
        self.reading = false;
        self.settled_meanwhile.clear();
        self.due.insert(again_us);
    }

    /// Whether nothing waits here and nothing is known to be due: only the table can tell.
    pub(super) fn is_idle(&self, now_us: u64) -> bool {
        self.ready.is_empty() && self.is_up_to_date(now_us)
    }

    /// How many times to come are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.due.len()
    }

    /// Whether something is known to be due in the table.
    fn is_due(&self, now_us: u64) -> bool {
        self.due.first().is_some_and(|due_us| *due_us <= now_us)
    }
}
