//! Deleted destinations whose pending deliveries are still to be cancelled.
//!
//! A deletion removes the destination's row and its routes in one transaction, under the lock of the configuration, and
//! inserts a row here. Every transaction that makes a delivery pending holds the configuration, so no deliveries are
//! added to the backlog afterwards.

use shared::id::{CustomerId, DestinationId, ReplayId};

use super::audit::{self, NewEntry};
use super::column::As;
use super::configuration::{Change, Version};
use super::destinations::{self, DestinationRow};
use super::replays::counts::{self, Counts};
use super::route_versions;
use crate::{Connection, Error, Pool, Result};

/// The result of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There is no deletion to work on, or other replicas are working on all of them.
    Nothing,
    /// This many deliveries were cancelled, and there may be more.
    Cancelled(i64),
    /// Other transactions have locked all remaining deliveries.
    Waits,
    /// No deliveries are pending for the destination any more. `cancelled` counts those of all turns.
    Done { destination: DestinationId, cancelled: i64 },
}

/// Deletes a destination with its routes, cancels the replays that deliver to it, and records that its pending
/// deliveries are to be cancelled. The time it takes does not depend on the number of pending deliveries. Returns the
/// new version of the configuration; `None` if there is no such destination.
///
/// # Errors
/// Returns the error of `check`, which is given the row, or an error if a query fails; then nothing was written, or the
/// response to the commit was lost.
pub async fn delete<E: From<Error>>(
    pool: &Pool,
    customer: CustomerId,
    id: DestinationId,
    check: impl FnOnce(&DestinationRow) -> Result<(), E>,
    record: impl FnOnce(&DestinationRow) -> NewEntry,
) -> Result<Option<Version>, E> {
    let mut change = Change::begin(pool).await?;
    // From here on no replay to this destination can be created.
    sqlx::query!(
        "select id from destinations where customer_id = $1 and id = $2 for update",
        customer.uuid(),
        id.uuid()
    )
    .fetch_optional(&mut *change)
    .await
    .map_err(Error::from)?;
    let Some(row) = destinations::find_in(&mut change, customer, Some(id), None).await? else { return Ok(None) };
    check(&row)?;
    Ok(Some(delete_row(change, customer, &row, record).await?))
}

async fn delete_row(
    mut change: Change,
    customer: CustomerId,
    row: &DestinationRow,
    record: impl FnOnce(&DestinationRow) -> NewEntry,
) -> Result<Version> {
    let id = row.id;
    // A replay can later send the cancelled deliveries to another destination.
    route_versions::keep_before_deletion(&mut change, id.uuid()).await?;
    sqlx::query!("delete from routes where destination_id = $1", id.uuid()).execute(&mut *change).await?;
    sqlx::query!("delete from destination_health where destination_id = $1", id.uuid()).execute(&mut *change).await?;
    // Deleting the row updates all replays that name it. They are locked in the order that all transactions use.
    sqlx::query!("select id from replays where destination_id = $1 order by id for update", id.uuid())
        .fetch_all(&mut *change)
        .await?;
    // Without its destination a replay would deliver to the original destinations.
    sqlx::query!(
        "update replays set state = 'cancelled', finished_at = now(), error = 'its destination was deleted'
         where destination_id = $1 and state = 'running'",
        id.uuid()
    )
    .execute(&mut *change)
    .await?;
    sqlx::query!("delete from destinations where id = $1", id.uuid()).execute(&mut *change).await?;
    sqlx::query!("insert into deleted_destinations (id, customer_id) values ($1, $2)", id.uuid(), customer.uuid())
        .execute(&mut *change)
        .await?;
    audit::record(&mut change, &record(row)).await?;
    change.commit().await
}

