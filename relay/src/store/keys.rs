//! The keys of events: which id of a provider was seen on which day, so that a repetition is told.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::Connection;

/// The claim of an event to the key that its copies share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    pub source_id: Uuid,
    pub key: [u8; 32],
    pub event_id: Uuid,
}

/// For how long a key is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The days before today.
    pub days: i32,
    /// Whether a transaction of the same time may have begun on another day.
    pub near_midnight: bool,
}

/// How near to midnight (UTC) a transaction begins that may meet one of another day, in seconds: far longer than any of them
/// lasts.
pub const NEAR_MIDNIGHT_S: f64 = 600.0;

/// Claims keys, and returns the events whose key another event has, each with that event.
///
/// Two transactions that claim the same key at the same time meet in the primary key of their day. Near midnight they may
/// claim it for two days; then they meet in an advisory lock, and look at the day after theirs too.
///
/// # Errors
/// Returns an error if a query fails.
pub(super) async fn claim(
    connection: &mut Connection,
    claims: &[Claim],
    window: Window,
) -> Result<HashMap<Uuid, Uuid>, sqlx::Error> {
    let mut first = HashMap::new();
    let mut duplicates: HashMap<Uuid, Uuid> = HashMap::new();
    for Claim { source_id, key, event_id } in claims {
        let holder = *first.entry((*source_id, *key)).or_insert(*event_id);
        if holder != *event_id {
            duplicates.insert(*event_id, holder);
        }
    }
    if first.is_empty() {
        return Ok(duplicates);
    }
    // In one order everywhere, so that two transactions with the same keys wait for each other and do not deadlock.
    let mut claims: Vec<_> = first.into_iter().collect();
    claims.sort_unstable();
    let source_ids: Vec<Uuid> = claims.iter().map(|((source, _), _)| *source).collect();
    let keys: Vec<Vec<u8>> = claims.iter().map(|((_, key), _)| key.to_vec()).collect();
    let event_ids: Vec<Uuid> = claims.iter().map(|(_, event)| *event).collect();
    if window.near_midnight {
        meet(connection, claims.iter().map(|((_, key), _)| key)).await?;
    }
    let days_after = i32::from(window.near_midnight);
    let claimed = sqlx::query_scalar!(
        r#"insert into event_keys (source_id, key, day, event_id)
           select claim.source_id, claim.key, now()::date, claim.event_id
           from unnest($1::uuid[], $2::bytea[], $3::uuid[]) as claim (source_id, key, event_id)
           where not exists (
               select from event_keys held
               where held.source_id = claim.source_id and held.key = claim.key
                 and held.day between now()::date - $4::int and now()::date + $5::int)
           on conflict do nothing
           returning event_id"#,
        &source_ids,
        &keys,
        &event_ids,
        window.days,
        days_after
    )
    .fetch_all(&mut *connection)
    .await?;
    let claimed: HashSet<Uuid> = claimed.into_iter().collect();
    let lost: Vec<usize> = (0..event_ids.len()).filter(|at| !claimed.contains(&event_ids[*at])).collect();
    if !lost.is_empty() {
        let lost_sources: Vec<Uuid> = lost.iter().map(|at| source_ids[*at]).collect();
        let lost_keys: Vec<Vec<u8>> = lost.iter().map(|at| keys[*at].clone()).collect();
        let lost_events: Vec<Uuid> = lost.iter().map(|at| event_ids[*at]).collect();
        let holders = sqlx::query!(
            r#"select claim.event_id as "event_id!", held.event_id as holder
               from unnest($1::uuid[], $2::bytea[], $3::uuid[]) as claim (source_id, key, event_id)
               join event_keys held on held.source_id = claim.source_id and held.key = claim.key
                and held.day between now()::date - $4::int and now()::date + $5::int"#,
            &lost_sources,
            &lost_keys,
            &lost_events,
            window.days,
            days_after
        )
        .fetch_all(&mut *connection)
        .await?;
        // A key held by the event itself is a claim from a transaction that another replica has just committed for the
        // same message; the insert of the event finds it there.
        duplicates
            .extend(holders.into_iter().filter(|row| row.holder != row.event_id).map(|row| (row.event_id, row.holder)));
    }
    Ok(duplicates)
}

/// Waits for the transactions that have claimed one of these keys, whatever their day. Every transaction near midnight takes
/// these locks in the order of their numbers, and before it claims anything.
async fn meet(connection: &mut Connection, keys: impl Iterator<Item = &[u8; 32]>) -> Result<(), sqlx::Error> {
    // Different keys with the same number wait for each other without need.
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

/// Whether a transaction that begins now is near midnight; see [`Window`].
///
/// # Errors
/// Returns an error if the query fails.
pub(super) async fn window(connection: &mut Connection, days: i32) -> Result<Window, sqlx::Error> {
    let near_midnight = sqlx::query_scalar!(
        r#"select (now() - $1::float8 * interval '1 second')::date < (now() + $1 * interval '1 second')::date
                      as "near_midnight!""#,
        NEAR_MIDNIGHT_S
    )
    .fetch_one(connection)
    .await?;
    Ok(Window { days, near_midnight })
}
