//! Deliveries, both pending and settled, as the API shows and changes them.

use std::collections::{BTreeMap, HashMap};

use model::delivery::DeliveryState;
use model::held_by::HeldBy;
use serde::{Deserialize, Serialize};
use shared::id::{
    AttemptId, CustomerId, DeliveryId, DestinationId, EventId, ReplayId, RouteId, SourceId, uuid_v7_floor, uuid_v7_ms,
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, NewEntry};
use super::body_retention;
use super::column::{As, Maybe};
use super::held::{self, Release, Released};
use super::own;
use super::replays::{self, counts::Counts};
use super::search::{self, Order, Range, Search, remaining};
use super::undecided::NOT_APPROVED;
use crate::{Connection, Error, Pool, Result};

/// The largest difference between two clocks of Tidegate, in milliseconds, at which all attempts of a delivery and all
/// deliveries of an event are still found.
pub const CLOCK_DIFFERENCE_MS: u64 = 24 * 60 * 60 * 1000;

/// A delivery, in whichever table it is stored.
#[derive(Debug, Clone)]
pub struct DeliveryRow {
    pub id: DeliveryId,
    pub event_id: EventId,
    pub source_id: SourceId,
    pub destination_id: DestinationId,
    /// `None` if the destination has been deleted.
    pub destination_name: Option<String>,
    pub route_id: Option<RouteId>,
    pub replay_id: Option<ReplayId>,
    pub state: DeliveryState,
    /// Also `None` if it is held because its destination is in [`Selection::unusable`].
    pub held_reason: Option<String>,
    /// What holds it, if it is held individually.
    pub held_by: Option<HeldBy>,
    /// When the next attempt is due; `None` if there is none.
    pub due_at: Option<OffsetDateTime>,
    /// Whether `due_at` has passed, by the database's clock.
    pub is_due: bool,
    /// An operator has retried it, and no attempt has been made since.
    pub expedited: bool,
    /// An earlier delivery of its order key has to be sent first.
    pub is_behind: bool,
    /// The end of the back-off of its destination, if it is in the future.
    pub back_off_until: Option<OffsetDateTime>,
    /// Until when the breaker of its destination is open, if that is in the future.
    pub open_until: Option<OffsetDateTime>,
    pub attempts: i16,
    pub error: Option<String>,
    pub reason: Option<String>,
    pub settled_at: Option<OffsetDateTime>,
}

/// Which deliveries to return. An operation stores it, so a relay refuses one with a filter that it does not know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    pub event: Option<EventId>,
    pub destination: Option<DestinationId>,
    pub state: Option<DeliveryState>,
    /// Only pending and held deliveries. With `state` it has no meaning.
    #[serde(default)]
    pub unsettled: bool,
    /// The error class of the last attempt; only settled deliveries have one.
    pub error: Option<String>,
    /// Whether they were made by a replay.
    pub replayed: Option<bool>,
    /// The route that made them.
    pub route: Option<RouteId>,
    /// The first digit of the status of their last attempt.
    pub status_class: Option<i16>,
    /// The replay that made them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayId>,
    /// The deliveries themselves. An operation looks them up, and a list does not have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<DeliveryId>,
    /// Destinations that this relay cannot use: their pending deliveries are shown as held.
    #[serde(skip)]
    pub unusable: Vec<DestinationId>,
}

/// What `$4` of [`delivery_page`] is for pending and held deliveries together. No state has this name.
const UNSETTLED: &str = "unsettled";

impl Selection {
    /// Whether it has any settled deliveries.
    fn has_settled(&self) -> bool {
        self.state.map_or(!self.unsettled, DeliveryState::is_settled)
    }

    /// Whether it has any pending or held deliveries.
    fn has_unsettled(&self) -> bool {
        self.error.is_none() && self.state.is_none_or(|state| !state.is_settled())
    }
}

/// A search for a page of deliveries, newest first.
#[derive(Debug)]
pub struct Page {
    /// `None` for all customers.
    customer: Option<CustomerId>,
    selection: Selection,
    /// The destinations by whose indexes the deliveries are read. `None` to read among all deliveries.
    destinations: Option<Vec<DestinationId>>,
    /// How many deliveries are enough.
    limit: i64,
    pub found: Vec<DeliveryRow>,
}

