//! Events as the API shows them, and the release of quarantined events.

use std::collections::{HashMap, HashSet};

use model::delivery::DeliveryState;
use model::event::{EventMeta, Verification};
use shared::id::{CustomerId, DestinationId, EventId, SourceId, uuid_v7_floor, uuid_v7_ms};
use time::OffsetDateTime;
use uuid::Uuid;

use super::admit::insert_deliveries;
use super::audit::{self, NewEntry};
use super::column::{As, Maybe, meta};
use super::configuration::{Change, Version};
use super::deliveries::CLOCK_DIFFERENCE_MS;
use super::new_event::NewEvent;
use super::search::{self, Order, Range, Search, remaining};
use super::{copies, keys, own};
use crate::{Error, Pool, Result};

/// An event without its headers and body.
#[derive(Debug, Clone)]
pub struct SummaryRow {
    pub id: EventId,
    pub source_id: SourceId,
    /// `None` if the source has been deleted.
    pub source_name: Option<String>,
    pub received_at: OffsetDateTime,
    pub event_type: Option<String>,
    pub provider_event_id: Option<String>,
    pub body_size: i32,
    pub verification: Verification,
    pub failure_cause: Option<String>,
    pub failure_detail: Option<String>,
    pub copies: i32,
    pub same_key_as: Option<EventId>,
    /// When the body was erased; `None` if it was not.
    pub body_erased_at: Option<OffsetDateTime>,
    /// The job that the event is about; `None` if it is about none.
    pub job_key: Option<String>,
    /// The state of the job, as the provider writes it.
    pub job_state: Option<String>,
    /// Whether the job has ended well or badly; `None` if it has not ended, or if that is not known.
    pub job_good: Option<bool>,
    /// The event of which it is an edited copy.
    pub edited_of: Option<EventId>,
}

/// An event without its body.
#[derive(Debug, Clone)]
pub struct EventRow {
    pub meta: EventMeta,
    pub customer_id: CustomerId,
    pub source_name: Option<String>,
    pub stored_at: OffsetDateTime,
    pub body_size: i32,
    pub verification: Verification,
    pub failure_cause: Option<String>,
    pub failure_detail: Option<String>,
    pub copies: i32,
    pub same_key_as: Option<EventId>,
    /// When the body was erased; `None` if it was not.
    pub body_erased_at: Option<OffsetDateTime>,
    /// The job that the event is about; `None` if it is about none.
    pub job_key: Option<String>,
    /// The state of the job, as the provider writes it.
    pub job_state: Option<String>,
    /// Whether the job has ended well or badly; `None` if it has not ended, or if that is not known.
    pub job_good: Option<bool>,
    /// The event of which it is an edited copy.
    pub edited_of: Option<EventId>,
}

/// The first copy of an event that has another body.
#[derive(Debug, Clone)]
pub struct ChangedCopyRow {
    pub id: EventId,
    pub body_size: i32,
}

/// Which events to return.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub source: Option<SourceId>,
    pub event_type: Option<String>,
    pub provider_event_id: Option<String>,
    pub job_key: Option<String>,
    pub verification: Option<Verification>,
    /// What has become of their deliveries.
    pub deliveries: Option<DeliveriesOf>,
}

impl Selection {
    /// Whether it selects few events, to which an index leads.
    fn is_of_few(&self) -> bool {
        self.provider_event_id.is_some() || self.job_key.is_some()
    }
}

/// What has become of the deliveries of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveriesOf {
    /// It was routed, and there is no delivery of it.
    None,
    /// At least one of them is dead.
    AnyDead,
}

/// How many events are read at a time if those with certain deliveries are wanted.
const WITH_DELIVERIES_AT_ONCE: i64 = 2_000;

/// A search for a page of events, newest first.
#[derive(Debug)]
pub struct Page {
    /// `None` for all customers.
    customer: Option<CustomerId>,
    selection: Selection,
    /// The sources by whose index the events are read. `None` to read among all events.
    sources: Option<Vec<SourceId>>,
    /// How many events are enough.
    limit: i64,
    pub found: Vec<SummaryRow>,
}

