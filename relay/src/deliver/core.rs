//! The engine's decisions: `(state, input, now) → commands`, without a clock, a database or a socket.
//!
//! A *line* is the queue of one destination: the deliveries that are due and in memory, the attempts in flight, and what
//! is known of the rows in the table. The rows are the truth and the line is a window on their head: a delivery leaves
//! the table only when its attempt has been settled, so a line can be dropped at any time and nothing is lost.
//!
//! A delivery that is in memory, in flight, or answered and not yet settled is *known*; it is not taken from a read
//! again. A read that was under way while a delivery was settled may still show its old row, so what is settled is
//! remembered until the read has ended.

mod budget;
mod line;
mod message;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use shared::id::{DeliveryId, DestinationId, ReplayId};

use self::budget::Budget;
use self::line::{Line, Step};
pub use self::message::{Command, Input, Limits};
use super::item::Item;
use super::outcome::{Failure, Outcome};
use super::pace::SetClock;
use crate::configuration::Snapshot;
use crate::mint::timestamp;
use crate::retry;
use crate::store::settle::{Next, Settlement};

/// How long a delivery waits that could not be sent for a reason of our own, in microseconds.
const NOT_SENT_WAIT_US: u64 = 5_000_000;

/// How long after a read that failed the next one is made, in microseconds.
const READ_AGAIN_US: u64 = 1_000_000;

/// Times in the table are remembered to a tenth of a second, so that a million retries are not a million times.
const DUE_STEP_US: u64 = 100_000;

/// How long a destination that has answered 410 is held until it is disabled, in microseconds.
const GONE_HOLD_US: u64 = 10_000_000;

/// The longest Retry-After that holds back a whole destination, in milliseconds.
const MAX_HOLD_MS: u64 = 3_600_000;

/// The state of the engine.
pub struct Core {
    limits: Limits,
    budget: Budget,
    clock: SetClock,
    owned: HashMap<i16, i64>,
    snapshot: Arc<Snapshot>,
    lines: HashMap<DestinationId, Line>,
    /// Lines that may have something to do, each at most once.
    turn: VecDeque<DestinationId>,
    wakes: BinaryHeap<Reverse<(u64, DestinationId)>>,
    in_flight: usize,
    unsettled: usize,
    draining: bool,
    /// Nothing is sent after it, whether or not anyone has said so: a process that was stopped for a while finds itself
    /// behind it. Microseconds.
    owned_until_us: u64,
}

