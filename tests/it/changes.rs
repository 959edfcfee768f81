//! changes: several callers change the configuration concurrently, and no acknowledged change is lost.

use harness::api::{Api, Reply, id};
use harness::gateway::{Gateway, RelayOnly};
use harness::postgres::wait_for_count;
use harness::wait::SOON;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// A call: its method, path and body.
type Call = (&'static str, String, Value);

/// Makes all calls concurrently, to each relay in turn. Returns the replies in the order of the calls.
async fn at_once(relays: &[&Api], calls: impl IntoIterator<Item = Call>) -> Vec<Reply> {
    let mut tasks = JoinSet::new();
    for ((number, (method, path, body)), api) in calls.into_iter().enumerate().zip(relays.iter().cycle()) {
        let api = (*api).clone();
        tasks.spawn(async move {
            let reply = match method {
                "PUT" => api.put(&path, &body).await,
                "POST" => api.post(&path, &body).await,
                "PATCH" => api.patch(&path, &body).await,
                "DELETE" => api.delete(&path).await,
                other => panic!("{other}"),
            };
            (number, reply)
        });
    }
    let mut replies = tasks.join_all().await;
    replies.sort_by_key(|(number, _)| *number);
    replies.into_iter().map(|(_, reply)| reply).collect()
}

fn count(replies: &[Reply], status: u16) -> usize {
    replies.iter().filter(|reply| reply.status == status).count()
}

/// The configuration of a source at the edge, once the relay reports that the edge has its newest change.
async fn config_at_edge(gateway: &RelayOnly, name: &str) -> Value {
    let source = gateway
        .api
        .wait_until("the source to be active", &format!("/v1/sources/{name}"), SOON, |source| {
            source["edge"] == "active"
        })
        .await;
    gateway.edge.sources()[id(&source)].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_changes_of_different_fields_of_a_route_are_all_kept() {
    let gateway = Gateway::relay_only().await;
    let another = gateway.another_relay().await;
    let relays = [&gateway.api, &another.api()];
    gateway.line("shared").await;
    let route = gateway.api.all("/v1/routes").await.remove(0);
    let path = format!("/v1/routes/{}", id(&route));
    for round in 0..5 {
        let wanted = json!({
            "filter": format!("event.type == 'push.{round}'"), "transform": format!("{{'round': {round}}}"),
            "order_key": format!("body.n{round}"), "poison": if round % 2 == 0 { "skip" } else { "block" },
            "enabled": round % 2 == 1,
        });
        let patches = wanted.as_object().expect("fields").iter();
        let calls = patches.map(|(field, value)| ("PATCH", path.clone(), json!({ field.as_str(): value })));
        let replies = at_once(&relays, calls).await;
        assert_eq!(count(&replies, 200), replies.len(), "{replies:?}");
        let now = gateway.api.get(&path).await.expect_status(200);
        for (field, value) in wanted.as_object().expect("fields") {
            assert_eq!(now[field], *value, "{field} in round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_changes_of_every_kind_to_one_destination_are_all_kept() {
    let gateway = Gateway::relay_only().await;
    let another = gateway.another_relay().await;
    let relays = [&gateway.api, &another.api()];
    let made = gateway.api.create_destination("shared", "http://127.0.0.1:9009/hook", json!({})).await;
    let path = format!("/v1/destinations/{}", made.id);
    let patches = json!({
        "url": "http://127.0.0.1:9009/other", "rate_limit": { "limit": 7, "per": "minute" }, "max_concurrency": 3,
        "timeout_ms": 2_500, "retry": { "schedule_s": [0, 9] },
    });
    let mut calls: Vec<Call> = vec![
        ("PATCH", path.clone(), json!({ "headers": { "x-a": "1" } })),
        ("PATCH", path.clone(), json!({ "headers": { "x-b": "2" } })),
        ("POST", format!("{path}/signing-secret/rotate"), json!({})),
        ("POST", format!("{path}/signing-secret/rotate"), json!({})),
        ("POST", format!("{path}/pause"), json!({})),
    ];
    for (field, value) in patches.as_object().expect("fields") {
        calls.push(("PATCH", path.clone(), json!({ field.as_str(): value })));
    }
    let replies = at_once(&relays, calls).await;
    assert_eq!(count(&replies, 200), replies.len(), "{replies:?}");

    let now = gateway.api.get(&path).await.expect_status(200);
    for (field, value) in patches.as_object().expect("fields") {
        assert_eq!(now[field], *value, "{field} in {now}");
    }
    assert_eq!((&now["state"], &now["header_names"]), (&json!("paused"), &json!(["x-a", "x-b"])));
    let secret = gateway.api.get(&format!("{path}/signing-secret")).await.expect_status(200);
    let mut signing = vec![secret["signing_secret"].clone()];
    signing.extend(secret["also_signing"].as_array().expect("keys").iter().map(|key| key["signing_secret"].clone()));
    assert_eq!(signing.len(), 3, "{secret}");
    for given in [&replies[2].body["signing_secret"], &replies[3].body["signing_secret"], &json!(made.signing_secret)] {
        assert!(signing.contains(given), "{given} does not sign: {secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_are_added_while_the_settings_of_the_source_change_are_all_kept() {
    let gateway = Gateway::relay_only().await;
    let another = gateway.another_relay().await;
    let relays = [&gateway.api, &another.api()];
    let secret = |number: usize| format!("secret-number-{number}");
    let wanted = json!({ "name": "shared", "provider": "github", "secrets": [secret(0)] });
    gateway.api.post("/v1/sources", &wanted).await.expect_status(201);
    let mut calls: Vec<Call> = (1..=5)
        .map(|number| ("POST", "/v1/sources/shared/secrets".to_owned(), json!({ "secret": secret(number) })))
        .collect();
    for config in [json!({ "on_failure": "quarantine" }), json!({ "max_body_bytes": 5_000 })] {
        calls.push(("PATCH", "/v1/sources/shared".to_owned(), json!({ "config": config })));
    }
    let replies = at_once(&relays, calls).await;
    assert_eq!(count(&replies, 200), replies.len(), "{replies:?}");

    let held = config_at_edge(&gateway, "shared").await;
    let secrets = held["secrets"].as_array().expect("secrets");
    for number in 0..=5 {
        assert!(secrets.contains(&json!(secret(number))), "{number}: {secrets:?}");
    }
    assert_eq!((&held["on_failure"], &held["max_body_bytes"]), (&json!("quarantine"), &json!(5_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_concurrent_puts_of_one_name_succeed_and_the_last_one_wins_as_a_whole() {
    let gateway = Gateway::relay_only().await;
    let another = gateway.another_relay().await;
    let relays = [&gateway.api, &another.api()];
    let source = |number: u64| {
        json!({ "provider": "github", "secrets": [format!("secret-number-{number:04}")],
                "config": { "max_body_bytes": 5_000 + number } })
    };
    let destination = |number: u64| {
        json!({ "url": format!("http://127.0.0.1:9009/{number}"), "max_concurrency": number,
                "rate_limit": { "limit": number, "per": "hour" } })
    };
    let sources = (1..=50).map(|number| ("PUT", "/v1/sources/by-name/shared".to_owned(), source(number)));
    let destinations =
        (1..=50).map(|number| ("PUT", "/v1/destinations/by-name/shared".to_owned(), destination(number)));
    let (sources, destinations) = tokio::join!(at_once(&relays, sources), at_once(&relays, destinations));
    for replies in [&sources, &destinations] {
        assert_eq!((count(replies, 201), count(replies, 200)), (1, 49), "{replies:?}");
    }

    let all = gateway.api.all("/v1/sources").await;
    assert_eq!(all.len(), 1, "{all:?}");
    let held = config_at_edge(&gateway, "shared").await;
    let shown = gateway.api.get("/v1/sources/shared").await.expect_status(200);
    let number = shown["config"]["max_body_bytes"].as_u64().expect("a number") - 5_000;
    assert_eq!(shown["secrets"], json!([{ "hint": format!("…{number:04}") }]));
    assert_eq!(held["secrets"], source(number)["secrets"], "the edge has the last one");
    assert_eq!(held["max_body_bytes"], json!(5_000 + number));

    let all = gateway.api.all("/v1/destinations").await;
    assert_eq!(all.len(), 1, "{all:?}");
    let number = all[0]["max_concurrency"].as_u64().expect("a number");
    for (field, value) in destination(number).as_object().expect("fields") {
        assert_eq!(all[0][field], *value, "{field} of {}", all[0]);
    }
    let newest = destinations.iter().map(|reply| reply.body["updated_at"].as_str()).max().expect("replies");
    assert_eq!(all[0]["updated_at"].as_str(), newest, "the last one is active");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_puts_posts_and_deletes_of_one_name_are_each_answered_by_the_state_they_found() {
    let gateway = Gateway::relay_only().await;
    let another = gateway.another_relay().await;
    let relays = [&gateway.api, &another.api()];
    let source = json!({ "provider": "github", "secrets": ["It's a Secret to Everybody"] });
    let destination = json!({ "url": "http://127.0.0.1:9009/hook" });
    for (kind, wanted) in [("sources", source), ("destinations", destination)] {
        let mut named = wanted.clone();
        named["name"] = json!("contested");
        let calls = (0..30).map(|number| match number % 3 {
            0 => ("PUT", format!("/v1/{kind}/by-name/contested"), wanted.clone()),
            1 => ("POST", format!("/v1/{kind}"), named.clone()),
            _ => ("DELETE", format!("/v1/{kind}/contested"), Value::Null),
        });
        let replies = at_once(&relays, calls).await;
        let mut there = 0_i64;
        for (number, reply) in replies.iter().enumerate() {
            let expected: &[u16] = match number % 3 {
                0 => &[200, 201],
                1 => &[201, 409],
                _ => &[204, 404],
            };
            assert!(expected.contains(&reply.status), "{reply:?}");
            assert!(reply.status != 409 || reply.body["code"] == "name_taken", "{reply:?}");
            there += i64::from(reply.status == 201) - i64::from(reply.status == 204);
        }
        let left = gateway.api.all(&format!("/v1/{kind}")).await;
        assert_eq!(i64::try_from(left.len()), Ok(there), "created minus deleted: {replies:?}");
        gateway.api.put(&format!("/v1/{kind}/by-name/contested"), &wanted).await;
        assert_eq!(gateway.api.delete(&format!("/v1/{kind}/contested")).await.status, 204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_wait_for_the_configuration_leave_connections_for_other_work() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("served").await;
    let route = gateway.api.all("/v1/routes").await.remove(0);
    let path = format!("/v1/routes/{}", id(&route));
    let mut holder = gateway.database.connect().await.expect("connects");
    for statement in ["begin", "select pg_advisory_xact_lock_shared(hashtext('tidegate configuration'))"] {
        sqlx::query(statement).execute(&mut holder).await.expect("locks");
    }
    let api = gateway.api.clone();
    let calls = (0..40).map(move |_| ("PATCH", path.clone(), json!({ "poison": "skip" })));
    let changes = tokio::spawn(async move { at_once(&[&api], calls).await });
    let mut observer = gateway.database.connect().await.expect("connects");
    wait_for_count(
        &mut observer,
        "a change to wait for the configuration",
        "select count(*) from pg_stat_activity where datname = current_database() and query like '%advisory%'
                                                     and wait_event = 'advisory'",
        SOON,
        |waiting| waiting > 0,
    )
    .await;

    for _ in 0..3 {
        gateway.push(&line.source, b"{}");
    }
    line.receiver.wait_for(3, SOON).await;
    gateway.api.get("/v1/events").await.expect_status(200);
    assert!(!changes.is_finished(), "the changes still wait");
    sqlx::query("commit").execute(&mut holder).await.expect("commits");
    let replies = changes.await.expect("answers");
    assert_eq!(count(&replies, 200), replies.len(), "{replies:?}");
}
