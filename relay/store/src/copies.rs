//! Finds the incoming events that are copies, by the keys that stored events hold, and records them.

use std::collections::{BTreeMap, HashMap};

use shared::extract::DedupeKey;
use shared::id::EventId;
use uuid::Uuid;

use super::Connection;
use super::keys::{self, Holder, Key, Window};
use super::new_event::{Claim, NewEvent};
use crate::Result;

/// The most copies of an event whose ids are kept, so that the id that a copy was acknowledged with leads to the event.
/// Further copies are only counted.
pub const KEPT: i32 = 100;

/// How an event relates to the event that holds its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// It is the same event: it holds the key itself.
    Holder,
    Copy {
        changed: bool,
    },
    /// A separate event with another body.
    SameKey,
}

/// The copies among the events of a batch.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// The copies, each with the id of its event.
    pub(super) of: HashMap<EventId, EventId>,
    /// Separate events with another body, each with the event that holds the same key.
    pub(super) same_key: HashMap<EventId, EventId>,
    /// The copies whose body differs from that of their event.
    changed: Vec<EventId>,
}

fn relation(event: EventId, key: &DedupeKey, holder: Holder) -> Relation {
    if holder.event_id == event {
        return Relation::Holder;
    }
    let changed = holder.body != key.body;
    if changed && !key.any_body { Relation::SameKey } else { Relation::Copy { changed } }
}

/// Claims the events' keys and returns which events are copies.
///
/// If the key is held by an event with another body, the event claims a key that includes its body, so that its own
/// copies are found too.
///
/// # Errors
/// Returns an error if a query fails.
pub(super) async fn claim(connection: &mut Connection, claims: &[Claim], window: Window) -> Result<Copies> {
    let mut copies = Copies::default();
    if claims.is_empty() {
        return Ok(copies);
    }
    if window.near_midnight {
        keys::meet(connection, claims.iter().flat_map(|claim| [claim.key.key, claim.key.with_body()])).await?;
    }
    let holders = keys::claim(connection, first_of_each(claims, |key| key.key), window).await?;
    let mut with_body = Vec::new();
    for claim in claims {
        let Some(holder) = holders.get(&(claim.source_id, claim.key.key)) else { continue };
        match relation(claim.event_id, &claim.key, *holder) {
            Relation::Holder => {}
            Relation::Copy { changed } => {
                copies.of.insert(claim.event_id, holder.event_id);
                copies.changed.extend(changed.then_some(claim.event_id));
            }
            Relation::SameKey => {
                copies.same_key.insert(claim.event_id, holder.event_id);
                with_body.push(*claim);
            }
        }
    }
    let holders = keys::claim(connection, first_of_each(&with_body, DedupeKey::with_body), window).await?;
    for Claim { source_id, event_id, key } in with_body {
        let holder = holders.get(&(source_id, key.with_body())).map(|holder| holder.event_id);
        if let Some(holder) = holder.filter(|holder| *holder != event_id) {
            copies.same_key.remove(&event_id);
            copies.of.insert(event_id, holder);
        }
    }
    Ok(copies)
}

/// The first of the events with the same key, for each key.
fn first_of_each(claims: &[Claim], key_of: impl Fn(&DedupeKey) -> [u8; 32]) -> BTreeMap<Key, Holder> {
    let mut first = BTreeMap::new();
    for Claim { source_id, event_id, key } in claims {
        let holder = Holder { event_id: *event_id, body: key.body };
        first.entry((*source_id, key_of(key))).or_insert(holder);
    }
    first
}

