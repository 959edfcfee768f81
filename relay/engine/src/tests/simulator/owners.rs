//! The model of the leases and of the state stored for the next owner: what `lease`, `load_health` and `report` do.

use super::world::{Owner, REPLICAS, Replica, World};
use super::*;

/// How long after its renewal a lease is certain, and after how long another replica may take it.
const SURE_US: u64 = 8_000_000;
const EXPIRES_US: u64 = 12_000_000;

impl World {
    /// The process is killed and another one begins: its memory is lost, and its lease has to expire.
    pub(super) fn crash(&mut self, replica: usize) {
        self.checks.crashed(replica);
        let free_us = self.replicas[replica].renewed_us + EXPIRES_US;
        self.begin(replica, free_us);
    }

    /// The process shuts down and another one begins: it stores its final reports and gives its shards back.
    pub(super) fn restart(&mut self, replica: usize) {
        let state = &mut self.replicas[replica];
        state.core.drain();
        let last = state.core.last_reports(self.now_us);
        state.reports.extend(last);
        self.store_reports(replica, usize::MAX);
        self.checks.crashed(replica);
        self.begin(replica, self.now_us);
    }

    fn begin(&mut self, replica: usize, free_us: u64) {
        self.replicas[replica] = Replica::new(self.signals.len());
        for owner in self.shards.values_mut().filter(|owner| owner.replica == Some(replica)) {
            *owner = Owner { replica: None, epoch: owner.epoch, free_us };
        }
        let snapshot = self.snapshot();
        self.tell(replica, snapshot);
    }

    /// As `store::leases`: takes free shards up to a fair share. Surplus shards are given up later.
    pub(super) fn renew(&mut self, replica: usize) {
        let now_us = self.now_us;
        let expired: Vec<bool> =
            self.replicas.iter().map(|replica| now_us >= replica.renewed_us + EXPIRES_US).collect();
        let others = (0..REPLICAS).filter(|other| *other != replica && !expired[*other]).count();
        let share = (self.shards.len() + others) / (others + 1);
        let mut owned = self.shards.values().filter(|owner| owner.replica == Some(replica)).count();
        for owner in self.shards.values_mut() {
            let free = match owner.replica {
                Some(other) => other != replica && expired[other],
                None => now_us >= owner.free_us,
            };
            if owned < share && free {
                *owner = Owner { replica: Some(replica), epoch: owner.epoch + 1, free_us: 0 };
                owned += 1;
            }
        }
        let mut mine: BTreeMap<i16, i64> = BTreeMap::new();
        for (shard, owner) in self.shards.iter().filter(|(_, owner)| owner.replica == Some(replica)) {
            mine.insert(*shard, owner.epoch);
        }
        let state = &mut self.replicas[replica];
        state.outgoing.retain(|shard| mine.contains_key(shard));
        let too_many = mine.len().saturating_sub(share).saturating_sub(state.outgoing.len());
        let more: Vec<i16> =
            mine.keys().rev().filter(|shard| !state.outgoing.contains(shard)).take(too_many).copied().collect();
        state.outgoing.extend(more);
        mine.retain(|shard, _| !state.outgoing.contains(shard));
        state.renewed_us = now_us;
        let shards = mine.into_iter().collect();
        self.tell(replica, Input::Owned { shards, until_us: now_us + SURE_US });
    }

    /// Gives up outgoing shards that have nothing in flight: `lease::InFlight`.
    pub(super) fn give_up(&mut self, replica: usize) {
        let state = &self.replicas[replica];
        let flights = state.flights.iter().map(|flight| flight.shard);
        let settlements = state.unsettled.iter().map(|settlement| settlement.shard);
        let in_flight: BTreeSet<i16> =
            flights.chain(settlements).chain(state.reports.iter().map(|health| health.shard)).collect();
        for shard in &state.outgoing - &in_flight {
            self.replicas[replica].outgoing.remove(&shard);
            if let Some(owner) = self.shards.get_mut(&shard).filter(|owner| owner.replica == Some(replica)) {
                (owner.replica, owner.free_us) = (None, self.now_us);
            }
        }
    }

    /// The database returns the stored state of some new lines.
    pub(super) fn load_health(&mut self, replica: usize) {
        let lines = std::mem::take(&mut self.replicas[replica].loads);
        let loaded = lines.into_iter().map(|(destination, epoch)| {
            let stored = self.stored.get(&destination);
            let learned = stored.map(|health| {
                let is_last = health.learned.is_last && health.epoch == epoch - 1;
                Learned { is_last, ..health.learned.clone() }
            });
            LoadedHealth { destination, epoch, learned }
        });
        let loaded = Input::HealthLoaded(loaded.collect());
        self.tell(replica, loaded);
    }

    /// Some reports are written, the oldest first.
    pub(super) fn write_reports(&mut self, replica: usize) {
        let count = self.replicas[replica].reports.len();
        let written = self.random.random_range(0..=count);
        let permitted = self.store_reports(replica, written);
        if !permitted.is_empty() {
            self.tell(replica, Input::Permitted(permitted));
        }
    }

    /// As `store::destination_health::write`. Returns the permits among them.
    fn store_reports(&mut self, replica: usize, count: usize) -> Vec<Permitted> {
        let reports = &mut self.replicas[replica].reports;
        let written: Vec<Health> = reports.drain(..count.min(reports.len())).collect();
        let mut permitted = Vec::new();
        for health in written {
            let Health { destination, epoch, permit_us, .. } = health;
            permitted.extend(permit_us.map(|asked_us| Permitted { destination, epoch, asked_us }));
            if self.stored.get(&destination).is_none_or(|stored| stored.epoch <= epoch) {
                if self.is_present(&health) {
                    self.checks.reported(replica, &health);
                }
                self.stored.insert(destination, health);
            }
        }
        permitted
    }
}
