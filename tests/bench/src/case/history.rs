//! The same load with and without millions of settled deliveries in history.

use harness::error::Result;

use crate::figure::Report;
use crate::options::Options;
use crate::pairs::{Side, compare};
use crate::stack::Stack;

/// The number of days of history, including today.
const DAYS: u64 = 10;

/// The number of days with dedupe keys: today and the default of three days before it.
const KEY_DAYS: u64 = 4;

/// The number of rows per statement.
const CHUNK: u64 = 250_000;

/// Measures the deliveries with and without history.
///
/// # Errors
/// Returns an error if a part does not start, or if the deliveries are not settled in time.
pub async fn run(options: Options) -> Result<Report> {
    let rows = options.rows.unwrap_or(options.pick(10_000_000, 50_000));
    let (without, with) = (Side::start("history").await?, Side::start("history").await?);
    for day in 0..DAYS {
        fill(&with.stack, day, rows / DAYS).await?;
    }
    let pairs = compare(&without, &with, &[], options.pick(5, 1), options.time(20, 3)).await?;

    let mut report = Report::new(format!("{rows} settled deliveries in history"));
    pairs.report(&mut report, "deliveries without them", "deliveries with them");
    report.note(format!(
        "as many events and attempts, without bodies, over {DAYS} days with a {DAYS}th of them today, all of one source and one \
         destination; the dedupe keys of {KEY_DAYS} days"
    ));
    Ok(report)
}

/// Inserts the history of the day `ago` days ago.
async fn fill(stack: &Stack, ago: u64, rows: u64) -> Result<()> {
    let day = format!("(current_date - {ago})");
    stack.execute(format!("select create_day({day})")).await?;
    for from in (0..rows).step_by(usize::try_from(CHUNK).unwrap_or(usize::MAX)) {
        let until = (from + CHUNK).min(rows);
        // The event, its delivery and its attempt share one id: each is in its own table.
        stack
            .execute(format!(
                "with day as (
                     select {day}::timestamp at time zone 'UTC' as start,
                            extract(epoch from least(now(), ({day} + 1)::timestamp at time zone 'UTC')
                                               - {day}::timestamp at time zone 'UTC') * 1000 as length_ms
                 ), rows as (
                     select start + {spread} as at, md5(number || start::text) as random,
                            (extract(epoch from start + {spread}) * 1000)::bigint as at_ms
                     from day, generate_series({from} + 1, {until}) number
                 ), history as (
                     select (lpad(to_hex(at_ms), 12, '0') || '7' || substr(random, 1, 3) || '8'
                             || substr(random, 4, 15))::uuid as id, at, routes.customer_id, source_id, destination_id,
                            routes.id as route_id
                     from rows, routes join destinations on destinations.id = destination_id
                     where destinations.name = 'history'
                 ), stored as (
                     insert into events (id, customer_id, source_id, received_at, stored_at, type, provider_event_id, method,
                                         query, headers, body_size, verification)
                     select id, customer_id, source_id, at, at, 'push', id::text, 'POST', '',
                            '[[\"content-type\", \"application/json\"]]', 1000, 'verified' from history
                 ), keys as (
                     insert into event_keys (source_id, key, day, event_id, body_hash)
                     select source_id, sha256(id::text::bytea), {day}, id, substring(sha256(id::text::bytea) from 1 for 16)
                     from history where {ago} < {KEY_DAYS}
                 ), settled as (
                     insert into settled_deliveries (id, customer_id, destination_id, event_id, source_id, route_id, state,
                                                     attempts, schedule_start, settled_at)
                     select id, customer_id, destination_id, id, source_id, route_id, 'succeeded', 1, 0, at from history
                 )
                 insert into attempts (id, delivery_id, destination_id, event_id, number, started_at, latency_ms, status)
                 select id, id, destination_id, id, 1, at, 3, 200 from history",
                spread = format_args!("number * (length_ms / {rows}) * interval '1 millisecond' * 0.999"),
            ))
            .await?;
    }
    Ok(())
}
