//! Counts per minute, for each source and each destination. The transactions that store and settle update them, so that
//! a dashboard reads a few rows instead of counting history.

use std::collections::BTreeMap;

use shared::id::{CustomerId, DestinationId, SourceId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Connection, Pool, Result};

/// The upper bounds of the latency classes of attempts, in milliseconds. The last class has no upper bound.
pub const LATENCIES_MS: [i32; 5] = [50, 250, 1_000, 5_000, 30_000];

/// Counts of received requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceCounts {
    pub stored: i64,
    pub copies: i64,
    /// Requests that the edge refused, and requests that failed verification and exceeded the quarantine limits of the
    /// source.
    pub rejected: i64,
}

/// What a batch adds to the counts of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arrived {
    pub counts: SourceCounts,
    /// How many of the stored events do not count against the limit of the customer.
    pub unrated: i64,
}

/// Counts of deliveries and attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DestinationCounts {
    pub succeeded: i64,
    pub dead: i64,
    pub failed_attempts: i64,
    /// All attempts, by latency class: see [`LATENCIES_MS`].
    pub attempts: [i64; 6],
}

impl DestinationCounts {
    /// Counts an attempt in its latency class.
    pub fn took(&mut self, latency_ms: i32) {
        self.attempts[LATENCIES_MS.iter().filter(|most| latency_ms > **most).count()] += 1;
    }
}

/// Adds to the current minute of each source, in the order of their ids.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn add_to_sources(connection: &mut Connection, counts: &BTreeMap<SourceId, Arrived>) -> Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = counts.keys().map(|id| id.uuid()).collect();
    let column = |of: fn(&Arrived) -> i64| counts.values().map(of).collect::<Vec<i64>>();
    sqlx::query!(
        "insert into source_counters as counter (source_id, minute, part, stored, copies, rejected, unrated)
         select source_id, date_trunc('minute', now()), pg_backend_pid() % 8, stored, copies, rejected, unrated
         from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
              as more (source_id, stored, copies, rejected, unrated)
         on conflict (source_id, minute, part) do update
         set stored = counter.stored + excluded.stored, copies = counter.copies + excluded.copies,
             rejected = counter.rejected + excluded.rejected, unrated = counter.unrated + excluded.unrated",
        &ids,
        &column(|arrived| arrived.counts.stored),
        &column(|arrived| arrived.counts.copies),
        &column(|arrived| arrived.counts.rejected),
        &column(|arrived| arrived.unrated)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds to the current minute of each destination, in the order of their ids.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn add_to_destinations(
    connection: &mut Connection,
    counts: &BTreeMap<DestinationId, DestinationCounts>,
) -> Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = counts.keys().map(|id| id.uuid()).collect();
    let column = |of: fn(&DestinationCounts) -> i64| counts.values().map(of).collect::<Vec<i64>>();
    sqlx::query!(
        "insert into destination_counters as counter (destination_id, minute, succeeded, dead, failed_attempts,
             within_50_ms, within_250_ms, within_1_s, within_5_s, within_30_s, longer)
         select destination_id, date_trunc('minute', now()), succeeded, dead, failed_attempts,
                within_50_ms, within_250_ms, within_1_s, within_5_s, within_30_s, longer
         from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                     $8::bigint[], $9::bigint[], $10::bigint[])
              as more (destination_id, succeeded, dead, failed_attempts, within_50_ms, within_250_ms, within_1_s,
                       within_5_s, within_30_s, longer)
         on conflict (destination_id, minute) do update
         set succeeded = counter.succeeded + excluded.succeeded, dead = counter.dead + excluded.dead,
             failed_attempts = counter.failed_attempts + excluded.failed_attempts,
             within_50_ms = counter.within_50_ms + excluded.within_50_ms,
             within_250_ms = counter.within_250_ms + excluded.within_250_ms,
             within_1_s = counter.within_1_s + excluded.within_1_s,
             within_5_s = counter.within_5_s + excluded.within_5_s,
             within_30_s = counter.within_30_s + excluded.within_30_s, longer = counter.longer + excluded.longer",
        &ids,
        &column(|count| count.succeeded),
        &column(|count| count.dead),
        &column(|count| count.failed_attempts),
        &column(|count| count.attempts[0]),
        &column(|count| count.attempts[1]),
        &column(|count| count.attempts[2]),
        &column(|count| count.attempts[3]),
        &column(|count| count.attempts[4]),
        &column(|count| count.attempts[5])
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The time span to read, and the step by which counts are summed.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub from: OffsetDateTime,
    /// Exclusive.
    pub until: OffsetDateTime,
    /// `minute`, `hour` or `day` (UTC).
    pub step: &'static str,
}

/// The counts of one source of a customer, or of all its sources together; steps without any activity are left out.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn of_sources(
    pool: &Pool,
    customer: CustomerId,
    source: Option<SourceId>,
    span: Span,
) -> Result<BTreeMap<OffsetDateTime, SourceCounts>> {
    let mut search = pool.begin_search().await?;
    let rows = sqlx::query!(
        r#"select date_trunc($5, minute) as "at!", sum(stored)::bigint as "stored!",
                  sum(copies)::bigint as "copies!", sum(rejected)::bigint as "rejected!"
           from source_counters
           where source_id = any(array(select id from sources where customer_id = $1 and ($2::uuid is null or id = $2)))
             and minute >= $3 and minute < $4
           group by 1"#,
        customer.uuid(),
        source.map(SourceId::uuid),
        span.from,
        span.until,
        span.step
    )
    .fetch_all(&mut *search)
    .await?;
    let rows = rows
        .into_iter()
        .map(|row| (row.at, SourceCounts { stored: row.stored, copies: row.copies, rejected: row.rejected }));
    Ok(rows.collect())
}

/// The counts of one destination of a customer, or of all its destinations together; steps without any activity are
/// left out.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn of_destinations(
    pool: &Pool,
    customer: CustomerId,
    destination: Option<DestinationId>,
    span: Span,
) -> Result<BTreeMap<OffsetDateTime, DestinationCounts>> {
    let mut search = pool.begin_search().await?;
    let rows = sqlx::query!(
        r#"select date_trunc($5, minute) as "at!", sum(succeeded)::bigint as "succeeded!", sum(dead)::bigint as "dead!",
                  sum(failed_attempts)::bigint as "failed_attempts!",
                  array[sum(within_50_ms), sum(within_250_ms), sum(within_1_s), sum(within_5_s), sum(within_30_s),
                        sum(longer)]::bigint[] as "attempts!"
           from destination_counters
           where destination_id = any(array(
                     select id from destinations where customer_id = $1 and ($2::uuid is null or id = $2)))
             and minute >= $3 and minute < $4
           group by 1"#,
        customer.uuid(),
        destination.map(DestinationId::uuid),
        span.from,
        span.until,
        span.step
    )
    .fetch_all(&mut *search)
    .await?;
    let rows = rows.into_iter().map(|row| {
        let attempts = row.attempts.try_into().unwrap_or_default();
        let (succeeded, dead, failed_attempts) = (row.succeeded, row.dead, row.failed_attempts);
        (row.at, DestinationCounts { succeeded, dead, failed_attempts, attempts })
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_counted_in_the_first_class_that_its_latency_fits() {
        let mut counts = DestinationCounts::default();
        for latency_ms in [0, 50, 51, 250, 30_000, 30_001, i32::MAX] {
            counts.took(latency_ms);
        }
        assert_eq!(counts.attempts, [2, 2, 0, 0, 1, 2]);
    }
}
