//! sent: the request that a destination receives, and which responses count as success.

use std::time::Duration;

use harness::api::id;
use harness::gateway::{Gateway, RelayOnly};
use harness::provider::{Provider, now_s};
use harness::raw_receiver::{RawReceiver, Then};
use harness::receiver::Receiver;
use harness::wait::{SOON, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Waits until every delivery of a destination has ended, and returns them.
async fn ended(gateway: &RelayOnly, destination: &str, count: usize) -> Vec<Value> {
    until(&format!("the deliveries to {destination} to end"), SOON, async || {
        let deliveries = gateway.api.all(&format!("/v1/deliveries?destination={destination}")).await;
        let ended = deliveries.iter().filter(|delivery| delivery["settled_at"].is_string()).count();
        if ended == count { Ok(deliveries) } else { Err(format!("{ended} of {count}: {:?}", deliveries.first())) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transformed_body_is_sent_without_the_headers_that_describe_the_original_bytes() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("as-it-is").await;
    let receiver = Receiver::start().await.expect("starts");
    let destination = gateway.api.create_destination("made", &receiver.url(), json!({})).await;
    let transform = json!({ "transform": "{'query': event.query, 'method': event.method}" });
    gateway.api.create_route(&line.source.id, &destination.id, transform).await;
    let describing = [
        ("content-encoding", "gzip"),
        ("content-md5", "Q2hlY2sgSW50ZWdyaXR5IQ=="),
        ("digest", "sha-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE="),
        ("content-digest", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"),
        ("etag", "\"1\""),
    ];
    let headers: Vec<(&str, &str)> =
        [("content-type", "application/json"), ("x-event", "paid")].into_iter().chain(describing).collect();
    gateway.push_request(&line.source, "a=1&b=%20", &headers, b"\x1f\x8b\x08");

    let made = receiver.wait_for(1, SOON).await.remove(0);
    let body: Value = serde_json::from_slice(&made.body).expect("JSON");
    assert_eq!(body, json!({ "query": "a=1&b=%20", "method": "POST" }));
    let as_it_is = line.receiver.wait_for(1, SOON).await.remove(0);
    assert_eq!(as_it_is.body, b"\x1f\x8b\x08".as_slice());
    for (name, value) in describing {
        assert_eq!((made.header(name), as_it_is.header(name)), ("", value), "{name}");
    }
    for request in [made, as_it_is] {
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.header("x-event"), "paid");
        assert_eq!(request.header("tidegate-original-query"), "a=1&b=%20");
        assert_eq!((request.header("tidegate-original-method"), request.path.as_str()), ("POST", "/hook"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn append_query_adds_the_query_to_the_url_and_a_delivery_whose_url_is_too_long_is_held() {
    let gateway = Gateway::relay_only().await;
    let source = gateway.api.create_source("queries", &Provider::standard_webhooks()).await;
    let receiver = Receiver::start().await.expect("starts");
    let url = format!("{}?own=1", receiver.url());
    let by_name = "/v1/destinations/by-name/queries";
    let made = gateway.api.put(by_name, &json!({ "url": url, "append_query": true })).await.expect_status(201);
    assert_eq!(made["append_query"], true);
    let id = id(&made).to_owned();
    gateway.api.create_route(&source.id, &id, json!({})).await;
    let shown = gateway.api.get(&format!("/v1/destinations/{id}")).await.expect_status(200);
    assert_eq!(shown["append_query"], true);

    gateway.push_request(&source, "topic=payment&data.id=123#@elsewhere.example/", &[], b"{}");
    let received = receiver.wait_for(1, SOON).await.remove(0);
    assert_eq!(received.path, "/hook?own=1&topic=payment&data.id=123%23@elsewhere.example/");
    gateway.push_request(&source, "", &[], b"{}");
    let received = receiver.wait_for(2, SOON).await.remove(1);
    assert_eq!(received.path, "/hook?own=1");
    assert_eq!(received.headers.get("tidegate-original-query").map(http::HeaderValue::as_bytes), Some(&b""[..]));

    gateway.push_request(&source, &"x".repeat(9_000), &[], b"{}");
    let held = gateway.api.wait_for_row("/v1/deliveries?state=held", SOON).await;
    assert_eq!((&held["held_by"], &held["attempts"]), (&json!("url"), &json!(0)), "{held}");
    let reason = held["held_reason"].as_str().unwrap_or_default();
    assert!(reason.contains("append_query"), "{reason}");

    let changed = gateway.api.put(by_name, &json!({ "url": url })).await.expect_status(200);
    assert_eq!(changed["append_query"], false, "a field that PUT omits gets its default");
    let released = json!({ "destination": id });
    gateway.api.post("/v1/deliveries/release", &released).await.expect_status(200);
    let received = receiver.wait_for(3, SOON).await.remove(2);
    assert_eq!(received.path, "/hook?own=1");
    assert!(!received.headers.contains_key("tidegate-original-query"), "the query is too long for a header");
}

#[tokio::test(flavor = "multi_thread")]
async fn utf_8_header_values_and_the_query_reach_the_destination_unchanged() {
    let gateway = Gateway::start_bare().await;
    let receiver = RawReceiver::start(OK, Then::Keep).await.expect("starts");
    let provider = Provider::github();
    let source = gateway.api.create_source("bytes", &provider).await;
    let destination = gateway.api.create_destination("bytes", &receiver.url(), json!({})).await;
    gateway.api.create_route(&source.id, &destination.id, json!({})).await;
    // The last three are not UTF-8: workerd replaces each invalid byte by U+FFFD before the Worker sees it.
    let values: [(&str, &[u8], &[u8]); 4] = [
        ("x-utf-8", "caf\u{e9} \u{20ac} \u{1f600}".as_bytes(), "caf\u{e9} \u{20ac} \u{1f600}".as_bytes()),
        ("x-latin-1", b"caf\xe9", "caf\u{fffd}".as_bytes()),
        ("x-mixed", b"\xc3\xa9 \xe9", "\u{e9} \u{fffd}".as_bytes()),
        ("x-c1", b"\x80\xff", "\u{fffd}\u{fffd}".as_bytes()),
    ];
    let body = br#"{"action":"opened"}"#;
    let signed = provider.sign("delivery-1", body, now_s());
    let address = gateway.edge.url().trim_start_matches("http://").to_owned();
    let path = source.ingest_url.split_once(&address).expect("an address of the edge").1;
    let mut request = format!("POST {path}?topic=payment&data.id=1%20x HTTP/1.1\r\nhost: {address}\r\n").into_bytes();
    request.extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n", body.len()).as_bytes());
    for (name, value) in &signed.headers {
        request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    for (name, value, _) in values {
        request.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    let mut edge = TcpStream::connect(&address).await.expect("connects");
    edge.write_all(&request).await.expect("sends");
    let mut answer = Vec::new();
    edge.read_to_end(&mut answer).await.expect("reads");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));

    let received = until("the delivery", SOON, async || {
        receiver.requests().into_iter().next().ok_or_else(|| "nothing has arrived".to_owned())
    })
    .await;
    for (name, _, value) in values {
        assert_eq!(received.header(name), Some(value), "{name}");
    }
    assert_eq!(received.header("tidegate-original-query"), Some(&b"topic=payment&data.id=1%20x"[..]));
    assert_eq!(received.header("tidegate-original-method"), Some(&b"POST"[..]));
    assert_eq!(received.body, body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_200_response_with_an_unusual_head_is_a_success_and_is_not_sent_again() {
    let gateway = Gateway::relay_only().await;
    let source = gateway.api.create_source("odd", &Provider::standard_webhooks()).await;
    let cookies: String = (0..150).map(|number| format!("Set-Cookie: c{number}=1\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "x".repeat(20_000));
    let heads: [(&str, &[u8]); 14] = [
        ("a-blank-before-the-colon", b"X-Powered-By : PHP\r\n"),
        ("no-colon", b"X-Broken\r\n"),
        ("latin-1", b"X-Name: M\xfcller\r\n"),
        ("a-folded-line", b"X-Fold: a\r\n b\r\n"),
        ("many-headers", cookies.as_bytes()),
        ("a-blank-in-a-name", b"X Name: a\r\n"),
        ("two-equal-lengths", b"Content-Length: 2\r\n"),
        ("two-lengths", b"Content-Length: 3\r\n"),
        ("a-long-header", long.as_bytes()),
        ("a-bare-line-feed", b"X-Line: a\n"),
        ("a-control-character", b"X-Control: a\x01b\r\n"),
        ("no-name", b": a\r\n"),
        ("a-length-and-an-encoding", b"Transfer-Encoding: identity\r\n"),
        ("ordinary", b"X-Ordinary: a\r\n"),
    ];
    let mut receivers = Vec::new();
    for (name, head) in heads {
        let answer = [b"HTTP/1.1 200 OK\r\n", head, b"Content-Length: 2\r\n\r\nok"].concat();
        let receiver = RawReceiver::start(answer, Then::Keep).await.expect("starts");
        let destination = gateway.api.create_destination(name, &receiver.url(), json!({ "max_concurrency": 1 })).await;
        gateway.api.create_route(&source.id, &destination.id, json!({})).await;
        receivers.push((name, receiver));
    }
    for number in 0..3 {
        gateway.push(&source, json!({ "number": number }).to_string().as_bytes());
    }
    for (name, receiver) in receivers {
        for delivery in ended(&gateway, name, 3).await {
            assert_eq!(
                (&delivery["state"], &delivery["attempts"]),
                (&json!("succeeded"), &json!(1)),
                "{name}: {delivery}"
            );
        }
        assert_eq!(receiver.requests().len(), 3, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_closes_idle_connections_causes_no_failed_attempt() {
    let gateway = Gateway::relay_only().await;
    let source = gateway.api.create_source("closing", &Provider::standard_webhooks()).await;
    // Paced so that requests are sent while the connections are being closed.
    let paced = json!({ "rate_limit": { "limit": 20, "per": "second" }, "max_concurrency": 2 });
    let closing = [
        ("at-once", Then::Close, json!({})),
        ("at-once-paced", Then::Close, paced.clone()),
        ("after-50-ms", Then::CloseAfter(Duration::from_millis(50)), paced.clone()),
        ("after-99-ms", Then::CloseAfter(Duration::from_millis(99)), paced),
    ];
    let mut receivers = Vec::new();
    for (name, then, settings) in closing {
        let receiver = RawReceiver::start(OK, then).await.expect("starts");
        let destination = gateway.api.create_destination(name, &receiver.url(), settings).await;
        gateway.api.create_route(&source.id, &destination.id, json!({})).await;
        receivers.push((name, receiver));
    }
    let count = 200;
    for number in 0..count {
        gateway.push(&source, json!({ "number": number }).to_string().as_bytes());
    }
    for (name, receiver) in receivers {
        for delivery in ended(&gateway, name, count).await {
            assert_eq!(
                (&delivery["state"], &delivery["attempts"]),
                (&json!("succeeded"), &json!(1)),
                "{name}: {delivery}"
            );
        }
        assert!(receiver.requests().len() >= count, "{name}");
    }
}
