//! What is wrong now with what a customer owns. Each statement reads a bounded number of rows by an index, however much
//! history there is.

use model::destination::DestinationState;
use model::health::BreakerName;
use model::held_by::HeldBy;
use shared::id::{CustomerId, DestinationId, EventId, SourceId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::column::As;
use crate::{Error, Pool, Result};

/// The most pending deliveries of one destination that are counted.
pub const COUNTED_OF_ONE: i64 = 1_000;

/// The most destinations whose pending deliveries are counted.
pub const MOST_DESTINATIONS: i64 = 1_000;

/// The most rows of one kind of trouble that are returned.
pub const MOST_ROWS: i64 = 100;

/// The most rejections of one source that are read.
const MOST_REJECTIONS: i64 = 200;

/// The most rows of history that are read to find a few of them.
pub const MOST_HISTORY: i64 = 2_000;

/// A destination that deliveries do not reach as they should.
#[derive(Debug, Clone)]
pub struct TroubledRow {
    pub id: DestinationId,
    pub name: String,
    pub state: DestinationState,
    pub state_reason: Option<String>,
    pub state_changed_at: OffsetDateTime,
    pub breaker: BreakerName,
    pub breaker_since: Option<OffsetDateTime>,
    /// The end of the back-off, if it has not passed.
    pub back_off_until: Option<OffsetDateTime>,
    pub failing_since: Option<OffsetDateTime>,
    pub failures: Option<i64>,
}

/// The pending deliveries of a destination.
#[derive(Debug, Clone)]
pub struct PendingRow {
    pub id: DestinationId,
    pub name: String,
    pub state: DestinationState,
    /// Counted up to [`COUNTED_OF_ONE`].
    pub count: i64,
    /// When the delivery that is due first is, or was, due; `None` if all are held.
    pub oldest_due_at: Option<OffsetDateTime>,
}

/// The requests to a source that were refused for one cause.
#[derive(Debug, Clone)]
pub struct RejectedRow {
    pub id: SourceId,
    pub name: String,
    pub cause: String,
    pub count: i64,
    pub last_at: OffsetDateTime,
    pub detail: String,
}

/// A source whose newest configuration the edge has not confirmed.
#[derive(Debug, Clone)]
pub struct InactiveRow {
    pub id: SourceId,
    pub name: String,
    pub updated_at: OffsetDateTime,
    pub error: Option<String>,
}

/// Held deliveries with one cause.
#[derive(Debug, Clone)]
pub struct HeldRow {
    pub held_by: HeldBy,
    /// Counted up to [`COUNTED_OF_ONE`] over all causes.
    pub count: i64,
    pub since: Option<OffsetDateTime>,
}

/// Some events or deliveries, and the oldest of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct OldestRow {
    pub count: i64,
    pub oldest: Option<OffsetDateTime>,
}

/// A delivery that has succeeded.
#[derive(Debug, Clone, Copy)]
pub struct DeliveredRow {
    pub event: EventId,
    pub settled_at: OffsetDateTime,
}

/// The destinations of a customer that are not active, fail, back off, or whose breaker is not closed.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn troubled(pool: &Pool, customer: CustomerId) -> Result<Vec<TroubledRow>> {
    let mut search = pool.begin_range().await?;
    sqlx::query_as!(
        TroubledRow,
        r#"select destinations.id as "id!: As<DestinationId>", name, state as "state!: As<DestinationState>", state_reason,
                  state_changed_at, coalesce(health.breaker, 'closed') as "breaker!: As<BreakerName>",
                  health.breaker_since as "breaker_since?",
                  case when health.back_off_until > now() then health.back_off_until end as back_off_until,
                  health.failing_since as "failing_since?", health.failures as "failures?"
           from destinations
           left join destination_health health
               on health.destination_id = destinations.id and health.learned_since >= destinations.moved_at
           where customer_id = $1
             and (state <> 'active' or health.breaker <> 'closed' or health.back_off_until > now()
                  or health.failing_since is not null)
           order by destinations.id limit $2"#,
        customer.uuid(),
        MOST_ROWS
    )
    .fetch_all(&mut *search)
    .await
    .map_err(Error::from)
}

/// The destinations of a customer that have pending deliveries, among its first [`MOST_DESTINATIONS`].
///
/// # Errors
/// Returns an error if the query fails.
pub async fn pending(pool: &Pool, customer: CustomerId) -> Result<Vec<PendingRow>> {
    let mut search = pool.begin_range().await?;
    sqlx::query_as!(
        PendingRow,
        r#"select owned.id as "id!: As<DestinationId>", owned.name, owned.state as "state!: As<DestinationState>",
                  counted.count as "count!", first.due_at as oldest_due_at
           from (select id, name, state from destinations where customer_id = $1 order by id limit $2) owned
           cross join lateral (
               select count(*) as count
               from (select from pending_deliveries where destination_id = owned.id limit $3) pending
           ) counted
           left join lateral (
               select min(lane.due_at) as due_at
               from unnest(array[0, 1, 2]::smallint[]) as lanes (lane)
               cross join lateral (
                   select due_at from pending_deliveries pending
                   where pending.destination_id = owned.id and pending.lane = lanes.lane and due_at < 'infinity'
                   order by due_at limit 1
               ) lane
           ) first on counted.count > 0
           where counted.count > 0"#,
        customer.uuid(),
        MOST_DESTINATIONS,
        COUNTED_OF_ONE
    )
    .fetch_all(&mut *search)
    .await
    .map_err(Error::from)
}

