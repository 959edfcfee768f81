//! deliver: the requests that a destination receives, their rate, and the isolation of bad destinations.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use harness::gateway::{Gateway, drained};
use harness::postgres::{Server, Shutdown};
use harness::receiver::{Behaviour, Receiver};
use harness::wait::{SOON, until};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_carries_the_raw_bytes_the_provider_headers_and_a_signature_that_verifies() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("raw").await;
    let body = b"{ \"spaces\" : [1,  2],\n\"type\":\"a.b\" }";
    let headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("x-github-event", "push"),
        ("webhook-id", "msg_theirs"),
        ("cookie", "secret=1"),
    ];
    let event = gateway.push_with(&line.source, &headers, body);

    let received = line.receiver.wait_for(1, SOON).await.remove(0);
    assert_eq!(received.body, body.as_slice());
    assert_eq!(received.header("content-type"), "application/json; charset=utf-8");
    assert_eq!(received.header("x-github-event"), "push");
    assert_eq!(received.header("webhook-id"), event.to_string());
    assert_eq!(received.header("tidegate-original-webhook-id"), "msg_theirs");
    assert!(!received.headers.contains_key("cookie"));
    received.verify(&line.destination.signing_secret).expect("the signature verifies");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_without_room_in_memory_are_still_delivered() {
    let gateway = Gateway::relay_only_with(|settings| settings.with("TIDEGATE_MAX_WAITING_BYTES", "0")).await;
    let line = gateway.line("no-room").await;
    let pushed: BTreeSet<String> = (0..30).map(|number| json!({ "number": number }).to_string()).collect();
    for body in &pushed {
        gateway.push(&line.source, body.as_bytes());
    }
    let received = line.receiver.wait_for(30, SOON).await;
    let bodies: BTreeSet<String> =
        received.iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    assert_eq!(bodies, pushed);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_both_secrets_verify_until_the_overlap_ends_and_then_only_the_new_one() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("rotated").await;
    let path = format!("/v1/destinations/{}/signing-secret", line.destination.id);
    let old = &line.destination.signing_secret;
    let rotated = gateway.api.post(&format!("{path}/rotate"), &json!({ "overlap_s": 10 })).await.expect_status(200);
    let new = rotated["signing_secret"].as_str().expect("a secret");
    assert_eq!(rotated["also_signing"][0]["signing_secret"], **old, "{rotated}");
    assert!(rotated["also_signing"][0]["until"].is_string(), "{rotated}");

    gateway.push(&line.source, b"{}");
    let during = line.receiver.wait_for(1, SOON).await.remove(0);
    during.verify(old).expect("the old secret still verifies");
    during.verify(new).expect("the new secret verifies");

    gateway
        .api
        .wait_until("the old secret to be no longer shown", &path, SOON, |shown| shown["also_signing"] == json!([]))
        .await;
    gateway.push(&line.source, b"{}");
    let after = line.receiver.wait_for(2, SOON).await.remove(1);
    after.verify(new).expect("the new secret verifies");
    assert!(after.verify(old).is_err(), "the old secret no longer signs");

    let again = gateway.api.post(&format!("{path}/rotate"), &json!({ "overlap_s": 0 })).await.expect_status(200);
    assert_eq!(again["also_signing"], json!([]), "an overlap of 0 s ends at once");
    gateway.api.post(&format!("{path}/rotate"), &json!({ "overlap_s": -1 })).await.expect_status(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_of_twenty_per_second_holds_and_does_not_slow_another_destination() {
    let gateway = Gateway::relay_only().await;
    let (slow, fast) = (Receiver::start().await.expect("starts"), Receiver::start().await.expect("starts"));
    let line = gateway.line("source").await;
    let limited = gateway
        .api
        .create_destination("slow", &slow.url(), json!({ "rate_limit": { "limit": 20, "per": "second" } }))
        .await;
    let free = gateway.api.create_destination("fast", &fast.url(), json!({ "max_concurrency": 50 })).await;
    gateway.api.create_route(&line.source.id, &limited.id, json!({})).await;
    gateway.api.create_route(&line.source.id, &free.id, json!({})).await;

    let count = 260;
    for number in 0..count {
        gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes());
    }
    let all_free = fast.wait_for(count, Duration::from_secs(30)).await;
    let taken = all_free[count - 1].at - all_free[0].at;
    let slow_by_then = slow.count();
    assert!(
        slow_by_then < count,
        "the unlimited destination got all {count} in {taken:?}, the limited one {slow_by_then}"
    );

    let requests = slow.wait_for(count, Duration::from_secs(60)).await;
    let first = requests[0].at;
    // Counts in intervals of ten seconds. A machine that stalls can lower a count, never raise it.
    let in_ten_seconds_from = |from: Duration| {
        let (from, until) = (first + from, first + from + Duration::from_secs(10));
        requests.iter().filter(|request| (from..until).contains(&request.at)).count()
    };
    for start_ms in (0..3_000).step_by(250) {
        let sent = in_ten_seconds_from(Duration::from_millis(start_ms));
        assert!((190..=210).contains(&sent), "{sent} deliveries in the ten seconds after {start_ms} ms");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_destination_times_out_and_delays_no_other_destination() {
    let gateway = Gateway::relay_only().await;
    let hanging = Receiver::behaving(Behaviour::Hang).await.expect("starts");
    let line = gateway.line("healthy").await;
    let bad = gateway.api.create_destination("hanging", &hanging.url(), json!({ "timeout_ms": 1000 })).await;
    gateway.api.create_route(&line.source.id, &bad.id, json!({})).await;
    for number in 0..200 {
        gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes());
    }
    line.receiver.wait_for(200, SOON).await;
    assert!(hanging.count() < 200, "the hanging destination gets at most ten attempts at a time");

    let attempt = until("an attempt to time out", SOON, async || {
        let deliveries = gateway.api.all("/v1/deliveries?destination=hanging").await;
        for delivery in &deliveries {
            let id = delivery["id"].as_str().unwrap_or_default();
            let attempts = gateway.api.get(&format!("/v1/deliveries/{id}/attempts")).await.expect_status(200);
            if let Some(attempt) = attempts["data"].as_array().and_then(|attempts| attempts.first()) {
                return Ok(attempt.clone());
            }
        }
        Err(format!("{} deliveries, none attempted", deliveries.len()))
    })
    .await;
    assert_eq!(attempt["error"], "timeout", "{attempt}");
    let latency_ms = attempt["latency_ms"].as_u64().expect("a latency");
    assert!((950..5_000).contains(&latency_ms), "{attempt}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_to_a_paused_destination_are_held_and_all_sent_when_it_is_resumed() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("paused").await;
    let id = &line.destination.id;
    gateway.api.post(&format!("/v1/destinations/{id}/pause"), &json!({})).await.expect_status(200);
    for number in 0..25 {
        gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes());
    }
    drained(&gateway.queue, SOON).await;
    let held = gateway.api.all("/v1/deliveries?state=held").await;
    assert_eq!(held.len(), 25);
    assert_eq!(line.receiver.count(), 0);

    gateway.api.post(&format!("/v1/destinations/{id}/resume"), &json!({})).await.expect_status(200);
    line.receiver.wait_for(25, SOON).await;
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 25, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_410_response_disables_the_destination_and_holds_its_other_deliveries() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("gone").await;
    line.receiver.always(Behaviour::Status(410));
    gateway.push(&line.source, b"{}");
    let path = format!("/v1/destinations/{}", line.destination.id);
    gateway
        .api
        .wait_until("the destination to be disabled", &path, SOON, |destination| destination["state"] == "disabled")
        .await;
    gateway.push(&line.source, b"{}");
    gateway.api.wait_for_rows("/v1/deliveries?state=held", 1, SOON).await;
    assert_eq!(line.receiver.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_time_a_destination_is_disabled_one_operational_event_is_created() {
    let gateway = Gateway::relay_only().await;
    let alerts = gateway.alerts().await;
    let line = gateway.line("gone").await;
    let destination = format!("/v1/destinations/{}", line.destination.id);
    for times in 1..=2 {
        line.receiver.always(Behaviour::Status(410));
        for _ in 0..3 {
            gateway.push(&line.source, b"{}");
        }
        let alert = alerts.wait_for(times, SOON).await.remove(times - 1);
        let alert: Value = serde_json::from_slice(&alert.body).expect("JSON");
        assert_eq!(alert["type"], "destination.disabled");
        assert_eq!(
            (&alert["data"]["destination"], &alert["data"]["cause"]),
            (&json!(line.destination.id), &json!("gone"))
        );
        gateway
            .api
            .wait_until("the destination to be disabled", &destination, SOON, |shown| shown["state"] == "disabled")
            .await;

        line.receiver.always(Behaviour::Status(200));
        gateway.api.post(&format!("{destination}/resume"), &json!({})).await.expect_status(200);
        let pending = format!("/v1/deliveries?destination={}&state=pending", line.destination.id);
        gateway.api.wait_for_rows(&pending, 0, SOON).await;
    }
    let events = gateway.api.all("/v1/events?source=tidegate&type=destination.disabled").await;
    assert_eq!(events.len(), 2, "one event each time: {events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_410_that_arrives_after_the_destination_was_paused_neither_disables_it_nor_creates_an_event() {
    let gateway = Gateway::relay_only().await;
    let alerts = gateway.alerts().await;
    let line = gateway.line("paused").await;
    let destination = format!("/v1/destinations/{}", line.destination.id);
    line.receiver.next([Behaviour::DelayedStatus(Duration::from_secs(3), 410)]);
    gateway.push(&line.source, b"{}");
    line.receiver.wait_for(1, SOON).await;
    gateway.api.post(&format!("{destination}/pause"), &json!({})).await.expect_status(200);
    let attempts = attempts_of_the_only_delivery(&gateway.api, 1).await;
    assert_eq!(attempts[0]["status"], 410);
    assert_eq!(gateway.api.get(&destination).await.expect_status(200)["state"], "paused");

    gateway.api.post(&format!("{destination}/resume"), &json!({})).await.expect_status(200);
    line.receiver.always(Behaviour::Status(410));
    gateway.push(&line.source, b"{}");
    alerts.wait_for(1, SOON).await;
    let events = gateway.api.all("/v1/events?source=tidegate").await;
    assert_eq!(events.len(), 1, "only the second 410 creates an event: {events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn destinations_in_private_networks_are_refused_unless_the_settings_allow_them() {
    let gateway = Gateway::relay_only_with(|settings| settings.with("TIDEGATE_EGRESS_ALLOW", "10.20.30.0/24")).await;
    for url in [
        "http://127.0.0.1:9/",
        "http://169.254.169.254/latest",
        "http://[::ffff:10.0.0.1]/",
        "http://2130706433/",
        "ftp://example.com/",
    ] {
        let answer = gateway.api.post("/v1/destinations", &json!({ "name": "inside", "url": url })).await;
        let problem = answer.expect_status(422);
        assert!(problem.to_string().contains("url"), "{url}: {problem}");
    }
    let allowed =
        gateway.api.post("/v1/destinations", &json!({ "name": "allowed", "url": "http://10.20.30.40/hook" })).await;
    allowed.expect_status(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_a_private_address_is_a_failed_attempt_and_is_not_followed() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("redirect").await;
    line.receiver.always(Behaviour::Redirect("http://169.254.169.254/latest/meta-data?token=secret".to_owned()));
    gateway.push(&line.source, b"{}");
    let attempts = attempts_of_the_only_delivery(&gateway.api, 1).await;
    assert_eq!((&attempts[0]["status"], &attempts[0]["error"]), (&json!(302), &json!("http_status")));
    let shown = "http://169.254.169.254/latest/meta-data";
    assert_eq!(attempts[0]["location"], shown);
    let detail = attempts[0]["detail"].as_str().unwrap_or_default();
    assert!(detail.starts_with(&format!("status 302: redirect to {shown}; redirects are not followed")), "{detail}");
    assert!(!attempts[0].to_string().contains("secret"), "{attempts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_name_that_resolves_to_a_private_address_is_blocked_when_connecting() {
    // The receivers of the harness listen on 127.0.0.1, which this relay does not allow. The host name passes the check
    // of the URL, and the resolver blocks it.
    let gateway = Gateway::relay_only_with(|settings| settings.with("TIDEGATE_EGRESS_ALLOW", "")).await;
    let source = gateway.api.create_source("inside", &harness::provider::Provider::standard_webhooks()).await;
    let receiver = Receiver::start().await.expect("starts");
    let url = format!("http://localhost:{}/", receiver.address().port());
    let destination = gateway.api.create_destination("inside", &url, json!({})).await;
    gateway.api.create_route(&source.id, &destination.id, json!({})).await;
    gateway.push(&source, b"{}");
    let attempts = attempts_of_the_only_delivery(&gateway.api, 1).await;
    assert_eq!(attempts[0]["error"], "egress_blocked", "{attempts:?}");
    assert_eq!(receiver.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_name_is_reached_at_whichever_of_its_addresses_answers() {
    // `localhost` has addresses of both families.
    let gateway = Gateway::relay_only().await;
    for (name, address) in [("v6", IpAddr::from(Ipv6Addr::LOCALHOST)), ("v4", IpAddr::from(Ipv4Addr::LOCALHOST))] {
        let source = gateway.api.create_source(name, &harness::provider::Provider::standard_webhooks()).await;
        let receiver = Receiver::start_at((address, 0).into()).await.expect("starts");
        let url = format!("http://localhost:{}/", receiver.address().port());
        let destination = gateway.api.create_destination(name, &url, json!({})).await;
        gateway.api.create_route(&source.id, &destination.id, json!({})).await;
        gateway.push(&source, b"{}");
        receiver.wait_for(1, SOON).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_completes_attempts_in_flight_and_exits_within_its_deadline() {
    let mut gateway = Gateway::relay_only_with(|settings| settings.with("TIDEGATE_SHUTDOWN_S", "10")).await;
    let line = gateway.line("slow").await;
    line.receiver.always(Behaviour::Delay(Duration::from_secs(1)));
    gateway.push(&line.source, b"{}");
    line.receiver.wait_for(1, SOON).await;
    let begun = Instant::now();
    let status = gateway.relay.stop().await.expect("stops");
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    gateway.relay.start_again().await.expect("starts again");
    let settled = gateway.relay.api().all("/v1/deliveries?state=succeeded").await;
    assert_eq!((settled.len(), line.receiver.count()), (1, 1), "sent once and settled before the exit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_in_time_although_a_destination_hangs_and_the_database_is_down() {
    let mut server = Server::start_private().await.expect("starts");
    let mut gateway = Gateway::relay_only_on_server(&server).await;
    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again_with(|settings| settings.with("TIDEGATE_SHUTDOWN_S", "4")).await.expect("starts again");
    let line = gateway.line("hanging").await;
    line.receiver.always(Behaviour::Hang);
    gateway.push(&line.source, b"{}");
    line.receiver.wait_for(1, SOON).await;
    server.stop(Shutdown::Immediate).await.expect("stops");
    gateway.push(&line.source, b"{}");
    until("the message to be pulled", SOON, async || match gateway.queue.counters() {
        counters if counters.in_flight > 0 => Ok(()),
        counters => Err(format!("{counters:?}")),
    })
    .await;
    let begun = Instant::now();
    let status = gateway.relay.stop().await.expect("stops");
    assert!(status.success(), "{status}");
    // The four seconds of the setting, 0.8 s for closing connections, and the rest for a slow machine.
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

/// Waits until the only delivery has at least `count` attempts, and returns its attempts.
pub(crate) async fn attempts_of_the_only_delivery(api: &harness::api::Api, count: usize) -> Vec<serde_json::Value> {
    until("the attempts", SOON, async || {
        let deliveries = api.all("/v1/deliveries").await;
        let [delivery] = deliveries.as_slice() else { return Err(format!("{} deliveries", deliveries.len())) };
        let id = delivery["id"].as_str().unwrap_or_default();
        let attempts = api.get(&format!("/v1/deliveries/{id}/attempts")).await.expect_status(200);
        let attempts = attempts["data"].as_array().cloned().unwrap_or_default();
        if attempts.len() >= count { Ok(attempts) } else { Err(format!("{} attempts: {delivery}", attempts.len())) }
    })
    .await
}
