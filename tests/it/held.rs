//! held: held deliveries are counted, reported by one event, and released together.

use harness::api::{Destination, id};
use harness::gateway::{Gateway, Line, RelayOnly, drained};
use harness::receiver::Receiver;
use harness::relay::{RelaySettings, run};
use harness::wait::{SOON, until};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

/// The columns that a relay sets when it holds a delivery because its transform fails.
const HELD: &str = "due_at = 'infinity', held_reason = 'the transform fails', held_by = 'transform', held_at = now()";

/// The columns that a relay sets if it could not evaluate the filter and only an operator can change that.
const UNDECIDED: &str =
    "due_at = 'infinity', held_reason = 'the body is too large', held_by = 'filter', held_at = now(), undecided = true";

/// Makes all routes old: deliveries that are held soon after their route was changed are released automatically.
async fn age_routes(gateway: &RelayOnly) {
    gateway.database.run("update routes set updated_at = now() - interval '1 hour'").await;
}

/// The alerts of one type that have arrived.
fn alerts_of(receiver: &Receiver, kind: &str) -> Vec<Value> {
    let all = receiver.requests().into_iter();
    let all = all.map(|received| serde_json::from_slice::<Value>(&received.body).expect("JSON"));
    all.filter(|alert| alert["type"] == kind).collect()
}

async fn post(gateway: &RelayOnly, path: &str, body: Value) -> Value {
    gateway.api.post(path, &body).await.expect_status(200)
}

/// Stores events for a paused destination, and holds their deliveries.
async fn hold(gateway: &RelayOnly, line: &Line, bodies: &[Value], how: &str) {
    age_routes(gateway).await;
    gateway.api.pause(&line.destination.id).await;
    for body in bodies {
        gateway.push(&line.source, body.to_string().as_bytes());
    }
    drained(&gateway.queue, SOON).await;
    let statement = format!("update pending_deliveries set {how} where due_at < 'infinity'");
    let mut database = gateway.database.connect().await.expect("connects");
    let held = sqlx::query(AssertSqlSafe(statement)).execute(&mut database).await.expect("holds").rows_affected();
    assert_eq!(usize::try_from(held).expect("a number"), bodies.len());
    gateway.api.resume(&line.destination.id).await;
}

async fn health(gateway: &RelayOnly, destination: &Destination) -> Value {
    gateway.api.get(&format!("/v1/destinations/{}/health", destination.id)).await.expect_status(200)
}

async fn held(gateway: &RelayOnly, destination: &Destination, count: usize) -> Vec<Value> {
    let path = format!("/v1/deliveries?destination={}&state=held", destination.id);
    gateway.api.wait_for_rows(&path, count, SOON).await
}

