//! scopes: a call is allowed with the scope that the OpenAPI document names, and forbidden with every other one.

use harness::gateway::Gateway;
use serde_json::{Value, json};

use crate::calls::{Ids, operations};

const SCOPES: [&str; 6] = ["read", "bodies", "write", "replay", "secrets", "admin"];

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_allowed_with_the_scope_that_the_description_names_and_with_no_other() {
    let gateway = Gateway::relay_only().await;
    let ids = Ids::of_nothing();
    let operations = operations(&gateway.api).await;
    let mut wrong = Vec::new();
    for scope in SCOPES {
        let limited = gateway.api.limited_to(&[scope], None).await;
        for operation in &operations {
            let is_allowed = operation.scope.as_deref().is_none_or(|needed| needed == scope);
            let reply = operation.send(&limited, &ids).await;
            let is_fine = match reply.status {
                403 => !is_allowed && names(&reply.body, operation.scope.as_deref()),
                401 | 429 | 500.. => false,
                _ => is_allowed,
            };
            if !is_fine {
                wrong.push(format!("{} with {scope}: {} {}", operation.name, reply.status, reply.body));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a problem says that this scope is missing.
fn names(problem: &Value, scope: Option<&str>) -> bool {
    let missing = format!("the scope {},", scope.unwrap_or_default());
    problem["code"] == "forbidden" && problem["detail"].as_str().is_some_and(|detail| detail.contains(&missing))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_several_scopes_may_do_what_each_of_them_allows() {
    let gateway = Gateway::relay_only().await;
    let reader = gateway.api.limited_to(&["read", "replay"], None).await;
    let line = gateway.line("line").await;
    gateway.push(&line.source, b"{}");
    let event = gateway.api.wait_for_row("/v1/events", harness::wait::SOON).await;
    let id = harness::api::id(&event);
    reader.get(&format!("/v1/events/{id}")).await.expect_status(200);
    reader.get(&format!("/v1/events/{id}/body")).await.expect_status(403);
    let replay = json!({ "filter": { "source": "line" } });
    let made = reader.post("/v1/replays", &replay).await.expect_status(201);
    // A token that may only replay sees the replay that it has made.
    let replayer = gateway.api.limited_to(&["replay"], None).await;
    replayer.post("/v1/replays", &replay).await.expect_status(201);
    replayer.get(&format!("/v1/replays/{}", harness::api::id(&made))).await.expect_status(403);
    let paused = gateway.api.limited_to(&["write"], None).await.pause("line").await;
    assert_eq!(paused["state"], "paused");
}
