//! store: which requests are copies of an event, and which are events of their own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use harness::api::{Api, Source, http_client, id};
use harness::gateway::{Gateway, RelayOnly, drained};
use harness::mac::{hmac_sha1, hmac_sha256, hmac_sha512};
use harness::provider::{Provider, now_s};
use harness::receiver::Receiver;
use harness::wait::{SOON, until};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shared::id::EventId;

const SECRET: &str = "a-secret-of-sixteen";

type Headers = Vec<(&'static str, String)>;

fn sha256(content: impl AsRef<[u8]>) -> Vec<u8> {
    hmac_sha256(SECRET.as_bytes(), &[content.as_ref()])
}

/// The headers with which a provider signs a body that it posts to `url`.
fn signed(provider: &str, url: &str, body: &str) -> Headers {
    let (s, ms) = (now_s(), now_s() * 1_000);
    match provider {
        "recurly" => vec![("recurly-signature", format!("{ms},{}", hex::encode(sha256(format!("{ms}.{body}")))))],
        "retell" => {
            vec![("x-retell-signature", format!("v={ms},d={}", hex::encode(sha256(format!("{body}{ms}")))))]
        }
        "bird" => {
            let content = [format!("{s}\n{url}\n").as_bytes(), Sha256::digest(body).as_slice()].concat();
            let signature = BASE64.encode(sha256(&content));
            vec![("messagebird-request-timestamp", s.to_string()), ("messagebird-signature", signature)]
        }
        "paystack" => vec![("x-paystack-signature", hex::encode(hmac_sha512(SECRET.as_bytes(), &[body.as_bytes()])))],
        "zoom" => {
            let signature = hex::encode(sha256(format!("v0:{s}:{body}")));
            vec![("x-zm-request-timestamp", s.to_string()), ("x-zm-signature", format!("v0={signature}"))]
        }
        "hubspot" => {
            let signature = BASE64.encode(sha256(format!("POST{url}{body}{ms}")));
            vec![("x-hubspot-request-timestamp", ms.to_string()), ("x-hubspot-signature-v3", signature)]
        }
        "hubspot-v1" => vec![("x-hubspot-signature", hex::encode(Sha256::digest(format!("{SECRET}{body}"))))],
        "hubspot-v2" => vec![("x-hubspot-signature", hex::encode(Sha256::digest(format!("{SECRET}POST{url}{body}"))))],
        "knock" => {
            let signature = BASE64.encode(sha256(format!("{ms}.{body}")));
            vec![("x-knock-signature", format!("t={ms},s={signature}"))]
        }
        "line" => vec![("x-line-signature", BASE64.encode(sha256(body)))],
        "segment" => {
            let first =
                body.strip_prefix('[').and_then(|rest| rest.split_once("},")).map(|(first, _)| format!("{first}}}"));
            let content = first.unwrap_or_else(|| body.to_owned());
            vec![("x-signature", hex::encode(hmac_sha1(SECRET.as_bytes(), &[content.as_bytes()])))]
        }
        // The client state is in the body.
        "microsoft-graph" => Vec::new(),
        other => panic!("{other} is not signed here"),
    }
}

/// A source of a provider with a route to a receiver.
struct ProviderLine {
    provider: &'static str,
    source: String,
    url: String,
    receiver: Receiver,
}

impl ProviderLine {
    async fn new(api: &Api, provider: &'static str) -> Self {
        let receiver = Receiver::start().await.expect("starts");
        let source = json!({ "name": provider, "provider": provider, "secrets": [SECRET] });
        let source = api.post("/v1/sources", &source).await.expect_status(201);
        let text = |name: &str| source[name].as_str().expect("a text").to_owned();
        api.create_destination(provider, &receiver.url(), json!({})).await;
        api.create_route(provider, provider, json!({})).await;
        Self { provider, source: text("id"), url: text("ingest_url"), receiver }
    }

    /// Posts a body as the provider does, and returns the response.
    async fn post(&self, body: &str) -> Value {
        let mut request =
            http_client().post(&self.url).header("content-type", "application/json").body(body.to_owned());
        for (name, value) in signed(self.provider, &self.url, body) {
            request = request.header(name, value);
        }
        let answer = request.send().await.expect("the edge answers");
        let (status, text) = (answer.status().as_u16(), answer.text().await.expect("text"));
        assert!((200..300).contains(&status), "{}: {status} {text}", self.provider);
        serde_json::from_str(&text).unwrap_or_default()
    }

    async fn events(&self, api: &Api) -> Vec<Value> {
        api.all(&format!("/v1/events?source={}", self.source)).await
    }
}

/// The bodies of each provider in a file, byte for byte.
fn bodies(file: &'static str) -> Vec<(&'static str, Vec<&'static str>)> {
    let read: Vec<(&str, Vec<&RawValue>)> = serde_json::from_str(file).expect("providers and their bodies");
    read.into_iter().map(|(provider, bodies)| (provider, bodies.into_iter().map(RawValue::get).collect())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_events_about_one_object_are_not_copies_of_each_other() {
    let gateway = Gateway::start().await;
    for (provider, bodies) in bodies(include_str!("copies/twice.json")) {
        let provider_line = ProviderLine::new(&gateway.api, provider).await;
        for body in &bodies {
            provider_line.post(body).await;
        }
        let received = provider_line.receiver.wait_for(bodies.len(), SOON).await;
        for body in &bodies {
            assert!(received.iter().any(|request| request.body == body.as_bytes()), "{provider}: {body}");
        }
        let events = provider_line.events(&gateway.api).await;
        assert_eq!(events.len(), bodies.len(), "{provider}: {events:?}");
        assert!(events.iter().all(|event| event.get("same_key_as").is_none()), "{provider}: {events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_sent_again_is_a_copy_whatever_the_provider_changes_in_it() {
    let gateway = Gateway::start().await;
    for (provider, bodies) in bodies(include_str!("copies/again.json")) {
        let [body, again] = bodies[..] else { panic!("{provider} has {} bodies", bodies.len()) };
        let provider_line = ProviderLine::new(&gateway.api, provider).await;
        let first = provider_line.post(body).await;
        provider_line.receiver.wait_for(1, SOON).await;
        let copy = provider_line.post(again).await;
        until("the copy to be counted", SOON, async || {
            let events = provider_line.events(&gateway.api).await;
            let counted = events.len() == 1 && events[0]["copies"] == json!(1);
            if counted { Ok(()) } else { Err(format!("{provider}: {events:?}")) }
        })
        .await;
        assert_eq!(provider_line.receiver.count(), 1, "{provider}");

        let led_to = gateway.api.event(id(&copy)).await;
        assert_eq!((&led_to["id"], &led_to["copy_id"]), (&first["id"], &copy["id"]), "{provider}: {led_to}");
        if body == again {
            assert_eq!(led_to.get("changed_copy"), None, "{provider}: {led_to}");
            continue;
        }
        assert_eq!(led_to["changed_copy"]["id"], copy["id"], "{provider}: {led_to}");
        assert_eq!(led_to["changed_copy"]["body_size"], json!(again.len()), "{provider}: {led_to}");
        let kept = gateway.api.bytes(&format!("/v1/events/{}/changed-copy/body", id(&first))).await;
        assert_eq!(kept, again.as_bytes(), "{provider}");
    }
}

/// Standard Webhooks with a config of the customer.
fn configured(config: Value) -> Provider {
    let mut provider = Provider::standard_webhooks();
    provider.config = config;
    provider
}

/// A source of Standard Webhooks with a config of the customer, and a route to a receiver.
async fn source(gateway: &RelayOnly, config: Value) -> (Source, Receiver) {
    let receiver = Receiver::start().await.expect("starts");
    let source = gateway.api.create_source("own", &configured(config)).await;
    gateway.api.create_destination("own", &receiver.url(), json!({})).await;
    gateway.api.create_route("own", "own", json!({})).await;
    (source, receiver)
}

fn push(gateway: &RelayOnly, source: &Source, id: &str, body: &str) -> EventId {
    gateway.push_with(source, &[("webhook-id", id), ("content-type", "application/json")], body.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_id_with_another_body_is_an_event_of_its_own_with_copies_of_its_own() {
    let gateway = Gateway::relay_only().await;
    let (source, receiver) = source(&gateway, json!({})).await;
    let mut ids = Vec::new();
    for body in ["{}", "{\"a\":1}", "{\"a\":1}", "{}", "{\"a\":2}"] {
        ids.push(push(&gateway, &source, "msg_1", body));
        drained(&gateway.queue, SOON).await;
    }
    receiver.wait_for(3, SOON).await;
    assert_eq!(gateway.api.all("/v1/events").await.len(), 3);
    for (at, copies, same_key_as) in [(0, 1, None), (1, 1, Some(0)), (4, 0, Some(0))] {
        let event = gateway.api.event(ids[at]).await;
        let same_key_as: Option<&EventId> = same_key_as.map(|at: usize| &ids[at]);
        assert_eq!(event["id"], json!(ids[at].to_string()), "{event}");
        assert_eq!(event["copies"], json!(copies), "{event}");
        assert_eq!(event["same_key_as"], json!(same_key_as.map(ToString::to_string)), "{event}");
    }
    for (copy, of) in [(2, 1), (3, 0)] {
        let led_to = gateway.api.event(ids[copy]).await;
        assert_eq!(led_to["id"], json!(ids[of].to_string()), "{led_to}");
    }
    assert_eq!(receiver.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_and_events_with_other_bodies_are_distinguished_within_one_pull() {
    let mut gateway = Gateway::relay_only().await;
    let (source, receiver) = source(&gateway, json!({})).await;
    gateway.relay.stop().await.expect("stops");
    for body in ["{}", "{\"a\":1}", "{\"a\":1}", "{}", "{}"] {
        push(&gateway, &source, "msg_1", body);
    }
    gateway.relay.start_again().await.expect("starts again");
    drained(&gateway.queue, SOON).await;
    receiver.wait_for(2, SOON).await;
    let events = gateway.relay.api().all("/v1/events").await;
    let marked = events.iter().filter(|event| event.get("same_key_as").is_some()).count();
    let copies: i64 = events.iter().filter_map(|event| event["copies"].as_i64()).sum();
    assert_eq!((events.len(), marked, copies), (2, 1, 3), "{events:?}");
    assert_eq!(receiver.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_that_store_one_id_with_two_bodies_make_two_events() {
    let gateway = Gateway::relay_only().await;
    let other = gateway.another_relay().await;
    let (source, receiver) = source(&gateway, json!({})).await;
    for number in 0..400 {
        push(&gateway, &source, "msg_1", ["{}", "{\"a\":1}"][number % 2]);
    }
    drained(&gateway.queue, SOON).await;
    receiver.wait_for(2, SOON).await;
    let events = gateway.api.all("/v1/events").await;
    let marked = events.iter().filter(|event| event.get("same_key_as").is_some()).count();
    let copies: i64 = events.iter().filter_map(|event| event["copies"].as_i64()).sum();
    assert_eq!((events.len(), marked, copies), (2, 1, 398), "{events:?}");
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_hundred_copies_lead_to_their_event_and_more_are_only_counted() {
    let gateway = Gateway::relay_only().await;
    let (source, _receiver) = source(&gateway, json!({})).await;
    let first = push(&gateway, &source, "msg_1", "{}");
    drained(&gateway.queue, SOON).await;
    let mut copies = Vec::new();
    for _ in 0..3 {
        copies.extend((0..60).map(|_| push(&gateway, &source, "msg_1", "{}")));
        drained(&gateway.queue, SOON).await;
    }
    assert_eq!(gateway.api.event(first).await["copies"], json!(180));
    let mut leading = 0;
    for copy in copies {
        let answer = gateway.api.get(&format!("/v1/events/{copy}")).await;
        if answer.status == 200 {
            let event = answer.expect_status(200);
            assert_eq!((&event["id"], &event["copy_id"]), (&json!(first.to_string()), &json!(copy.to_string())));
            leading += 1;
        } else {
            answer.expect_status(404);
        }
    }
    assert_eq!(leading, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_can_set_a_template_for_its_keys_declare_changing_bodies_or_turn_its_keys_off() {
    let gateway = Gateway::relay_only().await;
    let template = gateway.api.create_source("template", &configured(json!({"key": "{json:object}.{json:at}"}))).await;
    let changing = gateway.api.create_source("changing", &configured(json!({"resend_changes_body": true}))).await;
    let none = gateway.api.create_source("none", &configured(json!({"key": "none"}))).await;

    let own = |at: u32| format!(r#"{{"object":"o1","at":{at}}}"#);
    for (id, at) in [("msg_1", 1), ("msg_2", 1), ("msg_3", 2)] {
        push(&gateway, &template, id, &own(at));
        drained(&gateway.queue, SOON).await;
    }
    let mut ids = Vec::new();
    for body in ["{}", "{\"attempt\":2}", "{\"attempt\":3}"] {
        ids.push(push(&gateway, &changing, "msg_1", body));
        drained(&gateway.queue, SOON).await;
    }
    for _ in 0..2 {
        push(&gateway, &none, "msg_1", "{}");
    }
    drained(&gateway.queue, SOON).await;

    let of = async |name: &str| gateway.api.all(&format!("/v1/events?source={name}")).await;
    let mut keys: Vec<_> = of("template").await.iter().map(|event| event["key"].to_string()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["\"o1.1\"", "\"o1.2\""]);
    let events = of("none").await;
    assert!(events.len() == 2 && events.iter().all(|event| event["key"] == json!(null)), "{events:?}");
    assert_eq!(of("changing").await.len(), 1);
    let event = gateway.api.event(ids[0]).await;
    assert_eq!(
        (&event["copies"], &event["changed_copy"]["id"]),
        (&json!(2), &json!(ids[1].to_string())),
        "the first changed copy is kept"
    );

    let refused = json!({ "name": "bad", "provider": "stripe", "secrets": [SECRET], "config": {"key": "{body}"} });
    let problem = gateway.api.post("/v1/sources", &refused).await.expect_status(422);
    let text = problem.to_string();
    assert!(text.contains("config.key") && text.contains("{sha256hex:body}"), "{text}");
}
