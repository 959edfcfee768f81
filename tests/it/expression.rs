//! route: expressions that are expensive, cannot read the body, or run out of time. Their deliveries are held, and no
//! event is lost.

use std::time::Duration;

use harness::api::Source;
use harness::gateway::{Gateway, RelayOnly, drained};
use harness::receiver::Receiver;
use harness::wait::SOON;
use serde_json::{Value, json};
use shared::envelope::Verification;

/// A source, a receiver, and the id of the route between them.
struct Filtered {
    source: Source,
    destination: String,
    receiver: Receiver,
    route: String,
}

/// Creates one, in addition to a line with another source of the same provider.
async fn filtered(gateway: &RelayOnly, name: &str, route: Value) -> Filtered {
    let other = gateway.line(&format!("{name}-other")).await;
    let source = gateway.api.create_source(name, &other.provider).await;
    let receiver = Receiver::start().await.expect("starts");
    let destination = gateway.api.create_destination(name, &receiver.url(), json!({})).await.id;
    let route = gateway.api.create_route(&source.id, &destination, route).await;
    Filtered { source, destination, receiver, route }
}

async fn change(gateway: &RelayOnly, path: &str, change: Value) {
    let reply = gateway.api.try_call(reqwest::Method::PATCH, path, Some(&change)).await.expect("answers");
    reply.expect_status(200);
}

