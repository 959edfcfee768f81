//! The counts and the health of several sources or destinations at once, for a page of them.

use std::collections::{BTreeMap, HashMap};

use model::health::BreakerName;
use model::held_by::HeldBy;
use shared::id::{CustomerId, DestinationId, SourceId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::column::As;
use super::counters::{DestinationCounts, SourceCounts, Span};
use super::destination_health::{HealthRow, PendingRow};
use super::held::CountRow;
use crate::{Pool, Result};

/// The most pending deliveries, and held ones of one cause, that are counted for a destination that is shown alone.
pub const COUNTED_OF_ONE: i64 = 10_000;

/// As [`COUNTED_OF_ONE`], for each destination of a page.
pub const COUNTED: i64 = 1_000;

/// The counts of each of these sources that belongs to the customer; steps without any activity are left out.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn of_sources(
    pool: &Pool,
    customer: CustomerId,
    sources: &[SourceId],
    span: Span,
) -> Result<HashMap<SourceId, BTreeMap<OffsetDateTime, SourceCounts>>> {
    let ids: Vec<Uuid> = sources.iter().map(|id| id.uuid()).collect();
    let mut search = pool.begin_range().await?;
    let rows = sqlx::query!(
        r#"select source_id as "source_id!", date_trunc($5, minute) as "at!", sum(stored)::bigint as "stored!",
                  sum(copies)::bigint as "copies!", sum(rejected)::bigint as "rejected!"
           from source_counters
           where source_id = any(array(select id from sources where customer_id = $1 and id = any($2)))
             and minute >= $3 and minute < $4
           group by 1, 2"#,
        customer.uuid(),
        &ids,
        span.from,
        span.until,
        span.step
    )
    .fetch_all(&mut *search)
    .await?;
    let mut counts: HashMap<SourceId, BTreeMap<OffsetDateTime, SourceCounts>> = HashMap::new();
    for row in rows {
        let found = SourceCounts { stored: row.stored, copies: row.copies, rejected: row.rejected };
        counts.entry(SourceId::from_uuid(row.source_id)).or_default().insert(row.at, found);
    }
    Ok(counts)
}

/// The minute of the last event or copy of each of these sources that belongs to the customer, since a time; sources
/// without one are left out.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn last_of_sources(
    pool: &Pool,
    customer: CustomerId,
    sources: &[SourceId],
    since: OffsetDateTime,
) -> Result<HashMap<SourceId, OffsetDateTime>> {
    let ids: Vec<Uuid> = sources.iter().map(|id| id.uuid()).collect();
    let mut search = pool.begin_range().await?;
    let rows = sqlx::query!(
        r#"select owned.id as "id!", last.minute as "minute!"
           from (select id from sources where customer_id = $1 and id = any($2)) owned
           cross join lateral (
               select minute from source_counters
               where source_id = owned.id and minute >= $3 and (stored > 0 or copies > 0)
               order by minute desc limit 1
           ) last"#,
        customer.uuid(),
        &ids,
        since
    )
    .fetch_all(&mut *search)
    .await?;
    Ok(rows.into_iter().map(|row| (SourceId::from_uuid(row.id), row.minute)).collect())
}

/// The counts of each of these destinations that belongs to the customer; steps without any activity are left out.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn of_destinations(
    pool: &Pool,
    customer: CustomerId,
    destinations: &[DestinationId],
    span: Span,
) -> Result<HashMap<DestinationId, BTreeMap<OffsetDateTime, DestinationCounts>>> {
    let ids: Vec<Uuid> = destinations.iter().map(|id| id.uuid()).collect();
    let mut search = pool.begin_range().await?;
    let rows = sqlx::query!(
        r#"select destination_id as "destination_id!", date_trunc($5, minute) as "at!",
                  sum(succeeded)::bigint as "succeeded!", sum(dead)::bigint as "dead!",
                  sum(failed_attempts)::bigint as "failed_attempts!",
                  array[sum(within_50_ms), sum(within_250_ms), sum(within_1_s), sum(within_5_s), sum(within_30_s),
                        sum(longer)]::bigint[] as "attempts!"
           from destination_counters
           where destination_id = any(array(select id from destinations where customer_id = $1 and id = any($2)))
             and minute >= $3 and minute < $4
           group by 1, 2"#,
        customer.uuid(),
        &ids,
        span.from,
        span.until,
        span.step
    )
    .fetch_all(&mut *search)
    .await?;
    let mut counts: HashMap<DestinationId, BTreeMap<OffsetDateTime, DestinationCounts>> = HashMap::new();
    for row in rows {
        let attempts = row.attempts.try_into().unwrap_or_default();
        let (succeeded, dead, failed_attempts) = (row.succeeded, row.dead, row.failed_attempts);
        let found = DestinationCounts { succeeded, dead, failed_attempts, attempts };
        counts.entry(DestinationId::from_uuid(row.destination_id)).or_default().insert(row.at, found);
    }
    Ok(counts)
}

