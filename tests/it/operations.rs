//! operations: bulk work in the background. A customer is deleted with everything that it owned, and stored secrets are
//! encrypted again with a new master key.

use harness::api::{Api, Source, id};
use harness::gateway::{Gateway, RelayOnly};
use harness::provider::{Provider, now_s};
use harness::receiver::Behaviour;
use harness::relay::run;
use harness::wait::{LONG, SOON, until};
use serde_json::{Value, json};
use shared::envelope::{RejectionSample, encode_rejection};
use shared::id::SourceId;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::isolation::{Tenant, settled_rows, tenant};

/// How many more events each customer has, so that a chunk does not delete all of them.
const MANY: i64 = 5_000;

pub(crate) async fn connect(gateway: &RelayOnly) -> PgConnection {
    gateway.database.connect().await.expect("connects")
}

pub(crate) async fn count(database: &mut PgConnection, from: &str) -> i64 {
    let statement = AssertSqlSafe(format!("select count(*) from {from}"));
    sqlx::query_scalar(statement).fetch_one(database).await.unwrap_or_else(|error| panic!("{from}: {error}"))
}

pub(crate) async fn execute(database: &mut PgConnection, statements: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(statements)).execute(database).await;
    done.unwrap_or_else(|error| panic!("{statements}: {error}"));
}

/// The UUID of an id, as SQL.
pub(crate) fn uuid(id: &str) -> String {
    format!("'{}'::uuid", id.split('_').nth(1).expect("an id"))
}

/// Gives a customer more history of every kind.
async fn pile_up(database: &mut PgConnection, tenant: &Tenant) {
    let customer = uuid(&tenant.customer);
    let new_id = |seed: &str| {
        format!(
            "(lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '7'
              || substr(md5(number || '{seed}' || {customer}), 1, 3) || '8'
              || substr(md5(number || '{seed}' || {customer}), 4, 15))::uuid"
        )
    };
    let [event, copy, delivery, attempt, message, rejection] = ["e", "c", "d", "a", "m", "r"].map(new_id);
    let statements = format!(
        "create temporary table past as
         select number, {event} as event_id, {copy} as copy_id, {delivery} as delivery_id, {attempt} as attempt_id,
                {message} as message_id, {rejection} as rejection_id, sources.id as source_id,
                destinations.id as destination_id
         from generate_series(1, {MANY}) number, sources join destinations using (customer_id)
         where customer_id = {customer} and destinations.name = 'refusing';
         insert into events (id, customer_id, source_id, received_at, body_size, verification, method, query, headers)
         select event_id, {customer}, source_id, now(), 3, 'verified', 'POST', '', '[]' from past;
         insert into event_bodies (event_id, body) select event_id, 'abc' from past;
         insert into event_keys (source_id, event_id, day, key, body_hash)
         select source_id, event_id, current_date, sha256(event_id::text::bytea), '\\x00' from past;
         insert into event_copies (id, event_id) select copy_id, event_id from past;
         insert into settled_deliveries (id, customer_id, destination_id, event_id, source_id, state, attempts,
                                         schedule_start)
         select delivery_id, {customer}, destination_id, event_id, source_id, 'succeeded', 1, 0 from past;
         insert into attempts (id, delivery_id, destination_id, event_id, number, started_at, latency_ms)
         select attempt_id, delivery_id, destination_id, event_id, 1, now(), 5 from past;
         insert into unreadable_messages (id, event_id, next_try_at, released_at, reason, detail, queue_id,
                                          queue_message_id, message)
         select message_id, event_id, 'infinity', now(), 'body_missing', '', '', '', 'abc' from past where number < 300;
         insert into rejections (id, source_id, count, size, first_at, last_at, cause, detail, remote)
         select rejection_id, source_id, 1, 1, now(), now(), 'bad_signature', '', 'ipv4' from past where number < 300;
         drop table past"
    );
    execute(database, &statements).await;
}

