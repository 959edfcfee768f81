//! Operations: bulk work in the background, in chunks.
//!
//! The transaction of a chunk locks the row of its operation first, and moves the cursor last. So the work and the
//! cursor are committed together, and one replica at a time works on an operation. A chunk that fails is rolled back
//! and recorded by a statement of its own.
//!
//! A replay is an operation too. It is stored in a table of its own ([`crate::replays`]), and is read here like the
//! others. Its id as an operation has the UUID of its id as a replay.

use std::time::Duration;

use model::operation::{OperationKind, OperationState};
use serde_json::Value;
use shared::id::{CustomerId, OperationId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, NewEntry};
use super::column::{As, Maybe};
use super::search::Range;
use crate::{Connection, Error, Pool, Result, Transaction};

/// The most running operations that a relay reads at a time.
const DUE_AT_ONCE: i64 = 100;

/// An operation as it is stored.
#[derive(Debug, Clone)]
pub struct OperationRow {
    pub id: OperationId,
    /// The customer that owns it; `None` if it belongs to the deployment.
    pub customer_id: Option<CustomerId>,
    /// A newer relay may have stored a kind that this one does not know.
    pub kind: String,
    pub state: OperationState,
    pub parameters: Value,
    pub processed: i64,
    pub failed: i64,
    pub changed: i64,
    pub skipped_destination_deleted: i64,
    pub skipped_body_not_kept: i64,
    pub skipped_held_by_destination: i64,
    pub total: Option<i64>,
    pub error: Option<String>,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
    pub finished_at: Option<OffsetDateTime>,
    /// Whether it is stored as a replay.
    pub is_replay: bool,
}

/// Which operations a list has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// `None` for those of all customers and of the deployment.
    pub customer: Option<CustomerId>,
    pub kind: Option<OperationKind>,
    pub state: Option<OperationState>,
}

/// The operations whose ids are in the range from `$from` to before `$until`, newest first.
macro_rules! operation_rows {
    ($filter:expr, $from:expr, $until:expr, $limit:expr $(,)?) => {
        sqlx::query_as!(
            OperationRow,
            r#"select id as "id!: As<OperationId>", customer_id as "customer_id!: Maybe<CustomerId>", kind as "kind!",
                      state as "state!: As<OperationState>", parameters as "parameters!", processed as "processed!",
                      failed as "failed!", changed as "changed!",
                      skipped_destination_deleted as "skipped_destination_deleted!",
                      skipped_body_not_kept as "skipped_body_not_kept!",
                      skipped_held_by_destination as "skipped_held_by_destination!", total, error,
                      created_at as "created_at!", updated_at as "updated_at!", finished_at, is_replay as "is_replay!"
               from (
                   (select id, customer_id, kind, shown.state, parameters, processed, failed, changed,
                           skipped_destination_deleted, skipped_body_not_kept, skipped_held_by_destination, total, error,
                           created_at, updated_at, finished_at, false as is_replay
                    from operations cross join lateral (
                        select case when cancelled_at is not null then 'cancelled' else operations.state end as state
                    ) shown
                    where (customer_id = $1 or $1::uuid is null) and (kind = $2 or $2::text is null)
                      and (shown.state = $3 or $3::text is null) and id >= $4 and id < $5
                    order by id desc limit $6)
                   union all
                   (select id, customer_id, shown.kind, shown.state, '{}'::jsonb, processed, 0, created, 0, skipped, 0,
                           case when not counting then greatest(matched, processed) end, coalesce(error, begun_error),
                           created_at, updated_at, finished_at, true
                    from replays cross join lateral (
                        select case when filter -> 'verification' is not null then 'release_events' else 'replay' end
                                   as kind,
                               case when paused_at is not null and replays.state = 'running' then 'paused'
                                    else replays.state end as state
                    ) shown
                    where (customer_id = $1 or $1::uuid is null) and (shown.kind = $2 or $2::text is null)
                      and (shown.state = $3 or $3::text is null) and id >= $4 and id < $5
                    order by id desc limit $6)
               ) operation
               order by id desc limit $6"#,
            $filter.customer.map(CustomerId::uuid),
            $filter.kind.map(OperationKind::name),
            $filter.state.map(OperationState::name),
            $from,
            $until,
            $limit
        )
    };
}

/// A new operation.
#[derive(Debug)]
pub struct New {
    pub id: OperationId,
    /// `None` for an operation of the deployment.
    pub customer: Option<CustomerId>,
    pub kind: OperationKind,
    /// The first step.
    pub step: &'static str,
    pub parameters: Value,
    pub total: Option<i64>,
    /// The deliveries that it changes; `None` for other operations.
    pub takes: Option<Takes>,
}

