//! supervision: a relay that cannot do all of its work reports that, and shuts down cleanly if one of its tasks fails.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use harness::gateway::{Gateway, RelayOnly};
use harness::queue::Times;
use harness::wait::{SOON, until};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};
use time::format_description::well_known::Rfc3339;
use tokio::sync::Notify;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_panic_of_a_task_the_relay_drains_and_exits_with_an_error_that_names_the_task() {
    // The test ends the shutdown, not the time limit.
    let mut gateway = Gateway::relay_only_with(|settings| settings.with("TIDEGATE_SHUTDOWN_S", "300")).await;
    gateway.relay.expect_errors();
    let mut database = gateway.database.connect().await.expect("connects");
    gateway.api.get("/readyz").await.expect_status(200);
    let slow = Slow::start(&gateway).await;
    let line = gateway.line("replayed").await;
    gateway.push(&line.source, b"1");
    gateway.push(&line.source, b"2");
    line.receiver.wait_for(2, SOON).await;
    let replay = json!({ "filter": { "source": "replayed" }, "destination": "replayed", "rate_limit": { "limit": 1, "per": "hour" } });
    gateway.api.post("/v1/replays", &replay).await.expect_status(201);
    let source = gateway.api.create_source("slow", &line.provider).await;
    gateway.api.create_route(&source.id, &slow.destination, json!({})).await;
    let in_flight = gateway.push(&source, b"{}").uuid();
    slow.requested.notified().await;

    // The relay cannot represent an infinite time: the task panics when it reads the replay.
    gateway.database.run("update replays set next_at = 'infinity'").await;
    gateway.api.post("/v1/replays", &replay).await.expect_status(201);
    wait_until_not_ready(
        &gateway,
        &["the background task \"replays\" has failed; see the relay's log", "the relay is shutting down"],
    )
    .await;
    let after = gateway.push(&line.source, b"3").to_string();
    assert!(gateway.relay.ended().is_none(), "the relay waits for the attempt in flight");
    slow.answer.notify_one();
    let status =
        until("the relay to end", SOON, async || gateway.relay.ended().ok_or_else(|| "it still runs".to_owned())).await;
    assert_eq!(status.code(), Some(1));
    let log = gateway.relay.log();
    let of_task = |line: &&str| line.contains("a task of the relay failed") && line.contains("task=\"replays\"");
    assert_eq!(log.lines().filter(of_task).count(), 1, "{log}");
    assert!(log.contains("tidegate: the relay shut down because of a failure: the task \"replays\""), "{log}");
    let settled =
        format!("select count(*) from settled_deliveries where event_id = '{in_flight}' and state = 'succeeded'");
    assert_eq!(count(&mut database, &settled).await, 1, "the attempt in flight is settled");
    assert_eq!(count(&mut database, "select count(*) from shards where owner is not null").await, 0);
    assert!(!line.receiver.ids().contains(&after), "nothing new is sent");

    gateway.database.run("update replays set next_at = now()").await;
    gateway.relay.start_again().await.expect("starts again");
    line.receiver.wait_for_events([after], SOON).await;
    gateway.api.get("/readyz").await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_cannot_renew_its_lease_is_not_ready_until_it_can() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    gateway.api.get("/readyz").await.expect_status(200);
    gateway.database.run("alter table replicas rename to replicas_away").await;
    wait_until_not_ready(&gateway, &["the relay has not renewed its lease for", "so it sends nothing"]).await;
    gateway.database.run("alter table replicas_away rename to replicas").await;
    gateway.api.wait_for_status("/readyz", 200, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_pulls_fail_is_ready_and_reports_since_when_until_a_pull_succeeds() {
    let gateway = Gateway::relay_only().await;
    let working = json!({ "status": "working" });
    assert_eq!(gateway.api.get("/readyz").await.expect_status(200)["queue"], working);
    gateway.queue.fault(|faults| faults.pull_failures = Times::UntilCleared);
    let failing = upstream_with_status(&gateway, "queue", "failing").await;
    assert!(failing["error"].as_str().is_some_and(|error| error.starts_with("status ")), "{failing}");
    let since = time::OffsetDateTime::parse(failing["since"].as_str().expect("a time"), &Rfc3339).expect("a time");
    assert!(since < time::OffsetDateTime::now_utc() - Duration::from_secs(15), "{failing}");
    gateway.queue.clear_faults();
    assert_eq!(upstream_with_status(&gateway, "queue", "working").await, working);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_token_the_edge_refuses_is_ready_and_reports_it() {
    let wrong = ("TIDEGATE_EDGE_ADMIN_TOKEN", "a token of another edge");
    let gateway = Gateway::relay_only_with(|settings| settings.with(wrong.0, wrong.1)).await;
    // The relay tries to put this source to the edge again every few seconds.
    gateway.line("behind").await;
    let failing = upstream_with_status(&gateway, "edge", "failing").await;
    assert_eq!(failing["error"], "token rejected (status 401)");
    assert!(failing["since"].is_string(), "{failing}");
}

/// Waits until the relay reports that it is not ready, with all of these reasons.
async fn wait_until_not_ready(gateway: &RelayOnly, wanted: &[&str]) {
    until("the relay to be not ready", SOON, async || {
        let reply = gateway.api.get("/readyz").await;
        let detail = reply.body["detail"].as_str().unwrap_or_default();
        let is_wanted = reply.status == 503 && reply.body["code"] == "not_ready";
        if is_wanted && wanted.iter().all(|text| detail.contains(text)) { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
}

/// Waits until the relay, which stays ready, reports this status of an upstream.
async fn upstream_with_status(gateway: &RelayOnly, name: &str, status: &str) -> serde_json::Value {
    until("the state of the upstream", SOON, async || {
        let ready = gateway.api.get("/readyz").await.expect_status(200);
        if ready[name]["status"] == status { Ok(ready[name].clone()) } else { Err(ready.to_string()) }
    })
    .await
}

/// A destination that answers when the test lets it.
struct Slow {
    destination: String,
    requested: Arc<Notify>,
    answer: Arc<Notify>,
}

impl Slow {
    async fn start(gateway: &RelayOnly) -> Self {
        let (requested, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = {
            let (requested, answer) = (Arc::clone(&requested), Arc::clone(&answer));
            move || async move {
                requested.notify_one();
                answer.notified().await;
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let router = Router::new().route("/", post(handler));
        drop(tokio::spawn(async move { axum::serve(listener, router).await }));
        let more = json!({ "timeout_ms": 120_000 });
        let destination = gateway.api.create_destination("slow", &url, more).await.id;
        Self { destination, requested, answer }
    }
}

async fn count(database: &mut PgConnection, statement: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(database).await.expect("the statement is executed")
}
