//! What happened in each minute, per source and per destination: added to in the transactions that store and settle, so
//! that a dashboard reads a few rows where it would else count history.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Connection, Pool, Result};

/// How long attempts took at the most that are counted together, in milliseconds; the last count is of those that took
/// longer.
pub const LATENCIES_MS: [i32; 5] = [50, 250, 1_000, 5_000, 30_000];

/// What came in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceCounts {
    pub stored: i64,
    pub copies: i64,
    /// Requests that the edge refused, and those that failed and were beyond what the source keeps of such.
    pub rejected: i64,
}

/// What went out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DestinationCounts {
    pub succeeded: i64,
    pub dead: i64,
    pub failed_attempts: i64,
    /// All attempts, by how long they took: see [`LATENCIES_MS`].
    pub attempts: [i64; 6],
}

impl DestinationCounts {
    /// Counts an attempt by how long it took.
    pub fn took(&mut self, latency_ms: i32) {
        self.attempts[LATENCIES_MS.iter().filter(|most| latency_ms > **most).count()] += 1;
    }
}

/// Adds to this minute of each source, in the order of their ids.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn add_to_sources(connection: &mut Connection, counts: &BTreeMap<Uuid, SourceCounts>) -> Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = counts.keys().copied().collect();
    let column = |of: fn(&SourceCounts) -> i64| counts.values().map(of).collect::<Vec<i64>>();
    sqlx::query!(
        "insert into source_counters as counter (source_id, minute, part, stored, copies, rejected)
         select source_id, date_trunc('minute', now()), pg_backend_pid() % 8, stored, copies, rejected
         from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[])
              as more (source_id, stored, copies, rejected)
         on conflict (source_id, minute, part) do update
         set stored = counter.stored + excluded.stored, copies = counter.copies + excluded.copies,
             rejected = counter.rejected + excluded.rejected",
        &ids,
        &column(|count| count.stored),
        &column(|count| count.copies),
        &column(|count| count.rejected)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds to this minute of each destination, in the order of their ids.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn add_to_destinations(
    connection: &mut Connection,
    counts: &BTreeMap<Uuid, DestinationCounts>,
) -> Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = counts.keys().copied().collect();
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

/// Which counters are asked for, and how they are added up.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub from: OffsetDateTime,
    /// Exclusive.
    pub until: OffsetDateTime,
    /// `minute`, `hour` or `day` (UTC).
    pub step: &'static str,
}

/// What came in by one source of a customer, or by all of them; steps in which nothing happened are left out.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn of_sources(
    pool: &Pool,
    customer: Uuid,
    source: Option<Uuid>,
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
        customer,
        source,
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

/// What went out to one destination of a customer, or to all of them; steps in which nothing happened are left out.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn of_destinations(
    pool: &Pool,
    customer: Uuid,
    destination: Option<Uuid>,
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
        customer,
        destination,
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
    fn an_attempt_is_counted_where_its_latency_still_fits() {
        let mut counts = DestinationCounts::default();
        for latency_ms in [0, 50, 51, 250, 30_000, 30_001, i32::MAX] {
            counts.took(latency_ms);
        }
        assert_eq!(counts.attempts, [2, 2, 0, 0, 1, 2]);
    }
}
