//! Stores a batch of messages from the queue in one transaction: events with their bodies, their deliveries, rejections
//! and unreadable messages. The messages are acknowledged to the queue only after the commit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use model::event::Verification;
use model::held_by::HeldBy;
use shared::id::{EventId, RejectionId, RouteId, SourceId};
use shared::job::End;
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, NewEntry};
use super::configuration::Version;
use super::copies::{self, Copies};
use super::counters::{self, Arrived};
use super::keys::{NEAR_MIDNIGHT_S, Window};
use super::new_event::{Claim, NewDelivery, NewEvent, Undecided};
use super::quarantine::{self, Full};
use super::undecided::FIRST_PAUSE_S;
use super::unreadable::NewUnreadable;
use super::{Connection, Pool, ROWS_AT_ONCE, Transaction};
use crate::{Error, Result};

/// Requests that the edge refused.
pub struct NewRejection {
    pub id: RejectionId,
    pub source_id: SourceId,
    pub cause: String,
    pub detail: String,
    pub count: i64,
    pub first_at: time::OffsetDateTime,
    pub last_at: time::OffsetDateTime,
    pub size: i64,
    pub remote: String,
}

/// Everything that one transaction stores.
#[derive(Default)]
pub struct Batch {
    pub events: Vec<NewEvent>,
    pub rejections: Vec<NewRejection>,
    pub unreadable: Vec<NewUnreadable>,
    /// The entry of the audit log, if a caller stores the batch.
    pub entry: Option<NewEntry>,
}

impl Batch {
    /// The total size of bodies and unreadable messages, in bytes.
    fn bytes(&self) -> usize {
        let events = self.events.iter().map(|event| event.body.len());
        events.chain(self.unreadable.iter().map(NewUnreadable::bytes)).sum()
    }
}

/// A larger batch, in bytes, takes long to store.
pub const SHORT_BYTES: usize = 1 << 20;

/// An event that was received longer ago than this does not count against the limit of its customer: it has waited in
/// the queue, and a relay that works off a backlog must not mistake it for a high rate.
pub const LATE_AFTER: Duration = Duration::from_secs(60);

/// The result of storing a batch.
pub enum Admitted {
    /// Committed. `stored` are the new events. The others were already stored, are copies, or exceed the quarantine
    /// limits of their source. `full` are the sources whose quarantine is full and for which an operational event is
    /// now to be stored.
    Stored { stored: HashSet<EventId>, copies: usize, full: Vec<Full> },
    /// Nothing was written: the configuration has changed since the events were routed.
    StaleConfiguration,
}

/// Stores a batch that was routed by the configuration `version`. With `synchronous_commit` on, the stored batch
/// survives a crash of the database.
///
/// # Errors
/// Returns an error if a query fails or the database rejects a value; then nothing was written.
pub async fn admit(pool: &Pool, batch: &Batch, version: Version, dedupe_days: i32) -> Result<Admitted> {
    let mut transaction = pool.begin().await?;
    if batch.bytes() > SHORT_BYTES {
        super::configuration::hold_for_long(&mut transaction).await?;
    } else {
        super::configuration::hold(&mut transaction).await?;
    }
    write(transaction, batch, version, dedupe_days).await
}

/// The configuration, locked against changes until a batch is stored or this is dropped.
pub struct Held {
    transaction: Transaction,
    version: Version,
}

/// Locks the configuration against changes until a batch is stored or the returned value is dropped.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn hold(pool: &Pool) -> Result<Held> {
    let mut transaction = pool.begin().await?;
    super::configuration::hold_for_long(&mut transaction).await?;
    let version = super::configuration::version(&mut *transaction).await?;
    Ok(Held { transaction, version })
}

impl Held {
    /// The version of the locked configuration.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Stores a batch as [`admit`] does.
    ///
    /// # Errors
    /// As [`admit`].
    pub async fn admit(self, batch: &Batch, version: Version, dedupe_days: i32) -> Result<Admitted> {
        write(self.transaction, batch, version, dedupe_days).await
    }
}

