//! A database that falls silent without closing its connections, as in a failover: the relay leaves it and goes on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::gateway::{Gateway, Line, RelayOnly, drained};
use harness::wait::until;
use serde_json::json;
use shared::envelope::Verification;
use shared::id::EventId;
use sqlx::PgConnection;

const SOON: Duration = Duration::from_secs(60);

/// So few that each connection that is lost for good is missed.
const CONNECTIONS: usize = 8;

/// Events of a burst whose bodies are read when they are sent.
const LARGE: usize = 60;

/// More than is read together with a delivery.
const LARGE_BYTES: usize = 1_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_falls_silent_under_load_is_left_and_nothing_is_lost() {
    let connections = CONNECTIONS.to_string();
    let (mut gateway, proxy) =
        Gateway::relay_only_by_proxy_with(|settings| settings.with("TIDEGATE_DATABASE_CONNECTIONS", &connections))
            .await;
    gateway.relay.expect_errors();
    let mut database = gateway.database.connect().await.expect("connects");
    let (small, large) = (gateway.line("small").await, gateway.line("large").await);
    let mut events: Vec<EventId> = (0..500).map(|_| gateway.push(&small.source, b"{}")).collect();
    arrived(&small, &events).await;
    let bodies = prepare_burst(&gateway, &large).await;

    let replay = json!({ "filter": { "source": "small" }, "rate_limit": { "limit": 100, "per": "second" } });
    let replay = gateway.api.post("/v1/replays", &replay).await.expect_status(201);
    events.extend((0..500).map(|_| gateway.push(&small.source, b"{}")));
    resume(&gateway, &large).await;
    bodies_are_read(&mut database).await;
    proxy.silence();
    let silent = Instant::now();
    let after: Vec<EventId> = (0..100).map(|_| gateway.push(&small.source, b"{}")).collect();
    any_arrived(&small, &after).await;
    let first = silent.elapsed();
    events.extend(after);
    arrived(&small, &events).await;
    println!("the first event is delivered {first:?} after the silence began, all after {:?}", silent.elapsed());
    until("the API to answer", SOON, async || match gateway.api.get("/v1/sources?limit=1").await.status {
        200 => Ok(()),
        status => Err(format!("it answers {status}")),
    })
    .await;
    arrived(&large, &bodies).await;
    drained(&gateway.queue, SOON).await;
    let path = format!("/v1/replays/{}", replay["id"].as_str().expect("an id"));
    until("the replay to be completed", SOON, async || match gateway.api.get(&path).await.expect_status(200) {
        replay if replay["state"] == "completed" => Ok(()),
        replay => Err(replay.to_string()),
    })
    .await;
    all_connections_are_used(&gateway, &mut database).await;

    let bodies = prepare_burst(&gateway, &large).await;
    resume(&gateway, &large).await;
    arrived(&large, &bodies).await;
}

/// Stores events with large bodies for a destination that is paused.
async fn prepare_burst(gateway: &RelayOnly, line: &Line) -> Vec<EventId> {
    let pause = format!("/v1/destinations/{}/pause", line.destination.id);
    gateway.api.post(&pause, &json!({})).await.expect_status(200);
    let verified = std::iter::repeat_n(Verification::Verified, LARGE);
    let ids = gateway.push_large(&line.source, &[("content-type", "text/plain")], vec![b'x'; LARGE_BYTES], verified);
    drained(&gateway.queue, SOON).await;
    ids
}

async fn resume(gateway: &RelayOnly, line: &Line) {
    let resume = format!("/v1/destinations/{}/resume", line.destination.id);
    gateway.api.post(&resume, &json!({})).await.expect_status(200);
}

/// Waits until attempts are reading their bodies.
async fn bodies_are_read(database: &mut PgConnection) {
    until("bodies to be read", SOON, async || {
        let reading: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and application_name = 'tidegate-relay' and state = 'active'
               and query like 'select body from event_bodies%'",
        )
        .fetch_one(&mut *database)
        .await
        .map_err(|error| error.to_string())?;
        if reading >= 1 { Ok(()) } else { Err("none is read".to_owned()) }
    })
    .await;
}

async fn arrived(line: &Line, events: &[EventId]) {
    until("all events at their destination", SOON, async || {
        let there = line.receiver.ids();
        let missing: BTreeSet<String> =
            events.iter().map(ToString::to_string).filter(|id| !there.contains(id)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{} of {} are missing", missing.len(), events.len())) }
    })
    .await;
}

async fn any_arrived(line: &Line, events: &[EventId]) {
    until("an event at its destination", SOON, async || {
        let there = line.receiver.ids();
        if events.iter().any(|id| there.contains(&id.to_string())) { Ok(()) } else { Err("none is there".to_owned()) }
    })
    .await;
}

/// Waits until as many calls as the relay may have connections wait in the database at one time.
async fn all_connections_are_used(gateway: &RelayOnly, database: &mut PgConnection) {
    let mut holder = gateway.database.connect().await.expect("connects");
    sqlx::raw_sql("begin; lock table sources in access exclusive mode").execute(&mut holder).await.expect("locks");
    let calls: Vec<_> = (0..2 * CONNECTIONS)
        .map(|_| {
            let api = gateway.api.clone();
            tokio::spawn(async move { api.get("/v1/sources").await })
        })
        .collect();
    until("all connections to be used at one time", SOON, async || {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and application_name = 'tidegate-relay' and wait_event_type = 'Lock'",
        )
        .fetch_one(&mut *database)
        .await
        .map_err(|error| error.to_string())?;
        match usize::try_from(waiting) {
            Ok(CONNECTIONS) => Ok(()),
            _ => Err(format!("{waiting} of {CONNECTIONS} are")),
        }
    })
    .await;
    sqlx::raw_sql("rollback").execute(&mut holder).await.expect("unlocks");
    for call in calls {
        call.await.expect("answers");
    }
}
