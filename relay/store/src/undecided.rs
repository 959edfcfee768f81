//! Undecided deliveries, whose routes could not decide whether or in which order they are sent, and held deliveries
//! whose routes have changed.

use model::event::EventMeta;
use model::held_by::HeldBy;
use shared::id::{DeliveryId, DestinationId, EventId, RouteId, SourceId};

use super::column::{As, Maybe, meta};
use super::configuration::{self, Version};
use super::held::{self, Release};
use super::{Connection, Pool};
use crate::{Error, Result};

/// How long after a change of a route deliveries may still be held because of its old expressions, in seconds: replicas
/// read the configuration within two seconds, and an attempt may be in flight.
pub(super) const OLD_ROUTE_S: f64 = 10.0;

/// The wait before the relay first evaluates a route again automatically. It doubles each time, up to
/// [`LONGEST_PAUSE_S`].
pub const FIRST_PAUSE_S: f64 = 10.0;
pub const LONGEST_PAUSE_S: f64 = 900.0;

/// The reason why a settled delivery that no filter has approved is held when it becomes pending again.
pub const NOT_APPROVED: &str = "the filter of the route has not been evaluated yet; it is being evaluated";

/// An undecided delivery.
#[derive(Debug)]
pub struct Row {
    pub id: DeliveryId,
    pub event_id: EventId,
    pub source_id: SourceId,
    pub destination_id: DestinationId,
    pub route_id: Option<RouteId>,
}

/// The event of an undecided delivery.
#[derive(Debug)]
pub struct EventRow {
    pub meta: EventMeta,
    pub body_size: i32,
    /// `None` if it is larger than requested, or no longer kept.
    pub body: Option<Vec<u8>>,
}

/// The decision of a route about an undecided delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The delivery is due now, or when the wait before its first attempt is over, routed by this version of its route.
    /// If a replay made it, it has no order key.
    Matched { order_key: Option<i64>, route_version: i32 },
    /// The delivery is not sent, for this reason.
    NotMatched(String),
    /// The delivery stays undecided, for this reason. `again`: the relay evaluates the route again automatically.
    Undecided { by: HeldBy, reason: String, again: bool },
}

/// Releases deliveries that were held before their route was changed (see `held::make_due`). Rows that other
/// transactions have locked are left for the next call. Returns the destinations of the deliveries that are due now,
/// and the number of all deliveries found, at most `limit`.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written.
pub async fn release_changed(pool: &Pool, limit: i64) -> Result<(Vec<DestinationId>, usize)> {
    let mut transaction = pool.begin().await?;
    let ids = sqlx::query_scalar!(
        r#"select held.id as "id!" from routes
           cross join lateral (
               select id from pending_deliveries pending
               where pending.route_id = routes.id
                 and pending.held_at < routes.updated_at + $2::float8 * interval '1 second'
               order by pending.held_at limit $1 for update of pending skip locked
           ) held
           limit $1"#,
        limit,
        OLD_ROUTE_S
    )
    .fetch_all(&mut *transaction)
    .await?;
    if ids.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let released = held::make_due(&mut transaction, &ids, Release::RouteChanged).await?;
    transaction.commit_changes().await?;
    Ok((released.iter().filter(|row| !row.undecided).map(|row| row.destination_id).collect(), released.len()))
}

/// Takes undecided deliveries that are to be decided now, and sets the time of their next try, so that they are tried
/// again even if the relay ends before they are decided.
///
/// # Errors
/// Returns an error if the query fails; then nothing was written.
pub async fn take(pool: &Pool, limit: i64) -> Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"update pending_deliveries
           set decide_at = now() + least($3::float8, $2::float8 * power(2, decide_tries + 1)) * interval '1 second',
               decide_tries = least(decide_tries + 1, 20)
           where id in (
               select id from pending_deliveries where decide_at <= now()
               order by decide_at limit $1 for update skip locked)
           returning id as "id!: As<DeliveryId>", event_id as "event_id!: As<EventId>",
                     source_id as "source_id!: As<SourceId>", destination_id as "destination_id!: As<DestinationId>",
                     route_id as "route_id!: Maybe<RouteId>""#,
        limit,
        FIRST_PAUSE_S,
        LONGEST_PAUSE_S
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// Like [`take`], for one delivery, whether it is to be decided now or later; `None` if it is not undecided.
///
/// # Errors
/// Returns an error if the query fails; then nothing was written.
pub async fn take_one(pool: &Pool, id: DeliveryId) -> Result<Option<Row>> {
    sqlx::query_as!(
        Row,
        r#"update pending_deliveries set decide_at = now() + $2::float8 * interval '1 second', decide_tries = 1
           where id = $1 and undecided
           returning id as "id!: As<DeliveryId>", event_id as "event_id!: As<EventId>",
                     source_id as "source_id!: As<SourceId>", destination_id as "destination_id!: As<DestinationId>",
                     route_id as "route_id!: Maybe<RouteId>""#,
        id.uuid(),
        FIRST_PAUSE_S
    )
    .fetch_optional(pool)
    .await
    .map_err(Error::from)
}