/// The deliveries that an operation takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Takes {
    /// A [`crate::deliveries::Selection`].
    pub selection: Value,
    /// Their ids.
    pub range: Range,
}

/// A running operation at one place.
#[derive(Debug, Clone)]
pub struct Place {
    pub id: OperationId,
    pub customer_id: Option<CustomerId>,
    pub kind: String,
    pub parameters: Value,
    /// A [`crate::deliveries::Selection`], if the operation changes deliveries.
    pub selection: Option<Value>,
    /// The range of the ids of these deliveries.
    pub from_id: Option<Uuid>,
    pub until_id: Option<Uuid>,
    pub step: String,
    /// How far the step has come; `None` at its beginning.
    pub cursor: Option<Uuid>,
    pub failed: i64,
    /// How often in a row a chunk has failed here.
    pub tries: i32,
    pub created_at: OffsetDateTime,
    /// How long the operation has existed, in seconds by the database's clock.
    pub age_s: f64,
    /// How long until the next chunk may begin, in seconds.
    pub wait_s: f64,
}

/// Where an operation continues after a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    pub step: &'static str,
    pub cursor: Option<Uuid>,
    /// How many rows or values the chunk has processed.
    pub processed: i64,
    /// How many of them it could not process.
    pub failed: i64,
    /// How long the next chunk waits.
    pub wait: Duration,
}

/// The transaction of a chunk. It is rolled back if it is dropped.
#[derive(Debug)]
pub struct Chunk {
    pub(crate) transaction: Transaction,
    pub(crate) place: Place,
}

/// Stores a new operation. It runs in the transaction that makes the operation necessary, if there is one.
pub(crate) async fn insert_in(connection: &mut Connection, new: &New) -> Result<OperationRow> {
    let takes = new.takes.as_ref();
    sqlx::query!(
        "insert into operations (id, customer_id, kind, step, parameters, total, selection, from_id, until_id)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        new.id.uuid(),
        new.customer.map(CustomerId::uuid),
        new.kind.name(),
        new.step,
        new.parameters,
        new.total,
        takes.map(|takes| &takes.selection),
        takes.map(|takes| takes.range.from),
        takes.map(|takes| takes.range.until)
    )
    .execute(&mut *connection)
    .await?;
    let Range { from, until } = Range::one(new.id.uuid());
    operation_rows!(Filter::default(), from, until, 1).fetch_one(connection).await.map_err(Error::from)
}

/// Stores a new operation with its entry of the audit log.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn insert(pool: &Pool, new: &New, record: impl FnOnce(&OperationRow) -> NewEntry) -> Result<OperationRow> {
    let mut transaction = pool.begin().await?;
    let row = insert_in(&mut transaction, new).await?;
    audit::record(&mut transaction, &record(&row)).await?;
    transaction.commit().await?;
    Ok(row)
}

/// An operation of this customer, or with `None` of any customer or of the deployment.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn find(pool: &Pool, customer: Option<CustomerId>, id: OperationId) -> Result<Option<OperationRow>> {
    let filter = Filter { customer, ..Filter::default() };
    let Range { from, until } = Range::one(id.uuid());
    operation_rows!(filter, from, until, 1).fetch_optional(pool).await.map_err(Error::from)
}

/// A page of operations, newest first.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn page(pool: &Pool, filter: Filter, cursor: Option<Uuid>, limit: i64) -> Result<Vec<OperationRow>> {
    let Range { from, until } = Range { until: cursor.unwrap_or(Range::ALL.until), ..Range::ALL };
    operation_rows!(filter, from, until, limit).fetch_all(pool).await.map_err(Error::from)
}

/// Cancels a running operation of one of these kinds, and returns whether it did. It waits for the chunk that is in
/// progress; no other chunk follows.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn cancel(pool: &Pool, id: OperationId, kinds: &[OperationKind], entry: &NewEntry) -> Result<bool> {
    let kinds: Vec<String> = kinds.iter().map(|kind| kind.name().to_owned()).collect();
    let mut transaction = pool.begin().await?;
    let cancelled = sqlx::query!(
        "update operations
         set state = 'failed', error = null, cancelled_at = clock_timestamp(), updated_at = clock_timestamp(),
             finished_at = clock_timestamp()
         where id = $1 and state = 'running' and kind = any($2)",
        id.uuid(),
        &kinds
    )
    .execute(&mut *transaction)
    .await?;
    if cancelled.rows_affected() == 0 {
        return Ok(false);
    }
    audit::record(&mut transaction, entry).await?;
    transaction.commit().await?;
    Ok(true)
}

