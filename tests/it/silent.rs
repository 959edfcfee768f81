//! silent: a database stops responding without closing its connections, as in a failover. The relay drops the
//! connections and continues.

use std::time::Instant;

use harness::gateway::{Gateway, Line, RelayOnly, drained};
use harness::postgres::wait_for_count;
use harness::wait::{SOON, until};
use serde_json::json;
use shared::envelope::Verification;
use shared::id::EventId;
use sqlx::PgConnection;

/// So few that the test fails if the relay never replaces one of them.
const CONNECTIONS: usize = 8;

/// The number of events of a burst. Their bodies are read when they are sent.
const LARGE: usize = 60;

/// Larger than the bodies that are read together with their deliveries.
const LARGE_BYTES: usize = 1_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_recovers_from_a_database_that_stops_responding_under_load_and_loses_nothing() {
    let connections = CONNECTIONS.to_string();
    let (mut gateway, proxy) =
        Gateway::relay_only_by_proxy_with(|settings| settings.with("TIDEGATE_DATABASE_CONNECTIONS", &connections))
            .await;
    gateway.relay.expect_errors();
    let mut database = gateway.database.connect().await.expect("connects");
    let (small, large) = (gateway.line("small").await, gateway.line("large").await);
    let mut events: Vec<EventId> = (0..500).map(|_| gateway.push(&small.source, b"{}")).collect();
    small.receiver.wait_for_events(&events, SOON).await;
    let bodies = prepare_burst(&gateway, &large).await;

    let replay = json!({ "filter": { "source": "small" }, "rate_limit": { "limit": 100, "per": "second" } });
    let replay = gateway.api.post("/v1/replays", &replay).await.expect_status(201);
    events.extend((0..500).map(|_| gateway.push(&small.source, b"{}")));
    gateway.api.resume(&large.destination.id).await;
    wait_until_bodies_are_read(&mut database).await;
    proxy.silence();
    let silent = Instant::now();
    let after: Vec<EventId> = (0..100).map(|_| gateway.push(&small.source, b"{}")).collect();
    wait_until_any_arrives(&small, &after).await;
    let first = silent.elapsed();
    events.extend(after);
    small.receiver.wait_for_events(&events, SOON).await;
    println!("first event delivered {first:?} after the silence began, all events after {:?}", silent.elapsed());
    gateway.api.wait_for_status("/v1/sources?limit=1", 200, SOON).await;
    large.receiver.wait_for_events(&bodies, SOON).await;
    drained(&gateway.queue, SOON).await;
    gateway.api.wait_for_replay(&replay, SOON).await;
    wait_until_all_connections_are_used(&gateway, &mut database).await;

    let bodies = prepare_burst(&gateway, &large).await;
    gateway.api.resume(&large.destination.id).await;
    large.receiver.wait_for_events(&bodies, SOON).await;
}

/// Stores events with large bodies for a paused destination.
async fn prepare_burst(gateway: &RelayOnly, line: &Line) -> Vec<EventId> {
    gateway.api.pause(&line.destination.id).await;
    let verified = std::iter::repeat_n(Verification::Verified, LARGE);
    let ids = gateway.push_large(&line.source, &[("content-type", "text/plain")], vec![b'x'; LARGE_BYTES], verified);
    drained(&gateway.queue, SOON).await;
    ids
}

/// Waits until attempts are reading their bodies.
async fn wait_until_bodies_are_read(database: &mut PgConnection) {
    wait_for_count(
        database,
        "bodies to be read",
        "select count(*) from pg_stat_activity
             where datname = current_database() and application_name = 'tidegate-relay' and state = 'active'
               and query like 'select body from event_bodies%'",
        SOON,
        |reading| reading >= 1,
    )
    .await;
}

async fn wait_until_any_arrives(line: &Line, events: &[EventId]) {
    until("an event to arrive at its destination", SOON, async || {
        let arrived = line.receiver.ids();
        if events.iter().any(|id| arrived.contains(&id.to_string())) {
            Ok(())
        } else {
            Err("none has arrived".to_owned())
        }
    })
    .await;
}

/// Waits until every connection that the relay may have waits in the database at the same time.
async fn wait_until_all_connections_are_used(gateway: &RelayOnly, database: &mut PgConnection) {
    let mut holder = gateway.database.connect().await.expect("connects");
    sqlx::raw_sql("begin; lock table sources in access exclusive mode").execute(&mut holder).await.expect("locks");
    let calls: Vec<_> = (0..2 * CONNECTIONS)
        .map(|_| {
            let api = gateway.api.clone();
            tokio::spawn(async move { api.get("/v1/sources").await })
        })
        .collect();
    let waiting = "select count(*) from pg_stat_activity
             where datname = current_database() and application_name = 'tidegate-relay' and wait_event_type = 'Lock'";
    let all = |waiting| usize::try_from(waiting) == Ok(CONNECTIONS);
    wait_for_count(database, "all connections to be used at the same time", waiting, SOON, all).await;
    sqlx::raw_sql("rollback").execute(&mut holder).await.expect("unlocks");
    for call in calls {
        call.await.expect("answers");
    }
}
