//! route: the types of events that a route takes, tested before its filter.

use harness::api::{Source, id};
use harness::gateway::{Gateway, RelayOnly, drained};
use harness::provider::{Provider, now_s};
use harness::receiver::Receiver;
use harness::wait::SOON;
use serde_json::{Value, json};
use shared::id::EventId;

/// A filter that needs more steps than an evaluation may take, for a body with many items. If it is evaluated, the
/// delivery is held.
const TOO_EXPENSIVE: &str = "body.items.all(a, body.items.all(b, a + b >= 0))";

/// A body of this type for which [`TOO_EXPENSIVE`] is too expensive.
fn expensive(event_type: &str) -> Vec<u8> {
    let items: Vec<u32> = (0..3_000).collect();
    json!({ "type": event_type, "items": items }).to_string().into_bytes()
}

/// The outcome and the reason of the only route of the event's source.
async fn route_of(gateway: &RelayOnly, event: EventId) -> (Value, Value) {
    let shown = gateway.api.event(event).await;
    let route = &shown["routes"][0];
    (route["outcome"].clone(), route["reason"].clone())
}

async fn deliveries_of(gateway: &RelayOnly, event: EventId) -> usize {
    gateway.api.event(event).await["deliveries"].as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_takes_the_events_of_its_types_and_evaluates_its_filter_for_no_other() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let route = id(&gateway.api.all("/v1/routes").await[0]).to_owned();
    let path = format!("/v1/routes/{route}");
    let changed = gateway.api.patch(&path, &json!({ "types": ["paid", "refunded"] })).await.expect_status(200);
    assert_eq!(changed["types"], json!(["paid", "refunded"]), "{changed}");

    let paid = gateway.push(&line.source, br#"{"type":"paid"}"#);
    let longer = gateway.push(&line.source, br#"{"type":"paid.late"}"#);
    let untyped = gateway.push(&line.source, br#"{"amount":1}"#);
    let refunded = gateway.push(&line.source, br#"{"type":"refunded"}"#);
    line.receiver.wait_for_events([paid, refunded], SOON).await;
    drained(&gateway.queue, SOON).await;
    assert_eq!(route_of(&gateway, paid).await, (json!("matched"), Value::Null));
    let reason = r#"the event's type "paid.late" is not one of the route's types"#;
    assert_eq!(route_of(&gateway, longer).await, (json!("type_not_matched"), json!(reason)));
    let reason = "the event has no type, and the route takes only events of its types";
    assert_eq!(route_of(&gateway, untyped).await, (json!("type_not_matched"), json!(reason)));
    assert_eq!(gateway.api.event(longer).await["decision"]["outcome"], "no_route_matched");

    // A filter that is evaluated for a type that the route takes, and for no other.
    gateway.api.patch(&path, &json!({ "filter": TOO_EXPENSIVE })).await.expect_status(200);
    let other = gateway.push(&line.source, &expensive("other"));
    let taken = gateway.push(&line.source, &expensive("paid"));
    let held = gateway.api.wait_for_row("/v1/deliveries?state=held", SOON).await;
    assert_eq!((&held["event_id"], &held["held_by"]), (&json!(taken.to_string()), &json!("filter")), "{held}");
    drained(&gateway.queue, SOON).await;
    assert_eq!(deliveries_of(&gateway, other).await, 0);
    assert_eq!(route_of(&gateway, other).await.0, "type_not_matched");

    // The held delivery is decided by the types that the route has when it is evaluated again.
    gateway.api.patch(&path, &json!({ "types": ["refunded"] })).await.expect_status(200);
    let cancelled = gateway.api.wait_for_row("/v1/deliveries?state=cancelled", SOON).await;
    assert_eq!(cancelled["event_id"], json!(taken.to_string()), "{cancelled}");
    assert_eq!(cancelled["reason"], "the event's type is not one of the route's types", "{cancelled}");
    assert_eq!(line.receiver.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_and_a_release_respect_the_types_of_a_route() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let events: Vec<EventId> = ["a", "b", "c", "a"]
        .map(|name| gateway.push(&line.source, json!({ "type": name }).to_string().as_bytes()))
        .into();
    line.receiver.wait_for_events(events.clone(), SOON).await;

    let receiver = Receiver::start().await.expect("starts");
    let destination = gateway.api.create_destination("typed", &receiver.url(), json!({})).await;
    let typed = json!({ "types": ["a", "c"] });
    let route = gateway.api.create_route(&line.source.id, &destination.id, typed).await;
    let replay = async |expected: usize| {
        let wanted = json!({ "filter": { "source": line.source.id, "destination": destination.id } });
        let replay = gateway.api.post("/v1/replays", &wanted).await.expect_status(201);
        let done = gateway.api.wait_for_replay(&replay, SOON).await;
        assert_eq!((&done["state"], &done["created"]), (&json!("completed"), &json!(expected)), "{done}");
    };
    replay(3).await;
    receiver.wait_for_events([events[0], events[2], events[3]], SOON).await;
    // With a filter the contents of events are read, and only those of the types that the route takes.
    let filter = json!({ "filter": "body.type != 'a'" });
    gateway.api.patch(&format!("/v1/routes/{route}"), &filter).await.expect_status(200);
    receiver.forget();
    replay(1).await;
    receiver.wait_for_events([events[2]], SOON).await;

    let quarantined = quarantine(&gateway, &line.source, "b");
    let other = quarantine(&gateway, &line.source, "c");
    gateway.api.wait_for_rows("/v1/events?verification=failed", 2, SOON).await;
    for (event, deliveries) in [(quarantined, 1), (other, 2)] {
        let path = format!("/v1/events/{event}/release");
        let released = gateway.api.post(&path, &json!({})).await.expect_status(200);
        assert_eq!(released["deliveries"].as_array().map(Vec::len), Some(deliveries), "{released}");
    }
    receiver.wait_for_events([events[2], other], SOON).await;
    assert_eq!(receiver.count(), 2);
}

/// Puts an event into the queue that failed verification at the edge.
fn quarantine(gateway: &RelayOnly, source: &Source, event_type: &str) -> EventId {
    let body = json!({ "type": event_type }).to_string();
    let request = Provider::standard_webhooks().sign(&format!("msg_{event_type}"), body.as_bytes(), now_s());
    let headers = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    gateway.push_refused(source, headers, body.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_without_types_takes_every_type_and_types_that_cannot_match_are_refused() {
    let gateway = Gateway::relay_only().await;
    gateway.line("line").await;
    let route = gateway.api.all("/v1/routes").await.remove(0);
    assert_eq!(route["types"], json!([]), "{route}");
    let path = format!("/v1/routes/{}", id(&route));
    let put = gateway.api.put(&path, &json!({ "types": ["b", "a"] })).await.expect_status(200);
    assert_eq!((&put["types"], &put["dropped"]), (&json!(["b", "a"]), &Value::Null), "{put}");
    let patched = gateway.api.patch(&path, &json!({ "enabled": false })).await.expect_status(200);
    assert_eq!(patched["types"], json!(["b", "a"]), "{patched}");
    let put = gateway.api.put(&path, &json!({})).await.expect_status(200);
    assert_eq!((&put["types"], &put["dropped"]), (&json!([]), &json!(["enabled", "types"])), "{put}");
    gateway.api.patch(&path, &json!({ "types": ["a"] })).await.expect_status(200);
    let patched = gateway.api.patch(&path, &json!({ "types": null })).await.expect_status(200);
    assert_eq!((&patched["types"], &patched["dropped"]), (&json!([]), &json!(["types"])), "{patched}");

    for wrong in [json!(["a", "a"]), json!([""]), json!(["invoice.*"]), json!(["x".repeat(513)]), json!("a")] {
        for method in [reqwest::Method::PUT, reqwest::Method::PATCH] {
            let body = json!({ "types": wrong });
            let reply = gateway.api.try_call(method, &path, Some(&body)).await.expect("answers");
            let problem = reply.expect_status(422);
            let field = problem["errors"][0]["field"].as_str().expect("a field");
            assert!(field.starts_with("types"), "{problem}");
        }
    }
}
