use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::*;
use crate::api::http_client;

struct Client {
    queue: LocalQueue,
    http: reqwest::Client,
}

impl Client {
    async fn start() -> Self {
        Self { queue: LocalQueue::start(0, Queue::recipe()).await.expect("starts"), http: http_client() }
    }

    fn url(&self, path: &str) -> String {
        let (api, account, queue) = (self.queue.api_url(), self.queue.account_id(), self.queue.queue_id());
        format!("{api}/accounts/{account}/queues/{queue}{path}")
    }

    async fn call(&self, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.post(self.url(path)).bearer_auth(self.queue.token()).json(&body);
        let response = request.send().await.expect("answers");
        (response.status().as_u16(), response.json().await.expect("is JSON"))
    }

    async fn pull(&self) -> Vec<Value> {
        let (status, answer) = self.call("/messages/pull", json!({ "batch_size": 100 })).await;
        assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
        answer["result"]["messages"].as_array().expect("is a list").clone()
    }

    async fn send(&self, format: &str, body: Vec<u8>) -> reqwest::Response {
        let request = self.http.post(format!("{}/message", self.queue.url())).header("x-msg-fmt", format).body(body);
        request.send().await.expect("answers")
    }
}

fn code(response: &reqwest::Response) -> &str {
    response.headers().get("cf-queues-error-code").map_or("", |value| value.to_str().expect("is text"))
}

#[tokio::test]
async fn a_message_is_pushed_pulled_and_acknowledged_in_cloudflares_format() {
    let client = Client::start().await;
    let (status, answer) = client.call("/messages", json!({ "body": "hello", "content_type": "text" })).await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)));
    assert_eq!(answer["result"]["metadata"]["metrics"]["backlog_count"], 1);

    let pulled = client.pull().await;
    assert_eq!(pulled.len(), 1);
    assert_eq!((&pulled[0]["body"], &pulled[0]["attempts"]), (&json!("hello"), &json!(1)));
    assert_eq!(pulled[0]["metadata"]["CF-Content-Type"], "text");
    let lease = pulled[0]["lease_id"].as_str().expect("is text");
    assert!(lease.len() >= 200, "as long as Cloudflare's");
    assert!(client.pull().await.is_empty());

    let (status, answer) = client.call("/messages/ack", json!({ "acks": [{ "lease_id": lease }] })).await;
    assert_eq!((status, &answer["result"]["ackCount"]), (200, &json!(1)));
    let (_, answer) = client.call("/messages/ack", json!({ "acks": [{ "lease_id": lease }] })).await;
    assert_eq!(answer["result"]["ackCount"], 0);
    assert!(answer["result"]["warnings"][lease].is_string(), "{answer}");
    assert_eq!(client.queue.counters().acked, 1);
}

#[tokio::test]
async fn a_retried_message_is_redelivered_and_every_content_type_is_preserved() {
    let client = Client::start().await;
    let batch = json!({ "messages": [
        { "body": { "a": 1 }, "content_type": "json" },
        { "body": "plain", "content_type": "text" },
    ]});
    assert_eq!(client.call("/messages/batch", batch).await.0, 200);
    client.send("bytes", vec![0, 255, 10]).await;
    let pulled = client.pull().await;
    let bodies: Vec<&str> = pulled.iter().map(|message| message["body"].as_str().expect("is text")).collect();
    assert_eq!(bodies, [&BASE64.encode("{\"a\":1}"), "plain", &BASE64.encode([0, 255, 10])]);

    client.queue.fault(|faults| faults.json_bodies = JsonBodies::Plain);
    let retries = json!({ "retries": [{ "lease_id": pulled[0]["lease_id"], "delay_seconds": 0 }] });
    assert_eq!(client.call("/messages/ack", retries).await.1["result"]["retryCount"], 1);
    let again = client.pull().await;
    assert_eq!((&again[0]["body"], &again[0]["attempts"]), (&json!("{\"a\":1}"), &json!(2)));
}

#[tokio::test]
async fn requests_that_cloudflare_refuses_are_refused() {
    let client = Client::start().await;
    let with_token = |token: &str, url: String| client.http.post(url).bearer_auth(token).json(&json!({})).send();
    let wrong_token = with_token("wrong", client.url("/messages/pull")).await.expect("answers");
    assert_eq!(wrong_token.status(), 403);
    let other_queue = client.url("/messages/pull").replace(&client.queue.queue_id(), "0123");
    assert_eq!(with_token(client.queue.token(), other_queue).await.expect("answers").status(), 404);
    for wrong in
        [json!({ "batch_size": 0 }), json!({ "batch_size": 101 }), json!({ "visibility_timeout_ms": 43_200_001 })]
    {
        let (status, answer) = client.call("/messages/pull", wrong.clone()).await;
        assert_eq!((status, &answer["success"]), (400, &json!(false)), "{wrong}");
    }
    let bytes = json!({ "body": "AA==", "content_type": "bytes" });
    assert_eq!(client.call("/messages", bytes).await.0, 400);
    let large = json!({ "body": "x".repeat(128_001), "content_type": "text" });
    let (status, answer) = client.call("/messages", large).await;
    assert_eq!((status, &answer["errors"][0]["code"]), (413, &json!(10204)));
    assert_eq!(client.queue.counters().accepted, 0);
}