impl Page {
    /// A search that has found nothing yet. `customer` is `None` for all customers; `limit` is how many deliveries are
    /// enough.
    ///
    /// # Errors
    /// Returns an error if the query for the customer's destinations fails.
    pub async fn begin(pool: &Pool, customer: Option<CustomerId>, selection: Selection, limit: i64) -> Result<Self> {
        let destinations = match (selection.destination, customer) {
            // An event has few deliveries, and an index leads to them.
            _ if selection.event.is_some() => None,
            (Some(destination), _) => Some(vec![destination]),
            (None, Some(customer)) => own::destinations(pool, customer).await?,
            (None, None) => None,
        };
        Ok(Self { customer, selection, destinations, limit, found: Vec::new() })
    }

    async fn settled_edge(&self, pool: &Pool, range: Range, rows: i64, plain: bool) -> Result<Option<Uuid>> {
        let state = self.selection.state;
        if !self.selection.has_settled() {
            return Ok(None);
        }
        let by = search::Settled { destinations: self.destinations.as_deref(), state };
        let by = if plain { search::Settled::default() } else { by };
        by.edge(pool, Order::NewestFirst, range, rows).await
    }

    async fn pending_edge(&self, pool: &Pool, range: Range, rows: i64, plain: bool) -> Result<Option<Uuid>> {
        if !self.selection.has_unsettled() {
            return Ok(None);
        }
        let by = search::Pending { destinations: self.destinations.as_deref().filter(|_| !plain) };
        by.edge(pool, range, rows).await
    }
}

impl Search for Page {
    async fn edge(&self, pool: &Pool, range: Range, rows: i64, plain: bool) -> Result<Option<Uuid>> {
        if self.selection.event.is_some() && !plain {
            return Ok(None);
        }
        let settled = self.settled_edge(pool, range, rows, plain).await?;
        let range = Range { from: settled.unwrap_or(range.from), ..range };
        // Within the range of one table, the other table may have more rows than `rows`.
        Ok(self.pending_edge(pool, range, rows, plain).await?.or(settled))
    }

    async fn look(&mut self, pool: &Pool, range: Range) -> Result<bool> {
        let wanted = remaining(self.limit, self.found.len());
        let destinations = self.destinations.as_deref();
        let Some(class) = self.selection.status_class else {
            self.found.extend(page(pool, self.customer, &self.selection, destinations, range, wanted).await?);
            return Ok(remaining(self.limit, self.found.len()) == 0);
        };
        // What was found counts only after the whole range was read: a part that takes too long is read again.
        let (mut found, mut rest) = (Vec::new(), range);
        loop {
            let rows = page(pool, self.customer, &self.selection, destinations, rest, WITH_STATUS_AT_ONCE).await?;
            let is_end = i64::try_from(rows.len()).is_ok_and(|rows| rows < WITH_STATUS_AT_ONCE);
            rest.until = rows.last().map_or(rest.from, |row| row.id.uuid());
            let ids: Vec<Uuid> = rows.iter().filter(|row| row.attempts > 0).map(|row| row.id.uuid()).collect();
            let statuses = last_statuses(pool, &ids).await?;
            found.extend(
                rows.into_iter().filter(|row| statuses.get(&row.id).is_some_and(|status| status / 100 == class)),
            );
            if remaining(wanted, found.len()) == 0 || is_end {
                break;
            }
        }
        found.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        self.found.extend(found);
        Ok(remaining(self.limit, self.found.len()) == 0)
    }
}

/// How many deliveries are read at a time if those with a certain status are wanted.
const WITH_STATUS_AT_ONCE: i64 = 2_000;

