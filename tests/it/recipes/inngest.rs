//! Inngest's event API, as its documentation and its open-source server describe it.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use harness::edge::EdgeSettings;
use harness::gateway::Gateway;
use harness::page::Page;
use harness::server::{Answer, Cut, Server};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::Reader;

/// The times that Inngest takes, in Unix milliseconds: from 1980 to 2100.
const TIMES: std::ops::RangeInclusive<u64> = 315_532_800_000..=4_102_444_800_000;

/// The accepted events, or the reason for a refusal.
fn check(method: &str, path: &str, content_type: &str, body: &[u8]) -> Result<Value, (u16, String)> {
    if method != "POST" || path != "/e/the-event-key" {
        return Err((401, format!("{method} {path}")));
    }
    if content_type.split(';').next() != Some("application/json") {
        return Err((400, format!("the content type {content_type}")));
    }
    let event: Value = serde_json::from_slice(body).map_err(|error| (400, error.to_string()))?;
    let fields = event.as_object().ok_or((400, "not an object".to_owned()))?;
    let unknown = fields.keys().find(|name| !["id", "name", "data", "user", "ts", "v"].contains(&name.as_str()));
    if let Some(name) = unknown {
        return Err((400, format!("the unknown field {name}")));
    }
    // Names that begin with `inngest/` are Inngest's own.
    let has_name = event["name"].as_str().is_some_and(|name| !name.is_empty() && !name.starts_with("inngest/"));
    let has_time = event["ts"].as_u64().is_some_and(|ts| TIMES.contains(&ts));
    if !has_name || !has_time || !event["data"].is_object() || !event["id"].is_string() {
        return Err((400, event.to_string()));
    }
    Ok(event)
}

async fn answer(accepted: Arc<Mutex<Vec<Value>>>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut::Close)?.to_bytes();
    let content_type = head.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (status, answer) = match check(head.method.as_str(), head.uri.path(), content_type, &body) {
        Ok(event) => {
            let answer = json!({ "ids": [event["id"]], "status": 200 });
            accepted.lock().map_err(|_| Cut::Reset)?.push(event);
            (200, answer)
        }
        Err((status, error)) => (status, json!({ "error": error, "status": status })),
    };
    let mut response = Response::new(Body::from(answer.to_string()));
    *response.status_mut() = status.try_into().map_err(|_| Cut::Reset)?;
    Ok(response)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_to_inngest_is_followed_from_its_text() {
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let for_server = Arc::clone(&accepted);
    let inngest = Server::start(0, move |request| answer(Arc::clone(&for_server), request)).await.expect("starts");
    let gateway = Gateway::start_bare_with(EdgeSettings::default()).await;
    let page = Page::read("examples/recipes/events-to-inngest.md")
        .and_then(|page| page.with("https://inn.gs", &format!("http://{}", inngest.address())))
        .expect("reads");
    let mut reader = Reader::start(&gateway, page, &[]).await;
    reader.follow("Set it up").await;
    reader.see(0).await;
    reader.see_until(1, r#""state":"succeeded""#).await;
    let event = gateway.api.all("/v1/events").await.remove(0);
    let body: Value = serde_json::from_slice(
        &gateway.api.bytes(&format!("/v1/events/{}/body", event["id"].as_str().expect("an id"))).await,
    )
    .expect("JSON");
    let sent = accepted.lock().expect("no panic").clone();
    assert_eq!(sent.len(), 1, "{sent:?}");
    let names = (&sent[0]["name"], &sent[0]["id"], &sent[0]["data"]);
    assert_eq!(names, (&json!("stripe/invoice.paid"), &event["id"], &body));
    reader.follow("If it does not work").await;
}