#[tokio::test]
async fn a_send_by_binding_returns_metrics_and_sizes_are_enforced() {
    let client = Client::start().await;
    let sent = client.send("text", vec![b'x'; 128_000]).await;
    assert_eq!(sent.status(), 200);
    let metrics = sent.json::<Value>().await.expect("is JSON");
    assert_eq!(metrics["metadata"]["metrics"]["backlogBytes"], 128_000);
    let refused = client.send("text", vec![b'x'; 128_001]).await;
    assert_eq!((refused.status().as_u16(), code(&refused)), (413, "10204"));

    let message = |size: usize| json!({ "body": BASE64.encode(vec![b'x'; size]), "contentType": "text" });
    let batch = async |sizes: &[usize]| {
        let messages: Vec<Value> = sizes.iter().map(|size| message(*size)).collect();
        let request = client.http.post(format!("{}/batch", client.queue.url()));
        request.json(&json!({ "messages": messages })).send().await.expect("answers")
    };
    assert_eq!(batch(&[100_000, 100_000, 56_000]).await.status(), 200);
    let refused = batch(&[100_000, 100_000, 56_001]).await;
    assert_eq!((refused.status().as_u16(), code(&refused)), (413, "10205"));
    assert_eq!(client.queue.counters().backlog, 4);
}

#[tokio::test]
async fn the_bridge_forwards_text_and_bytes() {
    let client = Client::start().await;
    let batch = json!({ "messages": [
        { "body": "line\nbody", "content_type": "text" },
        { "body": BASE64.encode([255, 0]), "content_type": "bytes" },
    ]});
    let request = client.http.post(format!("{}/messages/batch", client.queue.url())).json(&batch);
    assert_eq!(request.send().await.expect("answers").status(), 200);
    let pulled = client.queue.pull(10);
    assert_eq!(pulled[0].message.body, "line\nbody");
    assert_eq!(pulled[1].message.body, [255, 0].as_slice());
    assert_eq!(client.queue.ack(&pulled).acked, 2);
}

#[tokio::test]
async fn faults_are_switched_on_and_off_over_http() {
    let client = Client::start().await;
    let faults = json!({
        "overloaded": { "next": 2 },
        "pull_failures": { "next": 1 },
        "pull_status": 429,
        "forgotten_acks": { "next": 1 },
    });
    let admin = format!("{}/admin/faults", client.queue.url());
    assert_eq!(client.http.put(&admin).json(&faults).send().await.expect("answers").status(), 200);

    for _ in 0..2 {
        let refused = client.send("text", b"a".to_vec()).await;
        assert_eq!((refused.status().as_u16(), code(&refused)), (429, "10250"));
    }
    assert_eq!(client.send("text", b"a".to_vec()).await.status(), 200);
    assert_eq!(client.call("/messages/pull", json!({})).await.0, 429);
    let lease = client.pull().await[0]["lease_id"].clone();
    let (_, answer) = client.call("/messages/ack", json!({ "acks": [{ "lease_id": lease }] })).await;
    assert_eq!(answer["result"]["ackCount"], 1, "the acknowledgement is confirmed");
    assert_eq!(client.pull().await[0]["attempts"], 2, "but has no effect");

    client.queue.fault(|faults| faults.pull_disabled = true);
    let (status, answer) = client.call("/messages/pull", json!({})).await;
    assert_eq!((status, &answer["errors"][0]["code"]), (405, &json!(0)));
    client.queue.fault(|faults| faults.dropped_connections = Times::Next(1));
    let dropped = client.http.delete(&admin).send().await.expect_err("is dropped");
    assert!(format!("{dropped:?}").contains("IncompleteMessage"), "{dropped:?}");
    assert_eq!(client.http.delete(&admin).send().await.expect("answers").status(), 200);
    assert_eq!(client.call("/messages/pull", json!({})).await.0, 200);
}

#[tokio::test]
async fn latency_delays_a_pull() {
    let client = Client::start().await;
    client.queue.fault(|faults| faults.pull_latency_ms = 150);
    let begun = Instant::now();
    client.pull().await;
    assert!(begun.elapsed().as_millis() >= 150);
}

