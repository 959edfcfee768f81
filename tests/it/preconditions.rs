//! preconditions: a change that names the version that its caller has read is made to that version only.

use harness::api::Api;
use harness::gateway::{Gateway, RelayOnly};
use reqwest::Method;
use serde_json::{Value, json};

/// The `ETag` of an object.
async fn tag(api: &Api, path: &str) -> String {
    let (reply, headers) = api.call_with(Method::GET, path, &[], None).await;
    reply.expect_status(200);
    headers["etag"].to_str().expect("a text").to_owned()
}

/// Sends a request with one header, and returns the status, the `ETag` and the body.
async fn send(
    api: &Api,
    method: Method,
    path: &str,
    header: (&str, &str),
    body: &Value,
) -> (u16, Option<String>, Value) {
    let (reply, headers) = api.call_with(method, path, &[header], Some(body)).await;
    let tag = headers.get("etag").map(|tag| tag.to_str().expect("a text").to_owned());
    (reply.status, tag, reply.body)
}

/// Objects of each kind: the path by name, a change, and a whole body for PUT.
async fn objects(gateway: &RelayOnly) -> [(&'static str, &'static str, Value, Value); 4] {
    gateway.line("line").await;
    gateway.api.create_customer("acme").await;
    let route = gateway.api.all("/v1/routes").await;
    let path = format!("/v1/routes/{}", route[0]["id"].as_str().expect("an id"));
    gateway.api.patch(&path, &json!({ "name": "line" })).await.expect_status(200);
    let secrets = json!(["a secret that is long enough"]);
    let url = "http://127.0.0.1:9009/";
    [
        (
            "sources",
            "line",
            json!({ "config": { "max_body_bytes": 5_000 } }),
            json!({ "provider": "github", "secrets": secrets }),
        ),
        ("destinations", "line", json!({ "timeout_ms": 5_000 }), json!({ "url": url })),
        ("routes", "line", json!({ "enabled": false }), json!({ "source": "line", "destination": "line" })),
        ("customers", "acme", json!({ "max_sources": 5 }), json!({ "max_sources": 6 })),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_with_the_etag_of_an_older_version_is_refused_and_changes_nothing() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    for (noun, name, change, whole) in objects(&gateway).await {
        let (path, by_name) = (format!("/v1/{noun}/{name}"), format!("/v1/{noun}/by-name/{name}"));
        let first = tag(api, &path).await;
        let (status, second, body) = send(api, Method::PATCH, &path, ("if-match", &first), &change).await;
        assert!(matches!(status, 200 | 202), "{noun}: {body}");
        let second = second.expect("an ETag");
        assert_ne!(first, second);
        assert_eq!(tag(api, &path).await, second, "{noun}");
        let before = api.get(&path).await.expect_status(200);
        for (method, path) in [(Method::PATCH, &path), (Method::PUT, &by_name), (Method::DELETE, &path)] {
            let body = if method == Method::PUT { &whole } else { &change };
            for old in [first.clone(), format!("W/{second}"), "\"x\"".to_owned()] {
                let (status, _, problem) = send(api, method.clone(), path, ("if-match", &old), body).await;
                assert_eq!((status, &problem["code"]), (412, &json!("precondition_failed")), "{method} {noun}");
            }
        }
        let (status, _, problem) = send(api, Method::PUT, &by_name, ("if-none-match", "*"), &whole).await;
        assert_eq!(status, 412, "{noun}: {problem}");
        assert_eq!(api.get(&path).await.expect_status(200), before, "{noun}");
        // One of several, and any.
        let several = format!("\"x\", {second}");
        let (status, third, body) = send(api, Method::PUT, &by_name, ("if-match", &several), &whole).await;
        assert!(matches!(status, 200 | 202), "{noun}: {body}");
        let (status, _, body) = send(api, Method::PATCH, &path, ("if-match", "*"), &change).await;
        assert!(matches!(status, 200 | 202), "{noun}: {body}");
        assert_ne!(tag(api, &path).await, third.expect("an ETag"), "{noun}");
    }
    for (noun, name) in objects_to_delete() {
        let path = format!("/v1/{noun}/{name}");
        let current = tag(api, &path).await;
        let (reply, _) = api.call_with(Method::DELETE, &path, &[("if-match", &current)], None).await;
        assert!(matches!(reply.status, 202 | 204), "{noun}: {reply:?}");
        api.get(&path).await.expect_status(404);
    }
}

fn objects_to_delete() -> [(&'static str, &'static str); 4] {
    [("routes", "line"), ("destinations", "line"), ("sources", "line"), ("customers", "acme")]
}

#[tokio::test(flavor = "multi_thread")]
async fn put_creates_only_or_changes_only_if_it_is_told_to() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let put = "/v1/destinations/by-name/new";
    let body = json!({ "url": "http://127.0.0.1:9009/" });
    for header in [("if-match", "*"), ("if-match", "\"a\"")] {
        let (status, _, problem) = send(api, Method::PUT, put, header, &body).await;
        assert_eq!(status, 412, "{problem}");
    }
    api.get("/v1/destinations/new").await.expect_status(404);
    let (status, tag, _) = send(api, Method::PUT, put, ("if-none-match", "*"), &body).await;
    assert_eq!(status, 201);
    assert!(tag.is_some());
    let (status, ..) = send(api, Method::PUT, put, ("if-none-match", "*"), &body).await;
    assert_eq!(status, 412);
    for (name, value, field) in
        [("if-match", "x", "If-Match"), ("if-match", "", "If-Match"), ("if-none-match", "\"a\"", "If-None-Match")]
    {
        let (status, _, problem) = send(api, Method::PUT, put, (name, value), &body).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{value}");
    }
    let created = api.post("/v1/destinations", &json!({ "name": "other", "url": "http://127.0.0.1:9009/" })).await;
    created.expect_status(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_changes_to_one_version_exactly_one_is_made() {
    let gateway = Gateway::relay_only().await;
    let replica = gateway.another_relay().await;
    gateway.api.create_destination("one", "http://127.0.0.1:9009/", json!({})).await;
    let first = tag(&gateway.api, "/v1/destinations/one").await;
    let calls = (0..20).map(|number| {
        let api = if number % 2 == 0 { gateway.api.clone() } else { gateway.api.at(replica.url()) };
        let first = first.clone();
        tokio::spawn(async move {
            let change = json!({ "timeout_ms": 5_000 + number });
            send(&api, Method::PATCH, "/v1/destinations/one", ("if-match", &first), &change).await.0
        })
    });
    let mut statuses = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        statuses.push(call.await.expect("ends"));
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 19, "{statuses:?}");
}
