//! patch: PATCH changes a part of a source, destination or route, and the response to a change lists the fields that it
//! reset or removed.

use harness::api::id;
use harness::gateway::Gateway;
use harness::receiver::Receiver;
use harness::wait::SOON;
use serde_json::{Value, json};

/// The names of the fields that a problem reports.
fn wrong_fields(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().into_iter().flatten().filter_map(|error| error["field"].as_str()).collect()
}

/// Asserts that these fields of a response have these values.
#[track_caller]
fn assert_fields(response: &Value, wanted: &Value) {
    for (field, value) in wanted.as_object().expect("fields") {
        assert_eq!(response[field], *value, "{field} in {response}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_changes_a_part_of_a_destination_and_keeps_the_rest() {
    let gateway = Gateway::relay_only().await;
    let made = json!({
        "rate_limit": { "limit": 5, "per": "minute" }, "max_concurrency": 4, "timeout_ms": 2_000,
        "retry": { "initial_s": 1, "multiplier": 2.0, "max_s": 60, "attempts": 7 }, "append_query": true,
        "headers": { "X-Team": "billing", "authorization": "Bearer first" },
    });
    let made = gateway.api.create_destination("shop", "http://127.0.0.1:9009/hook", made).await.body;
    let patch = async |change: Value| gateway.api.patch("/v1/destinations/shop", &change).await;

    let changed = patch(json!({ "rate_limit": { "limit": 9 }, "retry": { "attempts": 3 } })).await.expect_status(200);
    assert_fields(
        &changed,
        &json!({
            "id": made["id"], "url": made["url"], "rate_limit": { "limit": 9, "per": "minute" }, "max_concurrency": 4,
            "timeout_ms": 2_000, "retry": { "initial_s": 1, "multiplier": 2.0, "max_s": 60, "attempts": 3 },
            "header_names": ["authorization", "x-team"], "append_query": true, "dropped": Value::Null,
            "created_at": made["created_at"],
        }),
    );
    let nothing =
        json!({ "rate_limit": null, "max_concurrency": null, "append_query": null, "headers": { "X-TEAM": null } });
    assert_fields(
        &patch(nothing).await.expect_status(200),
        &json!({
            "rate_limit": null, "max_concurrency": 10, "timeout_ms": 2_000, "append_query": false,
            "header_names": ["authorization"],
            "dropped": ["append_query", "headers.x-team", "max_concurrency", "rate_limit"],
        }),
    );
    // A retry policy changes its form only if the fields of the other form are removed.
    let wrong = patch(json!({ "retry": { "schedule_s": [0, 5] } })).await.expect_status(422);
    assert_eq!(wrong_fields(&wrong), ["retry"]);
    let other = json!({ "schedule_s": [0, 5], "initial_s": null, "multiplier": null, "max_s": null, "attempts": null });
    let changed = patch(json!({ "retry": other })).await.expect_status(200);
    assert_fields(&changed, &json!({ "retry": { "schedule_s": [0, 5] }, "dropped": null }));
    let changed = patch(json!({ "headers": null, "retry": null })).await.expect_status(200);
    assert_fields(&changed, &json!({ "header_names": [], "dropped": ["headers.authorization", "retry"] }));
    assert_eq!(changed["retry"]["schedule_s"].as_array().map(Vec::len), Some(10));

    let unchanged = gateway.api.get("/v1/destinations/shop").await.expect_status(200);
    for (change, fields) in [
        (json!({ "colour": "red" }), vec!["colour"]),
        (json!({ "state": "paused" }), vec!["state"]),
        (json!({ "url": null }), vec!["url"]),
        (json!({ "url": 7 }), vec!["url"]),
        (json!({ "url": "http://169.254.169.254/" }), vec!["url"]),
        (json!({ "rate_limit": { "limit": 5 } }), vec!["rate_limit.per"]),
        (json!({ "max_concurrency": 0, "timeout_ms": 1 }), vec!["max_concurrency", "timeout_ms"]),
        (json!({ "headers": { "host": "x" } }), vec!["headers.host"]),
        (json!({ "headers": { "X-A": "1", "x-a": "2" } }), vec!["headers.x-a"]),
        (json!({ "signing_secret": null }), vec!["signing_secret"]),
        (json!({ "signing_secret": "secret" }), vec!["signing_secret"]),
    ] {
        let problem = patch(change.clone()).await.expect_status(422);
        assert_eq!(wrong_fields(&problem), fields, "{change}: {problem}");
    }
    assert_eq!(patch(json!({})).await.expect_status(200)["dropped"], Value::Null);
    gateway.api.patch("/v1/destinations/nobody", &json!({})).await.expect_status(404);
    let now = gateway.api.get("/v1/destinations/shop").await.expect_status(200);
    for field in ["url", "rate_limit", "max_concurrency", "timeout_ms", "retry", "header_names", "state"] {
        assert_eq!(now[field], unchanged[field], "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_keeps_the_headers_and_secrets_that_it_omits_but_drops_the_headers_for_another_origin() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("line").await;
    let patch = async |change: Value| gateway.api.patch("/v1/destinations/line", &change).await.expect_status(200);
    patch(json!({ "headers": { "authorization": "Bearer first", "x-team": "billing" } })).await;
    patch(json!({ "headers": { "x-team": "shipping" }, "max_concurrency": 2 })).await;
    gateway.push(&line.source, b"{}");
    let received = line.receiver.wait_for(1, SOON).await.remove(0);
    assert_eq!((received.header("authorization"), received.header("x-team")), ("Bearer first", "shipping"));
    received.verify(&line.destination.signing_secret).expect("the signing secret is unchanged");

    let elsewhere = Receiver::start().await.expect("starts");
    let moved = patch(json!({ "url": elsewhere.url(), "headers": { "x-team": "billing" } })).await;
    assert_fields(&moved, &json!({ "header_names": ["x-team"], "dropped": ["headers.authorization"] }));
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    patch(json!({ "signing_secret": secret })).await;
    gateway.push(&line.source, b"{}");
    let received = elsewhere.wait_for(1, SOON).await.remove(0);
    assert_eq!((received.headers.contains_key("authorization"), received.header("x-team")), (false, "billing"));
    for secret in [secret, &line.destination.signing_secret] {
        received.verify(secret).expect("the new signing secret and the one before both sign");
    }
    let moved = patch(json!({ "url": line.receiver.url() })).await;
    assert_fields(&moved, &json!({ "header_names": [], "headers_cleared": true, "dropped": ["headers.x-team"] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_changes_a_part_of_a_source_in_the_relay_and_at_the_edge_and_keeps_the_rest() {
    let gateway = Gateway::relay_only().await;
    let config = json!({ "on_failure": "quarantine", "quarantine": { "events_per_hour": 5, "body_bytes": 7_000 } });
    let made = json!({ "name": "shop", "provider": "github", "secrets": ["secret-number-1"], "config": config });
    let made = gateway.api.post("/v1/sources", &made).await.expect_status(201);
    let id = id(&made);
    let patch = async |change: Value| gateway.api.patch("/v1/sources/shop", &change).await;

    let change = json!({ "config": { "max_body_bytes": 9_000, "quarantine": { "events_per_hour": 6 } } });
    let changed = patch(change).await.expect_status(200);
    let config = json!({
        "on_failure": "quarantine", "max_body_bytes": 9_000, "quarantine": { "events_per_hour": 6, "body_bytes": 7_000 },
    });
    assert_fields(&changed, &json!({ "id": id, "config": config, "edge": "active", "dropped": null }));
    let held = gateway.edge.sources()[id].clone();
    assert_fields(
        &held,
        &json!({ "max_body_bytes": 9_000, "max_unverified_body_bytes": 7_000, "on_failure": "quarantine" }),
    );
    assert_eq!(held["secrets"], json!(["secret-number-1"]));

    let change = json!({ "config": { "on_failure": null, "quarantine": { "body_bytes": null } } });
    let changed = patch(change).await.expect_status(200);
    let config = json!({ "max_body_bytes": 9_000, "quarantine": { "events_per_hour": 6 } });
    let dropped = json!(["config.on_failure", "config.quarantine.body_bytes"]);
    assert_fields(&changed, &json!({ "config": config, "edge": "active", "dropped": dropped }));
    assert_eq!(gateway.edge.sources()[id]["on_failure"], "reject");

    patch(json!({ "secrets": ["secret-number-2"] })).await.expect_status(200);
    let held = gateway.edge.sources()[id].clone();
    let secrets = json!({ "secrets": ["secret-number-2"], "retired_secrets": ["secret-number-1"] });
    assert_fields(&held, &secrets);
    let changed = patch(json!({ "provider": "none", "secrets": [], "config": null })).await.expect_status(200);
    let dropped = json!(["config.max_body_bytes", "config.quarantine"]);
    assert_fields(&changed, &json!({ "provider": "none", "config": {}, "secrets": [], "dropped": dropped }));

    let revision = gateway.edge.sources()[id]["revision"].clone();
    for (change, fields) in [
        (json!({ "colour": "red" }), vec!["colour"]),
        (json!({ "provider": null }), vec!["provider"]),
        (json!({ "provider": "nobody" }), vec!["provider"]),
        (json!({ "config": { "colour": "red" } }), vec!["config.colour"]),
        (json!({ "config": 7 }), vec!["config"]),
        (json!({ "secrets": null }), vec!["secrets"]),
        (json!({ "secrets": [7] }), vec!["secrets[0]"]),
        (json!({ "provider": "github" }), vec!["secrets"]),
    ] {
        let problem = patch(change.clone()).await.expect_status(422);
        assert_eq!(wrong_fields(&problem), fields, "{change}: {problem}");
    }
    assert_eq!(gateway.edge.sources()[id]["revision"], revision, "nothing was written to the edge");
    gateway.api.patch("/v1/sources/nobody", &json!({})).await.expect_status(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_changes_a_part_of_a_route_and_null_restores_a_default() {
    let gateway = Gateway::relay_only().await;
    gateway.line("line").await;
    let route = gateway.api.all("/v1/routes").await.remove(0);
    let path = format!("/v1/routes/{}", id(&route));
    let patch = async |change: Value| gateway.api.patch(&path, &change).await;
    let given =
        json!({ "filter": "true", "transform": "body", "order_key": "body.n", "poison": "skip", "enabled": false });
    assert_fields(&patch(given.clone()).await.expect_status(200), &given);
    let changed = patch(json!({ "filter": null, "poison": null, "enabled": null })).await.expect_status(200);
    assert_fields(
        &changed,
        &json!({ "filter": null, "transform": "body", "order_key": "body.n", "poison": "block", "enabled": true }),
    );
    assert_eq!(changed["dropped"], json!(["enabled", "filter", "poison"]));
    let problem = patch(json!({ "filter": "event.", "transform": "nothing" })).await.expect_status(422);
    assert_eq!(wrong_fields(&problem), ["filter", "transform"]);
    let problem = patch(json!({ "source": "line" })).await.expect_status(422);
    assert_eq!(wrong_fields(&problem), ["source"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_response_to_a_put_names_the_fields_that_it_reset_or_removed() {
    let gateway = Gateway::relay_only().await;
    let (secret, key) = ("Bearer very-secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let url = "http://127.0.0.1:9009/hook";
    let whole = json!({
        "url": url, "rate_limit": { "limit": 5, "per": "minute" }, "max_concurrency": 4, "timeout_ms": 2_000,
        "retry": { "schedule_s": [0, 9] }, "headers": { "authorization": secret, "X-Team": "billing" },
        "signing_secret": key,
    });
    let put = async |settings: &Value| {
        let response = gateway.api.put("/v1/destinations/by-name/shop", settings).await;
        assert!([200, 201].contains(&response.status), "{response:?}");
        response.body
    };
    assert_eq!(put(&whole).await["dropped"], Value::Null, "the destination is new");
    assert_eq!(put(&whole).await["dropped"], Value::Null, "every field is given again");
    let other = json!({
        "url": url, "rate_limit": { "limit": 6, "per": "hour" }, "max_concurrency": 5,
        "retry": { "initial_s": 1, "multiplier": 2.0, "max_s": 60, "attempts": 7 }, "headers": { "x-team": "shipping" },
    });
    let response = put(&other).await;
    assert_eq!(response["dropped"], json!(["headers.authorization", "timeout_ms"]));
    let response = put(&json!({ "url": url })).await;
    assert_eq!(response["dropped"], json!(["max_concurrency", "rate_limit", "retry"]), "headers are kept");
    let response = put(&json!({ "url": "http://127.0.0.1:9010/hook" })).await;
    assert_fields(&response, &json!({ "dropped": ["headers.x-team"], "headers_cleared": true }));
    for hidden in [secret, key, "shipping"] {
        assert!(!response.to_string().contains(hidden), "{response}");
    }

    let whole = json!({
        "provider": "github", "secrets": ["secret-number-1"],
        "config": { "on_failure": "quarantine", "acknowledgement": { "status": 204, "body": "" }, "max_body_bytes": 9_000 },
    });
    let put = async |settings: &Value| gateway.api.put("/v1/sources/by-name/shop", settings).await.body;
    assert_eq!(put(&whole).await["dropped"], Value::Null);
    let config = json!({ "acknowledgement": { "status": 202 }, "max_body_bytes": 8_000 });
    let response = put(&json!({ "provider": "github", "config": config })).await;
    assert_eq!(response["dropped"], json!(["config.acknowledgement.body", "config.on_failure"]));
    let response = put(&json!({ "provider": "github" })).await;
    assert_eq!(response["dropped"], json!(["config.acknowledgement", "config.max_body_bytes"]));
    assert!(!response.to_string().contains("secret-number-1"), "{response}");

    let route = gateway.api.create_route("shop", "shop", json!({ "filter": "true", "poison": "skip" })).await;
    let path = format!("/v1/routes/{route}");
    let response = gateway.api.put(&path, &json!({ "transform": "body" })).await.expect_status(200);
    assert_eq!(response["dropped"], json!(["filter", "poison"]));
    let response = gateway.api.put(&path, &json!({ "transform": "body" })).await.expect_status(200);
    assert_eq!(response["dropped"], Value::Null);
    let shown = gateway.api.get(&path).await.expect_status(200);
    assert_eq!(shown["dropped"], Value::Null, "only the response to a change has the field");
}
