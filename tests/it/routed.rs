//! route: a delivery keeps the route that made it until it is sent, and nothing is sent that no filter has approved.

use harness::api::{Destination, Source, id};
use harness::gateway::{Gateway, RelayOnly, drained};
use harness::postgres::wait_for_count;
use harness::receiver::{Behaviour, Receiver};
use harness::wait::{SOON, until};
use serde_json::{Value, json};
use shared::id::{EventId, RouteId};
use sqlx::AssertSqlSafe;

/// A card number that the provider sends and the destination must not receive.
const CARD: &str = "4242424242424242";

/// Removes the card. `event.source` is the name of the source.
const STRIPS: &str = "{'amount': body.amount, 'of': event.source}";

/// A source, a destination and the id of the route between them.
struct Routed {
    source: Source,
    destination: Destination,
    receiver: Receiver,
    route: String,
}

impl Routed {
    async fn new(gateway: &RelayOnly, name: &str, route: Value) -> Self {
        Self::to(gateway, name, json!({}), route).await
    }

    async fn to(gateway: &RelayOnly, name: &str, destination: Value, route: Value) -> Self {
        let provider = harness::provider::Provider::standard_webhooks();
        let source = gateway.api.create_source(name, &provider).await;
        let receiver = Receiver::start().await.expect("starts");
        let destination = gateway.api.create_destination(name, &receiver.url(), destination).await;
        let route = gateway.api.create_route(&source.id, &destination.id, route).await;
        Self { source, destination, receiver, route }
    }

    async fn pause(&self, gateway: &RelayOnly) {
        post(gateway, &format!("/v1/destinations/{}/pause", self.destination.id), json!({})).await;
    }

    async fn resume(&self, gateway: &RelayOnly) {
        post(gateway, &format!("/v1/destinations/{}/resume", self.destination.id), json!({})).await;
    }

    /// Stores events with these amounts while nothing is sent, one after the other.
    async fn store(&self, gateway: &RelayOnly, amounts: &[u32]) {
        self.pause(gateway).await;
        for amount in amounts {
            gateway.push(&self.source, json!({ "amount": amount, "card": CARD }).to_string().as_bytes());
            drained(&gateway.queue, SOON).await;
        }
    }

    async fn change(&self, gateway: &RelayOnly, change: Value) {
        let path = format!("/v1/routes/{}", self.route);
        let reply = gateway.api.try_call(reqwest::Method::PATCH, &path, Some(&change)).await.expect("answers");
        reply.expect_status(200);
    }

    async fn delete_route(&self, gateway: &RelayOnly) {
        gateway.api.delete(&format!("/v1/routes/{}", self.route)).await.expect_status(204);
    }

    /// The deliveries to the destination in a state, oldest first, once there are `count` of them.
    async fn deliveries(&self, gateway: &RelayOnly, state: &str, count: usize) -> Vec<Value> {
        let path = format!("/v1/deliveries?destination={}&state={state}", self.destination.id);
        let mut found = gateway.api.wait_for_rows(&path, count, SOON).await;
        found.reverse();
        found
    }

    /// The bodies that the destination got, once there are `count` of them, ordered by their amounts.
    async fn bodies(&self, count: usize) -> Vec<Value> {
        bodies(&self.receiver, count).await
    }
}

async fn bodies(receiver: &Receiver, count: usize) -> Vec<Value> {
    let received = receiver.wait_for(count, SOON).await;
    let mut bodies: Vec<Value> =
        received.iter().map(|received| serde_json::from_slice(&received.body).expect("JSON")).collect();
    bodies.sort_by_key(|body| body["amount"].as_u64());
    bodies
}

async fn post(gateway: &RelayOnly, path: &str, body: Value) -> Value {
    gateway.api.post(path, &body).await.expect_status(200)
}

async fn retry(gateway: &RelayOnly, delivery: &Value) -> Value {
    post(gateway, &format!("/v1/deliveries/{}/retry", id(delivery)), json!({})).await
}

/// Creates a replay and waits until it has created all its deliveries.
async fn replayed(gateway: &RelayOnly, wanted: Value) -> Value {
    let replay = gateway.api.post("/v1/replays", &wanted).await.expect_status(201);
    gateway.api.wait_for_replay(&replay, SOON).await
}

