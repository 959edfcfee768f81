//! Changes with the objects that have changed.

use std::sync::{Arc, OnceLock};

use model::change::ChangeKind;
use shared::id::{CustomerId, DeliveryId, EventId};
use store::changes::objects::{self, AttemptObject, DeliveryObject, EventObject, StoredEvent};
use store::changes::{Change, Changes, Position};
use store::{Pool, Result};
use time::OffsetDateTime;
use uuid::Uuid;

/// The most changes that are read with their objects at a time, and that a batch has.
pub const CHANGES_AT_ONCE: usize = 200;

/// Changes that follow one another.
#[derive(Debug)]
pub struct Batch {
    /// The position before them.
    pub from: Position,
    /// The position after them. Nothing was missed in between.
    pub to: Position,
    pub items: Vec<Arc<Item>>,
}

/// One change.
#[derive(Debug)]
pub struct Item {
    /// The position after it.
    pub position: Position,
    pub changed_at: OffsetDateTime,
    pub kind: ChangeKind,
    /// The new state, if the kind has one.
    pub state: Option<String>,
    pub subject: Subject,
    /// The change as text, which the first follower makes for all.
    text: OnceLock<String>,
}

/// What has changed, as it was stored when the change was read.
#[derive(Debug)]
pub enum Subject {
    Event(EventObject),
    Delivery { delivery: DeliveryObject, event_type: Option<String> },
    Attempt { attempt: AttemptObject, delivery: DeliveryObject, event_type: Option<String> },
}

impl Item {
    /// The customer that owns what has changed.
    #[must_use]
    pub fn customer(&self) -> CustomerId {
        match &self.subject {
            Subject::Event(event) => event.customer_id,
            Subject::Delivery { delivery, .. } | Subject::Attempt { delivery, .. } => delivery.customer_id,
        }
    }

    /// The change as text, made by `make` when it is first needed.
    pub fn text(&self, make: impl FnOnce(&Self) -> String) -> &str {
        self.text.get_or_init(|| make(self))
    }
}

/// A change without its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    position: Position,
    changed_at: OffsetDateTime,
    kind: ChangeKind,
    state: Option<String>,
    id: Uuid,
}

/// Some changes without their objects.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunk {
    pub from: Position,
    pub to: Position,
    entries: Vec<Entry>,
}

impl Chunk {
    fn ids(&self, of: impl Fn(ChangeKind) -> bool) -> Vec<Uuid> {
        self.entries.iter().filter(|entry| of(entry.kind)).map(|entry| entry.id).collect()
    }
}

/// Every change of a read, in order.
fn entries(changes: &[Change]) -> impl Iterator<Item = Entry> + '_ {
    changes.iter().flat_map(|change| {
        change.ids.iter().enumerate().map(|(index, id)| Entry {
            position: change.position_after(index),
            changed_at: change.changed_at,
            kind: change.kind,
            state: change.state.clone(),
            id: *id,
        })
    })
}

/// Divides what was read from a position into chunks. The last one ends at the position that was reached, and there is
/// always one.
pub fn chunks(mut from: Position, read: &Changes) -> impl Iterator<Item = Chunk> + '_ {
    let mut entries = entries(&read.changes).peekable();
    let mut has_ended = false;
    std::iter::from_fn(move || {
        if has_ended {
            return None;
        }
        let chunk: Vec<Entry> = entries.by_ref().take(CHANGES_AT_ONCE).collect();
        has_ended = entries.peek().is_none();
        let to = match chunk.last() {
            Some(last) if !has_ended => last.position,
            Some(_) | None => read.reached,
        };
        let chunk = Chunk { from, to, entries: chunk };
        from = to;
        Some(chunk)
    })
}

/// The events that were stored.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn stored(pool: &Pool, chunk: &Chunk) -> Result<Vec<StoredEvent>> {
    objects::stored(pool, &chunk.ids(|kind| kind == ChangeKind::EventStored)).await
}