/// Counts the copies of each event, and keeps their ids and the first body that differs. It runs after the events have
/// been inserted, because a copy may belong to an event of the same batch.
pub(super) async fn record(connection: &mut Connection, copies: &Copies, events: &[&NewEvent]) -> Result<()> {
    if copies.of.is_empty() {
        return Ok(());
    }
    let mut by_holder: BTreeMap<EventId, Vec<EventId>> = BTreeMap::new();
    for (copy, holder) in &copies.of {
        by_holder.entry(*holder).or_default().push(*copy);
    }
    let ids: Vec<Uuid> = by_holder.keys().map(|id| id.uuid()).collect();
    let counts: Vec<i32> = by_holder.values().map(|copies| i32::try_from(copies.len()).unwrap_or(i32::MAX)).collect();
    lock_events(connection, &ids).await?;
    let counted = sqlx::query!(
        "update events set copies = copies + more.count
         from unnest($1::uuid[], $2::int[]) as more (id, count) where events.id = more.id and events.id = any($1)
         returning events.id, events.copies - more.count as \"before!\"",
        &ids,
        &counts
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut kept: Vec<(Uuid, Uuid)> = Vec::new();
    for row in counted {
        let mut copies = by_holder.remove(&EventId::from_uuid(row.id)).unwrap_or_default();
        copies.sort_unstable();
        kept.extend(copies.into_iter().take(room(row.before)).map(|copy| (copy.uuid(), row.id)));
    }
    keep_ids(connection, kept).await?;
    keep_changed(connection, copies, events).await
}

/// How many more copies of an event are kept if it had `before` copies so far.
fn room(before: i32) -> usize {
    usize::try_from(KEPT.saturating_sub(before)).unwrap_or_default()
}

async fn keep_ids(connection: &mut Connection, mut kept: Vec<(Uuid, Uuid)>) -> Result<()> {
    if kept.is_empty() {
        return Ok(());
    }
    kept.sort_unstable();
    let (ids, event_ids): (Vec<Uuid>, Vec<Uuid>) = kept.into_iter().unzip();
    sqlx::query!(
        "insert into event_copies (id, event_id) select * from unnest($1::uuid[], $2::uuid[]) on conflict do nothing",
        &ids,
        &event_ids
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps the first copy with another body, next to the body of the event. The rows of the events are locked, so two
/// transactions that keep copies of the same events run one after the other.
async fn keep_changed(connection: &mut Connection, copies: &Copies, events: &[&NewEvent]) -> Result<()> {
    let mut first: BTreeMap<EventId, &NewEvent> = BTreeMap::new();
    for copy in events.iter().filter(|event| copies.changed.contains(&event.id)) {
        if let Some(holder) = copies.of.get(&copy.id) {
            first.entry(*holder).or_insert(copy);
        }
    }
    if first.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = first.keys().map(|id| id.uuid()).collect();
    let copy_ids: Vec<Uuid> = first.values().map(|copy| copy.id.uuid()).collect();
    let bodies: Vec<&[u8]> = first.values().map(|copy| copy.body.as_slice()).collect();
    sqlx::query!(
        "update event_bodies set changed_copy_id = copy.id, changed_copy = copy.body
         from unnest($1::uuid[], $2::uuid[], $3::bytea[]) as copy (event_id, id, body)
         where event_bodies.event_id = copy.event_id and event_bodies.event_id = any($1) and changed_copy_id is null",
        &ids,
        &copy_ids,
        &bodies as &[&[u8]]
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Locks the rows of several events in the order of their ids, because an update locks them in the order of its plan.
pub(crate) async fn lock_events(connection: &mut Connection, ids: &[Uuid]) -> Result<()> {
    if ids.len() > 1 {
        sqlx::query!("select id from events where id = any($1) order by id for no key update", ids)
            .fetch_all(connection)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_body_makes_a_separate_event_unless_the_provider_changes_bodies() {
        let (event, other) = (EventId::mint(1, [1; 10]), EventId::mint(1, [2; 10]));
        let key = |any_body| DedupeKey { key: [0; 32], body: [1; 16], any_body };
        let held = |event_id, body| Holder { event_id, body };
        for any_body in [false, true] {
            assert_eq!(relation(event, &key(any_body), held(event, [2; 16])), Relation::Holder);
            let same = relation(event, &key(any_body), held(other, [1; 16]));
            assert_eq!(same, Relation::Copy { changed: false });
        }
        assert_eq!(relation(event, &key(false), held(other, [2; 16])), Relation::SameKey);
        assert_eq!(relation(event, &key(true), held(other, [2; 16])), Relation::Copy { changed: true });
    }

    #[test]
    fn the_first_copies_are_kept_and_more_are_only_counted() {
        let rooms = [0, 1, KEPT - 1, KEPT, KEPT + 1, i32::MAX].map(room);
        assert_eq!(rooms, [100, 99, 1, 0, 0, 0]);
    }
}