impl Core {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            budget: Budget::new(limits.bodies),
            clock: SetClock::default(),
            owned: HashMap::new(),
            snapshot: Arc::default(),
            lines: HashMap::new(),
            turn: VecDeque::new(),
            wakes: BinaryHeap::new(),
            in_flight: 0,
            unsettled: 0,
            draining: false,
            owned_until_us: 0,
        }
    }

    /// Takes an input at `now_us` (Unix time in microseconds, never running backwards) and says what is to be done.
    pub fn handle(&mut self, input: Input, now_us: u64) -> Vec<Command> {
        self.clock.set_us(now_us);
        let mut commands = Vec::new();
        match input {
            Input::Fenced => self.owned_until_us = 0,
            Input::Owned { shards, until_us } => {
                self.owned_until_us = until_us;
                self.owned = shards;
                self.arrange(now_us);
            }
            Input::Configured(snapshot) => {
                self.snapshot = snapshot;
                self.arrange(now_us);
            }
            Input::Fresh(items) => self.fresh(items, now_us),
            Input::Look(destination) => self.look(destination, now_us),
            Input::Found { destination, epoch, items, complete } => {
                self.found(destination, epoch, items, complete, now_us);
            }
            Input::NotFound { destination, epoch } => {
                if let Some(line) = self.lines.get_mut(&destination).filter(|line| line.epoch == epoch) {
                    line.reading = false;
                    line.settled_meanwhile.clear();
                    line.due.insert(now_us + READ_AGAIN_US);
                    self.wakes.push(Reverse((now_us + READ_AGAIN_US, destination)));
                }
            }
            Input::NextDue { destination, due_us } => self.due_at(destination, due_us, now_us),
            Input::Answered { item, epoch, shard, outcome, jitter } => {
                self.answered(&item, epoch, shard, outcome, jitter, now_us, &mut commands);
            }
            Input::Settled(settlements) => self.settled(&settlements, now_us),
            Input::ReplayCancelled(replay) => {
                for line in self.lines.values_mut() {
                    line.drop_ready(|item| item.replay_id == Some(replay));
                }
            }
            Input::DeliveryCancelled(destination, delivery) => {
                if let Some(line) = self.lines.get_mut(&destination) {
                    line.drop_ready(|item| item.id == delivery);
                }
            }
            Input::Woken => {}
        }
        while let Some(Reverse((at_us, destination))) = self.wakes.peek().copied() {
            if at_us > now_us {
                break;
            }
            self.wakes.pop();
            self.give_turn(destination);
        }
        self.run(now_us, &mut commands);
        commands
    }

    /// When [`Input::Woken`] is due, in microseconds.
    #[must_use]
    pub fn wake_at_us(&self) -> Option<u64> {
        self.wakes.peek().map(|Reverse((at_us, _))| *at_us)
    }

    /// Stops sending; what is in flight is still answered and settled.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether no attempt is in flight or waiting to be settled.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.unsettled == 0
    }

    /// Attempts in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Lines that have nothing to send: only the table can tell whether there is something else to do.
    #[must_use]
    pub fn idle_lines(&self) -> Vec<DestinationId> {
        let idle = self.lines.iter().filter(|(_, line)| line.is_active() && line.ready.is_empty() && !line.reading);
        idle.map(|(id, _)| *id).collect()
    }

    /// Makes the lines those of the owned shards and of the present configuration.
    fn arrange(&mut self, now_us: u64) {
        let (owned, snapshot) = (&self.owned, &self.snapshot);
        self.lines.retain(|id, line| {
            let shard = snapshot.destinations.get(id).map(|destination| destination.shard);
            shard.and_then(|shard| owned.get(&shard)) == Some(&line.epoch)
        });
        let mut changed = Vec::new();
        for (id, destination) in &snapshot.destinations {
            let Some(epoch) = owned.get(&destination.shard) else { continue };
            let line = self.lines.entry(*id).or_insert_with(|| Line::new(Arc::clone(destination), *epoch));
            if line.configure(destination, &self.clock, now_us) {
                changed.push(*id);
            }
        }
        for id in changed {
            self.give_turn(id);
        }
    }

    fn fresh(&mut self, items: Vec<Item>, now_us: u64) {
        for item in items {
            let id = item.destination_id;
            let Some(line) = self.lines.get_mut(&id) else { continue };
            // Older rows are in the table: this one waits its turn there.
            let behind = line.reading || line.is_due(now_us);
            if behind || !line.is_active() || line.ready.len() >= self.limits.line {
                line.missed = true;
                line.due_now(now_us);
            } else {
                line.take(item, &self.budget);
            }
            self.give_turn(id);
        }
    }

    fn look(&mut self, destination: DestinationId, now_us: u64) {
        if let Some(line) = self.lines.get_mut(&destination) {
            line.missed = true;
            line.due_now(now_us);
            self.give_turn(destination);
        }
    }

    fn found(&mut self, destination: DestinationId, epoch: i64, mut items: Vec<Item>, complete: bool, now_us: u64) {
        let Some(line) = self.lines.get_mut(&destination).filter(|line| line.epoch == epoch) else { return };
        line.reading = false;
        let settled_meanwhile = std::mem::take(&mut line.settled_meanwhile);
        items.sort_unstable_by_key(|item| (item.due_us, item.id));
        for item in items {
            if !settled_meanwhile.contains(&item.id) {
                line.take(item, &self.budget);
            }
        }
        if !complete || line.missed {
            line.due_now(now_us);
        }
        self.give_turn(destination);
    }

    fn due_at(&mut self, destination: DestinationId, due_us: u64, now_us: u64) {
        let Some(line) = self.lines.get_mut(&destination) else { return };
        if due_us > now_us {
            let due_us = due_us.next_multiple_of(DUE_STEP_US);
            if line.due.insert(due_us) {
                self.wakes.push(Reverse((due_us, destination)));
            }
        } else {
            line.due_now(now_us);
            self.give_turn(destination);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one input, taken apart once")]
    fn answered(
        &mut self,
        item: &Item,
        epoch: i64,
        shard: i16,
        outcome: Outcome,
        jitter: f64,
        now_us: u64,
        commands: &mut Vec<Command>,
    ) {
        self.in_flight -= 1;
        let id = item.destination_id;
        let policy =
            self.snapshot.destinations.get(&id).map(|destination| destination.retry.clone()).unwrap_or_default();
        let attempts = item.attempts.saturating_add(1);
        let mut held_until_us = 0;
        let known_gone = self.lines.get_mut(&id).filter(|line| line.epoch == epoch).is_some_and(|line| {
            line.in_flight.remove(&item.id);
            line.sent_before_gone.remove(&item.id)
        });
        let (attempt, attempts, next) = match outcome {
            Outcome::Succeeded { attempt } => (Some(attempt), attempts, Next::Succeeded),
            Outcome::Untransformable { reason } => {
                // PostgreSQL's text holds every character but this one.
                (None, item.attempts, Next::Parked { reason: reason.replace('\0', "\u{fffd}") })
            }
            Outcome::NotSent { reason } => {
                tracing::warn!(delivery = %item.id, reason, "a delivery could not be sent and is tried again");
                (None, item.attempts, Next::RetryAt(timestamp((now_us + NOT_SENT_WAIT_US) / 1000)))
            }
            Outcome::Failed { attempt, failure: Failure::Gone, .. } if known_gone => {
                // Held as what was not sent yet, until the destination is resumed.
                (Some(attempt), attempts, Next::RetryAt(timestamp(now_us / 1000)))
            }
            Outcome::Failed { attempt, failure, retry_after_ms } => {
                if let (Failure::Status(429 | 503), Some(wait_ms)) = (&failure, retry_after_ms) {
                    held_until_us = now_us + wait_ms.min(MAX_HOLD_MS) * 1000;
                }
                if failure == Failure::Gone {
                    // Nothing more until the table says what becomes of the destination.
                    held_until_us = now_us + GONE_HOLD_US;
                    commands.push(Command::Disable(id));
                    if let Some(line) = self.lines.get_mut(&id).filter(|line| line.epoch == epoch) {
                        line.sent_before_gone.clone_from(&line.in_flight);
                    }
                }
                let made = u32::from(attempts.saturating_sub(item.schedule_start));
                let judged = match failure {
                    Failure::Gone => retry::Outcome::Gone,
                    Failure::Status(_) | Failure::NoAnswer(_) => retry::Outcome::Failed { retry_after_ms },
                };
                let next = match retry::next(&policy, made, &judged, jitter, now_us / 1000) {
                    retry::Next::At { due_ms } => Next::RetryAt(timestamp(due_ms)),
                    retry::Next::Settled => Next::Succeeded,
                    retry::Next::Dead { reason } => {
                        Next::Dead { error: failure.code(), reason: dead_reason(reason, attempts, &failure) }
                    }
                };
                (Some(attempt), attempts, next)
            }
        };
        self.unsettled += 1;
        commands.push(Command::Settle(Settlement {
            delivery_id: item.id.uuid(),
            destination_id: id.uuid(),
            event_id: item.event.id.uuid(),
            shard,
            epoch,
            replay_id: item.replay_id.map(ReplayId::uuid),
            attempt,
            attempts: i16::try_from(attempts).unwrap_or(i16::MAX),
            next,
        }));
        if let Some(line) = self.lines.get_mut(&id).filter(|line| line.epoch == epoch) {
            line.held_until_us = line.held_until_us.max(held_until_us);
            self.give_turn(id);
        }
    }

    fn settled(&mut self, settlements: &[Settlement], now_us: u64) {
        for settlement in settlements {
            self.unsettled -= 1;
            let destination = DestinationId::from_uuid(settlement.destination_id);
            let delivery = DeliveryId::from_uuid(settlement.delivery_id);
            let Some(line) = self.lines.get_mut(&destination).filter(|line| line.epoch == settlement.epoch) else {
                continue;
            };
            line.known.remove(&delivery);
            if line.reading {
                line.settled_meanwhile.insert(delivery);
            }
            match &settlement.next {
                Next::RetryAt(at) => self.due_at(destination, crate::mint::unix_ms(*at) * 1000, now_us),
                Next::Succeeded | Next::Dead { .. } | Next::Parked { .. } => {}
            }
            self.give_turn(destination);
        }
    }

    fn give_turn(&mut self, destination: DestinationId) {
        if let Some(line) = self.lines.get_mut(&destination)
            && !line.in_turn
        {
            line.in_turn = true;
            self.turn.push_back(destination);
        }
    }

    /// Lets every line in turn send one delivery, round after round, until nobody can.
    fn run(&mut self, now_us: u64, commands: &mut Vec<Command>) {
        if self.draining || now_us >= self.owned_until_us {
            return;
        }
        while let Some(destination) = self.turn.pop_front() {
            if self.in_flight >= self.limits.in_flight || self.unsettled >= self.limits.unsettled {
                self.turn.push_front(destination);
                return;
            }
            let Some(line) = self.lines.get_mut(&destination) else { continue };
            match line.step(now_us, &self.limits) {
                Step::Send(item) => {
                    self.in_flight += 1;
                    let (destination, epoch) = (Arc::clone(&line.destination), line.epoch);
                    self.turn.push_back(destination.id);
                    commands.push(Command::Send { item, destination, epoch });
                }
                Step::Wait { until_us } => {
                    line.in_turn = false;
                    if let Some(until_us) = until_us
                        && (line.wake_us <= now_us || until_us < line.wake_us)
                    {
                        line.wake_us = until_us;
                        self.wakes.push(Reverse((until_us, destination)));
                    }
                }
            }
            if let Some(line) = self.lines.get_mut(&destination)
                && let Some(limit) = line.read(now_us, &self.limits)
            {
                commands.push(Command::Read { destination, epoch: line.epoch, limit, bodies: self.budget.has_room() });
            }
        }
    }
}

fn dead_reason(reason: retry::DeadReason, attempts: u16, failure: &Failure) -> String {
    match reason {
        retry::DeadReason::Gone => "the destination answered 410 (gone)".to_owned(),
        retry::DeadReason::AttemptsExhausted => {
            format!(
                "all attempts of the retry schedule failed ({attempts} in all); the last one: {}",
                failure.describe()
            )
        }
    }
}
