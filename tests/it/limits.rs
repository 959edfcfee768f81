//! limits: responses without an end, a lack of file descriptors, and callers that send no request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::api::id;
use harness::gateway::{Gateway, RelayOnly};
use harness::provider::Provider;
use harness::receiver::{Behaviour, Receiver};
use harness::relay::{RelaySettings, run};
use harness::wait::{LONG, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::deliver::attempts_of_the_only_delivery;

/// Waits until `count` deliveries have succeeded, and returns them.
async fn succeeded(gateway: &RelayOnly, count: usize) -> Vec<Value> {
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", count, LONG).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_200_response_whose_body_never_ends_is_a_success_and_frees_its_slot() {
    let gateway = Gateway::relay_only().await;
    let source = gateway.api.create_source("limits", &Provider::standard_webhooks()).await;
    let receiver = Receiver::behaving(Behaviour::SlowDrip(Duration::from_millis(20))).await.expect("starts");
    // If the relay waited for the body until then, it would use the only slot for longer than this test waits.
    let settings = json!({ "max_concurrency": 1, "timeout_ms": 120_000 });
    let destination = gateway.api.create_destination("drips", &receiver.url(), settings).await;
    gateway.api.create_route(&source.id, &destination.id, json!({})).await;
    for number in 0..4 {
        gateway.push(&source, json!({ "number": number }).to_string().as_bytes());
    }
    receiver.wait_for(4, LONG).await;
    for delivery in succeeded(&gateway, 4).await {
        let id = id(&delivery);
        let attempts = gateway.api.all(&format!("/v1/deliveries/{id}/attempts")).await;
        assert_eq!(attempts.len(), 1, "{attempts:?}");
        let excerpt = attempts[0]["response_excerpt"].as_str().unwrap_or_default();
        assert!(excerpt.starts_with('.') && excerpt.ends_with('\u{2026}'), "{attempts:?}");
    }
}

/// A destination that answers 200 at once and never ends the body. Returns its URL, and the maximum number of responses
/// that were open at one time.
async fn endless() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let highest = Arc::clone(&most);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (open, highest) = (Arc::clone(&open), Arc::clone(&highest));
            tokio::spawn(async move {
                let mut request = vec![0; 64 * 1024];
                let _ = socket.read(&mut request).await;
                highest.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: open\n\n";
                let _ = socket.write_all(head).await;
                // Until the relay closes the connection.
                while matches!(socket.read(&mut request).await, Ok(1..)) {}
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (url, most)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_delivery_does_not_wait_for_the_body_of_a_response() {
    let gateway = Gateway::relay_only().await;
    let source = gateway.api.create_source("limits", &Provider::standard_webhooks()).await;
    let (url, most_open) = endless().await;
    let destination = gateway.api.create_destination("endless", &url, json!({ "max_concurrency": 1 })).await;
    gateway.api.create_route(&source.id, &destination.id, json!({})).await;
    for number in 0..12 {
        gateway.push(&source, json!({ "number": number }).to_string().as_bytes());
    }
    for delivery in succeeded(&gateway, 12).await {
        let id = id(&delivery);
        let attempts = gateway.api.all(&format!("/v1/deliveries/{id}/attempts")).await;
        assert_eq!(attempts[0]["response_excerpt"], ": open\n\n\u{2026}", "{attempts:?}");
    }
    // The relay waits for several bodies concurrently, although it sends one delivery at a time.
    assert!(most_open.load(Ordering::SeqCst) >= 4, "{most_open:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_to_a_stored_url_that_cannot_be_requested_is_held_with_the_reason_and_the_log_omits_its_query() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("odd").await;
    let odd = "http://{tenant}.example.com/hook?token=sesame";
    let refused = gateway.api.post("/v1/destinations", &json!({ "name": "new", "url": odd })).await;
    assert_eq!(refused.expect_status(422)["code"], "egress_url_unsendable");

    // Stored without the API, which refuses it.
    let mut database = gateway.database.connect().await.expect("connects");
    sqlx::query("update destinations set url = $1").bind(odd).execute(&mut database).await.expect("changes");
    let renewed = "update configuration set revision = revision + 1, identity = gen_random_uuid()";
    sqlx::query(renewed).execute(&mut database).await.expect("changes");
    gateway.push(&line.source, b"{}");
    let held = gateway.api.wait_for_row("/v1/deliveries?state=held", LONG).await;
    assert_eq!(held["attempts"], 0, "{held}");
    let reason = held["held_reason"].as_str().unwrap_or_default();
    assert!(reason.contains("the host in the URL is invalid"), "{held}");
    assert!(!gateway.relay.log().contains("sesame"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lack_of_file_descriptors_costs_no_attempt_and_everything_is_delivered() {
    let settings = |settings: RelaySettings| settings.with_open_files(90).with("TIDEGATE_DATABASE_CONNECTIONS", "4");
    let gateway = Gateway::relay_only_with(settings).await;
    let source = gateway.api.create_source("limits", &Provider::standard_webhooks()).await;
    let receiver = Receiver::behaving(Behaviour::Delay(Duration::from_secs(3))).await.expect("starts");
    let settings = json!({ "max_concurrency": 150, "timeout_ms": 60_000 });
    let destination = gateway.api.create_destination("crowded", &receiver.url(), settings).await;
    gateway.api.create_route(&source.id, &destination.id, json!({})).await;
    for number in 0..150 {
        gateway.push(&source, json!({ "number": number }).to_string().as_bytes());
    }
    gateway.relay.wait_for_log("Too many open files", LONG).await;
    receiver.always(Behaviour::Status(200));
    until("no descriptor to be missing for a connection to the database", LONG, async || {
        match gateway.api.get("/v1/deliveries?state=succeeded").await.status {
            200 => Ok(()),
            status => Err(format!("status {status}")),
        }
    })
    .await;
    for delivery in succeeded(&gateway, 150).await {
        assert_eq!(delivery["attempts"], 1, "{delivery}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_send_no_request_take_no_file_descriptor_that_a_delivery_needs() {
    let settings = |settings: RelaySettings| settings.with_open_files(200).with("TIDEGATE_DATABASE_CONNECTIONS", "4");
    let gateway = Gateway::relay_only_with(settings).await;
    let line = gateway.line("calm").await;
    let address = gateway.relay.url().trim_start_matches("http://").to_owned();
    let mut silent = Vec::new();
    for number in 0..400 {
        let mut socket = TcpStream::connect(&address).await.expect("connects");
        if number % 2 == 0 {
            socket.write_all(b"POST /v1/sources HTTP/1.1\r\nhost: a").await.expect("sends");
        }
        silent.push(socket);
    }
    for number in 0..50 {
        gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes());
    }
    line.receiver.wait_for(50, LONG).await;
    drop(silent);
    for delivery in succeeded(&gateway, 50).await {
        assert_eq!(delivery["attempts"], 1, "{delivery}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_warns_of_too_few_open_files_and_doctor_accepts_enough_of_them() {
    let gateway = Gateway::relay_only_with(|settings| settings.with_open_files(1_000)).await;
    assert!(gateway.relay.log().contains("can open 1000 files, but needs"), "{}", gateway.relay.log());
    let many = gateway.relay.settings().clone().with("TIDEGATE_MAX_IN_FLIGHT", "10");
    let printed = run("doctor", many.variables()).await.expect("runs");
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(printed.lines().any(|line| line.contains("files") && line.starts_with("ok")), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_response_starts_a_back_off_and_does_not_count_on_the_schedule_of_its_delivery() {
    let gateway = Gateway::relay_only().await;
    let source = gateway.api.create_source("limits", &Provider::standard_webhooks()).await;
    let receiver = Receiver::start().await.expect("starts");
    receiver.next([Behaviour::Status(429), Behaviour::Status(429)]);
    // The schedule has a single attempt.
    let settings = json!({ "retry": { "schedule_s": [0] } });
    let destination = gateway.api.create_destination("busy", &receiver.url(), settings).await;
    gateway.api.create_route(&source.id, &destination.id, json!({})).await;
    gateway.push(&source, b"{}");
    let requests = receiver.wait_for(3, LONG).await;
    let waits: Vec<Duration> = requests.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(waits[0] >= Duration::from_millis(790) && waits[1] >= Duration::from_millis(1_590), "{waits:?}");
    let delivery = &succeeded(&gateway, 1).await[0];
    assert_eq!(delivery["attempts"], 3, "{delivery}");
    let attempts = attempts_of_the_only_delivery(&gateway.api, 3).await;
    let statuses: Vec<&Value> = attempts.iter().map(|attempt| &attempt["status"]).collect();
    assert_eq!(statuses, [&json!(429), &json!(429), &json!(200)]);
}
