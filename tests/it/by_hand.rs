//! deliver: cancellations and manual retries, whichever replica owns the destination.

use std::time::Duration;

use harness::api::{Api, Destination, id};
use harness::gateway::{Gateway, Line, RelayOnly, drained};
use harness::postgres::wait_for_count;
use harness::receiver::{Behaviour, Receiver};
use harness::relay::Relay;
use harness::wait::{SOON, until};
use serde_json::{Value, json};

/// Long enough for several scans of a replica.
const SEVERAL_SCANS: Duration = Duration::from_secs(10);

/// Two relays, and a destination that the second one owns. Calls of [`RelayOnly::api`] go to the first.
struct Two {
    gateway: RelayOnly,
    _second: Relay,
    line: Line,
    destination: Destination,
    receiver: Receiver,
}

impl Two {
    /// Starts with a destination that has these limits, and no route to it yet.
    async fn start(limits: Value) -> Self {
        let gateway = Gateway::relay_only().await;
        let line = gateway.line("source").await;
        let first = gateway.shared_by(1, SOON).await.remove(0);
        let second = gateway.another_relay().await;
        gateway.shared_by(2, SOON).await;
        let receiver = Receiver::start().await.expect("starts");
        let mut number = 0;
        let destination = loop {
            let name = format!("destination-{number}");
            let made = gateway.api.create_destination(&name, &receiver.url(), limits.clone()).await;
            if gateway.owner_of(&name).await != first {
                break made;
            }
            number += 1;
        };
        Self { gateway, _second: second, line, destination, receiver }
    }

    fn api(&self) -> &Api {
        &self.gateway.api
    }

    async fn route(&self) {
        self.api().create_route(&self.line.source.id, &self.destination.id, json!({})).await;
    }

    async fn deliveries(&self) -> Vec<Value> {
        self.api().all(&format!("/v1/deliveries?destination={}", self.destination.id)).await
    }

    /// The deliveries of the destination, once there are `count` of them.
    async fn stored(&self, count: usize) -> Vec<Value> {
        until("the deliveries to be stored", SOON, async || match self.deliveries().await {
            deliveries if deliveries.len() >= count => Ok(deliveries),
            deliveries => Err(format!("{} of {count} are stored", deliveries.len())),
        })
        .await
    }

    /// Waits until no delivery is pending, in the table and in the memory of the owner.
    async fn nothing_waits(&self) {
        let path = format!("/v1/destinations/{}/health", self.destination.id);
        until("no delivery to wait any more", SOON, async || {
            let health = self.api().get(&path).await.expect_status(200);
            let memory = &health["in_memory"];
            let waits = ["fresh", "retry", "replay"].iter().any(|lane| memory[lane] != 0);
            if waits || health["pending"]["count"] != 0 { Err(health.to_string()) } else { Ok(()) }
        })
        .await;
    }
}

async fn post(api: &Api, delivery: &str, what: &str) -> Value {
    api.post(&format!("/v1/deliveries/{delivery}/{what}"), &json!({})).await.expect_status(200)
}

