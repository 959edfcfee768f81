//! deliver: the cost of order keys, and which deliveries have the same key.

use harness::gateway::Gateway;
use harness::postgres::transactions;
use harness::receiver::{Behaviour, Received, Receiver};
use harness::wait::{SOON, until};
use serde_json::{Value, json};

fn key(request: &Received) -> String {
    let body: Value = serde_json::from_slice(&request.body).expect("json");
    body["key"].as_str().expect("a key").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_of_a_hanging_order_key_cost_no_statements_and_do_not_delay_a_retry_of_another_key() {
    let gateway = Gateway::relay_only().await;
    let source = gateway.line("other").await.source;
    let receiver = Receiver::start().await.expect("starts");
    // At this rate eight deliveries are read at a time.
    let settings = json!({
        "rate_limit": { "limit": 3, "per": "second" },
        "timeout_ms": 8_000,
        "retry": { "schedule_s": [0, 8, 60] },
    });
    let destination = gateway.api.create_destination("ordered", &receiver.url(), settings).await;
    let route = json!({ "order_key": "body.key", "poison": "skip" });
    gateway.api.create_route(&source.id, &destination.id, route).await;

    // Nine deliveries of one key fail, then one of another key. One in between succeeds to keep the breaker closed.
    let mut sent = 0;
    for (key, count, status) in [("a", 5, 500), ("between", 1, 200), ("a", 4, 500), ("b", 1, 500)] {
        receiver.next(vec![Behaviour::Status(status); count]);
        for _ in 0..count {
            gateway.push(&source, json!({ "key": key }).to_string().as_bytes());
        }
        sent += count;
        receiver.wait_for(sent, SOON).await;
    }
    receiver.always(Behaviour::Hang);

    let mut database = gateway.database.connect().await.expect("connects");
    receiver.wait_for(sent + 1, SOON).await;
    let before = transactions(&mut database).await;
    // The third retry is sent when the first one has timed out.
    let retries = receiver.wait_for(sent + 3, SOON).await.split_off(sent);
    let made = transactions(&mut database).await - before;
    assert_eq!(retries.iter().map(key).collect::<Vec<_>>(), ["a", "b", "a"]);
    assert!(made < 200, "{made} transactions in the eight seconds of a timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_order_key_of_two_sources_is_ordered_separately_and_an_empty_key_gives_no_order() {
    let gateway = Gateway::relay_only().await;
    let other = gateway.line("other").await;
    let receiver = Receiver::start().await.expect("starts");
    let settings = json!({ "retry": { "schedule_s": [0, 600] } });
    let destination = gateway.api.create_destination("ordered", &receiver.url(), settings).await;
    let route = json!({ "order_key": "body[?\"key\"].orValue(\"\")" });
    let one = gateway.api.create_source("one", &other.provider).await;
    let two = gateway.api.create_source("two", &other.provider).await;
    let mut routes = Vec::new();
    for source in [&one, &two] {
        routes.push(gateway.api.create_route(&source.id, &destination.id, route.clone()).await);
    }
    receiver.next([Behaviour::Status(500)]);
    gateway.push(&one, br#"{"key":"1"}"#);
    receiver.wait_for(1, SOON).await;
    let behind = gateway.push(&one, br#"{"key":"1"}"#);
    gateway.push(&two, br#"{"key":"1"}"#);
    receiver.wait_for(2, SOON).await;
    receiver.next([Behaviour::Status(500)]);
    gateway.push(&one, b"{}");
    receiver.wait_for(3, SOON).await;
    gateway.push(&one, b"{}");
    let received = receiver.wait_for(4, SOON).await;
    assert!(
        received.iter().all(|request| request.header("webhook-id") != behind.to_string()),
        "it waits for the first delivery of its key"
    );

    // The same hash, computed by the database: the hash of the key, hashed together with the route.
    let mut database = gateway.database.connect().await.expect("connects");
    let as_computed: Vec<bool> = sqlx::query_scalar(
        "select order_key = ('x' || encode(substring(sha256(uuid_send(route_id) || substring(sha256('\"1\"'::bytea)
                                                             from 1 for 8)) from 1 for 8), 'hex'))::bit(64)::bigint
         from pending_deliveries where order_key is not null",
    )
    .fetch_all(&mut database)
    .await
    .expect("reads");
    assert_eq!(as_computed, [true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_of_a_deleted_route_that_skips_is_not_shown_as_waiting_for_an_earlier_one_of_its_key() {
    let gateway = Gateway::relay_only().await;
    let source = gateway.line("other").await.source;
    let receiver = Receiver::start().await.expect("starts");
    let settings = json!({
        "rate_limit": { "limit": 1, "per": "hour" },
        "retry": { "schedule_s": [0, 600] },
    });
    let destination = gateway.api.create_destination("ordered", &receiver.url(), settings).await;
    let route = json!({ "order_key": "body.key", "poison": "skip" });
    let route = gateway.api.create_route(&source.id, &destination.id, route).await;
    receiver.always(Behaviour::Status(500));
    let path = format!("/v1/deliveries?destination={}", destination.id);
    let first = gateway.push(&source, b"{\"key\":\"a\"}");
    until("the first delivery to wait for its retry", SOON, async || {
        let rows = gateway.api.all(&path).await;
        if rows.len() == 1 && rows[0]["attempts"] == 1 { Ok(()) } else { Err(format!("{rows:?}")) }
    })
    .await;
    let second = gateway.push(&source, b"{\"key\":\"a\"}");
    assert_ne!(first, second);
    gateway.api.wait_for_rows(&path, 2, SOON).await;
    gateway.api.delete(&format!("/v1/routes/{route}")).await.expect_status(204);

    let rows = gateway.api.all(&path).await;
    let shown = rows.iter().find(|row| row["event_id"] == second.to_string()).expect("the second delivery");
    assert_ne!(shown["waits_for"], "order", "the relay sends it as soon as the rate limit allows: {shown}");
}