/// The status of the last attempt of each of these deliveries, of those that have one. `ids` are those of a range,
/// newest first.
async fn last_statuses(pool: &Pool, ids: &[Uuid]) -> Result<HashMap<DeliveryId, i16>> {
    let Some(oldest) = ids.last() else { return Ok(HashMap::new()) };
    // No attempt is older than its delivery, so earlier days are not searched.
    let first = uuid_v7_floor(uuid_v7_ms(*oldest).saturating_sub(CLOCK_DIFFERENCE_MS));
    let mut search = pool.begin_range().await?;
    let rows = sqlx::query!(
        r#"select distinct on (delivery_id) delivery_id as "delivery_id!: As<DeliveryId>", status
           from attempts where delivery_id = any($1) and id >= $2
           order by delivery_id, number desc"#,
        ids,
        first
    )
    .fetch_all(&mut *search)
    .await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.delivery_id.into(), row.status?))).collect())
}

/// The attempts with the same result.
#[derive(Debug, Clone)]
pub struct ResultRow {
    /// The error class; `None` if they succeeded.
    pub error: Option<String>,
    /// The status of the response; `None` if there was none.
    pub status: Option<i16>,
    pub count: i64,
    /// When the last of them started.
    pub last_at: OffsetDateTime,
}

/// The attempts of these deliveries by their result, the most frequent first, at most `limit` results.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn results(pool: &Pool, deliveries: &[DeliveryId], limit: i64) -> Result<Vec<ResultRow>> {
    let ids: Vec<Uuid> = deliveries.iter().map(|id| id.uuid()).collect();
    let Some(oldest) = ids.iter().min() else { return Ok(Vec::new()) };
    // No attempt is older than its delivery, so earlier days are not searched.
    let first = uuid_v7_floor(uuid_v7_ms(*oldest).saturating_sub(CLOCK_DIFFERENCE_MS));
    let mut search = pool.begin_range().await?;
    Ok(sqlx::query_as!(
        ResultRow,
        r#"select error, status, count(*) as "count!", max(started_at) as "last_at!"
           from attempts where delivery_id = any($1) and id >= $2
           group by error, status order by count(*) desc, max(started_at) desc limit $3"#,
        &ids,
        first,
        limit
    )
    .fetch_all(&mut *search)
    .await?)
}

/// A stored attempt.
#[derive(Debug, Clone)]
pub struct AttemptRow {
    pub id: AttemptId,
    pub number: i16,
    pub started_at: OffsetDateTime,
    pub latency_ms: i32,
    pub status: Option<i16>,
    pub error: Option<String>,
    pub detail: Option<String>,
    pub response_excerpt: Option<String>,
    pub location: Option<String>,
}

