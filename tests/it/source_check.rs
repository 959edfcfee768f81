//! verify: a pasted request is checked step by step, and the check says what the edge does with the request.

use harness::api::{Api, Source, http_client};
use harness::gateway::Gateway;
use harness::mac::hmac_sha256;
use harness::provider::{Provider, SignedRequest, now_s};
use serde_json::{Value, json};

/// The parts of a signed request, as a body of the call.
fn parts(request: &SignedRequest) -> Value {
    let headers: Vec<_> = request.headers.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    json!({ "headers": headers, "body": String::from_utf8_lossy(&request.body) })
}

async fn check(api: &Api, source: &Source, request: &Value) -> Value {
    api.post(&format!("/v1/sources/{}/check", source.id), request).await.expect_status(200)
}

/// The states of the steps of the first rule, by their kind.
fn step<'v>(checked: &'v Value, kind: &str) -> &'v Value {
    let steps = checked["rules"][0]["steps"].as_array().expect("steps");
    steps.iter().find(|step| step["kind"] == kind).unwrap_or_else(|| panic!("no step {kind}: {checked}"))
}

/// The code of the first hint.
fn hint(checked: &Value) -> &str {
    checked["hints"][0]["code"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_request_of_each_provider_is_accepted_in_each_form_and_names_the_secret() {
    let gateway = Gateway::relay_only().await;
    let providers = [
        Provider::stripe(),
        Provider::github(),
        Provider::shopify(),
        Provider::standard_webhooks(),
        Provider::standard_webhooks_ed25519(),
        Provider::sendgrid(),
        Provider::slack(),
        Provider::custom(),
        Provider::token(),
        Provider::basic(),
    ];
    for (number, provider) in providers.into_iter().enumerate() {
        let source = gateway.api.create_source(&format!("source-{number}"), &provider).await;
        let request = provider.sample("one");
        let raw = {
            let headers: String = request.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            format!("POST /in/x HTTP/1.1\r\n{headers}\r\n{}", String::from_utf8_lossy(&request.body))
        };
        for pasted in [parts(&request), json!({ "curl": request.curl(&source.ingest_url) }), json!({ "raw": raw })] {
            let checked = check(&gateway.api, &source, &pasted).await;
            let label = provider.label;
            assert_eq!(
                (&checked["outcome"], &checked["status"]),
                (&json!("accepted"), &json!(200)),
                "{label}: {checked}"
            );
            assert_eq!(
                checked["rules"].as_array().expect("rules").iter().filter(|rule| rule["holds"] == true).count(),
                1
            );
            assert_eq!(checked["hints"], json!([]), "{label}");
            let secret = provider.secrets[0].as_str();
            let hint: String = secret.chars().skip(secret.chars().count() - 4).collect();
            assert_eq!(checked["secret"]["hint"], format!("…{hint}"), "{label}: {checked}");
            assert!(!checked.to_string().contains(secret), "{label}: {checked}");
        }
    }
    assert!(gateway.api.all("/v1/events").await.is_empty(), "nothing is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_says_what_was_expected_and_found_and_each_cause_has_its_hint() {
    let gateway = Gateway::relay_only().await;
    let stripe = Provider::stripe();
    let source = gateway.api.create_source("stripe", &stripe).await;
    let body = br#"{"id":"evt_1","type":"invoice.paid"}"#;
    let of = async |request: &SignedRequest| check(&gateway.api, &source, &parts(request)).await;

    let good = stripe.sign("evt_1", body, now_s());
    let checked = of(&good).await;
    let signed = &step(&checked, "signed_content")["signed_content"];
    let time = good.header("stripe-signature").split([',', '=']).nth(1).expect("a time").to_owned();
    assert_eq!(signed["text"], format!("{time}.{}", String::from_utf8_lossy(body)), "{checked}");
    assert_eq!(step(&checked, "timestamp")["time"]["tolerance_s"], 300, "{checked}");
    assert!(step(&checked, "signature_form")["expected"].as_str().is_some_and(|text| text.contains("version v1")));

    // Too old, although the signature matches; good as of then.
    let old = stripe.sign("evt_1", body, now_s() - 3_600);
    let checked = of(&old).await;
    assert_eq!((&checked["outcome"], &checked["failure"]["cause"]), (&json!("refused"), &json!("timestamp_old")));
    assert_eq!((&checked["status"], &checked["code"]), (&json!(401), &json!("signature_refused")), "{checked}");
    assert_eq!(
        (&step(&checked, "timestamp")["state"], &step(&checked, "signature")["state"]),
        (&json!("failed"), &json!("passed"))
    );
    assert!(step(&checked, "timestamp")["time"]["skew_s"].as_i64().is_some_and(|skew| (3_600..3_700).contains(&skew)));
    assert_eq!(hint(&checked), "time_differs", "{checked}");
    let mut then = parts(&old);
    then["received_at"] = step(&checked, "timestamp")["time"]["at"].clone();
    assert_eq!(check(&gateway.api, &source, &then).await["outcome"], "accepted");

    // Another secret, and a body that was written again.
    let other = stripe.with_another_secret().expect("a secret").sign("evt_1", body, now_s());
    let checked = of(&other).await;
    assert_eq!(
        (&checked["failure"]["cause"], hint(&checked)),
        (&json!("signature_mismatch"), "secret_or_body_differs")
    );
    assert!(checked["secret"].is_null() && step(&checked, "signature")["state"] == "failed", "{checked}");
    let pretty = good.clone().with_body("{\n  \"id\": \"evt_1\",\n  \"type\": \"invoice.paid\"\n}");
    let checked = of(&pretty).await;
    assert_eq!((&checked["failure"]["cause"], hint(&checked)), (&json!("body_rewritten"), "body_rewritten"));
    let lines = stripe.sign("evt_1", b"a\nb\n", now_s()).with_body("a\r\nb\r\n");
    assert_eq!(hint(&of(&lines).await), "body_differs");

    // No signature.
    let checked = of(&good.clone().without_header("stripe-signature")).await;
    assert_eq!(
        (&checked["failure"]["cause"], hint(&checked)),
        (&json!("header_missing"), "header_missing"),
        "{checked}"
    );
    assert_eq!(step(&checked, "signature")["state"], "unknown", "{checked}");

    // A removed secret.
    let secrets = json!({ "secrets": ["whsec_a_newer_secret_that_is_long"] });
    gateway.api.patch(&format!("/v1/sources/{}", source.id), &secrets).await.expect_status(200);
    let checked = of(&good).await;
    assert_eq!(
        (&checked["failure"]["cause"], hint(&checked)),
        (&json!("secret_retired"), "secret_retired"),
        "{checked}"
    );

    // Nothing shows a secret or the signature that would be right.
    let right = good.header("stripe-signature").split("v1=").nth(1).expect("a signature").to_owned();
    let forged = good.clone().with_header("stripe-signature", &format!("t={time},v1={}", "0".repeat(64)));
    let checked = of(&forged).await;
    assert!(!checked.to_string().contains(&right) && !checked.to_string().contains(&stripe.secrets[0]), "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_over_another_url_of_the_source_is_found() {
    let gateway = Gateway::relay_only().await;
    let mut provider = Provider::custom();
    provider.secrets = vec!["a secret that is long enough".to_owned()];
    provider.config = json!({ "header": "x-sign", "hash": "sha256", "encoding": "hex", "content": "{url}{body}" });
    let source = gateway.api.create_source("signed", &provider).await;
    let sign = |url: &str| hex::encode(hmac_sha256(provider.secrets[0].as_bytes(), &[url.as_bytes(), b"x"]));
    let by_name = source.ingest_url.replace(&source.id, "signed");
    let asked = |url: Option<&str>, signed: &str| {
        let headers = json!([{ "name": "x-sign", "value": sign(signed) }]);
        json!({ "url": url, "headers": headers, "body": "x" })
    };
    let checked = check(&gateway.api, &source, &asked(None, &source.ingest_url)).await;
    assert_eq!(checked["outcome"], "accepted", "{checked}");
    let checked = check(&gateway.api, &source, &asked(None, &by_name)).await;
    assert_eq!((&checked["outcome"], hint(&checked)), (&json!("refused"), "url_differs"), "{checked}");
    let checked = check(&gateway.api, &source, &asked(Some(&by_name), &by_name)).await;
    assert_eq!(checked["outcome"], "accepted", "{checked}");
    let proxied = asked(Some("https://proxy.example/hook?a=1"), &format!("{}?a=1", source.ingest_url));
    assert_eq!(hint(&check(&gateway.api, &source, &proxied).await), "url_differs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_the_edge_does() {
    let gateway = Gateway::start().await;
    let client = http_client();
    let (slack, token) = (Provider::slack(), Provider::token());
    let strict = gateway.api.create_source("slack", &slack).await;
    let mut keeping = token.clone();
    keeping.config["on_failure"] = "quarantine".into();
    keeping.config["quarantine"] = json!({ "body_bytes": 100 });
    keeping.config["acknowledgement"] = json!({ "status": 202 });
    let keeping = gateway.api.create_source("keeping", &keeping).await;
    let challenge = br#"{"type":"url_verification","challenge":"c","token":"t"}"#;
    let long = "x".repeat(200);
    let requests = [
        (&strict, slack.sample("one"), "accepted"),
        (&strict, slack.sample("one").with_body("{}"), "refused"),
        (&strict, slack.sign("", challenge, now_s()), "handshake"),
        (&strict, slack.sample("one").without_header("x-slack-signature"), "refused"),
        (&keeping, token.sample("one"), "accepted"),
        (&keeping, token.sample("one").with_header("x-token", "Token wrong"), "quarantined"),
        (&keeping, token.sample("one").with_header("x-token", "Token wrong").with_body(long), "refused"),
    ];
    for (source, request, outcome) in requests {
        let checked = check(&gateway.api, source, &parts(&request)).await;
        assert_eq!(checked["outcome"], outcome, "{request:?}: {checked}");
        let answered = request.send(&client, &source.ingest_url).await.expect("sends");
        let status = answered.status().as_u16();
        let answer: Value = serde_json::from_slice(&answered.bytes().await.expect("a body")).unwrap_or_default();
        assert_eq!(checked["status"], json!(status), "{request:?}: {checked}");
        if outcome == "refused" {
            assert_eq!(checked["code"], answer["error"], "{checked}");
        }
    }
    for (query, outcome) in [("", "page"), ("?a=1", "refused")] {
        let asked = json!({ "method": "GET", "url": format!("/in/slack{query}") });
        let checked = check(&gateway.api, &strict, &asked).await;
        let answered = client.get(format!("{}{query}", strict.ingest_url)).send().await.expect("sends");
        assert_eq!(checked["outcome"], outcome, "{checked}");
        assert_eq!(checked["status"], json!(answered.status().as_u16()), "{checked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_only_the_edge_has_are_left_open_and_a_request_that_cannot_be_read_is_refused() {
    let gateway = Gateway::relay_only().await;
    let wanted = json!({ "name": "fal", "provider": "fal", "secrets": [], "config": { "user_id": "u1" } });
    let made = gateway.api.post("/v1/sources", &wanted).await.expect_status(201);
    let path = format!("/v1/sources/{}/check", made["id"].as_str().expect("an id"));
    let headers: Vec<_> = [
        ("x-fal-webhook-request-id", "r1".to_owned()),
        ("x-fal-webhook-user-id", "u1".to_owned()),
        ("x-fal-webhook-timestamp", now_s().to_string()),
        ("x-fal-webhook-signature", "00".repeat(64)),
    ]
    .into_iter()
    .map(|(name, value)| json!({ "name": name, "value": value }))
    .collect();
    let checked = gateway.api.post(&path, &json!({ "headers": headers, "body": "{}" })).await.expect_status(200);
    assert_eq!((&checked["outcome"], &checked["status"]), (&json!("unknown"), &Value::Null), "{checked}");
    assert_eq!(
        (&checked["rules"][0]["holds"], &step(&checked, "requirement")["state"]),
        (&Value::Null, &json!("passed"))
    );

    for (request, field) in [
        (json!({ "raw": "hello" }), "raw"),
        (json!({ "curl": "wget x" }), "curl"),
        (json!({ "curl": "curl x", "body": "y" }), "curl"),
        (json!({ "url": "ftp://x" }), "url"),
        (json!({ "received_at": "yesterday" }), "received_at"),
        (json!({ "headers": [{ "name": "a b", "value": "" }] }), "headers[0].name"),
    ] {
        let problem = gateway.api.post(&path, &request).await.expect_status(422);
        assert_eq!(problem["errors"][0]["field"], field, "{request}: {problem}");
    }
}