/// Cancels up to `limit` deliveries of the deleted destination that has waited longest, among those that no other
/// replica is working on. Rows that other transactions have locked are left for a later turn, so this never waits for
/// the lock of a delivery.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written, or the response to the commit was lost.
pub async fn take_turn(pool: &Pool, limit: i64) -> Result<Turn> {
    let mut transaction = pool.begin().await?;
    let job = sqlx::query!(
        r#"select id as "id!: As<DestinationId>", cancelled, after_id is null as "from_the_beginning!"
           from deleted_destinations order by chunk_at, id limit 1 for update skip locked"#
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(job) = job else { return Ok(Turn::Nothing) };
    let destination = job.id.into();
    // The chunk is read in the order of an index. If the table's statistics do not include the backlog yet, the planner
    // expects few rows and would sort the whole backlog for every chunk.
    sqlx::query!("set local enable_sort = off").execute(&mut *transaction).await?;
    let cancelled = cancel_chunk(&mut transaction, destination, limit).await?;
    let turn = if cancelled > 0 {
        Turn::Cancelled(cancelled)
    } else if !job.from_the_beginning {
        begin_again(&mut transaction, destination).await?;
        Turn::Cancelled(0)
    } else if is_any_pending(&mut transaction, destination).await? {
        begin_again(&mut transaction, destination).await?;
        Turn::Waits
    } else {
        sqlx::query!("delete from deleted_destinations where id = $1", destination.uuid())
            .execute(&mut *transaction)
            .await?;
        Turn::Done { destination, cancelled: job.cancelled }
    };
    transaction.commit_changes().await?;
    Ok(turn)
}

/// Cancels the next deliveries in the order of their index, and stores the position of the last one in the same
/// statement. The position may be that of a held delivery, which is due at infinity, and is never read here.
async fn cancel_chunk(connection: &mut Connection, destination: DestinationId, limit: i64) -> Result<i64> {
    let ended = sqlx::query!(
        r#"with job as materialized (
               select coalesce(after_lane, (-1)::smallint) as lane, coalesce(after_due_at, '-infinity') as due_at,
                      coalesce(after_id, '00000000-0000-0000-0000-000000000000') as id
               from deleted_destinations where deleted_destinations.id = $1
           ), ended as (
               delete from pending_deliveries
               where id = any(array(
                   select id from pending_deliveries
                   where destination_id = $1
                     and (lane, due_at, id) > ((select lane from job), (select due_at from job), (select id from job))
                   order by lane, due_at, id limit $2 for update skip locked))
               returning *
           ), moved as (
               insert into settled_deliveries (id, customer_id, destination_id, event_id, source_id, route_id, replay_id,
                                               state, reason, attempts, schedule_start, undecided)
               select id, customer_id, destination_id, event_id, source_id, route_id, replay_id, 'cancelled',
                      'the destination was deleted', attempts, schedule_start, undecided
               from ended
           ), noted as (
               update deleted_destinations
               set cancelled = deleted_destinations.cancelled + (select count(*) from ended), chunk_at = clock_timestamp(),
                   after_lane = last.lane, after_due_at = last.due_at, after_id = last.id
               from (select lane, due_at, id from ended order by lane desc, due_at desc, id desc limit 1) last
               where deleted_destinations.id = $1
           )
           select replay_id, count(*) as "count!" from ended group by replay_id"#,
        destination.uuid(),
        limit
    )
    .fetch_all(&mut *connection)
    .await?;
    let by_replay =
        ended.iter().filter_map(|row| Some((ReplayId::from_uuid(row.replay_id?), Counts::cancelled(row.count))));
    counts::add(connection, &by_replay.collect()).await?;
    Ok(ended.iter().map(|row| row.count).sum())
}

async fn begin_again(connection: &mut Connection, id: DestinationId) -> Result<()> {
    sqlx::query!(
        "update deleted_destinations
         set chunk_at = clock_timestamp(), after_lane = null, after_due_at = null, after_id = null
         where id = $1",
        id.uuid()
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn is_any_pending(connection: &mut Connection, destination: DestinationId) -> Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from pending_deliveries where destination_id = $1) as "pending!""#,
        destination.uuid()
    )
    .fetch_one(connection)
    .await
    .map_err(Error::from)
}
