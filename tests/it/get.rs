//! request: events that arrive by GET, HEAD or OPTIONS, and the responses to such requests that are not events.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use harness::api::http_client;
use harness::gateway::Gateway;
use harness::mac::{hmac_sha1, json_web_token};
use harness::provider::now_s;
use harness::receiver::Receiver;
use harness::wait::{SOON, until};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shared::envelope::{Body, Verification};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const QUERY: &str = "MessageSid=SM1&MessageStatus=delivered&To=%2B31600000000";

/// The signature of Twilio for a request without a body.
fn twilio(url: &str) -> (&'static str, String) {
    ("x-twilio-signature", BASE64.encode(hmac_sha1(SECRET.as_bytes(), &[url.as_bytes()])))
}

fn messagebird(url: &str) -> (&'static str, String) {
    let hash = hex::encode(Sha256::digest(url));
    let claims = json!({ "iss": "MessageBird", "nbf": now_s(), "exp": now_s() + 60, "url_hash": hash });
    ("messagebird-signature-jwt", json_web_token(SECRET.as_bytes(), &claims))
}

async fn send(method: Method, url: &str, headers: &[(&str, String)]) -> Response {
    let request = http_client().request(method, url);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
    request.send().await.expect("the edge answers")
}

async fn status(method: Method, url: &str, headers: &[(&str, String)]) -> u16 {
    send(method, url, headers).await.status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_event_by_get_is_stored_and_delivered_with_its_query() {
    let gateway = Gateway::start().await;
    let source = json!({ "name": "texts", "provider": "twilio", "secrets": [SECRET] });
    let source = gateway.api.post("/v1/sources", &source).await.expect_status(201);
    let receiver = Receiver::start().await.expect("starts");
    let destination = gateway.api.create_destination("texts", &receiver.url(), json!({})).await;
    let filter = json!({ "filter": "event.type == 'message.delivered'" });
    gateway.api.create_route("texts", &destination.id, filter).await;

    let url = format!("{}?{QUERY}", source["ingest_url"].as_str().expect("a URL"));
    let answer = send(Method::GET, &url, &[twilio(&url)]).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.expect("text"), "<Response/>", "the same response as to an event by POST");

    let received = receiver.wait_for(1, SOON).await.remove(0);
    assert_eq!(received.method, "POST");
    assert_eq!(received.header("tidegate-original-method"), "GET");
    assert_eq!(received.header("tidegate-original-query"), QUERY);
    assert_eq!(received.body.len(), 0);
    received.verify(&destination.signing_secret).expect("it is signed like any other delivery");
    let events = gateway.api.all("/v1/events?source=texts").await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["type"], &events[0]["verification"]), (&json!("message.delivered"), &json!("verified")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_accepts_unsigned_get_requests_only_if_its_config_says_so_and_otherwise_answers_405() {
    let gateway = Gateway::start().await;
    let named = json!({ "key": { "query": "id" }, "type": { "query": "status" } });
    let source = json!({ "name": "receipts", "provider": "none", "config": named });
    let source = gateway.api.post("/v1/sources", &source).await.expect_status(201);
    let url = format!("{}?id=7&status=delivered", source["ingest_url"].as_str().expect("a URL"));

    let refused = send(Method::GET, &url, &[]).await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["allow"]),
        (405, &"POST, PUT, PATCH, DELETE".parse().expect("a value"))
    );
    let problem: Value = refused.json().await.expect("JSON");
    assert_eq!(problem["error"], "method_not_allowed");
    assert!(problem["message"].as_str().is_some_and(|text| text.contains("set `methods` to")), "{problem}");
    let rejection = gateway.api.wait_for_row("/v1/rejections?source=receipts", SOON).await;
    assert_eq!(rejection["cause"], "method_not_allowed", "{rejection}");

    let patch = async |methods: Value| {
        gateway.api.patch("/v1/sources/receipts", &json!({ "config": { "methods": methods } })).await
    };
    let wrong = patch(json!(["HEAD"])).await.expect_status(422);
    assert!(wrong.to_string().contains("config.methods"), "{wrong}");
    let changed = patch(json!(["GET"])).await.expect_status(200);
    assert_eq!(changed["config"]["methods"], json!(["GET"]));
    assert_eq!(gateway.api.get("/v1/sources/receipts").await.expect_status(200)["config"], changed["config"]);
    let answers = async |wanted: u16| {
        until("the edge to have the change", SOON, async || match status(Method::GET, &url, &[]).await {
            status if status == wanted => Ok(()),
            status => Err(status.to_string()),
        })
        .await;
    };
    answers(200).await;
    assert_eq!(status(Method::GET, &url, &[]).await, 200, "a copy is acknowledged too");
    let events = until("the event to be stored, and its copy counted", SOON, async || {
        match gateway.api.all("/v1/events?source=receipts").await {
            events if events.iter().any(|event| event["copies"] == 1) => Ok(events),
            events => Err(format!("{events:?}")),
        }
    })
    .await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["type"], &events[0]["verification"]), (&json!("delivered"), &json!("unsigned")));

    let put = json!({ "provider": "none", "config": named });
    let put = gateway.api.put("/v1/sources/by-name/receipts", &put).await.expect_status(200);
    assert_eq!(put["dropped"], json!(["config.methods"]));
    answers(405).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_over_the_url_makes_a_get_head_or_options_request_an_event_and_a_wrong_one_is_refused() {
    let edge = Gateway::shared_edge().await;
    for (provider, sign) in
        [("twilio", twilio as fn(&str) -> (&'static str, String)), ("messagebird", messagebird as fn(&str) -> _)]
    {
        let source =
            edge.edge.put_source_of(&format!("get-{provider}"), provider, &[SECRET.to_owned()], &json!({})).await;
        let (url, other) = (format!("{}?{QUERY}", source.url), format!("{}?{QUERY}0", source.url));
        let methods = [Method::GET, Method::HEAD, Method::OPTIONS];
        for method in &methods {
            assert_eq!(status(method.clone(), &other, &[sign(&url)]).await, 401, "{provider} {method}: another URL");
        }
        assert_eq!(status(Method::GET, &url, &[]).await, 405, "{provider}");
        assert_eq!(status(Method::HEAD, &url, &[]).await, 405, "{provider}");
        assert_eq!(status(Method::OPTIONS, &url, &[]).await, 200, "{provider}");
        assert_eq!(status(Method::GET, &source.url, &[]).await, 200, "{provider}: the page of the source");
        assert!(edge.events(&source).is_empty(), "{provider}");
        for method in &methods {
            assert_eq!(status(method.clone(), &url, &[sign(&url)]).await, 200, "{provider} {method}");
        }
        for (header, body) in edge.wait_for_events(&source, methods.len()).await {
            assert_eq!((header.query.as_str(), header.verification), (QUERY, Verification::Verified), "{provider}");
            assert_eq!(body, Body::Inline(Vec::new()), "{provider}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_keeps_failing_get_requests_that_may_be_events_and_no_others() {
    let edge = Gateway::shared_edge().await;
    let secrets = [SECRET.to_owned()];
    let config = json!({ "on_failure": "quarantine" });
    let signed = edge.edge.put_source_of("get-quarantine", "twilio", &secrets, &config).await;
    let url = format!("{}?{QUERY}", signed.url);
    assert_eq!(status(Method::GET, &url, &[twilio("https://elsewhere.example")]).await, 200);
    assert_eq!(status(Method::GET, &url, &[]).await, 405);
    let (header, _) = edge.wait_for_events(&signed, 1).await.remove(0);
    assert!(matches!(header.verification, Verification::Failed(_)), "{header:?}");

    let config = json!({ "on_failure": "quarantine", "methods": ["GET"] });
    let token = edge.edge.put_source_of("get-quarantine-token", "token", &secrets, &config).await;
    let url = format!("{}?id=7", token.url);
    let browser = [("sec-fetch-mode", "navigate".to_owned()), ("accept", "text/html".to_owned())];
    assert_eq!(status(Method::GET, &url, &[]).await, 200);
    assert_eq!(status(Method::GET, &url, &[("authorization", SECRET.to_owned())]).await, 200);
    assert_eq!(status(Method::HEAD, &url, &[]).await, 200);
    let page = send(Method::GET, &token.url, &browser).await.text().await.expect("text");
    assert!(page.contains("receives webhooks"), "{page}");
    let kept = edge.wait_for_events(&token, 2).await;
    let failed = kept.iter().filter(|(header, _)| matches!(header.verification, Verification::Failed(_))).count();
    assert_eq!(failed, 1, "{kept:?}");
}
