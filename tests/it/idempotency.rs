//! idempotency: a request that is sent again with its key is carried out once, whatever happens in between.

use harness::api::{Api, id};
use harness::gateway::{Gateway, RelayOnly};
use harness::postgres::wait_for_count;
use harness::wait::{SOON, until};
use serde_json::{Value, json};
use sqlx::PgConnection;

/// A destination to create.
fn destination(name: &str) -> Value {
    json!({ "name": name, "url": "http://127.0.0.1:9009/" })
}

/// A transaction that locks a table, so that no statement can use it until the transaction is rolled back.
async fn lock(gateway: &RelayOnly, table: &str) -> PgConnection {
    let mut connection = gateway.database.connect().await.expect("connects");
    for statement in ["begin".to_owned(), format!("lock table {table} in access exclusive mode")] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.expect("locks");
    }
    connection
}

async fn unlock(mut connection: PgConnection) {
    sqlx::query("rollback").execute(&mut connection).await.expect("rolls back");
}

/// Sends a request with a key in the background.
fn send(api: &Api, path: &'static str, key: &'static str, body: Value) -> tokio::task::JoinHandle<Option<u16>> {
    let api = api.clone();
    tokio::spawn(async move {
        let headers = [("idempotency-key", key)];
        let sent = api.try_call_with(reqwest::Method::POST, path, &headers, Some(&body)).await;
        sent.ok().map(|(reply, _)| reply.status)
    })
}