/// The matching deliveries of a range of ids, newest first. One statement reads both tables, so that a delivery that is
/// settled concurrently is neither missed nor returned twice. The condition on `replay_id` is deliberately one that the
/// planner cannot estimate: if it expected few matching rows, it would read and sort a whole day instead of following
/// the ids. `$owned` has a row for each destination whose deliveries are read by its indexes, with the condition
/// `$of_owned`.
macro_rules! delivery_page {
    ($owned:literal, $of_owned:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            DeliveryRow,
            r#"select delivery.id as "id!: As<DeliveryId>", event_id as "event_id!: As<EventId>",
                      source_id as "source_id!: As<SourceId>", destination_id as "destination_id!: As<DestinationId>",
                      destination_name as "destination_name?", route_id as "route_id!: Maybe<RouteId>",
                      replay_id as "replay_id!: Maybe<ReplayId>", state as "state!: As<DeliveryState>", held_reason,
                      held_by as "held_by!: Maybe<HeldBy>", due_at, coalesce(due_at <= now(), false) as "is_due!",
                      expedited as "expedited!",
                      state = 'pending' and order_key is not null and attempts = schedule_start and exists (
                          select from pending_deliveries earlier
                          where earlier.destination_id = delivery.destination_id and earlier.order_key = delivery.order_key
                            and earlier.id < delivery.id
                            and (coalesce((select poison from routes where routes.id = delivery.route_id),
                                          (select poison from route_versions kept where kept.route_id = delivery.route_id
                                           order by version desc limit 1), 'block') = 'block'
                                 or earlier.attempts = earlier.schedule_start and earlier.held_reason is null)
                      ) as "is_behind!",
                      back_off_until as "back_off_until?", open_until as "open_until?", attempts as "attempts!", error, reason,
                      settled_at
               from "# + $owned + r#" owned (id) cross join lateral (
                   (select * from (
                        select pending.id, event_id, source_id, destination_id, destinations.name as destination_name, route_id,
                               replay_id,
                               case when held_reason is null and destinations.state = 'active'
                                         and destination_id <> all($9::uuid[]) then 'pending' else 'held' end as state,
                               case when destinations.id is null then 'its destination was deleted; it is being cancelled'
                                    when held_reason is not null then held_reason
                                    when destinations.state = 'paused' then 'the destination is paused'
                                    when destinations.state = 'disabled' then
                                        'the destination is disabled: ' || coalesce(destinations.state_reason, 'no reason given')
                               end as held_reason,
                               case when held_reason is not null then held_by end as held_by,
                               nullif(due_at, 'infinity') as due_at, expedited_at is not null as expedited, order_key,
                               attempts, schedule_start,
                               case when not_sent > 0 then 'not_sent' end as error, not_sent_reason as reason,
                               null::timestamptz as settled_at
                        from pending_deliveries pending left join destinations on destinations.id = destination_id
                        where (pending.customer_id = $1 or $1::uuid is null) and ($2::uuid is null or event_id = $2)
                          and "# + $of_owned + r#" and ($3::uuid is null or destination_id = $3)
                          and ($4::text is null or $4 in ('pending', 'held', 'unsettled')) and $5::text is null
                          and coalesce((replay_id is not null) = $10, true)
                          and coalesce(route_id = $11, $11 is null)
                          and coalesce(replay_id = $12, $12 is null)
                          and pending.id >= $6 and pending.id < $7
                    ) waiting
                    where ($4::text is null or $4 = 'unsettled' or state = $4)
                    order by id desc limit $8)
                   union all
                   (select settled.id, event_id, source_id, destination_id, destinations.name, route_id, replay_id,
                           settled.state, null, null, null, false, null, attempts, schedule_start, error, reason, settled_at
                    from settled_deliveries settled left join destinations on destinations.id = destination_id
                    where (settled.customer_id = $1 or $1::uuid is null) and ($2::uuid is null or event_id = $2)
                      and "# + $of_owned + r#" and ($3::uuid is null or destination_id = $3)
                      and ($4::text is null or settled.state = $4)
                      and ($4::text is null or $4 not in ('pending', 'held', 'unsettled'))
                      and ($5::text is null or error = $5)
                      and coalesce((replay_id is not null) = $10, true)
                      and coalesce(route_id = $11, $11 is null)
                      and coalesce(replay_id = $12, $12 is null)
                      and settled.id >= $6 and settled.id < $7
                    order by settled.id desc limit $8)
               ) delivery
               left join lateral (
                   select case when back_off_until > now() then back_off_until end as back_off_until,
                          case when breaker = 'open' and probe_at > now() then probe_at end as open_until
                   from destination_health where destination_id = delivery.destination_id and delivery.state = 'pending'
               ) health on true
               order by delivery.id desc limit $8"#,
            $($argument),*
        )
    };
}

async fn page(
    pool: &Pool,
    customer: Option<CustomerId>,
    selection: &Selection,
    destinations: Option<&[DestinationId]>,
    range: Range,
    limit: i64,
) -> Result<Vec<DeliveryRow>> {
    let unusable: Vec<Uuid> = selection.unusable.iter().map(|id| id.uuid()).collect();
    let (customer, event) = (customer.map(CustomerId::uuid), selection.event.map(EventId::uuid));
    let destination = selection.destination.map(DestinationId::uuid);
    let (route, replay) = (selection.route.map(RouteId::uuid), selection.replay.map(ReplayId::uuid));
    let state = selection.state.map(DeliveryState::name).or(selection.unsettled.then_some(UNSETTLED));
    let error = selection.error.as_deref();
    let mut search = pool.begin_range().await?;
    let found = match destinations {
        Some(destinations) => {
            let destinations: Vec<Uuid> = destinations.iter().map(|destination| destination.uuid()).collect();
            delivery_page!(
                "unnest($13::uuid[])",
                "destination_id = owned.id",
                customer,
                event,
                destination,
                state,
                error,
                range.from,
                range.until,
                limit,
                &unusable,
                selection.replayed,
                route,
                replay,
                &destinations
            )
            .fetch_all(&mut *search)
            .await
        }
        None => {
            delivery_page!(
                "(values (null::uuid))",
                "true",
                customer,
                event,
                destination,
                state,
                error,
                range.from,
                range.until,
                limit,
                &unusable,
                selection.replayed,
                route,
                replay
            )
            .fetch_all(&mut *search)
            .await
        }
    };
    found.map_err(Error::from)
}