impl Page {
    /// A search that has found nothing yet. `customer` is `None` for all customers; `limit` is how many events are
    /// enough.
    ///
    /// # Errors
    /// Returns an error if the query for the customer's sources fails.
    pub async fn begin(pool: &Pool, customer: Option<CustomerId>, selection: Selection, limit: i64) -> Result<Self> {
        let sources = match (selection.source, customer) {
            _ if selection.is_of_few() => None,
            (Some(source), _) => Some(vec![source]),
            (None, Some(customer)) => own::sources(pool, customer).await?,
            (None, None) => None,
        };
        Ok(Self { customer, selection, sources, limit, found: Vec::new() })
    }
}

impl Search for Page {
    async fn edge(&self, pool: &Pool, range: Range, rows: i64, plain: bool) -> Result<Option<Uuid>> {
        if self.selection.is_of_few() && !plain {
            return Ok(None);
        }
        let by = search::Events {
            sources: self.sources.as_deref(),
            in_quarantine: self.selection.verification == Some(Verification::Failed),
        };
        let by = if plain { search::Events::default() } else { by };
        by.edge(pool, Order::NewestFirst, range, rows).await
    }

    async fn look(&mut self, pool: &Pool, range: Range) -> Result<bool> {
        let wanted = remaining(self.limit, self.found.len());
        let Some(of) = self.selection.deliveries else {
            self.found.extend(self.page(pool, range, wanted).await?);
            return Ok(remaining(self.limit, self.found.len()) == 0);
        };
        // What was found counts only after the whole range was read: a part that takes too long is read again.
        let (mut found, mut rest) = (Vec::new(), range);
        loop {
            let rows = self.page(pool, rest, WITH_DELIVERIES_AT_ONCE).await?;
            let is_end = i64::try_from(rows.len()).is_ok_and(|rows| rows < WITH_DELIVERIES_AT_ONCE);
            rest.until = rows.last().map_or(rest.from, |row| row.id.uuid());
            let ids: Vec<Uuid> = rows.iter().map(|row| row.id.uuid()).collect();
            let states = states_of(pool, &ids).await?;
            found.extend(rows.into_iter().filter(|row| is_wanted(of, row, states.get(&row.id).copied())));
            if remaining(wanted, found.len()) == 0 || is_end {
                break;
            }
        }
        found.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        self.found.extend(found);
        Ok(remaining(self.limit, self.found.len()) == 0)
    }
}

/// Whether an event has the wanted deliveries. `any_dead` says whether any of its deliveries is dead; `None` if it has
/// none. An event in quarantine has not been routed.
fn is_wanted(of: DeliveriesOf, row: &SummaryRow, any_dead: Option<bool>) -> bool {
    match of {
        DeliveriesOf::None => any_dead.is_none() && row.verification != Verification::Failed,
        DeliveriesOf::AnyDead => any_dead == Some(true),
    }
}

/// For each of these events that has deliveries, whether any of them is dead. `ids` are those of a range, newest first.
async fn states_of(pool: &Pool, ids: &[Uuid]) -> Result<HashMap<EventId, bool>> {
    let Some(oldest) = ids.last() else { return Ok(HashMap::new()) };
    // No delivery is older than its event, so earlier days are not searched.
    let first = uuid_v7_floor(uuid_v7_ms(*oldest).saturating_sub(CLOCK_DIFFERENCE_MS));
    let mut search = pool.begin_range().await?;
    // One statement reads both tables, so that a delivery that is settled concurrently is not missed.
    let rows = sqlx::query!(
        r#"select found.event_id as "event_id!: As<EventId>", bool_or(found.is_dead) as "any_dead!"
           from (select event_id, state = 'dead' as is_dead from settled_deliveries where event_id = any($1) and id >= $2
                 union all
                 select event_id, false from pending_deliveries where event_id = any($1)) found
           group by found.event_id"#,
        ids,
        first
    )
    .fetch_all(&mut *search)
    .await?;
    Ok(rows.into_iter().map(|row| (row.event_id.into(), row.any_dead)).collect())
}

