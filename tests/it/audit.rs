//! audit: each change has an entry in the audit log, written by its transaction.

use std::collections::BTreeMap;

use harness::api::{Api, Reply, http_client, id};
use harness::gateway::{Gateway, RelayOnly};
use harness::provider::Provider;
use harness::wait::SOON;
use reqwest::Method;
use serde_json::{Value, json};

use crate::calls::{Ids, Operation, operations};

/// The calls that may change nothing, with the reason.
const CHANGE_NOTHING: [(&str, &str); 6] = [
    ("post /v1/routes/try", "nothing is stored"),
    ("post /v1/sources/{id}/check", "nothing is stored"),
    ("post /v1/deliveries/release", "no delivery is held"),
    ("post /v1/unreadable-messages/release", "no message is unreadable"),
    ("post /v1/await", "it only waits"),
    ("post /v1/await-tokens", "an await token is not stored"),
];

/// The newest entry of the audit log.
async fn newest(api: &Api) -> Value {
    api.get("/v1/audit?limit=1").await.expect_status(200)["data"][0].clone()
}

async fn entries(api: &Api, filter: &str) -> Vec<Value> {
    api.all(&format!("/v1/audit?{filter}")).await
}

/// A deployment with an object of each kind.
async fn objects(gateway: &RelayOnly) -> Ids {
    let api = &gateway.api;
    let line = gateway.line("line").await;
    let route = &api.all("/v1/routes").await[0];
    gateway.push(&line.source, br#"{"type":"order.paid"}"#);
    let delivery = api.wait_for_row("/v1/deliveries?state=succeeded", SOON).await;
    let event = api.wait_for_row("/v1/events", SOON).await;
    let replay = api.post("/v1/replays", &json!({ "filter": { "source": "line" } })).await.expect_status(201);
    let customer = api.create_customer("acme").await;
    let token = api.post("/v1/tokens", &json!({ "name": "ci", "scopes": ["read"] })).await.expect_status(201);
    // Unconnected, so that a route can join them.
    let source = api.create_source("shop", &Provider::standard_webhooks()).await;
    let idle = api.create_destination("idle", "http://127.0.0.1:9999/", json!({})).await;
    let mut ids = Ids::of_nothing();
    ids.by_noun.extend([
        ("sources", source.id),
        ("destinations", idle.id),
        ("routes", id(route).to_owned()),
        ("events", id(&event).to_owned()),
        ("deliveries", id(&delivery).to_owned()),
        ("replays", id(&replay).to_owned()),
        ("customers", customer),
        ("tokens", id(&token).to_owned()),
    ]);
    ids.name = "other".to_owned();
    ids.url = "http://127.0.0.1:9999/".to_owned();
    ids
}

/// The calls that change something, deletions last.
async fn changes(api: &Api) -> Vec<Operation> {
    let mut changes = operations(api).await;
    changes.retain(|operation| operation.method != Method::GET);
    changes.sort_by_key(|operation| operation.method == Method::DELETE);
    changes
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_that_changes_something_has_an_entry_of_its_actor_and_each_that_does_not_has_none() {
    let gateway = Gateway::relay_only().await;
    let ids = objects(&gateway).await;
    let all = ["read", "bodies", "write", "replay", "secrets", "admin"];
    let operator = gateway.api.limited_to(&all, None).await;
    let me = operator.get("/v1/whoami").await.expect_status(200);
    let mut actions = BTreeMap::new();
    let mut wrong = Vec::new();
    for operation in changes(&gateway.api).await {
        let before = newest(&gateway.api).await;
        let reply = operation.send(&operator, &ids).await;
        let after = newest(&gateway.api).await;
        let is_written = before["id"] != after["id"];
        let is_wanted = reply.status < 300 && CHANGE_NOTHING.iter().all(|(name, _)| *name != operation.name);
        if is_written != is_wanted {
            wrong.push(format!("{}: {} {}, {after}", operation.name, reply.status, reply.body));
        }
        if is_written {
            assert_eq!((&after["actor"]["kind"], &after["actor"]["id"]), (&json!("token"), &me["token_id"]), "{after}");
            actions.insert(operation.name.clone(), after["action"].clone());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(actions.len() > 20, "{actions:?}");
}

/// Sends a request with an id of its own.
async fn requested(gateway: &RelayOnly, method: Method, path: &str, body: &Value) -> String {
    let request_id = "a-request-of-mine";
    let url = format!("{}{path}", gateway.relay.url());
    let request = http_client().request(method, url).bearer_auth(gateway.relay.token());
    let reply = request.header("x-request-id", request_id).json(body).send().await.expect("a response");
    assert!(reply.status().is_success(), "{}", reply.status());
    request_id.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_has_the_settings_before_and_after_and_no_secret() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let secret = "a-header-that-nobody-may-read";
    let headers = json!({ "headers": { "x-team": "payments", "authorization": secret }, "timeout_ms": 5_000 });
    let made = api.create_destination("billing", "http://127.0.0.1:9999/", headers).await;
    let path = format!("/v1/destinations/{}", made.id);
    let patch = json!({ "timeout_ms": 7_000, "headers": { "authorization": "another-header-that-nobody-may-read" } });
    let request = requested(&gateway, Method::PATCH, &path, &patch).await;
    let found = entries(api, &format!("request_id={request}")).await;
    let [entry] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((&entry["action"], &entry["object_id"]), (&json!("destination.update"), &json!(made.id)));
    assert_eq!((&entry["object_name"], &entry["actor"]["kind"]), (&json!("billing"), &json!("root")));
    assert_eq!(entry["actor"]["session_id"], Value::Null, "{entry}");
    assert_eq!((&entry["before"]["timeout_ms"], &entry["after"]["timeout_ms"]), (&json!(5_000), &json!(7_000)));
    assert_eq!(entry["after"]["secrets_changed"], json!(["headers.authorization"]));
    assert_eq!(entry["before"]["headers"], json!({ "authorization": true, "x-team": true }));

    // A secret is revealed, and replaced.
    let shown = api.get(&format!("{path}/signing-secret")).await.expect_status(200);
    assert_eq!(newest(api).await["action"], "destination.reveal_secret");
    let rotated = api.post(&format!("{path}/signing-secret/rotate"), &json!({})).await.expect_status(200);
    assert_eq!(newest(api).await["after"]["secrets_changed"], json!(["signing_secret"]));
    api.delete(&path).await.expect_status(204);
    let deleted = newest(api).await;
    assert_eq!((&deleted["action"], &deleted["after"]), (&json!("destination.delete"), &Value::Null), "{deleted}");
    let token = api.post("/v1/tokens", &json!({ "name": "ci", "scopes": ["read"] })).await.expect_status(201);

    let mut database = gateway.database.connect().await.expect("connects");
    let log: String = sqlx::query_scalar("select string_agg(to_jsonb(audit_entries)::text, ' ') from audit_entries")
        .fetch_one(&mut database)
        .await
        .expect("the log");
    for secret in [
        secret,
        "another-header",
        "payments",
        &made.signing_secret,
        shown["signing_secret"].as_str().expect("a secret"),
        rotated["signing_secret"].as_str().expect("a secret"),
        token["token"].as_str().expect("a token"),
    ] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_fails_has_no_entry_and_one_without_an_entry_is_not_made() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let api = &gateway.api;
    api.create_destination("billing", "http://127.0.0.1:9999/", json!({})).await;
    let before = newest(api).await;
    let again = json!({ "name": "billing", "url": "http://127.0.0.1:9999/" });
    api.post("/v1/destinations", &again).await.expect_status(409);
    api.patch("/v1/destinations/billing", &json!({ "timeout_ms": 1 })).await.expect_status(422);
    assert_eq!(newest(api).await, before);
    // Nor has one that leaves everything as it is.
    let same = json!({ "url": "http://127.0.0.1:9999/" });
    api.put("/v1/destinations/by-name/billing", &same).await.expect_status(200);
    api.patch("/v1/destinations/billing", &json!({})).await.expect_status(200);
    assert_eq!(newest(api).await, before);

    let mut database = gateway.database.connect().await.expect("connects");
    let refuse = "alter table audit_entries add constraint nothing check (action <> 'destination.update') not valid";
    sqlx::query(refuse).execute(&mut database).await.expect("alters");
    let reply: Reply = api.patch("/v1/destinations/billing", &json!({ "timeout_ms": 5_000 })).await;
    assert!(reply.status >= 500, "{reply:?}");
    let billing = api.get("/v1/destinations/billing").await.expect_status(200);
    assert_eq!(billing["timeout_ms"], 15_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_partition_of_the_audit_log_does_not_keep_a_change_from_being_made() {
    let gateway = Gateway::relay_only().await;
    let mut database = gateway.database.connect().await.expect("connects");
    let drop = "do $$ declare part text; begin
        for part in select inhrelid::regclass::text from pg_inherits where inhparent = 'audit_entries'::regclass loop
            execute 'drop table ' || part;
        end loop; end $$";
    sqlx::raw_sql(drop).execute(&mut database).await.expect("drops");
    gateway.api.create_destination("billing", "http://127.0.0.1:9999/", json!({})).await;
    assert_eq!(newest(&gateway.api).await["action"], "destination.create");
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_a_body_with_a_token_that_is_not_bound_has_one_entry_per_token_event_and_hour() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let line = gateway.line("line").await;
    gateway.push(&line.source, br#"{"type":"order.paid"}"#);
    let event = id(&api.wait_for_row("/v1/events", SOON).await).to_owned();
    let path = format!("/v1/events/{event}/body");
    let replica = gateway.another_relay().await;
    let support = api.limited_to(&["bodies"], None).await;
    let bound = api.limited_to(&["bodies"], Some("default")).await;
    // At the same time, through two relays.
    let mut reads = tokio::task::JoinSet::new();
    for reader in [support.clone(), support.at(replica.url())].into_iter().cycle().take(20) {
        let path = path.clone();
        reads.spawn(async move { reader.bytes(&path).await });
    }
    reads.join_all().await;
    bound.bytes(&path).await;
    let found = entries(api, &format!("object={event}")).await;
    let [entry] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((&entry["action"], &entry["actor"]["kind"]), (&json!("event.read_body"), &json!("token")));

    api.bytes(&path).await;
    api.bytes(&path).await;
    let found = entries(api, &format!("object={event}&actor=root")).await;
    assert_eq!(found.len(), 1, "{found:?}");

    // The next hour has an entry of its own.
    let mut database = gateway.database.connect().await.expect("connects");
    let earlier = "update audit_entries set at = at - interval '1 hour' where object_id = $1";
    sqlx::query(earlier).bind(&event).execute(&mut database).await.expect("updates");
    support.bytes(&path).await;
    assert_eq!(entries(api, &format!("object={event}")).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_filtered_and_only_actors_of_the_deployment_read_it() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let acme = api.create_customer("acme").await;
    let acting = api.acting_for("acme");
    acting.create_destination("billing", "http://127.0.0.1:9999/", json!({})).await;
    api.create_destination("billing", "http://127.0.0.1:9999/", json!({})).await;
    let actions = async |filter: &str| -> Vec<String> {
        let entries = entries(api, filter).await;
        entries.iter().map(|entry| entry["action"].as_str().expect("an action").to_owned()).collect()
    };
    assert_eq!(actions("customer=acme").await, ["destination.create", "customer.create"]);
    assert_eq!(actions(&format!("customer={acme}&action=customer.create")).await, ["customer.create"]);
    assert_eq!(actions("action=destination.create").await.len(), 2);
    assert_eq!(actions("before=2020-01-01T00:00:00Z").await.len(), 0);
    for wrong in ["customer=nobody", "action=destination.paint", "colour=red", "limit=0"] {
        api.get(&format!("/v1/audit?{wrong}")).await.expect_status(422);
    }
    api.limited_to(&["read"], None).await.get("/v1/audit").await.expect_status(200);
    api.limited_to(&["read"], Some("acme")).await.get("/v1/audit").await.expect_status(403);
}
