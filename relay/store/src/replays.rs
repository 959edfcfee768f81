//! Replays: which rows they take, their progress, and the deliveries they make.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use model::delivery::DeliveryState;
use model::replay::ReplayState;
use shared::id::{CustomerId, DeliveryId, DestinationId, EventId, ReplayId, RouteId, SourceId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::admit::held_by;
use super::audit::{self, NewEntry};
use super::column::{As, Maybe};
use super::configuration::Version;
use super::copies::{self, lock_events};
use super::keys;
use super::new_event::{Claim, Undecided};
use super::search::{self, Order, Range, Search, remaining};
use super::undecided::FIRST_PAUSE_S;
use crate::{Connection, Error, Pool, ROWS_AT_ONCE, Result};

pub mod begun;
mod count;
pub mod counts;
pub mod events;
mod steering;

pub use self::count::{Count, counted, counting};
pub use self::steering::{Steered, pause, resume, set_rate};

/// The rows that a replay takes, with ids instead of names.
#[derive(Debug, Clone)]
pub struct Selection {
    pub customer_id: CustomerId,
    pub source_id: Option<SourceId>,
    pub destination_id: Option<DestinationId>,
    pub event_type: Option<String>,
    /// If set, the replay takes deliveries in this state; otherwise events.
    pub state: Option<DeliveryState>,
    pub error: Option<String>,
    /// For events: whether to take those in quarantine, or all others.
    pub failed: bool,
    /// The range of event ids.
    pub events: Range,
    /// For events: only these. `None` for all of the range.
    pub only: Option<Vec<Uuid>>,
    /// The range of the ids of the taken rows: deliveries if there is a state, otherwise events.
    pub ids: Range,
    /// Rows that were stored, or for deliveries settled, later than this are not taken.
    pub made_at: OffsetDateTime,
}

impl Selection {
    /// The id of the last of the first `rows` rows that the selection has to read; see [`Search::edge`].
    async fn edge(&self, pool: &Pool, range: Range, rows: i64, plain: bool) -> Result<Option<Uuid>> {
        match (self.state, plain) {
            (None, false) => {
                let sources = self.source_id.as_ref().map(std::slice::from_ref);
                let by = search::Events { sources, in_quarantine: self.failed };
                by.edge(pool, Order::OldestFirst, range, rows).await
            }
            (None, true) => search::Events::default().edge(pool, Order::OldestFirst, range, rows).await,
            (Some(state), false) => {
                let destinations = self.destination_id.as_ref().map(std::slice::from_ref);
                let by = search::Settled { destinations, state: Some(state) };
                by.edge(pool, Order::OldestFirst, range, rows).await
            }
            (Some(_), true) => search::Settled::default().edge(pool, Order::OldestFirst, range, rows).await,
        }
    }
}

/// A stored replay.
#[derive(Debug, Clone)]
pub struct ReplayRow {
    pub id: ReplayId,
    pub customer_id: CustomerId,
    pub filter: serde_json::Value,
    pub destination_id: Option<DestinationId>,
    pub rate_limit: Option<i32>,
    pub rate_per: Option<String>,
    pub state: ReplayState,
    /// How many rows it takes; while `counting`, how many have been found so far.
    pub matched: i64,
    pub counting: bool,
    /// The id of the last counted row.
    pub count_after: Option<Uuid>,
    pub until_id: Uuid,
    pub cursor_id: Option<Uuid>,
    pub next_at: OffsetDateTime,
    pub processed: i64,
    pub created: i64,
    pub skipped: i64,
    pub succeeded: i64,
    pub dead: i64,
    pub cancelled: i64,
    pub error: Option<String>,
    pub created_at: OffsetDateTime,
    pub finished_at: Option<OffsetDateTime>,
    /// How many times a chunk was begun without finishing when the cursor was `begun_after`; see [`Self::begun_here`].
    pub begun: i16,
    pub begun_after: Option<Uuid>,
    /// Until then no other replica begins the chunk at the cursor.
    pub begun_until: Option<OffsetDateTime>,
    /// The last error with which a chunk after `begun_after` ended: a database error or a panic.
    pub begun_error: Option<String>,
    /// When a caller paused it; `None` if it is not paused.
    pub paused_at: Option<OffsetDateTime>,
    pub updated_at: OffsetDateTime,
}

impl ReplayRow {
    /// How many times a chunk was begun at the current cursor without finishing.
    #[must_use]
    pub fn begun_here(&self) -> i16 {
        if self.begun_after == self.cursor_id { self.begun } else { 0 }
    }
}

/// The query for the [`ReplayRow`]s that a condition selects.
macro_rules! replay_rows {
    ($condition:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            ReplayRow,
            r#"select id as "id!: As<ReplayId>", customer_id as "customer_id!: As<CustomerId>", filter,
                      destination_id as "destination_id!: Maybe<DestinationId>", rate_limit, rate_per,
                      case when paused_at is not null and state = 'running' then 'paused' else state end
                          as "state!: As<ReplayState>",
                      matched, until_id, cursor_id, next_at, processed, created, skipped, succeeded, dead, cancelled, error,
                      created_at, finished_at, begun, begun_after, begun_until, begun_error, counting, count_after,
                      paused_at, updated_at
               from replays "# + $condition
            $(, $argument)*
        )
    };
}
use replay_rows;

