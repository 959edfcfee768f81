//! Reads what is due, per destination that can take it.

use std::collections::HashMap;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::store::{LARGE_BYTES, Pool};

/// A delivery that is due, with its event. The body is left out where it is large; see [`body`].
pub struct DueRow {
    pub id: Uuid,
    pub destination_id: Uuid,
    pub event_id: Uuid,
    pub source_id: Uuid,
    pub route_id: Option<Uuid>,
    pub replay_id: Option<Uuid>,
    pub due_at: OffsetDateTime,
    pub attempts: i16,
    pub schedule_start: i16,
    pub order_key: Option<i64>,
    /// An earlier delivery of its key is pending and goes first. One that is retried has a time of its own.
    pub is_behind: bool,
    pub received_at: OffsetDateTime,
    pub event_type: Option<String>,
    pub provider_event_id: Option<String>,
    pub method: String,
    pub query: String,
    pub headers: serde_json::Value,
    pub body: Option<Vec<u8>>,
}

/// What was due, and when that was by the database's clock.
pub struct Due {
    pub rows: Vec<DueRow>,
    pub read_at: OffsetDateTime,
}

/// Bodies up to this size, in bytes, are read together with their deliveries; a larger one when it is sent.
pub const SMALL_BODY_BYTES: i32 = 64 * 1024;

/// The first deliveries of lanes that are due since `begins[i]`, oldest first, but for those that are `known`: at most
/// `limits[i]` of lane `lanes[i]` of `destinations[i]`; with their small bodies only where `bodies` says so.
///
/// Lanes of destinations that are blocked are not in the list, so that their rows cost nothing, however many they are.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn due(
    pool: &Pool,
    destinations: &[Uuid],
    lanes: &[i16],
    begins: &[OffsetDateTime],
    limits: &[i64],
    known: &[Uuid],
    bodies: bool,
) -> Result<Due, sqlx::Error> {
    let largest_body = if bodies { SMALL_BODY_BYTES } else { -1 };
    let heads = sqlx::query!(
        r#"select now() as "read_at!", due.id as "id?", due.destination_id as "destination_id?", due.event_id as "event_id?",
                  due.source_id as "source_id?", due.route_id as "route_id?", due.replay_id as "replay_id?",
                  due.due_at as "due_at?", due.attempts as "attempts?", due.schedule_start as "schedule_start?",
                  due.order_key as "order_key?",
                  due.order_key is not null and due.attempts = due.schedule_start and exists (
                      select from pending_deliveries earlier
                      where earlier.destination_id = due.destination_id and earlier.order_key = due.order_key
                        and earlier.id < due.id
                        and (coalesce(route.poison, 'block') = 'block'
                             or earlier.attempts = earlier.schedule_start and earlier.parked_reason is null)
                  ) as "is_behind!"
           from unnest($1::uuid[], $2::smallint[], $3::timestamptz[], $4::bigint[]) as ready (destination_id, lane, begin, most)
           left join lateral (
               select * from pending_deliveries pending
               where pending.destination_id = ready.destination_id and pending.lane = ready.lane
                 and due_at between ready.begin and now() and pending.id <> all($5)
               order by due_at, id limit ready.most
           ) due on true
           left join routes route on route.id = due.route_id and due.order_key is not null"#,
        destinations,
        lanes,
        begins,
        limits,
        known
    )
    .fetch_all(pool)
    .await?;
    // A lane with nothing due has one row too, which tells the time.
    let Some(read_at) = heads.first().map(|head| head.read_at) else {
        return Err(sqlx::Error::RowNotFound);
    };
    // A statement of its own, to which the ids are known when it is planned: only the partitions of their days are
    // touched. As one with the above it would be a join, which reads all of history.
    let mut event_ids: Vec<Uuid> = heads.iter().filter_map(|head| head.event_id).collect();
    if event_ids.is_empty() {
        return Ok(Due { rows: Vec::new(), read_at });
    }
    event_ids.sort_unstable();
    event_ids.dedup();
    let events = sqlx::query!(
        r#"select events.id, received_at, type as event_type, provider_event_id, method, query, headers, body as "body?"
           from events left join event_bodies
                on event_bodies.event_id = events.id and event_bodies.event_id = any($1) and body_size <= $2
           where events.id = any($1)"#,
        &event_ids,
        largest_body
    )
    .fetch_all(pool)
    .await?;
    let events: HashMap<Uuid, _> = events.into_iter().map(|event| (event.id, event)).collect();
    let rows = heads.into_iter().filter_map(|head| {
        let event = events.get(&head.event_id?)?;
        Some(DueRow {
            id: head.id?,
            destination_id: head.destination_id?,
            event_id: event.id,
            source_id: head.source_id?,
            route_id: head.route_id,
            replay_id: head.replay_id,
            due_at: head.due_at?,
            attempts: head.attempts?,
            schedule_start: head.schedule_start?,
            order_key: head.order_key,
            is_behind: head.is_behind,
            received_at: event.received_at,
            event_type: event.event_type.clone(),
            provider_event_id: event.provider_event_id.clone(),
            method: event.method.clone(),
            query: event.query.clone(),
            headers: event.headers.clone(),
            body: event.body.clone(),
        })
    });
    Ok(Due { rows: rows.collect(), read_at })
}

/// When the next delivery of a lane is due.
pub struct NextDueRow {
    pub destination_id: Uuid,
    pub lane: i16,
    pub due_at: OffsetDateTime,
}

/// When the first delivery of each lane of these destinations is due, be it past or to come; nothing for a lane that has
/// none, or only parked ones.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn next_due(pool: &Pool, destinations: &[Uuid]) -> Result<Vec<NextDueRow>, sqlx::Error> {
    sqlx::query_as!(
        NextDueRow,
        r#"select idle.destination_id as "destination_id!", lanes.lane as "lane!", first.due_at as "due_at!"
           from unnest($1::uuid[]) as idle (destination_id)
           cross join unnest(array[0, 1, 2]::smallint[]) as lanes (lane)
           cross join lateral (
               select due_at from pending_deliveries pending
               where pending.destination_id = idle.destination_id and pending.lane = lanes.lane and due_at < 'infinity'
               order by due_at limit 1
           ) first"#,
        destinations
    )
    .fetch_all(pool)
    .await
}

/// The body of one event; `None` where it is no longer kept.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn body(pool: &Pool, event: Uuid) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let body: Option<Vec<u8>> = sqlx::query_scalar!("select body from event_bodies where event_id = $1", event)
        .fetch_optional(&mut connection)
        .await?;
    if body.as_ref().is_some_and(|body| body.len() > LARGE_BYTES) {
        connection.shrink_buffers();
    }
    Ok(body)
}