/// The newest deliveries of an event; with `replayed`, only those that were made by a replay, or only those that were
/// not.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn of_event(
    pool: &Pool,
    customer: CustomerId,
    event: EventId,
    replayed: Option<bool>,
    unusable: Vec<DestinationId>,
    limit: i64,
) -> Result<Vec<DeliveryRow>> {
    let selection = Selection { event: Some(event), replayed, unusable, ..Selection::default() };
    page(pool, Some(customer), &selection, None, Range::ALL, limit).await
}

/// One delivery.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn find(
    pool: &Pool,
    customer: CustomerId,
    id: DeliveryId,
    unusable: Vec<DestinationId>,
) -> Result<Option<DeliveryRow>> {
    let selection = Selection { unusable, ..Selection::default() };
    page(pool, Some(customer), &selection, None, Range::one(id.uuid()), 1).await.map(|mut rows| rows.pop())
}

/// Those of these deliveries that are held, individually or together with all deliveries to their destination.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn held_of(
    pool: &Pool,
    customer: CustomerId,
    ids: &[DeliveryId],
    unusable: &[DestinationId],
) -> Result<Vec<DeliveryId>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let unusable: Vec<Uuid> = unusable.iter().map(|id| id.uuid()).collect();
    let held = sqlx::query_scalar!(
        r#"select pending.id as "id!"
           from pending_deliveries pending left join destinations on destinations.id = destination_id
           where pending.id = any($1) and pending.customer_id = $2
             and (held_reason is not null or destinations.state is distinct from 'active'
                  or destination_id = any($3))
           order by pending.id desc"#,
        &ids,
        customer.uuid(),
        &unusable
    )
    .fetch_all(pool)
    .await?;
    Ok(held.into_iter().map(DeliveryId::from_uuid).collect())
}

/// A page of a delivery's attempts, oldest first. The caller has to check with [`find`] that the delivery belongs to
/// the customer.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn attempts(pool: &Pool, id: DeliveryId, cursor: Option<Uuid>, limit: i64) -> Result<Vec<AttemptRow>> {
    // No attempt is older than its delivery, so earlier days are not searched.
    let first = uuid_v7_floor(id.minted_at_ms().saturating_sub(CLOCK_DIFFERENCE_MS));
    sqlx::query_as!(
        AttemptRow,
        r#"select id as "id!: As<AttemptId>", number, started_at, latency_ms, status, error, detail, response_excerpt,
                  location
           from attempts where delivery_id = $1 and id >= $2 and ($3::uuid is null or id > $3)
           order by id limit $4"#,
        id.uuid(),
        first,
        cursor,
        limit
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// An attempt of one of several deliveries.
#[derive(Debug, Clone)]
pub struct AttemptOfRow {
    pub delivery_id: DeliveryId,
    pub number: i16,
    pub started_at: OffsetDateTime,
    pub latency_ms: i32,
    pub status: Option<i16>,
    pub error: Option<String>,
    pub detail: Option<String>,
    /// The beginning of the stored part of the response body.
    pub response_excerpt: Option<String>,
    /// The length of the stored part, in characters.
    pub response_characters: i32,
    pub location: Option<String>,
}

/// The newest attempts of these deliveries, oldest first, with the first `characters` of what each response had. The
/// caller has to check that the deliveries belong to the customer.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn attempts_of(
    pool: &Pool,
    deliveries: &[DeliveryId],
    characters: i32,
    limit: i64,
) -> Result<Vec<AttemptOfRow>> {
    let Some(oldest) = deliveries.iter().min() else { return Ok(Vec::new()) };
    // No attempt is older than its delivery, so earlier days are not searched.
    let first = uuid_v7_floor(oldest.minted_at_ms().saturating_sub(CLOCK_DIFFERENCE_MS));
    let deliveries: Vec<Uuid> = deliveries.iter().map(|id| id.uuid()).collect();
    let mut search = pool.begin_range().await?;
    let mut rows = sqlx::query_as!(
        AttemptOfRow,
        r#"select delivery_id as "delivery_id!: As<DeliveryId>", number, started_at, latency_ms, status, error, detail,
                  left(response_excerpt, $2) as response_excerpt,
                  coalesce(length(response_excerpt), 0) as "response_characters!", location
           from attempts where delivery_id = any($1) and id >= $3
           order by id desc limit $4"#,
        &deliveries,
        characters,
        first,
        limit
    )
    .fetch_all(&mut *search)
    .await?;
    rows.reverse();
    Ok(rows)
}