/// The states of the deliveries of these events: of each event, those of up to `each` settled ones and of as many
/// others. An event without deliveries has none. `unusable` are destinations whose pending deliveries are held.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn delivery_states(
    pool: &Pool,
    events: &[EventId],
    unusable: &[DestinationId],
    each: i64,
) -> Result<Vec<(EventId, DeliveryState)>> {
    let Some(oldest) = events.iter().min() else { return Ok(Vec::new()) };
    // No delivery is older than its event, so earlier days are not searched.
    let first = uuid_v7_floor(oldest.minted_at_ms().saturating_sub(CLOCK_DIFFERENCE_MS));
    let events: Vec<Uuid> = events.iter().map(|id| id.uuid()).collect();
    let unusable: Vec<Uuid> = unusable.iter().map(|id| id.uuid()).collect();
    let mut search = pool.begin_range().await?;
    // One statement reads both tables, so that a delivery that is settled concurrently is not missed.
    let rows = sqlx::query!(
        r#"select wanted.id as "event_id!: As<EventId>", found.state as "state!: As<DeliveryState>"
           from unnest($1::uuid[]) wanted (id) cross join lateral (
               (select state from settled_deliveries where event_id = wanted.id and id >= $2 limit $3)
               union all
               (select case when held_reason is null and destinations.state = 'active'
                                 and destination_id <> all($4::uuid[]) then 'pending' else 'held' end
                from pending_deliveries pending left join destinations on destinations.id = destination_id
                where event_id = wanted.id limit $3)
           ) found"#,
        &events,
        first,
        each,
        &unusable
    )
    .fetch_all(&mut *search)
    .await?;
    Ok(rows.into_iter().map(|row| (row.event_id.into(), row.state.into())).collect())
}

/// The matching events of a range of ids, newest first. `$owned` has a row for each source whose events are read by its
/// index, with the condition `$of_owned`.
///
/// Edited events are rare. A condition from which the planner knew that would make it read whole days, and sort them, to
/// find one of them; so the condition is one that it cannot estimate.
macro_rules! event_page {
    ($owned:literal, $of_owned:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            SummaryRow,
            r#"select events.id as "id!: As<EventId>", source_id as "source_id!: As<SourceId>",
                      sources.name as "source_name?", received_at, type as event_type, provider_event_id, body_size,
                      case when edited_of is null then verification else 'edited' end as "verification!: As<Verification>",
                      failure_cause, failure_detail, copies, same_key_as as "same_key_as!: Maybe<EventId>",
                      body_erased_at, job_key, job_state, job_good, edited_of as "edited_of!: Maybe<EventId>"
               from "# + $owned + r#" owned (id) cross join lateral (
                   select * from events
                   where "# + $of_owned + r#" and (events.customer_id = $1 or $1::uuid is null)
                     and ($2::uuid is null or source_id = $2) and ($3::text is null or type = $3)
                     and ($4::text is null or provider_event_id = $4) and ($5::text is null or verification = $5)
                     and events.id >= $6 and events.id < $7 and ($9::text is null or job_key = $9)
                     and ($10::bool is null or case when $10 then coalesce(edited_of, events.id) <> events.id
                                               else edited_of is null end)
                   order by events.id desc limit $8
               ) events left join sources on sources.id = events.source_id
               order by events.id desc limit $8"#,
            $($argument),*
        )
    };
}

impl Page {
    pub(crate) async fn page(&self, pool: &Pool, range: Range, limit: i64) -> Result<Vec<SummaryRow>> {
        let Self { customer, selection, sources, .. } = self;
        let (customer, source) = (customer.map(CustomerId::uuid), selection.source.map(SourceId::uuid));
        let verification = selection.verification.map(Verification::column);
        let edited = match selection.verification {
            Some(Verification::Edited) => Some(true),
            Some(Verification::Unsigned) => Some(false),
            Some(Verification::Verified | Verification::Stale | Verification::Failed | Verification::Released)
            | None => None,
        };
        let Selection { event_type, provider_event_id, job_key, .. } = selection;
        let mut search = pool.begin_range().await?;
        let found = match sources {
            Some(sources) => {
                let sources: Vec<Uuid> = sources.iter().map(|source| source.uuid()).collect();
                event_page!(
                    "unnest($11::uuid[])",
                    "source_id = owned.id",
                    customer,
                    source,
                    event_type.as_deref(),
                    provider_event_id.as_deref(),
                    verification,
                    range.from,
                    range.until,
                    limit,
                    job_key.as_deref(),
                    edited,
                    &sources
                )
                .fetch_all(&mut *search)
                .await
            }
            None => {
                event_page!(
                    "(values (null::uuid))",
                    "true",
                    customer,
                    source,
                    event_type.as_deref(),
                    provider_event_id.as_deref(),
                    verification,
                    range.from,
                    range.until,
                    limit,
                    job_key.as_deref(),
                    edited
                )
                .fetch_all(&mut *search)
                .await
            }
        };
        found.map_err(Error::from)
    }
}