/// Replays by their ids; `customer` is `None` for those of all customers.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn several(pool: &Pool, customer: Option<CustomerId>, ids: &[ReplayId]) -> Result<Vec<ReplayRow>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let customer = customer.map(CustomerId::uuid);
    let rows = replay_rows!("where id = any($1) and ($2::uuid is null or customer_id = $2)", &ids, customer);
    rows.fetch_all(pool).await.map_err(Error::from)
}

/// A settled delivery that a replay has reached.
#[derive(Debug)]
pub struct DeliveryRow {
    pub id: DeliveryId,
    pub event_id: EventId,
    pub source_id: SourceId,
    pub destination_id: DestinationId,
    pub route_id: Option<RouteId>,
    /// Whether no filter has approved it.
    pub undecided: bool,
    /// Whether the body of its event is still kept.
    pub body: bool,
}

/// A delivery that a replay makes.
pub struct Made {
    pub id: DeliveryId,
    pub destination_id: DestinationId,
    pub event_id: EventId,
    pub source_id: SourceId,
    pub route_id: Option<RouteId>,
    /// The version of the route; `None` means the last version of a deleted route.
    pub route_version: Option<i32>,
    /// How long it waits before its first attempt.
    pub first_wait: Duration,
    /// Why it is not sent before its route has been evaluated again.
    pub undecided: Option<Undecided>,
}

/// A chunk of a replay.
#[derive(Default)]
pub struct Chunk {
    /// The id of the last row taken; `None` if there were no rows left.
    pub cursor: Option<Uuid>,
    pub processed: usize,
    /// How many of these cannot be delivered again, because the body is past its retention.
    pub skipped: usize,
    pub made: Vec<Made>,
    /// The events that this chunk releases from quarantine. If there are any, deliveries are made only for them.
    pub released: Vec<EventId>,
    /// Their keys: if such an event arrives again afterwards, it is a copy.
    pub claims: Vec<Claim>,
}

/// The result of storing a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advanced {
    /// Committed: the deliveries are made and the cursor is at the end of the chunk.
    Moved,
    /// Nothing was written: another replica has moved the cursor, or the replay has ended, was paused, or has another
    /// rate.
    Elsewhere,
    /// Nothing was written: the configuration has changed since the chunk was routed.
    StaleConfiguration,
}

