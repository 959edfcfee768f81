//! retry: when a failed delivery is sent again, and when it is dead.

use std::time::Duration;

use harness::api::id;
use harness::gateway::Gateway;
use harness::receiver::{Behaviour, Receiver};
use harness::wait::SOON;
use serde_json::{Value, json};

use crate::deliver::attempts_of_the_only_delivery;

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_fails_twice_is_retried_on_its_schedule_with_the_same_id() {
    let gateway = Gateway::relay_only().await;
    let receiver = Receiver::start().await.expect("starts");
    // The second attempt uses the connection of the first one. It is reset, so the request is sent again on a new
    // connection at once, which is reset too.
    receiver.next([Behaviour::Status(500), Behaviour::Reset, Behaviour::Reset]);
    let line = gateway.line("other").await;
    let destination = gateway
        .api
        .create_destination("flaky", &receiver.url(), json!({ "retry": { "schedule_s": [0, 1, 2, 60] } }))
        .await;
    let source = gateway.api.create_source("flaky", &line.provider).await;
    gateway.api.create_route(&source.id, &destination.id, json!({})).await;
    gateway.push(&source, b"{\"a\":1}");

    let requests = receiver.wait_for(4, Duration::from_secs(30)).await;
    let waits: Vec<Duration> = requests.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(waits[0] >= Duration::from_millis(790), "1 s less 20 %: {waits:?}");
    assert!(waits[2] >= Duration::from_millis(1_590), "2 s less 20 %: {waits:?}");
    let numbers: Vec<&str> = requests.iter().map(|request| request.header("tidegate-attempt")).collect();
    assert_eq!(numbers, ["1", "2", "2", "3"]);
    for request in &requests {
        assert_eq!(request.header("webhook-id"), requests[0].header("webhook-id"));
        request.verify(&destination.signing_secret).expect("each attempt is signed anew");
    }
    let attempts = attempts_of_the_only_delivery(&gateway.api, 3).await;
    let errors: Vec<_> = attempts.iter().map(|attempt| attempt["error"].clone()).collect();
    assert_eq!(errors, [json!("http_status"), json!("no_response"), json!(null)]);
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt["number"].clone()).collect();
    assert_eq!(numbers, [json!(1), json!(2), json!(3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_obeyed_for_the_whole_destination() {
    let gateway = Gateway::relay_only().await;
    let receiver = Receiver::start().await.expect("starts");
    receiver.next([Behaviour::RetryAfter(429, "3".to_owned())]);
    let line = gateway.line("other").await;
    let source = gateway.api.create_source("throttled", &line.provider).await;
    let destination = gateway
        .api
        .create_destination(
            "throttled",
            &receiver.url(),
            json!({ "max_concurrency": 1, "retry": { "schedule_s": [0, 0, 0] } }),
        )
        .await;
    gateway.api.create_route(&source.id, &destination.id, json!({})).await;
    for number in 0..3 {
        gateway.push(&source, json!({ "number": number }).to_string().as_bytes());
    }
    let requests = receiver.wait_for(4, Duration::from_secs(30)).await;
    let wait = requests[1].at - requests[0].at;
    assert!(wait >= Duration::from_millis(2_990), "nothing is sent for 3 s: {wait:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_dead_after_the_last_attempt_and_can_be_retried_and_replayed_to_success() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("other").await;
    let receiver = Receiver::start().await.expect("starts");
    receiver.always(Behaviour::Status(503));
    let source = gateway.api.create_source("dead", &line.provider).await;
    let destination =
        gateway.api.create_destination("dead", &receiver.url(), json!({ "retry": { "schedule_s": [0, 0] } })).await;
    gateway.api.create_route(&source.id, &destination.id, json!({})).await;
    let event = gateway.push(&source, b"{}");
    let dead = gateway.api.wait_for_row("/v1/deliveries?state=dead", SOON).await;
    assert_eq!((&dead["attempts"], &dead["error"]), (&json!(2), &json!("http_status")));
    assert!(dead["reason"].as_str().is_some_and(|reason| reason.contains("503")), "{dead}");

    receiver.always(Behaviour::Status(200));
    let replay = json!({ "filter": { "destination": "dead", "state": "dead" } });
    let plan = gateway.api.post("/v1/replays", &json!({ "filter": replay["filter"], "dry_run": true })).await;
    assert_eq!(plan.body["matched"], 1, "{plan:?}");
    let replay = gateway.api.post("/v1/replays", &replay).await.expect_status(201);
    assert_eq!(replay["matched"], 1);
    let requests = receiver.wait_for(3, Duration::from_secs(30)).await;
    assert_eq!(requests[2].header("webhook-id"), event.to_string());
    let path = format!("/v1/replays/{}", replay["id"].as_str().unwrap_or_default());
    let has_succeeded = |replay: &Value| replay["state"] == "completed" && replay["succeeded"] == 1;
    gateway.api.wait_until("the replay to have succeeded", &path, SOON, has_succeeded).await;
    let again = gateway.api.post("/v1/replays", &json!({ "filter": { "state": "dead" }, "dry_run": true })).await;
    assert_eq!(again.body["matched"], 0, "an event that has been delivered since is not replayed again");

    let id = id(&dead);
    gateway.api.post(&format!("/v1/deliveries/{id}/retry"), &json!({})).await.expect_status(200);
    let path = format!("/v1/deliveries/{id}");
    let has_succeeded = |delivery: &Value| delivery["state"] == "succeeded" && delivery["attempts"] == 3;
    gateway.api.wait_until("the delivery itself to succeed", &path, SOON, has_succeeded).await;
}
