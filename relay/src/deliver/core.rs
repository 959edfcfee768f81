//! The engine's decisions: `(state, input, now) → commands`, without a clock, a database or a socket.
//!
//! A *line* is the queue of one destination: the deliveries that are due and in memory, the attempts in flight, and what
//! is known of the rows in the table. The rows are the truth and the line is a window on their head: a delivery leaves
//! the table only when its attempt has been settled, so a line can be dropped at any time and nothing is lost.
//!
//! A delivery that is in memory, in flight, or answered and not yet settled is *known*; it is not taken from a read
//! again. A read that was under way while a delivery was settled may still show its old row, so what is settled is
//! remembered until the read has ended.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use shared::id::{DeliveryId, DestinationId, ReplayId};

use super::item::Item;
use super::outcome::{Failure, Outcome};
use super::pace::{Pace, SetClock};
use crate::configuration::{Destination, DestinationState, Snapshot};
use crate::mint::timestamp;
use crate::retry;
use crate::store::settle::{Next, Settlement};

/// How long a delivery waits that could not be sent for a reason of our own, in microseconds.
const NOT_SENT_WAIT_US: u64 = 5_000_000;

/// How often the table is read for a line whose deliveries are all in flight, in microseconds: another replica may have
/// put something there.
const SWEEP_US: u64 = 2_000_000;

/// How long after a read that failed the next one is made, in microseconds.
const READ_AGAIN_US: u64 = 1_000_000;

/// Times in the table are remembered to a tenth of a second, so that a million retries are not a million times.
const DUE_STEP_US: u64 = 100_000;

/// How long a destination that has answered 410 is held until it is disabled, in microseconds.
const GONE_HOLD_US: u64 = 10_000_000;

/// The longest Retry-After that holds back a whole destination, in milliseconds.
const MAX_HOLD_MS: u64 = 3_600_000;

/// Bounds of what the engine holds at one time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Attempts in flight, over all destinations.
    pub in_flight: usize,
    /// Attempts that have been answered and are not settled yet: what a database that does not answer can pile up.
    pub unsettled: usize,
    /// Deliveries in memory for one destination.
    pub line: usize,
    /// Deliveries read at one time for one destination.
    pub read: usize,
}

/// What the engine is told.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the most frequent, and is moved through a channel once"
)]
pub enum Input {
    /// The shards this replica owns, with their epochs, and until when it may be sure of that.
    Owned {
        shards: HashMap<i16, i64>,
        until_us: u64,
    },
    /// The lease could not be renewed in time: nothing may be sent until [`Input::Owned`] says what is owned.
    Fenced,
    Configured(Arc<Snapshot>),
    /// Deliveries that this replica has just stored.
    Fresh(Vec<Item>),
    /// Something may be due in the table, for this destination.
    Look(DestinationId),
    /// What a read has found: `complete` where there was no more than that.
    Found {
        destination: DestinationId,
        epoch: i64,
        items: Vec<Item>,
        complete: bool,
    },
    /// A read failed; it is asked for again.
    NotFound {
        destination: DestinationId,
        epoch: i64,
    },
    /// When the next delivery of an idle line is due, in microseconds.
    NextDue {
        destination: DestinationId,
        due_us: u64,
    },
    /// An attempt has ended. `jitter` is a random number from 0 to 1.
    Answered {
        item: Item,
        epoch: i64,
        shard: i16,
        outcome: Outcome,
        jitter: f64,
    },
    /// Settled, or no longer ours to settle.
    Settled(Vec<Settlement>),
    /// The deliveries of this replay were cancelled in the table.
    ReplayCancelled(ReplayId),
    /// This delivery was cancelled in the table.
    DeliveryCancelled(DestinationId, DeliveryId),
    /// Only time has passed.
    Woken,
}

/// What the engine wants done.
#[derive(Debug)]
pub enum Command {
    Send {
        item: Item,
        destination: Arc<Destination>,
        epoch: i64,
    },
    /// Read up to `limit` due deliveries of a destination.
    Read {
        destination: DestinationId,
        epoch: i64,
        limit: usize,
    },
    Settle(Settlement),
    /// The destination answered 410.
    Disable(DestinationId),
}

/// The state of the engine.
pub struct Core {
    limits: Limits,
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

/// The queue of one destination.
struct Line {
    destination: Arc<Destination>,
    epoch: i64,
    ready: VecDeque<Item>,
    known: HashSet<DeliveryId>,
    in_flight: HashSet<DeliveryId>,
    /// What was in flight when the destination answered 410: whatever it answers to these is as old as that.
    sent_before_gone: HashSet<DeliveryId>,
    pace: Option<Pace>,
    /// The destination asked for a pause until then (Retry-After).
    held_until_us: u64,
    /// When something is known to be due in the table.
    due: BTreeSet<u64>,
    last_read_us: u64,
    reading: bool,
    /// Something arrived in the table after the read under way had begun.
    missed: bool,
    settled_meanwhile: HashSet<DeliveryId>,
    in_turn: bool,
    /// When it is woken because it waits for its rate or for Retry-After; what is past is none.
    wake_us: u64,
}

impl Core {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
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
            } else if line.known.insert(item.id) {
                line.ready.push_back(item);
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
            if !settled_meanwhile.contains(&item.id) && line.known.insert(item.id) {
                line.ready.push_back(item);
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
                commands.push(Command::Read { destination, epoch: line.epoch, limit });
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

enum Step {
    Send(Item),
    /// Until then, or until something happens.
    Wait {
        until_us: Option<u64>,
    },
}

impl Line {
    fn new(destination: Arc<Destination>, epoch: i64) -> Self {
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

    fn is_active(&self) -> bool {
        self.destination.state == DestinationState::Active
    }

    /// Forgets deliveries that wait here and are no longer in the table.
    fn drop_ready(&mut self, is_gone: impl Fn(&Item) -> bool) {
        let known = &mut self.known;
        self.ready.retain(|item| {
            let gone = is_gone(item);
            if gone {
                known.remove(&item.id);
            }
            !gone
        });
    }

    /// Notes that something is due in the table, once.
    fn due_now(&mut self, now_us: u64) {
        if !self.is_due(now_us) {
            self.due.insert(now_us);
        }
    }

    /// Whether something is known to be due in the table.
    fn is_due(&self, now_us: u64) -> bool {
        self.due.first().is_some_and(|due_us| *due_us <= now_us)
    }

    /// Takes over a configuration and says whether the line may have something to do.
    fn configure(&mut self, destination: &Arc<Destination>, clock: &SetClock, now_us: u64) -> bool {
        if self.pace.as_ref().map(Pace::rate) != destination.rate {
            self.pace = destination.rate.map(|rate| Pace::new(rate, clock));
        }
        let was_active = self.is_active();
        self.destination = Arc::clone(destination);
        if !self.is_active() {
            // The rows are in the table; they are read again when the destination is resumed.
            for item in self.ready.drain(..) {
                self.known.remove(&item.id);
            }
        } else if !was_active {
            self.held_until_us = 0;
            self.missed = true;
            self.due_now(now_us);
        }
        self.is_active()
    }

    fn step(&mut self, now_us: u64, limits: &Limits) -> Step {
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
            Some(item) => {
                self.in_flight.insert(item.id);
                Step::Send(item)
            }
            None => Step::Wait { until_us: None },
        }
    }

    /// Whether the table is to be read now, and how many rows. A line that is held, or has enough in memory, is not
    /// read, however much waits in the table.
    fn read(&mut self, now_us: u64, limits: &Limits) -> Option<usize> {
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