/// All that the tables hold of a customer, by its own id and by those of what it owned.
async fn remains(database: &mut PgConnection, owned: &Owned) -> Vec<(String, i64)> {
    let tables: Vec<(String, String)> = sqlx::query_as(
        "select columns.table_name::text, columns.column_name::text from information_schema.columns
         join pg_class on relname = columns.table_name and relkind in ('r', 'p') and not relispartition
         where table_schema = 'public' and data_type = 'uuid' order by 1, 2",
    )
    .fetch_all(&mut *database)
    .await
    .expect("the tables");
    let mut remains = Vec::new();
    for (table, column) in &tables {
        // The edge is compared with what was deleted for a week. The audit log is kept for its retention.
        let ids = match (table.as_str(), column.as_str()) {
            ("deleted_sources", "id") | ("audit_entries", _) => continue,
            _ => &owned.0,
        };
        let count = count(database, &format!("{table} where {column} = any(array[{ids}])")).await;
        if count > 0 {
            remains.push((format!("{table}.{column}"), count));
        }
    }
    assert!(tables.len() > 40, "{tables:?}");
    remains
}

/// The ids of a customer and of everything that it owns, as SQL.
struct Owned(String);

impl Owned {
    async fn of(database: &mut PgConnection, customer: &str) -> Self {
        let customer = uuid(customer);
        let ids: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select quote_literal(id) || '::uuid' from (
                 select {customer} as id
                 union select id from sources where customer_id = {customer}
                 union select id from destinations where customer_id = {customer}
                 union select id from routes where customer_id = {customer}
                 union select id from replays where customer_id = {customer}
                 union (select id from events where customer_id = {customer} order by id limit 300)
                 union (select id from settled_deliveries where customer_id = {customer} order by id limit 300)
                 union select id from pending_deliveries where customer_id = {customer}
             ) owned"
        )))
        .fetch_all(database)
        .await
        .expect("the ids");
        assert!(ids.len() > 300, "{}", ids.len());
        Self(ids.join(", "))
    }
}

/// Locks the first row of a statement. It cannot be deleted until this is dropped.
async fn lock(gateway: &RelayOnly, statement: &str) -> PgConnection {
    let mut database = connect(gateway).await;
    execute(&mut database, "begin").await;
    let locked = sqlx::query(AssertSqlSafe(format!("{statement} for update"))).fetch_one(&mut database).await;
    locked.unwrap_or_else(|error| panic!("{statement}: {error}"));
    database
}

async fn wait_for_step(database: &mut PgConnection, operation: &str, step: &str) {
    let statement = format!("select step from operations where id = {}", uuid(operation));
    until(&format!("the operation to come to {step}"), LONG, async || {
        let at: String =
            sqlx::query_scalar(AssertSqlSafe(statement.as_str())).fetch_one(&mut *database).await.expect("a step");
        if at == step { Ok(()) } else { Err(at) }
    })
    .await;
}

/// Waits until an operation that deletes a customer has ended, without the wait for attempts in flight.
async fn wait_until_deleted(gateway: &RelayOnly, operation: &str) -> Value {
    let mut database = connect(gateway).await;
    wait_for_step(&mut database, operation, "late").await;
    let earlier = "created_at = created_at - interval '10 minutes', next_at = now()";
    execute(&mut database, &format!("update operations set {earlier} where id = {}", uuid(operation))).await;
    wait_until_ended(&gateway.api, operation).await
}

