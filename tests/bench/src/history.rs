//! Days of settled deliveries that nothing has sent, to measure what history costs.

use harness::error::Result;

use super::stack::Stack;

/// The number of days of history, including today.
pub const DAYS: u64 = 10;

/// The number of days with dedupe keys: today and the default of three days before it.
pub const KEY_DAYS: u64 = 4;

/// The number of rows per statement.
const CHUNK: u64 = 250_000;

/// Inserts `rows` settled deliveries of the destination `history`, with as many events and attempts, over [`DAYS`] days.
/// The events of the newest `days_with_bodies` days have a body.
///
/// # Errors
/// Returns an error if a statement fails.
pub async fn fill(stack: &Stack, rows: u64, days_with_bodies: u64) -> Result<()> {
    for day in 0..DAYS {
        fill_day(stack, day, rows / DAYS, day < days_with_bodies).await?;
    }
    Ok(())
}

/// Inserts the history of the day `ago` days ago.
async fn fill_day(stack: &Stack, ago: u64, rows: u64, with_bodies: bool) -> Result<()> {
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
                 ), bodies as (
                     insert into event_bodies (event_id, body)
                     select id, convert_to(rpad('{{\"id\":\"' || id || '\",\"text\":\"', 998, md5(id::text)) || '\"}}', 'UTF8')
                     from history where {with_bodies}
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
