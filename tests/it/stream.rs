//! stream: changes of events and deliveries as server-sent events, which clients continue by position.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::api::id;
use harness::gateway::Gateway;
use harness::postgres::wait_for_count;
use harness::receiver::Behaviour;
use harness::stream::Stream;
use harness::wait::{LONG, SOON};
use serde_json::{Value, json};

/// The kind of a change, and its state if it has one.
fn kind(change: &Value) -> String {
    let kind = change["kind"].as_str().unwrap_or_default();
    change["state"].as_str().map_or_else(|| kind.to_owned(), |state| format!("{kind} {state}"))
}

fn is(kind_and_state: &'static str) -> impl Fn(&Value) -> bool {
    move |change| kind(change) == kind_and_state
}

/// Whether a filter selects a change.
type IsSelected<'a> = Box<dyn Fn(&Value) -> bool + 'a>;

fn positions(changes: &[Value]) -> Vec<&str> {
    changes.iter().map(|change| change["position"].as_str().expect("a position")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_streamed_in_the_order_in_which_they_are_stored_and_without_bodies() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("shop").await;
    let mut stream = gateway.api.stream("/v1/stream", None).await;
    let began_at = stream.position.clone();
    let event = gateway.push(&line.source, br#"{"type":"order.paid","secret":"in the body"}"#).to_string();
    let changes = stream.until(SOON, is("delivery_state_changed succeeded")).await;
    let kinds: Vec<String> = changes.iter().map(kind).collect();
    let expected =
        ["event_stored", "delivery_state_changed pending", "attempt_made", "delivery_state_changed succeeded"];
    assert_eq!(kinds, expected);
    assert!(!format!("{changes:?}").contains("in the body"), "{changes:?}");

    let shown = gateway.api.wait_for_row("/v1/events", SOON).await;
    assert_eq!(changes[0]["event"], shown, "the event is that of the list");
    assert_eq!(changes[0]["customer"], "default");
    let delivery = gateway.api.wait_for_row("/v1/deliveries?state=succeeded", SOON).await;
    for change in &changes[1..] {
        for field in ["id", "event_id", "source_id", "destination_id", "destination", "route_id", "replay_id"] {
            assert_eq!(change["delivery"][field], delivery[field], "{field} of {change}");
        }
        assert_eq!(change["delivery"]["event_id"], json!(event));
    }
    assert_eq!((&changes[2]["attempt"]["number"], &changes[2]["attempt"]["status"]), (&json!(1), &json!(200)));
    let mut sorted = positions(&changes);
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted, positions(&changes), "positions grow");
    assert!(began_at.as_str() < sorted[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_only_what_its_filters_select_and_unknown_filters_are_refused() {
    let gateway = Gateway::relay_only().await;
    let (first, second) = (gateway.line("first").await, gateway.line("second").await);
    second.receiver.always(Behaviour::Status(404));
    let retry = json!({ "retry": { "schedule_s": [0] } });
    gateway.api.patch("/v1/destinations/second", &retry).await.expect_status(200);
    let route = gateway.api.create_route(&first.source.id, &second.destination.id, json!({})).await;
    let from = gateway.api.stream("/v1/stream", None).await.position;
    gateway.push(&first.source, br#"{"type":"order.paid"}"#);
    gateway.push(&second.source, br#"{"type":"order.sent"}"#);
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 1, SOON).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=dead", 2, SOON).await;
    // 2 events, 3 deliveries with one attempt each.
    let all = gateway.api.stream(&format!("/v1/stream?after={from}"), None).await.take(2 + 3 * 3, SOON).await;
    let (first_source, second_destination) = (&first.source.id, &second.destination.id);
    let of_destination = |change: &Value| change["delivery"]["destination_id"] == json!(second_destination);
    let of_source = |change: &Value| {
        change["event"]["source_id"] == json!(first_source) || change["delivery"]["source_id"] == json!(first_source)
    };
    let cases: Vec<(String, IsSelected<'_>)> = vec![
        ("kind=event_stored".to_owned(), Box::new(is("event_stored"))),
        ("kind=attempt_made".to_owned(), Box::new(is("attempt_made"))),
        ("state=dead".to_owned(), Box::new(is("delivery_state_changed dead"))),
        ("source=first".to_owned(), Box::new(of_source)),
        (format!("source={first_source}"), Box::new(of_source)),
        ("destination=second".to_owned(), Box::new(of_destination)),
        (format!("route={route}"), Box::new(|change| change["delivery"]["route_id"] == json!(route))),
        (
            "type=order.sent".to_owned(),
            Box::new(|change| {
                change["event"]["type"] == "order.sent" || change["delivery"]["event_type"] == "order.sent"
            }),
        ),
    ];
    for (filter, is_selected) in cases {
        let expected: Vec<Value> = all.iter().filter(|change| is_selected(change)).cloned().collect();
        assert!(!expected.is_empty() && expected.len() < all.len(), "{filter}");
        let mut stream = gateway.api.stream(&format!("/v1/stream?after={from}&{filter}"), None).await;
        let found = stream.take(expected.len(), SOON).await;
        assert_eq!(positions(&found), positions(&expected), "{filter}");
    }
    for (query, field) in [
        ("sort=asc", "sort"),
        ("kind=everything", "kind"),
        ("state=asleep", "state"),
        ("route=first", "route"),
        ("source=nobody", "source"),
        ("kind=event_stored&state=dead", "state"),
        ("kind=event_stored&destination=second", "destination"),
        ("after=2026-01-31T08:00:00Z", "after"),
    ] {
        let reply = gateway.api.get(&format!("/v1/stream?{query}")).await;
        let problem = reply.expect_status(422);
        assert!(problem.to_string().contains(field), "{query}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_continues_after_any_position_on_any_replica_without_a_gap_or_a_repetition() {
    let mut gateway = Gateway::relay_only().await;
    let mut other = gateway.another_relay().await;
    gateway.relay.expect_errors();
    let line = gateway.line("shop").await;
    let mut stream = other.api().stream("/v1/stream?kind=event_stored", None).await;
    let from = stream.position.clone();
    gateway.push_many(&line.source, 40);
    let mut seen = stream.take(25, SOON).await;
    other.kill().await.expect("is killed");
    // What arrives while no replica has the stream comes first.
    let pushed = gateway.push_many(&line.source, 40);
    let last = seen.last().expect("a change")["position"].as_str().expect("a position").to_owned();
    // The header is newer than the position in the URL.
    let path = format!("/v1/stream?kind=event_stored&after={from}");
    let mut resumed = gateway.api.stream(&path, Some(&last)).await;
    seen.extend(resumed.take(55, SOON).await);
    let events: BTreeSet<&str> = seen.iter().map(|change| id(&change["event"])).collect();
    assert_eq!((seen.len(), events.len()), (80, 80), "each event once");
    assert!(pushed.iter().all(|event| events.contains(event.to_string().as_str())));
    gateway.push_many(&line.source, 1);
    resumed.take(1, SOON).await;

    let again = gateway.api.stream(&path, None).await.take(81, SOON).await;
    assert_eq!(positions(&again)[..80], positions(&seen));
    for after in [0, 39, 79] {
        let resumed = gateway.api.stream("/v1/stream?kind=event_stored", Some(positions(&again)[after])).await;
        let rest = { resumed }.take(80 - after, SOON).await;
        assert_eq!(positions(&rest), positions(&again)[after + 1..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_falls_behind_still_gets_each_change_once() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("shop").await;
    let mut stream = gateway.api.stream("/v1/stream", None).await;
    // More than the relay holds for a client that does not read.
    let pushed = gateway.push_many(&line.source, 2_000);
    let mut database = gateway.database.connect().await.expect("connects");
    let count = "select count(*) from settled_deliveries";
    wait_for_count(&mut database, "half of the deliveries to be settled", count, LONG, |count| count >= 1_000).await;
    let seen = stream.take(4 * pushed.len(), LONG).await;
    let stored: BTreeSet<&str> =
        seen.iter().filter(|change| is("event_stored")(change)).map(|change| id(&change["event"])).collect();
    assert_eq!(stored.len(), pushed.len());
    assert_eq!(positions(&seen).into_iter().collect::<BTreeSet<_>>().len(), seen.len(), "nothing is repeated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_the_changes_of_one_customer_and_an_operator_may_stream_all() {
    let gateway = Gateway::relay_only().await;
    let (acme, umbrella) =
        (crate::isolation::tenant(&gateway, "acme").await, { crate::isolation::tenant(&gateway, "umbrella").await });
    let reader = gateway.api.limited_to(&["read"], Some("acme")).await;
    let mut of_acme = reader.stream("/v1/stream?kind=event_stored", None).await;
    let mut of_default = gateway.api.stream("/v1/stream?kind=event_stored", None).await;
    let mut of_umbrella = gateway.api.acting_for("umbrella").stream("/v1/stream?kind=event_stored", None).await;
    let mut of_all = gateway.api.acting_for("*").stream("/v1/stream?kind=event_stored", None).await;
    reader.acting_for("umbrella").get("/v1/stream").await.expect_status(403);
    gateway.push(&umbrella.source, b"{}");
    gateway.push(&acme.source, b"{}");
    let line = gateway.line("shop").await;
    gateway.push(&line.source, b"{}");
    let customers = |changes: Vec<Value>| changes.iter().map(|change| change["customer"].clone()).collect::<Vec<_>>();
    let mut all = customers(of_all.take(3, SOON).await);
    all.sort_by_key(Value::to_string);
    assert_eq!(all, ["acme", "default", "umbrella"]);
    assert_eq!(customers(of_acme.take(1, SOON).await), ["acme"]);
    assert_eq!(customers(of_umbrella.take(1, SOON).await), ["umbrella"]);
    assert_eq!(customers(of_default.take(1, SOON).await), ["default"]);
    // A filter by an object of another customer selects nothing, and its name is unknown.
    let other = format!("/v1/stream?kind=event_stored&source={}", umbrella.source.id);
    let mut nothing = reader.stream(&other, None).await;
    gateway.push(&umbrella.source, b"{}");
    gateway.push(&acme.source, b"{}");
    of_acme.take(1, SOON).await;
    of_umbrella.take(1, SOON).await;
    let heartbeat = tokio::time::timeout(LONG, nothing.next()).await.expect("a heartbeat").expect("a message");
    assert_eq!(heartbeat.data, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_stream_sends_its_position_so_that_it_keeps_its_place() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("shop").await;
    let mut stream = gateway.api.stream("/v1/stream?type=nothing", None).await;
    let began_at = stream.position.clone();
    gateway.push_many(&line.source, 3);
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 3, SOON).await;
    let heartbeat = tokio::time::timeout(LONG, stream.next()).await.expect("a heartbeat").expect("a message");
    assert_eq!((heartbeat.comment.as_deref(), &heartbeat.data), (Some("heartbeat"), &None));
    assert!(stream.position > began_at, "{} {began_at}", stream.position);
    // Nothing that was stored before comes again.
    let mut resumed = gateway.api.stream("/v1/stream", Some(&stream.position)).await;
    let event = gateway.push(&line.source, b"{}").to_string();
    assert_eq!(resumed.take(1, SOON).await[0]["event"]["id"], json!(event));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_a_limited_number_of_streams() {
    let gateway = Gateway::relay_only().await;
    let reader = gateway.api.limited_to(&["read"], None).await;
    let mut streams: Vec<Stream> = Vec::new();
    let refused = loop {
        match reader.try_stream("/v1/stream", None).await {
            Ok(stream) => streams.push(stream),
            Err(reply) => break reply,
        }
    };
    assert_eq!(streams.len(), 100);
    assert!(refused.retry_after.is_some(), "{refused:?}");
    assert_eq!(refused.expect_status(429)["code"], "too_many_streams");
    gateway.api.stream("/v1/stream", None).await;
    streams.pop();
    harness::wait::until("the place to be free", SOON, async || {
        reader.try_stream("/v1/stream", None).await.map(drop).map_err(|reply| format!("{reply:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_token_is_revoked_or_its_session_ends() {
    let gateway = Gateway::relay_only().await;
    let made = gateway.api.create_token(&["read"], None, json!({})).await;
    let reader = gateway.api.with_token(made["token"].as_str().expect("a token"));
    let soon = time::OffsetDateTime::now_utc() + Duration::from_secs(3);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).expect("a time");
    let expiring = gateway.api.create_token(&["read"], None, json!({ "expires_at": soon })).await;
    let expiring = gateway.api.with_token(expiring["token"].as_str().expect("a token"));
    let mut streams = [reader.stream("/v1/stream", None).await, expiring.stream("/v1/stream", None).await];
    let mut other = gateway.api.stream("/v1/stream", None).await;
    gateway.api.post(&format!("/v1/tokens/{}/revoke", id(&made)), &json!({})).await;
    for stream in &mut streams {
        let last = tokio::time::timeout(SOON, stream.next()).await.expect("ends").expect("a message");
        assert_eq!((last.comment.as_deref(), last.data), (Some("end"), None));
        assert_eq!(stream.next().await, None);
    }
    reader.get("/v1/stream").await.expect_status(401);
    let line = gateway.line("shop").await;
    gateway.push(&line.source, b"{}");
    other.take(1, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_streams_with_the_position_to_continue_from() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("shop").await;
    let mut stream = gateway.api.stream("/v1/stream?kind=event_stored", None).await;
    gateway.push(&line.source, b"{}");
    stream.take(1, SOON).await;
    let stopping = gateway.relay.stop();
    let reading = async {
        let mut last = None;
        while let Some(message) = stream.next().await {
            last = Some(message);
        }
        last
    };
    let (stopped, last) = tokio::join!(stopping, reading);
    assert!(stopped.expect("stops").success());
    let last = last.expect("a message");
    assert!(last.retry_ms.is_some() && last.comment.as_deref() == Some("end"), "{last:?}");
    gateway.relay.start_again().await.expect("starts again");
    let event = gateway.push(&line.source, b"{}").to_string();
    let mut resumed = gateway.relay.api().stream("/v1/stream?kind=event_stored", Some(&stream.position)).await;
    assert_eq!(resumed.take(1, SOON).await[0]["event"]["id"], json!(event));
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_that_cannot_be_continued_get_a_problem_that_says_why() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("shop").await;
    let old = gateway.api.stream("/v1/stream", None).await.position;
    let mut stream = gateway.api.stream("/v1/stream?kind=event_stored", None).await;
    gateway.push(&line.source, b"{}");
    stream.take(1, SOON).await;
    gateway.database.run("update change_history set kept_from = pg_current_xact_id()::text::bigint").await;
    let problem = gateway.api.get(&format!("/v1/stream?after={old}")).await.expect_status(410);
    assert_eq!(problem["code"], "position_too_old", "{problem}");
    let foreign = format!("pos_{}{}", if old.starts_with("pos_0") { "1" } else { "0" }, &old[5..]);
    let problem = gateway.api.get(&format!("/v1/stream?after={foreign}")).await.expect_status(410);
    assert_eq!(problem["code"], "position_of_another_history", "{problem}");
    // The database becomes that of another history while a stream is open.
    gateway.database.run("update change_history set database = 'another'").await;
    let fresh = gateway.api.stream("/v1/stream?kind=event_stored", None).await;
    gateway.push(&line.source, b"{}");
    { fresh }.take(1, SOON).await;
    let ended = async { while stream.next().await.is_some() {} };
    tokio::time::timeout(SOON, ended).await.expect("the stream of the earlier history ends");
    let problem = gateway.api.get(&format!("/v1/stream?after={}", stream.position)).await.expect_status(410);
    assert_eq!(problem["code"], "position_of_another_history", "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_changes_a_delivery_or_an_event_is_a_change() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("shop").await;
    line.receiver.always(Behaviour::Status(410));
    let mut stream = gateway.api.stream("/v1/stream", None).await;
    let event = gateway.push(&line.source, br#"{"type":"order.paid"}"#).to_string();
    let dead = stream.until(SOON, is("delivery_state_changed dead")).await;
    let delivery = id(&dead.last().expect("a change")["delivery"]).to_owned();
    let call = async |path: String| {
        let reply = gateway.api.post(&path, &json!({})).await;
        assert!(reply.status < 300, "{path}: {reply:?}");
    };
    // A destination that answers 410 is disabled. A paused one keeps its deliveries pending.
    line.receiver.always(Behaviour::Status(200));
    call("/v1/destinations/shop/resume".to_owned()).await;
    gateway.api.pause("shop").await;
    call(format!("/v1/deliveries/{delivery}/retry")).await;
    stream.until(SOON, is("delivery_state_changed pending")).await;
    call(format!("/v1/deliveries/{delivery}/cancel")).await;
    stream.until(SOON, is("delivery_state_changed cancelled")).await;
    let replay = json!({ "filter": { "source": "shop" } });
    let replay = gateway.api.post("/v1/replays", &replay).await.expect_status(201);
    let made = stream.until(SOON, is("delivery_state_changed pending")).await;
    assert_eq!(made.last().expect("a change")["delivery"]["replay_id"], replay["id"]);
    call(format!("/v1/replays/{}/cancel", id(&replay))).await;
    stream.until(SOON, is("delivery_state_changed cancelled")).await;
    gateway.api.delete(&format!("/v1/events/{event}/body")).await.expect_status(204);
    let erased = stream.until(SOON, is("event_state_changed body_erased")).await;
    assert_eq!(erased.last().expect("a change")["event"]["id"], json!(event));
    // A delivery that its transform holds, until the destination is deleted.
    let wrong = json!({ "transform": "body.missing" });
    let held = gateway.line("held").await;
    let routes = gateway.api.all("/v1/routes").await;
    let route = routes.iter().find(|route| route.to_string().contains(&held.source.id)).expect("a route");
    gateway.api.patch(&format!("/v1/routes/{}", id(route)), &wrong).await.expect_status(200);
    gateway.push(&held.source, b"{}");
    stream.until(SOON, is("delivery_state_changed held")).await;
    gateway.api.delete("/v1/destinations/held").await.expect_status(204);
    let gone = stream.until(SOON, is("delivery_state_changed cancelled")).await;
    assert_eq!(gone.last().expect("a change")["delivery"]["destination"], Value::Null);
}