async fn wait_until_ended(api: &Api, operation: &str) -> Value {
    let path = format!("/v1/operations/{operation}");
    api.wait_until("the operation to end", &path, LONG, |operation| operation["state"] != "running").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_customer_leaves_nothing_and_others_keep_all_even_if_the_relay_is_killed_meanwhile() {
    let mut gateway = Gateway::relay_only().await;
    // The relay logs an error for each unreadable message.
    gateway.relay.expect_errors();
    let (victim, other) = (tenant(&gateway, "victim").await, tenant(&gateway, "other").await);
    let mut database = connect(&gateway).await;
    for tenant in [&victim, &other] {
        pile_up(&mut database, tenant).await;
    }
    let others = settled_rows(&mut database, &other.customer).await;
    let owned = Owned::of(&mut database, &victim.customer).await;
    let found = remains(&mut database, &owned).await;
    assert!(found.len() > 35, "{found:?}");
    let customer = uuid(&victim.customer);

    let mut pending =
        lock(&gateway, &format!("select from pending_deliveries where customer_id = {customer} limit 1")).await;
    let begun = gateway.api.delete("/v1/customers/victim").await.expect_status(202);
    assert_eq!((&begun["kind"], &begun["state"]), (&json!("delete_customer"), &json!("running")), "{begun}");
    let parameters = json!({ "customer_id": victim.customer, "name": "victim" });
    assert_eq!((&begun["parameters"], &begun["customer_id"]), (&parameters, &Value::Null));
    let operation = id(&begun).to_owned();

    // The customer is gone at once, and its name is free.
    for path in ["/v1/customers/victim".to_owned(), format!("/v1/customers/{}", victim.customer)] {
        gateway.api.get(&path).await.expect_status(404);
        gateway.api.delete(&path).await.expect_status(404);
    }
    victim.api.get("/v1/sources").await.expect_status(401);
    gateway.api.acting_for("victim").get("/v1/sources").await.expect_status(422);
    let again = gateway.api.create_customer("victim").await;
    assert_ne!(again, victim.customer);
    assert_eq!(gateway.api.delete("/v1/customers/default").await.expect_status(409)["code"], "default_customer");

    // An event that arrives now is kept as unreadable, and is deleted because it names a source of the customer.
    gateway.push(&victim.source, b"{\"late\":1}");
    let kept = gateway.api.wait_for_row("/v1/unreadable-messages?reason=unknown_source", SOON).await;
    // A message of another source stays, although its sender mentions a source of the customer.
    let mentioned = &victim.source.id;
    let foreign = format!(
        "{{\"v\":99,\"source\":\"{}\",\"query\":\"{mentioned}\"}}\n{{\"see\":\"{mentioned}\"}}",
        other.source.id
    );
    gateway.queue.push(&foreign);
    let foreign = gateway.api.wait_for_row("/v1/unreadable-messages?reason=unknown_version", SOON).await;
    let foreign = format!("/v1/unreadable-messages/{}", id(&foreign));
    wait_for_step(&mut database, &operation, "pending").await;
    let last = format!("select from events where customer_id = {customer} order by id desc limit 1");
    let mut event = lock(&gateway, &last).await;
    execute(&mut pending, "commit").await;
    wait_for_step(&mut database, &operation, "events").await;
    gateway.api.get(&format!("/v1/unreadable-messages/{}", id(&kept))).await.expect_status(404);
    let events = count(&mut database, &format!("events where customer_id = {customer}")).await;
    assert!(events > 0, "the last event is locked");
    gateway.relay.kill().await.expect("is killed");
    execute(&mut event, "rollback").await;
    gateway.relay.start_again().await.expect("starts again");

    // What the edge sent before it had deleted the source may come out of the queue after the walks.
    wait_for_step(&mut database, &operation, "late").await;
    gateway.push(&victim.source, b"{\"late\":1}");
    gateway.queue.push(&encode_rejection(&rejection(&victim.source)));
    let of_victim = format!("where source_id = {}", uuid(&victim.source.id));
    until("the rejection to be stored", SOON, async || {
        match count(&mut database, &format!("rejections {of_victim}")).await {
            0 => Err("there is none".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    let late = gateway.api.wait_for_row("/v1/unreadable-messages?reason=unknown_source", SOON).await;

    let ended = wait_until_deleted(&gateway, &operation).await;
    assert_eq!((&ended["state"], &ended["error"]), (&json!("completed"), &Value::Null), "{ended}");
    gateway.api.get(&format!("/v1/unreadable-messages/{}", id(&late))).await.expect_status(404);
    gateway.api.get(&foreign).await.expect_status(200);
    assert!(ended["processed"].as_i64().is_some_and(|processed| processed > 5 * MANY), "{ended}");
    assert_eq!(remains(&mut database, &owned).await, [], "rows of the deleted customer");
    let held = gateway.edge.sources();
    assert!(!held.contains_key(&victim.source.id), "{held:?}");
    let now = settled_rows(&mut database, &other.customer).await;
    for ((table, before), (_, now)) in others.iter().zip(&now) {
        assert!(before == now, "{table} of the other customer has changed");
    }
    other.api.get("/v1/sources/shop").await.expect_status(200);

    // An event that arrives even later changes nothing, and does not stop the queue.
    gateway.push(&victim.source, b"{\"late\":2}");
    gateway.push(&other.source, b"{\"type\":\"order.paid\"}");
    other.api.wait_for_rows(&format!("/v1/events?source={}&type=order.paid", other.source.id), 2, SOON).await;
    let kept = gateway.api.wait_for_row("/v1/unreadable-messages?reason=unknown_source", SOON).await;
    assert_eq!(kept["event_id"], Value::Null, "{kept}");
    assert_eq!(remains(&mut database, &owned).await, []);
    let log = gateway.relay.log();
    assert!(!log.contains("deadlock"), "{log}");
}

/// A rejection as the edge reports it.
fn rejection(source: &Source) -> RejectionSample {
    let now_ms = now_s() * 1_000;
    RejectionSample {
        source: source.id.parse().expect("an id"),
        cause: "bad_signature".to_owned(),
        detail: "the signature does not match".to_owned(),
        count: 3,
        first_at_ms: now_ms,
        last_at_ms: now_ms,
        size: 2,
        remote: "ipv4".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_an_older_relay_creates_for_a_deleted_customer_is_deleted_too() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let customer = gateway.api.create_customer("acme").await;
    let acme = gateway.api.acting_for("acme");
    acme.create_source("shop", &Provider::standard_webhooks()).await;
    let template = gateway.api.create_source("shop", &Provider::standard_webhooks()).await;
    let begun = gateway.api.delete("/v1/customers/acme").await.expect_status(202);
    let (operation, mut database) = (id(&begun).to_owned(), connect(&gateway).await);
    wait_for_step(&mut database, &operation, "late").await;
    let created = SourceId::mint(now_s() * 1_000, [7; 10]);
    let insert = format!(
        "insert into sources (id, customer_id, name, provider, config, secrets_sealed)
         select {}, {}, 'new', provider, config, secrets_sealed from sources where id = {}",
        uuid(&created.to_string()),
        uuid(&customer),
        uuid(&template.id)
    );
    execute(&mut database, &insert).await;
    let earlier = "created_at = created_at - interval '10 minutes', next_at = now()";
    execute(&mut database, &format!("update operations set {earlier} where id = {}", uuid(&operation))).await;

    // The operation shows why it begins again, and waits before it does.
    let path = format!("/v1/operations/{operation}");
    let is_shown = |shown: &Value| shown["error"].as_str().is_some_and(|error| error.contains("after its deletion"));
    gateway.api.wait_until("the cause to be shown", &path, LONG, is_shown).await;
    let waits = format!("operations where id = {} and next_at > now() + interval '20 s'", uuid(&operation));
    assert_eq!(count(&mut database, &waits).await, 1, "the operation waits");
    assert_eq!(count(&mut database, &format!("sources where customer_id = {}", uuid(&customer))).await, 0);
    execute(&mut database, &format!("update operations set next_at = now() where id = {}", uuid(&operation))).await;
    let ended = wait_until_ended(&gateway.api, &operation).await;
    assert_eq!((&ended["state"], &ended["error"]), (&json!("completed"), &Value::Null), "{ended}");
    assert_eq!(count(&mut database, "customers").await, 1);
    gateway.api.get("/v1/sources/shop").await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_in_flight_when_its_customer_is_deleted_is_deleted_too() {
    let gateway = Gateway::relay_only().await;
    let customer = gateway.api.create_customer("acme").await;
    let acme = gateway.api.acting_for("acme");
    let receiver = harness::receiver::Receiver::start().await.expect("starts");
    receiver.always(Behaviour::DelayedStatus(std::time::Duration::from_secs(3), 200));
    let source = acme.create_source("slow", &harness::provider::Provider::standard_webhooks()).await;
    acme.create_destination("slow", &receiver.url(), json!({})).await;
    acme.create_route("slow", "slow", json!({})).await;
    gateway.push(&source, b"{}");
    receiver.wait_for(1, SOON).await;
    let begun = gateway.api.delete(&format!("/v1/customers/{customer}")).await.expect_status(202);
    let mut database = connect(&gateway).await;
    wait_for_step(&mut database, id(&begun), "late").await;
    until("the attempt to be settled", SOON, async || match count(&mut database, "attempts").await {
        0 => Err("there is none".to_owned()),
        _ => Ok(()),
    })
    .await;
    wait_until_deleted(&gateway, id(&begun)).await;
    for table in ["attempts", "destination_counters", "settled_deliveries", "events", "source_counters"] {
        assert_eq!(count(&mut database, table).await, 0, "{table}");
    }
    assert_eq!(count(&mut database, "customers").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_secrets_are_encrypted_again_with_the_new_key_and_the_old_one_can_be_removed() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("sealed").await;
    let path = format!("/v1/destinations/{}", line.destination.id);
    gateway.api.patch(&path, &json!({ "headers": { "x-key": "a static secret" } })).await.expect_status(200);
    let secret = json!({ "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" });
    gateway.api.post("/v1/sources/sealed/secrets", &secret).await.expect_status(200);
    let only = json!({ "provider": "standard-webhooks", "secrets": [secret["secret"]] });
    gateway.api.put("/v1/sources/by-name/sealed", &only).await.expect_status(200);
    gateway
        .api
        .wait_until("the source to be active", "/v1/sources/sealed", SOON, |source| source["edge"] == "active")
        .await;
    let shown = async |gateway: &RelayOnly| {
        let mut database = gateway.database.connect().await.expect("connects");
        let of = |table: &str, columns: &str| format!("select string_agg({columns}, ',') from {table}");
        let sources = of("sources", "revision || ' ' || edge_revision || ' ' || updated_at");
        let destinations = of("destinations", "updated_at::text");
        let mut texts: Vec<String> = Vec::new();
        for statement in [sources, destinations, of("configuration", "revision::text")] {
            texts.push(sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut database).await.expect("a text"));
        }
        texts
    };
    let before = shown(&gateway).await;

    let old = gateway.relay.settings().value("TIDEGATE_MASTER_KEY").to_owned();
    let new = harness::random::key();
    let both = format!("{new},{old}");
    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again_with(|settings| settings.with("TIDEGATE_MASTER_KEY", &both)).await.expect("starts");
    let doctor = async |gateway: &RelayOnly| {
        let output = run("doctor", gateway.relay.settings().variables()).await.expect("runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let printed = doctor(&gateway).await;
    assert!(printed.contains("4 values are still encrypted with an older key"), "{printed}");
    let begun = gateway.api.post("/v1/operations", &json!({ "kind": "reseal" })).await.expect_status(202);
    let ended = wait_until_ended(&gateway.api, id(&begun)).await;
    let counts = ["state", "processed", "failed", "total"].map(|field| ended[field].clone());
    assert_eq!(counts, [json!("completed"), json!(4), json!(0), json!(4)], "{ended}");
    assert_eq!(shown(&gateway).await, before, "no object counts as changed");
    let printed = doctor(&gateway).await;
    assert!(printed.contains("older keys may be removed"), "{printed}");

    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again_with(|settings| settings.with("TIDEGATE_MASTER_KEY", &new)).await.expect("starts");
    gateway.push(&line.source, b"{}");
    let got = line.receiver.wait_for(1, SOON).await;
    assert_eq!(got[0].header("x-key"), "a static secret");
    gateway.api.get(&format!("{path}/signing-secret")).await.expect_status(200);
    assert_eq!(gateway.api.get("/v1/operations").await.expect_status(200)["data"], json!([ended]));

    // A value that no key opens does not stop the others.
    let mut database = connect(&gateway).await;
    execute(&mut database, "update destinations set headers_sealed = 's1.00000000.AAAA'").await;
    let begun = gateway.api.post("/v1/operations", &json!({ "kind": "reseal" })).await.expect_status(202);
    let ended = wait_until_ended(&gateway.api, id(&begun)).await;
    assert_eq!((&ended["state"], &ended["failed"]), (&json!("failed"), &json!(1)), "{ended}");
    assert!(ended["error"].as_str().is_some_and(|error| error.contains("decrypts 1 of the values")), "{ended}");
    for bad in [json!({}), json!({ "kind": "delete_customer" }), json!({ "kind": "reseal", "limit": 1 })] {
        gateway.api.post("/v1/operations", &bad).await.expect_status(422);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_fails_is_shown_and_retried() {
    let gateway = Gateway::relay_only().await;
    gateway.line("sealed").await;
    gateway.database.run("alter table sources rename column retired_secrets_sealed to hidden").await;
    let mut database = connect(&gateway).await;
    // The call itself counts the values, so the operation is stored without it.
    let operation = "opn_0197f3c8d2a17c3e9b5d0a4c6f7e8b91";
    let columns = "insert into operations (id, kind, step)";
    execute(&mut database, &format!("{columns} values ({}, 'reseal', 'sources')", uuid(operation))).await;
    let path = format!("/v1/operations/{operation}");
    let failing = |shown: &Value| shown["error"].as_str().is_some_and(|error| error.contains("retired_secrets_sealed"));
    gateway.api.wait_until("the error to be shown", &path, LONG, failing).await;
    gateway.database.run("alter table sources rename column hidden to retired_secrets_sealed").await;
    let ended = wait_until_ended(&gateway.api, operation).await;
    assert_eq!((&ended["state"], &ended["error"]), (&json!("completed"), &Value::Null), "{ended}");
}
