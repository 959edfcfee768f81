//! operations: many deliveries are retried, cancelled or released by one call, each of them once.

use harness::api::{Api, Destination, id};
use harness::gateway::{Gateway, RelayOnly};
use harness::provider::{Provider, now_s};
use harness::receiver::{Behaviour, Receiver};
use harness::wait::{LONG, SOON, until};
use serde_json::{Value, json};
use shared::envelope::{Failure, Verification};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::isolation::tenant;
use crate::operations::{connect, count, execute, uuid};

/// Stores events for a destination that a route leads to. Each has an id and a delivery id of a moment ago, and a body.
/// `insert` stores their deliveries, which the temporary table `made` describes.
async fn store(gateway: &RelayOnly, destination: &Destination, count: usize, seed: &str, insert: &str) {
    let new_id = |kind: &str| {
        format!(
            "(lpad(to_hex((extract(epoch from now()) * 1000)::bigint - 5000), 12, '0') || '7'
              || substr(md5('{seed}{kind}' || number), 1, 3) || '8' || substr(md5('{seed}{kind}' || number), 4, 15))::uuid"
        )
    };
    let [event, delivery] = ["e", "d"].map(new_id);
    let statements = format!(
        "create temporary table made as
         select number, {event} as event_id, {delivery} as delivery_id, routes.customer_id, routes.source_id,
                routes.destination_id, routes.id as route_id
         from generate_series(1, {count}) number, routes where destination_id = {destination};
         insert into events (id, customer_id, source_id, received_at, body_size, verification, method, query, headers)
         select event_id, customer_id, source_id, now(), 2, 'verified', 'POST', '', '[]' from made;
         insert into event_bodies (event_id, body) select event_id, '{{}}' from made;
         {insert};
         drop table made",
        destination = uuid(&destination.id)
    );
    execute(&mut connect(gateway).await, &statements).await;
}

/// Stores dead deliveries to a destination.
async fn store_dead(gateway: &RelayOnly, destination: &Destination, count: usize, error: &str) {
    let insert = format!(
        "insert into settled_deliveries (id, customer_id, destination_id, event_id, source_id, route_id, state, error, reason,
                                         attempts, schedule_start)
         select delivery_id, customer_id, destination_id, event_id, source_id, route_id, 'dead', '{error}', 'it failed', 1, 0
         from made"
    );
    store(gateway, destination, count, &format!("{}{error}", destination.id), &insert).await;
}

/// Stores pending deliveries to a destination that is paused.
async fn store_pending(gateway: &RelayOnly, destination: &Destination, count: usize) {
    gateway.api.pause(&destination.id).await;
    let insert =
        "insert into pending_deliveries (id, customer_id, destination_id, event_id, source_id, route_id, due_at)
                  select delivery_id, customer_id, destination_id, event_id, source_id, route_id, now() from made";
    store(gateway, destination, count, &format!("{}pending", destination.id), insert).await;
}

async fn create(api: &Api, operation: &Value) -> Value {
    api.post("/v1/operations", operation).await.expect_status(202)
}

async fn plan(api: &Api, operation: &Value) -> Value {
    let mut operation = operation.clone();
    operation["dry_run"] = true.into();
    api.post("/v1/operations", &operation).await.expect_status(200)
}

async fn ended(api: &Api, operation: &Value) -> Value {
    let path = format!("/v1/operations/{}", id(operation));
    api.wait_until("the operation to end", &path, LONG, |operation| operation["state"] != "running").await
}

async fn run(api: &Api, operation: &Value) -> Value {
    let created = create(api, operation).await;
    ended(api, &created).await
}

/// Locks the delivery in the middle of a table. No operation can change it until this is dropped.
async fn lock_middle(gateway: &RelayOnly, table: &str, count: usize) -> PgConnection {
    let mut database = connect(gateway).await;
    execute(&mut database, "begin").await;
    // A statement that locks locks the rows of its offset too.
    let middle = format!("select id from {table} order by id offset {} limit 1", count / 2);
    let statement = format!("select id from {table} where id = ({middle}) for update");
    sqlx::query(AssertSqlSafe(statement)).fetch_one(&mut database).await.expect("locks");
    database
}

