//! The model of the table `pending_deliveries`: what its statements do.

use super::world::Read;
use super::*;

/// Longer than the longest wait of the schedule, any Retry-After, and the longest back-off after 429.
const LONGEST_WAIT_US: u64 = 420_000_000;

/// When a held delivery is due.
pub(super) const NEVER_US: u64 = u64::MAX;

#[derive(Default)]
pub(super) struct Table {
    rows: BTreeMap<DeliveryId, Item>,
    /// Later deliveries of the key went on while these were held, so that they may be overtaken after a manual retry.
    came_back: BTreeSet<DeliveryId>,
    /// Committed so late that possibly only a read of the whole lane finds them.
    late: BTreeSet<DeliveryId>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self, id: DeliveryId) -> Option<&Item> {
        self.rows.get(&id)
    }

    pub(super) fn insert(&mut self, item: Item, late: bool) {
        if late {
            self.late.insert(item.id);
        }
        self.rows.insert(item.id, item);
    }

    /// The rows of a destination that were not committed late, each with its lane.
    pub(super) fn in_time(&self, destination: DestinationId) -> impl Iterator<Item = (Lane, &Item)> {
        let rows = self.rows.values().filter(move |row| row.destination_id == destination);
        rows.filter(|row| !self.late.contains(&row.id)).map(|row| (row.lane(), row))
    }

    /// As `store::pending::due`.
    pub(super) fn due(&self, read: &Read, now_us: u64) -> Vec<Item> {
        let Read { destination, lane, limit, begin_us, ref known, ref busy, .. } = *read;
        let due = self.of_lane(destination, lane).filter(|item| (begin_us..=now_us).contains(&item.due_us));
        let due = due.filter(|item| !known.contains(&item.id));
        let due = due.filter(|item| item.order_key.is_none_or(|key| !busy.contains(&key)));
        let mut due: Vec<Item> = due.cloned().collect();
        due.sort_by_key(|item| (item.due_us, item.id));
        due.truncate(limit);
        for item in &mut due {
            item.skips = route_of(item.destination_id).poison == Poison::Skip;
            item.before = match self.in_front(item) {
                None => Before::Nothing,
                Some(_) if self.earlier(item).any(is_untried) => Before::Untried,
                Some(_) => Before::Tried,
            };
        }
        due
    }

    /// As `store::pending::next_due`.
    pub(super) fn next_due(
        &self,
        after: Option<(DestinationId, Lane)>,
        limit: usize,
    ) -> Vec<(DestinationId, Lane, u64)> {
        let mut heads = BTreeMap::new();
        for item in self.rows.values() {
            let lane = (item.destination_id, item.lane());
            if Some(lane) > after {
                let due_us = heads.entry(lane).or_insert(item.due_us);
                *due_us = item.due_us.min(*due_us);
            }
        }
        heads.into_iter().take(limit).map(|((destination, lane), due_us)| (destination, lane, due_us)).collect()
    }

    /// As `store::settle`, for one row whose epoch is the present one. Returns whether it was settled.
    pub(super) fn settle(&mut self, settlement: &Settlement, checks: &Checks, now_us: u64) -> bool {
        let id = settlement.delivery_id;
        let Some(row) = self.rows.get(&id) else {
            checks.settled_without_a_row(id);
            return false;
        };
        let is_as_it_was =
            row.generation == settlement.generation && i32::from(row.attempts) == i32::from(settlement.attempts_before);
        if !is_as_it_was {
            checks.settled_as_another(row);
            return false;
        }
        checks.settled(row, settlement);
        let is_behind = self.in_front(row).is_some();
        let Some(row) = self.rows.get_mut(&id) else { return false };
        let after = |wait: Duration| now_us + microseconds(wait);
        match &settlement.next {
            Next::RetryIn(wait) => {
                if settlement.expedited || !row.expedited {
                    row.due_us = after(*wait);
                    row.expedited = false;
                }
                row.attempts = u16::try_from(settlement.attempts).expect("small");
                row.throttled = u16::try_from(settlement.throttled).expect("small");
                row.not_sent = 0;
            }
            Next::NotSent { wait, times, .. } => {
                row.due_us = after(*wait);
                row.not_sent = *times;
            }
            Next::Held { .. } => {
                row.due_us = NEVER_US;
                row.expedited = false;
            }
            Next::Behind { wait } if is_behind => row.due_us = after(*wait),
            Next::Behind { .. } => {}
            Next::Succeeded | Next::Dead { .. } => {
                self.rows.remove(&id);
            }
        }
        true
    }

    /// As `store::expedited::marked`.
    pub(super) fn marked(&self, now_us: u64) -> Vec<(DestinationId, DeliveryId)> {
        let marked = self.rows.values().filter(|row| row.expedited && row.due_us <= now_us);
        marked.map(|row| (row.destination_id, row.id)).collect()
    }

    /// As `store::expedited::due`.
    pub(super) fn expedited(&self, asked: &[DeliveryId], now_us: u64) -> Vec<Item> {
        let rows = asked.iter().filter_map(|id| self.rows.get(id));
        let rows = rows.filter(|row| row.expedited && row.due_us <= now_us).cloned();
        rows.map(|row| {
            let before = if self.in_front(&row).is_some() { Before::Untried } else { Before::Nothing };
            Item { before, skips: route_of(row.destination_id).poison == Poison::Skip, ..row }
        })
        .collect()
    }

    /// A caller expedites a delivery.
    pub(super) fn expedite(&mut self, number: usize, now_us: u64) -> Option<(DestinationId, DeliveryId)> {
        let row = self.rows.values_mut().nth(number)?;
        if row.due_us == NEVER_US && route_of(row.destination_id).poison == Poison::Skip {
            self.came_back.insert(row.id);
        }
        // It stays due even if an attempt of it that was in flight is settled. The scan finds it by its mark.
        self.late.insert(row.id);
        row.due_us = row.due_us.min(now_us);
        row.expedited = true;
        Some((row.destination_id, row.id))
    }

    /// A caller retries a delivery that was just cancelled: it returns under its id, without an order and with a fresh
    /// schedule.
    pub(super) fn make_pending(&mut self, item: Item, now_us: u64) {
        self.late.insert(item.id);
        let (generation, schedule_start) = (item.generation + 1, item.attempts);
        let row =
            Item { generation, schedule_start, due_us: now_us, order_key: None, throttled: 0, not_sent: 0, ..item };
        self.rows.insert(row.id, Item { expedited: true, ..row });
    }

    /// A replay is cancelled. Returns its deliveries.
    pub(super) fn cancel_replay(&mut self) -> Vec<DeliveryId> {
        let gone: Vec<DeliveryId> =
            self.rows.values().filter(|row| row.replay_id.is_some()).map(|row| row.id).collect();
        self.rows.retain(|_, row| row.replay_id.is_none());
        gone
    }

    /// Makes the next delivery of a key due now.
    pub(super) fn free(&mut self, destination: DestinationId, key: Option<i64>, now_us: u64) {
        let next = |row: &&mut Item| row.destination_id == destination && row.order_key == key && is_untried(row);
        if let Some(row) = self.rows.values_mut().find(next)
            && key.is_some()
        {
            row.due_us = row.due_us.min(now_us);
        }
    }

    /// A caller cancels a delivery.
    pub(super) fn cancel(&mut self, number: usize, now_us: u64) -> Option<Item> {
        let id = *self.rows.keys().nth(number)?;
        let item = self.rows.remove(&id)?;
        self.free(item.destination_id, item.order_key, now_us);
        Some(item)
    }

    /// A caller retries the first held delivery.
    pub(super) fn retry_held(&mut self, now_us: u64) -> Option<DestinationId> {
        let row = self.rows.values_mut().find(|item| item.due_us == NEVER_US)?;
        row.due_us = now_us;
        // The retry may come before the replica has learned that the delivery was held.
        self.late.insert(row.id);
        if route_of(row.destination_id).poison == Poison::Skip {
            self.came_back.insert(row.id);
        }
        Some(row.destination_id)
    }

    /// The delivery that this one overtakes if it is sent now.
    pub(super) fn overtaken_by(&self, item: &Item) -> Option<DeliveryId> {
        self.rows.get(&item.id)?;
        self.in_front(item).map(|earlier| earlier.id).filter(|id| !self.came_back.contains(id))
    }

    /// A delivery that waits for longer than any schedule has one in front of it, which will make it due.
    pub(super) fn check_waiting(&self, now_us: u64) {
        for item in self.rows.values() {
            let waits = item.due_us > now_us + LONGEST_WAIT_US && item.due_us != NEVER_US;
            assert!(!waits || self.in_front(item).is_some(), "{} waits for no other delivery", item.id);
        }
    }

    fn of_lane(&self, destination: DestinationId, lane: Lane) -> impl Iterator<Item = &Item> {
        self.rows.values().filter(move |item| item.destination_id == destination && item.lane() == lane)
    }

    /// An earlier delivery of its key that has to go first. A retry has a due time of its own.
    fn in_front(&self, item: &Item) -> Option<&Item> {
        let skips = route_of(item.destination_id).poison == Poison::Skip;
        self.earlier(item).find(|earlier| is_untried(item) && (!skips || is_untried(earlier)))
    }

    /// The deliveries of its key that were stored before it.
    fn earlier(&self, item: &Item) -> impl Iterator<Item = &Item> {
        let (destination, key) = (item.destination_id, item.order_key);
        let of_key = move |other: &&Item| other.destination_id == destination && other.order_key == key;
        self.rows.range(..item.id).map(|(_, other)| other).filter(move |_| key.is_some()).filter(of_key)
    }
}

/// Whether a delivery waits for its first attempt.
fn is_untried(item: &Item) -> bool {
    item.attempts == item.schedule_start && item.due_us != NEVER_US
}

/// The properties of a route that concern the table.
pub(super) struct Route {
    pub(super) id: RouteId,
    pub(super) poison: Poison,
}

/// The route to a destination. One of the three skips: its keys go on while a delivery is retried.
pub(super) fn route(shard: i16) -> Route {
    let random = [u8::try_from(shard).expect("small"); 10];
    Route { id: RouteId::mint(1, random), poison: if shard == 2 { Poison::Skip } else { Poison::Block } }
}

fn route_of(destination: DestinationId) -> Route {
    route(i16::from(destination.uuid().as_bytes()[15]))
}
