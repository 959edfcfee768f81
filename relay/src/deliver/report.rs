//! Stores the health of destinations: every replica can report it, and the next owner continues from it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use engine::{Input, Permitted};
use model::health::Health;
use shared::id::DestinationId;
use store::{Constraint, Kind, Pool, destination_health};
use tokio::sync::mpsc;

use super::lease::InFlight;
use crate::engine_handle::Handle;
use crate::engine_handle::clock::Clock;

/// The most rows in one statement.
pub(crate) const BATCH: usize = 1_000;

/// How long after a failure the statement is retried.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The components the writer of reports works with.
pub struct Writer {
    pub pool: Pool,
    pub clock: Clock,
    pub engine: Handle,
    /// Each report counts as in flight until it has been written: its shard is not handed over before that.
    pub in_flight: Arc<InFlight>,
}

/// A report that waits to be written.
struct Waiting {
    health: Health,
    /// Its own shard, and the shard of each report that it has replaced.
    shards: Vec<i16>,
}

impl Writer {
    /// Writes reports until the channel closes and all of them are written. Of several for one destination, only the
    /// newest is written.
    pub async fn run(self, mut inbox: mpsc::UnboundedReceiver<Health>) {
        let mut waiting: HashMap<DestinationId, Waiting> = HashMap::new();
        loop {
            let mut arrived = Vec::new();
            if waiting.is_empty() {
                inbox.recv_many(&mut arrived, BATCH).await;
                if arrived.is_empty() {
                    return;
                }
            }
            while let Ok(health) = inbox.try_recv() {
                arrived.push(health);
            }
            arrived.into_iter().for_each(|health| add(&mut waiting, health));
            let batch: Vec<&Health> = waiting.values().map(|waiting| &waiting.health).take(BATCH).collect();
            match destination_health::write(&self.pool, &batch, self.clock.now_us()).await {
                Ok(()) => {}
                // A destination was deleted while the statement ran. The next statement leaves it out.
                Err(error) if error.kind() == Kind::Conflict(Constraint::Reference) => continue,
                Err(error) if error.is_data_error() => {
                    // A retry would be refused again, and would keep its shards from being handed over.
                    tracing::error!(
                        %error,
                        reports = batch.len(),
                        "the database rejected health reports of destinations; the reports were dropped"
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "could not store the health of destinations; retrying");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    continue;
                }
            }
            let written: Vec<DestinationId> = batch.iter().map(|health| health.destination).collect();
            self.written(written.iter().filter_map(|id| waiting.remove(id)));
        }
    }

    fn written(&self, reports: impl Iterator<Item = Waiting>) {
        let mut permitted = Vec::new();
        for Waiting { health: Health { destination, epoch, permit_us, .. }, shards } in reports {
            permitted.extend(permit_us.map(|asked_us| Permitted { destination, epoch, asked_us }));
            self.in_flight.finish(shards);
        }
        if !permitted.is_empty() {
            self.engine.tell(Input::Permitted(permitted));
        }
    }
}

/// Adds a report, replacing an older one of its destination. A report of an earlier epoch never replaces one of a later
/// epoch.
fn add(waiting: &mut HashMap<DestinationId, Waiting>, health: Health) {
    let shard = health.shard;
    match waiting.entry(health.destination) {
        Entry::Vacant(entry) => {
            entry.insert(Waiting { health, shards: vec![shard] });
        }
        Entry::Occupied(mut entry) => {
            let waiting = entry.get_mut();
            waiting.shards.push(shard);
            if health.epoch >= waiting.health.epoch {
                waiting.health = health;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::health::{BreakerState, Learned};
    use model::lane::PerLane;

    fn report(epoch: i64, in_flight: usize) -> Health {
        Health {
            destination: DestinationId::mint(1, [1; 10]),
            shard: 7,
            epoch,
            learned: Learned {
                since_us: 0,
                back_off_until_us: None,
                back_offs: 0,
                breaker: BreakerState::Closed,
                breaker_since_us: None,
                openings: 0,
                reduced: None,
                failing: None,
                paced_us: None,
                is_last: false,
            },
            permit_us: None,
            concurrency: 10,
            rate_factor: 1.0,
            in_flight,
            waiting: PerLane::default(),
            recent: (0, 0),
            latency_us: None,
            at_us: 0,
        }
    }

    #[test]
    fn the_newest_report_of_a_destination_is_written_and_finishes_all_of_them() {
        let mut waiting = HashMap::new();
        // The last report of an earlier epoch arrives when the attempts that were in flight have been answered.
        for health in [report(2, 1), report(2, 2), report(1, 3)] {
            add(&mut waiting, health);
        }
        let written: Vec<Waiting> = waiting.into_values().collect();
        assert_eq!((written.len(), written[0].health.epoch, written[0].health.in_flight), (1, 2, 2));
        assert_eq!(written[0].shards, [7, 7, 7]);
    }
}
