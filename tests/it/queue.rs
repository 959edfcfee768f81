//! queue: a request is in the queue, complete, before it is accepted, and one that cannot be queued is not accepted.

use harness::api::http_client;
use harness::gateway::Gateway;
use harness::provider::{KeySetServer, Provider, now_s};
use harness::queue::Times;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shared::envelope::Body;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_503_while_the_queue_is_overloaded_and_the_providers_resend_succeeds() {
    let edge = Gateway::bare_edge().await;
    let provider = Provider::stripe();
    let source = edge.edge.put_source("overloaded", &provider).await;
    let request = provider.sample("evt_overloaded");

    edge.queue.fault(|faults| faults.overloaded = Times::UntilCleared);
    let response = request.send(&http_client(), &source.url).await.expect("answers");
    assert_eq!(response.status(), 503);
    let retry_after = response.headers()["retry-after"].to_str().expect("is text").to_owned();
    assert!(retry_after.parse::<u64>().is_ok_and(|seconds| (1..=60).contains(&seconds)), "{retry_after}");
    assert_eq!(response.json::<Value>().await.expect("is JSON"), json!({ "error": "try_again" }));
    assert!(edge.events(&source).is_empty());

    edge.queue.clear_faults();
    let response = request.send(&http_client(), &source.url).await.expect("answers");
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.expect("is JSON");
    let (header, body) = edge.wait_for_events(&source, 1).await.remove(0);
    assert_eq!(answer["id"], header.id.to_string());
    assert_eq!(body, Body::Inline(request.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_to_a_queue_that_is_overloaded_for_a_moment_is_repeated_with_the_same_event_id() {
    let edge = Gateway::bare_edge().await;
    let provider = Provider::stripe();
    let source = edge.edge.put_source("for-a-moment", &provider).await;
    edge.queue.fault(|faults| faults.overloaded = Times::Next(1));
    let response = provider.sample("evt_moment").send(&http_client(), &source.url).await.expect("answers");
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.expect("is JSON");
    let (header, _) = edge.wait_for_events(&source, 1).await.remove(0);
    assert_eq!(answer["id"], header.id.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_with_every_byte_value_is_queued_byte_for_byte() {
    let edge = Gateway::shared_edge().await;
    let provider = Provider::github();
    let source = edge.edge.put_source("every-byte", &provider).await;
    let body: Vec<u8> = (0..=255).collect();
    let request = provider.sign("delivery-1", &body, now_s()).with_header("Content-Type", "application/octet-stream");
    assert_eq!(request.send(&http_client(), &source.url).await.expect("answers").status(), 200);
    let (header, queued) = edge.wait_for_events(&source, 1).await.remove(0);
    assert_eq!(queued, Body::Inline(body));
    assert_eq!(header.headers.get("content-type"), Some("application/octet-stream"));
    assert_eq!(header.headers.get("x-github-delivery"), Some("delivery-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_a_megabyte_is_stored_and_fetched_byte_for_byte() {
    let edge = Gateway::shared_edge().await;
    let provider = Provider::github();
    let source = edge.edge.put_source("megabyte", &provider).await;
    let body: Vec<u8> = (0..1_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let request = provider.sign("delivery-1", &body, now_s());
    assert_eq!(request.send(&http_client(), &source.url).await.expect("answers").status(), 200);

    let (_, queued) = edge.wait_for_events(&source, 1).await.remove(0);
    let Body::Stored { key, size, sha256 } = queued else {
        panic!("a megabyte does not fit into a message: {queued:?}")
    };
    assert_eq!((size, sha256), (1_000_000, hex::encode(Sha256::digest(&body))));
    let admin = edge.edge.admin();
    let path = format!("/admin/bodies/{key}");
    assert!(admin.bytes(&path).await == body, "the stored body differs");
    assert_eq!(admin.delete(&path).await.status, 204);
    assert_eq!(admin.get(&path).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_configuration_is_in_memory_gives_the_same_responses_when_the_queue_fails() {
    let edge = Gateway::bare_edge().await;
    let provider = Provider::stripe();
    for (name, padding) in [("in-memory", 0), ("in-memory-large", 100_000)] {
        let source = edge.edge.put_source(name, &provider).await;
        let body = |id: &str| json!({ "id": id, "type": "test", "padding": "x".repeat(padding) }).to_string();
        let send = async |id: &str| {
            let request = provider.sign(id, body(id).as_bytes(), now_s());
            let response = request.send(&http_client(), &source.url).await.expect("answers");
            (response.status().as_u16(), response.headers().contains_key("retry-after"), response.json::<Value>().await)
        };
        assert_eq!(send("evt_first").await.0, 200, "from here on its configuration is in memory");

        edge.queue.fault(|faults| faults.overloaded = Times::UntilCleared);
        let (status, retry_after, answer) = send("evt_refused").await;
        assert_eq!((status, retry_after), (503, true), "{name}");
        assert_eq!(answer.expect("is JSON"), json!({ "error": "try_again" }));

        edge.queue.fault(|faults| faults.overloaded = Times::Next(2));
        let (status, _, answer) = send("evt_moment").await;
        assert_eq!(status, 200, "{name}");
        let events = edge.wait_for_events(&source, 2).await;
        assert_eq!(answer.expect("is JSON")["id"], events[1].0.id.to_string(), "tried again with the same id");
        assert_eq!(events[1].1, Body::Inline(body("evt_moment").into_bytes()), "and with all of its body");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_verified_and_queued_byte_for_byte_whatever_it_contains() {
    let edge = Gateway::bare_edge().await;
    let keys = KeySetServer::start().await.expect("starts");
    let text = |characters: &str, bytes: usize| characters.repeat(bytes / characters.len()).into_bytes();
    let bodies = [
        text("{\"a\":1}", 100),
        text("\u{e9}\n\u{1f600}\0", 100),
        vec![0xff; 100],
        text("a", 8_001),
        text("a", 100_000),
        text("\u{e9}\n\u{1f600}", 100_000),
        text("\u{e9}\n\u{1f600}\0", 60_000),
        [b"\xef\xbb\xbf".as_slice(), &text("b", 20_000)].concat(),
        [text("c", 50_000), vec![0xff]].concat(),
    ];
    let providers = [
        ("whole-github", Provider::github()),
        ("whole-stripe", Provider::stripe()),
        ("whole-shopify", Provider::shopify()),
        ("whole-sendgrid", Provider::sendgrid()),
        ("whole-ed25519", Provider::standard_webhooks_ed25519()),
        ("whole-fal", Provider::fal(&keys)),
    ];
    for (name, provider) in providers {
        let source = edge.edge.put_source(name, &provider).await;
        let send = async |body: &[u8]| {
            let request = provider.sign("delivery", body, now_s());
            request.send(&http_client(), &source.url).await.expect("answers").status().as_u16()
        };
        assert_eq!(send(b"{}").await, 200, "{name}: from here on its configuration and its keys are in memory");
        for (at, body) in bodies.iter().enumerate() {
            assert_eq!(send(body).await, 200, "{name}, body {at}");
            let queued = edge.wait_for_events(&source, at + 2).await;
            let whole = Body::Inline(body.clone());
            assert!(queued.iter().any(|(_, queued)| *queued == whole), "{name}, body {at} has changed on its way");
            let mut changed = provider.sign("delivery", body, now_s());
            changed.body[body.len() / 2] ^= 1;
            let refused = changed.send(&http_client(), &source.url).await.expect("answers").status();
            assert_eq!(refused, 401, "{name}, body {at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_that_arrive_concurrently_are_each_verified_by_their_own_bytes() {
    let edge = Gateway::bare_edge().await;
    let mut provider = Provider::stripe();
    // The first secret does not match, so that each body is hashed twice.
    provider.secrets.insert(0, Provider::stripe().secrets.remove(0));
    let source = edge.edge.put_source("at-once", &provider).await;
    let client = http_client();
    let warm = provider.sign("", b"{}", now_s()).send(&client, &source.url).await.expect("answers");
    assert_eq!(warm.status(), 200, "from here on its configuration is in memory");

    let bodies: Vec<Vec<u8>> = (b'A'..=b'Z').map(|letter| vec![letter; 9_000 + usize::from(letter) * 1_000]).collect();
    let mut sent = tokio::task::JoinSet::new();
    for (at, body) in bodies.iter().enumerate() {
        for is_changed in [false, true] {
            let mut request = provider.sign("", body, now_s());
            // Flips one bit. For most bodies, the byte then is that of another body.
            request.body[4_000] ^= u8::from(is_changed);
            let (client, url) = (client.clone(), source.url.clone());
            sent.spawn(async move {
                let status = request.send(&client, &url).await.expect("answers").status().as_u16();
                assert_eq!(status, if is_changed { 401 } else { 200 }, "body {at}");
            });
        }
    }
    while let Some(done) = sent.join_next().await {
        done.expect("the status is the expected one");
    }
    let queued = edge.wait_for_events(&source, bodies.len() + 1).await;
    for body in bodies {
        let whole = Body::Inline(body);
        assert!(queued.iter().any(|(_, queued)| *queued == whole), "a body has changed on its way");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_folded_over_several_lines_is_one_value_and_adds_no_other_header() {
    let edge = Gateway::bare_edge().await;
    let provider = Provider::stripe();
    let source = edge.edge.put_source("folded", &provider).await;
    let request = provider.sample("evt_folded");
    assert_eq!(
        request.send(&http_client(), &source.url).await.expect("answers").status(),
        200,
        "from here on it is in memory"
    );

    // Line folding is deprecated (RFC 9112, section 5.2): a server replaces the line breaks or refuses the request.
    let (address, path) = source.url.trim_start_matches("http://").split_once('/').expect("a path");
    let mut head = format!("POST /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    head.push_str(&format!("content-length: {}\r\n", request.body.len()));
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("x-folded: a\r\n b\r\n\tx-inner: c\r\n\r\n");
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(&[head.as_bytes(), &request.body].concat()).await.expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (header, body) = edge.wait_for_events(&source, 2).await.remove(1);
    assert_eq!(body, Body::Inline(request.body));
    let folded = header.headers.get("x-folded").expect("is kept");
    assert!(folded.starts_with('a') && folded.ends_with("x-inner: c") && !folded.contains(['\r', '\n']), "{folded:?}");
    assert!(header.headers.get("x-inner").is_none(), "{:?}", header.headers);
}
