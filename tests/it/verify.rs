//! verify: the requests that the edge accepts and refuses, in workerd.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::api::http_client;
use harness::edge::EdgeSource;
use harness::gateway::{EdgeOnly, Gateway};
use harness::provider::{KeySetServer, Provider, SignedRequest, now_s};
use serde_json::{Value, json};

/// Sends a request to a source.
async fn send(source: &EdgeSource, request: &SignedRequest) -> (u16, Value) {
    let response = request.send(&http_client(), &source.url).await.expect("the edge answers");
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}

async fn assert_refused(source: &EdgeSource, request: &SignedRequest, what: &str) {
    let provider = &source.config.name;
    assert_eq!(send(source, request).await, (401, json!({ "error": "signature_refused" })), "{provider}: {what}");
}

async fn source_of_each_provider(edge: &EdgeOnly, name: &str) -> (Vec<(Provider, EdgeSource)>, KeySetServer) {
    let keys = KeySetServer::start().await.expect("starts");
    let mut sources = Vec::new();
    for provider in Provider::all(&keys) {
        let name = format!("{name}-{}", provider.label.replace(' ', "-"));
        let source = edge.edge.put_source(&name, &provider).await;
        sources.push((provider, source));
    }
    (sources, keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_each_provider_is_accepted_and_queued_byte_for_byte() {
    let edge = Gateway::shared_edge().await;
    let (sources, keys) = source_of_each_provider(edge, "accepted").await;
    for (provider, source) in &sources {
        let request = provider.sample("evt_accepted");
        let (status, answer) = send(source, &request).await;
        assert_eq!(status, 200, "{}: {answer}", provider.label);

        let (header, body) = edge.wait_for_events(source, 1).await.remove(0);
        // Slack reads the response, and gets an empty body.
        let own_response =
            shared::provider::find(provider.id).is_some_and(|entry| entry.acknowledgement.body.is_some());
        let id = if own_response { Value::Null } else { json!(header.id.to_string()) };
        assert_eq!(answer["id"], id, "{}", provider.label);
        assert_eq!(body, shared::envelope::Body::Inline(request.body.clone()), "{}", provider.label);
        assert_eq!(header.verification, shared::envelope::Verification::Verified, "{}", provider.label);
    }
    assert!(keys.requests() >= 1, "fal's keys are fetched from the server that publishes them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_body_is_refused_if_the_provider_signs_the_body() {
    let edge = Gateway::shared_edge().await;
    let (sources, _keys) = source_of_each_provider(edge, "body").await;
    for (provider, source) in sources.iter().filter(|(provider, _)| provider.signs_the_body()) {
        let good = provider.sample("evt_body");
        let mut last_byte = good.body.clone();
        *last_byte.last_mut().expect("is not empty") ^= 1;
        assert_refused(source, &good.clone().with_body(last_byte), "one bit changed").await;
        assert_refused(source, &good.clone().with_body([good.body.as_slice(), b"\n"].concat()), "a newline added")
            .await;
        assert_refused(source, &good.with_body(""), "no body").await;
        assert!(edge.events(source).is_empty(), "{}", provider.label);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_missing_or_empty_signature_header_is_refused() {
    let edge = Gateway::shared_edge().await;
    let (sources, _keys) = source_of_each_provider(edge, "header").await;
    for (provider, source) in &sources {
        let good = provider.sample("evt_header");
        let name = good.signature_header;
        let signature = good.header(name).to_owned();
        // Two characters: the last may be padding.
        let cut = signature[..signature.len() - 2].to_owned();
        // The fourth from the end is a digit of the signature in every encoding, also before padding.
        let at = signature.len() - 4;
        let other = if signature.as_bytes()[at] == b'0' { '1' } else { '0' };
        let changed = format!("{}{other}{}", &signature[..at], &signature[at + 1..]);
        assert_refused(source, &good.clone().with_header(name, &changed), "one digit of the signature changed").await;
        assert_refused(source, &good.clone().with_header(name, &cut), "the end of the signature missing").await;
        assert_refused(source, &good.clone().with_header(name, ""), "an empty signature").await;
        assert_refused(source, &good.clone().without_header(name), "no signature").await;
        if let Some(time) = good.timestamp_header {
            let later = (now_s() + 1).to_string();
            assert_refused(source, &good.clone().with_header(time, &later), "another time under the signature").await;
            assert_refused(source, &good.clone().without_header(time), "no time").await;
        }
        assert!(edge.events(source).is_empty(), "{}", provider.label);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_signature_or_timestamp_header_is_refused() {
    let edge = Gateway::shared_edge().await;
    let (sources, _keys) = source_of_each_provider(edge, "twice").await;
    for (provider, source) in &sources {
        let good = provider.sample("evt_twice");
        for name in [Some(good.signature_header), good.timestamp_header].into_iter().flatten() {
            let value = good.header(name).to_owned();
            assert_refused(source, &good.clone().and_header(name, &value), &format!("{name} twice")).await;
        }
        assert!(edge.events(source).is_empty(), "{}", provider.label);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_signed_too_long_ago_or_in_the_future_is_refused() {
    let edge = Gateway::shared_edge().await;
    let (sources, _keys) = source_of_each_provider(edge, "time").await;
    for (provider, source) in &sources {
        let Some(tolerance_s) = provider.tolerance_s() else { continue };
        let signed_at = |at_s| provider.sign("evt_time", &provider.sample_body("evt_time"), at_s);
        assert_refused(source, &signed_at(now_s() - tolerance_s - 30), "signed too long ago").await;
        assert_refused(source, &signed_at(now_s() + tolerance_s + 30), "signed in the future").await;
        assert_eq!(send(source, &signed_at(now_s() - tolerance_s + 60)).await.0, 200, "{}", provider.label);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_signed_with_another_secret_is_refused() {
    let edge = Gateway::shared_edge().await;
    let (sources, keys) = source_of_each_provider(edge, "secret").await;
    let others = KeySetServer::start().await.expect("starts");
    for (provider, source) in &sources {
        match provider.with_another_secret() {
            Some(other) => assert_refused(source, &other.sample("evt_secret"), "another secret").await,
            None => {
                assert_refused(source, &Provider::fal(&others).sample("evt_secret"), "another key").await;
                let neighbour = Provider::fal(&keys);
                assert_refused(source, &neighbour.sample("evt_secret"), "the right key, another customer of fal").await;
            }
        }
        assert!(edge.events(source).is_empty(), "{}", provider.label);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_without_a_refused_request() {
    let edge = Gateway::shared_edge().await;
    let (old, new) = (Provider::stripe(), Provider::stripe());
    let mut source = edge.edge.put_source("rotation", &old).await;

    let sends_new = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicBool::new(false));
    let sender = tokio::spawn({
        let (old, new, source) = (old.clone(), new.clone(), source.clone());
        let (sends_new, done) = (Arc::clone(&sends_new), Arc::clone(&done));
        async move {
            let mut statuses = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let provider = if sends_new.load(Ordering::Relaxed) { &new } else { &old };
                statuses.push(send(&source, &provider.sample("evt_rotation")).await.0);
            }
            statuses
        }
    });

    edge.wait_for_at_least(&source, 10).await;
    edge.edge.change_secrets(&mut source, &[new.secrets[0].clone(), old.secrets[0].clone()]).await;
    sends_new.store(true, Ordering::Relaxed);
    let so_far = edge.events(&source).len();
    edge.wait_for_at_least(&source, so_far + 10).await;
    edge.edge.change_secrets(&mut source, &new.secrets).await;
    let so_far = edge.events(&source).len();
    edge.wait_for_at_least(&source, so_far + 10).await;
    done.store(true, Ordering::Relaxed);

    let statuses = sender.await.expect("ends");
    let refused = statuses.iter().filter(|status| **status != 200).count();
    assert_eq!(refused, 0, "of {} requests", statuses.len());
    assert_refused(&source, &old.sample("evt_rotation"), "the secret that was removed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_source_is_404_and_a_known_one_can_also_be_reached_by_its_name() {
    let edge = Gateway::shared_edge().await;
    let provider = Provider::github();
    let source = edge.edge.put_source("by-its-name", &provider).await;
    let url = |name: &str| EdgeSource { url: format!("{}/in/{name}", edge.edge.url()), ..source.clone() };
    for unknown in ["src_0197f3c8d2a17c3e9b5d0a4c6f7e8b91", "nobody", "..%2Fadmin", ""] {
        let (status, answer) = send(&url(unknown), &provider.sample("evt_1")).await;
        assert_eq!(status, 404, "{unknown}: {answer}");
    }
    let (_, answer) = send(&url("nobody"), &provider.sample("evt_1")).await;
    assert_eq!(answer, json!({ "error": "unknown_source" }));
    assert_eq!(send(&url("by-its-name"), &provider.sample("evt_1")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_413_and_one_at_the_limit_is_accepted() {
    let edge = Gateway::shared_edge().await;
    let provider = Provider::github();
    let source = edge.edge.put_source_with("cap", &provider, json!({ "max_body_bytes": 1_000 })).await;
    let of_size = |bytes: usize| provider.sign("evt_cap", &vec![b'x'; bytes], now_s());
    let (status, answer) = send(&source, &of_size(1_001)).await;
    assert_eq!((status, &answer["error"]), (413, &json!("body_too_large")));
    assert_eq!(send(&source, &of_size(1_000)).await.0, 200);
    edge.wait_for_events(&source, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slacks_handshake_is_answered_only_if_it_is_signed() {
    let edge = Gateway::shared_edge().await;
    let provider = Provider::slack();
    let source = edge.edge.put_source("challenge", &provider).await;
    let body = json!({ "type": "url_verification", "token": "t", "challenge": "3eZbrw1aB" }).to_string();
    let request = provider.sign("", body.as_bytes(), now_s());
    let response = request.send(&http_client(), &source.url).await.expect("answers");
    assert_eq!(response.status(), 200);
    let content_type = response.headers()["content-type"].to_str().expect("is text").to_owned();
    assert!(content_type.starts_with("text/plain"), "{content_type}");
    assert_eq!(response.text().await.expect("reads"), "3eZbrw1aB");
    assert_refused(&source, &request.with_header("X-Slack-Signature", "v0=00"), "an unsigned handshake").await;
    assert!(edge.events(&source).is_empty(), "a handshake is not an event");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_keys_cannot_be_fetched_is_503_so_that_the_provider_sends_it_again() {
    let edge = Gateway::shared_edge().await;
    let keys = KeySetServer::start().await.expect("starts");
    keys.break_down();
    let provider = Provider::fal(&keys);
    let source = edge.edge.put_source("no-keys", &provider).await;
    let (status, answer) = send(&source, &provider.sample("evt_keys")).await;
    assert_eq!((status, &answer["error"]), (503, &json!("try_again")));
}
