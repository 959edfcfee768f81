//! Queries of tests on their database.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::wait::until;

/// The tables of history. Each has one partition per day.
pub const PARTITIONED: [&str; 10] = [
    "events",
    "event_bodies",
    "event_keys",
    "event_copies",
    "settled_deliveries",
    "attempts",
    "rejections",
    "unreadable_messages",
    "source_counters",
    "destination_counters",
];

/// Waits until a query that returns one number, such as `select count(*) from pending_deliveries`, returns one that
/// satisfies `is_wanted`, and returns that number.
///
/// # Panics
/// Panics after `timeout`.
pub async fn wait_for_count(
    database: &mut PgConnection,
    what: &str,
    query: &str,
    timeout: Duration,
    is_wanted: impl Fn(i64) -> bool,
) -> i64 {
    until(what, timeout, async || {
        let read = sqlx::query_scalar::<_, i64>(AssertSqlSafe(query)).fetch_one(&mut *database).await;
        match read.map_err(|error| error.to_string())? {
            count if is_wanted(count) => Ok(count),
            count => Err(format!("the query gives {count}")),
        }
    })
    .await
}

/// The number of transactions in the database so far. A statement outside of a transaction block counts as one.
/// PostgreSQL publishes the counts of its processes with a short delay.
///
/// # Panics
/// Panics if the query fails.
pub async fn transactions(database: &mut PgConnection) -> i64 {
    sqlx::query("select pg_stat_clear_snapshot()").execute(&mut *database).await.expect("the snapshot is cleared");
    sqlx::query_scalar("select xact_commit + xact_rollback from pg_stat_database where datname = current_database()")
        .fetch_one(database)
        .await
        .expect("the transactions are counted")
}
