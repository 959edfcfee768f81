//! Reads due deliveries for all lanes that request them: in statements of a bounded size, a few at a time.
//!
//! After an outage, thousands of lanes request a read at the same moment. One statement for all of them would take too
//! long, and its result would not fit into memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use engine::item::{Before, Event, Item};
use engine::{Found, Input};
use model::lane::Lane;
use model::unix_time;
use shared::id::{DeliveryId, DestinationId, EventId};
use store::pending::{self, Busy, Due, DueRow, EventRow};
use store::{Pool, expedited};
use tokio::sync::{Mutex, mpsc};

use crate::engine_handle::Handle;

/// The number of statements that run concurrently, so that a slow one does not hold up all others.
pub(crate) const AT_ONCE: usize = 2;

/// Once its lanes may return this many rows, a statement takes no further lane.
pub(crate) const ROWS: usize = 1_500;

/// The most lanes in one statement.
const LANES: usize = 500;

/// A request to read a lane from the table.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) destination: DestinationId,
    pub(super) lane: Lane,
    pub(super) epoch: i64,
    pub(super) limit: usize,
    pub(super) begin_us: u64,
    pub(super) known: Vec<DeliveryId>,
    pub(super) busy: Vec<i64>,
    pub(super) bodies: bool,
}

impl Read {
    fn busy(&self) -> impl Iterator<Item = Busy> + '_ {
        self.busy.iter().map(|key| Busy { destination: self.destination, lane: self.lane, key: *key })
    }
}

/// Reads until the channel closes. Several of these tasks share an inbox.
pub(super) async fn run(pool: Pool, inbox: Arc<Mutex<mpsc::UnboundedReceiver<Read>>>, handle: Handle) {
    loop {
        let group = {
            let mut inbox = inbox.lock().await;
            let Some(first) = inbox.recv().await else { return };
            group(first, || inbox.try_recv().ok())
        };
        let mut groups = VecDeque::from([group]);
        while let Some(mut group) = groups.pop_front() {
            let Err(error) = read(&pool, &group, &handle).await else { continue };
            if error.is_answer() && group.len() > 1 {
                // A lane that the database cannot read in time must not hold up the others.
                tracing::warn!(
                    %error,
                    lanes = group.len(),
                    "could not read due deliveries; retrying with half as many at a time"
                );
                let second = group.split_off(group.len() / 2);
                groups.extend([group, second]);
                continue;
            }
            tracing::warn!(%error, "could not read due deliveries; retrying");
            for Read { destination, lane, epoch, .. } in group {
                handle.tell(Input::NotFound { destination, lane, epoch });
            }
        }
    }
}

/// The lanes of one statement.
fn group(first: Read, mut next: impl FnMut() -> Option<Read>) -> Vec<Read> {
    let mut rows = first.limit;
    let mut group = vec![first];
    while rows < ROWS && group.len() < LANES {
        let Some(read) = next() else { break };
        rows += read.limit;
        group.push(read);
    }
    group
}

