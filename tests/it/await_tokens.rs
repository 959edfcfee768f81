//! await tokens: what a web page may see of one job, and for how long.

use harness::api::{Api, Source, http_client, id};
use harness::gateway::{Gateway, RelayOnly};
use harness::provider::Provider;
use harness::wait::{SOON, until};
use reqwest::Method;
use serde_json::{Value, json};

const ORIGIN: &str = "https://app.example.com";

/// A source that exposes a part of its bodies, with an event.
async fn source(gateway: &RelayOnly, api: &Api) -> Source {
    let mut provider = Provider::replicate();
    provider.config = json!({ "expose": ["/status", "/output/url"] });
    let source = api.create_source("replicate", &provider).await;
    let body = json!({ "id": "p1", "status": "succeeded", "input": "hidden", "output": { "url": "u", "seed": 7 } });
    gateway.push_with(&source, &[("webhook-id", "m1")], body.to_string().as_bytes());
    api.wait_for_rows("/v1/events?job_key=p1", 1, SOON).await;
    source
}

async fn token(api: &Api, more: Value) -> String {
    let mut wanted = json!({ "source": "replicate", "key": "p1" });
    if let (Some(wanted), Some(more)) = (wanted.as_object_mut(), more.as_object()) {
        wanted.extend(more.clone());
    }
    let made = api.post("/v1/await-tokens", &wanted).await.expect_status(201);
    made["token"].as_str().expect("a token").to_owned()
}

