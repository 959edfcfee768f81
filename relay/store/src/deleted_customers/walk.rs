//! The chunks of a deletion: each walks one table from a cursor on, and deletes the rows of the customer.

use std::collections::{BTreeSet, HashSet};

use time::{Date, OffsetDateTime};
use uuid::Uuid;

use super::{Deleting, Step, delete_row, events_of, is_pending, late_from};
use crate::body_retention::{MOST_BYTES, within};
use crate::operations::Chunk;
use crate::{Connection, Result};

/// The most sources or destinations that one chunk visits.
const OBJECTS_AT_ONCE: i64 = 50;

/// How much of an unreadable message is read to find which source it names, in bytes. An event's message begins with a
/// line of JSON that names it.
const HEAD_BYTES: i32 = 16_384;

/// The result of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// Where the step continues; `None` if it is done.
    pub cursor: Option<Uuid>,
    /// How many rows of history were deleted.
    pub deleted: i64,
}

impl Walked {
    const DONE: Self = Self { cursor: None, deleted: 0 };

    /// After a walk over `read` of at most `limit` rows, the last of which has this id.
    fn after(last: Option<Uuid>, read: usize, limit: i64, deleted: i64) -> Self {
        let is_full = i64::try_from(read).is_ok_and(|read| read >= limit);
        Self { cursor: last.filter(|_| is_full), deleted }
    }
}

/// Finds the source of an unreadable message, from its content type in the queue's API and its first bytes.
type SourceOf<'a> = &'a (dyn Fn(Option<&str>, &[u8]) -> Option<Uuid> + Send + Sync);

/// Takes the next chunk of a step that is neither [`Step::Edge`] nor [`Step::Late`]: reads at most `limit` rows after
/// `cursor`, and deletes those of the customer. `None` if it has to wait for others.
///
/// # Errors
/// Returns an error if a query fails; then the chunk is to be dropped.
pub async fn take(
    chunk: &mut Chunk,
    deleting: Deleting,
    step: Step,
    cursor: Option<Uuid>,
    limit: i64,
    source_of: SourceOf<'_>,
) -> Result<Option<Walked>> {
    let connection: &mut Connection = &mut chunk.transaction;
    let from = cursor.unwrap_or_default();
    let walked = match step {
        Step::Edge | Step::Late => Walked::DONE,
        Step::Pending if is_pending(connection, deleting.customer).await? => return Ok(None),
        Step::Pending => Walked::DONE,
        Step::Messages | Step::LateMessages => messages(connection, deleting, from, limit.min(200), source_of).await?,
        Step::Deliveries => deliveries(connection, deleting, from, limit).await?,
        Step::Copies => copies(connection, deleting, from, limit).await?,
        Step::Attempts => attempts(connection, deleting, from, limit).await?,
        Step::Events => events(connection, deleting, from, limit).await?,
        Step::Rejections | Step::LateRejections => rejections(connection, deleting, from, limit).await?,
        Step::Keys => by_object(connection, deleting, Of::Keys, from, limit).await?,
        Step::SourceCounters | Step::LateSourceCounters => {
            by_object(connection, deleting, Of::SourceCounters, from, limit).await?
        }
        Step::DestinationCounters | Step::LateCounters => {
            by_object(connection, deleting, Of::DestinationCounters, from, limit).await?
        }
        Step::Replays => replays(connection, deleting, from, limit).await?,
        Step::Customer => {
            delete_row(connection, deleting).await?;
            Walked::DONE
        }
    };
    Ok(Some(walked))
}

/// As [`take`], for [`Step::Late`] of an operation that was created at this time.
///
/// # Errors
/// As [`take`].
pub async fn late(
    chunk: &mut Chunk,
    deleting: Deleting,
    created_at: OffsetDateTime,
    cursor: Option<Uuid>,
    limit: i64,
) -> Result<Walked> {
    let from = cursor.unwrap_or_else(|| late_from(created_at));
    attempts(&mut chunk.transaction, deleting, from, limit).await
}

fn count(ids: &[Uuid]) -> i64 {
    i64::try_from(ids.len()).unwrap_or(i64::MAX)
}