#[tokio::test]
async fn a_queue_and_its_consumer_are_described_in_cloudflares_format() {
    let client = Client::start().await;
    let get = async |path: &str| {
        let request = client.http.get(client.url(path)).bearer_auth(client.queue.token());
        request.send().await.expect("answers").json::<Value>().await.expect("is JSON")["result"].clone()
    };
    let queue = get("").await;
    assert_eq!((&queue["queue_name"], &queue["queue_id"]), (&json!(EVENTS), &json!(client.queue.queue_id())));
    assert_eq!(queue["settings"]["message_retention_period"], 1_209_600);
    let consumers = get("/consumers").await;
    assert_eq!(queue["consumers"], consumers);
    assert_eq!((&consumers[0]["type"], &consumers[0]["dead_letter_queue"]), (&json!("http_pull"), &json!(DEAD)));
    let settings = json!({ "batch_size": 100, "max_retries": 100, "visibility_timeout_ms": 60_000, "retry_delay": 10 });
    assert_eq!(consumers[0]["settings"], settings);

    client.queue.configure(EVENTS, |queue| queue.has_consumer = false);
    assert_eq!(get("/consumers").await, json!([]));
    assert_eq!(client.call("/messages/pull", json!({})).await.0, 405);
}

#[tokio::test]
async fn dead_letters_are_pulled_from_the_dead_letter_queue() {
    let client = Client::start().await;
    client.queue.configure(EVENTS, |queue| queue.settings.max_retries = 0);
    client.queue.push("a");
    assert_eq!(client.pull().await.len(), 1);
    client.queue.advance(Duration::from_secs(60));
    let dead = client.url("/messages/pull").replace(&client.queue.queue_id(), &client.queue.id_of(DEAD));
    let request = client.http.post(dead).bearer_auth(client.queue.token()).json(&json!({}));
    let answer: Value = request.send().await.expect("answers").json().await.expect("is JSON");
    assert_eq!(answer["result"]["messages"][0]["body"], "a", "{answer}");
    assert_eq!(client.queue.counters().dead_lettered, 1);
}

#[tokio::test]
async fn the_clock_is_moved_over_http_and_old_messages_expire() {
    let client = Client::start().await;
    client.queue.push("a");
    let advance = async |seconds: u64| {
        let request = client.http.post(format!("{}/admin/clock", client.queue.url()));
        let answer = request.json(&json!({ "advance_s": seconds })).send().await.expect("answers");
        answer.json::<Value>().await.expect("is JSON")["now_ms"].as_u64().expect("a time")
    };
    let before = advance(13 * 86_400).await;
    assert_eq!((client.queue.counters().expired, client.queue.left()), (0, 1));
    assert!(advance(86_400).await >= before + 86_400_000);
    assert_eq!((client.queue.counters().expired, client.queue.left()), (1, 0));
    assert_eq!(client.queue.counters_of(DEAD).accepted, 0);
}

#[tokio::test]
async fn a_response_that_is_too_large_is_cut_off_halfway() {
    let client = Client::start().await;
    client.queue.fault(|faults| faults.pull_cut_above_bytes = 5_000);
    for _ in 0..2 {
        client.queue.push(&"x".repeat(3_000));
    }
    let pull = async |size: u64| {
        let request = client.http.post(client.url("/messages/pull")).bearer_auth(client.queue.token());
        let answer = request.json(&json!({ "batch_size": size })).send().await.expect("answers");
        (answer.status().as_u16(), answer.bytes().await)
    };
    let (status, body) = pull(2).await;
    assert_eq!(status, 200);
    assert!(body.is_err(), "{body:?}");
    client.queue.advance(Duration::from_secs(70));
    assert!(pull(1).await.1.is_ok(), "one message is small enough");
}

#[tokio::test]
async fn a_slow_response_takes_its_time_and_is_complete() {
    let client = Client::start().await;
    client.queue.fault(|faults| faults.pull_bytes_per_s = 50_000);
    client.queue.push(&"x".repeat(10_000));
    let begun = Instant::now();
    assert_eq!(client.pull().await[0]["body"].as_str().map(str::len), Some(10_000));
    assert!(begun.elapsed().as_millis() >= 180);
}

#[tokio::test]
async fn a_garbled_message_invalidates_the_response_or_only_itself() {
    let client = Client::start().await;
    for body in ["good", "the bad \"one\""] {
        client.queue.push(body);
    }
    let pull = async |how: Garble| {
        client.queue.fault(|faults| faults.garbled = Some(Garbled { holding: "bad \"one".to_owned(), how }));
        client.queue.advance(Duration::from_secs(70));
        let request = client.http.post(client.url("/messages/pull")).bearer_auth(client.queue.token());
        request.send().await.expect("answers").text().await.expect("is text")
    };
    let spoilt = pull(Garble::NotJson).await;
    assert!(spoilt.contains("the \\qbad") && spoilt.contains("lease_id"), "{spoilt}");
    assert!(serde_json::from_str::<&serde_json::value::RawValue>(&spoilt).is_err());
    let odd = pull(Garble::LoneSurrogate).await;
    assert!(serde_json::from_str::<&serde_json::value::RawValue>(&odd).is_ok(), "{odd}");
    assert!(serde_json::from_str::<Value>(&odd).is_err(), "{odd}");
}
