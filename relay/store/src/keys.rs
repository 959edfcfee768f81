//! The keys of events: which provider id arrived on which day, so that copies are recognised.

use std::collections::{BTreeMap, HashMap, HashSet};

use shared::id::{EventId, SourceId};
use uuid::Uuid;

use super::Connection;
use super::column::As;
use crate::Result;

/// A key of one source.
pub(super) type Key = (SourceId, [u8; 32]);

/// The event that holds a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) event_id: EventId,
    /// The beginning of the hash of its body.
    pub(super) body: [u8; 16],
}

/// How long a key is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// The number of days before today.
    pub(super) days: i32,
    /// Whether a concurrent transaction may have begun on another day.
    pub(super) near_midnight: bool,
}

/// A transaction that begins within this many seconds of midnight (UTC) may overlap with one that began on another day.
/// It is far longer than any transaction lasts.
pub(super) const NEAR_MIDNIGHT_S: f64 = 600.0;

/// Claims the keys that no event holds, each for its event, and returns the holder of every key.
///
/// Two concurrent transactions that claim the same key conflict in the primary key of their day. Near midnight they may
/// claim it on two different days. In that case they have synchronised in [`meet`], and also check the day after their
/// own.
///
/// # Errors
/// Returns an error if a query fails.
pub(super) async fn claim(
    connection: &mut Connection,
    claims: BTreeMap<Key, Holder>,
    window: Window,
) -> Result<HashMap<Key, Holder>> {
    if claims.is_empty() {
        return Ok(HashMap::new());
    }
    // The same order in every replica, so that two transactions with the same keys wait for each other and do not
    // deadlock.
    let sources: Vec<Uuid> = claims.keys().map(|(source, _)| source.uuid()).collect();
    let keys: Vec<&[u8]> = claims.keys().map(|(_, key)| key.as_slice()).collect();
    let event_ids: Vec<Uuid> = claims.values().map(|holder| holder.event_id.uuid()).collect();
    let bodies: Vec<&[u8]> = claims.values().map(|holder| holder.body.as_slice()).collect();
    let days_after = i32::from(window.near_midnight);
    let claimed = sqlx::query_scalar!(
        r#"insert into event_keys (source_id, key, day, event_id, body_hash)
           select claim.source_id, claim.key, now()::date, claim.event_id, claim.body_hash
           from unnest($1::uuid[], $2::bytea[], $3::uuid[], $4::bytea[]) as claim (source_id, key, event_id, body_hash)
           where not exists (
               select from event_keys held
               where held.source_id = claim.source_id and held.key = claim.key
                 and held.day between now()::date - $5::int and now()::date + $6::int)
           on conflict do nothing
           returning event_id"#,
        &sources,
        &keys as &[&[u8]],
        &event_ids,
        &bodies as &[&[u8]],
        window.days,
        days_after
    )
    .fetch_all(&mut *connection)
    .await?;
    let claimed: HashSet<EventId> = claimed.into_iter().map(EventId::from_uuid).collect();
    let lost: Vec<Key> =
        claims.iter().filter(|(_, holder)| !claimed.contains(&holder.event_id)).map(|(key, _)| *key).collect();
    let mut holders: HashMap<Key, Holder> = claims.into_iter().collect();
    if lost.is_empty() {
        return Ok(holders);
    }
    let lost_sources: Vec<Uuid> = lost.iter().map(|(source, _)| source.uuid()).collect();
    let lost_keys: Vec<&[u8]> = lost.iter().map(|(_, key)| key.as_slice()).collect();
    // If the event itself holds the key, another replica has just committed a claim for the same message; the insert of
    // the event then finds the stored event. Of two holders the older one counts.
    let rows = sqlx::query!(
        r#"select held.source_id as "source_id!: As<SourceId>", held.key, held.event_id as "event_id!: As<EventId>",
                  held.body_hash
           from unnest($1::uuid[], $2::bytea[]) as claim (source_id, key)
           join event_keys held on held.source_id = claim.source_id and held.key = claim.key
            and held.day between now()::date - $3::int and now()::date + $4::int
           order by held.day desc"#,
        &lost_sources,
        &lost_keys as &[&[u8]],
        window.days,
        days_after
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        let (Ok(key), Ok(body)) = (row.key.try_into(), row.body_hash.try_into()) else { continue };
        holders.insert((row.source_id.into(), key), Holder { event_id: row.event_id.into(), body });
    }
    Ok(holders)
}

/// Waits for the transactions that have claimed one of these keys, on any day. Every transaction near midnight takes
/// these locks in the order of their numbers, before it claims any key.
///
/// # Errors
/// Returns an error if the query fails.
pub(super) async fn meet(connection: &mut Connection, keys: impl Iterator<Item = [u8; 32]>) -> Result<()> {
    // Different keys with the same number block each other unnecessarily.
    let mut numbers: Vec<i32> = keys.filter_map(|key| key.first_chunk().copied().map(i32::from_be_bytes)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtext('tidegate event key'), number) from unnest($1::int[]) as number",
        &numbers
    )
    .fetch_all(connection)
    .await?;
    Ok(())
}

/// The window of a transaction that begins now; see [`Window`].
///
/// # Errors
/// Returns an error if the query fails.
pub(super) async fn window(connection: &mut Connection, days: i32) -> Result<Window> {
    let near_midnight = sqlx::query_scalar!(
        r#"select (now() - $1::float8 * interval '1 second')::date < (now() + $1 * interval '1 second')::date
                      as "near_midnight!""#,
        NEAR_MIDNIGHT_S
    )
    .fetch_one(connection)
    .await?;
    Ok(Window { days, near_midnight })
}
