//! customers: a customer that sends more events than its limit is answered 429 at the edge for a while, and everything
//! that was acknowledged is stored and delivered.

use harness::api::{Api, http_client};
use harness::gateway::Gateway;
use harness::provider::{Provider, now_s};
use harness::receiver::Receiver;
use harness::wait::{LONG, SOON, until};
use serde_json::{Value, json};
use shared::id::EventId;
use shared::source::SourceConfig;

/// The status, the `Retry-After` and the body of an answer of the edge.
async fn sent(provider: &Provider, url: &str, id: &str) -> (u16, Option<u64>, Value) {
    let answer = provider.sample(id).send(&http_client(), url).await.expect("the edge answers");
    let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    (answer.status().as_u16(), after, answer.json().await.unwrap_or_default())
}

/// Sends events until one is answered with this status. Returns the ids of those that were acknowledged before, and the
/// answer.
async fn send_until(status: u16, provider: &Provider, url: &str, what: &str) -> (Vec<String>, Option<u64>, Value) {
    let mut acknowledged = Vec::new();
    let mut number = 0;
    let (after, body) = until(&format!("{what} to be answered {status}"), LONG, async || {
        number += 1;
        let (answered, after, body) = sent(provider, url, &format!("{what}-{number}")).await;
        if answered == 200 {
            // Some sources acknowledge with another body.
            acknowledged.extend(body["id"].as_str().map(str::to_owned));
        }
        if answered == status { Ok((after, body)) } else { Err(format!("it is answered {answered}")) }
    })
    .await;
    (acknowledged, after, body)
}