/// The delivery of an attempt.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn of_attempt(pool: &Pool, attempt: AttemptId) -> Result<Option<DeliveryId>> {
    let delivery = sqlx::query_scalar!("select delivery_id from attempts where id = $1", attempt.uuid());
    Ok(delivery.fetch_optional(pool).await?.map(DeliveryId::from_uuid))
}

/// The result of a manual retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// It is due now.
    Due {
        destination: DestinationId,
    },
    /// No filter has approved it: it stays held, and its route is evaluated now.
    Undecided,
    NotFound,
    DestinationGone,
    /// The body of its event is no longer kept.
    BodyGone,
}

/// How many times a call tries again if other transactions keep moving the delivery between the two tables.
const MOVES: usize = 20;

/// Which of the two tables a delivery is in.
enum Place {
    Pending {
        /// Whether its destination exists; otherwise the delivery is about to be cancelled.
        destination: bool,
    },
    Settled {
        state: DeliveryState,
    },
}

/// Searches both tables for a delivery in one statement. Transactions move deliveries between the tables, so two
/// statements could miss the delivery in both.
async fn place(connection: &mut Connection, customer: CustomerId, id: DeliveryId) -> Result<Option<Place>> {
    let row = sqlx::query!(
        r#"select null::text as "settled!: Maybe<DeliveryState>",
                  exists (select from destinations where destinations.id = pending.destination_id) as "destination!"
           from pending_deliveries pending where customer_id = $1 and id = $2
           union all
           select state, true from settled_deliveries where customer_id = $1 and id = $2"#,
        customer.uuid(),
        id.uuid()
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| match row.settled.into() {
        Some(state) => Place::Settled { state },
        None => Place::Pending { destination: row.destination },
    }))
}

/// Marks a delivery to be sent at once, by the current version of its route. A settled delivery becomes pending again,
/// under the same id and with a fresh schedule, if its event's body is kept, neither its id nor its event's id is
/// before `first_with_body`, and its event is not past the shorter retention of its customer at `now_ms` (Unix time in
/// milliseconds). A held delivery is released, unless it is undecided; then its route is evaluated now. A delivery that
/// is already marked keeps its mark.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written, or the response to the commit was lost.
pub async fn retry(
    pool: &Pool,
    customer: CustomerId,
    id: DeliveryId,
    now_ms: u64,
    first_with_body: Uuid,
    entry: &NewEntry,
) -> Result<Retried> {
    let mut transaction = pool.begin().await?;
    // Keeps the destination from being deleted before the commit.
    super::configuration::hold(&mut transaction).await?;
    for _ in 0..MOVES {
        let mut is_change = true;
        let retried = match place(&mut transaction, customer, id).await? {
            None => return Ok(Retried::NotFound),
            Some(Place::Pending { destination: false }) => return Ok(Retried::DestinationGone),
            Some(Place::Pending { destination: true }) => {
                let expedited = expedite(&mut transaction, customer, id).await?;
                is_change = expedited.is_some_and(|(_, was_marked)| !was_marked);
                expedited.map(|(retried, _)| retried)
            }
            Some(Place::Settled { .. }) => {
                // The transaction holds the configuration, so the retention does not become shorter before the commit.
                let days = body_retention::days_of(&mut *transaction, customer).await?;
                let first = body_retention::first_with_body(now_ms, days, first_with_body);
                make_pending(&mut transaction, customer, id, first).await?
            }
        };
        match retried {
            Some(retried @ (Retried::Due { .. } | Retried::Undecided)) => {
                if is_change {
                    audit::record(&mut transaction, entry).await?;
                }
                transaction.commit_changes().await?;
                return Ok(retried);
            }
            Some(retried) => return Ok(retried),
            // Another transaction has moved it in the meantime.
            None => {}
        }
    }
    Err(Error::changed("the delivery is moved again and again"))
}

