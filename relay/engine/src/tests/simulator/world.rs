//! The model: the inputs that the engine receives, and the commands that it has returned.

use model::failure::SendFailure;
use model::signal::Signal;
use model::unix_time::timestamp_us;

use super::table::{NEVER_US, Table, route};
use super::*;

const DESTINATIONS: u8 = 3;
pub(super) const REPLICAS: usize = 2;

const RENEW_US: u64 = 3_000_000;

/// How long an attempt may take.
const TIMEOUT_US: u64 = 120_000_000;

/// How often a replica scans the table for due deliveries.
const POLL_US: u64 = 2_000_000;

/// So few that it takes several scans.
const LANES_PER_SCAN: usize = 2;

/// So little that lanes get few rows at a time.
const ROWS_BYTES: usize = 3 * 16 * 4_096;

/// The number of keys. One read in vain shows that a key is in memory, and the next reads skip it.
const KEYS: i64 = 4;
const MOST_IN_VAIN: u32 = 4;

/// Fewer slots than the destinations can use together.
const SLOTS: usize = 12;

/// The size of large bodies, and how many bytes of them may be in flight.
const LARGE: usize = 100_000;
const MOST_LARGE: usize = 250_000;

/// How far the clocks differ at most: far more than any wait, and than the time that a read covers again.
const MOST_AHEAD_US: i64 = 8 * 3_600_000_000;

/// How long the machines are suspended at most.
const MOST_SUSPENDED_US: u64 = 8 * 3_600_000_000;

/// How a destination responds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Up,
    Down,
    Throttling,
    Flaky,
    Refusing,
    Gone,
    /// It does not respond.
    Hanging,
}

struct Receiver {
    mood: Mood,
    rate: Option<Rate>,
    max_concurrency: usize,
    state: DestinationState,
    /// When its address or its state was last changed.
    changed_us: u64,
}

pub(super) struct Replica {
    pub(super) core: Core,
    pub(super) renewed_us: u64,
    /// Shards that it gives up as soon as nothing of them is in flight.
    pub(super) outgoing: BTreeSet<i16>,
    /// New lines whose stored state has not been loaded.
    pub(super) loads: Vec<(DestinationId, i64)>,
    /// Reports that have not been written.
    pub(super) reports: Vec<Health>,
    polled_us: u64,
    /// The last lane of its last scan, if there may be more.
    scanned_until: Option<(DestinationId, Lane)>,
    /// Until then it cannot reach the database: it neither renews nor reads nor settles.
    pub(super) cut_off_until_us: u64,
    pub(super) flights: Vec<Flight>,
    reads: Vec<Read>,
    /// How many full reads of each lane in a row have returned no delivery that was taken or put back, without any
    /// other input.
    in_vain: BTreeMap<(DestinationId, Lane), u32>,
    expedited_reads: Vec<ReadExpedited>,
    /// How many signals it has read.
    signals: usize,
    pub(super) unsettled: Vec<Settlement>,
    written: Vec<Settlement>,
    not_written: Vec<Settlement>,
    /// When the first of them was written, by the database's clock.
    written_us: u64,
}

/// A read of expedited deliveries.
struct ReadExpedited {
    destination: DestinationId,
    epoch: i64,
    asked: Vec<DeliveryId>,
    found: Option<Vec<Item>>,
}

pub(super) struct Flight {
    item: Item,
    epoch: i64,
    pub(super) shard: i16,
    /// When its destination was last changed, at the time of the send.
    changed_us: u64,
    sent_us: u64,
}

pub(super) struct Read {
    pub(super) destination: DestinationId,
    pub(super) lane: Lane,
    epoch: i64,
    pub(super) limit: usize,
    pub(super) begin_us: u64,
    pub(super) known: Vec<DeliveryId>,
    pub(super) busy: Vec<i64>,
    /// The rows that it has found, once the database has executed it, and the database's time of that.
    found: Option<(Vec<Item>, u64)>,
}

/// The owner of a shard in the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) replica: Option<usize>,
    pub(super) epoch: i64,
    /// Without an owner: when the lease of the last one expires.
    pub(super) free_us: u64,
}