/// One event.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn find(pool: &Pool, customer: CustomerId, id: EventId) -> Result<Option<EventRow>> {
    let row = sqlx::query!(
        r#"select events.id as "id!: As<EventId>", events.customer_id as "customer_id!: As<CustomerId>",
                  source_id as "source_id!: As<SourceId>", sources.name as "source_name?", received_at, stored_at,
                  type as event_type, provider_event_id, method, query, headers, body_size,
                  case when edited_of is null then verification else 'edited' end as "verification!: As<Verification>",
                  failure_cause, failure_detail, copies, same_key_as as "same_key_as!: Maybe<EventId>", body_erased_at,
                  job_key, job_state, job_good, edited_of as "edited_of!: Maybe<EventId>"
           from events left join sources on sources.id = events.source_id
           where events.customer_id = $1 and events.id = $2"#,
        customer.uuid(),
        id.uuid()
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| EventRow {
        meta: meta!(row),
        customer_id: row.customer_id.into(),
        source_name: row.source_name,
        stored_at: row.stored_at,
        body_size: row.body_size,
        verification: row.verification.into(),
        failure_cause: row.failure_cause,
        failure_detail: row.failure_detail,
        copies: row.copies,
        same_key_as: row.same_key_as.into(),
        body_erased_at: row.body_erased_at,
        job_key: row.job_key,
        job_state: row.job_state,
        job_good: row.job_good,
        edited_of: row.edited_of.into(),
    }))
}

/// An event that is verified again.
#[derive(Debug, Clone)]
pub struct ToVerify {
    pub meta: EventMeta,
    pub source_name: Option<String>,
    pub body_size: i32,
}

/// Events by their ids, with what their verification needs besides their bodies.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn to_verify(pool: &Pool, customer: CustomerId, ids: &[EventId]) -> Result<Vec<ToVerify>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        r#"select events.id as "id!: As<EventId>", source_id as "source_id!: As<SourceId>",
                  sources.name as "source_name?", received_at, type as event_type, provider_event_id, method, query, headers,
                  body_size
           from events left join sources on sources.id = events.source_id
           where events.customer_id = $1 and events.id = any($2)
           order by events.id desc"#,
        customer.uuid(),
        &ids
    )
    .fetch_all(pool)
    .await?;
    let events = rows.into_iter().map(|row| ToVerify {
        source_name: row.source_name.clone(),
        body_size: row.body_size,
        meta: meta!(row),
    });
    Ok(events.collect())
}

/// The bodies of events by their ids. The caller bounds how large they are together.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn bodies(pool: &Pool, ids: &[EventId]) -> Result<HashMap<EventId, Vec<u8>>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let mut connection = pool.acquire().await?;
    let rows =
        sqlx::query!(r#"select event_id as "id!: As<EventId>", body from event_bodies where event_id = any($1)"#, &ids)
            .fetch_all(&mut connection)
            .await?;
    connection.shrink_buffers();
    Ok(rows.into_iter().map(|row| (row.id.into(), row.body)).collect())
}

/// The event that a copy belongs to, by the id that the copy was acknowledged with.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn of_copy(pool: &Pool, copy: EventId) -> Result<Option<EventId>> {
    let event = sqlx::query_scalar!("select event_id from event_copies where id = $1", copy.uuid());
    Ok(event.fetch_optional(pool).await?.map(EventId::from_uuid))
}

/// The first copy of an event that has another body, if there is one and bodies are still kept.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn changed_copy(pool: &Pool, event: EventId) -> Result<Option<ChangedCopyRow>> {
    sqlx::query_as!(
        ChangedCopyRow,
        r#"select changed_copy_id as "id!: As<EventId>", octet_length(changed_copy) as "body_size!"
           from event_bodies where event_id = $1 and changed_copy_id is not null"#,
        event.uuid()
    )
    .fetch_optional(pool)
    .await
    .map_err(Error::from)
}

/// The body of that copy.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn changed_copy_body(pool: &Pool, event: EventId) -> Result<Option<Vec<u8>>> {
    let body = sqlx::query_scalar!("select changed_copy from event_bodies where event_id = $1", event.uuid());
    Ok(body.fetch_optional(pool).await?.flatten())
}

