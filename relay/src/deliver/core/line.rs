//! The queue of one destination: what it holds, when it may send and when it reads.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use shared::id::DeliveryId;

use super::Limits;
use super::budget::{Budget, Kept};
use crate::configuration::{Destination, DestinationState};
use crate::deliver::item::Item;
use crate::deliver::pace::{Pace, SetClock};

/// How often the table is read for a line whose deliveries are all in flight, in microseconds: another replica may have
/// put something there.
const SWEEP_US: u64 = 2_000_000;

/// The queue of one destination.
pub(super) struct Line {
    pub(super) destination: Arc<Destination>,
    pub(super) epoch: i64,
    pub(super) ready: VecDeque<Kept>,
    pub(super) known: HashSet<DeliveryId>,
    pub(super) in_flight: HashSet<DeliveryId>,
    /// What was in flight when the destination answered 410: whatever it answers to these is as old as that.
    pub(super) sent_before_gone: HashSet<DeliveryId>,
    pace: Option<Pace>,
    /// The destination asked for a pause until then (Retry-After).
    pub(super) held_until_us: u64,
    /// When something is known to be due in the table.
    pub(super) due: BTreeSet<u64>,
    last_read_us: u64,
    pub(super) reading: bool,
    /// Something arrived in the table after the read under way had begun.
    pub(super) missed: bool,
    pub(super) settled_meanwhile: HashSet<DeliveryId>,
    pub(super) in_turn: bool,
    /// When it is woken because it waits for its rate or for Retry-After; what is past is none.
    pub(super) wake_us: u64,
}

pub(super) enum Step {
    Send(Item),
    /// Until then, or until something happens.
    Wait {
        until_us: Option<u64>,
    },
}

impl Line {
    pub(super) fn new(destination: Arc<Destination>, epoch: i64) -> Self {
        Self {
            destination,
            epoch,
            ready: VecDeque::new(),
            known: HashSet::new(),
            in_flight: HashSet::new(),
            sent_before_gone: HashSet::new(),
            pace: None,
            held_until_us: 0,
            due: BTreeSet::from([0]),
            last_read_us: 0,
            reading: false,
            missed: false,
            settled_meanwhile: HashSet::new(),
            in_turn: false,
            wake_us: 0,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.destination.state == DestinationState::Active
    }

    /// Lets a delivery wait here, unless it is known already.
    pub(super) fn take(&mut self, item: Item, budget: &Budget) {
        if self.known.insert(item.id) {
            self.ready.push_back(budget.keep(item));
        }
    }

    /// Forgets deliveries that wait here and are no longer in the table.
    pub(super) fn drop_ready(&mut self, is_gone: impl Fn(&Item) -> bool) {
        let known = &mut self.known;
        self.ready.retain(|kept| {
            let gone = is_gone(&kept.item);
            if gone {
                known.remove(&kept.item.id);
            }
            !gone
        });
    }

    /// Notes that something is due in the table, once.
    pub(super) fn due_now(&mut self, now_us: u64) {
        if !self.is_due(now_us) {
            self.due.insert(now_us);
        }
    }

    /// Whether something is known to be due in the table.
    pub(super) fn is_due(&self, now_us: u64) -> bool {
        self.due.first().is_some_and(|due_us| *due_us <= now_us)
    }

    /// Takes over a configuration and says whether the line may have something to do.
    pub(super) fn configure(&mut self, destination: &Arc<Destination>, clock: &SetClock, now_us: u64) -> bool {
        if self.pace.as_ref().map(Pace::rate) != destination.rate {
            self.pace = destination.rate.map(|rate| Pace::new(rate, clock));
        }
        let was_active = self.is_active();
        self.destination = Arc::clone(destination);
        if !self.is_active() {
            // The rows are in the table; they are read again when the destination is resumed.
            for kept in self.ready.drain(..) {
                self.known.remove(&kept.item.id);
            }
        } else if !was_active {
            self.held_until_us = 0;
            self.missed = true;
            self.due_now(now_us);
        }
        self.is_active()
    }

    pub(super) fn step(&mut self, now_us: u64, limits: &Limits) -> Step {
        if !self.is_active() {
            return Step::Wait { until_us: None };
        }
        if now_us < self.held_until_us {
            return Step::Wait { until_us: Some(self.held_until_us) };
        }
        if self.in_flight.len() >= self.destination.max_concurrency.min(limits.in_flight) {
            return Step::Wait { until_us: None };
        }
        if self.ready.is_empty() {
            return Step::Wait { until_us: None };
        }
        if let Some(Err(wait_us)) = self.pace.as_ref().map(Pace::take) {
            return Step::Wait { until_us: Some(now_us + wait_us) };
        }
        match self.ready.pop_front() {
            Some(Kept { item, .. }) => {
                self.in_flight.insert(item.id);
                Step::Send(item)
            }
            None => Step::Wait { until_us: None },
        }
    }

    /// Whether the table is to be read now, and how many rows. A line that is held, or has enough in memory, is not
    /// read, however much waits in the table.
    pub(super) fn read(&mut self, now_us: u64, limits: &Limits) -> Option<usize> {
        let enough = self.ready.len() > self.chunk(limits) / 2;
        if !self.is_active() || self.reading || enough || now_us < self.held_until_us {
            return None;
        }
        let sweep = self.ready.is_empty() && !self.known.is_empty() && now_us >= self.last_read_us + SWEEP_US;
        if !sweep && !self.is_due(now_us) {
            return None;
        }
        self.due = self.due.split_off(&(now_us + 1));
        self.reading = true;
        self.missed = false;
        self.last_read_us = now_us;
        // The rows of what is known are still in the table, most of them at its head.
        Some(self.known.len() + self.chunk(limits))
    }

    /// How many deliveries are worth having in memory: two seconds of a slow destination's rate.
    fn chunk(&self, limits: &Limits) -> usize {
        let by_rate = self.destination.rate.map_or(usize::MAX, |rate| {
            let two_seconds = 2.0 * f64::from(rate.limit.get()) / rate.per.as_secs_f64();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates, and is then capped"
            )]
            (two_seconds as usize).max(8)
        });
        by_rate.min(limits.read)
    }
}