/// Marks a pending delivery to be sent at once, unless it is undecided, and returns whether it was marked before;
/// `None` if it is no longer pending.
async fn expedite(
    connection: &mut Connection,
    customer: CustomerId,
    id: DeliveryId,
) -> Result<Option<(Retried, bool)>> {
    let was_marked = sqlx::query_scalar!(
        r#"select expedited_at is not null as "was_marked!" from pending_deliveries
           where customer_id = $1 and id = $2 for update"#,
        customer.uuid(),
        id.uuid()
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(was_marked) = was_marked else { return Ok(None) };
    Ok(Some((make_due(connection, id).await?, was_marked)))
}

/// Makes a settled delivery pending again, to be sent at once unless it is undecided; `None` if it is no longer
/// settled.
async fn make_pending(
    connection: &mut Connection,
    customer: CustomerId,
    id: DeliveryId,
    first_with_body: Uuid,
) -> Result<Option<Retried>> {
    let settled = sqlx::query!(
        r#"select destination_id, event_id, replay_id as "replay_id!: Maybe<ReplayId>",
                  state as "state!: As<DeliveryState>",
                  exists (select from destinations where destinations.id = settled.destination_id) as "destination!",
                  exists (select from event_bodies where event_bodies.event_id = settled.event_id) as "body!"
           from settled_deliveries settled where customer_id = $1 and id = $2 for update"#,
        customer.uuid(),
        id.uuid()
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(settled) = settled else { return Ok(None) };
    if !settled.destination {
        return Ok(Some(Retried::DestinationGone));
    }
    // Partitions that are past their retention may be about to be dropped.
    if !settled.body || settled.event_id.min(id.uuid()) < first_with_body {
        return Ok(Some(Retried::BodyGone));
    }
    back_to_pending(connection, &[id.uuid()]).await?;
    if let Some(replay) = settled.replay_id.into() {
        replays::counts::add(connection, &BTreeMap::from([(replay, Counts::without(settled.state.into()))])).await?;
    }
    make_due(connection, id).await.map(Some)
}

/// Moves settled deliveries back to the pending ones, due now, with a fresh schedule. Their rows are locked. The caller
/// subtracts them from the counts of their replays.
pub(super) async fn back_to_pending(connection: &mut Connection, ids: &[Uuid]) -> Result<()> {
    sqlx::query!(
        "with back as (
             delete from settled_deliveries where id = any($1) returning *
         )
         insert into pending_deliveries (id, customer_id, destination_id, event_id, source_id, route_id, replay_id, due_at,
                                         attempts, schedule_start, generation, undecided, held_reason, held_by)
         select id, customer_id, destination_id, event_id, source_id, route_id, replay_id,
                case when undecided then 'infinity' else now() end, attempts, attempts,
                pg_current_xact_id()::text::bigint, undecided,
                case when undecided then $2 end, case when undecided then 'filter' else 'transform' end
         from back",
        ids,
        NOT_APPROVED
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes a pending delivery due. The transaction has locked its row.
async fn make_due(connection: &mut Connection, id: DeliveryId) -> Result<Retried> {
    let released = held::make_due(connection, &[id.uuid()], Release::Retry).await?;
    Ok(match released.first() {
        Some(Released { undecided: true, .. }) => Retried::Undecided,
        Some(due) => Retried::Due { destination: due.destination_id },
        None => Retried::NotFound,
    })
}

/// The result of a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It is cancelled, by this call or by an earlier one.
    Done,
    /// It is already settled in another state.
    NotPending,
    NotFound,
}

/// Cancels a delivery and makes the next one of its order key due. The engines of all replicas read a signal of the
/// cancellation. An attempt that is in flight is not aborted.
///
/// # Errors
/// Returns an error if a query fails; the delivery may be cancelled in spite of that.
pub async fn cancel(pool: &Pool, customer: CustomerId, id: DeliveryId, entry: &NewEntry) -> Result<Cancelled> {
    for _ in 0..MOVES {
        if end(pool, customer, id, entry).await? {
            return Ok(Cancelled::Done);
        }
        let mut connection = pool.acquire().await?;
        match place(&mut connection, customer, id).await? {
            None => return Ok(Cancelled::NotFound),
            Some(Place::Settled { state: DeliveryState::Cancelled }) => return Ok(Cancelled::Done),
            Some(Place::Settled { .. }) => return Ok(Cancelled::NotPending),
            // It has become pending again in the meantime.
            Some(Place::Pending { .. }) => {}
        }
    }
    Err(Error::changed("the delivery is moved again and again"))
}

/// A delivery that was cancelled.
pub(crate) struct Ended {
    destination_id: DestinationId,
    order_key: Option<i64>,
    replay_id: Option<ReplayId>,
}

impl Ended {
    /// The order key that it leaves to the next delivery, if it has one.
    pub(crate) fn freed(&self) -> Option<(DestinationId, i64)> {
        self.order_key.map(|key| (self.destination_id, key))
    }
}

/// Cancels those of these deliveries that are pending, if there is a `customer` only those of it, and signals the owners
/// of their destinations. The caller counts them for their replays.
pub(crate) async fn end_pending(
    connection: &mut Connection,
    customer: Option<CustomerId>,
    ids: &[Uuid],
) -> Result<Vec<Ended>> {
    let rows = sqlx::query!(
        r#"with ended as (
               delete from pending_deliveries where id = any($1) and (customer_id = $2 or $2::uuid is null)
               returning *
           ), signalled as (
               insert into delivery_signals (destination_id, delivery_id) select destination_id, id from ended
           ), moved as (
               insert into settled_deliveries (id, customer_id, destination_id, event_id, source_id, route_id, replay_id,
                                               state, reason, attempts, schedule_start, undecided)
               select id, customer_id, destination_id, event_id, source_id, route_id, replay_id, 'cancelled',
                      'cancelled by its owner', attempts, schedule_start, undecided
               from ended
           )
           select destination_id as "destination_id!: As<DestinationId>", order_key,
                  replay_id as "replay_id!: Maybe<ReplayId>"
           from ended"#,
        ids,
        customer.map(CustomerId::uuid)
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Ended {
            destination_id: row.destination_id.into(),
            order_key: row.order_key,
            replay_id: row.replay_id.into(),
        })
        .collect())
}