pub(super) struct World {
    pub(super) random: StdRng,
    pub(super) now_us: u64,
    /// How far the database's clock is ahead of those of the replicas.
    ahead_us: i64,
    pub(super) replicas: Vec<Replica>,
    pub(super) shards: BTreeMap<i16, Owner>,
    receivers: BTreeMap<DestinationId, Receiver>,
    table: Table,
    /// The newest report of each destination.
    pub(super) stored: BTreeMap<DestinationId, Health>,
    pub(super) signals: Vec<Signal>,
    /// Cancelled deliveries, each with the number of the signal that reports it.
    gone: BTreeMap<DeliveryId, usize>,
    accepted: u32,
    to_accept: u32,
    /// The probability that a process ends or loses the database when it may.
    turmoil: f64,
    pub(super) checks: Checks,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let receivers = (1..=DESTINATIONS).map(|number| {
            let receiver = Receiver {
                mood: Mood::Up,
                rate: rate(&mut random),
                max_concurrency: random.random_range(1..12),
                state: DestinationState::Active,
                changed_us: START_US,
            };
            (destination(number).id, receiver)
        });
        let receivers = receivers.collect();
        let shards =
            (1..=DESTINATIONS).map(|shard| (i16::from(shard), Owner { replica: None, epoch: 0, free_us: 0 })).collect();
        let to_accept = random.random_range(20..90);
        let ahead_us = if random.random_bool(0.5) { random.random_range(-MOST_AHEAD_US..MOST_AHEAD_US) } else { 0 };
        let turmoil = if random.random_bool(0.5) { 1.0 } else { 0.2 };
        let mut world = Self {
            random,
            now_us: START_US,
            ahead_us,
            replicas: (0..REPLICAS).map(|_| Replica::new(0)).collect(),
            shards,
            receivers,
            table: Table::default(),
            stored: BTreeMap::new(),
            signals: Vec::new(),
            gone: BTreeMap::new(),
            accepted: 0,
            to_accept,
            turmoil,
            checks: Checks::default(),
        };
        world.configure();
        world
    }

    /// The time by the database's clock.
    fn table_us(&self) -> u64 {
        self.now_us.saturating_add_signed(self.ahead_us)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.accepted == self.to_accept && self.table.len() == 0
    }

    pub(super) fn describe(&self) -> String {
        let flights: Vec<usize> = self.replicas.iter().map(|replica| replica.flights.len()).collect();
        format!("{} rows, {flights:?} in flight, shards {:?}", self.table.len(), self.shards)
    }

    /// Does one thing. If `calm`, nothing goes wrong any more.
    pub(super) fn step(&mut self, calm: bool) {
        let replica = self.random.random_range(0..REPLICAS);
        let reachable = self.replicas[replica].cut_off_until_us <= self.now_us;
        if calm {
            self.calm_down();
        }
        match self.random.random_range(0..100) {
            0..12 => self.accept(),
            12..34 => self.answer(replica),
            34..46 if reachable => self.read(replica),
            46..61 if reachable => self.settle(replica),
            61..68 if reachable => self.load_health(replica),
            68..75 if reachable => self.write_reports(replica),
            75..77 if !calm => self.change_mood(),
            77 if !calm => self.change_settings(),
            78 | 79 if !calm && self.random.random_bool(self.turmoil) => match self.random.random_range(0..3) {
                0 if reachable => self.restart(replica),
                0 => self.pass_time(),
                1 => self.crash(replica),
                _ => self.replicas[replica].cut_off_until_us = self.now_us + self.random.random_range(0..30_000_000),
            },
            80 if !calm => self.cancel(),
            81..83 => self.retry_held(),
            83 => self.expedite(),
            84 if !calm && self.random.random_bool(0.1) => self.cancel_replay(),
            85 if !calm && self.random.random_bool(0.1) => {
                self.now_us += self.random.random_range(0..MOST_SUSPENDED_US);
            }
            _ => self.pass_time(),
        }
    }

    /// Mostly a little; now and then until the next wake-up.
    fn pass_time(&mut self) {
        let wake = self.replicas.iter().filter_map(|replica| replica.core.wake_at_us()).min();
        let far = self.random.random_bool(0.3);
        self.now_us = match wake {
            Some(wake) if far => wake.clamp(self.now_us, self.now_us + 2_000_000),
            Some(_) | None => self.now_us + self.random.random_range(0..100_000),
        };
        for replica in 0..REPLICAS {
            let state = &self.replicas[replica];
            let reachable = state.cut_off_until_us <= self.now_us;
            let (renews, polls) = (state.renewed_us + RENEW_US, state.polled_us + POLL_US);
            if reachable && self.now_us >= renews {
                self.renew(replica);
            }
            if reachable {
                self.give_up(replica);
            }
            if reachable && self.now_us >= polls {
                self.poll(replica);
            }
            self.tell(replica, Input::Woken);
        }
    }

    /// Stores one delivery, or a chunk of a replay, and hands it over or not.
    fn accept(&mut self) {
        if self.accepted == self.to_accept {
            return self.pass_time();
        }
        let destination = destination(self.random.random_range(1..=DESTINATIONS));
        let is_replay = self.random.random_bool(0.1);
        let count = if is_replay { self.random.random_range(1..30) } else { 1 };
        let mut items = Vec::new();
        // A slow transaction: its rows have been due since it began.
        let took_us = if self.random.random_bool(0.1) { self.random.random_range(0..2 * UNSEEN_US) } else { 0 };
        for _ in 0..count.min(self.to_accept - self.accepted) {
            self.accepted += 1;
            let mut item = item(&destination, self.accepted, self.table_us() - took_us);
            item.replay_id = is_replay.then(|| ReplayId::mint(1, [1; 10]));
            if self.random.random_bool(0.2) {
                item.event = Arc::new(Event { body_bytes: LARGE, ..item.event.without_body() });
            }
            item.route_id = Some(route(destination.shard).id);
            item.order_key = (!is_replay && self.random.random_bool(0.5)).then(|| self.random.random_range(0..KEYS));
            self.table.insert(item.clone(), took_us > UNSEEN_US);
            items.push(Item { due_us: 0, ..item });
        }
        let replica = self.random.random_range(0..REPLICAS);
        if is_replay {
            self.tell(replica, Input::Rescan(destination.id));
        } else if self.random.random_bool(0.7) {
            self.tell(replica, Input::Fresh(items));
        }
    }

    fn answer(&mut self, replica: usize) {
        let flights = &mut self.replicas[replica].flights;
        if flights.is_empty() {
            return self.pass_time();
        }
        let at = self.random.random_range(0..flights.len());
        let is_hanging = self.receivers[&flights[at].item.destination_id].mood == Mood::Hanging;
        if is_hanging && self.now_us < flights[at].sent_us + TIMEOUT_US {
            return self.pass_time();
        }
        let Flight { item, epoch, shard, changed_us, .. } = flights.swap_remove(at);
        let mood = self.receivers[&item.destination_id].mood;
        let retry_after_ms = self.random.random_bool(0.5).then(|| self.random.random_range(0..30_000));
        let outcome = match (mood, self.random.random_range(0..20)) {
            (_, 0) if self.random.random_bool(0.5) => Outcome::TransformLate { reason: "a test".to_owned() },
            (_, 0) => Outcome::NotSent { reason: "a test".to_owned() },
            (_, 1) => Outcome::TransformFailed { reason: "a test".to_owned() },
            (Mood::Hanging, _) => Outcome::Failed {
                attempt: attempt(),
                failure: Failure::NoAnswer(SendFailure::Timeout),
                retry_after_ms: None,
            },
            (Mood::Down, _) => failed(500, None),
            (Mood::Throttling, 2..15) => failed(if self.random.random_bool(0.5) { 429 } else { 503 }, retry_after_ms),
            (Mood::Flaky, 2..8) => failed(500, None),
            (Mood::Refusing, 2..15) => failed(if self.random.random_bool(0.5) { 400 } else { 422 }, None),
            (Mood::Gone, _) => failed(410, None),
            (Mood::Up | Mood::Throttling | Mood::Flaky | Mood::Refusing, _) => succeeded(),
        };
        if let Outcome::Failed { failure: Failure::Status(429 | 503), retry_after_ms: Some(wait_ms @ 1..), .. } = outcome
            // A response to an attempt before the last change of the destination says nothing about it.
            && changed_us == self.receivers[&item.destination_id].changed_us
        {
            self.checks.backs_off(item.destination_id, (replica, epoch), self.now_us + wait_ms * 1_000, self.now_us);
        }
        if item.expedited && matches!(outcome, Outcome::Succeeded { .. }) {
            self.checks.works(item.destination_id, self.now_us);
        }
        let jitter = self.random.random_range(0.0..1.0);
        self.tell(replica, Input::Answered { item, epoch, shard, outcome, jitter });
    }

    /// The database executes a read, or its result arrives.
    fn read(&mut self, replica: usize) {
        let table_us = self.table_us();
        if self.random.random_bool(0.5) && !self.replicas[replica].expedited_reads.is_empty() {
            return self.read_expedited(replica);
        }
        let reads = &mut self.replicas[replica].reads;
        if reads.is_empty() {
            return self.pass_time();
        }
        let at = self.random.random_range(0..reads.len());
        if reads[at].found.is_none() {
            let found = self.table.due(&reads[at], table_us);
            reads[at].found = Some((found, table_us));
            return;
        }
        let Read { destination, lane, epoch, limit, found, .. } = reads.swap_remove(at);
        let mut full = None;
        let lost = self.random.random_bool(0.05);
        let input = match found {
            Some((mut items, read_us)) if !lost => {
                let mut complete = items.len() < limit;
                if self.random.random_bool(0.1) {
                    // There was no room for the other rows, or for any.
                    complete = false;
                    items.truncate(self.random.random_range(0..=items.len()));
                }
                full = (items.len() == limit).then(|| items.clone());
                Input::Found { destination, lane, epoch, found: Found { items, complete, read_us } }
            }
            Some(_) | None => Input::NotFound { destination, lane, epoch },
        };
        let mut in_vain = std::mem::take(&mut self.replicas[replica].in_vain);
        self.tell(replica, input);
        let state = &mut self.replicas[replica];
        let line = state.core.lines.get(&destination).filter(|line| line.epoch == epoch);
        if let (Some(items), Some(line)) = (full, line)
            && !items.iter().any(|item| line.is_known(item.id))
        {
            let times = in_vain.entry((destination, lane)).or_default();
            *times += 1;
            assert!(*times <= MOST_IN_VAIN, "the same rows are read repeatedly");
        } else {
            in_vain.remove(&(destination, lane));
        }
        state.in_vain = in_vain;
    }

    /// As [`Self::read`], for expedited deliveries.
    fn read_expedited(&mut self, replica: usize) {
        let table_us = self.table_us();
        let reads = &mut self.replicas[replica].expedited_reads;
        let at = self.random.random_range(0..reads.len());
        if reads[at].found.is_none() {
            reads[at].found = Some(self.table.expedited(&reads[at].asked, table_us));
            return;
        }
        let ReadExpedited { destination, epoch, asked, found } = reads.swap_remove(at);
        let lost = self.random.random_bool(0.05);
        let items = found.filter(|_| !lost).unwrap_or_default();
        self.tell(replica, Input::Expedited { destination, epoch, asked, items });
    }

    /// A transaction of settlements is executed, or its success is reported to the engine.
    fn settle(&mut self, replica: usize) {
        let state = &mut self.replicas[replica];
        if !state.written.is_empty() && self.random.random_bool(0.7) {
            let settlements = std::mem::take(&mut state.written);
            let at_us = std::mem::replace(&mut state.written_us, u64::MAX);
            return self.tell(replica, Input::Settled { settlements, at_us });
        }
        if !state.not_written.is_empty() {
            let not_written = std::mem::take(&mut state.not_written);
            return self.tell(replica, Input::NotSettled(not_written));
        }
        if state.unsettled.is_empty() {
            return self.pass_time();
        }
        let count = self.random.random_range(1..=state.unsettled.len());
        let batch: Vec<Settlement> = state.unsettled.drain(..count).collect();
        let mut written = BTreeSet::new();
        let table_us = self.table_us();
        for settlement in &batch {
            // As in the database: only settlements of the present epoch are written.
            if self.shards[&settlement.shard].epoch == settlement.epoch
                && self.table.settle(settlement, &self.checks, table_us)
            {
                written.insert(settlement.delivery_id);
            }
        }
        for settlement in batch.iter().filter(|settlement| settlement.frees_key) {
            if self.shards[&settlement.shard].epoch == settlement.epoch {
                let destination = settlement.destination_id;
                self.table.free(destination, settlement.order_key, table_us);
            }
        }
        for settlement in batch {
            let replica = &mut self.replicas[replica];
            let is_written =
                written.contains(&settlement.delivery_id) || matches!(settlement.next, Next::Behind { .. });
            let written = if is_written { &mut replica.written } else { &mut replica.not_written };
            written.push(settlement);
        }
        let state = &mut self.replicas[replica];
        state.written_us = state.written_us.min(table_us);
        self.table.check_waiting(table_us);
    }

    /// A caller retries a held delivery.
    fn retry_held(&mut self) {
        match self.table.retry_held(self.table_us()) {
            Some(destination) => {
                let replica = self.random.random_range(0..REPLICAS);
                self.tell(replica, Input::Rescan(destination));
            }
            None => self.pass_time(),
        }
    }

    /// A caller cancels a delivery, and retries it at once or not.
    fn cancel(&mut self) {
        let chosen = self.random.random_range(0..50);
        let Some(item) = self.table.cancel(chosen, self.table_us()) else { return };
        let (destination, id) = (item.destination_id, item.id);
        self.checks.cancelled(id);
        self.gone.insert(id, self.signals.len());
        self.signals.push(Signal::Delivery(destination, id));
        self.table.check_waiting(self.table_us());
        let replica = self.random.random_range(0..REPLICAS);
        if self.random.random_bool(0.5) {
            self.gone.remove(&id);
            self.table.make_pending(item, self.table_us());
            self.tell(replica, Input::DeliveryCancelled(destination, id));
            return self.tell(replica, Input::Expedite(vec![(destination, id)]));
        }
        self.tell(replica, Input::DeliveryCancelled(destination, id));
    }

    fn cancel_replay(&mut self) {
        let signal = self.signals.len();
        for id in self.table.cancel_replay() {
            self.checks.cancelled(id);
            self.gone.insert(id, signal);
        }
        let replay = ReplayId::mint(1, [1; 10]);
        self.signals.push(Signal::Replay(replay));
        let replica = self.random.random_range(0..REPLICAS);
        self.tell(replica, Input::ReplayCancelled(replay));
    }

    /// A caller expedites a delivery.
    fn expedite(&mut self) {
        let chosen = self.random.random_range(0..50);
        let Some(asked) = self.table.expedite(chosen, self.table_us()) else { return self.pass_time() };
        let replica = self.random.random_range(0..REPLICAS);
        if self.random.random_bool(0.7) {
            self.tell(replica, Input::Expedite(vec![asked]));
        }
    }

    fn change_mood(&mut self) {
        let moods = [
            Mood::Up,
            Mood::Up,
            Mood::Down,
            Mood::Throttling,
            Mood::Throttling,
            Mood::Flaky,
            Mood::Flaky,
            Mood::Refusing,
            Mood::Gone,
            Mood::Hanging,
            Mood::Hanging,
        ];
        let mood = moods[self.random.random_range(0..moods.len())];
        let chosen = self.random.random_range(0..self.receivers.len());
        if let Some(receiver) = self.receivers.values_mut().nth(chosen) {
            receiver.mood = mood;
        }
    }

    /// An operator changes a destination: its state and its limits, or its address.
    fn change_settings(&mut self) {
        let chosen = self.random.random_range(0..self.receivers.len());
        let (paused, concurrency) = (self.random.random_bool(0.3), self.random.random_range(1..12));
        let moves = self.random.random_bool(0.3);
        let Some(id) = self.receivers.keys().nth(chosen).copied() else { return };
        if moves {
            self.begins_anew(id);
        } else {
            self.set_state(id, if paused { DestinationState::Paused } else { DestinationState::Active });
        }
        if let Some(receiver) = self.receivers.get_mut(&id) {
            receiver.max_concurrency = concurrency;
        }
        self.configure();
    }

    fn set_state(&mut self, id: DestinationId, state: DestinationState) {
        if let Some(receiver) = self.receivers.get_mut(&id)
            && receiver.state != state
        {
            receiver.state = state;
            self.begins_anew(id);
        }
    }

    /// From here on the learned state of a destination is out of date.
    fn begins_anew(&mut self, id: DestinationId) {
        if let Some(receiver) = self.receivers.get_mut(&id) {
            receiver.changed_us = (receiver.changed_us + 1).max(self.now_us);
        }
        self.checks.begins_anew(id);
    }

    fn calm_down(&mut self) {
        let calm = |receiver: &Receiver| receiver.mood == Mood::Up && receiver.state == DestinationState::Active;
        if self.receivers.values().all(calm) {
            return;
        }
        let ids: Vec<DestinationId> = self.receivers.keys().copied().collect();
        for id in ids {
            self.set_state(id, DestinationState::Active);
        }
        self.receivers.values_mut().for_each(|receiver| receiver.mood = Mood::Up);
        self.configure();
    }

    fn configure(&mut self) {
        for replica in 0..REPLICAS {
            let snapshot = self.snapshot();
            self.tell(replica, snapshot);
        }
    }

    /// Whether a report describes the destination as it is now.
    pub(super) fn is_present(&self, health: &Health) -> bool {
        self.receivers[&health.destination].changed_us == health.learned.since_us
    }

    pub(super) fn snapshot(&self) -> Input {
        let destinations = self.receivers.values().zip(1..).map(|(receiver, number)| {
            let Receiver { rate, max_concurrency, state, changed_us, .. } = *receiver;
            Destination { rate, max_concurrency, state, moved_at: timestamp_us(changed_us), ..destination(number) }
        });
        let destinations = destinations.map(|destination| (destination.id, Arc::new(destination))).collect();
        Input::Configured(Arc::new(destinations))
    }

    /// A row that no read would find is known, unless it was committed late.
    fn check_that_no_row_is_skipped(&self, replica: usize) {
        let lines = self.replicas[replica].core.lines.values();
        let owned = lines.filter(|line| {
            let Owner { replica: owner, epoch, .. } = self.shards[&line.destination.shard];
            owner == Some(replica) && epoch == line.epoch
        });
        for line in owned {
            for (lane, row) in self.table.in_time(line.destination.id) {
                let begin_us = line.lanes[lane].begin_us();
                let found = row.due_us >= begin_us || line.knows(lane, row);
                assert!(found, "{} is due at {} and reads begin at {begin_us}", row.id, row.due_us);
            }
        }
    }

    /// As `Machine::find_next_due`: a few lanes at a time, one after the other.
    fn poll(&mut self, replica: usize) {
        let state = &mut self.replicas[replica];
        state.polled_us = self.now_us;
        while let Some(signal) = self.signals.get(self.replicas[replica].signals).copied() {
            self.replicas[replica].signals += 1;
            match signal {
                Signal::Delivery(destination, id) => self.tell(replica, Input::DeliveryCancelled(destination, id)),
                Signal::Replay(replay) => self.tell(replica, Input::ReplayCancelled(replay)),
            }
        }
        let marked = self.table.marked(self.table_us());
        self.tell(replica, Input::Expedite(marked));
        let state = &mut self.replicas[replica];
        if !state.core.could_send(self.now_us) {
            return;
        }
        let heads = self.table.next_due(state.scanned_until, LANES_PER_SCAN);
        let last = heads.last().filter(|_| heads.len() >= LANES_PER_SCAN);
        state.scanned_until = last.map(|(destination, lane, _)| (*destination, *lane));
        let table_us = self.table_us();
        for (destination, lane, due_us) in heads {
            if due_us != NEVER_US {
                let wait = Duration::from_micros(due_us.saturating_sub(table_us));
                self.tell(replica, Input::NextDue { destination, lane, due_us, wait });
            }
        }
    }

    pub(super) fn tell(&mut self, replica: usize, input: Input) {
        let commands = self.replicas[replica].core.handle(input, self.now_us);
        self.replicas[replica].in_vain.clear();
        Checks::slots(&self.replicas[replica].core, self.now_us);
        self.checks.breakers(replica, &self.replicas[replica].core);
        self.check_that_no_row_is_skipped(replica);
        let mut more = Vec::new();
        for command in commands {
            match command {
                Command::Send { item, destination, epoch } => self.sent(replica, item, &destination, epoch),
                Command::Read { destination, lane, epoch, limit, begin_us, known, busy, .. } => {
                    let read = Read { destination, lane, epoch, limit, begin_us, known, busy, found: None };
                    self.replicas[replica].reads.push(read);
                }
                Command::ReadExpedited { destination, epoch, deliveries: asked } => {
                    let read = ReadExpedited { destination, epoch, asked, found: None };
                    self.replicas[replica].expedited_reads.push(read);
                }
                Command::Settle(settlement) => self.replicas[replica].unsettled.push(settlement),
                Command::LoadHealth(lines) => self.replicas[replica].loads.extend(lines),
                Command::BreakOff => more.extend(self.broken_off(replica)),
                Command::Disable(destination, _) => {
                    self.set_state(destination, DestinationState::Disabled);
                    more.push(self.snapshot());
                }
                Command::Report(health) => self.replicas[replica].reports.push(*health),
            }
        }
        for input in more {
            self.tell(replica, input);
        }
    }

    fn sent(&mut self, replica: usize, item: Item, destination: &Destination, epoch: i64) {
        let shard = destination.shard;
        let owner = self.shards[&shard];
        assert_eq!((owner.replica, owner.epoch), (Some(replica), epoch), "sent by a replica that is not the owner");
        let row = self.table.get(item.id);
        if let Some(row) = row {
            assert!(row.due_us <= self.table_us(), "sent {} us before it is due", row.due_us - self.table_us());
        }
        if row.is_none() {
            let signal = self.gone.get(&item.id).copied().unwrap_or_default();
            assert!(signal >= self.replicas[replica].signals, "{} was sent although its signal had been read", item.id);
        }
        self.checks.sent(&item, row, destination, (replica, epoch), self.now_us);
        assert_eq!(self.table.overtaken_by(&item), None, "{} overtakes an earlier delivery", item.id);
        // Whichever replica has sent them, in whatever epoch.
        let everywhere = self.replicas.iter().flat_map(|replica| &replica.flights);
        let together: Vec<&Flight> = everywhere.filter(|flight| flight.shard == shard).collect();
        assert!(together.iter().all(|flight| flight.item.id != item.id), "{} is in flight twice", item.id);
        let of_key = |flight: &&Flight| item.order_key.is_some() && flight.item.order_key == item.order_key;
        assert_eq!(together.iter().copied().filter(of_key).count(), 0, "two of a key in flight");
        assert!(together.len() < destination.max_concurrency, "{} in flight before", together.len());
        let flights = &self.replicas[replica].flights;
        let large: usize = flights.iter().map(|flight| flight.item.event.body_bytes).sum();
        let bytes = item.event.body_bytes;
        assert!(bytes == 0 || large == 0 || large + bytes <= MOST_LARGE, "{large} and {bytes} bytes in flight");
        let changed_us = self.receivers[&item.destination_id].changed_us;
        self.replicas[replica].flights.push(Flight { item, epoch, shard, changed_us, sent_us: self.now_us });
    }

    /// The connections of a replica are closed, and none of its attempts is answered.
    fn broken_off(&mut self, replica: usize) -> Vec<Input> {
        let flights = std::mem::take(&mut self.replicas[replica].flights);
        let answer = |Flight { item, epoch, shard, .. }| {
            let outcome = Outcome::NotSent { reason: "aborted".to_owned() };
            Input::Answered { item, epoch, shard, outcome, jitter: 0.5 }
        };
        flights.into_iter().map(answer).collect()
    }
}