async fn write(mut transaction: Transaction, batch: &Batch, version: Version, dedupe_days: i32) -> Result<Admitted> {
    let connection: &mut Connection = &mut transaction;
    let ids: Vec<Uuid> = batch.events.iter().map(|event| event.id.uuid()).collect();
    let found = sqlx::query!(
        r#"select revision, identity, now() as "now!", array(select id from events where id = any($1)) as "known!: Vec<Uuid>",
                  (now() - $2::float8 * interval '1 second')::date < (now() + $2 * interval '1 second')::date
                      as "near_midnight!"
           from configuration"#,
        &ids,
        NEAR_MIDNIGHT_S
    )
    .fetch_one(&mut *connection)
    .await?;
    if (Version { revision: found.revision, identity: found.identity }) != version {
        return Ok(Admitted::StaleConfiguration);
    }

    // A message that the queue delivers again is not a copy that the provider sent.
    let known: HashSet<EventId> = found.known.into_iter().map(EventId::from_uuid).collect();
    let mut arrived = HashSet::new();
    let unknown: Vec<&NewEvent> =
        batch.events.iter().filter(|event| !known.contains(&event.id) && arrived.insert(event.id)).collect();
    let claims: Vec<Claim> = unknown.iter().filter_map(|event| event.claim()).collect();
    let window = Window { days: dedupe_days, near_midnight: found.near_midnight };
    let copies = copies::claim(connection, &claims, window).await?;
    let fresh: Vec<&NewEvent> = unknown.iter().copied().filter(|event| !copies.of.contains_key(&event.id)).collect();
    let beyond = quarantine::charge(connection, &fresh).await?;
    let mut fresh: Vec<&NewEvent> = fresh.into_iter().filter(|event| !beyond.events.contains(&event.id)).collect();
    // The same order in every replica: if two replicas store the same events, one waits for the other at the first of
    // them.
    fresh.sort_unstable_by_key(|event| event.id);

    let stored = insert_events(connection, &fresh, &copies).await?;
    copies::record(connection, &copies, &unknown).await?;
    insert_deliveries(connection, &fresh, &stored).await?;
    let rejected = insert_rejections(connection, &batch.rejections).await?;
    super::unreadable::insert(connection, &batch.unreadable).await?;
    if let Some(entry) = &batch.entry {
        audit::record(connection, entry).await?;
    }
    // Last, because two transactions that count for the same source block each other from here until they commit.
    let counts = counts(batch, &stored, &copies.of, &rejected, &beyond.events, found.now);
    counters::add_to_sources(connection, &counts).await?;
    transaction.commit_changes().await?;
    Ok(Admitted::Stored { stored, copies: copies.of.len(), full: beyond.full })
}

/// Whether an event is stored.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn is_stored(pool: &Pool, event: EventId) -> Result<bool> {
    sqlx::query_scalar!(r#"select exists (select from events where id = $1) as "stored!""#, event.uuid())
        .fetch_one(pool)
        .await
        .map_err(Error::from)
}

/// The counts that the batch adds to the counters of its sources.
fn counts(
    batch: &Batch,
    stored: &HashSet<EventId>,
    copies: &HashMap<EventId, EventId>,
    rejected: &HashSet<RejectionId>,
    beyond: &HashSet<EventId>,
    now: OffsetDateTime,
) -> BTreeMap<SourceId, Arrived> {
    let mut arrived: BTreeMap<SourceId, Arrived> = BTreeMap::new();
    let mut seen = HashSet::new();
    for event in batch.events.iter().filter(|event| seen.insert(event.id)) {
        let is_stored = stored.contains(&event.id);
        let is_copy = copies.contains_key(&event.id);
        let is_beyond = beyond.contains(&event.id);
        if is_stored || is_copy || is_beyond {
            let Arrived { counts, unrated } = arrived.entry(event.source_id).or_default();
            counts.rejected += i64::from(is_beyond);
            counts.stored += i64::from(is_stored);
            counts.copies += i64::from(is_copy);
            *unrated += i64::from(is_stored && !is_rated(event, now));
        }
    }
    for rejection in batch.rejections.iter().filter(|rejection| rejected.contains(&rejection.id)) {
        arrived.entry(rejection.source_id).or_default().counts.rejected += rejection.count;
    }
    arrived
}

/// Whether an event that is stored now counts against the limit of its customer. Anyone can send requests that fail
/// verification, so those do not count.
fn is_rated(event: &NewEvent, now: OffsetDateTime) -> bool {
    event.verification != Verification::Failed && now - event.received_at <= LATE_AFTER
}

