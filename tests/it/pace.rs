//! deliver: the breaker, reduced limits, the health that shows them, and order keys.

use std::time::Duration;

use harness::gateway::Gateway;
use harness::receiver::{Behaviour, Receiver};
use harness::wait::SOON;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_stops_sends_to_a_failing_destination_which_gets_everything_when_it_works_again() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("down").await;
    line.receiver.always(Behaviour::Status(500));
    for number in 0..200 {
        gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes());
    }
    let path = format!("/v1/destinations/{}/health", line.destination.id);
    let open =
        gateway.api.wait_until("the breaker to open", &path, SOON, |health| health["breaker"]["state"] == "open").await;
    assert!(open["breaker"]["next_probe_at"].is_string() && open["breaker"]["since"].is_string(), "{open}");
    assert!(open["failing"]["failures"].as_u64().is_none_or(|failures| failures >= 10), "{open}");
    assert!(open["pending"]["count"].as_u64().is_some_and(|count| count > 0), "{open}");
    // Ten failures in a row open it, and up to ten attempts are in flight then.
    assert!(line.receiver.count() <= 25, "{} of 200 were sent", line.receiver.count());

    line.receiver.always(Behaviour::Status(200));
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 200, SOON).await;
    let closed = gateway
        .api
        .wait_until("the last report", &path, SOON, |health| {
            let ended = health["breaker"]["state"] == "closed" && health["pending"]["count"] == 0;
            ended && health["in_memory"]["fresh"] == 0
        })
        .await;
    assert_eq!(closed["failing"], Value::Null, "{closed}");
    assert_eq!(closed["concurrency"]["limit"], 10, "{closed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_of_a_throttling_destination_shows_its_reduced_limits_and_the_reason() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("source").await;
    let receiver = Receiver::start().await.expect("starts");
    receiver.always(Behaviour::RetryAfter(429, "1".to_owned()));
    let settings = json!({ "max_concurrency": 8, "rate_limit": { "limit": 40, "per": "second" } });
    let destination = gateway.api.create_destination("throttling", &receiver.url(), settings).await;
    gateway.api.create_route(&line.source.id, &destination.id, json!({})).await;
    let path = "/v1/destinations/throttling/health";
    let unknown = gateway.api.get(path).await.expect_status(200);
    assert_eq!((&unknown["breaker"]["state"], &unknown["concurrency"]["now"]), (&json!("closed"), &json!(8)));
    for number in 0..20 {
        gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes());
    }
    let reduced =
        gateway.api.wait_until("the limits to be reduced", path, SOON, |health| health["reduced"].is_object()).await;
    assert_eq!(reduced["reduced"]["why"], "the destination returned 429", "{reduced}");
    assert!(reduced["concurrency"]["now"].as_u64().is_some_and(|now| now < 8), "{reduced}");
    assert!(reduced["rate"]["now"].as_f64().is_some_and(|now| now < 40.0), "{reduced}");
    assert_eq!(reduced["breaker"]["state"], "closed", "429 is not a failure: {reduced}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_of_one_order_key_are_sent_one_after_the_other_and_wait_for_one_that_fails() {
    let gateway = Gateway::relay_only().await;
    let source = gateway.line("other").await.source;
    let receiver = Receiver::start().await.expect("starts");
    let settings = json!({ "retry": { "schedule_s": [0, 1, 1, 1] } });
    let destination = gateway.api.create_destination("ordered", &receiver.url(), settings).await;
    gateway.api.create_route(&source.id, &destination.id, json!({ "order_key": "body.customer" })).await;

    let number = |request: &harness::receiver::Received| -> (u64, u64) {
        let body: Value = serde_json::from_slice(&request.body).expect("json");
        (body["customer"].as_u64().expect("a customer"), body["number"].as_u64().expect("a number"))
    };
    // The first delivery of the first key fails, while the other key continues.
    receiver.next([Behaviour::Status(500)]);
    gateway.push(&source, json!({ "customer": 1, "number": 0 }).to_string().as_bytes());
    receiver.wait_for(1, SOON).await;
    for round in 1..15 {
        for customer in [1, 2] {
            gateway.push(&source, json!({ "customer": customer, "number": round }).to_string().as_bytes());
        }
    }
    let requests = receiver.wait_for(1 + 29, Duration::from_secs(60)).await;
    for customer in [1, 2] {
        let of_key = requests.iter().map(number).filter(|(of, _)| *of == customer);
        let mut numbers: Vec<u64> = of_key.map(|(_, number)| number).collect();
        assert!(numbers.is_sorted(), "customer {customer}: {numbers:?}");
        numbers.dedup();
        assert_eq!(numbers.len(), if customer == 1 { 15 } else { 14 });
    }
    let first_of_other = requests.iter().position(|request| number(request).0 == 2);
    let retry = requests.iter().skip(1).position(|request| number(request) == (1, 0)).map(|at| at + 1);
    assert!(first_of_other < retry, "the other key does not wait: {first_of_other:?}, {retry:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_whose_order_key_cannot_be_evaluated_is_held_and_a_bad_expression_is_refused() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("keyed").await;
    let routes = gateway.api.all("/v1/routes").await;
    let path = format!("/v1/routes/{}", routes[0]["id"].as_str().expect("an id"));
    let refused = gateway.api.put(&path, &json!({ "order_key": "body.(" })).await.expect_status(422);
    assert_eq!(refused["errors"][0]["field"], "order_key", "{refused}");
    let changed = gateway.api.put(&path, &json!({ "order_key": "body.key", "poison": "skip" })).await;
    let changed = changed.expect_status(200);
    assert_eq!((&changed["order_key"], &changed["poison"]), (&json!("body.key"), &json!("skip")));
    gateway.push(&line.source, b"{}");
    let held = gateway.api.wait_for_row("/v1/deliveries?state=held", SOON).await;
    assert!(held["held_reason"].as_str().is_some_and(|reason| reason.contains("order key")), "{held}");
    assert_eq!(line.receiver.count(), 0);
}