async fn delivery_when(api: &Api, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    api.wait_until(what, &format!("/v1/deliveries/{id}"), SOON, holds).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_cancelled_through_one_replica_is_not_sent_by_the_replica_that_has_it_in_memory() {
    let two = Two::start(json!({ "max_concurrency": 1, "timeout_ms": 30_000 })).await;
    // While this attempt is in flight, all other deliveries wait in memory.
    two.receiver.next([Behaviour::Delay(SEVERAL_SCANS)]);
    for _ in 0..30 {
        two.gateway.push(&two.line.source, b"{}");
    }
    two.line.receiver.wait_for(30, SOON).await;
    drained(&two.gateway.queue, SOON).await;
    let replay = json!({ "filter": { "source": "source" }, "destination": two.destination.id });
    let replay = two.api().post("/v1/replays", &replay).await.expect_status(201);
    let path = format!("/v1/replays/{}", id(&replay));
    two.stored(30).await;
    two.receiver.wait_for(1, SOON).await;
    two.route().await;
    for _ in 0..3 {
        two.gateway.push(&two.line.source, b"{}");
    }
    let fresh: Vec<Value> =
        two.stored(33).await.into_iter().filter(|delivery| delivery["replay_id"].is_null()).collect();
    two.api().post(&format!("{path}/cancel"), &json!({})).await.expect_status(200);
    for delivery in &fresh[1..] {
        assert_eq!(post(two.api(), id(delivery), "cancel").await["state"], "cancelled");
    }
    let kept = fresh[0]["event_id"].as_str().expect("an id");
    two.receiver.wait_for_events([kept], SOON).await;
    two.nothing_waits().await;
    assert_eq!(two.receiver.count(), 2, "only the attempt in flight and the delivery that was not cancelled are sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manual_retry_is_sent_by_the_owner_during_a_back_off_which_only_a_success_ends() {
    let two = Two::start(json!({})).await;
    two.route().await;
    two.receiver.next([Behaviour::RetryAfter(503, "3600".to_owned()), Behaviour::Status(500)]);
    two.gateway.push(&two.line.source, b"{}");
    let delivery = two.stored(1).await.remove(0);
    let id = id(&delivery);
    let waits_for = |what: &'static str| move |delivery: &Value| delivery["waits_for"] == what;
    let held = delivery_when(two.api(), id, "the delivery to wait for the back-off", waits_for("back_off")).await;
    assert!(held["waits_until"].is_string() && held["next_attempt_at"].is_string(), "{held}");
    two.gateway.push(&two.line.source, b"{}");
    let deliveries = two.stored(2).await;
    let other = deliveries.iter().find(|other| other["id"] != delivery["id"]).expect("the other one");
    assert_eq!((&other["waits_for"], other["waits_until"].is_string()), (&json!("back_off"), true), "{other}");

    let retried = post(two.api(), id, "retry").await;
    assert_ne!(retried["waits_for"], "back_off", "it is sent now: {retried}");
    two.receiver.wait_for(2, SOON).await;
    let failed = |delivery: &Value| delivery["attempts"] == 2;
    let failed = delivery_when(two.api(), id, "its second attempt to have failed", failed).await;
    assert_eq!((&failed["state"], &failed["waits_for"]), (&json!("pending"), &json!("back_off")), "{failed}");

    post(two.api(), id, "retry").await;
    let requests = two.receiver.wait_for(4, SOON).await;
    let ids: Vec<&str> = requests.iter().map(|request| request.header("webhook-id")).collect();
    assert_eq!(ids[..3], [ids[0]; 3], "nothing else is sent during the back-off");
    let events = [&delivery, other].map(|delivery| delivery["event_id"].as_str().expect("an id"));
    assert_eq!((ids[0], ids[3]), (events[0], events[1]), "the other delivery follows the success");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manual_retry_to_a_paused_destination_shows_what_it_waits_for_and_is_sent_on_resume() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("paused").await;
    line.receiver.next([Behaviour::Status(500)]);
    gateway.push(&line.source, b"{}");
    let delivery = until("the first attempt", SOON, async || {
        let deliveries = gateway.api.all("/v1/deliveries").await;
        deliveries.iter().find(|delivery| delivery["attempts"] == 1).cloned().ok_or_else(|| format!("{deliveries:?}"))
    })
    .await;
    assert_eq!(delivery["waits_for"], "schedule", "{delivery}");
    let destination = format!("/v1/destinations/{}", line.destination.id);
    gateway.api.post(&format!("{destination}/pause"), &json!({})).await.expect_status(200);
    let retried = post(&gateway.api, id(&delivery), "retry").await;
    let shown = ["state", "waits_for", "held_reason", "next_attempt_at"].map(|field| retried[field].clone());
    assert_eq!(shown, [json!("held"), json!("destination"), json!("the destination is paused"), Value::Null]);
    assert_eq!(line.receiver.count(), 1);
    gateway.api.post(&format!("{destination}/resume"), &json!({})).await.expect_status(200);
    line.receiver.wait_for(2, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_cancelled_and_retried_at_once_is_not_ended_by_the_attempt_before_the_cancellation() {
    let two = Two::start(json!({ "timeout_ms": 30_000 })).await;
    two.route().await;
    two.receiver.next([Behaviour::Delay(SEVERAL_SCANS), Behaviour::Status(500)]);
    two.gateway.push(&two.line.source, b"{}");
    let delivery = two.stored(1).await.remove(0);
    let id = id(&delivery);
    two.receiver.wait_for(1, SOON).await;
    for what in ["cancel", "cancel", "retry", "retry"] {
        let state = post(two.api(), id, what).await["state"].clone();
        assert_eq!(state, if what == "cancel" { "cancelled" } else { "pending" });
    }
    // In the meantime the first attempt succeeds.
    two.receiver.wait_for(2, SOON).await;
    let failed = |delivery: &Value| delivery["attempts"] == 1;
    let failed = delivery_when(two.api(), id, "the second attempt to be settled", failed).await;
    assert_eq!(failed["state"], "pending", "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_manual_retries_of_a_delivery_all_get_the_same_response() {
    let gateway = Gateway::relay_only().await;
    let receiver = Receiver::start().await.expect("starts");
    receiver.next([Behaviour::Status(410)]);
    let line = gateway.line("other").await;
    let source = gateway.api.create_source("clicked", &line.provider).await;
    let destination = gateway.api.create_destination("clicked", &receiver.url(), json!({})).await;
    gateway.api.create_route(&source.id, &destination.id, json!({})).await;
    gateway.push(&source, b"{}");
    let dead = gateway.api.wait_for_row("/v1/deliveries?state=dead", SOON).await;
    // A disabled destination keeps the retried delivery from being sent.
    let path = format!("/v1/destinations/{}", destination.id);
    gateway
        .api
        .wait_until("the destination to be disabled", &path, SOON, |destination| destination["state"] == "disabled")
        .await;
    let mut holder = gateway.database.connect().await.expect("connects");
    let mut watcher = gateway.database.connect().await.expect("connects");
    sqlx::raw_sql("begin; select from settled_deliveries for update").execute(&mut holder).await.expect("locks");
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let (api, path) = (gateway.api.clone(), format!("/v1/deliveries/{}/retry", id(&dead)));
            tokio::spawn(async move { api.post(&path, &json!({})).await })
        })
        .collect();
    wait_for_count(
        &mut watcher,
        "all calls to wait for the delivery",
        "select count(*) from pg_stat_activity
             where datname = current_database() and application_name = 'tidegate-relay' and wait_event_type = 'Lock'",
        SOON,
        |waiting| waiting == 3,
    )
    .await;
    sqlx::raw_sql("rollback").execute(&mut holder).await.expect("unlocks");
    let mut responses = Vec::new();
    for call in calls {
        responses.push(call.await.expect("answers").expect_status(200));
    }
    for response in &responses {
        assert_eq!((&response["state"], &response["waits_for"]), (&json!("held"), &json!("destination")), "{response}");
        assert_eq!(response, &responses[0]);
    }
    let cancels = [post(&gateway.api, id(&dead), "cancel").await, post(&gateway.api, id(&dead), "cancel").await];
    assert_eq!((&cancels[0]["state"], &cancels[0]), (&json!("cancelled"), &cancels[1]));
    let unknown = "/v1/deliveries/dlv_01a22601d4ce73d49718e1d0d4c1ec99";
    for what in ["retry", "cancel"] {
        gateway.api.post(&format!("{unknown}/{what}"), &json!({})).await.expect_status(404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_of_cancelled_deliveries_are_deleted_after_an_hour() {
    let mut gateway = Gateway::relay_only().await;
    let mut database = gateway.database.connect().await.expect("connects");
    let insert = "insert into delivery_signals (written_at, replay_id)
                  select now() - age * interval '1 minute', gen_random_uuid() from generate_series(1, 120) age";
    sqlx::raw_sql(insert).execute(&mut database).await.expect("inserts");
    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again().await.expect("starts");
    until("old signals to be deleted", SOON, async || {
        let oldest: (i64, bool) = sqlx::query_as(
            "select count(*), bool_or(written_at < now() - interval '61 minutes') from delivery_signals",
        )
        .fetch_one(&mut database)
        .await
        .map_err(|error| error.to_string())?;
        match oldest {
            (58..=60, false) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