/// The rejections of a customer's sources with ids in a range, by source and cause.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn rejected(pool: &Pool, customer: CustomerId, from: Uuid, until: Uuid) -> Result<Vec<RejectedRow>> {
    let mut search = pool.begin_range().await?;
    sqlx::query_as!(
        RejectedRow,
        r#"select owned.id as "id!: As<SourceId>", owned.name, newest.cause as "cause!",
                  sum(newest.count)::bigint as "count!", max(newest.last_at) as "last_at!", max(newest.detail) as "detail!"
           from (select id, name from sources where customer_id = $1 order by id limit $4) owned
           cross join lateral (
               select cause, count, last_at, detail from rejections
               where source_id = owned.id and rejections.id >= $2 and rejections.id < $3
               order by rejections.id desc limit $5
           ) newest
           group by owned.id, owned.name, newest.cause
           order by 4 desc limit $6"#,
        customer.uuid(),
        from,
        until,
        MOST_DESTINATIONS,
        MOST_REJECTIONS,
        MOST_ROWS
    )
    .fetch_all(&mut *search)
    .await
    .map_err(Error::from)
}

/// The sources of a customer whose newest configuration the edge has not confirmed.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn inactive(pool: &Pool, customer: CustomerId) -> Result<Vec<InactiveRow>> {
    let mut search = pool.begin_range().await?;
    sqlx::query_as!(
        InactiveRow,
        r#"select id as "id!: As<SourceId>", name, updated_at, edge_error as error from sources
           where customer_id = $1 and edge_revision <> revision order by id limit $2"#,
        customer.uuid(),
        MOST_ROWS
    )
    .fetch_all(&mut *search)
    .await
    .map_err(Error::from)
}

/// The individually held deliveries of a customer, by cause.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn held(pool: &Pool, customer: CustomerId) -> Result<Vec<HeldRow>> {
    let mut search = pool.begin_range().await?;
    sqlx::query_as!(
        HeldRow,
        r#"select held_by as "held_by!: As<HeldBy>", count(*) as "count!", min(held_at) as since
           from (select held_by, held_at from pending_deliveries
                 where customer_id = $1 and due_at = 'infinity' limit $2) held
           group by held_by order by held_by"#,
        customer.uuid(),
        COUNTED_OF_ONE
    )
    .fetch_all(&mut *search)
    .await
    .map_err(Error::from)
}

/// The events of a customer in quarantine among the newest [`MOST_HISTORY`] ones, with ids in a range.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn quarantined(pool: &Pool, customer: CustomerId, from: Uuid, until: Uuid) -> Result<OldestRow> {
    let mut search = pool.begin_range().await?;
    sqlx::query_as!(
        OldestRow,
        r#"select count(*) as "count!", min(received_at) as oldest
           from (select customer_id, received_at from events
                 where verification = 'failed' and id >= $2 and id < $3 order by id desc limit $4) newest
           where customer_id = $1"#,
        customer.uuid(),
        from,
        until,
        MOST_HISTORY
    )
    .fetch_one(&mut *search)
    .await
    .map_err(Error::from)
}

/// The dead deliveries of a customer among the newest [`MOST_HISTORY`] ones, with ids in a range.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn dead(pool: &Pool, customer: CustomerId, from: Uuid, until: Uuid) -> Result<OldestRow> {
    let mut search = pool.begin_range().await?;
    sqlx::query_as!(
        OldestRow,
        r#"select count(*) as "count!", min(settled_at) as oldest
           from (select customer_id, settled_at from settled_deliveries
                 where state = 'dead' and id >= $2 and id < $3 order by id desc limit $4) newest
           where customer_id = $1"#,
        customer.uuid(),
        from,
        until,
        MOST_HISTORY
    )
    .fetch_one(&mut *search)
    .await
    .map_err(Error::from)
}

/// The deliveries of a customer that have succeeded, without those of replays, among the newest [`MOST_HISTORY`]
/// deliveries with ids in a range.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn delivered(pool: &Pool, customer: CustomerId, from: Uuid, until: Uuid) -> Result<Vec<DeliveredRow>> {
    let mut search = pool.begin_range().await?;
    sqlx::query_as!(
        DeliveredRow,
        r#"select event_id as "event!: As<EventId>", settled_at
           from (select customer_id, event_id, settled_at, state, replay_id from settled_deliveries
                 where id >= $2 and id < $3 order by id desc limit $4) newest
           where customer_id = $1 and state = 'succeeded' and replay_id is null"#,
        customer.uuid(),
        from,
        until,
        MOST_HISTORY
    )
    .fetch_all(&mut *search)
    .await
    .map_err(Error::from)
}
