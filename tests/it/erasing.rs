//! erasing: one body is erased by a call, and the bodies of a customer with a shorter retention are deleted earlier.

use harness::api::{Api, Source, id};
use harness::gateway::{Gateway, RelayOnly};
use harness::provider::{Provider, now_s};
use harness::receiver::Receiver;
use harness::wait::{LONG, SOON, until};
use serde_json::{Value, json};
use shared::envelope::{EventHeader, Verification, encode_inline};
use shared::header::HeaderList;
use shared::id::EventId;

const DAY_MS: u64 = 86_400_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_body_is_gone_everywhere_and_its_event_says_so() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("erased").await;
    let api = &gateway.api;
    let [event, other] = [b"{\"n\":1}", b"{\"n\":2}"].map(|body| gateway.push(&line.source, body));
    line.receiver.wait_for(2, SOON).await;
    let deliveries = api.wait_for_rows("/v1/deliveries?state=succeeded", 2, SOON).await;
    let message = "insert into unreadable_messages (id, event_id, next_try_at, released_at, reason, detail, queue_id,
                                                    queue_message_id, message)
                   select id, id, 'infinity', now(), 'body_missing', '', '', '', 'its bytes' from events";
    gateway.database.run(message).await;
    let path = format!("/v1/events/{event}/body");
    assert_eq!(api.bytes(&path).await, b"{\"n\":1}");
    api.limited_to(&["read", "bodies", "write", "replay", "secrets"], None)
        .await
        .delete(&path)
        .await
        .expect_status(403);
    api.delete(&path).await.expect_status(204);
    api.delete(&path).await.expect_status(204);

    let gone = api.get(&path).await.expect_status(410);
    assert_eq!(gone["code"], "body_erased", "{gone}");
    let shown = api.event(event).await;
    assert!(shown["body_erased_at"].is_string() && shown["body_size"] == 7, "{shown}");
    assert_eq!((&shown["routes"], shown["deliveries"].as_array().map(Vec::len)), (&json!([]), Some(1)), "{shown}");
    let listed = api.get("/v1/events").await.expect_status(200);
    let erased: Vec<bool> = listed["data"].as_array().expect("events").iter().map(is_erased).collect();
    assert_eq!(erased.iter().filter(|erased| **erased).count(), 1, "{listed}");
    let messages = api.all("/v1/unreadable-messages").await;
    assert!(messages.iter().all(|message| message["event_id"] == json!(other)) && messages.len() == 1, "{messages:?}");
    assert_eq!(api.bytes(&format!("/v1/events/{other}/body")).await, b"{\"n\":2}");

    let replay = api.post("/v1/replays", &json!({ "filter": { "source": "erased" } })).await.expect_status(201);
    let ended = api.wait_for_replay(&replay, SOON).await;
    assert_eq!((&ended["skipped"], &ended["created"]), (&json!(1), &json!(1)), "{ended}");
    assert!(ended["skipped_reason"].as_str().is_some_and(|reason| reason.contains("erased")), "{ended}");
    let of_event = deliveries.iter().find(|delivery| delivery["event_id"] == json!(event)).expect("a delivery");
    let retry = api.post(&format!("/v1/deliveries/{}/retry", id(of_event)), &json!({})).await.expect_status(409);
    assert_eq!(retry["code"], "body_gone", "{retry}");
    api.delete(&format!("/v1/events/{}/body", EventId::mint(1, [1; 10]))).await.expect_status(404);
}

fn is_erased(event: &Value) -> bool {
    event["body_erased_at"].is_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_a_pending_delivery_needs_is_not_erased_before_it_has_ended() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("needed").await;
    gateway.api.pause("needed").await;
    let event = gateway.push(&line.source, b"{}");
    let held = gateway.api.wait_for_row("/v1/deliveries?state=held", SOON).await;
    let path = format!("/v1/events/{event}/body");
    let refused = gateway.api.delete(&path).await.expect_status(409);
    assert_eq!(refused["code"], "body_needed", "{refused}");
    gateway.api.post(&format!("/v1/deliveries/{}/cancel", id(&held)), &json!({})).await.expect_status(200);
    gateway.api.delete(&path).await.expect_status(204);
    gateway.api.get(&path).await.expect_status(410);
}

