//! Expedited deliveries: pending deliveries that an operator has retried. Each has a mark in its row until an attempt
//! of it is settled, so the request survives a crash and a change of owner.

use shared::id::{DeliveryId, DestinationId, EventId, ReplayId, RouteId};
use uuid::Uuid;

use super::column::{As, Maybe};
use super::pending::{self, DueRow, EventRow};
use crate::{Pool, Result};

/// The most destinations of one query, and the most deliveries of each.
const DESTINATIONS: i64 = 1_000;
const OF_EACH: i64 = 20;

/// The marked and due deliveries of active destinations: of each destination those that were marked first, in that
/// order. Their number per destination is limited, so that one with many does not hide the others.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn marked(pool: &Pool) -> Result<Vec<(DestinationId, DeliveryId)>> {
    let rows = sqlx::query!(
        "with recursive heads as (
             (select pending.destination_id from pending_deliveries pending
              where pending.expedited_at is not null
              order by pending.destination_id limit 1)
             union all
             select next.destination_id from heads cross join lateral (
                 select pending.destination_id from pending_deliveries pending
                 where pending.expedited_at is not null and pending.destination_id > heads.destination_id
                 order by pending.destination_id limit 1
             ) next
         )
         select marked.destination_id, marked.id
         from (select destination_id from heads limit $1) heads
         join destinations on destinations.id = heads.destination_id and destinations.state = 'active'
         cross join lateral (
             select pending.destination_id, pending.id from pending_deliveries pending
             where pending.destination_id = heads.destination_id and pending.expedited_at is not null
               and pending.due_at <= now()
             order by pending.expedited_at, pending.id limit $2
         ) marked",
        DESTINATIONS,
        OF_EACH
    )
    .fetch_all(pool)
    .await?;
    let ids = |destination, delivery| (DestinationId::from_uuid(destination), DeliveryId::from_uuid(delivery));
    Ok(rows.into_iter().map(|row| ids(row.destination_id, row.id)).collect())
}

/// Those of the given deliveries that are marked and due, each with its event and its body if that is small.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn due(pool: &Pool, destination: DestinationId, ids: &[DeliveryId]) -> Result<(Vec<DueRow>, Vec<EventRow>)> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query_as!(
        DueRow,
        r#"select due.id as "id!: As<DeliveryId>", due.destination_id as "destination_id!: As<DestinationId>",
                  due.event_id as "event_id!: As<EventId>", due.route_id as "route_id!: Maybe<RouteId>",
                  due.route_version, coalesce(route.poison, gone.poison, 'block') = 'skip' as "skips!",
                  due.replay_id as "replay_id!: Maybe<ReplayId>", due.due_at, due.attempts, due.schedule_start,
                  due.throttled, due.order_key,
                  due.order_key is not null and due.attempts = due.schedule_start and exists (
                      select from pending_deliveries earlier
                      where earlier.destination_id = due.destination_id and earlier.order_key = due.order_key
                        and earlier.id < due.id
                        and (coalesce(route.poison, gone.poison, 'block') = 'block'
                             or earlier.attempts = earlier.schedule_start and earlier.held_reason is null)
                  ) as "is_behind!",
                  false as "is_next!", due.not_sent, due.generation, true as "expedited!"
           from pending_deliveries due
           left join routes route on route.id = due.route_id and due.order_key is not null
           left join lateral (
               select poison from route_versions kept
               where kept.route_id = due.route_id and due.order_key is not null and route.id is null
               order by version desc limit 1
           ) gone on true
           where due.id = any($1) and due.destination_id = $2 and due.expedited_at is not null and due.due_at <= now()
           order by due.expedited_at, due.id"#,
        &ids,
        destination.uuid()
    )
    .fetch_all(pool)
    .await?;
    let events = pending::events(pool, rows.iter().map(|row| row.event_id.uuid()).collect(), true).await?;
    Ok((rows, events))
}