/// A search for the next deliveries of a selection with a state, oldest first.
#[derive(Debug)]
pub struct NextDeliveries<'a> {
    pub selection: &'a Selection,
    /// How many deliveries are enough.
    pub limit: i64,
    pub found: Vec<DeliveryRow>,
}

impl Search for NextDeliveries<'_> {
    async fn edge(&self, pool: &Pool, range: Range, rows: i64, plain: bool) -> Result<Option<Uuid>> {
        self.selection.edge(pool, range, rows, plain).await
    }

    async fn look(&mut self, pool: &Pool, range: Range) -> Result<bool> {
        let wanted = remaining(self.limit, self.found.len());
        self.found.extend(next_deliveries(pool, self.selection, range, wanted).await?);
        Ok(remaining(self.limit, self.found.len()) == 0)
    }
}

/// The deliveries of a range of ids that a selection with a state takes, oldest first. Only the last delivery of an
/// event to a destination counts, so that an event that has since been replayed successfully is not sent again.
async fn next_deliveries(pool: &Pool, selection: &Selection, range: Range, limit: i64) -> Result<Vec<DeliveryRow>> {
    let mut search = pool.begin_range().await?;
    sqlx::query_as!(
        DeliveryRow,
        r#"select id as "id!: As<DeliveryId>", event_id as "event_id!: As<EventId>",
                  source_id as "source_id!: As<SourceId>", destination_id as "destination_id!: As<DestinationId>",
                  route_id as "route_id!: Maybe<RouteId>", undecided,
                  exists (select from event_bodies where event_bodies.event_id = settled.event_id) as "body!"
           from settled_deliveries settled
           where customer_id = $1 and state = $2 and id >= $3 and id < $4 and settled_at <= $13
             and event_id >= $5 and event_id < $6
             and ($7::uuid is null or source_id = $7) and ($8::uuid is null or destination_id = $8)
             and ($9::text is null or error = $9)
             and ($10::text is null or exists (
                 select from events where events.id = settled.event_id and events.type = $10))
             and not exists (
                 select from settled_deliveries later
                 where later.event_id = settled.event_id and later.destination_id = settled.destination_id
                   and later.id > settled.id and later.id < $11)
             and not exists (
                 select from pending_deliveries pending
                 where pending.event_id = settled.event_id and pending.destination_id = settled.destination_id
                   and pending.id < $11
                 -- Asked for each row: as a join it would read all that is pending, for every chunk.
                 offset 0)
           order by id limit $12"#,
        selection.customer_id.uuid(),
        selection.state.map(DeliveryState::name),
        range.from,
        range.until,
        selection.events.from,
        selection.events.until,
        selection.source_id.map(SourceId::uuid),
        selection.destination_id.map(DestinationId::uuid),
        selection.error,
        selection.event_type,
        selection.ids.until,
        limit,
        selection.made_at
    )
    .fetch_all(&mut *search)
    .await
    .map_err(Error::from)
}

/// The greatest stored ids that are in the future, if any. Such ids exist because they come from the clocks of edges
/// and relays.
#[derive(Debug, Clone, Copy)]
pub struct Newest {
    /// The time by the database's clock.
    pub now: OffsetDateTime,
    /// The greatest id of an event.
    pub event_id: Option<EventId>,
    /// The greatest id of a delivery, pending or settled.
    pub delivery_id: Option<DeliveryId>,
}

/// Reads the greatest stored ids from `from` on, which is the present time. Only the partitions of today and the coming
/// days are touched, so a day of history that cannot be read does not prevent a replay from being created.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn newest(pool: &Pool, from: Uuid) -> Result<Newest> {
    sqlx::query_as!(
        Newest,
        r#"select now() as "now!",
                  (select id from events where id >= $1 order by id desc limit 1) as "event_id!: Maybe<EventId>",
                  greatest((select id from settled_deliveries where id >= $1 order by id desc limit 1),
                           (select id from pending_deliveries where id >= $1 order by id desc limit 1))
                      as "delivery_id!: Maybe<DeliveryId>""#,
        from
    )
    .fetch_one(pool)
    .await
    .map_err(Error::from)
}