/// Calls a path with a token in the query, as a page does.
async fn seen(gateway: &RelayOnly, path: &str, token: &str) -> (u16, Value) {
    let separator = if path.contains('?') { '&' } else { '?' };
    let url = format!("{}{path}{separator}token={token}", gateway.relay.url());
    let response = http_client().get(url).send().await.expect("a response");
    let status = response.status().as_u16();
    let text = response.text().await.expect("a text");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_shows_only_the_exposed_fields_of_one_job_and_allows_nothing_else() {
    let gateway = Gateway::relay_only_with(|settings| settings.with("TIDEGATE_LOG", "debug")).await;
    let source = source(&gateway, &gateway.api).await;
    let token = token(&gateway.api, json!({})).await;
    let path = "/v1/await/replicate/p1?timeout_s=0";
    let (status, job) = seen(&gateway, path, &token).await;
    assert_eq!(status, 200, "{job}");
    let wanted = json!({
        "source": "replicate", "source_id": source.id, "key": "p1", "terminal": true, "state": "succeeded", "good": true,
        "result": "included", "body": { "status": "succeeded", "output": { "url": "u" } }, "body_encoding": "json",
    });
    assert_eq!(job, wanted);
    let bearer = gateway.api.with_token(&token);
    assert_eq!(bearer.get(&format!("/v1/await/{}/p1?timeout_s=0", source.id)).await.expect_status(200), wanted);

    for other in ["/v1/await/replicate/p2?timeout_s=0", "/v1/await/nowhere/p1?timeout_s=0"] {
        assert_eq!(seen(&gateway, other, &token).await.0, 404, "{other}");
    }
    let (status, problem) = seen(&gateway, &format!("{path}&until=body.input=='hidden'"), &token).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("until")), "{problem}");
    assert_eq!(seen(&gateway, &format!("{path}&until=any"), &token).await.0, 200);
    for other in ["/v1/events", "/v1/whoami", "/v1/sources/replicate"] {
        bearer.get(other).await.expect_status(401);
    }
    bearer.post("/v1/await", &json!({ "any_of": [{ "source": "replicate", "key": "p1" }] })).await.expect_status(401);
    // A token of the API does not belong into a URL.
    assert_eq!(seen(&gateway, path, gateway.relay.token()).await.0, 401);
    let log = gateway.relay.log();
    assert!(log.contains("/v1/await/") && !log.contains(&token), "the log has no token");

    let patch = json!({ "config": { "expose": null } });
    gateway.api.patch("/v1/sources/replicate", &patch).await.expect_status(200);
    let (_, job) = seen(&gateway, path, &token).await;
    assert_eq!((job.get("body"), &job["body_omitted"]), (None, &json!("not_exposed")), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_time_its_maker_and_its_customer() {
    let gateway = Gateway::relay_only().await;
    gateway.api.create_customer("acme").await;
    let acme = gateway.api.acting_for("acme");
    source(&gateway, &acme).await;
    let path = "/v1/await/replicate/p1?timeout_s=0";
    let status = async |token: &str| seen(&gateway, path, token).await.0;
    let maker = gateway.api.create_token(&["read", "bodies"], Some("acme"), json!({})).await;
    let of_maker = token(&gateway.api.with_token(maker["token"].as_str().expect("a token")), json!({})).await;
    let of_root = token(&acme, json!({})).await;
    let brief = token(&acme, json!({ "ttl_s": 1 })).await;
    assert_eq!((status(&of_maker).await, status(&of_root).await), (200, 200));
    until("the token to expire", SOON, async || match status(&brief).await {
        401 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    let mut changed = of_root.clone();
    changed.replace_range(40..41, if &of_root[40..41] == "A" { "B" } else { "A" });
    assert_eq!((status(&changed).await, status("tga_").await, status(&of_root).await), (401, 401, 200));

    gateway.api.post(&format!("/v1/tokens/{}/revoke", id(&maker)), &json!({})).await.expect_status(200);
    assert_eq!((status(&of_maker).await, status(&of_root).await), (401, 200));
    gateway.api.delete("/v1/customers/acme").await.expect_status(202);
    assert_eq!(status(&of_root).await, 401);

    let reader = gateway.api.limited_to(&["read"], None).await;
    let wanted = json!({ "source": "replicate", "key": "p1" });
    reader.post("/v1/await-tokens", &wanted).await.expect_status(403);
    replicate_of_default(&gateway).await;
    for (wrong, field) in [
        (json!({ "source": "nowhere", "key": "p1" }), "source"),
        (json!({ "source": "replicate", "key": "" }), "key"),
        (json!({ "source": "replicate", "key": "p1", "ttl_s": 86_401 }), "ttl_s"),
    ] {
        let problem = gateway.api.post("/v1/await-tokens", &wrong).await.expect_status(422);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
}

async fn replicate_of_default(gateway: &RelayOnly) {
    gateway.api.create_source("replicate", &Provider::replicate()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_configured_origins_alone_may_await_and_nothing_else() {
    let gateway = Gateway::relay_only_with(|settings| settings.with("TIDEGATE_CORS_ORIGINS", ORIGIN)).await;
    source(&gateway, &gateway.api).await;
    let token = token(&gateway.api, json!({})).await;
    let send = async |method: Method, path: &str, origin: &str| {
        let url = format!("{}{path}", gateway.relay.url());
        let request = http_client().request(method, url).header("origin", origin);
        let request = request.header("access-control-request-method", "GET").bearer_auth(&token);
        request.send().await.expect("a response")
    };
    let path = "/v1/await/replicate/p1?timeout_s=0";
    for method in [Method::OPTIONS, Method::GET] {
        let response = send(method.clone(), path, ORIGIN).await;
        assert!(response.status().is_success(), "{method}: {}", response.status());
        assert_eq!(response.headers()["access-control-allow-origin"], ORIGIN, "{method}");
        assert_eq!(response.headers()["vary"], "origin");
        assert!(!response.headers().contains_key("access-control-allow-credentials"));
    }
    let asked = send(Method::OPTIONS, path, ORIGIN).await;
    assert_eq!(asked.status(), 204);
    assert_eq!(asked.headers()["access-control-allow-headers"], "authorization, last-event-id");
    for (path, origin) in [(path, "https://evil.example"), ("/v1/events", ORIGIN), ("/v1/await-tokens", ORIGIN)] {
        for method in [Method::OPTIONS, Method::GET] {
            let response = send(method.clone(), path, origin).await;
            assert!(!response.headers().contains_key("access-control-allow-origin"), "{method} {path} {origin}");
        }
    }
    // A page sees also why it is refused.
    let refused = send(Method::GET, "/v1/await/replicate/p2?timeout_s=0", ORIGIN).await;
    assert_eq!(
        (refused.status().as_u16(), refused.headers()["access-control-allow-origin"].as_bytes()),
        (404, ORIGIN.as_bytes())
    );
}
