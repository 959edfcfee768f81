//! deliver: one event is sent again to a destination, or an edited copy of it is sent as an event of its own.

use harness::api::id;
use harness::gateway::{Gateway, drained};
use harness::receiver::Receiver;
use harness::wait::SOON;
use serde_json::{Value, json};

fn event_of(delivered: &Value) -> shared::id::EventId {
    delivered["event_id"].as_str().expect("an id").parse().expect("an event id")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_sent_again_to_a_destination_that_no_route_leads_to() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let event = gateway.push(&line.source, br#"{"type":"paid","n":1}"#);
    line.receiver.wait_for_events([event], SOON).await;
    let elsewhere = Receiver::start().await.expect("starts");
    let destination = gateway.api.create_destination("elsewhere", &elsewhere.url(), json!({})).await;
    let path = format!("/v1/events/{event}/deliver");

    let made = gateway.api.post(&path, &json!({ "destination": "elsewhere" })).await.expect_status(201);
    assert_eq!((event_of(&made), &made["deliveries"][0]["destination_id"]), (event, &json!(destination.id)), "{made}");
    let request = elsewhere.wait_for(1, SOON).await.remove(0);
    assert_eq!(request.body.as_ref(), br#"{"type":"paid","n":1}"#);
    assert_eq!(request.headers.get("webhook-id").and_then(|id| id.to_str().ok()), Some(event.to_string().as_str()));
    let delivery = format!("/v1/deliveries/{}", id(&made["deliveries"][0]));
    let delivery = gateway
        .api
        .wait_until("the delivery to succeed", &delivery, SOON, |delivery| delivery["state"] == "succeeded")
        .await;
    assert_eq!((&delivery["route_id"], &delivery["replay_id"]), (&Value::Null, &Value::Null), "{delivery}");

    // What was decided when the event was stored is the same, and the event shows both deliveries.
    let shown = gateway.api.event(event).await;
    assert_eq!(shown["deliveries"].as_array().map(Vec::len), Some(2), "{shown}");
    assert_eq!(shown["decision"]["deliveries"].as_array().map(Vec::len), Some(1), "{shown}");
    // A second call is a second delivery.
    gateway.api.post(&path, &json!({ "destination": destination.id })).await.expect_status(201);
    elsewhere.wait_for(2, SOON).await;
    assert_eq!(line.receiver.count(), 1);
    let entries = gateway.api.get("/v1/audit?action=event.deliver").await.expect_status(200);
    assert_eq!(entries["data"].as_array().map(Vec::len), Some(2), "{entries}");
    assert_eq!(entries["data"][1]["after"]["destination"], json!(destination.id), "{entries}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_event_is_a_new_event_that_its_routes_or_the_given_destination_get() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let route = id(&gateway.api.all("/v1/routes").await[0]).to_owned();
    let filter = json!({ "filter": "body.n > 1" });
    gateway.api.patch(&format!("/v1/routes/{route}"), &filter).await.expect_status(200);
    let headers = [("content-type", "application/json"), ("webhook-id", "msg_1")];
    let event = gateway.push_with(&line.source, &headers, br#"{"type":"paid","n":1}"#);
    drained(&gateway.queue, SOON).await;
    gateway.api.wait_for_row("/v1/events", SOON).await;
    let path = format!("/v1/events/{event}/deliver");

    let edit = json!({ "edit": { "body": "{\"type\":\"paid\",\"n\":2}" } });
    let made = gateway.api.post(&path, &edit).await.expect_status(201);
    let edited = event_of(&made);
    assert_ne!(edited, event);
    line.receiver.wait_for_events([edited], SOON).await;
    let shown = gateway.api.event(edited).await;
    assert_eq!((&shown["verification"], &shown["edited_of"]), (&json!("edited"), &json!(event.to_string())), "{shown}");
    assert_eq!((&shown["type"], &shown["body_size"]), (&json!("paid"), &json!(21)), "{shown}");
    assert_eq!(shown["decision"]["outcome"], "routed", "{shown}");
    assert_eq!(gateway.api.bytes(&format!("/v1/events/{edited}/body")).await, br#"{"type":"paid","n":2}"#);
    let original = gateway.api.event(event).await;
    assert_eq!((&original["verification"], &original["copies"]), (&json!("verified"), &json!(0)), "{original}");
    assert!(original.get("edited_of").is_none() && original["same_key_as"].is_null(), "{original}");

    // The same again is another event. One that no route matches has no deliveries.
    let again = gateway.api.post(&path, &edit).await.expect_status(201);
    assert_ne!(event_of(&again), edited);
    let unmatched = json!({ "edit": { "type": "other" } });
    let unmatched = gateway.api.post(&path, &unmatched).await.expect_status(201);
    assert_eq!(unmatched["deliveries"], json!([]), "{unmatched}");
    let shown = gateway.api.event(event_of(&unmatched)).await;
    assert_eq!(
        (&shown["type"], &shown["body_size"]),
        (&json!("other"), &json!(21)),
        "its body is that of the original"
    );

    // To a destination, whatever the routes say, with other headers.
    let to = json!({ "destination": "line", "edit": { "headers": [{ "name": "X-A", "value": "b" }] } });
    let made = gateway.api.post(&path, &to).await.expect_status(201);
    line.receiver.wait_for_events([event_of(&made)], SOON).await;
    let shown = gateway.api.event(event_of(&made)).await;
    assert_eq!(shown["headers"], json!([{ "name": "x-a", "value": "b" }]), "{shown}");

    for (verification, count) in [("edited", 4), ("verified", 1), ("unsigned", 0)] {
        let rows = gateway.api.all(&format!("/v1/events?verification={verification}")).await;
        assert_eq!(rows.len(), count, "{verification}: {rows:?}");
    }
    // The provider's own event is still recognised as a copy.
    gateway.push_with(&line.source, &headers, br#"{"type":"paid","n":1}"#);
    gateway.api.wait_until("a copy", &format!("/v1/events/{event}"), SOON, |event| event["copies"] == 1).await;
    let entries = gateway.api.get("/v1/audit?action=event.deliver").await.expect_status(200);
    let changed: Vec<_> =
        entries["data"].as_array().expect("entries").iter().map(|entry| &entry["after"]["changed"]).collect();
    assert_eq!(changed, [&json!(["headers"]), &json!(["type"]), &json!(["body"]), &json!(["body"])], "{entries}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_delivered_is_refused_and_editing_needs_the_scope_bodies() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let event = gateway.push(&line.source, br#"{"n":1}"#);
    line.receiver.wait_for_events([event], SOON).await;
    let path = format!("/v1/events/{event}/deliver");
    for (request, field) in [
        (json!({}), "destination"),
        (json!({ "destination": "none" }), "destination"),
        (json!({ "edit": {} }), "edit"),
        (json!({ "edit": { "body": "x", "body_base64": "eA==" } }), "edit.body_base64"),
        (json!({ "edit": { "headers": [{ "name": "a b", "value": "" }] } }), "edit.headers[0].name"),
    ] {
        let problem = gateway.api.post(&path, &request).await.expect_status(422);
        assert_eq!(problem["errors"][0]["field"], field, "{request}: {problem}");
    }
    let replayer = gateway.api.limited_to(&["replay"], None).await;
    replayer.post(&path, &json!({ "destination": "line" })).await.expect_status(201);
    let problem = replayer.post(&path, &json!({ "edit": { "body": "x" } })).await.expect_status(403);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("the scope bodies")), "{problem}");
    line.receiver.wait_for(2, SOON).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 2, SOON).await;

    // A paused destination holds the delivery, and an erased body cannot be sent.
    gateway.api.pause("line").await;
    gateway.api.post(&path, &json!({ "destination": "line" })).await.expect_status(201);
    gateway.api.wait_for_row("/v1/deliveries?state=held", SOON).await;
    gateway.api.resume("line").await;
    line.receiver.wait_for(3, SOON).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 3, SOON).await;
    gateway.api.delete(&format!("/v1/events/{event}/body")).await.expect_status(204);
    let problem = gateway.api.post(&path, &json!({ "destination": "line" })).await.expect_status(409);
    assert_eq!(problem["code"], "body_gone", "{problem}");
    let typed = gateway.api.post(&path, &json!({ "edit": { "type": "a" } })).await.expect_status(409);
    assert_eq!(typed["code"], "body_gone", "{typed}");
    let whole = json!({ "destination": "line", "edit": { "body": "whole" } });
    gateway.api.post(&path, &whole).await.expect_status(201);
    line.receiver.wait_for(4, SOON).await;
}
