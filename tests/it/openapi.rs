//! openapi: every response matches the description of its call, whatever the request.
//!
//! schemathesis makes good and bad requests from `/openapi.json`, and checks every response against it.
//! `tests/openapi/` has its settings. The number of examples per call is small by default; `EXAMPLES=50` raises it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::api::http_client;
use harness::gateway::Gateway;
use harness::process::{Process, Signal};
use harness::provider::Provider;
use harness::receiver::{Behaviour, Receiver};
use harness::wait::{SOON, until};
use harness::{place, tools};
use serde_json::{Value, json};

/// The time limit of a run. A run with many examples takes minutes.
const LONGEST: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread")]
async fn every_response_matches_the_description_of_its_call() {
    let program = tools::blocking(tools::schemathesis).await.unwrap_or_else(|error| panic!("{error}"));
    let mut gateway = Gateway::start().await;
    // The relay logs an error for the unreadable message. The checks find responses with 5xx.
    gateway.relay.expect_errors();
    let objects = objects(&gateway).await;
    let mut process = run(&program, &gateway, gateway.relay.token(), &objects, &["--max-examples", &examples()]);
    let status = until("schemathesis to end", LONGEST, async || process.ended().ok_or_else(|| process.tail(1))).await;
    assert!(status.success(), "schemathesis ended with {status}:\n{}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_to_a_token_that_only_reads_matches_too_and_reading_changes_nothing() {
    let mut gateway = Gateway::start().await;
    gateway.relay.expect_errors();
    let objects = objects(&gateway).await;
    let before = configuration(&gateway).await;
    check_scopes(&gateway, &objects, &["read", "bodies"]).await;
    assert_eq!(configuration(&gateway).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_to_a_token_that_only_writes_or_replays_matches_too() {
    let mut gateway = Gateway::start().await;
    gateway.relay.expect_errors();
    let objects = objects(&gateway).await;
    check_scopes(&gateway, &objects, &["write", "replay"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_to_a_token_for_secrets_or_administration_matches_too() {
    let mut gateway = Gateway::start().await;
    gateway.relay.expect_errors();
    let objects = objects(&gateway).await;
    check_scopes(&gateway, &objects, &["secrets", "admin"]).await;
}

/// Checks the whole API with a token for each of these scopes, at the same time. The systematic requests of the phase
/// `coverage`, which take most of the time, are left to the test with all scopes: what a scope changes is whether a call
/// is allowed and what it shows, and the generated requests of the other phase find that.
async fn check_scopes(gateway: &Gateway, objects: &Value, scopes: &[&str]) {
    let program = tools::blocking(tools::schemathesis).await.unwrap_or_else(|error| panic!("{error}"));
    let examples = examples();
    let mut processes = Vec::new();
    for scope in scopes {
        let made = gateway.api.create_token(&[scope], None, json!({})).await;
        let token = made["token"].as_str().expect("a token");
        let options = ["--phases", "fuzzing", "--max-examples", &examples];
        processes.push((scope, run(&program, gateway, token, objects, &options)));
    }
    for (scope, mut process) in processes {
        let ended =
            until("schemathesis to end", LONGEST, async || process.ended().ok_or_else(|| process.tail(1))).await;
        assert!(ended.success(), "schemathesis with the scope {scope} ended with {ended}:\n{}", process.log());
    }
}

/// Everything that a token which may only read could change.
async fn configuration(gateway: &Gateway) -> Vec<Vec<Value>> {
    let mut all = Vec::new();
    for list in ["sources", "destinations", "routes", "replays", "customers"] {
        let rows = gateway.api.all(&format!("/v1/{list}")).await;
        // A replay makes progress by itself.
        all.push(rows.iter().map(|row| json!([row["id"], row["updated_at"]])).collect());
    }
    all
}

/// Starts the checks of the whole API.
fn run(program: &Path, gateway: &Gateway, token: &str, objects: &Value, options: &[&str]) -> Process {
    let folder = place::repository().join("tests/openapi");
    let mut command = Command::new(program);
    command
        .arg("--config-file")
        .arg(folder.join("schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", gateway.relay.url())])
        .args(options)
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", &folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NO_COLOR", "1")
        .env("TIDEGATE_TOKEN", token)
        .env("TIDEGATE_OBJECTS", objects.to_string())
        // Hypothesis keeps the examples that failed in the working folder.
        .current_dir(place::temporary("openapi").expect("a folder"));
    Process::start("schemathesis", &mut command, Signal::Term).expect("schemathesis starts")
}

#[expect(clippy::disallowed_methods, reason = "the developer chooses")]
fn examples() -> String {
    std::env::var("EXAMPLES").unwrap_or_else(|_| "3".to_owned())
}

/// Creates an object of each kind, with succeeded and dead deliveries, and returns their ids and names.
async fn objects(gateway: &Gateway) -> Value {
    let line = gateway.line(Provider::standard_webhooks()).await;
    let refusing = Receiver::behaving(Behaviour::Status(404)).await.expect("a receiver");
    let retry = json!({ "retry": { "schedule_s": [0] } });
    let dead = gateway.api.create_destination("refusing", &refusing.url(), retry).await;
    gateway.api.create_route("line", "refusing", json!({})).await;
    let client = http_client();
    for id in ["one", "two"] {
        let sent = line.provider.sample(id).send(&client, &line.source.ingest_url).await.expect("sends");
        assert_eq!(sent.status(), 200);
    }
    gateway.queue.push("no message of the edge");
    line.receiver.wait_for(2, SOON).await;
    until("the deliveries to be settled", SOON, async || {
        let settled = gateway.api.all("/v1/deliveries?state=dead").await.len();
        let kept = gateway.api.all("/v1/unreadable-messages").await.len();
        if settled == 2 && kept == 1 { Ok(()) } else { Err(format!("{settled} dead, {kept} unreadable")) }
    })
    .await;
    gateway.api.post("/v1/replays", &json!({ "filter": { "source": "line" } })).await.expect_status(201);
    gateway.api.create_customer("acme").await;
    gateway.api.create_token(&["read"], Some("acme"), json!({})).await;
    gateway.api.post("/v1/operations", &json!({ "kind": "reseal" })).await.expect_status(202);
    gateway.api.post("/v1/sessions", &json!({})).await.expect_status(201);
    let ids =
        async |path: &str| -> Vec<Value> { gateway.api.all(path).await.iter().map(|row| row["id"].clone()).collect() };
    json!({
        "providers": ids("/v1/providers").await,
        "sources": [line.source.id, "line"],
        "destinations": [line.destination.id, dead.id, "refusing"],
        "routes": ids("/v1/routes").await,
        "events": ids("/v1/events").await,
        "deliveries": ids("/v1/deliveries").await,
        "replays": ids("/v1/replays").await,
        "unreadable-messages": ids("/v1/unreadable-messages").await,
        "customers": ids("/v1/customers").await,
        "tokens": ids("/v1/tokens").await,
        "operations": ids("/v1/operations").await,
        "sessions": ids("/v1/sessions").await,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_or_a_body_that_a_call_does_not_describe_is_refused() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let path = format!("/v1/destinations/{}", line.destination.id);
    for unknown in ["colour=red", "limit=1", "%63olour"] {
        let problem = gateway.api.get(&format!("{path}?{unknown}")).await.expect_status(422);
        let name = unknown.split('=').next().unwrap_or_default().replace("%63", "c");
        assert_eq!(problem["errors"][0]["field"], name, "{problem}");
    }
    gateway.api.get("/v1/events?colour=red").await.expect_status(422);
    gateway.api.delete(&format!("{path}?force=true")).await.expect_status(422);
    gateway.api.get(&path).await.expect_status(200);

    let pause = format!("{path}/pause");
    gateway.api.post(&pause, &json!({ "until": "2026-01-31T08:00:00Z" })).await.expect_status(422);
    assert_eq!(gateway.api.get(&path).await.expect_status(200)["state"], "active");
    gateway.api.post(&pause, &json!({})).await.expect_status(200);
    // The fields of an object must be named. A list of their values is refused.
    let url = line.receiver.url();
    for (field, positional) in [
        ("", json!(["positional", url])),
        ("rate_limit", json!({ "name": "positional", "url": url, "rate_limit": [5, "second"] })),
        ("retry", json!({ "name": "positional", "url": url, "retry": [[0, 5]] })),
    ] {
        let problem = gateway.api.post("/v1/destinations", &positional).await.expect_status(422);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    // A whole number may have a fraction of zero.
    let whole = json!({
        "name": "whole", "url": url, "max_concurrency": 5.0, "rate_limit": { "limit": 7.0, "per": "second" },
        "retry": { "schedule_s": [0.0, 5.0] },
    });
    let whole = gateway.api.post("/v1/destinations", &whole).await.expect_status(201);
    let numbers = (&whole["max_concurrency"], &whole["rate_limit"]["limit"], &whole["retry"]["schedule_s"]);
    assert_eq!(numbers, (&json!(5), &json!(7), &json!([0, 5])));
    let replay = json!({ "filter": ["line"], "dry_run": true });
    gateway.api.post("/v1/replays", &replay).await.expect_status(422);
    gateway.api.post(&format!("{path}/signing-secret/rotate"), &json!([null, 0])).await.expect_status(422);
    // A field of the other form must be omitted, and null does not omit it.
    let mixed = json!({ "schedule_s": [0], "initial_s": null });
    let wrong = json!({ "name": "mixed", "url": line.receiver.url(), "retry": mixed });
    gateway.api.post("/v1/destinations", &wrong).await.expect_status(422);
}