/// Reads these lanes and passes the deliveries to the engine.
async fn read(pool: &Pool, reads: &[Read], handle: &Handle) -> store::Result<()> {
    let destinations: Vec<_> = reads.iter().map(|read| read.destination).collect();
    let lanes: Vec<_> = reads.iter().map(|read| read.lane).collect();
    let limits: Vec<i64> = reads.iter().map(|read| i64::try_from(read.limit).unwrap_or(i64::MAX)).collect();
    let begins: Vec<_> = reads.iter().map(|read| unix_time::timestamp(read.begin_us / 1000)).collect();
    let known: Vec<_> = reads.iter().flat_map(|read| &read.known).copied().collect();
    let busy: Vec<Busy> = reads.iter().flat_map(Read::busy).collect();
    let bodies = reads.iter().all(|read| read.bodies);
    let due = pending::due(pool, destinations, &lanes, &begins, &limits, known, &busy, bodies).await?;
    let Due { rows, events, left_out, read_at } = due;
    let events: HashMap<EventId, Arc<Event>> = events.into_iter().map(|(id, row)| (id, Arc::new(event(row)))).collect();
    let mut found: HashMap<(DestinationId, Lane), Vec<Item>> = HashMap::new();
    for row in rows {
        // If its event is gone, the delivery is settled when its retention ends.
        let Some(event) = events.get(&row.event_id) else { continue };
        let item = item(&row, Arc::clone(event));
        found.entry((item.destination_id, item.lane())).or_default().push(item);
    }
    for Read { destination, lane, epoch, limit, .. } in reads {
        let items = found.remove(&(*destination, *lane)).unwrap_or_default();
        let complete = items.len() < *limit && !left_out.contains(destination);
        let found = Found { items, complete, read_us: unix_time::unix_ms(read_at) * 1000 };
        handle.tell(Input::Found { destination: *destination, lane: *lane, epoch: *epoch, found });
    }
    Ok(())
}

/// Reads expedited deliveries of a destination.
///
/// # Errors
/// Returns an error if a query fails.
pub(super) async fn expedited(
    pool: &Pool,
    destination: DestinationId,
    deliveries: &[DeliveryId],
) -> store::Result<Vec<Item>> {
    let (rows, events) = expedited::due(pool, destination, deliveries).await?;
    let events: HashMap<EventId, Arc<Event>> =
        events.into_iter().map(|row| (row.meta.id, Arc::new(event(row)))).collect();
    Ok(rows.iter().filter_map(|row| Some(item(row, Arc::clone(events.get(&row.event_id)?)))).collect())
}

fn event(row: EventRow) -> Event {
    Event { meta: row.meta, body: row.body, body_bytes: usize::try_from(row.body_size).unwrap_or(0) }
}

fn item(row: &DueRow, event: Arc<Event>) -> Item {
    Item {
        id: row.id,
        destination_id: row.destination_id,
        event,
        route_id: row.route_id,
        route_version: row.route_version,
        skips: row.skips,
        replay_id: row.replay_id,
        due_us: unix_time::unix_ms(row.due_at) * 1000,
        attempts: u16::try_from(row.attempts).unwrap_or(0),
        schedule_start: u16::try_from(row.schedule_start).unwrap_or(0),
        throttled: u16::try_from(row.throttled).unwrap_or(0),
        order_key: row.order_key,
        before: match (row.is_behind, row.is_next) {
            (false, _) => Before::Nothing,
            (true, true) => Before::Tried,
            (true, false) => Before::Untried,
        },
        not_sent: u16::try_from(row.not_sent).unwrap_or(0),
        generation: row.generation,
        expedited: row.expedited,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(limit: usize) -> Read {
        let destination = DestinationId::mint(1, [1; 10]);
        Read {
            destination,
            lane: Lane::Fresh,
            epoch: 1,
            limit,
            begin_us: 0,
            known: Vec::new(),
            busy: Vec::new(),
            bodies: true,
        }
    }

    /// For each statement, the limits of its lanes.
    fn groups(limits: impl IntoIterator<Item = usize>) -> Vec<Vec<usize>> {
        let mut reads = limits.into_iter().map(read);
        let mut groups = Vec::new();
        while let Some(first) = reads.next() {
            groups.push(group(first, || reads.next()).iter().map(|read| read.limit).collect());
        }
        groups
    }

    #[test]
    fn lanes_are_read_together_up_to_a_number_of_rows_and_of_lanes() {
        assert_eq!(groups([500; 7]), [vec![500; 3], vec![500; 3], vec![500]]);
        assert_eq!(groups([1, 500]), [vec![1, 500]]);
        let sizes: Vec<usize> = groups([1; 1_200]).iter().map(Vec::len).collect();
        assert_eq!(sizes, [500, 500, 200]);
        assert_eq!(groups([10_000, 1]), [vec![10_000], vec![1]]);
    }
}