/// Waits until an operation has changed everything but the delivery that is locked.
async fn wait_for_all_but_one(api: &Api, operation: &Value, count: usize) -> Value {
    let path = format!("/v1/operations/{}", id(operation));
    let is_there = |shown: &Value| shown["changed"].as_u64() == Some(count as u64 - 1);
    api.wait_until("the operation to come to the locked delivery", &path, LONG, is_there).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_a_retry_then_does_and_the_retry_is_one_entry_of_the_audit_log() {
    let gateway = Gateway::relay_only().await;
    let (some, others, gone) = (gateway.line("some").await, gateway.line("others").await, gateway.line("gone").await);
    store_dead(&gateway, &some.destination, 30, "timeout").await;
    store_dead(&gateway, &others.destination, 25, "timeout").await;
    store_dead(&gateway, &others.destination, 7, "http_status").await;
    store_dead(&gateway, &gone.destination, 3, "timeout").await;
    gateway.api.delete(&format!("/v1/destinations/{}", gone.destination.id)).await.expect_status(204);
    let mut database = connect(&gateway).await;
    execute(
        &mut database,
        &format!(
            "delete from event_bodies where event_id in (
                 select event_id from settled_deliveries where destination_id = {} and error = 'timeout' limit 5)",
            uuid(&others.destination.id)
        ),
    )
    .await;

    let wanted = json!({ "kind": "retry_deliveries", "deliveries": { "state": "dead", "error": "timeout" } });
    let planned = plan(&gateway.api, &wanted).await;
    let skipped = json!({ "destination_deleted": 3, "body_not_kept": 5, "held_by_destination": 0 });
    let of = |destination: &Destination, name: &str, changed: i64| json!({ "destination_id": destination.id, "destination": name, "changed": changed });
    let destinations = json!([of(&some.destination, "some", 30), of(&others.destination, "others", 20)]);
    assert_eq!(
        planned,
        json!({
            "dry_run": true, "complete": true, "matched": 58, "changed": 50, "skipped": skipped,
            "destinations": destinations, "elsewhere": 0, "estimated_s": null,
        })
    );
    assert_eq!((some.receiver.count(), count(&mut database, "pending_deliveries").await), (0, 0));

    let ended = run(&gateway.api, &wanted).await;
    assert_eq!((&ended["state"], &ended["error"]), (&json!("completed"), &Value::Null), "{ended}");
    assert_eq!(ended["parameters"]["deliveries"], wanted["deliveries"], "{ended}");
    let counts = ["processed", "changed", "total", "remaining"].map(|field| ended[field].as_i64());
    assert_eq!(counts, [Some(58), Some(50), Some(58), Some(0)], "{ended}");
    assert_eq!(ended["skipped"], skipped, "{ended}");
    some.receiver.wait_for(30, SOON).await;
    others.receiver.wait_for(20, SOON).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded&limit=200", 50, SOON).await;
    assert_eq!((some.receiver.count(), some.receiver.ids().len()), (30, 30), "each is delivered once");
    let left = gateway.api.all("/v1/deliveries?state=dead").await;
    assert_eq!(left.len(), 15, "those that were skipped, and those with another error");

    let entries = gateway.api.all("/v1/audit").await;
    let of_deliveries: Vec<&Value> = entries
        .iter()
        .filter(|entry| entry["action"].as_str().is_some_and(|action| action.starts_with("deliver")))
        .collect();
    assert!(of_deliveries.is_empty(), "{of_deliveries:?}");
    let [entry] = entries.iter().filter(|entry| entry["action"] == "operation.create").collect::<Vec<_>>()[..] else {
        panic!("{entries:?}")
    };
    assert_eq!((&entry["object_id"], &entry["after"]["kind"]), (&ended["id"], &json!("retry_deliveries")), "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_dead_deliveries_are_retried_once_each_in_little_memory() {
    const COUNT: usize = 10_000;
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("many").await;
    store_dead(&gateway, &line.destination, COUNT, "timeout").await;
    gateway.relay.reset_peak_memory().expect("is reset");
    let before = gateway.relay.peak_memory().expect("is measured");
    let wanted = json!({ "kind": "retry_deliveries", "deliveries": { "state": "dead", "destination": "many" } });
    let ended = run(&gateway.api, &wanted).await;
    assert_eq!((&ended["changed"], &ended["total"]), (&json!(COUNT), &json!(COUNT)), "{ended}");
    assert!(ended["processed_per_s"].as_f64().is_some_and(|speed| speed > 0.0), "{ended}");
    line.receiver.wait_for(COUNT, LONG).await;
    let mut database = connect(&gateway).await;
    until("all to be settled", LONG, async || match count(&mut database, "pending_deliveries").await {
        0 => Ok(()),
        left => Err(left.to_string()),
    })
    .await;
    assert_eq!((line.receiver.count(), line.receiver.ids().len()), (COUNT, COUNT), "each is delivered once");
    let more = gateway.relay.peak_memory().expect("is measured").saturating_sub(before);
    println!("{} MiB more than before", more >> 20);
    assert!(more < 100 << 20, "{} MiB more than before", more >> 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_relay_goes_on_with_an_operation_whose_relay_is_killed_and_each_delivery_is_changed_once() {
    const COUNT: usize = 3_000;
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("many").await;
    store_pending(&gateway, &line.destination, COUNT).await;
    let replica = gateway.another_relay().await;
    let mut locked = lock_middle(&gateway, "pending_deliveries", COUNT).await;
    let wanted = json!({ "kind": "cancel_deliveries", "deliveries": { "destination": "many" } });
    let operation = create(&gateway.api, &wanted).await;
    assert_eq!((&operation["kind"], &operation["total"]), (&json!("cancel_deliveries"), &json!(COUNT)), "{operation}");
    let shown = wait_for_all_but_one(&gateway.api, &operation, COUNT).await;
    assert_eq!(shown["state"], "running", "a delivery is locked: {shown}");
    gateway.relay.kill().await.expect("is killed");
    execute(&mut locked, "rollback").await;
    let api = gateway.api.at(replica.url());
    let ended = ended(&api, &operation).await;
    assert_eq!(
        (&ended["state"], &ended["changed"], &ended["processed"]),
        (&json!("completed"), &json!(COUNT), &json!(COUNT))
    );
    let mut database = connect(&gateway).await;
    for from in ["settled_deliveries where state = 'cancelled'", "delivery_signals"] {
        assert_eq!(count(&mut database, from).await, COUNT as i64, "{from}");
    }
    assert_eq!(count(&mut database, "pending_deliveries").await, 0);
    assert_eq!(line.receiver.count(), 0);
    gateway.relay.start_again().await.expect("starts again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_operation_keeps_what_it_has_done_and_does_no_more() {
    const COUNT: usize = 3_000;
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("many").await;
    store_pending(&gateway, &line.destination, COUNT).await;
    let mut locked = lock_middle(&gateway, "pending_deliveries", COUNT).await;
    let operation = create(&gateway.api, &json!({ "kind": "cancel_deliveries", "deliveries": {} })).await;
    wait_for_all_but_one(&gateway.api, &operation, COUNT).await;
    let path = format!("/v1/operations/{}/cancel", id(&operation));
    let cancelled = gateway.api.post(&path, &json!({})).await.expect_status(200);
    assert_eq!((&cancelled["state"], &cancelled["error"]), (&json!("cancelled"), &Value::Null), "{cancelled}");
    assert!(cancelled["finished_at"].is_string(), "{cancelled}");
    execute(&mut locked, "rollback").await;
    assert_eq!(gateway.api.post(&path, &json!({})).await.expect_status(409)["code"], "operation_finished");

    // A later operation ends, so the cancelled one would have gone on by now.
    let later = json!({ "kind": "retry_deliveries", "deliveries": { "state": "dead" } });
    assert_eq!(run(&gateway.api, &later).await["processed"], 0);
    let shown = gateway.api.get(&format!("/v1/operations/{}", id(&operation))).await.expect_status(200);
    assert_eq!((&shown["state"], &shown["changed"]), (&json!("cancelled"), &cancelled["changed"]));
    let mut database = connect(&gateway).await;
    let done = count(&mut database, "settled_deliveries where state = 'cancelled'").await;
    assert_eq!(shown["changed"], done, "{shown}");
    assert_eq!(count(&mut database, "pending_deliveries").await, COUNT as i64 - done);
    let actions: Vec<Value> = gateway.api.all("/v1/audit").await.iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions.iter().filter(|action| **action == "operation.cancel").count(), 1, "{actions:?}");

    let reseal = create(&gateway.api, &json!({ "kind": "reseal" })).await;
    let path = format!("/v1/operations/{}/cancel", id(&reseal));
    assert_eq!(gateway.api.post(&path, &json!({})).await.expect_status(409)["code"], "not_cancellable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_dies_after_the_call_is_not_retried() {
    // Fewer failures than open the breaker.
    const COUNT: usize = 8;
    let gateway = Gateway::relay_only().await;
    let receiver = Receiver::behaving(Behaviour::Status(404)).await.expect("a receiver");
    let source = gateway.api.create_source("shop", &Provider::standard_webhooks()).await;
    let more = json!({ "retry": { "schedule_s": [0] } });
    let destination = gateway.api.create_destination("refusing", &receiver.url(), more).await;
    gateway.api.create_route("shop", "refusing", json!({})).await;
    store_dead(&gateway, &destination, COUNT, "http_status").await;
    let mut locked = lock_middle(&gateway, "settled_deliveries", COUNT).await;
    let wanted = json!({ "kind": "retry_deliveries", "deliveries": { "state": "dead" } });
    let operation = create(&gateway.api, &wanted).await;
    // What is retried dies again, and so does an event that arrives meanwhile.
    receiver.wait_for(COUNT - 1, SOON).await;
    let event = gateway.push(&source, b"{}");
    receiver.wait_for_events([event], SOON).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=dead&limit=200", COUNT + 1, SOON).await;
    execute(&mut locked, "rollback").await;
    let ended = ended(&gateway.api, &operation).await;
    assert_eq!((&ended["changed"], &ended["processed"]), (&json!(COUNT), &json!(COUNT)), "{ended}");
    gateway.api.wait_for_rows("/v1/deliveries?state=dead&limit=200", COUNT + 1, SOON).await;
    assert_eq!((receiver.count(), receiver.ids().len()), (COUNT + 1, COUNT + 1), "each is sent once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_of_a_customer_changes_and_shows_nothing_of_another() {
    let gateway = Gateway::relay_only().await;
    let (victim, own) = (tenant(&gateway, "victim").await, tenant(&gateway, "own").await);
    let of_victim = victim.api.get("/v1/destinations/refusing").await.expect_status(200);
    let dead = async |api: &Api| api.all("/v1/deliveries?state=dead").await;
    let before = dead(&victim.api).await;
    let named = json!({ "kind": "retry_deliveries", "deliveries": { "state": "dead", "destination": id(&of_victim) } });
    assert_eq!(plan(&own.api, &named).await["matched"], 0);
    assert_eq!(run(&own.api, &named).await["processed"], 0);
    let all = json!({ "kind": "cancel_deliveries", "deliveries": {} });
    assert_eq!(run(&own.api, &all).await["changed"], 2, "the held deliveries of the caller");
    assert_eq!(dead(&victim.api).await, before);
    assert_eq!(victim.api.all("/v1/deliveries?state=held").await.len(), 2);

    let operation = run(&victim.api, &all).await;
    assert_eq!((&operation["changed"], &operation["customer_id"]), (&json!(2), &json!(victim.customer)));
    let path = format!("/v1/operations/{}", id(&operation));
    own.api.get(&path).await.expect_status(404);
    own.api.post(&format!("{path}/cancel"), &json!({})).await.expect_status(404);
    let listed = own.api.all("/v1/operations").await;
    assert!(listed.iter().all(|listed| listed["customer_id"] == json!(own.customer)), "{listed:?}");
    // An actor that is not bound acts for the customer that it names, and sees the operations of all.
    let made = create(&gateway.api.acting_for("own"), &all).await;
    assert_eq!(made["customer_id"], json!(own.customer), "{made}");
    gateway.api.get(&path).await.expect_status(200);
    let forbidden = own.api.post("/v1/operations", &json!({ "kind": "reseal" })).await.expect_status(403);
    assert_eq!(forbidden["code"], "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn held_deliveries_are_released_unless_their_destination_holds_them() {
    const HELD: &str =
        "due_at = 'infinity', held_reason = 'the transform fails', held_by = 'transform', held_at = now()";
    let gateway = Gateway::relay_only().await;
    let (line, paused) = (gateway.line("line").await, gateway.line("paused").await);
    store_pending(&gateway, &line.destination, 20).await;
    store_pending(&gateway, &paused.destination, 5).await;
    let mut database = connect(&gateway).await;
    execute(&mut database, "update routes set updated_at = now() - interval '1 hour'").await;
    let of_line = uuid(&line.destination.id);
    execute(&mut database, &format!("update pending_deliveries set {HELD} where destination_id = {of_line}")).await;
    gateway.api.resume("line").await;
    let wanted = json!({ "kind": "release_deliveries", "deliveries": {} });
    let planned = plan(&gateway.api, &wanted).await;
    let ended = run(&gateway.api, &wanted).await;
    for shown in [&planned, &ended] {
        assert_eq!((&shown["changed"], &shown["skipped"]["held_by_destination"]), (&json!(20), &json!(5)), "{shown}");
    }
    line.receiver.wait_for(20, SOON).await;
    assert_eq!(line.receiver.ids().len(), 20);
    assert_eq!(gateway.api.all("/v1/deliveries?state=held").await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_delivery_of_an_order_key_is_sent_when_the_ones_before_it_are_cancelled() {
    let gateway = Gateway::relay_only().await;
    let receiver = Receiver::behaving(Behaviour::Status(500)).await.expect("a receiver");
    let source = gateway.api.create_source("shop", &Provider::standard_webhooks()).await;
    let more = json!({ "retry": { "schedule_s": [0, 3600] } });
    gateway.api.create_destination("ordered", &receiver.url(), more).await;
    gateway.api.create_route("shop", "ordered", json!({ "order_key": "body.key" })).await;
    let first = gateway.push(&source, br#"{"key":"a"}"#);
    receiver.wait_for(1, SOON).await;
    let second = gateway.push(&source, br#"{"key":"a"}"#);
    let waits = format!("/v1/deliveries?event={second}");
    gateway
        .api
        .wait_until("the second delivery to wait", &waits, SOON, |page| page["data"][0]["waits_for"] == "order")
        .await;
    receiver.always(Behaviour::Status(200));
    let wanted = json!({ "kind": "cancel_deliveries", "deliveries": { "event": first.to_string() } });
    assert_eq!(run(&gateway.api, &wanted).await["changed"], 1);
    receiver.wait_for_events([second], SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_released_from_quarantine_by_an_operation_and_forged_ones_stay() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("shop").await;
    let source = json!({
        "provider": "standard-webhooks", "secrets": line.provider.secrets, "config": { "on_failure": "quarantine" },
    });
    gateway.api.put("/v1/sources/by-name/shop", &source).await.expect_status(200);
    let failed = Verification::Failed(Failure {
        cause: "signature_mismatch".to_owned(),
        detail: "the signature does not match".to_owned(),
    });
    for (count, signer) in [(4, line.provider.clone()), (2, Provider::standard_webhooks())] {
        for number in 0..count {
            let message = format!("msg_{number}");
            let signed = signer.sign(&message, message.as_bytes(), now_s());
            let headers: Vec<(&str, &str)> =
                signed.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            gateway.push_large(&line.source, &headers, signed.body.clone(), vec![failed.clone()]);
        }
    }
    gateway.api.wait_for_rows("/v1/events?verification=failed", 6, SOON).await;
    let wanted = json!({ "kind": "release_events", "events": { "source": "shop", "verifies_now": true } });
    let planned = plan(&gateway.api, &wanted).await;
    assert_eq!((&planned["matched"], &planned["complete"]), (&json!(6), &Value::Bool(true)), "{planned}");
    let ended = run(&gateway.api, &wanted).await;
    assert_eq!(
        (&ended["kind"], &ended["state"], &ended["processed"], &ended["changed"]),
        (&json!("release_events"), &json!("completed"), &json!(6), &json!(4))
    );
    line.receiver.wait_for(4, SOON).await;
    gateway.api.wait_for_rows("/v1/events?verification=failed", 2, SOON).await;
    let replay = ended["parameters"]["replay_id"].as_str().expect("an id");
    let replay = gateway.api.get(&format!("/v1/replays/{replay}")).await.expect_status(200);
    assert_eq!(replay["created"], 4, "{replay}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_has_operations_of_all_kinds_and_can_be_filtered() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    gateway.push(&line.source, b"{}");
    line.receiver.wait_for(1, SOON).await;
    let retry = run(&gateway.api, &json!({ "kind": "retry_deliveries", "deliveries": { "state": "dead" } })).await;
    let reseal = run(&gateway.api, &json!({ "kind": "reseal" })).await;
    let slow = json!({ "filter": { "source": "line" }, "rate_limit": { "limit": 1, "per": "hour" } });
    let replay = gateway.api.post("/v1/replays", &slow).await.expect_status(201);
    let operation = format!("opn_{}", &id(&replay)[4..]);
    let ids = async |query: &str| {
        let rows = gateway.api.all(&format!("/v1/operations?{query}")).await;
        rows.iter().map(|row| id(row).to_owned()).collect::<Vec<_>>()
    };
    let (retry, reseal) = (id(&retry), id(&reseal));
    assert_eq!(ids("limit=1").await, [operation.as_str(), reseal, retry], "newest first, page by page");
    assert_eq!(ids("kind=replay").await, [operation.as_str()]);
    assert_eq!(ids("kind=retry_deliveries&state=completed").await, [retry]);
    assert_eq!(ids("kind=retry_deliveries&state=running").await, [""; 0]);
    gateway.api.get("/v1/operations?kind=colour").await.expect_status(422);
    gateway.api.get("/v1/operations?state=colour").await.expect_status(422);

    let path = format!("/v1/operations/{operation}");
    gateway.api.post(&format!("/v1/replays/{}/pause", id(&replay)), &json!({})).await.expect_status(200);
    assert_eq!(gateway.api.get(&path).await.expect_status(200)["state"], "paused");
    let cancelled = gateway.api.post(&format!("{path}/cancel"), &json!({})).await.expect_status(200);
    assert_eq!((&cancelled["state"], &cancelled["parameters"]["replay_id"]), (&json!("cancelled"), &replay["id"]));
    let replay = gateway.api.get(&format!("/v1/replays/{}", id(&replay))).await.expect_status(200);
    assert_eq!(replay["state"], "cancelled", "{replay}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_would_do_nothing_sensible_is_refused_with_the_field() {
    let gateway = Gateway::relay_only().await;
    for (wanted, fields) in [
        (json!({ "kind": "retry_deliveries" }), vec!["deliveries", "deliveries.state"]),
        (json!({ "kind": "retry_deliveries", "deliveries": {} }), vec!["deliveries.state"]),
        (json!({ "kind": "retry_deliveries", "deliveries": { "state": "held" } }), vec!["deliveries.state"]),
        (json!({ "kind": "cancel_deliveries", "deliveries": { "state": "dead" } }), vec!["deliveries.state"]),
        (json!({ "kind": "cancel_deliveries", "deliveries": { "error": "timeout" } }), vec!["deliveries.error"]),
        (json!({ "kind": "release_deliveries", "deliveries": { "state": "pending" } }), vec!["deliveries.state"]),
        (
            json!({ "kind": "release_deliveries", "deliveries": { "destination": "none" } }),
            vec!["deliveries.destination"],
        ),
        (json!({ "kind": "release_deliveries", "deliveries": {}, "events": {} }), vec!["events"]),
        (json!({ "kind": "release_events" }), vec!["events"]),
        (json!({ "kind": "release_events", "events": { "source": "none" } }), vec!["events.source"]),
        (json!({ "kind": "release_events", "events": { "after": "today" } }), vec!["events.after"]),
        (json!({ "kind": "reseal", "deliveries": {} }), vec!["deliveries"]),
        (json!({ "kind": "reseal", "dry_run": true }), vec!["dry_run"]),
        (json!({ "kind": "retry_deliveries", "deliveries": { "colour": "red" } }), vec!["deliveries.colour"]),
    ] {
        let problem = gateway.api.post("/v1/operations", &wanted).await.expect_status(422);
        let errors = problem["errors"].as_array().expect("errors");
        let named: Vec<&str> = errors.iter().filter_map(|error| error["field"].as_str()).collect();
        assert_eq!(named, fields, "{wanted}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_takes_the_deliveries_that_it_lists_by_their_ids_and_leaves_those_in_other_states() {
    let gateway = Gateway::relay_only().await;
    let (some, others) = (gateway.line("some").await, gateway.line("others").await);
    store_dead(&gateway, &some.destination, 4, "timeout").await;
    store_pending(&gateway, &others.destination, 3).await;
    let dead = gateway.api.all("/v1/deliveries?state=dead").await;
    let held = gateway.api.all("/v1/deliveries?state=held").await;
    let ids = |deliveries: &[&Value]| deliveries.iter().map(|delivery| id(delivery).to_owned()).collect::<Vec<_>>();
    let listed = ids(&[&dead[0], &dead[2], &held[1]]);

    let of = |kind: &str| json!({ "kind": kind, "deliveries": { "ids": listed } });
    for (kind, matched, changed) in
        [("retry_deliveries", 2, 2), ("cancel_deliveries", 1, 1), ("release_deliveries", 1, 0)]
    {
        let planned = plan(&gateway.api, &of(kind)).await;
        assert_eq!((&planned["matched"], &planned["changed"]), (&json!(matched), &json!(changed)), "{kind}: {planned}");
    }
    let retried = run(&gateway.api, &of("retry_deliveries")).await;
    assert_eq!((&retried["changed"], &retried["total"]), (&json!(2), &json!(2)), "{retried}");
    assert_eq!(retried["parameters"]["deliveries"]["ids"], json!(listed), "{retried}");
    let events = [&dead[0], &dead[2]].map(|delivery| delivery["event_id"].as_str().expect("an id").to_owned());
    some.receiver.wait_for_events(events, SOON).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 2, SOON).await;
    let cancelled = run(&gateway.api, &of("cancel_deliveries")).await;
    assert_eq!(cancelled["changed"], 1, "{cancelled}");
    assert_eq!(gateway.api.all("/v1/deliveries?state=cancelled").await.len(), 1);
    assert_eq!(gateway.api.all("/v1/deliveries?state=dead").await.len(), 2);
    assert_eq!((some.receiver.count(), others.receiver.count()), (2, 0));

    let many: Vec<&str> = vec![listed[0].as_str(); 201];
    for (wrong, what) in [
        (json!({ "ids": [] }), "must have 1 to 200 ids"),
        (json!({ "ids": many }), "must have 1 to 200 ids"),
        (json!({ "ids": ["evt_1"] }), "is not a delivery id"),
        (json!({ "ids": listed, "state": "dead" }), "cannot be combined with other filters"),
    ] {
        let operation = json!({ "kind": "retry_deliveries", "deliveries": wrong });
        let refused = gateway.api.post("/v1/operations", &operation).await.expect_status(422);
        assert!(refused["errors"].to_string().contains(what), "{what}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_listed_and_retried_by_the_replay_that_created_them() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    gateway.push(&line.source, b"{}");
    line.receiver.wait_for(1, SOON).await;
    gateway.api.wait_for_row("/v1/deliveries?state=succeeded", SOON).await;
    let once = json!({ "retry": { "schedule_s": [0] } });
    gateway.api.patch(&format!("/v1/destinations/{}", line.destination.id), &once).await.expect_saved();
    line.receiver.always(Behaviour::Status(500));
    let wanted = json!({ "filter": { "source": "line" } });
    let mut replays = Vec::new();
    for _ in 0..2 {
        let replay = gateway.api.post("/v1/replays", &wanted).await.expect_status(201);
        gateway.api.wait_for_row(&format!("/v1/deliveries?state=dead&replay={}", id(&replay)), SOON).await;
        replays.push(id(&replay).to_owned());
    }
    let listed = gateway.api.all(&format!("/v1/deliveries?replay={}", replays[0])).await;
    assert_eq!((listed.len(), &listed[0]["replay_id"]), (1, &json!(replays[0])), "{listed:?}");
    assert_eq!(gateway.api.all("/v1/deliveries").await.len(), 3);
    line.receiver.always(Behaviour::Status(200));
    let retry = json!({ "kind": "retry_deliveries", "deliveries": { "state": "dead", "replay": replays[0] } });
    assert_eq!(run(&gateway.api, &retry).await["changed"], 1);
    gateway.api.wait_for_row(&format!("/v1/deliveries?state=succeeded&replay={}", replays[0]), SOON).await;
    assert_eq!(gateway.api.all("/v1/deliveries?state=dead").await.len(), 1, "that of the other replay");
    gateway.api.get("/v1/deliveries?replay=evt_1").await.expect_status(422);
}
