//! Reads due deliveries, for the destinations that can take them.

use std::collections::{HashMap, HashSet};

use model::event::EventMeta;
use model::lane::Lane;
use shared::id::{DeliveryId, DestinationId, EventId, ReplayId, RouteId, SourceId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::column::{As, meta};
use crate::configuration::Version;
use crate::signals::Position;
use crate::{Error, LARGE_BYTES, Pool, Result};

/// A due delivery.
pub struct DueRow {
    pub id: DeliveryId,
    pub destination_id: DestinationId,
    pub event_id: EventId,
    pub route_id: Option<RouteId>,
    /// The version of the route that made it.
    pub route_version: i32,
    /// For a delivery with an order key: whether later deliveries of the key can be sent while this one is retried.
    pub skips: bool,
    pub replay_id: Option<ReplayId>,
    pub due_at: OffsetDateTime,
    pub attempts: i16,
    pub schedule_start: i16,
    pub throttled: i16,
    pub order_key: Option<i64>,
    /// An earlier delivery of its key is pending and has to be sent first. Never true for a retried delivery, which is
    /// sent at its own time.
    pub is_behind: bool,
    /// No earlier delivery of its key is waiting for its first attempt.
    pub is_next: bool,
    /// How many times in a row it was due and was not sent because of the relay.
    pub not_sent: i16,
    /// Identifies this stay of the delivery in the table; it changes when a settled delivery becomes pending again.
    pub generation: i64,
    /// An operator has retried it, and no attempt has been made since.
    pub expedited: bool,
}

/// The event of a due delivery, without its body if that is large; see [`body`].
pub struct EventRow {
    pub meta: EventMeta,
    /// Of headers and query, in bytes.
    pub head_size: i32,
    pub body: Option<Vec<u8>>,
    /// In bytes.
    pub body_size: i32,
}

/// An order key whose deliveries are not read in one lane.
pub struct Busy {
    pub destination: DestinationId,
    pub lane: Lane,
    pub key: i64,
}

/// Due deliveries, and when they were read, by the database's clock.
pub struct Due {
    pub rows: Vec<DueRow>,
    pub events: HashMap<EventId, EventRow>,
    /// Destinations for which some of the deliveries found were left out because of the size limit.
    pub left_out: HashSet<DestinationId>,
    pub read_at: OffsetDateTime,
}

/// The most events that one statement reads, so that its result is bounded before the sizes of the events are known.
pub const EVENTS_AT_ONCE: usize = 250;

/// No more bodies are read after this many bytes of bodies, and no more deliveries after this many bytes in total.
pub const MOST_BODY_BYTES: usize = 4 << 20;
pub const MOST_BYTES: usize = 12 << 20;

/// Bodies up to this size, in bytes, are read together with their deliveries; larger ones are read when they are sent.
pub const SMALL_BODY_BYTES: i32 = 64 * 1024;

/// The first deliveries of lanes that are due since `begins[i]`, oldest first, except those that are `known` or have a
/// `busy` key: at most `limits[i]` of lane `lanes[i]` of `destinations[i]`, with small bodies only if `bodies` is true.
/// The result is limited to some megabytes ([`MOST_BODY_BYTES`], [`MOST_BYTES`]): beyond the limits, further deliveries
/// come without their bodies, and the last ones are left out.
///
/// Lanes of blocked destinations are not in the list, so their rows cost nothing, however many there are.
///
/// # Errors
/// Returns an error if a query fails.
#[expect(clippy::too_many_arguments, reason = "the lanes of one statement, column by column")]
pub async fn due(
    pool: &Pool,
    destinations: Vec<DestinationId>,
    lanes: &[Lane],
    begins: &[OffsetDateTime],
    limits: &[i64],
    known: Vec<DeliveryId>,
    busy: &[Busy],
    bodies: bool,
) -> Result<Due> {
    let destinations: Vec<Uuid> = destinations.into_iter().map(DestinationId::uuid).collect();
    let lanes: Vec<i16> = lanes.iter().map(|lane| lane.number()).collect();
    let known: Vec<Uuid> = known.into_iter().map(DeliveryId::uuid).collect();
    let busy_destinations: Vec<Uuid> = busy.iter().map(|busy| busy.destination.uuid()).collect();
    let busy_lanes: Vec<i16> = busy.iter().map(|busy| busy.lane.number()).collect();
    let busy_keys: Vec<i64> = busy.iter().map(|busy| busy.key).collect();
    let mut heads = sqlx::query!(
        r#"select now() as "read_at!", due.id as "id?", due.destination_id as "destination_id?", due.event_id as "event_id?",
                  due.route_id as "route_id?", due.route_version as "route_version?",
                  coalesce(route.poison, gone.poison, 'block') = 'skip' as "skips!", due.replay_id as "replay_id?",
                  due.due_at as "due_at?", due.attempts as "attempts?", due.schedule_start as "schedule_start?",
                  due.throttled as "throttled?", due.not_sent as "not_sent?", due.order_key as "order_key?",
                  due.generation as "generation?", due.expedited_at is not null as "expedited!",
                  due.order_key is not null and due.attempts = due.schedule_start and exists (
                      select from pending_deliveries earlier
                      where earlier.destination_id = due.destination_id and earlier.order_key = due.order_key
                        and earlier.id < due.id
                        and (coalesce(route.poison, gone.poison, 'block') = 'block'
                             or earlier.attempts = earlier.schedule_start and earlier.held_reason is null)
                  ) as "is_behind!",
                  due.order_key is not null and due.attempts = due.schedule_start
                  and coalesce(route.poison, gone.poison, 'block') = 'block' and not exists (
                      select from pending_deliveries earlier
                      where earlier.destination_id = due.destination_id and earlier.order_key = due.order_key
                        and earlier.id < due.id and earlier.attempts = earlier.schedule_start
                        and earlier.held_reason is null
                  ) as "is_next!"
           from unnest($1::uuid[], $2::smallint[], $3::timestamptz[], $4::bigint[]) as ready (destination_id, lane, begin, most)
           left join lateral (
               select * from pending_deliveries pending
               where pending.destination_id = ready.destination_id and pending.lane = ready.lane
                 and due_at between ready.begin and now() and pending.id <> all($5)
                 and (pending.order_key is null or (ready.destination_id, ready.lane, pending.order_key) not in (
                     select destination_id, lane, order_key
                     from unnest($6::uuid[], $7::smallint[], $8::bigint[]) as busy (destination_id, lane, order_key)))
               order by due_at, id limit ready.most
           ) due on true
           left join routes route on route.id = due.route_id and due.order_key is not null
           left join lateral (
               select poison from route_versions kept
               where kept.route_id = due.route_id and due.order_key is not null and route.id is null
               order by version desc limit 1
           ) gone on true"#,
        &destinations,
        &lanes,
        begins,
        limits,
        &known,
        &busy_destinations,
        &busy_lanes,
        &busy_keys
    )
    .fetch_all(pool)
    .await?;
    // A lane without due deliveries also has one row, for the time.
    let Some(read_at) = heads.first().map(|head| head.read_at) else {
        return Err(Error::changed("no lanes were asked for"));
    };
    // The deliveries that are left out have to be at the end of their lane.
    heads.sort_by_key(|head| (head.destination_id, head.due_at, head.id));
    let mut due = Due { rows: Vec::new(), events: HashMap::new(), left_out: HashSet::new(), read_at };
    let (mut body_bytes, mut bytes) = (0, 0);
    for heads in heads.chunks(EVENTS_AT_ONCE) {
        if bytes >= MOST_BYTES {
            due.left_out.extend(heads.iter().filter_map(|head| head.destination_id).map(DestinationId::from_uuid));
            continue;
        }
        let wanted = heads.iter().filter_map(|head| head.event_id);
        let wanted = wanted.filter(|id| !due.events.contains_key(&EventId::from_uuid(*id)));
        for event in events(pool, wanted.collect(), bodies && body_bytes < MOST_BODY_BYTES).await? {
            let of_body = event.body.as_ref().map_or(0, Vec::len);
            body_bytes += of_body;
            bytes += of_body + usize::try_from(event.head_size).unwrap_or(0);
            due.events.insert(event.meta.id, event);
        }
        due.rows.extend(heads.iter().filter_map(|head| {
            Some(DueRow {
                id: DeliveryId::from_uuid(head.id?),
                destination_id: DestinationId::from_uuid(head.destination_id?),
                event_id: EventId::from_uuid(head.event_id?),
                route_id: head.route_id.map(RouteId::from_uuid),
                route_version: head.route_version?,
                skips: head.skips,
                replay_id: head.replay_id.map(ReplayId::from_uuid),
                due_at: head.due_at?,
                attempts: head.attempts?,
                schedule_start: head.schedule_start?,
                throttled: head.throttled?,
                order_key: head.order_key,
                is_behind: head.is_behind,
                is_next: head.is_next,
                not_sent: head.not_sent?,
                generation: head.generation?,
                expedited: head.expedited,
            })
        }));
    }
    Ok(due)
}

/// The events with these ids, with or without their small bodies. A separate statement, in which the ids are known at
/// planning time: only the partitions of their days are touched. Combined with the statement for the deliveries, it
/// would be a join that reads all of history.
pub(super) async fn events(pool: &Pool, mut ids: Vec<Uuid>, bodies: bool) -> Result<Vec<EventRow>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    ids.sort_unstable();
    ids.dedup();
    sqlx::query!(
        r#"select events.id as "id!: As<EventId>", source_id as "source_id!: As<SourceId>", received_at,
                  type as event_type, provider_event_id, method, query, headers,
                  octet_length(headers::text) + octet_length(query) as "head_size!", body as "body?", body_size
           from events left join event_bodies
                on event_bodies.event_id = events.id and event_bodies.event_id = any($1) and body_size <= $2
           where events.id = any($1)"#,
        &ids,
        if bodies { SMALL_BODY_BYTES } else { -1 }
    )
    .map(|row| EventRow { meta: meta!(row), head_size: row.head_size, body: row.body, body_size: row.body_size })
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// When the first delivery of a lane is due.
pub struct NextDueRow {
    pub destination_id: DestinationId,
    pub lane: Lane,
    /// `None` if all deliveries of the lane are held.
    pub due_at: Option<OffsetDateTime>,
}

/// The result of a scan.
pub struct Scan {
    /// The version of the configuration.
    pub version: Version,
    pub lanes: Vec<NextDueRow>,
    /// The time by the database's clock.
    pub now: OffsetDateTime,
    /// Whether there are signals that this replica has not read.
    pub signals: bool,
    /// The oldest transaction that was running at the time of the scan.
    pub horizon: i64,
    /// Whether there are expedited deliveries.
    pub expedited: bool,
}

/// When the first delivery of each lane is due, whether in the past or the future. Returns the first `limit` lanes
/// after `after` that have deliveries, of all destinations, in the order of their destinations and numbers. The
/// statement also returns the version of the configuration, whether there are signals after `position`, and whether any
/// delivery is expedited, so that a relay without work needs only this one statement.
///
/// Each lane costs one probe of the index, however many deliveries it has. A lane without deliveries costs nothing.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn next_due(pool: &Pool, after: (Uuid, i16), limit: i64, position: &Position) -> Result<Scan> {
    let rows = sqlx::query!(
        r#"with recursive heads as (
               (select destination_id, lane, due_at from pending_deliveries
                where (destination_id, lane) > ($1, $2::smallint)
                order by destination_id, lane, due_at, id limit 1)
               union all
               select next.* from heads cross join lateral (
                   select destination_id, lane, due_at from pending_deliveries
                   where (destination_id, lane) > (heads.destination_id, heads.lane)
                   order by destination_id, lane, due_at, id limit 1
               ) next
           )
           select configuration.revision, configuration.identity, now() as "now!",
                  exists (select from delivery_signals where written_by >= $4 and id <> all($5)) as "signals!",
                  pg_snapshot_xmin(pg_current_snapshot())::text::bigint as "horizon!",
                  exists (select from pending_deliveries where expedited_at is not null) as "expedited!",
                  first.destination_id as "destination_id?", first.lane as "lane?",
                  nullif(first.due_at, 'infinity') as due_at
           from configuration left join (select destination_id, lane, due_at from heads limit $3) first on true"#,
        after.0,
        after.1,
        limit,
        position.from(),
        &position.seen()
    )
    .fetch_all(pool)
    .await?;
    // There is a row even if there are no lanes.
    let Some(first) = rows.first() else { return Err(Error::changed("the row of the configuration is gone")) };
    let version = Version { revision: first.revision, identity: first.identity };
    let (signals, horizon, expedited) = (first.signals, first.horizon, first.expedited);
    let now = first.now;
    let lanes = rows.into_iter().filter_map(|row| {
        let (destination_id, lane) = (DestinationId::from_uuid(row.destination_id?), Lane::from_number(row.lane?)?);
        Some(NextDueRow { destination_id, lane, due_at: row.due_at })
    });
    Ok(Scan { version, lanes: lanes.collect(), now, signals, horizon, expedited })
}

/// The body of an event; `None` if it is no longer kept.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn body(pool: &Pool, event: EventId) -> Result<Option<Vec<u8>>> {
    let mut connection = pool.acquire().await?;
    let body: Option<Vec<u8>> = sqlx::query_scalar!("select body from event_bodies where event_id = $1", event.uuid())
        .fetch_optional(&mut connection)
        .await?;
    if body.as_ref().is_some_and(|body| body.len() > LARGE_BYTES) {
        connection.shrink_buffers();
    }
    Ok(body)
}
