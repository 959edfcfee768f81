//! replay: a replay that runs is paused, resumed, and given another rate.

use harness::api::id;
use harness::gateway::{Gateway, Line, RelayOnly};
use harness::wait::SOON;
use serde_json::{Value, json};

const EVENTS: usize = 50;

/// Events that were delivered, for a replay.
async fn delivered(gateway: &RelayOnly) -> Line {
    let line = gateway.line("line").await;
    for number in 0..EVENTS {
        gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes());
    }
    line.receiver.wait_for(EVENTS, SOON).await;
    gateway.drained(SOON).await;
    line.receiver.forget();
    line
}

/// Creates a replay that takes one event in an hour, and waits until it has taken the first.
async fn slow(gateway: &RelayOnly) -> (Value, String) {
    let wanted = json!({ "filter": { "source": "line" }, "rate_limit": { "limit": 1, "per": "hour" } });
    let replay = gateway.api.post("/v1/replays", &wanted).await.expect_status(201);
    let path = format!("/v1/replays/{}", id(&replay));
    let shown = gateway.api.wait_until("the first event", &path, SOON, |replay| replay["processed"] == 1).await;
    (shown, path)
}

async fn post(gateway: &RelayOnly, path: &str, action: &str) -> Value {
    gateway.api.post(&format!("{path}/{action}"), &json!({})).await.expect_status(200)
}

