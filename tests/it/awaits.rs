//! await: calls that wait for an event of a job, whichever comes first, the event or the call.

use std::time::{Duration, Instant};

use harness::api::{Api, Reply, Source, http_client, id};
use harness::browser::Browser;
use harness::gateway::{Gateway, RelayOnly};
use harness::provider::{Provider, now_s};
use harness::relay::Relay;
use harness::wait::{SOON, until};
use reqwest::Method;
use serde_json::{Value, json};
use shared::envelope::Failure;
use shared::envelope::Verification;
use shared::id::EventId;
use tokio::task::JoinHandle;

/// Long enough for every expected event.
const WAIT: &str = "timeout_s=55";

/// A callback of Replicate about a prediction.
fn prediction(job: &str, status: &str) -> Vec<u8> {
    json!({ "id": job, "status": status, "output": ["https://replicate.delivery/a.png"] }).to_string().into_bytes()
}

/// Starts a call, and returns it as soon as it waits: what is stored from now on has not been stored before it looked.
async fn waiting(relay: &Relay, api: &Api, path: &str) -> JoinHandle<Reply> {
    let (api, path) = (api.clone(), path.to_owned());
    begun(relay, async move { api.get(&path).await }).await
}

/// Like [`waiting`], for several jobs.
async fn waiting_for_several(relay: &Relay, api: &Api, body: Value) -> JoinHandle<Reply> {
    let api = api.clone();
    begun(relay, async move { api.post("/v1/await", &body).await }).await
}

async fn begun<T: Send + 'static>(relay: &Relay, call: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let before = relay.calls_that_waited();
    let call = tokio::spawn(call);
    until("the call to wait", SOON, async || {
        let is_answered = call.is_finished();
        if relay.calls_that_waited() > before { Ok(()) } else { Err(format!("is answered: {is_answered}")) }
    })
    .await;
    call
}

async fn answered<T>(call: JoinHandle<T>) -> T {
    tokio::time::timeout(SOON, call).await.expect("the call ends").expect("the call does not panic")
}

async fn replicate(api: &Api) -> Source {
    api.create_source("replicate", &Provider::replicate()).await
}

