//! store: an event shows the decision that was made when it was stored, whatever its routes would decide now.

use harness::api::id;
use harness::gateway::{Gateway, RelayOnly, drained};
use harness::wait::{SOON, until};
use serde_json::{Value, json};

async fn change_route(gateway: &RelayOnly, route: &str, change: Value) {
    gateway.api.patch(&format!("/v1/routes/{route}"), &change).await.expect_status(200);
}

/// The outcome of the decision, and the ids of its deliveries.
fn decision(event: &Value) -> (&str, Vec<&str>) {
    let decision = &event["decision"];
    assert!(decision["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{event}");
    let deliveries = decision["deliveries"].as_array().expect("deliveries");
    let ids = deliveries.iter().map(id).collect();
    (decision["outcome"].as_str().expect("an outcome"), ids)
}

/// The outcome that the only route of the event's source would have now.
fn now(event: &Value) -> &Value {
    assert_eq!(event["routes"].as_array().map(Vec::len), Some(1), "{event}");
    &event["routes"][0]["outcome"]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_decision_about_a_stored_event_does_not_change_with_its_routes() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let routes = gateway.api.all("/v1/routes").await;
    let route = routes[0]["id"].as_str().expect("an id");
    change_route(&gateway, route, json!({ "filter": "body.amount > 1" })).await;
    let matched = gateway.push(&line.source, br#"{"amount":2}"#);
    let unmatched = gateway.push(&line.source, br#"{"amount":1}"#);
    line.receiver.wait_for(1, SOON).await;
    drained(&gateway.queue, SOON).await;

    let (at_first, others) = (gateway.api.event(matched).await, gateway.api.event(unmatched).await);
    let (outcome, made) = decision(&at_first);
    assert_eq!((outcome, made.len(), now(&at_first)), ("routed", 1, &json!("matched")), "{at_first}");
    let delivery = &at_first["decision"]["deliveries"][0];
    assert_eq!((&delivery["route_id"], &delivery["destination_id"]), (&json!(route), &json!(line.destination.id)));
    assert_eq!((decision(&others), now(&others)), (("no_route_matched", Vec::new()), &json!("not_matched")));

    // The present routes would decide the opposite about both.
    change_route(&gateway, route, json!({ "filter": "body.amount < 2" })).await;
    let (later, others) = (gateway.api.event(matched).await, gateway.api.event(unmatched).await);
    assert_eq!((decision(&later), now(&later)), (("routed", made.clone()), &json!("not_matched")), "{later}");
    assert_eq!((decision(&others), now(&others)), (("no_route_matched", Vec::new()), &json!("matched")), "{others}");

    // The deliveries of a replay are not part of the decision.
    let replay = json!({ "filter": { "source": line.source.id }, "destination": line.destination.id });
    gateway.api.post("/v1/replays", &replay).await.expect_status(201);
    line.receiver.wait_for(3, SOON).await;
    let (later, others) = (gateway.api.event(matched).await, gateway.api.event(unmatched).await);
    assert_eq!(decision(&later), ("routed", made), "{later}");
    assert_eq!(decision(&others), ("no_route_matched", Vec::new()), "{others}");
    let deliveries = [&later, &others].map(|event| event["deliveries"].as_array().map(Vec::len));
    assert_eq!(deliveries, [Some(2), Some(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_decision_shows_what_holds_the_delivery_that_it_made() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let routes = gateway.api.all("/v1/routes").await;
    let route = routes[0]["id"].as_str().expect("an id");
    change_route(&gateway, route, json!({ "filter": "body.ref == 'main'" })).await;
    let deep = gateway.push(&line.source, format!("{}{}", "[".repeat(6_000), "]".repeat(6_000)).as_bytes());
    drained(&gateway.queue, SOON).await;
    let held = gateway.api.event(deep).await;
    assert_eq!(decision(&held).0, "routed", "{held}");
    let delivery = &held["decision"]["deliveries"][0];
    assert_eq!((&delivery["state"], &delivery["held_by"]), (&json!("held"), &json!("filter")), "{delivery}");
    assert!(delivery["held_reason"].as_str().is_some_and(|reason| reason.contains("nested")), "{delivery}");

    change_route(&gateway, route, json!({ "filter": "has(headers.kind)" })).await;
    let decided = until("the delivery to be cancelled", SOON, async || {
        let shown = gateway.api.event(deep).await;
        let delivery = &shown["decision"]["deliveries"][0];
        if delivery["state"] == "cancelled" { Ok(delivery.clone()) } else { Err(shown.to_string()) }
    })
    .await;
    assert_eq!(decided["reason"], "the filter is false for this event", "{decided}");
    assert!(decided.get("held_by").is_none(), "{decided}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_decision_shows_copies_quarantine_and_release() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let push = || gateway.push_with(&line.source, &[("webhook-id", "msg_1")], br#"{"number":1}"#);
    let (event, failed) = (push(), gateway.push_refused(&line.source, [("webhook-id", "msg_2")], br#"{"number":2}"#));
    drained(&gateway.queue, SOON).await;
    let copy = push();
    drained(&gateway.queue, SOON).await;

    let shown_by_copy = gateway.api.event(copy).await;
    assert_eq!(shown_by_copy["decision"]["copy_of"], json!(event.to_string()), "{shown_by_copy}");
    let (outcome, made) = decision(&shown_by_copy);
    assert_eq!((outcome, made.len()), ("routed", 1));
    let shown_by_id = gateway.api.event(event).await;
    assert_eq!(decision(&shown_by_id), ("routed", made));
    assert!(shown_by_id["decision"].get("copy_of").is_none(), "{shown_by_id}");

    let quarantined = gateway.api.event(failed).await;
    assert_eq!(decision(&quarantined), ("quarantined", Vec::new()), "{quarantined}");
    assert_eq!(now(&quarantined), "matched", "{quarantined}");
    let reason = quarantined["decision"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("signature_mismatch"), "{reason}");
    let released = gateway.api.post(&format!("/v1/events/{failed}/release"), &json!({})).await.expect_status(200);
    let (outcome, made) = decision(&released);
    assert_eq!((outcome, made.len()), ("released", 1), "{released}");
}