async fn insert_events(connection: &mut Connection, events: &[&NewEvent], copies: &Copies) -> Result<HashSet<EventId>> {
    if events.is_empty() {
        return Ok(HashSet::new());
    }
    let mut ids = Vec::with_capacity(events.len());
    let mut customer_ids = Vec::with_capacity(events.len());
    let mut source_ids = Vec::with_capacity(events.len());
    let mut received = Vec::with_capacity(events.len());
    let mut types = Vec::with_capacity(events.len());
    let mut provider_ids = Vec::with_capacity(events.len());
    let mut methods = Vec::with_capacity(events.len());
    let mut queries = Vec::with_capacity(events.len());
    let mut headers = Vec::with_capacity(events.len());
    let mut verifications = Vec::with_capacity(events.len());
    let mut failure_causes = Vec::with_capacity(events.len());
    let mut failure_details = Vec::with_capacity(events.len());
    let mut same_keys = Vec::with_capacity(events.len());
    let mut bodies = Vec::with_capacity(events.len());
    let mut job_keys = Vec::with_capacity(events.len());
    let mut job_states = Vec::with_capacity(events.len());
    let mut jobs_good = Vec::with_capacity(events.len());
    let mut edited_of = Vec::with_capacity(events.len());
    for event in events {
        ids.push(event.id.uuid());
        customer_ids.push(event.customer_id.uuid());
        source_ids.push(event.source_id.uuid());
        received.push(event.received_at);
        types.push(event.event_type.as_deref());
        provider_ids.push(event.provider_event_id.as_deref());
        methods.push(event.method.as_str());
        queries.push(event.query.as_str());
        headers.push(serde_json::to_value(&event.headers).unwrap_or_default());
        verifications.push(event.verification.column());
        edited_of.push(event.edited_of.map(EventId::uuid));
        failure_causes.push(event.failure.as_ref().map(|failure| failure.cause.as_str()));
        failure_details.push(event.failure.as_ref().map(|failure| failure.detail.as_str()));
        same_keys.push(copies.same_key.get(&event.id).map(|id| id.uuid()));
        bodies.push(event.body.as_slice());
        job_keys.push(event.job.as_ref().map(|job| job.key.as_str()));
        job_states.push(event.job.as_ref().and_then(|job| job.state.as_deref()));
        jobs_good.push(event.job.as_ref().and_then(|job| job.end).map(|end| end == End::Good));
    }
    let stored = sqlx::query_scalar!(
        r#"with stored as (
               insert into events (id, customer_id, source_id, received_at, type, provider_event_id, method, query,
                                  headers, body_size, verification, failure_cause, failure_detail, same_key_as, job_key,
                                  job_state, job_good, edited_of)
               select id, customer_id, source_id, received_at, type, provider_event_id, method, query, headers,
                      octet_length(body), verification, failure_cause, failure_detail, same_key_as, job_key, job_state,
                      job_good, edited_of
               from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::text[], $6::text[], $7::text[],
                           $8::text[], $9::jsonb[], $10::text[], $11::bytea[], $12::text[], $13::text[],
                           $14::uuid[], $15::text[], $16::text[], $17::bool[], $18::uuid[])
                    as event (id, customer_id, source_id, received_at, type, provider_event_id, method, query, headers,
                              verification, body, failure_cause, failure_detail, same_key_as, job_key, job_state,
                              job_good, edited_of)
               on conflict (id) do nothing
               returning id
           ), bodies as (
               insert into event_bodies (event_id, body)
               select body.event_id, body.body
               from unnest($1::uuid[], $11::bytea[]) as body (event_id, body)
               join stored on stored.id = body.event_id
           )
           select id from stored"#,
        &ids,
        &customer_ids,
        &source_ids,
        &received,
        &types as &[Option<&str>],
        &provider_ids as &[Option<&str>],
        &methods as &[&str],
        &queries as &[&str],
        &headers,
        &verifications as &[&str],
        &bodies as &[&[u8]],
        &failure_causes as &[Option<&str>],
        &failure_details as &[Option<&str>],
        &same_keys as &[Option<Uuid>],
        &job_keys as &[Option<&str>],
        &job_states as &[Option<&str>],
        &jobs_good as &[Option<bool>],
        &edited_of as &[Option<Uuid>],
    )
    .fetch_all(connection)
    .await?;
    Ok(stored.into_iter().map(EventId::from_uuid).collect())
}

pub(crate) async fn insert_deliveries(
    connection: &mut Connection,
    events: &[&NewEvent],
    stored: &HashSet<EventId>,
) -> Result<()> {
    let new: Vec<(&NewEvent, &NewDelivery)> = events
        .iter()
        .filter(|event| stored.contains(&event.id))
        .flat_map(|event| event.deliveries.iter().map(move |delivery| (*event, delivery)))
        .collect();
    // Not one statement for all: its run time would grow with the number of destinations.
    for new in new.chunks(ROWS_AT_ONCE) {
        insert_some_deliveries(connection, new).await?;
    }
    Ok(())
}