/// Cancels a delivery if it is pending, and returns whether it was.
async fn end(pool: &Pool, customer: CustomerId, id: DeliveryId, entry: &NewEntry) -> Result<bool> {
    let mut transaction = pool.begin().await?;
    let cancelled = end_pending(&mut transaction, Some(customer), &[id.uuid()]).await?.pop();
    let Some(cancelled) = cancelled else { return Ok(false) };
    let counts = cancelled.replay_id.map(|replay| (replay, Counts::cancelled(1)));
    replays::counts::add(&mut transaction, &counts.into_iter().collect()).await?;
    audit::record(&mut transaction, entry).await?;
    transaction.commit_changes().await?;
    if let Some((destination, key)) = cancelled.freed() {
        free_key(pool, destination, key).await?;
    }
    Ok(true)
}

/// Makes the next delivery of an order key due, after an earlier one was cancelled. Not in the transaction that cancels:
/// a settlement may have locked the next delivery and wait for the cancelled one. If the relay is killed in between, the
/// next delivery is due at the time that it was put back to.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn free_key(pool: &Pool, destination: DestinationId, key: i64) -> Result<()> {
    sqlx::query!(
        "update pending_deliveries set due_at = greatest(now(), not_before)
         where due_at > greatest(now(), not_before) and id = (
             select id from pending_deliveries
             where destination_id = $1 and order_key = $2 and attempts = schedule_start and held_reason is null
             order by id limit 1)",
        destination.uuid(),
        key
    )
    .execute(pool)
    .await?;
    Ok(())
}