/// The running operations of these kinds, next one first.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn running(pool: &Pool, kinds: &[OperationKind]) -> Result<Vec<Place>> {
    let kinds: Vec<String> = kinds.iter().map(|kind| kind.name().to_owned()).collect();
    sqlx::query_as!(
        Place,
        r#"select id as "id!: As<OperationId>", customer_id as "customer_id!: Maybe<CustomerId>", kind, parameters, selection,
                  from_id, until_id, step, cursor_id as cursor, failed, tries, created_at,
                  extract(epoch from now() - created_at)::float8 as "age_s!",
                  greatest(0, extract(epoch from next_at - now()))::float8 as "wait_s!"
           from operations where state = 'running' and kind = any($1) order by next_at, id limit $2"#,
        &kinds,
        DUE_AT_ONCE
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

impl Chunk {
    /// Begins a chunk of a running operation; `None` if another replica works on it, if it is not due, or if it is no
    /// longer at this place.
    ///
    /// # Errors
    /// Returns an error if a query fails.
    pub async fn begin(pool: &Pool, place: &Place) -> Result<Option<Self>> {
        let mut transaction = pool.begin().await?;
        let is_there = lock(&mut transaction, place).await?;
        Ok(is_there.then(|| Self { transaction, place: place.clone() }))
    }

    /// Commits the chunk and moves the operation.
    ///
    /// # Errors
    /// Returns an error if a query fails; then nothing was written, or the response to the commit was lost.
    pub async fn commit(mut self, next: &Next) -> Result<()> {
        advance(&mut self.transaction, self.place.id, next).await?;
        self.transaction.commit().await
    }

    /// Commits the chunk and ends the operation: as completed, or as failed with this error.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn finish(mut self, processed: i64, error: Option<&str>) -> Result<()> {
        finish(&mut self.transaction, self.place.id, processed, error).await?;
        self.transaction.commit().await
    }
}

/// Locks the row of a running operation that is due and at this place. Returns false if there is none, or if another
/// replica has locked it.
pub(crate) async fn lock(connection: &mut Connection, place: &Place) -> Result<bool> {
    let locked = sqlx::query_scalar!(
        "select id from operations
         where id = $1 and state = 'running' and step = $2 and cursor_id is not distinct from $3 and next_at <= now()
         for update skip locked",
        place.id.uuid(),
        place.step,
        place.cursor
    )
    .fetch_optional(connection)
    .await?;
    Ok(locked.is_some())
}

pub(crate) async fn advance(connection: &mut Connection, id: OperationId, next: &Next) -> Result<()> {
    sqlx::query!(
        "update operations
         set step = $2, cursor_id = $3, processed = processed + $4, failed = failed + $5, tries = 0, error = null,
             updated_at = clock_timestamp(), next_at = clock_timestamp() + $6::float8 * interval '1 second'
         where id = $1",
        id.uuid(),
        next.step,
        next.cursor,
        next.processed,
        next.failed,
        next.wait.as_secs_f64()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Shows an error of a running operation until its next chunk.
pub(crate) async fn show(connection: &mut Connection, id: OperationId, error: &str) -> Result<()> {
    sqlx::query!("update operations set error = $2 where id = $1", id.uuid(), error).execute(connection).await?;
    Ok(())
}

pub(crate) async fn finish(
    connection: &mut Connection,
    id: OperationId,
    processed: i64,
    error: Option<&str>,
) -> Result<()> {
    sqlx::query!(
        "update operations
         set state = case when $3::text is null then 'completed' else 'failed' end, error = $3,
             processed = processed + $2, tries = 0, updated_at = clock_timestamp(), finished_at = clock_timestamp()
         where id = $1",
        id.uuid(),
        processed,
        error
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Moves an operation whose step needs no transaction of its own. Does nothing if it is no longer at this place.
///
/// # Errors
/// Returns an error if a query fails; then the step is repeated.
pub async fn move_on(pool: &Pool, place: &Place, next: &Next) -> Result<()> {
    match Chunk::begin(pool, place).await? {
        Some(chunk) => chunk.commit(next).await,
        None => Ok(()),
    }
}

/// Deletes operations that ended more than this number of days ago.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn forget(pool: &Pool, days: u16) -> Result<()> {
    sqlx::query!("delete from operations where finished_at < now() - $1::float8 * interval '1 day'", f64::from(days))
        .execute(pool)
        .await?;
    Ok(())
}

/// Records why a chunk has failed. The next try begins after `pause`.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn record(pool: &Pool, place: &Place, error: &str, pause: Duration) -> Result<()> {
    sqlx::query!(
        "update operations
         set tries = tries + 1, error = $4, updated_at = now(), next_at = now() + $5::float8 * interval '1 second'
         where id = $1 and state = 'running' and step = $2 and cursor_id is not distinct from $3",
        place.id.uuid(),
        place.step,
        place.cursor,
        error,
        pause.as_secs_f64()
    )
    .execute(pool)
    .await?;
    Ok(())
}