async fn insert_some_deliveries(connection: &mut Connection, new: &[(&NewEvent, &NewDelivery)]) -> Result<()> {
    let ids: Vec<Uuid> = new.iter().map(|(_, delivery)| delivery.id.uuid()).collect();
    let customer_ids: Vec<Uuid> = new.iter().map(|(event, _)| event.customer_id.uuid()).collect();
    let destination_ids: Vec<Uuid> = new.iter().map(|(_, delivery)| delivery.destination_id.uuid()).collect();
    let event_ids: Vec<Uuid> = new.iter().map(|(event, _)| event.id.uuid()).collect();
    let source_ids: Vec<Uuid> = new.iter().map(|(event, _)| event.source_id.uuid()).collect();
    let route_ids: Vec<Option<Uuid>> = new.iter().map(|(_, delivery)| delivery.route_id.map(RouteId::uuid)).collect();
    let versions: Vec<i32> = new.iter().map(|(_, delivery)| delivery.route_version).collect();
    let order_keys: Vec<Option<i64>> = new.iter().map(|(_, delivery)| delivery.order_key).collect();
    let waits: Vec<f64> = new.iter().map(|(_, delivery)| delivery.first_wait.as_secs_f64()).collect();
    let undecided = || new.iter().map(|(_, delivery)| delivery.undecided.as_ref());
    let held: Vec<Option<&str>> = undecided().map(|undecided| undecided.map(|why| why.reason.as_str())).collect();
    let again: Vec<bool> = undecided().map(|undecided| undecided.is_some_and(|why| why.again)).collect();
    let held_by = held_by(undecided());
    sqlx::query!(
        "insert into pending_deliveries (id, customer_id, destination_id, event_id, source_id, route_id, held_reason,
                                         held_by, order_key, due_at, not_before, held_at, undecided, decide_at,
                                         route_version)
         select id, customer_id, destination_id, event_id, source_id, route_id, held_reason, held_by, order_key,
                case when held_reason is null then now() + wait_s * interval '1 second' else 'infinity' end,
                case when wait_s > 0 then now() + wait_s * interval '1 second' end,
                case when held_reason is not null then now() end, held_reason is not null,
                case when again then now() + $10::float8 * interval '1 second' end, route_version
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::text[],
                     $8::bigint[], $9::bool[], $11::text[], $12::int[], $13::float8[])
              as delivery (id, customer_id, destination_id, event_id, source_id, route_id, held_reason, order_key, again,
                           held_by, route_version, wait_s)",
        &ids,
        &customer_ids,
        &destination_ids,
        &event_ids,
        &source_ids,
        &route_ids as &[Option<Uuid>],
        &held as &[Option<&str>],
        &order_keys as &[Option<i64>],
        &again,
        FIRST_PAUSE_S,
        &held_by as &[&str],
        &versions,
        &waits
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The cause that holds each delivery; meaningless for deliveries that are not held.
pub(crate) fn held_by<'a>(undecided: impl Iterator<Item = Option<&'a Undecided>>) -> Vec<&'static str> {
    undecided.map(|undecided| undecided.map_or(HeldBy::Transform, |why| why.by).name()).collect()
}

/// Returns the new ones; the others belong to messages that were stored before.
async fn insert_rejections(connection: &mut Connection, rejections: &[NewRejection]) -> Result<HashSet<RejectionId>> {
    let mut inserted = HashSet::new();
    let mut rejections: Vec<&NewRejection> = rejections.iter().collect();
    rejections.sort_unstable_by_key(|rejection| rejection.id);
    // One statement each: they are rare, because the edge samples them.
    for rejection in rejections {
        let new = sqlx::query!(
            "insert into rejections (id, source_id, cause, detail, count, first_at, last_at, size, remote)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (id) do nothing",
            rejection.id.uuid(),
            rejection.source_id.uuid(),
            rejection.cause,
            rejection.detail,
            rejection.count,
            rejection.first_at,
            rejection.last_at,
            rejection.size,
            rejection.remote
        )
        .execute(&mut *connection)
        .await?;
        if new.rows_affected() > 0 {
            inserted.insert(rejection.id);
        }
    }
    Ok(inserted)
}
