//! A window on the head of one lane in the table: what has been read or handed over, and when to read again.
//!
//! Rows that were sent are dead, and while anybody keeps an old snapshot of the database they stay at the head of the lane.
//! So a read begins where the last one has ended ([`Window::begin_us`]): before that there is nothing that is not known.

use std::collections::{BTreeSet, HashSet, VecDeque};

use shared::id::DeliveryId;

use super::budget::{Budget, Kept, Reserved};
use super::tuning::{DUE_STEP_US, MOST_DUE, READ_WHOLE_EVERY_US};
use crate::item::Item;

#[derive(Default)]
pub(super) struct Window {
    /// What may be sent, in its order.
    ready: VecDeque<Kept>,
    /// When something is known to be due in the table, by the engine's clock, in microseconds.
    due: BTreeSet<u64>,
    reading: bool,
    /// For what the read under way may find.
    reserved: Option<Reserved>,
    /// Something arrived in the table after the read under way had begun.
    missed: bool,
    /// Rows have been cancelled since the read under way had begun: what it finds is not kept.
    outdated: bool,
    /// The read under way may still show these as they were.
    settled_meanwhile: HashSet<DeliveryId>,
    /// See [`Limits::unseen_us`](super::Limits::unseen_us).
    unseen_us: u64,
    /// What is due before this by the database's clock is known, but for what is written late: where the next read begins.
    begin_us: u64,
    /// The same for what has been let go of since the read under way had begun.
    let_go_us: Option<u64>,
    /// When a read begins at the very beginning again.
    whole_at_us: u64,
}

impl Window {
    /// A window whose lane has not been read yet.
    pub(super) fn unread(unseen_us: u64) -> Self {
        Self { due: BTreeSet::from([0]), unseen_us, ..Self::default() }
    }

    /// Takes a delivery that is not known yet.
    pub(super) fn take(&mut self, item: Item, budget: &Budget) {
        self.ready.push_back(budget.keep(item));
    }

    /// The next delivery, to be sent.
    pub(super) fn pop(&mut self) -> Option<Item> {
        self.ready.pop_front().map(|kept| kept.item)
    }

    /// The size of the next delivery's body, in bytes; 0 if none waits.
    pub(super) fn next_body_bytes(&self) -> usize {
        self.ready.front().map_or(0, |kept| kept.item.event.body_bytes)
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

    /// Rows have been cancelled. What a read that is under way finds may be among them, and is read again.
    pub(super) fn is_outdated(&mut self, now_us: u64) {
        if self.reading {
            self.outdated = true;
            self.rescan(now_us);
        }
    }

    /// Whether what the read under way has found is not kept. Asked once, when it has ended.
    pub(super) fn discards(&mut self) -> bool {
        std::mem::take(&mut self.outdated)
    }

    /// A delivery has been settled, or is not ours to settle any more.
    pub(super) fn settled(&mut self, id: DeliveryId) {
        if self.reading {
            self.settled_meanwhile.insert(id);
        }
    }

    /// Forgets deliveries that wait here; returns them. Those whose rows are still there are read again.
    pub(super) fn drop_ready(&mut self, is_gone: impl Fn(&Item) -> bool) -> Vec<DeliveryId> {
        let mut gone = Vec::new();
        let mut first_us = u64::MAX;
        self.ready.retain(|kept| {
            let is_gone = is_gone(&kept.item);
            if is_gone {
                gone.push(kept.item.id);
                first_us = first_us.min(kept.item.due_us);
            }
            !is_gone
        });
        if !gone.is_empty() {
            self.let_go(first_us);
        }
        gone
    }

    /// A row that is due at this time by the database's clock is not known, or not any more, and is to be read.
    pub(super) fn let_go(&mut self, due_us: u64) {
        self.begin_us = self.begin_us.min(due_us);
        if self.reading {
            self.let_go_us = Some(self.let_go_us.map_or(due_us, |us| us.min(due_us)));
        }
    }

    /// Rows that were due since then were left out of reads, and are to be read again.
    pub(super) fn let_go_since(&mut self, due_us: u64) {
        self.let_go(due_us.saturating_sub(self.unseen_us));
    }

    /// Something may be due in the table.
    pub(super) fn rescan(&mut self, now_us: u64) {
        self.missed = true;
        if !self.is_due(now_us) {
            self.due.insert(now_us);
        }
    }

    /// Something is due in the table at a time to come by the engine's clock. Returns when to wake up for it, unless that is
    /// known already.
    pub(super) fn due_at(&mut self, due_us: u64) -> Option<u64> {
        let due_us = due_us.next_multiple_of(DUE_STEP_US);
        let is_new = self.due.insert(due_us);
        let forgotten = if self.due.len() > MOST_DUE { self.due.pop_last() } else { None };
        (is_new && forgotten != Some(due_us)).then_some(due_us)
    }

    /// Whether the table is to be read now, where `chunk` rows are worth having in memory, and from which time on: from here
    /// on it is being read.
    pub(super) fn read(&mut self, now_us: u64, chunk: usize) -> Option<u64> {
        if self.reading || self.ready.len() > chunk / 2 || !self.is_due(now_us) {
            return None;
        }
        self.due = self.due.split_off(&(now_us + 1));
        self.reading = true;
        self.missed = false;
        self.outdated = false;
        if now_us >= self.whole_at_us {
            self.whole_at_us = now_us + READ_WHOLE_EVERY_US;
            self.begin_us = 0;
        }
        Some(self.begin_us)
    }

    /// Keeps room for what the read under way may find, until it has ended.
    pub(super) fn reserve(&mut self, reserved: Reserved) {
        self.reserved = Some(reserved);
    }

    /// The read has ended and was complete, or there is more. All that is due before `seen_us` by the database's clock is
    /// known now, but for what is written late; `None` where what was found is not kept. Returns what was settled while it
    /// was under way.
    pub(super) fn has_read(&mut self, complete: bool, seen_us: Option<u64>, now_us: u64) -> HashSet<DeliveryId> {
        self.reading = false;
        self.reserved = None;
        let let_go_us = self.let_go_us.take();
        if let Some(seen_us) = seen_us {
            let seen_us = seen_us.saturating_sub(self.unseen_us);
            self.begin_us = let_go_us.map_or(seen_us, |us| us.min(seen_us));
        }
        if !complete || self.missed {
            self.rescan(now_us);
        }
        std::mem::take(&mut self.settled_meanwhile)
    }

    /// The read has failed; it is made again at `again_us`.
    pub(super) fn has_not_read(&mut self, again_us: u64) {
        self.reading = false;
        self.reserved = None;
        self.let_go_us = None;
        self.settled_meanwhile.clear();
        self.due.insert(again_us);
    }

    /// What is due before is not read, in microseconds.
    pub(super) fn begin_us(&self) -> u64 {
        self.begin_us
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