/// None, or from fifty per second to one in forty seconds.
fn rate(random: &mut StdRng) -> Option<Rate> {
    let (limit, per_s) = match random.random_range(0..10) {
        0..4 => return None,
        4..7 => (random.random_range(5..50), 1),
        7 => (random.random_range(12..60), 60),
        8 => (random.random_range(360..720), 3_600),
        _ => (random.random_range(90..180), 3_600),
    };
    NonZeroU32::new(limit).map(|limit| Rate { limit, per: Duration::from_secs(per_s) })
}

impl Replica {
    pub(super) fn new(signals: usize) -> Self {
        Self {
            core: Core::new(Limits { in_flight: SLOTS, rows: ROWS_BYTES, in_flight_bytes: MOST_LARGE, ..LIMITS }),
            renewed_us: 0,
            outgoing: BTreeSet::new(),
            loads: Vec::new(),
            reports: Vec::new(),
            polled_us: 0,
            scanned_until: None,
            cut_off_until_us: 0,
            flights: Vec::new(),
            reads: Vec::new(),
            expedited_reads: Vec::new(),
            signals,
            in_vain: BTreeMap::new(),
            unsettled: Vec::new(),
            written: Vec::new(),
            not_written: Vec::new(),
            written_us: u64::MAX,
        }
    }
}