/// The last reports of these destinations. Destinations that nothing has been sent to are left out.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn reports(pool: &Pool, destinations: &[DestinationId]) -> Result<HashMap<DestinationId, HealthRow>> {
    let ids: Vec<Uuid> = destinations.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        r#"select destination_id, breaker as "breaker!: As<BreakerName>", breaker_since, probe_at, back_off_until,
                  reduced_by, reduced_since, rate_factor, concurrency, in_flight, waiting_fresh, waiting_retry,
                  waiting_replay, recent_attempts, recent_failures, latency_ms, failing_since, failures, reported_at,
                  learned_since
           from destination_health where destination_id = any($1)"#,
        &ids
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let health = HealthRow {
                breaker: row.breaker.into(),
                breaker_since: row.breaker_since,
                probe_at: row.probe_at,
                back_off_until: row.back_off_until,
                reduced_by: row.reduced_by,
                reduced_since: row.reduced_since,
                rate_factor: row.rate_factor,
                concurrency: row.concurrency,
                in_flight: row.in_flight,
                waiting_fresh: row.waiting_fresh,
                waiting_retry: row.waiting_retry,
                waiting_replay: row.waiting_replay,
                recent_attempts: row.recent_attempts,
                recent_failures: row.recent_failures,
                latency_ms: row.latency_ms,
                failing_since: row.failing_since,
                failures: row.failures,
                reported_at: row.reported_at,
                learned_since: row.learned_since,
            };
            (DestinationId::from_uuid(row.destination_id), health)
        })
        .collect())
}

/// The pending deliveries of each of these destinations, counted up to `most`, and when the first became due. Held
/// deliveries are counted, but are never due.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn pending(
    pool: &Pool,
    destinations: &[DestinationId],
    most: i64,
) -> Result<HashMap<DestinationId, PendingRow>> {
    let ids: Vec<Uuid> = destinations.iter().map(|id| id.uuid()).collect();
    let mut search = pool.begin_range().await?;
    let rows = sqlx::query!(
        r#"select owned.id as "id!", counted.count as "count!", first.due_at as oldest_due_at
           from unnest($1::uuid[]) owned (id)
           cross join lateral (
               select count(*) as count
               from (select from pending_deliveries where destination_id = owned.id limit $2) pending
           ) counted
           cross join lateral (
               select min(lane.due_at) as due_at
               from unnest(array[0, 1, 2]::smallint[]) as lanes (lane)
               cross join lateral (
                   select due_at from pending_deliveries pending
                   where pending.destination_id = owned.id and pending.lane = lanes.lane and due_at < 'infinity'
                   order by due_at limit 1
               ) lane
           ) first"#,
        &ids,
        most
    )
    .fetch_all(&mut *search)
    .await?;
    let row = |id, count, oldest_due_at| (DestinationId::from_uuid(id), PendingRow { count, oldest_due_at });
    Ok(rows.into_iter().map(|found| row(found.id, found.count, found.oldest_due_at)).collect())
}

/// The held deliveries of each of these destinations by cause, each count up to `most`. Causes without any are left out.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn held(
    pool: &Pool,
    destinations: &[DestinationId],
    most: i64,
) -> Result<HashMap<DestinationId, Vec<CountRow>>> {
    let ids: Vec<Uuid> = destinations.iter().map(|id| id.uuid()).collect();
    let by: Vec<&str> = HeldBy::ALL.iter().map(|by| by.name()).collect();
    let mut search = pool.begin_range().await?;
    let rows = sqlx::query!(
        r#"select owned.id as "id!", kinds.kind as "held_by!: As<HeldBy>", counted.count as "count!", counted.since
           from unnest($1::uuid[]) owned (id) cross join unnest($2::text[]) as kinds (kind)
           cross join lateral (
               select count(*) as count, min(held_at) as since from (
                   select held_at from pending_deliveries pending
                   where pending.destination_id = owned.id and pending.held_by = kinds.kind and pending.due_at = 'infinity'
                   order by pending.held_at limit $3
               ) held
           ) counted
           where counted.count > 0"#,
        &ids,
        &by as &[&str],
        most
    )
    .fetch_all(&mut *search)
    .await?;
    let mut counts: HashMap<DestinationId, Vec<CountRow>> = HashMap::new();
    for row in rows {
        let count = CountRow { held_by: row.held_by.into(), count: row.count, since: row.since };
        counts.entry(DestinationId::from_uuid(row.id)).or_default().push(count);
    }
    Ok(counts)
}
