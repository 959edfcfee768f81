//! verify, route, deliver: bodies as providers really send them.

use harness::api::{http_client, id};
use harness::gateway::Gateway;
use harness::mac::hmac_sha256;
use harness::provider::{Provider, SignedRequest, now_s};
use harness::receiver::Receiver;
use harness::wait::{SOON, until};
use serde_json::{Value, json};

/// `{"action":"opened","n":36893488147419103233}`, by GNU gzip.
const GZIP: &[u8] = include_bytes!("../../relay/expression/src/testdata/event.json.gz");

fn sha256(secret: &str, body: &str) -> String {
    hex::encode(hmac_sha256(secret.as_bytes(), &[body.as_bytes()]))
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_bodies_are_typed_filtered_transformed_and_delivered_byte_for_byte() {
    let gateway = Gateway::start().await;
    let client = http_client();
    let github = Provider::github();
    let source = gateway.api.create_source("github", &github).await;
    let raw = Receiver::start().await.expect("starts");
    let shaped = Receiver::start().await.expect("starts");
    for (name, receiver, transform) in [("raw", &raw, Value::Null), ("shaped", &shaped, json!("{'n': body.?n}"))] {
        let destination = gateway.api.create_destination(name, &receiver.url(), json!({})).await;
        let filter = r#"body.action == "opened" && headers["X-GitHub-Event"] == "push""#;
        gateway
            .api
            .create_route(&source.id, &destination.id, json!({ "filter": filter, "transform": transform }))
            .await;
    }
    let form = "application/x-www-form-urlencoded";
    let signed = |id: &str, body: &[u8]| github.sign(id, body, now_s());
    let requests: [SignedRequest; 6] = [
        signed("surrogate", br#"{"action":"opened","title":"ship it \ud83d","n":1}"#),
        signed("form", b"payload=%7B%22action%22%3A%22opened%22%2C%22n%22%3A2%7D").with_header("Content-Type", form),
        signed("gzip", GZIP).and_header("Content-Encoding", "gzip"),
        signed("large", br#"{"action":"opened","ratio":1e400,"n":0.12345678901234567890}"#),
        signed("mark", b"\xef\xbb\xbf{\"action\":\"opened\",\"n\":5}"),
        signed("closed", b"payload=%7B%22action%22%3A%22closed%22%7D").with_header("Content-Type", form),
    ];
    for request in &requests {
        let answer = request.send(&client, &source.ingest_url).await.expect("sends");
        assert_eq!(answer.status(), 200, "{request:?}");
    }
    let mut sent: Vec<_> = raw.wait_for(5, SOON).await.into_iter().map(|request| request.body.to_vec()).collect();
    sent.sort();
    let mut expected: Vec<_> = requests[..5].iter().map(|request| request.body.clone()).collect();
    expected.sort();
    assert!(sent == expected, "byte for byte");
    let made = shaped.wait_for(5, SOON).await;
    let mut made: Vec<_> = made.iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    made.sort();
    assert_eq!(
        made,
        [r#"{"n":0.12345678901234567890}"#, r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":36893488147419103233}"#, r#"{"n":5}"#]
    );
    let types = until("all events to be stored", SOON, async || {
        let events = gateway.api.all(&format!("/v1/events?source={}", source.id)).await;
        let mut types: Vec<_> = events.iter().filter_map(|event| event["type"].as_str().map(str::to_owned)).collect();
        types.sort();
        if events.len() == 6 { Ok(types) } else { Err(format!("{events:?}")) }
    })
    .await;
    assert_eq!(types, ["push.closed", "push.opened", "push.opened", "push.opened", "push.opened", "push.opened"]);
    assert_eq!((raw.count(), shaped.count()), (5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_bodies_are_verified_by_a_timestamp_in_them_and_distinguished_by_all_digits_of_their_ids() {
    let gateway = Gateway::start().await;
    let client = http_client();
    let wanted = json!({ "name": "linear", "provider": "linear", "secrets": ["lin_wh_secret"] });
    let linear = gateway.api.post("/v1/sources", &wanted).await.expect_status(201);
    let body = format!(
        r#"{{"action":"update","type":"Issue","data":{{"title":"ship it \ud83d"}},"webhookTimestamp":{}}}"#,
        now_s() * 1_000
    );
    let request = client
        .post(linear["ingest_url"].as_str().expect("a URL"))
        .header("linear-delivery", "d-1")
        .header("linear-signature", sha256("lin_wh_secret", &body))
        .body(body);
    assert_eq!(request.send().await.expect("sends").status(), 200, "the timestamp is in the body");

    let mut custom = Provider::custom();
    custom.config["key"] = json!({ "pointer": "/id" });
    let source = gateway.api.create_source("ledger", &custom).await;
    for id in ["36893488147419103233", "36893488147419103234", "36893488147419103233"] {
        let request = custom.sign("", format!(r#"{{"id":{id}}}"#).as_bytes(), now_s());
        assert_eq!(request.send(&client, &source.ingest_url).await.expect("sends").status(), 200);
    }
    until("two events and a copy", SOON, async || {
        let events = gateway.api.all(&format!("/v1/events?source={}", source.id)).await;
        let mut seen: Vec<_> = events.iter().map(|event| (event["key"].as_str(), event["copies"].as_i64())).collect();
        seen.sort();
        match seen.as_slice() {
            [(Some("36893488147419103233"), Some(1)), (Some("36893488147419103234"), Some(0))] => Ok(()),
            _ => Err(format!("{events:?}")),
        }
    })
    .await;
    let events = gateway.api.all(&format!("/v1/events?source={}", id(&linear))).await;
    assert_eq!(events.iter().map(|event| event["type"].as_str()).collect::<Vec<_>>(), [Some("Issue.update")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_can_never_match_is_refused_when_it_is_saved() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let receiver = Receiver::start().await.expect("starts");
    let other = gateway.api.create_destination("other", &receiver.url(), json!({})).await;
    for (filter, code, says) in [
        ("event.action == 'opened'", "expression_unknown_field", "its fields are id, type, source"),
        ("event.type == 'a' || 'b'", "expression_not_boolean", "use a comparison such as"),
        ("headers['X GitHub'] == 'a'", "expression_not_header_name", "such as x-github-event"),
        ("event.type.matches('a(')", "expression_pattern_syntax", "unclosed group"),
    ] {
        let wanted = json!({ "source": line.source.id, "destination": other.id, "filter": filter });
        let problem = gateway.api.post("/v1/routes", &wanted).await.expect_status(422).to_string();
        assert!(problem.contains(code) && problem.contains(says), "{filter}: {problem}");
    }
}
