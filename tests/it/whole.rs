//! whole: all steps, from a provider's request to workerd to a signed delivery of the relay.

use harness::api::{http_client, id};
use harness::gateway::Gateway;
use harness::provider::Provider;
use harness::wait::{SOON, until};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_enters_at_the_edge_leaves_as_a_signed_delivery_and_is_replayed() {
    let gateway = Gateway::start().await;
    let line = gateway.line(Provider::stripe()).await;
    let client = http_client();
    let request = line.provider.sample("evt_whole_1");
    let sent = request.send(&client, &line.source.ingest_url).await.expect("sends");
    assert_eq!(sent.status(), 200);
    let accepted: serde_json::Value = sent.json().await.expect("JSON");

    let received = line.receiver.wait_for(1, SOON).await.remove(0);
    assert_eq!(received.body, request.body.as_slice());
    assert_eq!(received.header("webhook-id"), id(&accepted));
    received.verify(&line.destination.signing_secret).expect("the signature verifies");

    let replay =
        gateway.api.post("/v1/replays", &json!({ "filter": { "source": line.source.id } })).await.expect_status(201);
    assert_eq!(replay["matched"], 1);
    let again = line.receiver.wait_for(2, SOON).await.remove(1);
    assert_eq!(again.header("webhook-id"), received.header("webhook-id"));
    assert_eq!(again.body, received.body);
    again.verify(&line.destination.signing_secret).expect("signed anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_every_byte_value_and_of_a_megabyte_are_delivered_unchanged_and_a_repeated_id_only_once() {
    let gateway = Gateway::start().await;
    let line = gateway.line(Provider::github()).await;
    let client = http_client();
    let now_s = harness::provider::now_s();
    let every_byte: Vec<u8> = (0..=255).collect();
    let megabyte: Vec<u8> = (0..1_000_000_u32).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect();
    for (id, body) in [("one", &every_byte), ("one", &every_byte), ("two", &megabyte)] {
        let answer = line.provider.sign(id, body, now_s).send(&client, &line.source.ingest_url).await.expect("sends");
        assert_eq!(answer.status(), 200, "a repetition is accepted too");
    }
    let received = line.receiver.wait_for(2, SOON).await;
    let mut bodies: Vec<&[u8]> = received.iter().map(|request| request.body.as_ref()).collect();
    bodies.sort_by_key(|body| body.len());
    assert!(bodies == [every_byte.as_slice(), megabyte.as_slice()], "byte for byte");
    for request in &received {
        request.verify(&line.destination.signing_secret).expect("the signature verifies");
    }
    until("the repetition to be counted", SOON, async || {
        let events = gateway.api.all("/v1/events").await;
        let copies: i64 = events.iter().filter_map(|event| event["copies"].as_i64()).sum();
        if events.len() == 2 && copies == 1 { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
    assert_eq!(line.receiver.count(), 2, "one event, one delivery");
    let large = gateway
        .api
        .all("/v1/events")
        .await
        .into_iter()
        .find(|event| event["body_size"] == 1_000_000)
        .expect("the event exists");
    let path = format!("/v1/events/{}/body", id(&large));
    assert!(gateway.api.bytes(&path).await == megabyte, "byte for byte in the database too");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_requests_are_shown_with_their_cause() {
    let gateway = Gateway::start().await;
    let line = gateway.line(Provider::shopify()).await;
    let client = http_client();
    let tampered = line.provider.sample("1").with_body(&b"{\"amount\":1000000}"[..]);
    for _ in 0..3 {
        let answer = tampered.send(&client, &line.source.ingest_url).await.expect("sends");
        assert_eq!(answer.status(), 401);
    }
    let rejection = gateway.api.wait_for_row("/v1/rejections", SOON).await;
    assert_eq!(rejection["cause"], "signature_mismatch", "{rejection}");
    assert_eq!(line.receiver.count(), 0);
}