/// Which of these sources or destinations are the customer's.
async fn objects_of(
    connection: &mut Connection,
    Deleting { operation, .. }: Deleting,
    kind: &str,
    ids: &[Uuid],
) -> Result<HashSet<Uuid>> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let owned = sqlx::query_scalar!(
        "select id from operation_objects where operation_id = $1 and kind = $2 and id = any($3)",
        operation.uuid(),
        kind,
        ids
    );
    Ok(owned.fetch_all(connection).await?.into_iter().collect())
}

/// Notes sources or destinations that only history still names.
async fn remember(
    connection: &mut Connection,
    Deleting { operation, .. }: Deleting,
    kind: &str,
    ids: BTreeSet<Uuid>,
) -> Result<()> {
    let ids: Vec<Uuid> = ids.into_iter().collect();
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into operation_objects (operation_id, kind, id)
         select $1::uuid, $2::text, id from unnest($3::uuid[]) as object (id) on conflict do nothing",
        operation.uuid(),
        kind,
        &ids
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn messages(
    connection: &mut Connection,
    deleting: Deleting,
    from: Uuid,
    limit: i64,
    source_of: SourceOf<'_>,
) -> Result<Walked> {
    let rows = sqlx::query!(
        r#"select id, event_id, content_type, substring(message from 1 for $3) as "head!"
           from unreadable_messages where id > $1 order by id limit $2"#,
        from,
        limit,
        HEAD_BYTES
    )
    .fetch_all(&mut *connection)
    .await?;
    let events: Vec<Uuid> = rows.iter().filter_map(|row| row.event_id).collect();
    let events = events_of(connection, deleting.customer, &events).await?;
    let named: Vec<Option<Uuid>> = rows.iter().map(|row| source_of(row.content_type.as_deref(), &row.head)).collect();
    let sources: Vec<Uuid> = named.iter().flatten().copied().collect();
    let sources = objects_of(connection, deleting, "source", &sources).await?;
    let is_owned = |event: Option<Uuid>, source: Option<Uuid>| {
        event.is_some_and(|event| events.contains(&event)) || source.is_some_and(|source| sources.contains(&source))
    };
    let owned = rows.iter().zip(&named).filter(|(row, source)| is_owned(row.event_id, **source));
    let owned: Vec<Uuid> = owned.map(|(row, _)| row.id).collect();
    sqlx::query!("delete from unreadable_messages where id = any($1)", &owned).execute(connection).await?;
    Ok(Walked::after(rows.last().map(|row| row.id), rows.len(), limit, count(&owned)))
}

async fn deliveries(connection: &mut Connection, deleting: Deleting, from: Uuid, limit: i64) -> Result<Walked> {
    let rows = sqlx::query!(
        "select id, customer_id, destination_id, source_id, route_id from settled_deliveries where id > $1
         order by id limit $2",
        from,
        limit
    )
    .fetch_all(&mut *connection)
    .await?;
    let owned = || rows.iter().filter(|row| row.customer_id == deleting.customer.uuid());
    let ids: Vec<Uuid> = owned().map(|row| row.id).collect();
    if !ids.is_empty() {
        remember(connection, deleting, "destination", owned().map(|row| row.destination_id).collect()).await?;
        remember(connection, deleting, "source", owned().map(|row| row.source_id).collect()).await?;
        let routes: BTreeSet<Uuid> = owned().filter_map(|row| row.route_id).collect();
        let routes: Vec<Uuid> = routes.into_iter().collect();
        sqlx::query!("delete from route_versions where route_id = any($1)", &routes).execute(&mut *connection).await?;
        sqlx::query!("delete from settled_deliveries where id = any($1)", &ids).execute(connection).await?;
    }
    Ok(Walked::after(rows.last().map(|row| row.id), rows.len(), limit, count(&ids)))
}

async fn copies(connection: &mut Connection, deleting: Deleting, from: Uuid, limit: i64) -> Result<Walked> {
    let rows = sqlx::query!("select id, event_id from event_copies where id > $1 order by id limit $2", from, limit)
        .fetch_all(&mut *connection)
        .await?;
    let events: BTreeSet<Uuid> = rows.iter().map(|row| row.event_id).collect();
    let events: Vec<Uuid> = events.into_iter().collect();
    let events = events_of(connection, deleting.customer, &events).await?;
    let ids: Vec<Uuid> = rows.iter().filter(|row| events.contains(&row.event_id)).map(|row| row.id).collect();
    if !ids.is_empty() {
        sqlx::query!("delete from event_copies where id = any($1)", &ids).execute(connection).await?;
    }
    Ok(Walked::after(rows.last().map(|row| row.id), rows.len(), limit, count(&ids)))
}

async fn attempts(connection: &mut Connection, deleting: Deleting, from: Uuid, limit: i64) -> Result<Walked> {
    let rows = sqlx::query!(
        "select id, event_id, destination_id from attempts where id > $1 order by id limit $2",
        from,
        limit
    )
    .fetch_all(&mut *connection)
    .await?;
    let distinct = |ids: BTreeSet<Uuid>| ids.into_iter().collect::<Vec<_>>();
    let destinations = distinct(rows.iter().map(|row| row.destination_id).collect());
    let destinations = objects_of(connection, deleting, "destination", &destinations).await?;
    // The destination may be unknown, if it was deleted and none of its deliveries is kept.
    let rest = rows.iter().filter(|row| !destinations.contains(&row.destination_id));
    let events = distinct(rest.map(|row| row.event_id).collect());
    let events = events_of(connection, deleting.customer, &events).await?;
    let owned = rows.iter().filter(|row| destinations.contains(&row.destination_id) || events.contains(&row.event_id));
    let ids: Vec<Uuid> = owned.map(|row| row.id).collect();
    if !ids.is_empty() {
        sqlx::query!("delete from attempts where id = any($1)", &ids).execute(connection).await?;
    }
    Ok(Walked::after(rows.last().map(|row| row.id), rows.len(), limit, count(&ids)))
}

async fn events(connection: &mut Connection, deleting: Deleting, from: Uuid, limit: i64) -> Result<Walked> {
    let mut rows = sqlx::query!(
        "select id, customer_id, source_id, body_size from events where id > $1 order by id limit $2",
        from,
        limit
    )
    .fetch_all(&mut *connection)
    .await?;
    let is_owned = |customer: Uuid| customer == deleting.customer.uuid();
    let sizes = rows.iter().map(|row| if is_owned(row.customer_id) { i64::from(row.body_size) } else { 0 });
    let taken = within(sizes, MOST_BYTES);
    let is_cut = taken < rows.len();
    rows.truncate(taken);
    let owned = || rows.iter().filter(|row| is_owned(row.customer_id));
    let ids: Vec<Uuid> = owned().map(|row| row.id).collect();
    if !ids.is_empty() {
        remember(connection, deleting, "source", owned().map(|row| row.source_id).collect()).await?;
        sqlx::query!("delete from needed_bodies where event_id = any($1)", &ids).execute(&mut *connection).await?;
        sqlx::query!("delete from event_bodies where event_id = any($1)", &ids).execute(&mut *connection).await?;
        sqlx::query!("delete from events where id = any($1)", &ids).execute(connection).await?;
    }
    let last = rows.last().map(|row| row.id);
    Ok(match is_cut {
        true => Walked { cursor: last, deleted: count(&ids) },
        false => Walked::after(last, rows.len(), limit, count(&ids)),
    })
}

async fn rejections(connection: &mut Connection, deleting: Deleting, from: Uuid, limit: i64) -> Result<Walked> {
    let rows = sqlx::query!("select id, source_id from rejections where id > $1 order by id limit $2", from, limit)
        .fetch_all(&mut *connection)
        .await?;
    let sources: BTreeSet<Uuid> = rows.iter().map(|row| row.source_id).collect();
    let sources: Vec<Uuid> = sources.into_iter().collect();
    let sources = objects_of(connection, deleting, "source", &sources).await?;
    let ids: Vec<Uuid> = rows.iter().filter(|row| sources.contains(&row.source_id)).map(|row| row.id).collect();
    if !ids.is_empty() {
        sqlx::query!("delete from rejections where id = any($1)", &ids).execute(connection).await?;
    }
    Ok(Walked::after(rows.last().map(|row| row.id), rows.len(), limit, count(&ids)))
}

async fn replays(connection: &mut Connection, deleting: Deleting, from: Uuid, limit: i64) -> Result<Walked> {
    let rows = sqlx::query!("select id, customer_id from replays where id > $1 order by id limit $2", from, limit)
        .fetch_all(&mut *connection)
        .await?;
    let owned = rows.iter().filter(|row| row.customer_id == deleting.customer.uuid());
    let ids: Vec<Uuid> = owned.map(|row| row.id).collect();
    if !ids.is_empty() {
        sqlx::query!("delete from replays where id = any($1)", &ids).execute(connection).await?;
    }
    Ok(Walked::after(rows.last().map(|row| row.id), rows.len(), limit, count(&ids)))
}

/// What is deleted source by source, or destination by destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Keys,
    SourceCounters,
    DestinationCounters,
}

