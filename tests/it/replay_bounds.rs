//! replay: the rows that a replay processes are fixed when it is created.

use harness::api::{Source, id};
use harness::gateway::{Gateway, RelayOnly};
use harness::postgres::wait_for_count;
use harness::provider::now_s;
use harness::receiver::{Behaviour, Receiver};
use harness::wait::SOON;
use serde_json::{Value, json};
use shared::id::EventId;

/// Puts an event into the queue that the edge received `seconds_ago` seconds ago by its clock.
fn push(gateway: &RelayOnly, source: &Source, seconds_ago: i64) -> EventId {
    let received_ms = now_s().saturating_add_signed(-seconds_ago) * 1_000;
    gateway.push_received(source, received_ms, &[("content-type", "application/json")], b"{}")
}

/// Creates a replay that processes one row and then waits until [`finish`] removes its rate limit.
async fn replay_that_waits(gateway: &RelayOnly, filter: Value) -> Value {
    let wanted = json!({ "filter": filter, "rate_limit": { "limit": 1, "per": "hour" } });
    let replay = gateway.api.post("/v1/replays", &wanted).await.expect_status(201);
    let path = format!("/v1/replays/{}", id(&replay));
    gateway.api.wait_until("the first row to be processed", &path, SOON, |replay| replay["processed"] == 1).await;
    replay
}

/// Removes the rate limit of the replay, and returns the replay once it is completed.
async fn finish(gateway: &RelayOnly, replay: &Value) -> Value {
    gateway.database.run("update replays set rate_limit = null, rate_per = null, next_at = now()").await;
    gateway.api.wait_for_replay(replay, SOON).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_stored_after_the_call_is_not_part_of_a_replay_although_its_id_is_older() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    for seconds_ago in [40, 30, 10] {
        push(&gateway, &line.source, seconds_ago);
    }
    line.receiver.wait_for(3, SOON).await;
    gateway.drained(SOON).await;
    let replay = replay_that_waits(&gateway, json!({ "source": "line" })).await;
    // An event that was still in the queue when the replay was created.
    let late = push(&gateway, &line.source, 20);
    gateway.drained(SOON).await;
    let ended = finish(&gateway, &replay).await;
    let counts = ["matched", "processed", "created"].map(|field| ended[field].as_i64());
    assert_eq!(counts, [Some(3); 3], "{ended}");
    let received = line.receiver.wait_for(7, SOON).await;
    let of_late = received.iter().filter(|request| request.header("webhook-id") == late.to_string()).count();
    assert_eq!(of_late, 1, "it is delivered as a new event only");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_stored_before_the_call_is_part_of_a_replay_although_its_edges_clock_is_ahead() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    push(&gateway, &line.source, 0);
    push(&gateway, &line.source, -40);
    line.receiver.wait_for(2, SOON).await;
    gateway.drained(SOON).await;
    let wanted = json!({ "filter": { "source": "line" } });
    let dry_run = json!({ "filter": { "source": "line" }, "dry_run": true });
    let plan = gateway.api.post("/v1/replays", &dry_run).await.expect_status(200);
    assert_eq!((&plan["matched"], &plan["complete"]), (&json!(2), &json!(true)), "{plan}");
    let replay = gateway.api.post("/v1/replays", &wanted).await.expect_status(201);
    let ended = finish(&gateway, &replay).await;
    assert_eq!((&ended["matched"], &ended["created"]), (&json!(2), &json!(2)), "{ended}");
    line.receiver.wait_for(4, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_becomes_dead_after_the_call_is_not_part_of_a_replay_of_dead_deliveries() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("other").await;
    let source = gateway.api.create_source("dying", &line.provider).await;
    let (quick, slow) = (Receiver::start().await.expect("starts"), Receiver::start().await.expect("starts"));
    quick.always(Behaviour::Status(500));
    slow.always(Behaviour::Status(500));
    for (name, receiver, schedule_s) in [("quick", &quick, json!([0])), ("slow", &slow, json!([0, 600]))] {
        let more = json!({ "retry": { "schedule_s": schedule_s } });
        let destination = gateway.api.create_destination(name, &receiver.url(), more).await;
        gateway.api.create_route(&source.id, &destination.id, json!({})).await;
    }
    // The deliveries of each event have ids next to each other.
    for number in 1..=3 {
        // The edge's clock is ahead of the relay's, so events have greater ids than their deliveries.
        push(&gateway, &source, -30);
        gateway.drained(SOON).await;
        quick.wait_for(number, SOON).await;
        slow.wait_for(number, SOON).await;
    }
    let dead = async |count: usize| {
        gateway.api.wait_for_rows("/v1/deliveries?state=dead", count, SOON).await;
    };
    dead(3).await;
    let mut database = gateway.database.connect().await.expect("connects");
    wait_for_count(
        &mut database,
        "the others to wait for their second attempt",
        "select count(*) from pending_deliveries where attempts = 1",
        SOON,
        |waiting| waiting == 3,
    )
    .await;
    quick.always(Behaviour::Status(200));
    let replay = replay_that_waits(&gateway, json!({ "source": "dying", "state": "dead" })).await;
    sqlx::query("update pending_deliveries set due_at = now()").execute(&mut database).await.expect("writes");
    // The three deliveries to the slow destination become dead. The replay has sent one to the quick destination.
    dead(6).await;
    let ended = finish(&gateway, &replay).await;
    let counts = ["matched", "processed", "created"].map(|field| ended[field].as_i64());
    assert_eq!(counts, [Some(3); 3], "{ended}");
    quick.wait_for(6, SOON).await;
    assert_eq!(slow.count(), 6, "two attempts of each, none by the replay");
}