#[tokio::test(flavor = "multi_thread")]
async fn held_deliveries_are_counted_and_reported_by_one_event() {
    let gateway = Gateway::relay_only().await;
    let alerts = gateway.alerts().await;
    let line = gateway.line("line").await;
    let broken = Receiver::start().await.expect("starts");
    let destination = gateway.api.create_destination("broken", &broken.url(), json!({})).await;
    let transform = json!({ "transform": "{'name': body.customer.name}" });
    gateway.api.create_route(&line.source.id, &destination.id, transform).await;
    age_routes(&gateway).await;
    for _ in 0..30 {
        gateway.push(&line.source, br#"{"nobody":1}"#);
    }
    for held in held(&gateway, &destination, 30).await {
        assert_eq!(held["held_by"], "transform", "{held}");
    }
    let shown = health(&gateway, &destination).await;
    let [counted] = shown["held"].as_array().expect("a list").as_slice() else { panic!("{shown}") };
    assert_eq!((&counted["held_by"], &counted["count"]), (&json!("transform"), &json!(30)), "{shown}");
    assert_eq!(health(&gateway, &line.destination).await["held"], json!([]));

    let alert = until("the event of the held deliveries", SOON, async || {
        alerts_of(&alerts, "deliveries.held").first().cloned().ok_or_else(|| "none".to_owned())
    })
    .await;
    let data = &alert["data"];
    assert_eq!((&data["name"], &data["held_by"]), (&json!("broken"), &json!("transform")), "{alert}");
    assert!(data["reason"].as_str().is_some_and(|reason| reason.contains("customer")), "{alert}");
    // More held deliveries with the same cause, and another relay, create no second event.
    gateway.push(&line.source, br#"{"nobody":2}"#);
    held(&gateway, &destination, 31).await;
    let _another = gateway.another_relay().await;
    let other = gateway.line("other").await;
    hold(&gateway, &other, &[json!({})], HELD).await;
    until("an event of the other destination", SOON, async || match alerts_of(&alerts, "deliveries.held").len() {
        2 => Ok(()),
        count => Err(format!("{count}")),
    })
    .await;
    let events = gateway.api.all("/v1/events?source=tidegate&type=deliveries.held").await;
    assert_eq!(events.len(), 2, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_held_deliveries_of_a_destination_are_released_and_those_held_again_since_are_not() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let bodies: Vec<Value> = (0..30).map(|number| json!({ "number": number })).collect();
    hold(&gateway, &line, &bodies, HELD).await;
    let none = json!({ "destination": "line", "held_by": "url" });
    assert_eq!(post(&gateway, "/v1/deliveries/release", none).await["released"], 0);
    let answer = post(&gateway, "/v1/deliveries/release", json!({ "destination": "line" })).await;
    assert_eq!((&answer["released"], &answer["remaining"]), (&json!(30), &json!(false)), "{answer}");
    line.receiver.wait_for(30, SOON).await;
    assert_eq!(line.receiver.count(), 30);

    let broken = Receiver::start().await.expect("starts");
    let destination = gateway.api.create_destination("broken", &broken.url(), json!({})).await;
    let transform = json!({ "transform": "{'name': body.customer.name}" });
    let route = gateway.api.create_route(&line.source.id, &destination.id, transform).await;
    age_routes(&gateway).await;
    gateway.push(&line.source, br#"{"nobody":1}"#);
    held(&gateway, &destination, 1).await;
    let answer = post(&gateway, "/v1/deliveries/release", json!({ "route": route })).await;
    assert_eq!(answer["released"], 1, "{answer}");
    held(&gateway, &destination, 1).await;
    let again = json!({ "route": route, "before": answer["before"] });
    let answer = post(&gateway, "/v1/deliveries/release", again).await;
    assert_eq!((&answer["released"], &answer["remaining"]), (&json!(0), &json!(false)), "{answer}");
    for wrong in [json!({}), json!({ "route": route, "source": "line" })] {
        gateway.api.post("/v1/deliveries/release", &wrong).await.expect_status(422);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecided_delivery_is_decided_before_it_is_released() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let routes = gateway.api.all("/v1/routes").await;
    let path = format!("/v1/routes/{}", routes[0]["id"].as_str().expect("an id"));
    let filter = json!({ "filter": "body.wanted" });
    gateway.api.try_call(reqwest::Method::PATCH, &path, Some(&filter)).await.expect("answers").expect_status(200);
    // The state that a relay leaves if it could not evaluate the filter. The route was changed long before.
    gateway.api.pause(&line.destination.id).await;
    for _ in 0..2 {
        gateway.push(&line.source, br#"{"wanted":true}"#);
    }
    drained(&gateway.queue, SOON).await;
    age_routes(&gateway).await;
    let mut database = gateway.database.connect().await.expect("connects");
    for statement in [
        format!("update pending_deliveries set {UNDECIDED}"),
        "update event_bodies set body = '{\"wanted\":false}' where event_id = (select min(event_id::text)::uuid from event_bodies)"
            .to_owned(),
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut database).await.expect("is changed");
    }
    gateway.api.resume(&line.destination.id).await;
    let answer = post(&gateway, "/v1/deliveries/release", json!({ "held_by": "filter" })).await;
    assert_eq!((&answer["released"], &answer["deciding"]), (&json!(0), &json!(2)), "{answer}");
    line.receiver.wait_for(1, SOON).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=cancelled", 1, SOON).await;
    held(&gateway, &line.destination, 0).await;
    assert_eq!(line.receiver.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_releases_twenty_thousand_deliveries_and_reports_that_more_remain() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    gateway.push(&line.source, b"{}");
    line.receiver.wait_for(1, SOON).await;
    let destination = gateway.crowd(&line.source, 1, &line.receiver.url()).await[0].to_string();
    post(&gateway, &format!("/v1/destinations/{destination}/pause"), json!({})).await;
    age_routes(&gateway).await;
    gateway.backlog(&line.source, 20_500).await;
    let mut database = gateway.database.connect().await.expect("connects");
    let statement = format!("update pending_deliveries set {HELD}");
    sqlx::query(AssertSqlSafe(statement)).execute(&mut database).await.expect("holds");
    let shown = gateway.api.get(&format!("/v1/destinations/{destination}/health")).await.expect_status(200);
    assert_eq!((&shown["held"][0]["count"], &shown["held"][0]["and_more"]), (&json!(10_000), &json!(true)), "{shown}");

    let first = post(&gateway, "/v1/deliveries/release", json!({ "source": "line" })).await;
    assert_eq!((&first["released"], &first["remaining"]), (&json!(20_000), &json!(true)), "{first}");
    let second = json!({ "source": "line", "before": first["before"] });
    let second = post(&gateway, "/v1/deliveries/release", second).await;
    assert_eq!((&second["released"], &second["remaining"]), (&json!(500), &json!(false)), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_whose_signing_secret_cannot_be_opened_is_reported_and_served_once_it_can() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let line = gateway.line("closed").await;
    let other = gateway.line("rotated").await;
    let key = gateway.relay.settings().value("TIDEGATE_MASTER_KEY").to_owned();
    gateway.relay.stop().await.expect("stops");
    let new = harness::random::key();
    let change = |settings: RelaySettings| settings.with("TIDEGATE_MASTER_KEY", &new);
    gateway.relay.start_again_with(change).await.expect("starts again");
    let alerts = gateway.alerts().await;
    gateway.push(&line.source, b"{}");
    gateway.push(&other.source, b"{}");
    for delivery in held(&gateway, &line.destination, 1).await {
        let reason = delivery["held_reason"].as_str().expect("a reason");
        assert!(reason.contains("cannot send") && reason.contains("signing_secrets"), "{delivery}");
        let path = format!("/v1/deliveries/{}", id(&delivery));
        assert_eq!(gateway.api.get(&path).await.expect_status(200)["state"], "held");
    }
    for shown in
        [gateway.api.get("/v1/destinations/closed").await.expect_status(200), health(&gateway, &line.destination).await]
    {
        assert!(shown["unusable"].as_str().is_some_and(|reason| reason.contains("signing_secrets")), "{shown}");
    }
    let ready = gateway.api.get("/readyz").await.expect_status(200);
    assert_eq!((&ready["ok"], &ready["unusable_destinations"]), (&json!(true), &json!(2)), "{ready}");
    assert!(doctor_reports(gateway.relay.settings(), "destination closed: ").await);

    // With a new secret, its delivery is sent. The event about the other destination is created after the next start.
    let conflict = gateway.api.get("/v1/destinations/rotated/signing-secret").await.expect_status(409);
    assert_eq!(conflict["code"], "secret_closed", "{conflict}");
    post(&gateway, "/v1/destinations/rotated/signing-secret/rotate", json!({})).await;
    other.receiver.wait_for(1, SOON).await;
    assert_eq!(gateway.api.get("/readyz").await.expect_status(200)["unusable_destinations"], 1);
    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again().await.expect("starts again");
    let alert = until("the event of the unusable destination", SOON, async || {
        alerts_of(&alerts, "destination.unusable").first().cloned().ok_or_else(|| "none".to_owned())
    })
    .await;
    assert_eq!(alert["data"]["name"], "closed", "{alert}");

    gateway.relay.stop().await.expect("stops");
    let both = format!("{new},{key}");
    let change = |settings: RelaySettings| settings.with("TIDEGATE_MASTER_KEY", &both);
    gateway.relay.start_again_with(change).await.expect("starts again");
    line.receiver.wait_for(1, SOON).await;
    assert_eq!(gateway.api.get("/readyz").await.expect_status(200)["unusable_destinations"], 0);
    held(&gateway, &line.destination, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_and_a_destination_that_the_relay_cannot_use_are_reported() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let line = gateway.line("route").await;
    let other = gateway.line("destination").await;
    // A relay of another version may have saved them like this.
    let mut database = gateway.database.connect().await.expect("connects");
    for statement in [
        format!("update routes set filter = 'future(body)' where destination_id = {}", id_of("route")),
        format!("update destinations set retry = '{{\"future\":true}}' where id = {}", id_of("destination")),
        "update configuration set revision = revision + 1, identity = gen_random_uuid()".to_owned(),
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut database).await.expect("is changed");
    }
    gateway.push(&line.source, b"{}");
    gateway.push(&other.source, b"{}");
    let by_filter = held(&gateway, &line.destination, 1).await;
    assert_eq!(by_filter[0]["held_by"], "filter", "{by_filter:?}");
    let by_destination = held(&gateway, &other.destination, 1).await;
    assert!(
        by_destination[0]["held_reason"].as_str().is_some_and(|reason| reason.contains("future")),
        "{by_destination:?}"
    );
    let routes = gateway.api.all("/v1/routes").await;
    let unusable: Vec<&str> = routes.iter().filter_map(|route| route["unusable"].as_str()).collect();
    assert!(matches!(unusable.as_slice(), [one] if one.contains("filter")), "{routes:?}");
    let ready = gateway.api.get("/readyz").await.expect_status(200);
    assert_eq!((&ready["unusable_destinations"], &ready["unusable_routes"]), (&json!(1), &json!(1)), "{ready}");
    let settings = gateway.relay.settings();
    assert!(doctor_reports(settings, "filter: ").await);
    let refused = "destination route: its URL is not allowed";
    assert!(!doctor_reports(settings, refused).await);
    assert!(doctor_reports(&settings.clone().with("TIDEGATE_EGRESS_ALLOW", "10.0.0.0/8"), refused).await);
}

/// Whether `tidegate doctor` fails with this problem.
async fn doctor_reports(settings: &RelaySettings, problem: &str) -> bool {
    let output = run("doctor", settings.variables()).await.expect("runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut failed = printed.lines().filter(|line| line.starts_with("FAIL"));
    failed.any(|line| line.contains(problem))
}

fn id_of(destination: &str) -> String {
    format!("(select id from destinations where name = '{destination}')")
}