/// Visits the sources or destinations of the customer one after the other. The cursor is the last one that is done.
async fn by_object(connection: &mut Connection, deleting: Deleting, of: Of, from: Uuid, limit: i64) -> Result<Walked> {
    let kind = if of == Of::DestinationCounters { "destination" } else { "source" };
    let objects = sqlx::query_scalar!(
        "select id from operation_objects where operation_id = $1 and kind = $2 and id > $3 order by id limit $4",
        deleting.operation.uuid(),
        kind,
        from,
        OBJECTS_AT_ONCE
    )
    .fetch_all(&mut *connection)
    .await?;
    let (mut done, mut deleted) = (from, 0);
    for object in &objects {
        let rows = match of {
            Of::Keys => keys(connection, *object, limit).await?,
            Of::SourceCounters => source_counters(connection, *object, limit).await?,
            Of::DestinationCounters => destination_counters(connection, *object, limit).await?,
        };
        deleted += rows;
        // It may have more.
        if rows >= limit {
            return Ok(Walked { cursor: Some(done), deleted });
        }
        done = *object;
        if deleted >= limit {
            return Ok(Walked { cursor: Some(done), deleted });
        }
    }
    Ok(Walked::after(objects.last().copied(), objects.len(), OBJECTS_AT_ONCE, deleted))
}

