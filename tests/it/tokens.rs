//! tokens: what is accepted, by which replica, until when, and how wrong tokens are slowed.

use std::time::{Duration, Instant};

use harness::api::{Api, id};
use harness::gateway::Gateway;
use harness::postgres::{Server, Shutdown};
use harness::wait::SOON;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::calls::{Ids, operations};

/// As many wrong tokens as an address may send at once.
const BURST: usize = 100;

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_else(|| panic!("no \"{field}\" in {object}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_once_and_only_its_hash_is_stored() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    let customer = api.create_customer("acme").await;
    let wanted = json!({
        "name": "CI of Acme ✓", "customer": "acme", "scopes": ["write", "read", "read"],
        "expires_at": "2126-01-31T08:00:00+01:00",
    });
    let made = api.post("/v1/tokens", &wanted).await.expect_status(201);
    let token = text(&made, "token");
    assert!(token.starts_with("tg_") && token.len() == 67, "{token}");
    assert_eq!(made["scopes"], json!(["read", "write"]));
    assert_eq!((text(&made, "customer"), text(&made, "customer_id")), ("acme", customer.as_str()));
    assert_eq!(text(&made, "expires_at"), "2126-01-31T07:00:00Z");

    let path = format!("/v1/tokens/{}", id(&made));
    let shown = api.get(&path).await.expect_status(200);
    let listed = api.all("/v1/tokens").await;
    assert_eq!(listed, std::slice::from_ref(&shown));
    assert_eq!((text(&shown, "name"), shown.get("token")), ("CI of Acme ✓", None));
    assert_eq!(text(&shown, "hint"), format!("…{}", &token[63..]));
    let mut database = gateway.database.connect().await.expect("connects");
    let row: String =
        sqlx::query_scalar("select tokens::text from tokens").fetch_one(&mut database).await.expect("a row");
    assert!(!row.contains(&token[3..63]), "{row}");
    let hash: Vec<u8> = sqlx::query_scalar("select hash from tokens").fetch_one(&mut database).await.expect("a row");
    assert_eq!(hash, Sha256::digest(token).to_vec());

    let me = api.with_token(token).get("/v1/whoami").await.expect_status(200);
    assert_eq!((text(&me, "kind"), text(&me, "token_id"), text(&me, "customer")), ("token", id(&made), "acme"));
    assert_eq!((&me["scopes"], &me["expires_at"]), (&made["scopes"], &made["expires_at"]));
    let root = api.get("/v1/whoami").await.expect_status(200);
    assert_eq!((text(&root, "kind"), &root["token_id"], &root["customer"]), ("root", &Value::Null, &Value::Null));
    assert_eq!(root["scopes"].as_array().map(Vec::len), Some(6));

    for (wrong, field) in [
        (json!({ "name": "", "scopes": ["read"] }), "name"),
        (json!({ "name": "a", "scopes": [] }), "scopes"),
        (json!({ "name": "a", "scopes": ["fly"] }), "scopes[0]"),
        (json!({ "name": "a", "scopes": ["admin"], "customer": "acme" }), "scopes"),
        (json!({ "name": "a", "scopes": ["read"], "customer": "nobody" }), "customer"),
        (json!({ "name": "a", "scopes": ["read"], "expires_at": "2026-01-31T08:00:00Z" }), "expires_at"),
    ] {
        let problem = api.post("/v1/tokens", &wrong).await.expect_status(422);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
}

/// The status and the code of a call of each operation with this client.
async fn refusals(api: &Api) -> Vec<(String, u16, Value)> {
    let (ids, mut refused) = (Ids::of_nothing(), Vec::new());
    for operation in operations(api).await {
        let reply = operation.send(api, &ids).await;
        refused.push((operation.name, reply.status, reply.body));
    }
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_and_a_revoked_token_are_refused_by_every_call_and_every_replica() {
    let gateway = Gateway::relay_only().await;
    let replica = gateway.another_relay().await;
    let expired = gateway.api.create_token(&["read", "admin"], None, json!({})).await;
    gateway.database.run("update tokens set expires_at = now()").await;
    let revoked = gateway.api.create_token(&["read", "admin"], None, json!({})).await;
    let path = format!("/v1/tokens/{}/revoke", id(&revoked));
    let first = gateway.api.post(&path, &json!({})).await.expect_status(200);
    assert_eq!(gateway.api.post(&path, &json!({})).await.expect_status(200), first, "it is revoked once");

    let problem = gateway.api.with_token("unknown").get("/v1/whoami").await.expect_status(401);
    assert_eq!(problem["code"], "unauthorized");
    for (token, base) in [(&expired, replica.url()), (&revoked, gateway.relay.url())] {
        for (name, status, body) in refusals(&gateway.api.with_token(text(token, "token")).at(base)).await {
            assert_eq!((status, &body), (401, &problem), "{name}");
        }
    }
    for (token, base) in [(&revoked, replica.url()), (&expired, gateway.relay.url())] {
        gateway.api.with_token(text(token, "token")).at(base).get("/v1/whoami").await.expect_status(401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_takes_effect_at_once_on_every_replica() {
    let gateway = Gateway::relay_only().await;
    let replica = gateway.another_relay().await;
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let made = gateway.api.create_token(&["read"], None, json!({})).await;
        let here = gateway.api.with_token(text(&made, "token"));
        let there = here.at(replica.url());
        here.get("/v1/sources").await.expect_status(200);
        there.get("/v1/sources").await.expect_status(200);
        gateway.api.post(&format!("/v1/tokens/{}/revoke", id(&made)), &json!({})).await.expect_status(200);
        let revoked = Instant::now();
        here.get("/v1/sources").await.expect_status(401);
        there.get("/v1/sources").await.expect_status(401);
        slowest = slowest.max(revoked.elapsed());
    }
    println!("refused by both replicas within {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_customer_acts_for_no_other() {
    let gateway = Gateway::relay_only().await;
    let acme = gateway.api.create_customer("acme").await;
    let other = gateway.api.create_customer("other").await;
    let bound = gateway.api.limited_to(&["read", "write"], Some("acme")).await;
    for own in ["acme", acme.as_str()] {
        bound.acting_for(own).get("/v1/sources").await.expect_status(200);
        bound.get(&format!("/v1/sources?customer={own}")).await.expect_status(200);
    }
    for foreign in ["other", other.as_str(), "default", "nobody", "*", ""] {
        let problem = bound.acting_for(foreign).get("/v1/sources").await.expect_status(403);
        assert_eq!(problem["code"], "forbidden", "{foreign}");
        bound.get(&format!("/v1/sources?customer={foreign}")).await.expect_status(403);
    }
    bound.post("/v1/customers", &json!({ "name": "mine" })).await.expect_status(403);
    bound.get("/v1/unreadable-messages").await.expect_status(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_tokens_work_while_the_database_is_away_and_two_are_accepted() {
    let mut server = Server::start_private().await.expect("starts");
    let (new, old) = ("the new root token of this test", "the old root token of this test");
    let mut gateway = Gateway::relay_only_on_server_with(&server, |settings| {
        settings.with("TIDEGATE_ADMIN_TOKEN", &format!("{new}, {old}"))
    })
    .await;
    // The maintenance of partitions may run while the database stops.
    gateway.relay.expect_errors();
    let [new, old] = [new, old].map(|token| gateway.api.with_token(token));
    let other = new.limited_to(&["read"], None).await;
    for api in [&new, &old, &other] {
        api.get("/v1/whoami").await.expect_status(200);
    }
    gateway.api.get("/v1/whoami").await.expect_status(401);
    server.stop(Shutdown::Fast).await.expect("stops");
    for api in [&new, &old] {
        assert_eq!(api.get("/v1/whoami").await.expect_status(200)["kind"], "root");
        api.acting_for("default").get("/v1/providers/stripe?customer=default").await.expect_status(422);
        api.get("/v1/providers/stripe").await.expect_status(200);
    }
    assert_eq!(other.get("/v1/whoami").await.expect_status(503)["code"], "unavailable");
    server.start().await.expect("starts again");
    other.wait_for_status("/v1/whoami", 200, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_of_a_token_is_kept_to_the_minute() {
    let gateway = Gateway::relay_only().await;
    let made = gateway.api.create_token(&["read"], None, json!({})).await;
    let path = format!("/v1/tokens/{}", id(&made));
    assert_eq!(made["last_used_at"], Value::Null);
    let used = gateway.api.with_token(text(&made, "token"));
    used.get("/v1/whoami").await.expect_status(200);
    let first = gateway.api.wait_until("the last use", &path, SOON, |token| token["last_used_at"].is_string()).await;
    assert!(text(&first, "last_used_at").ends_with(":00Z"), "{first}");
    // Within the minute nothing is written, and after it one use.
    gateway.database.run("update tokens set last_used_at = last_used_at - interval '2 minutes'").await;
    let earlier = gateway.api.get(&path).await.expect_status(200);
    used.get("/v1/whoami").await.expect_status(200);
    gateway
        .api
        .wait_until("another minute", &path, SOON, |token| token["last_used_at"] != earlier["last_used_at"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_sends_too_many_wrong_tokens_waits_and_known_tokens_do_not() {
    let gateway = Gateway::relay_only().await;
    let known = gateway.api.limited_to(&["read"], None).await;
    known.get("/v1/whoami").await.expect_status(200);
    let unused = gateway.api.limited_to(&["read"], None).await;
    let wrong = gateway.api.with_token("tg_0000000000000000000000000000000000000000000000000000000000000000");
    let mut refused = 0;
    let limited = loop {
        match wrong.get("/v1/whoami").await {
            reply if reply.status == 429 => break reply,
            reply => reply.expect_status(401),
        };
        refused += 1;
        assert!(refused < 3 * BURST, "it is never slowed");
    };
    // One more is allowed in each second that this has taken.
    assert!((BURST..BURST + 60).contains(&refused), "{refused}");
    assert_eq!(limited.retry_after, Some(1), "{limited:?}");
    assert_eq!(limited.body["code"], "too_many_wrong_tokens");
    for api in [&gateway.api, &known] {
        api.get("/v1/whoami").await.expect_status(200);
    }
    // Send wrong tokens until one is refused without a look-up. Then a token that is not known here is not looked up.
    while wrong.get("/v1/whoami").await.status != 429 {}
    unused.get("/v1/whoami").await.expect_status(429);
    unused.wait_for_status("/v1/whoami", 200, SOON).await;
}
