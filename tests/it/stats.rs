//! stats: the counts that are updated when events are stored and attempts settled are exact.

use harness::gateway::{Gateway, drained};
use harness::receiver::{Behaviour, Receiver};
use harness::wait::SOON;
use serde_json::{Value, json};
use shared::envelope::{RejectionSample, encode_rejection};

#[tokio::test(flavor = "multi_thread")]
async fn events_deliveries_and_attempts_are_counted_by_source_and_by_destination() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let line = gateway.line("counted").await;
    let failing = Receiver::start().await.expect("starts");
    failing.next([Behaviour::Status(500)]);
    let destination = api
        .create_destination(
            "failing",
            &failing.url(),
            json!({ "retry": { "schedule_s": [0, 1] }, "max_concurrency": 1 }),
        )
        .await;
    api.create_route(&line.source.id, &destination.id, json!({})).await;
    for number in 0..5 {
        gateway.push_with(&line.source, &[("webhook-id", &format!("msg_{number}"))], b"{}");
    }
    drained(&gateway.queue, SOON).await;
    gateway.push_with(&line.source, &[("webhook-id", "msg_3")], b"{}");
    let now_ms = harness::provider::now_s() * 1_000;
    gateway.queue.push(&encode_rejection(&RejectionSample {
        source: line.source.id.parse().expect("an id"),
        cause: "signature_mismatch".to_owned(),
        detail: String::new(),
        count: 7,
        first_at_ms: now_ms,
        last_at_ms: now_ms,
        size: 1,
        remote: "ipv4".to_owned(),
    }));
    drained(&gateway.queue, SOON).await;

    let all = api
        .wait_until("everything to be settled and counted", "/v1/stats", SOON, |stats| {
            sum(&stats["deliveries"], "succeeded") == 10
        })
        .await;
    assert_eq!((&all["step"], sum(&all["deliveries"], "failed_attempts")), (&json!("hour"), 1), "{all}");

    let by_minute = api.get("/v1/stats?source=counted&step=minute").await.expect_status(200);
    let events = &by_minute["events"];
    let counted = ["stored", "copies", "rejected"].map(|what| sum(events, what));
    assert_eq!((counted, &by_minute["deliveries"]), ([5, 1, 7], &json!([])), "{by_minute}");

    let by_destination = api.get("/v1/stats?destination=failing&step=day").await.expect_status(200);
    let deliveries = &by_destination["deliveries"];
    let counted = ["succeeded", "dead", "failed_attempts"].map(|what| sum(deliveries, what));
    assert_eq!((counted, &by_destination["events"]), ([5, 0, 1], &json!([])), "{by_destination}");
    let attempts: i64 = deliveries.as_array().expect("a list").iter().map(|step| sum(&step["attempts"], "count")).sum();
    assert_eq!(attempts, 6, "{by_destination}");

    let refused = api.get("/v1/stats?from=2020-01-01T00:00:00Z&step=minute").await.expect_status(422);
    assert_eq!(refused["errors"][0]["field"], "step", "{refused}");
    api.get("/v1/stats?source=counted&destination=failing").await.expect_status(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_whose_commit_succeeds_but_whose_reply_is_lost_are_counted_once() {
    let (gateway, proxy) = Gateway::relay_only_by_proxy().await;
    let api = &gateway.api;
    let line = gateway.line("other").await;
    let receiver = Receiver::start().await.expect("starts");
    receiver.next([Behaviour::Status(500)]);
    let retry = json!({ "retry": { "schedule_s": [0, 1] } });
    let destination = api.create_destination("counted", &receiver.url(), retry).await;
    let source = api.create_source("counted", &line.provider).await;
    api.create_route(&source.id, &destination.id, json!({})).await;
    // The excerpt of the response, which is stored with the attempt, identifies the transaction.
    proxy.lose_commits(b"answer 500", 1);
    gateway.push(&source, b"{}");
    let stats = api
        .wait_until("the delivery to be settled and counted", "/v1/stats?destination=counted", SOON, |stats| {
            sum(&stats["deliveries"], "succeeded") == 1
        })
        .await;
    assert_eq!(proxy.lost_commits(), 1);
    let deliveries = &stats["deliveries"];
    let attempts: i64 = deliveries.as_array().expect("a list").iter().map(|step| sum(&step["attempts"], "count")).sum();
    assert_eq!((sum(deliveries, "failed_attempts"), attempts), (1, 2), "{stats}");
}

fn sum(steps: &Value, what: &str) -> i64 {
    steps.as_array().expect("a list").iter().map(|step| step[what].as_i64().expect("a number")).sum()
}