async fn keys(connection: &mut Connection, source: Uuid, limit: i64) -> Result<i64> {
    sqlx::query!("delete from quarantine_usage where source_id = $1", source).execute(&mut *connection).await?;
    let rows =
        sqlx::query!("select key, day from event_keys where source_id = $1 order by key limit $2", source, limit)
            .fetch_all(&mut *connection)
            .await?;
    let (keys, days): (Vec<Vec<u8>>, Vec<Date>) = rows.into_iter().map(|row| (row.key, row.day)).unzip();
    if !keys.is_empty() {
        sqlx::query!(
            "delete from event_keys using unnest($2::bytea[], $3::date[]) as gone (key, day)
             where event_keys.source_id = $1 and event_keys.key = gone.key and event_keys.day = gone.day",
            source,
            &keys,
            &days
        )
        .execute(connection)
        .await?;
    }
    Ok(i64::try_from(keys.len()).unwrap_or(i64::MAX))
}

async fn source_counters(connection: &mut Connection, source: Uuid, limit: i64) -> Result<i64> {
    let last = sqlx::query_scalar!(
        "select minute from source_counters where source_id = $1 order by minute offset $2 limit 1",
        source,
        limit - 1
    )
    .fetch_optional(&mut *connection)
    .await?;
    let deleted = sqlx::query!(
        "delete from source_counters where source_id = $1 and minute <= coalesce($2::timestamptz, 'infinity')",
        source,
        last
    )
    .execute(connection)
    .await?;
    Ok(i64::try_from(deleted.rows_affected()).unwrap_or(i64::MAX))
}

async fn destination_counters(connection: &mut Connection, destination: Uuid, limit: i64) -> Result<i64> {
    sqlx::query!("delete from held_deliveries where destination_id = $1", destination)
        .execute(&mut *connection)
        .await?;
    let last = sqlx::query_scalar!(
        "select minute from destination_counters where destination_id = $1 order by minute offset $2 limit 1",
        destination,
        limit - 1
    )
    .fetch_optional(&mut *connection)
    .await?;
    let deleted = sqlx::query!(
        "delete from destination_counters where destination_id = $1 and minute <= coalesce($2::timestamptz, 'infinity')",
        destination,
        last
    )
    .execute(connection)
    .await?;
    Ok(i64::try_from(deleted.rows_affected()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_done_if_its_last_chunk_was_not_full() {
        let last = Some(Uuid::max());
        assert_eq!(Walked::after(last, 10, 10, 3), Walked { cursor: last, deleted: 3 });
        assert_eq!(Walked::after(last, 9, 10, 3).cursor, None);
        assert_eq!(Walked::after(None, 0, 10, 0).cursor, None);
    }
}