async fn wait_until_gone(api: &Api, event: EventId) -> Value {
    api.wait_for_status(&format!("/v1/events/{event}/body"), 410, LONG).await
}

/// A customer whose source has one event that was received five days ago, and whose destination may be paused.
async fn customer(gateway: &RelayOnly, name: &str, receiver: &Receiver, is_paused: bool) -> (Api, Source, EventId) {
    let api = gateway.api.acting_for(name);
    let source = api.create_source("shop", &Provider::standard_webhooks()).await;
    api.create_destination("shop", &receiver.url(), json!({})).await;
    if is_paused {
        api.pause("shop").await;
    }
    api.create_route("shop", "shop", json!({})).await;
    let event = gateway.push_received(&source, now_s() * 1_000 - 5 * DAY_MS, &[], b"{}");
    let state = if is_paused { "held" } else { "succeeded" };
    api.wait_for_rows(&format!("/v1/deliveries?state={state}"), 1, SOON).await;
    (api, source, event)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bodies_of_a_customer_with_a_shorter_retention_are_deleted_earlier_and_no_others() {
    let gateway = Gateway::relay_only().await;
    let receiver = Receiver::start().await.expect("starts");
    for name in ["short", "other", "held", "longer"] {
        gateway.api.create_customer(name).await;
    }
    let (short, source, old) = customer(&gateway, "short", &receiver, false).await;
    let (other, _, kept) = customer(&gateway, "other", &receiver, false).await;
    let (held, _, needed) = customer(&gateway, "held", &receiver, true).await;
    let (longer, _, kept_longer) = customer(&gateway, "longer", &receiver, true).await;
    let recent = gateway.push(&source, b"{\"recent\":1}");
    short.wait_for_rows("/v1/deliveries?state=succeeded", 2, SOON).await;

    let too_long = gateway.api.patch("/v1/customers/short", &json!({ "body_retention_days": 31 })).await;
    assert_eq!(too_long.expect_status(422)["errors"][0]["field"], "body_retention_days");
    let days = json!({ "body_retention_days": 3 });
    for name in ["held", "longer", "short"] {
        let changed = gateway.api.patch(&format!("/v1/customers/{name}"), &days).await.expect_status(200);
        assert_eq!(changed["body_retention_days"], 3);
    }
    assert_eq!(wait_until_gone(&short, old).await["code"], "past_retention");
    assert!(!is_erased(&short.event(old).await), "a body whose retention has ended is not erased");
    for (api, event) in [(&short, recent), (&other, kept), (&held, needed)] {
        api.get(&format!("/v1/events/{event}")).await.expect_status(200);
        assert!(!api.bytes(&format!("/v1/events/{event}/body")).await.is_empty(), "{event}");
    }

    // The delivery needs the body, and after it has ended nothing does.
    let mut database = gateway.database.connect().await.expect("connects");
    until("the body to be noted", SOON, async || {
        let noted: i64 =
            sqlx::query_scalar("select count(*) from needed_bodies").fetch_one(&mut database).await.expect("counts");
        if noted == 2 { Ok(()) } else { Err(format!("{noted} are noted")) }
    })
    .await;
    // The body of a customer that has got a longer retention meanwhile is kept for that.
    let no_limit = json!({ "body_retention_days": null });
    gateway.api.patch("/v1/customers/longer", &no_limit).await.expect_status(200);
    for api in [&held, &longer] {
        api.resume("shop").await;
        api.wait_for_rows("/v1/deliveries?state=succeeded", 1, SOON).await;
    }
    gateway.database.run("update needed_bodies set check_at = now()").await;
    gateway.api.patch("/v1/customers/held", &days).await.expect_status(200);
    wait_until_gone(&held, needed).await;
    until("no body to be noted", SOON, async || {
        let noted: i64 =
            sqlx::query_scalar("select count(*) from needed_bodies").fetch_one(&mut database).await.expect("counts");
        if noted == 0 { Ok(()) } else { Err(format!("{noted} are noted")) }
    })
    .await;
    for (api, event) in [(&other, kept), (&longer, kept_longer)] {
        assert!(!api.bytes(&format!("/v1/events/{event}/body")).await.is_empty(), "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_stored_after_its_shorter_retention_is_deleted_although_the_walk_has_passed_it() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let receiver = Receiver::start().await.expect("starts");
    gateway.api.create_customer("short").await;
    let (short, source, old) = customer(&gateway, "short", &receiver, false).await;
    let days = json!({ "body_retention_days": 3 });
    gateway.api.patch("/v1/customers/short", &days).await.expect_status(200);
    wait_until_gone(&short, old).await;

    // The message of an event that is older than a repeated walk begins is released by a relay that can read it.
    let received_at_ms = now_s() * 1_000 - 25 * DAY_MS;
    let header = EventHeader {
        id: EventId::mint(received_at_ms, [3; 10]),
        source: source.id.parse().expect("an id"),
        received_at_ms,
        method: "POST".to_owned(),
        query: String::new(),
        headers: HeaderList::new([("content-type", "application/json")]),
        verification: Verification::Verified,
    };
    let message = encode_inline(&header, b"{\"old\":1}").expect("fits");
    gateway.queue.push(&message.replacen("\"v\":1", "\"v\":99", 1));
    let kept = gateway.api.wait_for_row("/v1/unreadable-messages?reason=unknown_version", SOON).await;
    let readable = "update unreadable_messages set message = decode(replace(encode(message, 'hex'),
                        encode('\"v\":99', 'hex'), encode('\"v\":1', 'hex')), 'hex')";
    gateway.database.run(readable).await;
    let path = format!("/v1/unreadable-messages/{}/release", id(&kept));
    gateway.api.post(&path, &json!({})).await.expect_status(200);
    short.wait_for_rows("/v1/deliveries?state=succeeded", 2, SOON).await;
    let other = json!({ "body_retention_days": 4 });
    gateway.api.create_customer("other").await;
    gateway.api.patch("/v1/customers/other", &other).await.expect_status(200);
    wait_until_gone(&short, header.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_delivery_is_made_of_an_event_past_the_shorter_retention_of_its_customer() {
    let gateway = Gateway::relay_only().await;
    let receiver = Receiver::start().await.expect("starts");
    gateway.api.create_customer("short").await;
    let api = gateway.api.acting_for("short");
    let source = api.create_source("shop", &Provider::standard_webhooks()).await;
    api.create_destination("shop", &receiver.url(), json!({})).await;
    api.create_route("shop", "shop", json!({})).await;
    // Its body is kept for a few minutes more.
    let event = gateway.push_received(&source, now_s() * 1_000 - 3 * DAY_MS - 60_000, &[], b"{}");
    let delivery = api.wait_for_row("/v1/deliveries?state=succeeded", SOON).await;
    let days = json!({ "body_retention_days": 3 });
    gateway.api.patch("/v1/customers/short", &days).await.expect_status(200);
    let retry = api.post(&format!("/v1/deliveries/{}/retry", id(&delivery)), &json!({})).await.expect_status(409);
    assert_eq!(retry["code"], "body_gone", "{retry}");
    for filter in [json!({ "source": "shop" }), json!({ "source": "shop", "state": "succeeded" })] {
        let replay = api.post("/v1/replays", &json!({ "filter": filter })).await.expect_status(201);
        let ended = api.wait_for_replay(&replay, SOON).await;
        assert_eq!((&ended["skipped"], &ended["created"]), (&json!(1), &json!(0)), "{ended}");
    }
    assert!(!api.bytes(&format!("/v1/events/{event}/body")).await.is_empty());
    let longer = json!({ "body_retention_days": 4 });
    gateway.api.patch("/v1/customers/short", &longer).await.expect_status(200);
    api.post(&format!("/v1/deliveries/{}/retry", id(&delivery)), &json!({})).await.expect_status(200);
    receiver.wait_for(2, SOON).await;
}