/// Changes the configuration to a state that another version of the relay may have saved.
async fn change_configuration(gateway: &RelayOnly, statement: &str) {
    assert_eq!(gateway.database.run(statement).await, 1, "{statement}");
    gateway.database.run("update configuration set revision = revision + 1, identity = gen_random_uuid()").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_deliveries_of_a_deleted_route_are_sent_with_its_transform_even_after_a_restart() {
    let mut gateway = Gateway::relay_only().await;
    let routed = Routed::new(&gateway, "shop", json!({ "transform": STRIPS })).await;
    routed.store(&gateway, &[1, 2]).await;
    routed.delete_route(&gateway).await;
    gateway.relay.kill().await.expect("is killed");
    gateway.relay.start_again().await.expect("starts again");
    routed.resume(&gateway).await;
    let stripped = [json!({ "amount": 1, "of": "shop" }), json!({ "amount": 2, "of": "shop" })];
    assert_eq!(routed.bodies(2).await, stripped);
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_deliveries_of_a_deleted_source_are_sent_with_the_transforms_of_its_routes() {
    let gateway = Gateway::relay_only().await;
    let routed = Routed::new(&gateway, "shop", json!({ "transform": STRIPS })).await;
    routed.store(&gateway, &[1]).await;
    gateway.api.delete("/v1/sources/shop").await.expect_status(204);
    assert!(gateway.api.all("/v1/routes").await.is_empty(), "its routes are gone");
    // Another source and another route take their places.
    let provider = harness::provider::Provider::standard_webhooks();
    let new = gateway.api.create_source("shop", &provider).await;
    gateway.api.create_route(&new.id, &routed.destination.id, json!({})).await;
    routed.resume(&gateway).await;
    assert_eq!(routed.bodies(1).await, [json!({ "amount": 1, "of": "shop" })]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_delivery_keeps_its_transform_when_the_route_loses_it() {
    let gateway = Gateway::relay_only().await;
    let routed = Routed::new(&gateway, "shop", json!({ "transform": STRIPS })).await;
    routed.store(&gateway, &[1]).await;
    routed.change(&gateway, json!({ "transform": null })).await;
    routed.store(&gateway, &[2]).await;
    routed.resume(&gateway).await;
    assert_eq!(
        routed.bodies(2).await,
        [json!({ "amount": 1, "of": "shop" }), json!({ "amount": 2, "card": CARD })],
        "the first was routed before the change"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_delivery_keeps_its_transform_and_a_manual_retry_uses_the_new_one() {
    let gateway = Gateway::relay_only().await;
    let routed = Routed::new(&gateway, "shop", json!({ "transform": "{'amount': body.amount, 'by': 'old'}" })).await;
    routed.store(&gateway, &[1, 2]).await;
    routed.change(&gateway, json!({ "transform": "{'amount': body.amount, 'by': 'new'}" })).await;
    let waiting = routed.deliveries(&gateway, "held", 2).await;
    retry(&gateway, &waiting[1]).await;
    routed.resume(&gateway).await;
    assert_eq!(routed.bodies(2).await, [json!({ "amount": 1, "by": "old" }), json!({ "amount": 2, "by": "new" })]);

    // A later change does not affect a delivery that was retried before it.
    routed.store(&gateway, &[3]).await;
    retry(&gateway, &routed.deliveries(&gateway, "held", 1).await[0]).await;
    routed.change(&gateway, json!({ "transform": null })).await;
    routed.delete_route(&gateway).await;
    routed.resume(&gateway).await;
    assert_eq!(routed.bodies(3).await[2], json!({ "amount": 3, "by": "new" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_and_replays_after_the_route_was_deleted_use_its_last_transform() {
    let gateway = Gateway::relay_only().await;
    let routed = Routed::new(&gateway, "shop", json!({ "transform": "'first'" })).await;
    routed.change(&gateway, json!({ "transform": STRIPS })).await;
    gateway.push(&routed.source, json!({ "amount": 1, "card": CARD }).to_string().as_bytes());
    let stripped = json!({ "amount": 1, "of": "shop" });
    assert_eq!(routed.bodies(1).await, std::slice::from_ref(&stripped));
    let sent = routed.deliveries(&gateway, "succeeded", 1).await;
    routed.delete_route(&gateway).await;

    retry(&gateway, &sent[0]).await;
    assert_eq!(routed.bodies(2).await[1], stripped);
    routed.deliveries(&gateway, "succeeded", 1).await;
    let of = json!({ "destination": "shop", "state": "succeeded" });
    let replay = replayed(&gateway, json!({ "filter": of })).await;
    assert_eq!(replay["created"], 1, "{replay}");
    assert_eq!(routed.bodies(3).await[2], stripped);

    routed.deliveries(&gateway, "succeeded", 2).await;
    let other = Receiver::start().await.expect("starts");
    gateway.api.create_destination("other", &other.url(), json!({})).await;
    replayed(&gateway, json!({ "filter": of, "destination": "other" })).await;
    assert_eq!(bodies(&other, 1).await, std::slice::from_ref(&stripped));
    // The same applies if the destination of the route is deleted, too.
    gateway.api.delete("/v1/destinations/shop").await.expect_status(204);
    let of = json!({ "source": "shop", "state": "succeeded", "before": "2100-01-01T00:00:00Z" });
    other.forget();
    let replay = replayed(&gateway, json!({ "filter": of, "destination": "other" })).await;
    let made = usize::try_from(replay["created"].as_u64().expect("a number")).expect("small");
    assert!(made >= 1, "{replay}");
    assert!(bodies(&other, made).await.iter().all(|body| *body == stripped));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_whose_transform_is_unknown_is_held_and_not_sent_untransformed() {
    let gateway = Gateway::relay_only().await;
    let routed = Routed::new(&gateway, "shop", json!({ "transform": STRIPS })).await;
    routed.store(&gateway, &[1]).await;
    // Deleted without the API, so the version of the route is not kept.
    assert_eq!(gateway.database.run("delete from routes").await, 1);
    gateway.database.run("update configuration set revision = revision + 1, identity = gen_random_uuid()").await;
    routed.resume(&gateway).await;
    let by_route = async || {
        let health = gateway.api.get("/v1/destinations/shop/health").await.expect_status(200);
        if health["held"][0]["held_by"] == "route" { Ok(()) } else { Err(health.to_string()) }
    };
    until("the delivery to be held", SOON, by_route).await;
    let held = routed.deliveries(&gateway, "held", 1).await;
    let reason = held[0]["held_reason"].as_str().expect("a reason");
    assert!(held[0]["held_by"] == "route" && reason.contains("transform"), "{held:?}");

    // A release only holds it again. A replay routes its event by the present routes.
    assert_eq!(post(&gateway, "/v1/deliveries/release", json!({ "held_by": "route" })).await["released"], 1);
    until("the delivery to be held again", SOON, by_route).await;
    let id = held[0]["id"].as_str().expect("an id");
    post(&gateway, &format!("/v1/deliveries/{id}/cancel"), json!({})).await;
    gateway.api.create_route(&routed.source.id, &routed.destination.id, json!({ "transform": STRIPS })).await;
    replayed(&gateway, json!({ "filter": { "source": "shop" } })).await;
    assert_eq!(routed.bodies(1).await, [json!({ "amount": 1, "of": "shop" })]);
    assert_eq!(routed.receiver.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fixing_a_failing_transform_applies_to_held_and_to_pending_deliveries() {
    let gateway = Gateway::relay_only().await;
    let routed = Routed::new(&gateway, "shop", json!({ "transform": "body.missing" })).await;
    gateway.push(&routed.source, json!({ "amount": 1 }).to_string().as_bytes());
    let held = routed.deliveries(&gateway, "held", 1).await;
    assert_eq!(held[0]["held_by"], "transform", "{held:?}");
    routed.store(&gateway, &[2]).await;
    routed.change(&gateway, json!({ "transform": STRIPS })).await;
    routed.resume(&gateway).await;
    let stripped = [json!({ "amount": 1, "of": "shop" }), json!({ "amount": 2, "of": "shop" })];
    assert_eq!(routed.bodies(2).await, stripped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_held_by_its_transform_is_not_sent_without_a_transform_unless_it_is_retried_manually() {
    let gateway = Gateway::relay_only().await;
    let routed = Routed::new(&gateway, "shop", json!({ "transform": "body.missing" })).await;
    gateway.push(&routed.source, json!({ "amount": 1, "card": CARD }).to_string().as_bytes());
    let held = routed.deliveries(&gateway, "held", 1).await;
    routed.change(&gateway, json!({ "transform": null })).await;
    let mut connection = gateway.database.connect().await.expect("connects");
    let held_since = "select count(*) from pending_deliveries join routes on routes.id = route_id
                        where held_by = 'transform' and held_at > routes.updated_at";
    let what = "the held delivery to be tried again after the change";
    wait_for_count(&mut connection, what, held_since, SOON, |held| {
        assert_eq!(routed.receiver.count(), 0, "the destination got the raw body");
        held == 1
    })
    .await;
    assert_eq!(routed.deliveries(&gateway, "held", 1).await[0]["held_by"], "transform");
    retry(&gateway, &held[0]).await;
    assert_eq!(routed.bodies(1).await, [json!({ "amount": 1, "card": CARD })], "the present route has no transform");
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_of_a_deleted_route_keep_its_poison_setting() {
    let gateway = Gateway::relay_only().await;
    for (poison, arrive) in [("skip", 2), ("block", 1)] {
        let settings = json!({ "retry": { "schedule_s": [0, 3600] } });
        let route = json!({ "order_key": "body.card", "poison": poison, "transform": STRIPS });
        let routed = Routed::to(&gateway, poison, settings, route).await;
        routed.store(&gateway, &[1, 2]).await;
        routed.receiver.next([Behaviour::Status(500)]);
        routed.delete_route(&gateway).await;
        routed.resume(&gateway).await;
        let sent = routed.bodies(arrive).await;
        assert!(sent.iter().all(|body| body["of"] == poison), "{sent:?}");
        routed.deliveries(&gateway, "succeeded", arrive - 1).await;
        let path = format!("/v1/deliveries?destination={}&state=pending", routed.destination.id);
        until("the first delivery of its key to have one attempt", SOON, async || {
            let pending = gateway.api.all(&path).await;
            let first = pending.last().filter(|first| first["attempts"] == 1);
            if first.is_some() && pending.len() == 3 - arrive { Ok(()) } else { Err(format!("{pending:?}")) }
        })
        .await;
        assert_eq!(routed.receiver.count(), arrive, "later deliveries are sent with skip, and wait with block");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_holds_and_counts_deliveries_whose_filter_cannot_be_evaluated() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let routed = Routed::new(&gateway, "shop", json!({})).await;
    for amount in 0..5 {
        gateway.push(&routed.source, json!({ "amount": amount }).to_string().as_bytes());
    }
    routed.deliveries(&gateway, "succeeded", 5).await;
    change_configuration(&gateway, "update routes set filter = 'future(body)'").await;
    let replay = replayed(&gateway, json!({ "filter": { "source": "shop" } })).await;
    assert_eq!((&replay["created"], &replay["held"]), (&json!(5), &json!(5)), "{replay}");
    let listed = gateway.api.all("/v1/replays").await;
    assert_eq!((&listed[0]["pending"], &listed[0]["held"]), (&json!(5), &json!(5)), "{listed:?}");
    let held = routed.deliveries(&gateway, "held", 5).await;
    assert!(held.iter().all(|held| held["held_by"] == "filter"), "{held:?}");

    // A manual retry does not send it either.
    let answer = retry(&gateway, &held[0]).await;
    assert_eq!((&answer["state"], &answer["held_by"]), (&json!("held"), &json!("filter")), "{answer}");
    routed.change(&gateway, json!({ "filter": "body.amount == 4" })).await;
    routed.deliveries(&gateway, "cancelled", 4).await;
    routed.deliveries(&gateway, "succeeded", 6).await;
    assert_eq!(routed.receiver.count(), 6, "only the event that the filter approves is sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecided_delivery_is_decided_before_it_is_retried_or_replayed() {
    let gateway = Gateway::relay_only().await;
    let routed = Routed::new(&gateway, "shop", json!({ "filter": "body.amount > 1 || body.amount < 0" })).await;
    routed.store(&gateway, &[2, 3]).await;
    // The state that a relay leaves if it cannot evaluate the filter. The filter is false for one of the events.
    let undecided = "update pending_deliveries set due_at = 'infinity', held_reason = 'the body is too large',
                            held_by = 'filter', held_at = now(), undecided = true";
    assert_eq!(gateway.database.run(undecided).await, 2);
    gateway.database.run("update routes set updated_at = now() - interval '1 hour'").await;
    let held = routed.deliveries(&gateway, "held", 2).await;
    let event: EventId = held[1]["event_id"].as_str().expect("an id").parse().expect("an id");
    let unwanted = format!("update event_bodies set body = '{{\"amount\":1}}' where event_id = '{}'", event.uuid());
    assert_eq!(gateway.database.run(&unwanted).await, 1);
    routed.resume(&gateway).await;

    let refused = retry(&gateway, &held[1]).await;
    assert_eq!(refused["state"], "cancelled", "{refused}");
    assert_eq!(refused["reason"], "the filter is false for this event", "{refused}");
    let approved = retry(&gateway, &held[0]).await;
    assert!(["pending", "succeeded"].contains(&approved["state"].as_str().expect("a state")), "{approved}");
    routed.deliveries(&gateway, "succeeded", 1).await;

    // It is still not approved when it is retried or replayed later.
    let refused = retry(&gateway, &held[1]).await;
    assert_eq!(refused["state"], "cancelled", "{refused}");
    let replay = replayed(&gateway, json!({ "filter": { "destination": "shop", "state": "cancelled" } })).await;
    assert_eq!(replay["created"], 1, "{replay}");
    routed.deliveries(&gateway, "cancelled", 2).await;
    assert_eq!(routed.bodies(1).await, [json!({ "amount": 2, "card": CARD })]);
    assert_eq!(routed.receiver.count(), 1);

    // Another filter approves it.
    routed.change(&gateway, json!({ "filter": "body.amount == 1" })).await;
    let approved = retry(&gateway, &held[1]).await;
    assert!(["pending", "succeeded"].contains(&approved["state"].as_str().expect("a state")), "{approved}");
    routed.bodies(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_of_a_newer_route_version_than_the_relay_has_read_is_sent_by_the_newer_version() {
    let gateway = Gateway::relay_only().await;
    let newer = "{'amount': body.amount, 'by': 'newer'}";
    for (name, transform) in [("works", newer), ("fails", "body.missing")] {
        let settings = json!({ "retry": { "schedule_s": [0, 3600] } });
        let routed = Routed::to(&gateway, name, settings, json!({ "transform": STRIPS })).await;
        routed.receiver.next([Behaviour::Status(500)]);
        gateway.push(&routed.source, json!({ "amount": 1, "card": CARD }).to_string().as_bytes());
        until("the first attempt to have failed", SOON, async || {
            let pending = gateway.api.all("/v1/deliveries?state=pending").await;
            if pending.iter().any(|pending| pending["attempts"] == 1) { Ok(()) } else { Err(format!("{pending:?}")) }
        })
        .await;
        // Another relay changes the route, routes by it and commits before this one reads the configuration.
        let id = routed.route.parse::<RouteId>().expect("an id").uuid();
        let mut database = gateway.database.connect().await.expect("connects");
        for statement in [
            "begin".to_owned(),
            format!("update routes set transform = '{}', version = 2 where id = '{id}'", transform.replace('\'', "''")),
            format!("update pending_deliveries set route_version = 2, due_at = now() where route_id = '{id}'"),
            "commit".to_owned(),
        ] {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut database).await.expect("is changed");
        }
        if name == "works" {
            assert_eq!(routed.bodies(2).await[1], json!({ "amount": 1, "by": "newer" }));
        } else {
            let held = routed.deliveries(&gateway, "held", 1).await;
            assert_eq!(held[0]["held_by"], "transform", "{held:?}");
            assert_eq!(routed.receiver.count(), 1, "it is not sent by the older version");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecided_delivery_of_a_deleted_route_is_sent_only_if_a_new_route_approves_its_event() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let routed = Routed::new(&gateway, "shop", json!({})).await;
    change_configuration(&gateway, "update routes set filter = 'future(body)'").await;
    for amount in [1, 2] {
        gateway.push(&routed.source, json!({ "amount": amount, "card": CARD }).to_string().as_bytes());
    }
    let held = routed.deliveries(&gateway, "held", 2).await;
    routed.delete_route(&gateway).await;
    for held in &held {
        let answer = retry(&gateway, held).await;
        let reason = answer["reason"].as_str().expect("a reason");
        assert!(answer["state"] == "cancelled" && reason.contains("the route was deleted"), "{answer}");
    }
    let route = json!({ "filter": "body.amount == 2", "transform": STRIPS });
    gateway.api.create_route(&routed.source.id, &routed.destination.id, route).await;
    let replay = replayed(&gateway, json!({ "filter": { "source": "shop", "state": "cancelled" } })).await;
    assert_eq!(replay["created"], 2, "{replay}");
    routed.deliveries(&gateway, "cancelled", 3).await;
    routed.deliveries(&gateway, "succeeded", 1).await;
    assert_eq!(routed.bodies(1).await, [json!({ "amount": 2, "of": "shop" })]);
}

#[tokio::test(flavor = "multi_thread")]
async fn transforms_that_no_delivery_can_need_any_more_are_deleted() {
    let mut gateway = Gateway::relay_only().await;
    let routed = Routed::new(&gateway, "shop", json!({ "transform": STRIPS })).await;
    for number in 0..3 {
        routed.change(&gateway, json!({ "transform": number.to_string() })).await;
    }
    routed.change(&gateway, json!({ "transform": "2", "enabled": false })).await;
    let mut database = gateway.database.connect().await.expect("connects");
    let mut kept = async || -> Vec<i32> {
        let versions = "select version from route_versions order by version";
        sqlx::query_scalar(versions).fetch_all(&mut database).await.expect("reads")
    };
    assert_eq!(kept().await, [1, 2, 3], "each change of the transform makes one version, and no other change does");
    gateway.database.run("update route_versions set kept_at = now() - interval '94 days' where version < 3").await;
    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again().await.expect("starts again");
    until("the old versions to be deleted", SOON, async || match kept().await {
        left if left == [3] => Ok(()),
        left => Err(format!("{left:?}")),
    })
    .await;
}