/// An event, with its body if that has at most `largest_body` bytes; `None` if the event is no longer kept.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn event(pool: &Pool, id: EventId, largest_body: i32) -> Result<Option<EventRow>> {
    sqlx::query!(
        r#"select events.id as "id!: As<EventId>", source_id as "source_id!: As<SourceId>", received_at,
                  type as event_type, provider_event_id, method, query, headers, body_size, body as "body?"
           from events left join event_bodies
                on event_bodies.event_id = events.id and event_bodies.event_id = $1 and body_size <= $2
           where events.id = $1"#,
        id.uuid(),
        largest_body
    )
    .map(|row| EventRow { meta: meta!(row), body_size: row.body_size, body: row.body })
    .fetch_optional(pool)
    .await
    .map_err(Error::from)
}

/// The result of storing a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    Done,
    /// Nothing was written: the configuration has changed since the route was evaluated.
    StaleConfiguration,
    /// Nothing was written: the delivery is no longer undecided.
    NotUndecided,
}

/// Stores the decision of a route, made by the configuration `version`, about an undecided delivery.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written.
pub async fn decide(pool: &Pool, id: DeliveryId, version: Version, decision: &Decision) -> Result<Decided> {
    let mut transaction = pool.begin().await?;
    configuration::hold(&mut transaction).await?;
    if configuration::version(&mut *transaction).await? != version {
        return Ok(Decided::StaleConfiguration);
    }
    let changed = match decision {
        Decision::Matched { order_key, route_version } => {
            make_due(&mut transaction, id, *order_key, *route_version).await?
        }
        Decision::NotMatched(reason) => end(&mut transaction, id, reason).await?,
        Decision::Undecided { by, reason, again } => keep(&mut transaction, id, *by, reason, *again).await?,
    };
    transaction.commit_changes().await?;
    Ok(if changed { Decided::Done } else { Decided::NotUndecided })
}

async fn make_due(
    connection: &mut Connection,
    id: DeliveryId,
    order_key: Option<i64>,
    route_version: i32,
) -> Result<bool> {
    let updated = sqlx::query!(
        "update pending_deliveries
         set due_at = greatest(now(), not_before), order_key = case when replay_id is null then $2::bigint end,
             held_reason = null, held_at = null, undecided = false, decide_at = null, route_version = $3
         where id = $1 and undecided",
        id.uuid(),
        order_key,
        route_version
    )
    .execute(connection)
    .await?;
    Ok(updated.rows_affected() > 0)
}

async fn keep(connection: &mut Connection, id: DeliveryId, by: HeldBy, reason: &str, again: bool) -> Result<bool> {
    let updated = sqlx::query!(
        "update pending_deliveries
         set held_reason = $2, held_by = $4, held_at = now(), decide_at = case when $3 then decide_at end
         where id = $1 and undecided",
        id.uuid(),
        reason,
        again,
        by.name()
    )
    .execute(connection)
    .await?;
    Ok(updated.rows_affected() > 0)
}

async fn end(connection: &mut Connection, id: DeliveryId, reason: &str) -> Result<bool> {
    let ended = sqlx::query_scalar!(
        r#"with ended as (
               delete from pending_deliveries where id = $1 and undecided returning *
           ), counted as (
               update replays set cancelled = replays.cancelled + 1 from ended where replays.id = ended.replay_id
           ), moved as (
               insert into settled_deliveries (id, customer_id, destination_id, event_id, source_id, route_id, replay_id,
                                               state, reason, attempts, schedule_start, undecided)
               select id, customer_id, destination_id, event_id, source_id, route_id, replay_id, 'cancelled', $2, attempts,
                      schedule_start, undecided
               from ended
               returning id
           )
           select count(*) as "count!" from moved"#,
        id.uuid(),
        reason
    )
    .fetch_one(connection)
    .await?;
    Ok(ended > 0)
}