/// Stores a new replay.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn insert(pool: &Pool, replay: &ReplayRow, entry: &NewEntry) -> Result<()> {
    let mut transaction = pool.begin().await?;
    sqlx::query!(
        "insert into replays (id, customer_id, filter, destination_id, rate_limit, rate_per, state, matched, until_id, counting,
                              count_after, created_at)
         values ($1, $2, $3, $4, $5, $6, 'running', $7, $8, $9, $10, $11)",
        replay.id.uuid(),
        replay.customer_id.uuid(),
        replay.filter,
        replay.destination_id.map(DestinationId::uuid),
        replay.rate_limit,
        replay.rate_per,
        replay.matched,
        replay.until_id,
        replay.counting,
        replay.count_after,
        replay.created_at
    )
    .execute(&mut *transaction)
    .await?;
    audit::record(&mut transaction, entry).await?;
    transaction.commit().await
}

/// One replay of a customer.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn find(pool: &Pool, customer: CustomerId, id: ReplayId) -> Result<Option<ReplayRow>> {
    replay_rows!("where customer_id = $1 and id = $2", customer.uuid(), id.uuid())
        .fetch_optional(pool)
        .await
        .map_err(Error::from)
}

/// The replays of a customer, or of all customers, newest first.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn page(
    pool: &Pool,
    customer: Option<CustomerId>,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ReplayRow>> {
    replay_rows!(
        "where (customer_id = $1 or $1::uuid is null) and ($2::uuid is null or id < $2) order by id desc limit $3",
        customer.map(CustomerId::uuid),
        before,
        limit
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// The most held deliveries of a replay that are counted.
pub const HELD_COUNTED: i64 = 10_000;

/// The number of held deliveries of each of these replays, counted up to [`HELD_COUNTED`]. Replays without any are left
/// out.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn held(pool: &Pool, ids: &[ReplayId]) -> Result<HashMap<ReplayId, i64>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        r#"select replay.id as "id!", held.count as "count!" from unnest($1::uuid[]) as replay (id)
           cross join lateral (
               select count(*) as count from (
                   select from pending_deliveries pending
                   where pending.replay_id = replay.id and pending.due_at = 'infinity' limit $2
               ) held
           ) held
           where held.count > 0"#,
        &ids,
        HELD_COUNTED
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (ReplayId::from_uuid(row.id), row.count)).collect())
}

/// The running replays of all customers that are not paused. Those with the fewest unfinished starts come first, because a replay that
/// repeatedly crashes the relay must not keep the others from progressing. Then the order is by when they are due.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn running(pool: &Pool) -> Result<Vec<ReplayRow>> {
    replay_rows!("where state = 'running' and paused_at is null order by begun, next_at, id")
        .fetch_all(pool)
        .await
        .map_err(Error::from)
}