/// The changes with their objects. A change of something that is no longer kept is left out.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn batch(pool: &Pool, chunk: Chunk) -> Result<Batch> {
    let events = objects::events(pool, &unique(chunk.ids(ChangeKind::is_of_event))).await?;
    let attempts = objects::attempts(pool, &chunk.ids(|kind| kind == ChangeKind::AttemptMade)).await?;
    let mut deliveries = chunk.ids(|kind| kind == ChangeKind::DeliveryStateChanged);
    deliveries.extend(attempts.values().map(|attempt| attempt.delivery_id.uuid()));
    let deliveries = objects::deliveries(pool, &unique(deliveries)).await?;
    let of = deliveries.values().map(|delivery| delivery.event_id.uuid()).collect();
    let types = objects::event_types(pool, &unique(of)).await?;
    let type_of = |event: EventId| types.get(&event).cloned().flatten();
    let subject = |entry: &Entry| {
        let delivery_of = |id: Uuid| deliveries.get(&DeliveryId::from_uuid(id)).cloned();
        Some(match entry.kind {
            ChangeKind::EventStored | ChangeKind::EventStateChanged => Subject::Event(events.get(&entry.id)?.clone()),
            ChangeKind::AttemptMade => {
                let attempt = attempts.get(&entry.id)?.clone();
                let delivery = delivery_of(attempt.delivery_id.uuid())?;
                let event_type = type_of(delivery.event_id);
                Subject::Attempt { attempt, delivery, event_type }
            }
            ChangeKind::DeliveryStateChanged => {
                let delivery = delivery_of(entry.id)?;
                let event_type = type_of(delivery.event_id);
                Subject::Delivery { delivery, event_type }
            }
        })
    };
    let items = chunk.entries.iter().filter_map(|entry| {
        let subject = subject(entry)?;
        let Entry { position, changed_at, kind, .. } = *entry;
        let state = entry.state.clone();
        Some(Arc::new(Item { position, changed_at, kind, state, subject, text: OnceLock::new() }))
    });
    let items = items.collect();
    Ok(Batch { from: chunk.from, to: chunk.to, items })
}

fn unique(mut ids: Vec<Uuid>) -> Vec<Uuid> {
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Position = Position::before(1, 50);

    fn read(rows: &[usize]) -> Changes {
        let change = |(number, ids): (u64, &usize)| Change {
            position: START.within(60, number, 0),
            changed_at: OffsetDateTime::UNIX_EPOCH,
            kind: ChangeKind::EventStored,
            state: None,
            ids: vec![Uuid::nil(); *ids],
        };
        let changes = (1..).zip(rows).map(change).collect();
        Changes { changes, reached: Position::before(1, 70), is_full: false, is_waiting: false }
    }

    #[test]
    fn chunks_follow_one_another_and_end_at_the_position_that_was_reached() {
        let read = read(&[CHANGES_AT_ONCE - 1, 2, CHANGES_AT_ONCE * 2]);
        let chunks: Vec<Chunk> = chunks(START, &read).collect();
        assert_eq!(chunks.iter().map(|chunk| chunk.entries.len()).collect::<Vec<_>>(), [200, 200, 200, 1]);
        assert_eq!((chunks[0].from, chunks[3].to), (START, Position::before(1, 70)));
        for pair in chunks.windows(2) {
            assert_eq!(pair[0].to, pair[1].from);
            assert_eq!(pair[0].to, pair[0].entries[CHANGES_AT_ONCE - 1].position);
        }
        assert_eq!(chunks[0].to, START.within(60, 2, 1), "in the middle of a row");
    }

    #[test]
    fn a_read_that_found_nothing_is_a_chunk_that_moves_the_position() {
        let chunks: Vec<Chunk> = chunks(START, &read(&[])).collect();
        assert_eq!(chunks, [Chunk { from: START, to: Position::before(1, 70), entries: Vec::new() }]);
    }
}
