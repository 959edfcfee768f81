//! limits: answers without an end, and URLs that cannot be sent.

use std::time::Duration;

use serde_json::{Value, json};
use tests::gateway::{Gateway, RelayOnly};
use tests::provider::Provider;
use tests::receiver::{Behaviour, Receiver};
use tests::wait::until;

const SOON: Duration = Duration::from_secs(90);

/// Waits until so many deliveries have succeeded, and gives them.
async fn succeeded(gateway: &RelayOnly, count: usize) -> Vec<Value> {
    until("all deliveries to succeed", SOON, async || {
        let succeeded = gateway.api.all("/v1/deliveries?state=succeeded").await;
        if succeeded.len() == count { Ok(succeeded) } else { Err(format!("{} of {count}", succeeded.len())) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_an_end_is_a_success_and_frees_its_slot() {
    let gateway = Gateway::relay_only().await;
    let source = gateway.api.create_source("limits", &Provider::standard_webhooks()).await;
    let receiver = Receiver::behaving(Behaviour::SlowDrip(Duration::from_millis(20))).await.expect("starts");
    // A body that was waited for until then would hold the only slot for longer than this test waits.
    let settings = json!({ "max_concurrency": 1, "timeout_ms": 120_000 });
    let destination = gateway.api.create_destination("drips", &receiver.url(), settings).await;
    gateway.api.create_route(&source.id, &destination.id, json!({})).await;
    for number in 0..4 {
        gateway.push(&source, json!({ "number": number }).to_string().as_bytes());
    }
    receiver.wait_for(4, SOON).await;
    for delivery in succeeded(&gateway, 4).await {
        let id = delivery["id"].as_str().expect("an id");
        let attempts = gateway.api.all(&format!("/v1/deliveries/{id}/attempts")).await;
        assert_eq!(attempts.len(), 1, "{attempts:?}");
        let excerpt = attempts[0]["response_excerpt"].as_str().unwrap_or_default();
        assert!(excerpt.starts_with('.') && excerpt.ends_with('\u{2026}'), "{attempts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_to_a_stored_url_that_cannot_be_sent_is_held_with_the_reason_and_the_log_keeps_its_query() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("odd").await;
    let odd = "http://{tenant}.example.com/hook?token=sesame";
    let refused = gateway.api.post("/v1/destinations", &json!({ "name": "new", "url": odd })).await;
    assert_eq!(refused.expect_status(422)["code"], "egress_url_unsendable");

    // As an earlier version has stored it.
    let mut database = gateway.database.connect().await.expect("connects");
    sqlx::query("update destinations set url = $1").bind(odd).execute(&mut database).await.expect("changes");
    let renewed = "update configuration set revision = revision + 1, identity = gen_random_uuid()";
    sqlx::query(renewed).execute(&mut database).await.expect("changes");
    gateway.push(&line.source, b"{}");
    let held = until("the delivery to be held", SOON, async || {
        let held = gateway.api.all("/v1/deliveries?state=held").await;
        held.first().cloned().ok_or_else(|| "none is held".to_owned())
    })
    .await;
    assert_eq!(held["attempts"], 0, "{held}");
    let reason = held["held_reason"].as_str().unwrap_or_default();
    assert!(reason.contains("no request can be made of the url"), "{held}");
    assert!(!gateway.relay.log().contains("sesame"));
}
