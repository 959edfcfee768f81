//! How lines come and go with their shards: the state that an owner takes over from earlier ones, and the state that it
//! leaves to the next.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use model::health::Health;
use shared::id::DestinationId;

use super::Core;
use super::line::Line;
use super::message::{Command, LoadedHealth, Permitted};

impl Core {
    /// Brings the lines in line with the owned shards and the present configuration.
    pub(super) fn arrange(&mut self, now_us: u64, commands: &mut Vec<Command>) {
        let (owned, destinations) = (&self.owned, &self.destinations);
        let stays = |id: &DestinationId, line: &Line| {
            let shard = destinations.get(id).map(|destination| destination.shard);
            shard.and_then(|shard| owned.get(&shard)) == Some(&line.epoch)
        };
        let gone = self.lines.iter().filter(|(id, line)| !stays(id, line)).map(|(id, _)| *id);
        // Always in the same order, here and below, so that the same inputs always produce the same commands.
        for id in sorted(gone.collect()) {
            self.leave(id, now_us, commands);
        }
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for (id, destination) in &*self.destinations {
            let Some(epoch) = self.owned.get(&destination.shard) else { continue };
            let line = match self.lines.entry(*id) {
                Entry::Occupied(line) => line.into_mut(),
                Entry::Vacant(entry) => entry.insert(self.leaving.remove(&(*id, *epoch)).unwrap_or_else(|| {
                    new.push((*id, *epoch));
                    Line::new(Arc::clone(destination), *epoch, &self.limits)
                })),
            };
            if line.configure(destination, now_us) {
                changed.push(*id);
            }
        }
        for id in sorted(changed) {
            self.give_turn(id);
        }
        if !new.is_empty() {
            commands.push(Command::LoadHealth(sorted(new)));
        }
    }

    /// Applies the stored state of destinations.
    pub(super) fn loaded(&mut self, loaded: Vec<LoadedHealth>, now_us: u64) {
        for LoadedHealth { destination, epoch, learned } in loaded {
            let line = self.lines.get_mut(&destination).filter(|line| line.epoch == epoch && !line.has_loaded_health);
            if let Some(line) = line {
                line.loaded(learned, now_us);
                self.give_turn(destination);
            }
        }
    }

    /// Applies permits that have been stored.
    pub(super) fn permitted(&mut self, permitted: &[Permitted]) {
        for Permitted { destination, epoch, asked_us } in permitted {
            if let Some(line) = self.lines.get_mut(destination).filter(|line| line.epoch == *epoch) {
                line.permit.stored(*asked_us);
                self.give_turn(*destination);
            }
        }
    }

    /// Aborts the attempts in flight if the time until which this replica owns its shards is over.
    pub(super) fn fence(&mut self, now_us: u64, commands: &mut Vec<Command>) {
        if self.is_fenced || now_us < self.owned_until_us {
            return;
        }
        self.is_fenced = true;
        if self.in_flight() > 0 {
            commands.push(Command::BreakOff);
        }
    }

    /// This replica no longer sends to the line's destination. The results of the attempts in flight are still learned
    /// from, for the next owner.
    fn leave(&mut self, id: DestinationId, now_us: u64, commands: &mut Vec<Command>) {
        let Some(mut line) = self.lines.remove(&id) else { return };
        self.totals.wanting -= usize::from(line.is_counted);
        line.leave(now_us);
        let epoch = line.epoch;
        self.leaving.insert((id, epoch), line);
        self.is_leaving(id, epoch, now_us, commands);
    }

    /// Reports and drops a line whose destination this replica no longer sends to, if nothing is in flight.
    pub(super) fn is_leaving(&mut self, id: DestinationId, epoch: i64, now_us: u64, commands: &mut Vec<Command>) {
        if self.leaving.get(&(id, epoch)).is_some_and(|line| line.in_flight() == 0)
            && let Some(mut line) = self.leaving.remove(&(id, epoch))
        {
            commands.extend(line.last_report(now_us).map(Box::new).map(Command::Report));
        }
    }

    /// The final reports for the next owners: called after [`Core::drain`], when this replica ends.
    pub fn last_reports(&mut self, now_us: u64) -> Vec<Health> {
        let lines = self.lines.values_mut().chain(self.leaving.values_mut());
        lines.filter_map(|line| line.last_report(now_us)).collect()
    }
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort_unstable();
    items
}
