//! A window on the head of one lane in the table: the deliveries that have been read or handed over, and when to read
//! again.
//!
//! The rows of deliveries that were sent are dead, but stay at the head of the lane while any transaction keeps an old
//! snapshot of the database. So a read begins where the last one ended ([`Window::begin_us`]): every row before that is
//! known.

use std::collections::{BTreeSet, HashSet, VecDeque};

use shared::id::DeliveryId;

use super::budget::{Budget, Kept, Reserved};
use super::tuning::{DUE_STEP_US, MOST_DUE, READ_WHOLE_EVERY_US};
use crate::item::Item;

#[derive(Default)]
pub(super) struct Window {
    /// The deliveries that may be sent, in order.
    ready: VecDeque<Kept>,
    /// When rows in the table are known to become due, by the engine's clock, in microseconds.
    due: BTreeSet<u64>,
    reading: bool,
    /// Room for the rows that the read in flight may return.
    reserved: Option<Reserved>,
    /// Rows arrived in the table after the read in flight had begun.
    missed: bool,
    /// Rows have been cancelled since the read in flight began: its result is discarded.
    outdated: bool,
    /// Settled since the read in flight began, which may still return their old rows.
    settled_during_read: HashSet<DeliveryId>,
    /// See [`Limits::unseen_us`](super::Limits::unseen_us).
    unseen_us: u64,
    /// Where the next read begins: rows that were due before this time by the database's clock are known, apart from
    /// late commits.
    begin_us: u64,
    /// The same for rows that have become unknown since the read in flight began.
    read_again_from_us: Option<u64>,
    /// When the whole lane is read again.
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

    /// Takes out the next delivery, to send it.
    pub(super) fn pop(&mut self) -> Option<Item> {
        self.ready.pop_front().map(|kept| kept.item)
    }

    /// The size of the next delivery's body, in bytes; 0 if none waits.
    pub(super) fn next_body_bytes(&self) -> usize {
        self.ready.front().map_or(0, |kept| kept.item.event.body_bytes)
    }

    /// How many deliveries wait in memory.
    pub(super) fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// Whether a delivery that has just been stored may join the end of the queue in memory. Otherwise the table has
    /// older rows, and the delivery waits for its turn there.
    pub(super) fn is_up_to_date(&self, now_us: u64) -> bool {
        !self.reading && !self.is_due(now_us)
    }

    /// Rows have been cancelled. A read in flight may return some of them, so its result is discarded and read again.
    pub(super) fn is_outdated(&mut self, now_us: u64) {
        if self.reading {
            self.outdated = true;
            self.rescan(now_us);
        }
    }

    /// Whether the result of the read in flight is discarded. Called once, when the read has ended.
    pub(super) fn discards(&mut self) -> bool {
        std::mem::take(&mut self.outdated)
    }

    /// A delivery has been settled, or this replica may no longer settle it.
    pub(super) fn settled(&mut self, id: DeliveryId) {
        if self.reading {
            self.settled_during_read.insert(id);
        }
    }

    /// Drops deliveries that wait in memory, and returns them. Rows of theirs that are still in the table are read
    /// again.
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
            self.read_again_from(first_us);
        }
        gone
    }

    /// A row that is due at this time by the database's clock is not known, or no longer, and must be read.
    pub(super) fn read_again_from(&mut self, due_us: u64) {
        self.begin_us = self.begin_us.min(due_us);
        if self.reading {
            self.read_again_from_us = Some(self.read_again_from_us.map_or(due_us, |us| us.min(due_us)));
        }
    }

    /// Rows that have been due since then were left out of reads, and must be read.
    pub(super) fn read_again_since(&mut self, due_us: u64) {
        self.read_again_from(due_us.saturating_sub(self.unseen_us));
    }

    /// The table may have due deliveries.
    pub(super) fn rescan(&mut self, now_us: u64) {
        self.missed = true;
        if !self.is_due(now_us) {
            self.due.insert(now_us);
        }
    }

    /// A row in the table becomes due at a future time by the engine's clock. Returns when to wake up for it, unless
    /// that wake-up is already set.
    pub(super) fn due_at(&mut self, due_us: u64) -> Option<u64> {
        let due_us = due_us.next_multiple_of(DUE_STEP_US);
        let is_new = self.due.insert(due_us);
        let dropped = if self.due.len() > MOST_DUE { self.due.pop_last() } else { None };
        (is_new && dropped != Some(due_us)).then_some(due_us)
    }

    /// Whether the lane is to be read now, if `chunk` rows are worth having in memory, and from which due time on. If
    /// so, the read counts as in flight from here on.
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

    /// Keeps room for the rows that the read in flight may return, until it has ended.
    pub(super) fn reserve(&mut self, reserved: Reserved) {
        self.reserved = Some(reserved);
    }

    /// The read has ended. `complete` if the table has no more due rows. All rows that were due before `seen_us` by the
    /// database's clock are known now, apart from late commits; `None` if the result was discarded. Returns the
    /// deliveries that were settled while the read was in flight.
    pub(super) fn has_read(&mut self, complete: bool, seen_us: Option<u64>, now_us: u64) -> HashSet<DeliveryId> {
        self.reading = false;
        self.reserved = None;
        let read_again_from_us = self.read_again_from_us.take();
        if let Some(seen_us) = seen_us {
            let seen_us = seen_us.saturating_sub(self.unseen_us);
            self.begin_us = read_again_from_us.map_or(seen_us, |us| us.min(seen_us));
        }
        if !complete || self.missed {
            self.rescan(now_us);
        }
        std::mem::take(&mut self.settled_during_read)
    }

    /// The read has failed, and is repeated at `again_us`.
    pub(super) fn has_not_read(&mut self, again_us: u64) {
        self.reading = false;
        self.reserved = None;
        self.read_again_from_us = None;
        self.settled_during_read.clear();
        self.due.insert(again_us);
    }

    /// Rows that were due before this time are not read, in microseconds.
    pub(super) fn begin_us(&self) -> u64 {
        self.begin_us
    }

    /// How many future due times are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.due.len()
    }

    /// Whether rows in the table are known to be due.
    fn is_due(&self, now_us: u64) -> bool {
        self.due.first().is_some_and(|due_us| *due_us <= now_us)
    }
}