async fn names(api: &Api) -> Vec<Value> {
    api.all("/v1/destinations").await.into_iter().map(|row| row["name"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_has_the_first_answer_with_its_secrets_which_are_sealed_at_rest() {
    let gateway = Gateway::relay_only().await;
    let replica = gateway.another_relay().await;
    let wanted = json!({ "name": "ci", "scopes": ["read"] });
    let (first, headers) = gateway.api.post_once("/v1/tokens", "7b1c", &wanted).await;
    assert_eq!(headers.get("idempotency-replayed"), None);
    let made = first.expect_status(201);
    let token = made["token"].as_str().expect("a token").to_owned();
    for api in [gateway.api.clone(), gateway.api.at(replica.url())] {
        let (again, headers) = api.post_once("/v1/tokens", "7b1c", &wanted).await;
        assert_eq!(headers["idempotency-replayed"], "true");
        assert_eq!(again.expect_status(201), made);
    }
    assert_eq!(gateway.api.all("/v1/tokens").await.len(), 1);
    assert_eq!(gateway.api.all("/v1/audit?action=token.create").await.len(), 1);
    let mut database = gateway.database.connect().await.expect("connects");
    let stored: String = sqlx::query_scalar("select string_agg(keys::text, ' ') from idempotency_keys keys")
        .fetch_one(&mut database)
        .await
        .expect("a row");
    assert!(stored.contains("s1.") && !stored.contains(&token[3..]) && !stored.contains("7b1c"), "{stored}");

    // Each of these answers is that of the first call too, with the ETag if the object has one.
    let (first, headers) = gateway.api.post_once("/v1/destinations", "a", &destination("one")).await;
    let (tag, first) = (headers["etag"].clone(), first.expect_status(201));
    assert!(first["signing_secret"].is_string(), "{first}");
    let (again, headers) = gateway.api.post_once("/v1/destinations", "a", &destination("one")).await;
    assert_eq!((again.expect_status(201), &headers["etag"]), (first, &tag));
    let rotate = "/v1/destinations/one/signing-secret/rotate";
    let rotated = gateway.api.post_once(rotate, "b", &json!({})).await.0.expect_status(200);
    assert_eq!(gateway.api.post_once(rotate, "b", &json!({})).await.0.expect_status(200), rotated);
    assert_ne!(gateway.api.post_once(rotate, "c", &json!({})).await.0.expect_status(200), rotated);
    // A call that changes nothing has its answer as well.
    let pause = "/v1/destinations/one/pause";
    let paused = gateway.api.post_once(pause, "d", &json!({})).await.0.expect_status(200);
    gateway.api.resume("one").await;
    assert_eq!(gateway.api.post_once(pause, "d", &json!({})).await.0.expect_status(200), paused);
    assert_eq!(gateway.api.get("/v1/destinations/one").await.expect_status(200)["state"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_belongs_to_one_request_of_one_caller() {
    let gateway = Gateway::relay_only().await;
    let api = &gateway.api;
    api.create_customer("acme").await;
    let others = [api.limited_to(&["write"], None).await, api.limited_to(&["write"], None).await];
    let (first, _) = api.post_once("/v1/destinations", "key", &destination("one")).await;
    first.expect_status(201);
    let path = "/v1/destinations";
    for (path, body) in [(path, destination("two")), ("/v1/destinations?customer=acme", destination("one"))] {
        let problem = api.post_once(path, "key", &body).await.0.expect_status(422);
        assert_eq!(problem["errors"][0]["field"], "Idempotency-Key", "{problem}");
        assert_eq!(problem["code"], "idempotency_key_reused", "{problem}");
    }
    api.post_once("/v1/customers", "key", &json!({ "name": "two" })).await.0.expect_status(422);
    // Other callers do not see it.
    for (number, other) in others.iter().enumerate() {
        let (made, headers) = other.post_once(path, "key", &destination(&format!("of-{number}"))).await;
        made.expect_status(201);
        assert_eq!(headers.get("idempotency-replayed"), None);
    }
    assert_eq!(names(api).await, ["of-1", "of-0", "one"]);

    let long = "k".repeat(256);
    for wrong in ["", "ä", long.as_str()] {
        let problem = api.post_once(path, wrong, &destination("three")).await.0.expect_status(422);
        assert_eq!(problem["errors"][0]["field"], "Idempotency-Key", "{problem}");
    }
    let key = [("idempotency-key", "other")];
    let body = json!({ "timeout_ms": 5_000 });
    let (refused, _) = api.call_with(reqwest::Method::PATCH, "/v1/destinations/one", &key, Some(&body)).await;
    assert_eq!(refused.expect_status(422)["errors"][0]["field"], "Idempotency-Key");
    api.call_with(reqwest::Method::GET, path, &key, None).await.0.expect_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_failed_before_it_changed_anything_can_be_corrected_with_the_same_key() {
    let gateway = Gateway::relay_only().await;
    let path = "/v1/destinations";
    gateway.api.post_once(path, "key", &json!({ "name": "Wrong", "url": "x" })).await.0.expect_status(422);
    let made = gateway.api.post_once(path, "key", &destination("one")).await.0.expect_status(201);
    gateway.api.post_once(path, "other", &destination("one")).await.0.expect_status(409);
    gateway.api.delete("/v1/destinations/one").await.expect_status(204);
    let again = gateway.api.post_once(path, "other", &destination("one")).await.0.expect_status(201);
    assert_ne!(id(&again), id(&made));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_first_request_runs_a_repetition_is_told_to_wait_and_a_hundred_at_once_make_one_change() {
    let gateway = Gateway::relay_only().await;
    let replica = gateway.another_relay().await;
    let locked = lock(&gateway, "destinations").await;
    let first = send(&gateway.api, "/v1/destinations", "key", destination("one"));
    let mut database = gateway.database.connect().await.expect("connects");
    wait_for_count(&mut database, "the row", "select count(*) from idempotency_keys", SOON, |count| count == 1).await;
    let other = gateway.api.at(replica.url());
    let (reply, headers) = other.post_once("/v1/destinations", "key", &destination("one")).await;
    assert_eq!(headers["retry-after"], "1");
    assert_eq!(reply.expect_status(409)["code"], "request_running");
    other.post_once("/v1/destinations", "key", &destination("two")).await.0.expect_status(422);
    unlock(locked).await;
    assert_eq!(first.await.expect("ends"), Some(201));
    other.post_once("/v1/destinations", "key", &destination("one")).await.0.expect_status(201);

    let calls = (0..100).map(|number| {
        let api = if number % 2 == 0 { gateway.api.clone() } else { other.clone() };
        send(&api, "/v1/destinations", "crowd", destination("crowd"))
    });
    let mut made = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.expect("ends") {
            Some(201) => made += 1,
            status => assert_eq!(status, Some(409)),
        }
    }
    assert!(made >= 1);
    assert_eq!(names(&gateway.api).await, ["crowd", "one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_between_the_change_and_the_answer_loses_neither() {
    let mut gateway = Gateway::relay_only().await;
    let replica = gateway.another_relay().await;
    // The relay reads the routes after it has stored a destination, and before it answers.
    let locked = lock(&gateway, "routes").await;
    let first = send(&gateway.api, "/v1/destinations", "key", destination("one"));
    let mut database = gateway.database.connect().await.expect("connects");
    wait_for_count(&mut database, "the row", "select count(*) from destinations", SOON, |count| count == 1).await;
    gateway.relay.kill().await.expect("is killed");
    assert_eq!(first.await.expect("ends"), None, "there was no answer");
    unlock(locked).await;

    let api = gateway.api.at(replica.url());
    let (made, headers) = api.post_once("/v1/destinations", "key", &destination("one")).await;
    let made = made.expect_status(201);
    assert_eq!(headers["idempotency-replayed"], "true");
    let secret = api.get("/v1/destinations/one/signing-secret").await.expect_status(200);
    assert_eq!(made["signing_secret"], secret["signing_secret"]);
    assert_eq!(names(&api).await, ["one"]);
    assert_eq!(api.all("/v1/audit?action=destination.create").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_before_the_change_holds_the_key_only_until_its_call_must_have_ended() {
    let mut gateway = Gateway::relay_only().await;
    let replica = gateway.another_relay().await;
    let locked = lock(&gateway, "destinations").await;
    let first = send(&gateway.api, "/v1/destinations", "key", destination("one"));
    let mut database = gateway.database.connect().await.expect("connects");
    wait_for_count(&mut database, "the row", "select count(*) from idempotency_keys", SOON, |count| count == 1).await;
    gateway.relay.kill().await.expect("is killed");
    assert_eq!(first.await.expect("ends"), None);
    unlock(locked).await;
    let api = gateway.api.at(replica.url());
    api.post_once("/v1/destinations", "key", &destination("one")).await.0.expect_status(409);
    gateway.database.run("update idempotency_keys set ends_at = now()").await;
    api.post_once("/v1/destinations", "key", &destination("one")).await.0.expect_status(201);
    assert_eq!(names(&api).await, ["one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_key_was_taken_over_changes_nothing() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let replica = gateway.another_relay().await;
    let locked = lock(&gateway, "destinations").await;
    let first = send(&gateway.api, "/v1/destinations", "key", destination("one"));
    let mut database = gateway.database.connect().await.expect("connects");
    wait_for_count(&mut database, "the row", "select count(*) from idempotency_keys", SOON, |count| count == 1).await;
    gateway.database.run("update idempotency_keys set ends_at = now()").await;
    let calls = "select count(distinct call) from idempotency_keys where ends_at > now()";
    let second = send(&gateway.api.at(replica.url()), "/v1/destinations", "key", destination("one"));
    wait_for_count(&mut database, "the row", calls, SOON, |count| count == 1).await;
    unlock(locked).await;
    assert_eq!((first.await.expect("ends"), second.await.expect("ends")), (Some(500), Some(201)));
    assert_eq!(names(&gateway.api).await, ["one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_forgotten_after_a_day_and_a_caller_has_a_limit_of_keys_a_day() {
    let gateway = Gateway::relay_only().await;
    let path = "/v1/destinations";
    gateway.api.post_once(path, "old", &destination("one")).await.0.expect_status(201);
    gateway.database.run("update idempotency_keys set claimed_at = now() - interval '24 hours 1 second'").await;
    gateway.api.post_once(path, "old", &destination("two")).await.0.expect_status(201);

    gateway.database.run("update idempotency_keys set claimed_at = now() - interval '24 hours 1 second'").await;
    let _again = gateway.another_relay().await;
    let mut database = gateway.database.connect().await.expect("connects");
    until("the old key to be deleted", SOON, async || {
        let keys: i64 =
            sqlx::query_scalar("select count(*) from idempotency_keys").fetch_one(&mut database).await.expect("counts");
        if keys == 0 { Ok(()) } else { Err(keys.to_string()) }
    })
    .await;

    gateway.database.run("update idempotency_counts set keys = 100000").await;
    let (refused, headers) = gateway.api.post_once(path, "new", &destination("three")).await;
    assert!(headers.contains_key("retry-after"));
    assert_eq!(refused.expect_status(429)["code"], "too_many_idempotency_keys");
    assert_eq!(names(&gateway.api).await, ["two", "one"]);
    gateway.database.run("update idempotency_counts set keys = 99999").await;
    gateway.api.post_once(path, "new", &destination("three")).await.0.expect_status(201);
}