/// How often an action is in the audit log.
async fn entries(gateway: &RelayOnly, action: &str) -> usize {
    gateway.api.all("/v1/audit").await.iter().filter(|entry| entry["action"] == action).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_replay_says_why_it_does_not_move_stays_paused_after_a_restart_and_is_resumed_where_it_was() {
    let mut gateway = Gateway::relay_only().await;
    let line = delivered(&gateway).await;
    let (_, path) = slow(&gateway).await;
    for _ in 0..2 {
        let paused = post(&gateway, &path, "pause").await;
        assert_eq!(paused["state"], "paused", "{paused}");
        assert!(paused["paused_at"].is_string() && paused["finished_at"].is_null(), "{paused}");
        assert!(paused["waiting_reason"].as_str().is_some_and(|reason| reason.contains("resume it")), "{paused}");
    }
    assert_eq!(entries(&gateway, "replay.pause").await, 1, "the second call changes nothing");
    // A rate at which it would be finished at once.
    let rate = json!({ "rate_limit": { "limit": 100_000, "per": "second" } });
    assert_eq!(gateway.api.patch(&path, &rate).await.expect_status(200)["state"], "paused");

    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again().await.expect("starts again");
    // Another replay has every turn that the paused one would have had.
    let other = gateway.api.post("/v1/replays", &json!({ "filter": { "source": "line" } })).await.expect_status(201);
    let other = gateway.api.wait_for_replay(&other, SOON).await;
    assert_eq!(other["processed"], EVENTS, "{other}");
    let still = gateway.api.get(&path).await.expect_status(200);
    assert_eq!((&still["state"], &still["processed"]), (&json!("paused"), &json!(1)), "{still}");
    line.receiver.wait_for(EVENTS + 1, SOON).await;

    let resumed = post(&gateway, &path, "resume").await;
    assert_eq!(resumed["paused_at"], Value::Null, "{resumed}");
    let ended = gateway.api.wait_until("it to end", &path, SOON, |replay| replay["state"] == "completed").await;
    let counts = ["matched", "processed", "created"].map(|field| ended[field].as_u64());
    assert_eq!(counts, [Some(EVENTS as u64); 3], "{ended}");
    assert_eq!(ended["waiting_reason"], Value::Null, "{ended}");
    line.receiver.wait_for(2 * EVENTS, SOON).await;
    assert_eq!(line.receiver.count(), 2 * EVENTS, "no event is replayed twice");
    assert_eq!(entries(&gateway, "replay.resume").await, 1);
    for action in ["pause", "resume"] {
        let problem = gateway.api.post(&format!("{path}/{action}"), &json!({})).await.expect_status(409);
        assert_eq!(problem["code"], "replay_ended", "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_paused_and_resumed_keeps_its_rate() {
    let gateway = Gateway::relay_only().await;
    delivered(&gateway).await;
    let (_, path) = slow(&gateway).await;
    post(&gateway, &path, "pause").await;
    let resumed = post(&gateway, &path, "resume").await;
    assert_eq!((&resumed["state"], &resumed["processed"]), (&json!("running"), &json!(1)), "{resumed}");
    let reason = resumed["waiting_reason"].as_str().expect("a reason");
    assert!(reason.contains("its rate limit allows the next delivery at"), "{reason}");
    // Another replay ends, so this one would have had its turn.
    let other = gateway.api.post("/v1/replays", &json!({ "filter": { "source": "line" } })).await.expect_status(201);
    gateway.api.wait_for_replay(&other, SOON).await;
    let shown = gateway.api.get(&path).await.expect_status(200);
    assert_eq!(shown["processed"], 1, "the hour has not passed: {shown}");
    post(&gateway, &path, "pause").await;
    let cancelled = post(&gateway, &path, "cancel").await;
    assert_eq!((&cancelled["state"], &cancelled["waiting_reason"]), (&json!("cancelled"), &Value::Null), "{cancelled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_replay_is_given_another_rate_or_none() {
    let gateway = Gateway::relay_only().await;
    let line = delivered(&gateway).await;
    let (shown, path) = slow(&gateway).await;
    assert!(shown["waiting_reason"].as_str().is_some_and(|reason| reason.contains("rate limit")), "{shown}");
    for (patch, field) in [
        (json!({ "rate_limit": { "limit": 0 } }), "rate_limit.limit"),
        (json!({ "rate_limit": { "per": "day" } }), "rate_limit.per"),
        (json!({ "rate": null }), "rate"),
    ] {
        let problem = gateway.api.patch(&path, &patch).await.expect_status(422);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    assert_eq!(gateway.api.patch(&path, &json!({})).await.expect_status(200)["rate_limit"], shown["rate_limit"]);
    let merged = gateway.api.patch(&path, &json!({ "rate_limit": { "limit": 2 } })).await.expect_status(200);
    assert_eq!(merged["rate_limit"], json!({ "limit": 2, "per": "hour" }), "{merged}");
    assert_eq!(merged["estimated_s"], 25.0 * 3600.0, "{merged}");
    let without = gateway.api.patch(&path, &json!({ "rate_limit": null })).await.expect_status(200);
    assert_eq!(without["rate_limit"], Value::Null, "{without}");
    let ended = gateway.api.wait_until("it to end", &path, SOON, |replay| replay["state"] == "completed").await;
    assert_eq!((&ended["processed"], &ended["created"]), (&json!(EVENTS), &json!(EVENTS)), "{ended}");
    line.receiver.wait_for(EVENTS, SOON).await;
    assert_eq!(line.receiver.count(), EVENTS);
    assert_eq!(entries(&gateway, "replay.update").await, 2, "a change that changes nothing is no entry");
    let again = json!({ "rate_limit": { "limit": 5, "per": "second" } });
    assert_eq!(gateway.api.patch(&path, &again).await.expect_status(409)["code"], "replay_ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_how_long_the_replay_takes_at_its_rate_and_at_that_of_its_destination() {
    let gateway = Gateway::relay_only().await;
    let line = delivered(&gateway).await;
    let rate = json!({ "rate_limit": { "limit": 5, "per": "second" } });
    gateway.api.patch(&format!("/v1/destinations/{}", line.destination.id), &rate).await.expect_status(200);
    let seconds = async |more: Value| {
        let mut wanted = json!({ "filter": { "source": "line" }, "dry_run": true });
        wanted.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        gateway.api.post("/v1/replays", &wanted).await.expect_status(200)["estimated_s"].as_f64()
    };
    assert_eq!(seconds(json!({})).await, None, "it is not known how many events each destination gets");
    assert_eq!(seconds(json!({ "destination": "line" })).await, Some(10.0));
    assert_eq!(
        seconds(json!({ "destination": "line", "rate_limit": { "limit": 1, "per": "second" } })).await,
        Some(50.0)
    );
    assert_eq!(
        seconds(json!({ "destination": "line", "rate_limit": { "limit": 9, "per": "second" } })).await,
        Some(10.0)
    );
}