fn push(gateway: &RelayOnly, source: &Source, message: &str, body: &[u8]) -> EventId {
    gateway.push_with(source, &[("content-type", "application/json"), ("webhook-id", message)], body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_before_during_and_between_waits_is_returned_by_the_whole() {
    let gateway = Gateway::start().await;
    let provider = Provider::replicate();
    let source = gateway.api.create_source("replicate", &provider).await;
    let client = http_client();
    let send = async |job: &str, status: &str| {
        let request = provider.sign(&format!("{job}-{status}"), &prediction(job, status), now_s());
        assert_eq!(request.send(&client, &source.ingest_url).await.expect("answers").status(), 200);
    };
    // During the wait, with progress before and during it.
    send("p1", "starting").await;
    gateway.api.wait_for_rows("/v1/events?job_key=p1", 1, SOON).await;
    let call = waiting(&gateway.relay, &gateway.api, &format!("/v1/await/replicate/p1?{WAIT}")).await;
    send("p1", "processing").await;
    gateway.api.wait_for_rows("/v1/events?job_key=p1", 2, SOON).await;
    send("p1", "succeeded").await;
    let job = answered(call).await.expect_status(200);
    let seen = (&job["source"], &job["source_id"], &job["key"], &job["terminal"], &job["state"], &job["good"]);
    assert_eq!(
        seen,
        (&json!("replicate"), &json!(source.id), &json!("p1"), &json!(true), &json!("succeeded"), &json!(true))
    );
    assert_eq!((&job["result"], &job["body_encoding"]), (&json!("included"), &json!("json")), "{job}");
    assert_eq!(job["body"]["output"][0], "https://replicate.delivery/a.png");
    let shown = gateway.api.event(id(&job["event"])).await;
    assert_eq!(shown["job"], json!({ "key": "p1", "state": "succeeded", "good": true }), "{shown}");
    // Before the wait.
    let again = gateway.api.get(&format!("/v1/await/{}/p1?timeout_s=0", source.id)).await.expect_status(200);
    assert_eq!(again, job);
    // Between two waits.
    let none = gateway.api.get("/v1/await/replicate/p2?timeout_s=0").await;
    assert_eq!((none.status, none.retry_after, &none.body), (204, Some(0), &json!("")));
    send("p2", "failed").await;
    gateway.api.wait_for_rows("/v1/events?job_key=p2", 1, SOON).await;
    let job = gateway.api.get("/v1/await/replicate/p2").await.expect_status(200);
    assert_eq!((&job["terminal"], &job["good"], &job["state"]), (&json!(true), &json!(false), &json!("failed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_several_jobs_wins_and_all_of_them_are_waited_for() {
    let gateway = Gateway::relay_only().await;
    let source = replicate(&gateway.api).await;
    let of =
        |keys: &[&str]| -> Vec<Value> { keys.iter().map(|key| json!({ "source": "replicate", "key": key })).collect() };
    let (relay, api) = (&gateway.relay, &gateway.api);
    let any = waiting_for_several(relay, api, json!({ "any_of": of(&["a", "b", "c"]) })).await;
    let all = waiting_for_several(relay, api, json!({ "all_of": of(&["a", "b"]), "timeout_s": 55 })).await;
    push(&gateway, &source, "m1", &prediction("b", "canceled"));
    let any = answered(any).await.expect_status(200);
    assert_eq!((&any["won"], &any["jobs"][0]["key"], &any["jobs"][0]["good"]), (&json!(1), &json!("b"), &json!(false)));
    assert_eq!(any["jobs"].as_array().map(Vec::len), Some(1), "{any}");
    push(&gateway, &source, "m2", &prediction("a", "succeeded"));
    let all = answered(all).await.expect_status(200);
    let keys = |all: &Value| [all["jobs"][0]["key"].clone(), all["jobs"][1]["key"].clone()];
    assert_eq!((&all["won"], keys(&all)), (&Value::Null, [json!("a"), json!("b")]));
    // Whatever has come already, in any order.
    let body = json!({ "all_of": of(&["b", "a"]), "timeout_s": 0 });
    let all = gateway.api.post("/v1/await", &body).await.expect_status(200);
    assert_eq!(keys(&all), [json!("b"), json!("a")]);
    let body = json!({ "all_of": of(&["a", "c"]), "timeout_s": 0 });
    assert_eq!(gateway.api.post("/v1/await", &body).await.status, 204);

    let many = of(&["a"; 33]);
    for (wrong, field) in [
        (json!({}), ""),
        (json!({ "any_of": of(&["a"]), "all_of": of(&["a"]) }), ""),
        (json!({ "any_of": [] }), "any_of"),
        (json!({ "all_of": many }), "all_of"),
        (json!({ "any_of": [{ "source": "nowhere", "key": "a" }] }), "any_of[0].source"),
        (json!({ "any_of": [{ "source": "replicate", "key": "" }] }), "any_of[0].key"),
        (json!({ "any_of": of(&["a"]), "timeout_s": 56 }), "timeout_s"),
        (json!({ "any_of": of(&["a"]), "until": "body." }), "until"),
    ] {
        let problem = gateway.api.post("/v1/await", &wrong).await.expect_status(422);
        assert_eq!(problem["errors"][0]["field"], field, "{wrong}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expression_ends_a_wait_if_it_is_true_and_one_that_fails_does_not() {
    let gateway = Gateway::relay_only().await;
    let source = replicate(&gateway.api).await;
    let progress = |percent: u32| json!({ "id": "p1", "status": "processing", "percent": percent }).to_string();
    let path = |until: &str, more: &str| {
        let until = form_urlencoded::byte_serialize(until.as_bytes()).collect::<String>();
        format!("/v1/await/replicate/p1?until={until}{more}")
    };
    let call = waiting(&gateway.relay, &gateway.api, &path("body.percent > 50", "")).await;
    // It fails on the first, is false for the second, and true for the third.
    let first = push(&gateway, &source, "m1", &prediction("p1", "starting"));
    let second = push(&gateway, &source, "m2", progress(10).as_bytes());
    for event in [first, second] {
        let text = format!("the expression of a waiting call is not true for an event event={event}");
        gateway.relay.wait_for_log(&text, SOON).await;
    }
    push(&gateway, &source, "m3", progress(60).as_bytes());
    let job = answered(call).await.expect_status(200);
    assert_eq!((&job["body"]["percent"], &job["terminal"], &job["good"]), (&json!(60), &json!(false), &Value::Null));
    assert_eq!(job.get("result"), None, "{job}");
    // The newest that matches, in the store.
    let job = gateway.api.get(&path("body.?percent.orValue(0) < 50", "&timeout_s=0")).await.expect_status(200);
    assert_eq!(job["body"]["percent"], 10);
    let any = gateway.api.get(&path("any", "&timeout_s=0")).await.expect_status(200);
    assert_eq!(any["body"]["percent"], 60);
    for (until, code) in [("body.percent >", "expression_syntax"), ("event.colour == 'a'", "expression_unknown_field")]
    {
        let problem = gateway.api.get(&path(until, "&timeout_s=0")).await.expect_status(422);
        assert_eq!((&problem["code"], &problem["errors"][0]["field"]), (&json!(code), &json!("until")), "{problem}");
    }
    // A token that may not read bodies could find one out by expressions.
    let reader = gateway.api.limited_to(&["read"], None).await;
    reader.get(&path("body.percent > 50", "&timeout_s=0")).await.expect_status(403);
    let job = reader.get(&path("event.type == 'processing'", "&timeout_s=0")).await.expect_status(200);
    assert_eq!((job.get("body"), &job["body_omitted"]), (None, &json!("scope")), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_has_a_job_key_of_its_own_and_a_provider_that_sends_no_result_says_so() {
    let gateway = Gateway::relay_only().await;
    let mut own = Provider::standard_webhooks();
    own.config = json!({ "job_key": "{json:job.id}-{query:try}" });
    let source = gateway.api.create_source("own", &own).await;
    let headers = [("webhook-id", "m1"), ("content-type", "text/plain")];
    gateway.push_request(&source, "try=2", &headers, br#"{"job":{"id":"j/1"},"done":true}"#);
    let problem = gateway.api.get("/v1/await/own/j%2F1-2?timeout_s=0").await.expect_status(422);
    assert_eq!(problem["errors"][0]["field"], "until", "{problem}");
    let job = gateway.api.get(&format!("/v1/await/own/j%2F1-2?until=any&{WAIT}")).await.expect_status(200);
    assert_eq!((&job["key"], &job["terminal"], &job["state"]), (&json!("j/1-2"), &json!(false), &Value::Null));

    let plain = gateway.api.create_source("plain", &Provider::standard_webhooks()).await;
    let problem = gateway.api.get(&format!("/v1/await/{}/a?timeout_s=0", plain.id)).await.expect_status(422);
    assert_eq!(problem["errors"][0]["field"], "source", "{problem}");
    gateway.api.get("/v1/await/nowhere/a?timeout_s=0").await.expect_status(404);
    gateway.api.get("/v1/await/own/a?timeout_s=0&colour=red").await.expect_status(422);

    let openai = gateway.api.create_source("openai", &Provider::openai()).await;
    push(&gateway, &openai, "m2", br#"{"type":"response.completed","data":{"id":"resp_1"}}"#);
    let job = gateway.api.get(&format!("/v1/await/openai/resp_1?{WAIT}")).await.expect_status(200);
    assert_eq!((&job["result"], &job["good"]), (&json!("not_included"), &json!(true)), "{job}");

    // A body that is no JSON.
    gateway.push_request(&source, "try=1", &[("webhook-id", "m3")], b"job%5Bid%5D=x");
    let form = br#"{"job":{"id":"raw"}} "#;
    gateway.push_request(&source, "try=1", &[("webhook-id", "m4")], form);
    let job = gateway.api.get(&format!("/v1/await/own/raw-1?until=any&{WAIT}")).await.expect_status(200);
    assert_eq!(job["body"], json!({ "job": { "id": "raw" } }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_shows_progress_until_the_end_and_a_browser_that_has_seen_it_stops() {
    let gateway = Gateway::relay_only().await;
    let source = replicate(&gateway.api).await;
    push(&gateway, &source, "m1", &prediction("p1", "starting"));
    gateway.api.wait_for_rows("/v1/events?job_key=p1", 1, SOON).await;
    let url = format!("{}/v1/await/replicate/p1?{WAIT}", gateway.relay.url());
    let stream = |seen: Option<String>| {
        let request = http_client().get(&url).bearer_auth(gateway.relay.token()).header("accept", "text/event-stream");
        let request = match seen {
            Some(seen) => request.header("last-event-id", seen),
            None => request,
        };
        async move { request.send().await.expect("a response") }
    };
    let mut response = stream(None).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"].to_str().expect("text")),
        (200, &"text/event-stream")
    );
    let mut text = String::new();
    for (message, status, kind) in
        [("", "starting", "progress"), ("m2", "processing", "progress"), ("m3", "succeeded", "end")]
    {
        if !message.is_empty() {
            push(&gateway, &source, message, &prediction("p1", status));
        }
        while !text.contains(&format!("\"state\":\"{status}\"")) || !text.ends_with("\n\n") {
            let chunk = tokio::time::timeout(SOON, response.chunk()).await.expect("in time").expect("a chunk");
            text.push_str(&String::from_utf8_lossy(&chunk.expect("the stream goes on")));
        }
        let last = text.trim_end().rsplit("\n\n").next().expect("an event");
        assert!(last.starts_with(&format!("event: {kind}\nid: evt_")) && last.contains("\ndata: {"), "{text}");
    }
    assert!(tokio::time::timeout(SOON, response.chunk()).await.expect("in time").expect("it ends").is_none());
    assert!(text.starts_with("retry: 1000\n\n"), "{text}");
    let ids: Vec<&str> = text.split("id: ").skip(1).filter_map(|rest| rest.split('\n').next()).collect();
    assert_eq!(ids.len(), 3, "{text}");
    // A browser connects again by itself.
    assert_eq!(stream(Some(ids[2].to_owned())).await.status(), 204);
    let resumed = stream(Some(ids[1].to_owned())).await.text().await.expect("a text");
    assert!(resumed.contains(ids[2]) && !resumed.contains("event: progress"), "{resumed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_at_another_replica_is_answered_and_an_event_that_is_released_ends_waits_at_all() {
    let gateway = Gateway::relay_only().await;
    let replica = gateway.another_relay().await;
    let mut provider = Provider::replicate();
    provider.config = json!({ "on_failure": "quarantine" });
    let source = gateway.api.create_source("replicate", &provider).await;
    let there = gateway.api.at(replica.url());
    let wait = async |key: &str| {
        let path = format!("/v1/await/replicate/{key}?{WAIT}");
        [waiting(&gateway.relay, &gateway.api, &path).await, waiting(&replica, &there, &path).await]
    };
    for number in 0..5 {
        let calls = wait(&format!("p{number}")).await;
        push(&gateway, &source, &format!("m{number}"), &prediction(&format!("p{number}"), "succeeded"));
        for call in calls {
            answered(call).await.expect_status(200);
        }
    }
    let failure = Failure { cause: "signature_mismatch".to_owned(), detail: "wrong".to_owned() };
    let headers = [("content-type", "application/json"), ("webhook-id", "forged")];
    gateway.push_large(&source, &headers, prediction("q", "succeeded"), [Verification::Failed(failure)]);
    let event = gateway.api.wait_for_row("/v1/events?verification=failed", SOON).await;
    let calls = wait("q").await;
    gateway.api.post(&format!("/v1/events/{}/release", id(&event)), &json!({})).await.expect_status(200);
    for call in calls {
        let job = answered(call).await.expect_status(200);
        assert_eq!(job["event"]["verification"], "released", "{job}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_with_204_when_the_relay_stops() {
    let mut gateway = Gateway::relay_only().await;
    replicate(&gateway.api).await;
    let call = waiting(&gateway.relay, &gateway.api, &format!("/v1/await/replicate/p1?{WAIT}")).await;
    let begun = Instant::now();
    gateway.relay.stop().await.expect("stops");
    let reply = answered(call).await;
    assert_eq!((reply.status, reply.retry_after), (204, Some(0)), "{reply:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "no shutdown waits for the end of a wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_with_401_when_what_its_caller_authenticates_with_ends() {
    let gateway = Gateway::relay_only().await;
    for name in ["acme", "other"] {
        gateway.api.create_customer(name).await;
        replicate(&gateway.api.acting_for(name)).await;
    }
    let (acme, other) = (gateway.api.acting_for("acme"), gateway.api.acting_for("other"));
    let with = |made: &Value| gateway.api.with_token(made["token"].as_str().expect("a token"));
    let awaiting = async |api: &Api, more: Value| {
        let mut wanted = json!({ "source": "replicate", "key": "p1" });
        wanted.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        with(&api.post("/v1/await-tokens", &wanted).await.expect_status(201))
    };
    let made = gateway.api.create_token(&["read", "bodies"], Some("acme"), json!({})).await;
    let path = format!("/v1/await/replicate/p1?{WAIT}");
    let mut calls = Vec::new();
    for (what, api) in [
        ("a token that is revoked", with(&made)),
        ("an await token that it made", awaiting(&with(&made), json!({})).await),
        ("an await token of a customer that is deleted", awaiting(&other, json!({})).await),
    ] {
        calls.push((what, waiting(&gateway.relay, &api, &path).await));
    }
    let several = json!({ "all_of": [{ "source": "replicate", "key": "p1" }] });
    calls.push(("several jobs", waiting_for_several(&gateway.relay, &with(&made), several).await));
    let of_session = gateway.api.create_token(&["read"], Some("acme"), json!({})).await;
    let (mut browser, base) = (Browser::default(), gateway.relay.url().to_owned());
    browser.headers.insert("authorization", format!("Bearer {}", of_session["token"].as_str().expect("a token")));
    browser.send(Method::POST, &format!("{base}/v1/sessions"), None).await.expect_status(201);
    browser.headers.clear();
    let (mut page, url) = (browser.clone(), format!("{base}{path}"));
    let in_browser = begun(&gateway.relay, async move { page.get(&url).await }).await;
    let stays = waiting(&gateway.relay, &acme, &path).await;
    let token = made["token"].as_str().expect("a token");
    let request = http_client().get(format!("{base}{path}")).bearer_auth(token).header("accept", "text/event-stream");
    let stream = request.send().await.expect("a response").error_for_status().expect("a stream");

    gateway.api.post(&format!("/v1/tokens/{}/revoke", id(&made)), &json!({})).await.expect_status(200);
    browser.send(Method::DELETE, &format!("{base}/v1/sessions/current"), None).await.expect_status(204);
    gateway.api.delete("/v1/customers/other").await.expect_status(202);
    // Late enough for their calls to begin.
    let soon = time::OffsetDateTime::now_utc() + Duration::from_secs(10);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).expect("a time");
    let expiring = gateway.api.create_token(&["read"], Some("acme"), json!({ "expires_at": soon })).await;
    for (what, api) in [
        ("a token that expires", with(&expiring)),
        ("an await token that expires", awaiting(&acme, json!({ "ttl_s": 10 })).await),
    ] {
        calls.push((what, waiting(&gateway.relay, &api, &path).await));
    }
    for (what, call) in calls {
        let reply = answered(call).await;
        assert_eq!((reply.status, &reply.body["code"]), (401, &json!("unauthorized")), "{what}: {reply:?}");
    }
    let problem = answered(in_browser).await.expect_status(401);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("sign in again")), "{problem}");
    let text = tokio::time::timeout(SOON, stream.text()).await.expect("the stream ends").expect("a text");
    assert!(!text.contains("event:"), "{text}");
    assert!(!stays.is_finished(), "the call of another token goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_calls_leave_the_places_of_the_api_to_others_and_have_a_limit_of_their_own() {
    // So few that 25 connections may wait.
    let gateway = Gateway::relay_only_with(|settings| settings.with_open_files(400)).await;
    let source = replicate(&gateway.api).await;
    let mut calls = Vec::new();
    for number in 0..25 {
        let (api, path) = (gateway.api.clone(), format!("/v1/await/replicate/p{number}?{WAIT}"));
        // The check below may take the place of one of them for a moment.
        calls.push(tokio::spawn(async move {
            loop {
                let reply = api.get(&path).await;
                if reply.status != 503 {
                    return reply;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
    }
    until("all places to be taken", SOON, async || {
        let reply = gateway.api.get("/v1/await/replicate/more?timeout_s=1").await;
        if reply.status == 503 && reply.body["code"] == "no_room_to_wait" { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    // Looking needs no place, and so do all other calls.
    assert_eq!(gateway.api.get("/v1/await/replicate/more?timeout_s=0").await.status, 204);
    gateway.api.get("/v1/whoami").await.expect_status(200);
    for number in 0..25 {
        push(&gateway, &source, &format!("m{number}"), &prediction(&format!("p{number}"), "succeeded"));
    }
    for call in calls {
        answered(call).await.expect_status(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_awaits_a_job_of_another_customer() {
    let gateway = Gateway::relay_only().await;
    for name in ["acme", "other"] {
        gateway.api.create_customer(name).await;
    }
    let acme = gateway.api.acting_for("acme");
    let source = replicate(&acme).await;
    push(&gateway, &source, "m1", &prediction("p1", "succeeded"));
    let path = format!("/v1/await/{}/p1?timeout_s=0", source.id);
    acme.wait_for_rows("/v1/events?job_key=p1", 1, SOON).await;
    acme.get(&path).await.expect_status(200);
    let other = gateway.api.limited_to(&["read", "bodies"], Some("other")).await;
    for api in [gateway.api.clone(), other] {
        api.get(&path).await.expect_status(404);
        let body = json!({ "any_of": [{ "source": source.id, "key": "p1" }], "timeout_s": 0 });
        api.post("/v1/await", &body).await.expect_status(422);
        assert_eq!(api.all("/v1/events?job_key=p1").await, Vec::<Value>::new());
    }
    // A source of the same name and a job of the same key are others.
    let own = replicate(&gateway.api).await;
    assert_eq!(gateway.api.get("/v1/await/replicate/p1?timeout_s=0").await.status, 204);
    push(&gateway, &own, "m1", &prediction("p1", "failed"));
    gateway.api.wait_for_rows("/v1/events?job_key=p1", 1, SOON).await;
    assert_eq!(acme.get(&path).await.expect_status(200)["good"], true);
    let cookie = http_client().request(Method::GET, format!("{}{path}", gateway.relay.url())).send().await;
    assert_eq!(cookie.expect("a response").status(), 401);
}