/// Makes the deliveries of a chunk, routed by the configuration `version`, releases its events, and moves the cursor to
/// its end, in one transaction. No deliveries are made for an event that another call has released in the meantime.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written.
pub async fn advance(
    pool: &Pool,
    replay: &ReplayRow,
    version: Version,
    chunk: &Chunk,
    pause: Duration,
    dedupe_days: i32,
) -> Result<Advanced> {
    let mut transaction = pool.begin().await?;
    super::configuration::hold(&mut transaction).await?;
    if super::configuration::version(&mut *transaction).await? != version {
        return Ok(Advanced::StaleConfiguration);
    }
    if !chunk.claims.is_empty() {
        let window = keys::window(&mut transaction, dedupe_days).await?;
        copies::claim(&mut transaction, &chunk.claims, window).await?;
    }
    let released = release(&mut transaction, &chunk.released).await?;
    let is_due = |made: &&Made| chunk.released.is_empty() || released.contains(&made.event_id);
    let made: Vec<&Made> = chunk.made.iter().filter(is_due).collect();
    // Not one statement for all: its run time would grow with the number of destinations.
    for made in made.chunks(ROWS_AT_ONCE) {
        insert_made(&mut transaction, replay, made).await?;
    }
    // Last, so that the row is locked only briefly: other transactions count their settlements in it.
    let moved = sqlx::query!(
        "update replays set cursor_id = $3, processed = processed + $4, created = created + $5, skipped = skipped + $6,
                            next_at = greatest(next_at, now() - interval '1 second') + $7::float8 * interval '1 second',
                            begun = 0, begun_until = null, begun_error = null, updated_at = now()
         where id = $1 and state = 'running' and cursor_id is not distinct from $2 and next_at <= now()
           and rate_limit is not distinct from $8 and rate_per is not distinct from $9",
        replay.id.uuid(),
        replay.cursor_id,
        chunk.cursor,
        i64::try_from(chunk.processed).unwrap_or(i64::MAX),
        i64::try_from(made.len()).unwrap_or(i64::MAX),
        i64::try_from(chunk.skipped).unwrap_or(i64::MAX),
        pause.as_secs_f64(),
        replay.rate_limit,
        replay.rate_per
    )
    .execute(&mut *transaction)
    .await?;
    if moved.rows_affected() == 0 {
        return Ok(Advanced::Elsewhere);
    }
    transaction.commit_changes().await?;
    Ok(Advanced::Moved)
}

async fn insert_made(connection: &mut Connection, replay: &ReplayRow, made: &[&Made]) -> Result<()> {
    let ids: Vec<Uuid> = made.iter().map(|made| made.id.uuid()).collect();
    let destinations: Vec<Uuid> = made.iter().map(|made| made.destination_id.uuid()).collect();
    let events: Vec<Uuid> = made.iter().map(|made| made.event_id.uuid()).collect();
    let sources: Vec<Uuid> = made.iter().map(|made| made.source_id.uuid()).collect();
    let routes: Vec<Option<Uuid>> = made.iter().map(|made| made.route_id.map(RouteId::uuid)).collect();
    let versions: Vec<Option<i32>> = made.iter().map(|made| made.route_version).collect();
    let waits: Vec<f64> = made.iter().map(|made| made.first_wait.as_secs_f64()).collect();
    let undecided = || made.iter().map(|made| made.undecided.as_ref());
    let held: Vec<Option<&str>> = undecided().map(|undecided| undecided.map(|why| why.reason.as_str())).collect();
    let again: Vec<bool> = undecided().map(|undecided| undecided.is_some_and(|why| why.again)).collect();
    let held_by = held_by(undecided());
    sqlx::query!(
        "insert into pending_deliveries (id, customer_id, destination_id, event_id, source_id, route_id, replay_id, due_at,
                                         not_before, held_reason, held_by, held_at, undecided, decide_at,
                                         route_version)
         select id, $6, destination_id, event_id, source_id, route_id, $7,
                case when held_reason is null then now() + wait_s * interval '1 second' else 'infinity' end,
                case when wait_s > 0 then now() + wait_s * interval '1 second' end, held_reason, held_by,
                case when held_reason is not null then now() end, held_reason is not null,
                case when again then now() + $10::float8 * interval '1 second' end,
                coalesce(route_version, (select max(version) from route_versions kept where kept.route_id = made.route_id), 1)
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $8::text[], $9::bool[],
                     $11::text[], $12::int[], $13::float8[])
              as made (id, destination_id, event_id, source_id, route_id, held_reason, again, held_by, route_version,
                       wait_s)
         where exists (select from destinations where destinations.id = made.destination_id)",
        &ids,
        &destinations,
        &events,
        &sources,
        &routes as &[Option<Uuid>],
        replay.customer_id.uuid(),
        replay.id.uuid(),
        &held as &[Option<&str>],
        &again,
        FIRST_PAUSE_S,
        &held_by as &[&str],
        &versions as &[Option<i32>],
        &waits
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Marks events as released and returns those that were still in quarantine.
async fn release(connection: &mut Connection, events: &[EventId]) -> Result<HashSet<EventId>> {
    if events.is_empty() {
        return Ok(HashSet::new());
    }
    let events: Vec<Uuid> = events.iter().map(|id| id.uuid()).collect();
    lock_events(connection, &events).await?;
    let released = sqlx::query_scalar!(
        "update events set verification = 'released' where id = any($1) and verification = 'failed' returning id",
        &events
    )
    .fetch_all(connection)
    .await?;
    Ok(released.into_iter().map(EventId::from_uuid).collect())
}