/// Makes the two changes in turn, ten times a second, without end.
async fn changes(gateway: &RelayOnly, method: reqwest::Method, changes: [(String, Value); 2]) {
    for (path, body) in changes.iter().cycle() {
        gateway.api.try_call(method.clone(), path, Some(body)).await.expect("answers").expect_status(200);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn deliveries(gateway: &RelayOnly, of: &Filtered, state: &str, count: usize) -> Vec<Value> {
    let path = format!("/v1/deliveries?destination={}&state={state}", of.destination);
    gateway.api.wait_for_rows(&path, count, SOON).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_regular_expression_that_costs_too_much_holds_the_deliveries_of_its_route_and_no_others() {
    let gateway = Gateway::relay_only().await;
    let filter = r#"body.s.matches("[ab]*a[ab]{900}[c-z]")"#;
    let slow = filtered(&gateway, "slow", json!({ "filter": filter })).await;
    let other = filtered(&gateway, "other", json!({ "filter": "body.ok == true" })).await;
    let text: String = (0..1_000_000).map(|_| if rand::random() { 'a' } else { 'b' }).collect();
    let body = json!({ "s": text }).to_string();
    let large = gateway.push_large(&slow.source, &[], body, [Verification::Verified, Verification::Verified]);
    for _ in 0..20 {
        gateway.push(&other.source, br#"{"ok":true}"#);
    }
    other.receiver.wait_for(20, SOON).await;
    for held in deliveries(&gateway, &slow, "held", 2).await {
        assert!(held["held_reason"].as_str().is_some_and(|reason| reason.contains("too much work")), "{held}");
    }
    assert_eq!(deliveries(&gateway, &other, "held", 0).await, Vec::<Value>::new());

    change(&gateway, &format!("/v1/routes/{}", slow.route), json!({ "filter": "body.s.startsWith('a') || true" }))
        .await;
    slow.receiver.wait_for(2, SOON).await;
    assert_eq!(slow.receiver.ids(), large.iter().map(ToString::to_string).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_cannot_read_the_body_holds_the_delivery_until_its_route_can_decide() {
    let gateway = Gateway::relay_only().await;
    let by_body = filtered(&gateway, "by-body", json!({ "filter": "body.ref == 'main'" })).await;
    let by_header = Receiver::start().await.expect("starts");
    let destination = gateway.api.create_destination("by-header", &by_header.url(), json!({})).await;
    gateway
        .api
        .create_route(&by_body.source.id, &destination.id, json!({ "filter": "headers['x-kind'] == 'push'" }))
        .await;
    let body = json!({ "ref": "main", "more": "x".repeat(1_200_000) }).to_string();
    let wanted = gateway.push_large(&by_body.source, &[("x-kind", "push")], body.clone(), [Verification::Verified]);
    let others = gateway.push_large(&by_body.source, &[("x-kind", "else")], body, [Verification::Verified]);
    let deep = gateway.push(&by_body.source, format!("{}{}", "[".repeat(6_000), "]".repeat(6_000)).as_bytes());
    assert_eq!(by_header.wait_for(1, SOON).await[0].header("webhook-id"), wanted[0].to_string());
    let held = deliveries(&gateway, &by_body, "held", 3).await;
    for held in &held {
        let event = held["event_id"].as_str().expect("an id");
        let reason = if event == deep.to_string() { "nested too deeply" } else { "up to 1048576" };
        assert!(held["held_reason"].as_str().is_some_and(|held| held.contains(reason)), "{held}");
        let shown = gateway.api.get(&format!("/v1/events/{event}")).await.expect_status(200);
        assert!(shown["routes"].to_string().contains("undecided"), "{shown}");
    }

    let filter = json!({ "filter": "has(headers.kind) || headers['x-kind'] == 'push'" });
    change(&gateway, &format!("/v1/routes/{}", by_body.route), filter).await;
    assert_eq!(by_body.receiver.wait_for(1, SOON).await[0].header("webhook-id"), wanted[0].to_string());
    let cancelled = deliveries(&gateway, &by_body, "cancelled", 2).await;
    let reason = |event: String| {
        let found = cancelled.iter().find(|delivery| delivery["event_id"] == event.as_str());
        found.and_then(|delivery| delivery["reason"].as_str()).unwrap_or_else(|| panic!("{event}: {cancelled:?}"))
    };
    assert!(reason(others[0].to_string()).contains("the filter is false"));
    assert!(reason(deep.to_string()).contains("x-kind"));
    assert_eq!(deliveries(&gateway, &by_body, "held", 0).await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecided_delivery_is_decided_again_automatically() {
    let gateway = Gateway::relay_only().await;
    let line = filtered(&gateway, "late", json!({ "filter": "body.ok == true || true" })).await;
    gateway.api.pause(&line.destination).await;
    let wanted = gateway.push(&line.source, br#"{"ok":true}"#);
    drained(&gateway.queue, SOON).await;
    // The state that a relay leaves if it has no time to evaluate the filter.
    let mut database = gateway.database.connect().await.expect("connects");
    let late =
        "update pending_deliveries set due_at = 'infinity', held_reason = 'late', held_at = now(), undecided = true,
                       decide_at = now() + interval '1 second'";
    let made = sqlx::query(late).execute(&mut database).await.expect("is changed").rows_affected();
    assert_eq!(made, 1);
    gateway.api.resume(&line.destination).await;
    let received = line.receiver.wait_for(1, SOON).await;
    assert_eq!(received[0].header("webhook-id"), wanted.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_changes_of_the_configuration_keep_no_event_from_being_stored() {
    let gateway = Gateway::relay_only().await;
    let slow = "body.all(a, body.all(b, a + b >= 0))";
    let line = filtered(&gateway, "line", json!({ "filter": slow })).await;
    let unrelated = gateway.line("unrelated").await;
    let own = gateway.api.create_destination("own", &unrelated.receiver.url(), json!({})).await;
    let own = gateway.api.create_route(&line.source.id, &own.id, json!({ "enabled": false })).await;
    let body = serde_json::to_vec(&(0..200).collect::<Vec<_>>()).expect("JSON");

    let unrelated = format!("/v1/destinations/{}", unrelated.destination.id);
    let elsewhere = changes(
        &gateway,
        reqwest::Method::POST,
        [(format!("{unrelated}/pause"), json!({})), (format!("{unrelated}/resume"), json!({}))],
    );
    let stored = async {
        let events: Vec<_> = (0..40).map(|_| gateway.push(&line.source, &body)).collect();
        line.receiver.wait_for(events.len(), SOON).await;
        drained(&gateway.queue, SOON).await;
    };
    tokio::select! {
        () = elsewhere => unreachable!("the changes do not end"),
        () = stored => {}
    }
    // The routes of the source are evaluated again after each change, until the configuration is locked.
    let own = format!("/v1/routes/{own}");
    let filters = [json!({ "filter": "true" }), json!({ "filter": "true && true" })];
    let here = changes(&gateway, reqwest::Method::PATCH, filters.map(|filter| (own.clone(), filter)));
    let stored = async {
        let events: Vec<_> = (0..40).map(|_| gateway.push(&line.source, &body)).collect();
        line.receiver.wait_for(40 + events.len(), SOON).await;
        drained(&gateway.queue, SOON).await;
    };
    tokio::select! {
        () = here => unreachable!("the changes do not end"),
        () = stored => {}
    }
    assert_eq!(line.receiver.ids().len(), 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_routes_within_their_limits_delay_no_other_source() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("many").await;
    let source = gateway.api.create_source("busy", &line.provider).await;
    let receiver = Receiver::start().await.expect("starts");
    // Each filter costs less than one evaluation may, and all of them cost more than the evaluations of one event may.
    for number in 0..30 {
        let destination = gateway.api.create_destination(&format!("d{number}"), &receiver.url(), json!({})).await;
        let filter = format!("body.all(a, body.all(b, a + b >= 0 && a >= 0)) && {number} >= 0");
        gateway.api.create_route(&source.id, &destination.id, json!({ "filter": filter })).await;
    }
    let body = serde_json::to_vec(&(0..300).collect::<Vec<_>>()).expect("JSON");
    gateway.push(&source, &body);
    gateway.push(&line.source, b"{}");
    line.receiver.wait_for(1, SOON).await;
    drained(&gateway.queue, SOON).await;
    let held = gateway.api.all("/v1/deliveries?state=held").await;
    assert!(!held.is_empty() && held.len() < 30, "{} held", held.len());
    for held in &held {
        assert!(held["held_reason"].as_str().is_some_and(|reason| reason.contains("together")), "{held}");
    }
    receiver.wait_for(30 - held.len(), SOON).await;
}