/// A source, a destination and a route of a customer, ready at the edge. Returns the URL of the source.
async fn line(api: &Api, provider: &Provider, receiver: &Receiver) -> String {
    let source = api.create_source("shop", provider).await;
    api.create_destination("shop", &receiver.url(), json!({})).await;
    api.create_route("shop", "shop", json!({})).await;
    api.wait_until("the source to be active", "/v1/sources/shop", SOON, |source| source["edge"] == "active").await;
    source.ingest_url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_over_its_rate_is_refused_at_the_edge_and_what_was_acknowledged_is_delivered() {
    let gateway = Gateway::start().await;
    let limit = json!({ "name": "acme", "max_events_per_minute": 20 });
    let made = gateway.api.post("/v1/customers", &limit).await.expect_status(201);
    assert_eq!((&made["max_events_per_minute"], &made["refused_until"]), (&json!(20), &Value::Null), "{made}");
    let acme = gateway.api.acting_for("acme");
    let provider = Provider::standard_webhooks();
    let (receiver, others) = (Receiver::start().await.expect("starts"), Receiver::start().await.expect("starts"));
    let url = line(&acme, &provider, &receiver).await;
    let other_url = line(&gateway.api, &provider, &others).await;

    let (acknowledged, after, refusal) = send_until(429, &provider, &url, "flood").await;
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
    assert!(after.is_some_and(|after_s| (1..=3_600).contains(&after_s)), "{after:?}");
    assert_eq!(refusal["error"], "rate_limited", "{refusal}");
    let shown = gateway.api.get("/v1/customers/acme").await.expect_status(200);
    assert!(shown["refused_until"].is_string(), "{shown}");

    // The source is in memory by now: small bodies, and those that only the platform reads, would take the fast path.
    // The page of the source is still shown.
    let client = http_client();
    for bytes in [10, 20_000, 200_000] {
        let request = provider.sign(&format!("of-{bytes}-bytes"), &vec![b'x'; bytes], now_s());
        assert_eq!(request.send(&client, &url).await.expect("answers").status(), 429, "{bytes}");
    }
    assert_eq!(client.get(&url).send().await.expect("answers").status(), 200);
    // Other customers are not affected.
    let (status, _, body) = sent(&provider, &other_url, "of-another-customer").await;
    assert_eq!(status, 200);
    others.wait_for_events([body["id"].as_str().expect("an id")], SOON).await;
    let default = gateway.api.get("/v1/customers/default").await.expect_status(200);
    assert_eq!(default["refused_until"], Value::Null, "{default}");

    receiver.wait_for_events(&acknowledged, SOON).await;
    let rejection = acme.wait_for_row("/v1/rejections", SOON).await;
    assert_eq!(rejection["cause"], "rate_limited", "{rejection}");
    assert!(rejection["detail"].as_str().is_some_and(|text| text.contains("max_events_per_minute")), "{rejection}");

    let raised = json!({ "max_events_per_minute": 100_000 });
    let raised = gateway.api.patch("/v1/customers/acme", &raised).await.expect_status(200);
    assert_eq!((&raised["max_events_per_minute"], &raised["refused_until"]), (&json!(100_000), &Value::Null));
    let (again, ..) = send_until(200, &provider, &url, "again").await;
    receiver.wait_for_events(acknowledged.iter().chain(&again), SOON).await;
    assert_eq!(receiver.count(), acknowledged.len() + again.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_edge_accepts_again_by_itself_and_answers_handshakes_in_the_meantime() {
    let edge = Gateway::shared_edge().await;
    let provider = Provider::slack();
    let source = edge.edge.put_source("limited", &provider).await;
    let refused = async |for_s: u64, revision: u64| {
        let refused_until = Some((now_s() + for_s) * 1_000);
        let config = SourceConfig { refused_until, revision, ..source.config.clone() };
        edge.edge.put(&config).await.expect_status(200);
    };
    assert_eq!(sent(&provider, &source.url, "before").await.0, 200);
    refused(3_600, 2).await;
    for id in ["during", "when-the-source-is-in-memory"] {
        let (status, after, _) = sent(&provider, &source.url, id).await;
        assert_eq!(status, 429, "{id}");
        assert!(after.is_some_and(|after_s| (3_500..=3_600).contains(&after_s)), "{after:?}");
    }
    let challenge = br#"{"type":"url_verification","token":"t","challenge":"sesame"}"#;
    let challenge = provider.sign("challenge", challenge, now_s());
    let answer = challenge.send(&http_client(), &source.url).await.expect("answers");
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.expect("text").contains("sesame"));

    refused(3, 3).await;
    let (status, after, _) = sent(&provider, &source.url, "at-the-end").await;
    assert!(status == 200 || (status == 429 && after.is_some_and(|after_s| after_s <= 3)), "{status} {after:?}");
    send_until(200, &provider, &source.url, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_verified_events_that_have_just_arrived_count_and_a_changed_limit_lifts_the_refusal() {
    let gateway = Gateway::relay_only().await;
    let replica = gateway.another_relay().await;
    let patch = async |customer: &str, limit: Value| {
        let path = format!("/v1/customers/{customer}");
        gateway.api.patch(&path, &json!({ "max_events_per_minute": limit })).await.expect_status(200)
    };
    let provider = Provider::standard_webhooks();
    for name in ["backlog", "forged"] {
        gateway.api.create_customer(name).await;
        patch(name, json!(5)).await;
    }
    patch("default", json!(5)).await;
    let mut sources = Vec::new();
    for name in ["default", "backlog", "forged"] {
        sources.push(gateway.api.acting_for(name).create_source("shop", &provider).await);
    }
    let [own, backlog, forged] = &sources[..] else { panic!("three sources") };
    // A backlog, as after an outage of the relay, says nothing about the rate at which events arrive now, and a
    // stranger can send what fails verification.
    for number in 0..30 {
        let body = json!({ "number": number }).to_string();
        gateway.push_received(backlog, (now_s() - 300) * 1_000, &[], body.as_bytes());
        gateway.push_refused(forged, [], body.as_bytes());
    }
    for name in ["backlog", "forged"] {
        gateway.api.acting_for(name).wait_for_rows("/v1/events", 30, SOON).await;
    }
    let events: Vec<EventId> =
        (0..30).map(|number| gateway.push(own, json!({ "number": number }).to_string().as_bytes())).collect();
    let at_edge = |id: &str| gateway.edge.sources().get(id).cloned().unwrap_or_default();
    let refused_until = until("the default customer to be refused at the edge", SOON, async || {
        let source = at_edge(&own.id);
        source["refused_until"].as_u64().ok_or_else(|| source.to_string())
    })
    .await;
    // Five minutes, less the rest of the first one.
    assert!((now_s() * 1_000..now_s() * 1_000 + 3_600_000).contains(&refused_until), "{refused_until}");
    for (name, source) in [("backlog", backlog), ("forged", forged)] {
        let shown = gateway.api.get(&format!("/v1/customers/{name}")).await.expect_status(200);
        assert_eq!(shown["refused_until"], Value::Null, "{shown}");
        assert_eq!(at_edge(&source.id).get("refused_until"), None, "{name}");
    }
    let stored = gateway.api.wait_for_rows("/v1/events", events.len(), SOON).await;
    assert_eq!(stored.len(), 30, "all of them are stored");
    // The relays do not decide the same twice. A second decision is one about more events, after the first ones.
    let decisions = || {
        let logs = [gateway.relay.log(), replica.log()];
        logs.iter()
            .map(|log| log.matches("a customer has sent more events than its max_events_per_minute").count())
            .sum()
    };
    until("each decision to have raised the revision once", SOON, async || {
        let (decisions, revision): (usize, _) = (decisions(), at_edge(&own.id)["revision"].clone());
        if revision == json!(1 + decisions) { Ok(()) } else { Err(format!("{decisions}, {revision}")) }
    })
    .await;
    assert!((1..=2).contains(&decisions()), "{}", decisions());

    // A source that is created now is refused too.
    let late = gateway.api.create_source("late", &provider).await;
    until("the new source to be refused at the edge", SOON, async || {
        let both = [at_edge(&own.id), at_edge(&late.id)].map(|source| source["refused_until"].clone());
        if both[0].is_u64() && both[0] == both[1] { Ok(()) } else { Err(format!("{both:?}")) }
    })
    .await;

    // What was stored before does not count against another limit, not even against a smaller one.
    let changed = patch("default", json!(4)).await;
    assert_eq!(changed["refused_until"], Value::Null, "{changed}");
    until("the refusal to be lifted at the edge", SOON, async || {
        let sources = [at_edge(&own.id), at_edge(&late.id)];
        let lifted = sources.iter().all(|source| source.get("refused_until").is_none());
        if lifted { Ok(()) } else { Err(format!("{sources:?}")) }
    })
    .await;
}
