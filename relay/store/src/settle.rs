//! Settles attempts: stores their rows and the new states of their deliveries, in one transaction.
//!
//! The epoch is the fence of ownership: every settlement names the shard of its destination and the epoch in which the
//! shard was owned. If the owner has since lost the shard, its attempts are not settled: the new owner still has the deliveries in its table and sends
//! them again, with the same `webhook-id`.

use std::collections::{BTreeMap, HashSet};

use model::delivery::DeliveryState;
use model::held_by::HeldBy;
use model::settlement::{AttemptRow, Next, Settlement};
use shared::id::{DeliveryId, DestinationId, ReplayId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::counters::{self, DestinationCounts};
use super::replays::{self, counts::Counts};
use crate::{Connection, Error, Pool, Result};

/// The result of settling.
#[derive(Debug, Default)]
pub struct Settled {
    /// The deliveries that were settled. The others now belong to another owner, are gone, were made pending again, or
    /// had already been settled by a transaction whose response was lost.
    pub ids: HashSet<DeliveryId>,
    /// The time to which waits were added, by the database's clock; `None` if nothing was written.
    pub at: Option<OffsetDateTime>,
}

impl Settled {
    /// Whether this delivery was settled. A delivery that was put back behind another counts as settled, even if its
    /// row did not change.
    #[must_use]
    pub fn has(&self, settlement: &Settlement) -> bool {
        matches!(settlement.next, Next::Behind { .. }) || self.ids.contains(&settlement.delivery_id)
    }

    /// Adds the result of another transaction.
    pub fn add(&mut self, other: Self) {
        self.ids.extend(other.ids);
        self.at = self.at.into_iter().chain(other.at).min();
    }
}

/// Settles all of them in one transaction.
///
/// Waits are added to `now()`, the time at which the transaction began. That is after the response of the destination,
/// so no wait is too short. Reads compare with the `now()` of their own transactions.
///
/// # Errors
/// Returns an error if a query fails; then nothing was written.
pub async fn settle(pool: &Pool, settlements: &[Settlement]) -> Result<Settled> {
    let mut transaction = pool.begin().await?;
    let shards: Vec<i16> = settlements.iter().map(|row| row.shard).collect();
    let epochs: Vec<i64> = settlements.iter().map(|row| row.epoch).collect();
    // The shard rows stay locked until the commit: a shard cannot change its owner between this check and the following
    // statements.
    let ours = sqlx::query!(
        r#"select shard, epoch, now() as "now!" from shards
         where (shard, epoch) in (select * from unnest($1::smallint[], $2::bigint[]))
         order by shard for share"#,
        &shards,
        &epochs
    )
    .fetch_all(&mut *transaction)
    .await?;
    let at = ours.first().map(|row| row.now);
    let ours: HashSet<(i16, i64)> = ours.into_iter().map(|row| (row.shard, row.epoch)).collect();
    let settlements: Vec<&Settlement> =
        settlements.iter().filter(|row| ours.contains(&(row.shard, row.epoch))).collect();

    insert_attempts(&mut transaction, &settlements).await?;
    reschedule_behind(&mut transaction, &settlements).await?;
    let finished = finish(&mut transaction, &settlements).await?;
    let rescheduled = reschedule(&mut transaction, &settlements).await?;
    let settled: HashSet<DeliveryId> = finished.into_iter().chain(rescheduled).map(DeliveryId::from_uuid).collect();
    free_keys(&mut transaction, &settlements).await?;
    replays::counts::add(&mut transaction, &replay_counts(&settlements, &settled)).await?;
    // Last, because two transactions that count for the same destination block each other from here until they commit.
    counters::add_to_destinations(&mut transaction, &counts(&settlements, &settled)).await?;
    transaction.commit_changes().await?;
    Ok(Settled { ids: settled, at })
}

async fn insert_attempts(connection: &mut Connection, rows: &[&Settlement]) -> Result<()> {
    let with_attempt: Vec<(&Settlement, &AttemptRow)> =
        rows.iter().filter_map(|row| row.attempt.as_ref().map(|attempt| (*row, attempt))).collect();
    if with_attempt.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = with_attempt.iter().map(|(_, attempt)| attempt.id.uuid()).collect();
    let deliveries: Vec<Uuid> = with_attempt.iter().map(|(row, _)| row.delivery_id.uuid()).collect();
    let destinations: Vec<Uuid> = with_attempt.iter().map(|(row, _)| row.destination_id.uuid()).collect();
    let events: Vec<Uuid> = with_attempt.iter().map(|(row, _)| row.event_id.uuid()).collect();
    let numbers: Vec<i16> = with_attempt.iter().map(|(row, _)| row.attempts).collect();
    let started: Vec<OffsetDateTime> = with_attempt.iter().map(|(_, attempt)| attempt.started_at).collect();
    let latencies: Vec<i32> = with_attempt.iter().map(|(_, attempt)| attempt.latency_ms).collect();
    let statuses: Vec<Option<i16>> = with_attempt.iter().map(|(_, attempt)| attempt.status).collect();
    let errors: Vec<Option<&str>> = with_attempt.iter().map(|(_, attempt)| attempt.error).collect();
    let details: Vec<Option<&str>> = with_attempt.iter().map(|(_, attempt)| attempt.detail.as_deref()).collect();
    let excerpts: Vec<Option<&str>> =
        with_attempt.iter().map(|(_, attempt)| attempt.response_excerpt.as_deref()).collect();
    let locations: Vec<Option<&str>> = with_attempt.iter().map(|(_, attempt)| attempt.location.as_deref()).collect();
    sqlx::query!(
        "insert into attempts (id, delivery_id, destination_id, event_id, number, started_at, latency_ms, status, error,
                               detail, response_excerpt, location)
         select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::smallint[], $6::timestamptz[],
                              $7::int[], $8::smallint[], $9::text[], $10::text[], $11::text[], $12::text[])
         on conflict (id) do nothing",
        &ids,
        &deliveries,
        &destinations,
        &events,
        &numbers,
        &started,
        &latencies,
        &statuses as &[Option<i16>],
        &errors as &[Option<&str>],
        &details as &[Option<&str>],
        &excerpts as &[Option<&str>],
        &locations as &[Option<&str>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Moves deliveries that have ended from the table of pending deliveries to history.
async fn finish(connection: &mut Connection, rows: &[&Settlement]) -> Result<Vec<Uuid>> {
    let mut ids = Vec::new();
    let mut states = Vec::new();
    let mut errors = Vec::new();
    let mut reasons = Vec::new();
    let mut attempts = Vec::new();
    let mut before = Vec::new();
    let mut generations = Vec::new();
    for row in rows {
        let (state, error, reason) = match &row.next {
            Next::Succeeded => (DeliveryState::Succeeded, None, None),
            Next::Dead { error, reason } => (DeliveryState::Dead, Some(*error), Some(reason.as_str())),
            Next::RetryIn(_) | Next::NotSent { .. } | Next::Held { .. } | Next::Behind { .. } => continue,
        };
        ids.push(row.delivery_id.uuid());
        states.push(state.name());
        errors.push(error);
        reasons.push(reason);
        attempts.push(row.attempts);
        before.push(row.attempts_before);
        generations.push(row.generation);
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar!(
        "with ended as (
             delete from pending_deliveries
             using unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::smallint[], $7::bigint[])
                   as outcome (id, state, error, reason, attempts, before, generation)
             where pending_deliveries.id = outcome.id and pending_deliveries.attempts = outcome.before
               and pending_deliveries.generation = outcome.generation
             returning pending_deliveries.id, customer_id, destination_id, event_id, source_id, route_id, replay_id,
                       outcome.state, outcome.error, outcome.reason, outcome.attempts, schedule_start
         )
         insert into settled_deliveries (id, customer_id, destination_id, event_id, source_id, route_id, replay_id, state,
                                         error, reason, attempts, schedule_start)
         select * from ended
         returning id",
        &ids,
        &states as &[&str],
        &errors as &[Option<&str>],
        &reasons as &[Option<&str>],
        &attempts,
        &before,
        &generations
    )
    .fetch_all(connection)
    .await
    .map_err(Error::from)
}

/// Stores when deliveries are due again, or that they are held. A delivery that an operator retried after its attempt
/// had begun stays due now.
async fn reschedule(connection: &mut Connection, rows: &[&Settlement]) -> Result<Vec<Uuid>> {
    let mut ids = Vec::new();
    let mut waits = Vec::new();
    let mut reasons = Vec::new();
    let mut held_by = Vec::new();
    let mut not_sent = Vec::new();
    let mut not_sent_reasons = Vec::new();
    let mut attempts = Vec::new();
    let mut throttled = Vec::new();
    let mut before = Vec::new();
    let mut generations = Vec::new();
    let mut was_sent = Vec::new();
    let mut expedited = Vec::new();
    for row in rows {
        let (wait, held, times, reason) = match &row.next {
            Next::Succeeded | Next::Dead { .. } | Next::Behind { .. } => continue,
            Next::RetryIn(wait) => (Some(*wait), None, 0, None),
            Next::NotSent { wait, times, reason } => (Some(*wait), None, *times, Some(reason.as_str())),
            Next::Held { by, reason } => (None, Some((*by, reason.as_str())), 0, None),
        };
        waits.push(wait.map(|wait| wait.as_secs_f64()));
        reasons.push(held.map(|(_, reason)| reason));
        held_by.push(held.map_or(HeldBy::Transform, |(by, _)| by).name());
        not_sent.push(i16::try_from(times).unwrap_or(i16::MAX));
        not_sent_reasons.push(reason);
        ids.push(row.delivery_id.uuid());
        attempts.push(row.attempts);
        throttled.push(row.throttled);
        before.push(row.attempts_before);
        generations.push(row.generation);
        was_sent.push(matches!(row.next, Next::RetryIn(_)));
        expedited.push(row.expedited);
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar!(
        "update pending_deliveries
         set due_at = case when later.was_sent and not later.expedited and expedited_at is not null
                           then pending_deliveries.due_at
                           else coalesce(now() + later.wait_s * interval '1 second', 'infinity') end,
             expedited_at = case when later.held_reason is null and not (later.was_sent and later.expedited)
                                 then expedited_at end,
             held_reason = later.held_reason, attempts = later.attempts,
             held_at = case when later.held_reason is not null then now() end, undecided = false, decide_at = null,
             not_sent = later.not_sent, not_sent_reason = later.not_sent_reason, throttled = later.throttled,
             held_by = later.held_by
         from unnest($1::uuid[], $2::float8[], $3::text[], $4::smallint[], $5::smallint[], $6::text[], $7::smallint[],
                     $8::text[], $9::smallint[], $10::bigint[], $11::bool[], $12::bool[])
              as later (id, wait_s, held_reason, attempts, not_sent, not_sent_reason, throttled, held_by, before,
                        generation, was_sent, expedited)
         where pending_deliveries.id = later.id and pending_deliveries.attempts = later.before
           and pending_deliveries.generation = later.generation
         returning pending_deliveries.id",
        &ids,
        &waits as &[Option<f64>],
        &reasons as &[Option<&str>],
        &attempts,
        &not_sent,
        &not_sent_reasons as &[Option<&str>],
        &throttled,
        &held_by as &[&str],
        &before,
        &generations,
        &was_sent,
        &expedited
    )
    .fetch_all(connection)
    .await
    .map_err(Error::from)
}

/// Makes deliveries that have to wait for an earlier one of their order key due later. If that one has ended in the
/// meantime, they stay due.
async fn reschedule_behind(connection: &mut Connection, rows: &[&Settlement]) -> Result<()> {
    let behind = rows.iter().filter_map(|row| match &row.next {
        Next::Behind { wait } => Some((row.delivery_id.uuid(), wait.as_secs_f64())),
        Next::Succeeded | Next::Dead { .. } | Next::RetryIn(_) | Next::NotSent { .. } | Next::Held { .. } => None,
    });
    let (ids, waits): (Vec<Uuid>, Vec<f64>) = behind.unzip();
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update pending_deliveries set due_at = now() + later.wait_s * interval '1 second'
         from unnest($1::uuid[], $2::float8[]) as later (id, wait_s)
         where pending_deliveries.id = later.id and pending_deliveries.held_reason is null
           and exists (
               select from pending_deliveries earlier
               left join routes route on route.id = pending_deliveries.route_id
               left join lateral (
                   select poison from route_versions kept
                   where kept.route_id = pending_deliveries.route_id and route.id is null
                   order by version desc limit 1
               ) gone on true
               where earlier.destination_id = pending_deliveries.destination_id
                 and earlier.order_key = pending_deliveries.order_key and earlier.id < pending_deliveries.id
                 and (coalesce(route.poison, gone.poison, 'block') = 'block'
                      or earlier.attempts = earlier.schedule_start and earlier.held_reason is null))",
        &ids,
        &waits
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes the next delivery of each freed order key due now: the first one that has not been attempted. A retried
/// delivery keeps its own time, and the wait before a first attempt is not shortened.
async fn free_keys(connection: &mut Connection, rows: &[&Settlement]) -> Result<()> {
    let freed = rows.iter().filter(|row| row.frees_key);
    let freed = freed.filter_map(|row| row.order_key.map(|key| (row.destination_id.uuid(), key)));
    let (destinations, keys): (Vec<Uuid>, Vec<i64>) = freed.unzip();
    if keys.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update pending_deliveries set due_at = greatest(now(), not_before)
         where due_at > greatest(now(), not_before) and id in (
             select first.id from unnest($1::uuid[], $2::bigint[]) as freed (destination_id, order_key)
             cross join lateral (
                 select id from pending_deliveries waiting
                 where waiting.destination_id = freed.destination_id and waiting.order_key = freed.order_key
                   and waiting.attempts = waiting.schedule_start and waiting.held_reason is null
                 order by id limit 1
             ) first)",
        &destinations,
        &keys
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The counts that the settlements add to the counters of their destinations.
fn counts(rows: &[&Settlement], settled: &HashSet<DeliveryId>) -> BTreeMap<DestinationId, DestinationCounts> {
    let mut counts: BTreeMap<DestinationId, DestinationCounts> = BTreeMap::new();
    for row in rows.iter().filter(|row| settled.contains(&row.delivery_id)) {
        let count = counts.entry(row.destination_id).or_default();
        match row.next {
            Next::Succeeded => count.succeeded += 1,
            Next::Dead { .. } => count.dead += 1,
            Next::RetryIn(_) | Next::NotSent { .. } | Next::Held { .. } | Next::Behind { .. } => {}
        }
        if let Some(attempt) = &row.attempt {
            count.failed_attempts += i64::from(attempt.error.is_some());
            count.took(attempt.latency_ms);
        }
    }
    counts
}

/// The counts that the settlements add to the replays that made their deliveries.
fn replay_counts(rows: &[&Settlement], settled: &HashSet<DeliveryId>) -> BTreeMap<ReplayId, Counts> {
    let mut counts: BTreeMap<ReplayId, Counts> = BTreeMap::new();
    for row in rows.iter().filter(|row| settled.contains(&row.delivery_id)) {
        let Some(replay) = row.replay_id else { continue };
        match row.next {
            Next::Succeeded => counts.entry(replay).or_default().succeeded += 1,
            Next::Dead { .. } => counts.entry(replay).or_default().dead += 1,
            Next::RetryIn(_) | Next::NotSent { .. } | Next::Held { .. } | Next::Behind { .. } => {}
        }
    }
    counts
}
