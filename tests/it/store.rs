//! store: copies, messages that the queue hands out again, and messages that cannot be stored.

use harness::gateway::{Gateway, drained};
use harness::wait::{SOON, until};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use shared::envelope::{EventHeader, Failure, Verification, encode_inline, encode_stored};
use shared::header::HeaderList;
use shared::id::{EventId, SourceId};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_provider_id_twice_is_one_event_with_one_copy() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("twice").await;
    let headers = [("webhook-id", "msg_1"), ("content-type", "application/json")];
    let first = gateway.push_with(&line.source, &headers, b"{}");
    drained(&gateway.queue, SOON).await;
    gateway.push_with(&line.source, &headers, b"{}");
    gateway.push_with(&line.source, &[("webhook-id", "msg_2")], b"{}");
    drained(&gateway.queue, SOON).await;
    line.receiver.wait_for(2, SOON).await;
    let events = gateway.api.all("/v1/events").await;
    assert_eq!(events.len(), 2, "{events:?}");
    let event = gateway.api.get(&format!("/v1/events/{first}")).await.expect_status(200);
    assert_eq!((&event["copies"], &event["key"]), (&json!(1), &json!("msg_1")));
    assert_eq!(line.receiver.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_provider_id_three_times_in_one_pull_is_one_event_with_two_copies() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("together").await;
    gateway.relay.stop().await.expect("stops");
    for _ in 0..3 {
        gateway.push_with(&line.source, &[("webhook-id", "msg_1")], b"{}");
    }
    gateway.relay.start_again().await.expect("starts again");
    drained(&gateway.queue, SOON).await;
    line.receiver.wait_for(1, SOON).await;
    let events = gateway.relay.api().all("/v1/events").await;
    assert_eq!((events.len(), &events[0]["copies"]), (1, &json!(2)), "{events:?}");
    assert_eq!(line.receiver.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_queue_hands_out_twice_is_stored_and_delivered_once() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("again").await;
    gateway.queue.fault(|faults| faults.duplicates = true);
    for number in 0..50 {
        gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes());
    }
    drained(&gateway.queue, SOON).await;
    line.receiver.wait_for(50, SOON).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 50, SOON).await;
    assert_eq!(gateway.api.all("/v1/events").await.len(), 50);
    assert_eq!(line.receiver.count(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_cannot_be_stored_are_kept_as_unreadable_and_delay_no_other_message() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let line = gateway.line("good").await;
    let header = |source: SourceId, id: EventId| EventHeader {
        id,
        source,
        received_at_ms: id.minted_at_ms(),
        method: "POST".to_owned(),
        query: String::new(),
        headers: HeaderList::default(),
        verification: Verification::Verified,
    };
    let now_ms = harness::provider::now_s() * 1_000;
    let unknown = encode_inline(&header(SourceId::mint(now_ms, [9; 10]), EventId::mint(now_ms, [1; 10])), b"{}");
    let source: SourceId = line.source.id.parse().expect("an id");
    let ancient = encode_inline(&header(source, EventId::mint(1_000, [1; 10])), b"{}");
    let newer = encode_inline(&header(source, EventId::mint(now_ms, [2; 10])), b"{}").expect("fits");
    let lost_body = encode_stored(&header(source, EventId::mint(now_ms, [3; 10])), "evt_gone", 3, "00");
    for message in [
        "not an envelope",
        &unknown.expect("fits"),
        &ancient.expect("fits"),
        &newer.replacen("\"v\":1", "\"v\":99", 1),
        &lost_body,
    ] {
        gateway.queue.push(message);
    }
    gateway.push(&line.source, b"{\"good\":true}");
    line.receiver.wait_for(1, SOON).await;
    drained(&gateway.queue, SOON).await;
    let kept = gateway.api.all("/v1/unreadable-messages").await;
    let mut reasons: Vec<&str> = kept.iter().filter_map(|message| message["reason"].as_str()).collect();
    reasons.sort_unstable();
    let expected = ["body_missing", "implausible_time", "not_decodable", "unknown_source", "unknown_version"];
    assert_eq!(reasons, expected, "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_message_keeps_its_body_at_the_edge() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let line = gateway.line("kept").await;
    let now_ms = harness::provider::now_s() * 1_000;
    let stored = |number: u8, key: &str, sha256: &str| {
        let header = EventHeader {
            id: EventId::mint(now_ms, [number; 10]),
            source: line.source.id.parse().expect("an id"),
            received_at_ms: now_ms,
            method: "POST".to_owned(),
            query: String::new(),
            headers: HeaderList::default(),
            verification: Verification::Verified,
        };
        gateway.edge.store_body(key, b"large".to_vec());
        gateway.queue.push(&encode_stored(&header, key, 5, sha256));
    };
    stored(1, "evt_changed", &hex::encode(Sha256::digest(b"other")));
    gateway.api.wait_for_rows("/v1/unreadable-messages", 1, SOON).await;
    drained(&gateway.queue, SOON).await;
    // The second body is deleted after it has been stored. By then the first one would have been deleted, too.
    stored(2, "evt_whole", &hex::encode(Sha256::digest(b"large")));
    line.receiver.wait_for(1, SOON).await;
    until("the stored body to be deleted", SOON, async || match gateway.edge.bodies().as_slice() {
        [kept] if kept == "evt_changed" => Ok(()),
        bodies => Err(format!("{bodies:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_with_characters_that_postgresql_refuses_in_a_text_is_stored_and_returned_unchanged() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("nul").await;
    let body = b"{\"type\":\"a\\u0000b\",\"id\":\"\\u0000\"}";
    let event = gateway.push_with(&line.source, &[("webhook-id", "a\u{fffd}b"), ("x-odd", "\u{e9}")], body);
    line.receiver.wait_for(1, SOON).await;
    assert_eq!(gateway.api.bytes(&format!("/v1/events/{event}/body")).await, body);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_id_is_too_long_for_an_index_is_stored_and_its_copy_is_recognised() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("long").await;
    // Random, because the index would compress a repetition.
    let long: String = (0..200).map(|_| uuid_text()).collect();
    for _ in 0..2 {
        gateway.push_with(&line.source, &[("webhook-id", &long)], b"1");
        drained(&gateway.queue, SOON).await;
    }
    gateway.push_with(&line.source, &[("webhook-id", "short")], b"3");
    line.receiver.wait_for(2, SOON).await;
    drained(&gateway.queue, SOON).await;
    assert_eq!(gateway.api.all("/v1/events").await.len(), 2, "the repetition is recognised by the hash of its id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_request_in_quarantine_does_not_take_the_id_of_the_genuine_one() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("forged").await;
    let now_ms = harness::provider::now_s() * 1_000;
    let forged = EventHeader {
        id: EventId::mint(now_ms, [5; 10]),
        source: line.source.id.parse().expect("an id"),
        received_at_ms: now_ms,
        method: "POST".to_owned(),
        query: String::new(),
        headers: HeaderList::new([("webhook-id", "msg_1")]),
        verification: Verification::Failed(Failure {
            cause: "signature_mismatch".to_owned(),
            detail: "the signature does not match".to_owned(),
        }),
    };
    gateway.queue.push(&encode_inline(&forged, b"{\"forged\":true}").expect("fits"));
    drained(&gateway.queue, SOON).await;
    gateway.push_with(&line.source, &[("webhook-id", "msg_1")], b"{\"forged\":false}");
    let received = line.receiver.wait_for(1, SOON).await;
    assert_eq!(received[0].body, b"{\"forged\":false}".as_slice());
    let failed = gateway.api.all("/v1/events?verification=failed").await;
    assert_eq!(failed.len(), 1, "the forged one is kept and not delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_request_that_its_source_accepts_is_delivered_and_marked_as_stale() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("stale").await;
    let now_ms = harness::provider::now_s() * 1_000;
    let stale = EventHeader {
        id: EventId::mint(now_ms, [6; 10]),
        source: line.source.id.parse().expect("an id"),
        received_at_ms: now_ms,
        method: "POST".to_owned(),
        query: String::new(),
        headers: HeaderList::new([("webhook-id", "msg_1")]),
        verification: Verification::Stale,
    };
    gateway.queue.push(&encode_inline(&stale, b"{\"late\":true}").expect("fits"));
    let received = line.receiver.wait_for(1, SOON).await;
    assert_eq!(received[0].body, b"{\"late\":true}".as_slice());
    let marked = gateway.api.all("/v1/events?verification=stale").await;
    assert_eq!((marked.len(), &marked[0]["verification"]), (1, &"stale".into()));
}

fn uuid_text() -> String {
    EventId::mint(1, rand::random()).uuid().simple().to_string()
}