/// Marks a replay as completed. If its rows have not all been counted, the number matched becomes the number taken. It
/// is never less than that: rows that were being stored when the replay was created may have been counted before their
/// commit and taken after it.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn complete(pool: &Pool, id: ReplayId) -> Result<()> {
    sqlx::query!(
        "update replays set state = 'completed', finished_at = now(), counting = false, updated_at = now(),
                            matched = case when counting then processed else greatest(matched, processed) end
         where id = $1 and state = 'running' and paused_at is null",
        id.uuid()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Cancels a replay, so that it makes no more deliveries. Returns false if it was already cancelled.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn cancel(pool: &Pool, id: ReplayId, entry: &NewEntry) -> Result<bool> {
    let mut transaction = pool.begin().await?;
    let cancelled = sqlx::query!(
        "update replays set state = 'cancelled', finished_at = coalesce(finished_at, now()), updated_at = now()
         where id = $1 and state <> 'cancelled'",
        id.uuid()
    )
    .execute(&mut *transaction)
    .await?;
    if cancelled.rows_affected() > 0 {
        audit::record(&mut transaction, entry).await?;
    }
    transaction.commit().await?;
    Ok(cancelled.rows_affected() > 0)
}

/// Cancels up to `limit` pending deliveries of a replay and returns whether any are left. Deliveries that other
/// transactions have locked count as left: the caller tries again after a moment. The engines of all replicas read one
/// signal for all of them.
///
/// # Errors
/// Returns an error if a query fails; some deliveries may already be cancelled.
pub async fn cancel_pending(pool: &Pool, id: ReplayId, limit: i64) -> Result<Left> {
    let cancelled = sqlx::query_scalar!(
        r#"with ended as (
               delete from pending_deliveries
               where id = any(array(select id from pending_deliveries where replay_id = $1
                                    order by id limit $2 for update skip locked))
               returning *
           ), moved as (
               insert into settled_deliveries (id, customer_id, destination_id, event_id, source_id, route_id, replay_id,
                                               state, attempts, schedule_start, undecided)
               select id, customer_id, destination_id, event_id, source_id, route_id, replay_id, 'cancelled', attempts,
                      schedule_start, undecided
               from ended
               returning id
           ), counted as (
               update replays set cancelled = cancelled + (select count(*) from moved) where id = $1
           ), signalled as (
               insert into delivery_signals (replay_id) select $1::uuid where exists (select from ended)
           )
           select count(*) as "count!" from moved"#,
        id.uuid(),
        limit
    )
    .fetch_one(pool)
    .await?;
    if cancelled > 0 {
        pool.note_changes();
        return Ok(Left::More);
    }
    let locked = sqlx::query_scalar!(
        r#"select exists (select from pending_deliveries where replay_id = $1) as "pending!""#,
        id.uuid()
    )
    .fetch_one(pool)
    .await?;
    Ok(if locked { Left::Locked } else { Left::Nothing })
}

/// Which pending deliveries of a replay are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// There may be more.
    More,
    /// Only deliveries that other transactions have locked, for instance because an attempt is being settled.
    Locked,
    Nothing,
}
