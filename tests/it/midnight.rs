//! store: copies of an event that arrive on both sides of midnight.

use harness::gateway::Gateway;
use harness::postgres::wait_for_count;
use harness::wait::SOON;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};

/// `now()` of this database: two minutes before midnight, until a transaction begins at `at` or later.
const FAKE_NOW: &str = "
    create table shift (before interval, after interval, at timestamptz);
    insert into shift select day - interval '2 minutes' - started, day + interval '1 second' - started, 'infinity'
    from (select clock_timestamp() as started, date_trunc('day', clock_timestamp(), 'UTC') + interval '1 day' as day) today;
    create function public.now() returns timestamptz stable language sql as
        'select pg_catalog.now() + case when pg_catalog.now() < at then before else after end from public.shift';
";

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_are_stored_concurrently_on_both_sides_of_midnight_are_one_event() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let line = gateway.line("night").await;
    gateway.relay.stop().await.expect("stops");
    let mut database = gateway.database.connect().await.expect("connects");
    sqlx::raw_sql(FAKE_NOW).execute(&mut database).await.expect("makes the clock");
    let first = format!("alter database {} set search_path = public, pg_catalog", gateway.database.name());
    sqlx::raw_sql(AssertSqlSafe(first)).execute(&mut database).await.expect("puts it first");
    gateway.relay.start_again().await.expect("starts again");
    let mut other = gateway.another_relay().await;
    other.expect_errors();

    // The transaction that stores the first copy has claimed its key and waits here.
    let mut lock = gateway.database.connect().await.expect("connects");
    sqlx::raw_sql("begin; lock table events in exclusive mode").execute(&mut lock).await.expect("locks");
    let headers = [("webhook-id", "msg_1"), ("content-type", "application/json")];
    let ids = [gateway.push_with(&line.source, &headers, b"{}"), {
        wait_for_blocked_transactions(&mut database, 1).await;
        sqlx::query("update shift set at = clock_timestamp()").execute(&mut database).await.expect("it is midnight");
        gateway.push_with(&line.source, &headers, b"{}")
    }];
    wait_for_blocked_transactions(&mut database, 2).await;
    sqlx::raw_sql("commit").execute(&mut lock).await.expect("commits");
    gateway.drained(SOON).await;
    let events = gateway.relay.api().all("/v1/events?source=night").await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["id"], &events[0]["copies"]), (&json!(ids[0].to_string()), &json!(1)));
    let days: Vec<i64> = sqlx::query_scalar("select count(*) from event_keys group by day")
        .fetch_all(&mut database)
        .await
        .expect("reads");
    assert_eq!(days, [1], "the key is claimed for one day");
}

/// Waits until at least `count` transactions wait for locks.
async fn wait_for_blocked_transactions(database: &mut PgConnection, count: i64) {
    wait_for_count(
        database,
        "transactions to wait",
        "select count(distinct pid) from pg_locks join pg_database on pg_database.oid = pg_locks.database
             where datname = current_database() and not granted and locktype in ('relation', 'advisory')",
        SOON,
        |waiting| waiting >= count,
    )
    .await;
}
