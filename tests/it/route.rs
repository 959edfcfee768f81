//! route: filters, transforms, and the outcome of every route.

use harness::gateway::{Gateway, drained};
use harness::receiver::Receiver;
use harness::wait::SOON;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_decides_which_events_are_delivered_and_every_route_shows_why_it_did_not_match() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("all").await;
    let big = Receiver::start().await.expect("starts");
    let destination = gateway.api.create_destination("big", &big.url(), json!({})).await;
    let filter = "event.type == 'charge.succeeded' && body.data.amount > 1000";
    gateway.api.create_route("all", &destination.id, json!({ "filter": filter })).await;
    let small = gateway.push(&line.source, br#"{"type":"charge.succeeded","data":{"amount":999}}"#);
    let wanted = gateway.push(&line.source, br#"{"type":"charge.succeeded","data":{"amount":1001}}"#);
    let odd = gateway.push(&line.source, br#"{"type":"charge.succeeded"}"#);
    line.receiver.wait_for(3, SOON).await;
    drained(&gateway.queue, SOON).await;
    let received = big.wait_for(1, SOON).await;
    assert_eq!(received[0].header("webhook-id"), wanted.to_string());

    for (event, outcome) in [(small, "not_matched"), (wanted, "matched"), (odd, "filter_failed")] {
        let event = gateway.api.get(&format!("/v1/events/{event}")).await.expect_status(200);
        let routes = event["routes"].as_array().expect("routes");
        assert_eq!(routes.len(), 2, "{event}");
        let route =
            routes.iter().find(|route| route.to_string().contains(&destination.id)).expect("the filtered route");
        assert_eq!(route["outcome"], outcome, "{route}");
        if outcome != "matched" {
            assert!(route["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{route}");
        }
    }
    assert_eq!(big.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transform_makes_the_body_and_one_that_fails_holds_the_delivery_until_its_route_is_changed() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("other").await;
    let source = gateway.api.create_source("shaped", &line.provider).await;
    let receiver = Receiver::start().await.expect("starts");
    let destination = gateway.api.create_destination("shaped", &receiver.url(), json!({})).await;
    let transform = "{'id': event.id, 'customer': body.customer.name}";
    let route = gateway.api.create_route(&source.id, &destination.id, json!({ "transform": transform })).await;
    let event = gateway.push(&source, br#"{"customer":{"name":"Ada"}}"#);
    let received = receiver.wait_for(1, SOON).await.remove(0);
    let body: Value = serde_json::from_slice(&received.body).expect("JSON");
    assert_eq!(body, json!({ "id": event.to_string(), "customer": "Ada" }));
    received.verify(&destination.signing_secret).expect("the transformed bytes are signed");

    gateway.push(&source, br#"{"nobody":1}"#);
    let held = gateway.api.wait_for_row("/v1/deliveries?state=held", SOON).await;
    assert!(held.to_string().contains("customer"), "the reason names the missing field: {held}");
    let fixed = json!({ "transform": "{'customer': has(body.customer) ? body.customer.name : 'unknown'}" });
    let path = format!("/v1/routes/{route}");
    let call = gateway.api.try_call(reqwest::Method::PATCH, &path, Some(&fixed)).await.expect("answers");
    assert_eq!(call.status, 200, "{call:?}");
    let received = receiver.wait_for(2, SOON).await.remove(1);
    assert_eq!(serde_json::from_slice::<Value>(&received.body).expect("JSON"), json!({ "customer": "unknown" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expression_that_does_not_compile_is_refused_and_its_field_is_named() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let receiver = Receiver::start().await.expect("starts");
    let other = gateway.api.create_destination("other", &receiver.url(), json!({})).await;
    let wanted = json!({ "source": line.source.id, "destination": other.id, "filter": "event.type == " });
    let problem = gateway.api.post("/v1/routes", &wanted).await.expect_status(422);
    assert!(problem.to_string().contains("filter"), "{problem}");
}