/// The result of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erased {
    Done,
    /// Nothing was erased: a delivery of the event is pending or held.
    Needed,
    /// There is no such event.
    Unknown,
}

/// Erases the body of an event wherever it is stored: the body itself, that of a changed copy, and the unreadable
/// message that became the event. It is alone with the configuration, so no transaction makes a delivery of the event
/// concurrently. Erasing a body twice has no effect.
///
/// # Errors
/// Returns an error if a query fails; then nothing was erased, or the response to the commit was lost.
pub async fn erase_body(pool: &Pool, customer: CustomerId, event: EventId, entry: &NewEntry) -> Result<Erased> {
    let mut change = Change::begin(pool).await?;
    let found = sqlx::query!(
        r#"select exists (select from pending_deliveries where event_id = $2) as "needed!",
                  body_erased_at is not null as "erased!"
           from events where customer_id = $1 and id = $2 for update"#,
        customer.uuid(),
        event.uuid()
    )
    .fetch_optional(&mut *change)
    .await?;
    match found {
        None => return Ok(Erased::Unknown),
        Some(row) if row.erased => return Ok(Erased::Done),
        Some(row) if row.needed => return Ok(Erased::Needed),
        Some(_) => {}
    }
    sqlx::query!("update events set body_erased_at = coalesce(body_erased_at, now()) where id = $1", event.uuid())
        .execute(&mut *change)
        .await?;
    sqlx::query!("delete from event_bodies where event_id = $1", event.uuid()).execute(&mut *change).await?;
    sqlx::query!("delete from unreadable_messages where event_id = $1", event.uuid()).execute(&mut *change).await?;
    audit::record(&mut change, entry).await?;
    change.commit_unchanged().await?;
    pool.note_changes();
    Ok(Erased::Done)
}

/// The result of sending an event again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    Done,
    /// Nothing was written: the configuration has changed since the deliveries were made.
    StaleConfiguration,
    /// Nothing was written: the body of the event is no longer kept.
    NoBody,
}

/// Stores further deliveries of a stored event, made by the configuration `version`.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written.
pub async fn deliver(pool: &Pool, event: &NewEvent, version: Version, entry: &NewEntry) -> Result<Delivered> {
    let mut transaction = pool.begin().await?;
    super::configuration::hold(&mut transaction).await?;
    if super::configuration::version(&mut *transaction).await? != version {
        return Ok(Delivered::StaleConfiguration);
    }
    let has_body = sqlx::query_scalar!(
        r#"select exists (select from event_bodies where event_id = $1) as "kept!""#,
        event.id.uuid()
    )
    .fetch_one(&mut *transaction)
    .await?;
    if !has_body {
        return Ok(Delivered::NoBody);
    }
    insert_deliveries(&mut transaction, &[event], &HashSet::from([event.id])).await?;
    audit::record(&mut transaction, entry).await?;
    transaction.commit().await?;
    Ok(Delivered::Done)
}

/// The result of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    Done,
    /// Nothing was written: the configuration has changed since the event was routed.
    StaleConfiguration,
    /// The event is no longer waiting for a release.
    NotWaiting,
}

/// Marks an event as released and makes its deliveries, routed by the configuration `version`. If it arrives again
/// afterwards, it is a copy, unless another event already holds its key.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written.
pub async fn release(
    pool: &Pool,
    event: &NewEvent,
    version: Version,
    dedupe_days: i32,
    entry: &NewEntry,
) -> Result<Released> {
    let mut transaction = pool.begin().await?;
    super::configuration::hold(&mut transaction).await?;
    if super::configuration::version(&mut *transaction).await? != version {
        return Ok(Released::StaleConfiguration);
    }
    let window = keys::window(&mut transaction, dedupe_days).await?;
    copies::claim(&mut transaction, event.claim().as_slice(), window).await?;
    let released = sqlx::query!(
        "update events set verification = 'released' where customer_id = $1 and id = $2 and verification = 'failed'",
        event.customer_id.uuid(),
        event.id.uuid()
    )
    .execute(&mut *transaction)
    .await?;
    if released.rows_affected() == 0 {
        return Ok(Released::NotWaiting);
    }
    insert_deliveries(&mut transaction, &[event], &HashSet::from([event.id])).await?;
    audit::record(&mut transaction, entry).await?;
    transaction.commit_changes().await?;
    Ok(Released::Done)
}
