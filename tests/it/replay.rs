//! replay: progress, another destination, a rate limit, cancellation, and a route that changes.

use std::time::Duration;

use harness::api::id;
use harness::gateway::{Gateway, drained};
use harness::postgres::wait_for_count;
use harness::receiver::Receiver;
use harness::wait::{LONG, SOON, until};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_events_are_replayed_with_progress() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("many").await;
    let count = 10_000;
    for number in 0..count {
        gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes());
    }
    drained(&gateway.queue, Duration::from_secs(120)).await;
    line.receiver.wait_for(count, Duration::from_secs(180)).await;
    line.receiver.forget();

    let replay = gateway.api.post("/v1/replays", &json!({ "filter": { "source": "many" } })).await.expect_status(201);
    assert_eq!(replay["matched"], count);
    let path = format!("/v1/replays/{}", id(&replay));
    let mut seen = Vec::new();
    until("the replay to be delivered", LONG, async || {
        let progress = gateway.api.get(&path).await.expect_status(200);
        seen.push(progress["succeeded"].as_u64().unwrap_or_default());
        match (progress["state"].as_str(), progress["succeeded"].as_u64()) {
            (Some("completed"), Some(succeeded)) if succeeded == count as u64 => Ok(()),
            _ => Err(progress.to_string()),
        }
    })
    .await;
    assert!(seen.is_sorted(), "progress never runs backwards: {seen:?}");
    assert_eq!((line.receiver.count(), line.receiver.ids().len()), (count, count), "each event is delivered once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_can_have_another_destination_and_a_rate_limit_and_can_be_cancelled() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("some").await;
    for number in 0..200 {
        gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes());
    }
    line.receiver.wait_for(200, Duration::from_secs(30)).await;
    let other = Receiver::start().await.expect("starts");
    gateway.api.create_destination("other", &other.url(), json!({})).await;
    let wanted = json!({
        "filter": { "source": "some" }, "destination": "other", "rate_limit": { "limit": 10, "per": "second" },
    });
    let replay = gateway.api.post("/v1/replays", &wanted).await.expect_status(201);
    other.wait_for(5, Duration::from_secs(30)).await;
    let path = format!("/v1/replays/{}", id(&replay));
    gateway.api.post(&format!("{path}/cancel"), &json!({})).await.expect_status(200);
    let ended = gateway.api.get(&path).await.expect_status(200);
    assert_eq!(ended["state"], "cancelled", "{ended}");
    assert!(ended["processed"].as_u64().is_some_and(|processed| processed < 200), "{ended}");
    assert_eq!(line.receiver.count(), 200, "the original destination gets nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_changes_while_a_chunk_is_made_is_evaluated_again() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("changing").await;
    for number in 0..3 {
        gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes());
    }
    line.receiver.wait_for(3, Duration::from_secs(30)).await;
    drained(&gateway.queue, Duration::from_secs(30)).await;

    // A change of a route holds this lock until it is committed.
    let mut change = gateway.database.connect().await.expect("connects");
    for statement in ["begin", "select pg_advisory_xact_lock(hashtext('tidegate configuration'))"] {
        sqlx::query(statement).execute(&mut change).await.expect("begins");
    }
    let replay = gateway.api.post("/v1/replays", &json!({ "filter": { "source": "changing" } })).await;
    let path = format!("/v1/replays/{}", replay.expect_status(201)["id"].as_str().expect("an id"));
    let mut watch = gateway.database.connect().await.expect("connects");
    wait_for_count(
        &mut watch,
        "the chunk to be made and to wait",
        "select count(*) from pg_locks join pg_database on pg_database.oid = pg_locks.database
             where datname = current_database() and locktype = 'advisory' and not granted",
        SOON,
        |waiting| waiting > 0,
    )
    .await;
    for statement in
        ["update routes set filter = 'false'", "update configuration set revision = revision + 1", "commit"]
    {
        sqlx::query(statement).execute(&mut change).await.expect("changes");
    }

    let ended = gateway.api.wait_until("the replay to end", &path, SOON, |replay| replay["state"] == "completed").await;
    assert_eq!((&ended["processed"], &ended["created"]), (&json!(3), &json!(0)), "{ended}");
}
