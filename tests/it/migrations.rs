//! migrations: relays of two versions on one database, and data that was stored by an earlier version.

use std::collections::BTreeMap;

use harness::api::{Destination, id};
use harness::gateway::{Gateway, RelayOnly, drained};
use harness::postgres::{Database, wait_for_count};
use harness::receiver::{Behaviour, Receiver};
use harness::relay::{migrate, run};
use harness::wait::{SOON, until};
use harness::{place, tools};
use serde_json::{Value, json};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, PgConnection};

/// The newest migration of the schema without customers and tokens.
const EARLIER: i64 = 6;

/// What a migration of a newer relay does: new tables, and new columns with a default.
const NEWER: &str = "create table later (id uuid primary key);
    alter table sources add column later text not null default 'x';
    alter table destinations add column later integer not null default 1;
    alter table events add column later text;
    alter table pending_deliveries add column later boolean not null default false;
    alter table settled_deliveries add column later boolean not null default false;
    insert into _sqlx_migrations (version, description, success, checksum, execution_time)
    select max(version) + 1, 'later', true, '', 0 from _sqlx_migrations";

/// The newest migration of a database.
async fn newest(database: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select max(version) from _sqlx_migrations").fetch_one(database).await.expect("the version")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_starts_and_delivers_on_a_database_that_a_newer_relay_has_migrated() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("before").await;
    let mut database = gateway.database.connect().await.expect("connects");
    let known = newest(&mut database).await;
    gateway.database.run(NEWER).await;
    let found = known + 1;

    // The relay that runs keeps working, and one that starts does.
    gateway.push(&line.source, b"{}");
    line.receiver.wait_for(1, SOON).await;
    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again().await.expect("starts on the newer schema");
    gateway.push(&line.source, b"{}");
    line.receiver.wait_for(2, SOON).await;
    let after = gateway.line("after").await;
    gateway.push(&after.source, b"{}");
    after.receiver.wait_for(1, SOON).await;
    let log = gateway.relay.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("migrated by a newer relay")).collect();
    let [warning] = warnings[..] else { panic!("one warning is expected:\n{log}") };
    assert!(warning.contains("WARN"), "{warning}");
    assert!(warning.contains(&format!("found={found}")) && warning.contains(&format!("known={known}")), "{warning}");

    migrate(gateway.database.url()).await.expect("`tidegate migrate` accepts it");
    assert_eq!(newest(&mut database).await, found, "nothing was migrated");
    let output = run("doctor", gateway.relay.settings().variables()).await.expect("runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "a warning is not a failure:\n{printed}");
    let warning = printed.lines().find(|line| line.starts_with("WARN") && line.contains("migrations"));
    let warning = warning.unwrap_or_else(|| panic!("{printed}"));
    assert!(warning.contains(&format!("version {found}")) && warning.contains(&format!("knows {known}")), "{warning}");
    for check in ["secrets", "routing"] {
        let is_checked = printed.lines().any(|line| line.starts_with("ok") && line.contains(check));
        assert!(is_checked, "the tables still have what {check} needs:\n{printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_other_migrations_is_refused() {
    let database = Database::create().await.expect("a database");
    let refused = async |why: &str| {
        let error = migrate(database.url()).await.expect_err("is refused").to_string();
        assert!(error.contains(why), "{error}");
    };
    // A migration that this relay would have to know.
    let unknown = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                   values (0, 'other', true, '', 0)";
    database.run(unknown).await;
    refused("0").await;
    database.run("delete from _sqlx_migrations where version = 0").await;
    migrate(database.url()).await.expect("is accepted again");

    // Another content of one that it knows, also if a newer relay has been here.
    database.run("update _sqlx_migrations set checksum = 'other' where version = 3").await;
    refused("3").await;
    database.run(NEWER).await;
    refused("3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_waits_for_a_long_reader_does_not_keep_others_from_the_table() {
    tools::blocking(tools::relay).await.expect("is built before anything waits");
    let database = Database::create_empty().await.expect("a database");
    let mut connection = database.connect().await.expect("connects");
    migrate_to(EARLIER, &mut connection).await;
    let mut reader = database.connect().await.expect("connects");
    sqlx::raw_sql("begin; select from customers").execute(&mut reader).await.expect("reads, like a backup");

    let migrating = tokio::spawn({
        let url = database.url().to_owned();
        async move { migrate(&url).await }
    });
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock' and query ilike '%customers%'";
    wait_for_count(&mut connection, "the migration to wait", waiting, SOON, |waiting| waiting > 0).await;
    // Far longer than a migration waits at a time, and shorter than a statement may take.
    let read = "set statement_timeout = '30s'; select count(*) from customers";
    sqlx::raw_sql(read).execute(&mut connection).await.expect("is not kept from the table");
    assert!(!migrating.is_finished(), "it waits for the reader");
    sqlx::raw_sql("commit").execute(&mut reader).await.expect("ends");
    migrating.await.expect("ends").expect("migrates");
    assert!(newest(&mut connection).await > EARLIER);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_of_a_database_without_customers_and_tokens_is_kept_and_delivered_after_the_migration() {
    let mut gateway = Gateway::relay_only().await;
    // The relay logs an error for the unreadable message.
    gateway.relay.expect_errors();
    let filled = fill(&gateway).await;
    gateway.relay.kill().await.expect("is killed, so that it leaves its lease");
    let earlier = earlier_database(&gateway).await;
    let mut database = earlier.connect().await.expect("connects");
    let before = rows(&mut database, None).await;
    let empty: Vec<&String> = before.iter().filter(|(_, (_, rows))| rows.is_empty()).map(|(table, _)| table).collect();
    assert!(empty.is_empty(), "these tables have no row: {empty:?}");

    migrate(earlier.url()).await.expect("migrates");
    let after = rows(&mut database, Some(&before)).await;
    for (table, (columns, rows)) in &before {
        assert_eq!(after.get(table), Some(&(columns.clone(), rows.clone())), "{table}");
    }

    gateway.relay.start_again_with(|settings| settings.with("DATABASE_URL", earlier.url())).await.expect("starts");
    filled.check(&gateway).await;
    // What is new works with what was there.
    let api = &gateway.api;
    let reader = api.limited_to(&["read"], Some("default")).await;
    let shown = reader.get("/v1/sources/shop").await.expect_status(200);
    assert_eq!(shown["id"], filled.source_id.as_str());
    api.create_customer("acme").await;
    api.acting_for("acme").get("/v1/sources/shop").await.expect_status(404);
}

/// What [`fill`] has created.
struct Filled {
    source_id: String,
    source: harness::api::Source,
    open: (Destination, Receiver),
    refusing: (Destination, Receiver),
    failing: (Destination, Receiver),
    paused: (Destination, Receiver),
    broken: (Destination, Receiver),
    /// The route whose transform fails.
    route: String,
}

/// Stores rows in every table: deliveries that are pending, held, dead, cancelled and succeeded, and so on.
async fn fill(gateway: &RelayOnly) -> Filled {
    let api = &gateway.api;
    let source = api.create_source("shop", &harness::provider::Provider::standard_webhooks()).await;
    let destination = async |name: &str, behaviour, more: Value| {
        let receiver = Receiver::behaving(behaviour).await.expect("a receiver");
        (api.create_destination(name, &receiver.url(), more).await, receiver)
    };
    let retry = |schedule: Value| json!({ "retry": { "schedule_s": schedule } });
    let headers = json!({ "headers": { "x-team": "blue" } });
    let open = destination("open", Behaviour::Status(200), headers).await;
    let refusing = destination("refusing", Behaviour::Status(404), retry(json!([0]))).await;
    let failing = destination("failing", Behaviour::Status(500), retry(json!([0, 86_400]))).await;
    let paused = destination("paused", Behaviour::Status(200), json!({})).await;
    api.pause("paused").await;
    for name in ["open", "refusing", "failing", "paused"] {
        api.create_route("shop", name, json!({})).await;
    }
    let broken = destination("broken", Behaviour::Status(200), json!({})).await;
    let transform = json!({ "transform": "{'name': body.customer.name}" });
    let route = api.create_route("shop", "broken", transform).await;
    gateway.database.run("update routes set updated_at = now() - interval '1 hour'").await;

    // An event, and a copy of it.
    for _ in 0..2 {
        gateway.push_with(&source, &[("webhook-id", "msg_1"), ("content-type", "application/json")], b"{}");
    }
    gateway.push_refused(&source, [("content-type", "application/json")], b"{}");
    gateway.queue.push("no message of the edge");
    open.1.wait_for(1, SOON).await;
    drained(&gateway.queue, SOON).await;
    api.wait_for_rows("/v1/deliveries?state=dead", 1, SOON).await;
    api.wait_for_row("/v1/unreadable-messages", SOON).await;
    failing.1.wait_for(1, SOON).await;
    let held = "/v1/deliveries?state=held&destination=broken";
    api.wait_for_rows(held, 1, SOON).await;
    let cancelled = api.wait_for_rows("/v1/deliveries?destination=open", 1, SOON).await;
    let replay = json!({ "filter": { "source": "shop" }, "destination": "paused" });
    let replay = api.post("/v1/replays", &replay).await.expect_status(201);
    api.wait_for_replay(&replay, SOON).await;
    assert_eq!(cancelled[0]["state"], "succeeded");
    let again = api.wait_for_rows("/v1/deliveries?destination=paused", 2, SOON).await;
    let again = again.iter().find(|delivery| !delivery["replay_id"].is_null()).expect("one of the replay");
    api.post(&format!("/v1/deliveries/{}/cancel", id(again)), &json!({})).await.expect_status(200);

    // Traces of what was deleted and changed.
    api.create_source("gone", &harness::provider::Provider::standard_webhooks()).await;
    api.delete("/v1/sources/gone").await.expect_status(204);
    let changed = json!({ "transform": "{'name': body.buyer.name}" });
    api.create_destination("former", &open.1.url(), json!({})).await;
    let former = api.create_route("shop", "former", json!({ "transform": "{'a': 1}" })).await;
    api.patch(&format!("/v1/routes/{former}"), &changed).await.expect_status(200);
    gateway
        .database
        .run(
            "insert into deleted_destinations (id, customer_id) select gen_random_uuid(), id from customers;
             insert into rejections (id, source_id, cause, detail, count, first_at, last_at, size, remote)
             select id, source_id, 'bad_signature', '', 1, now(), now(), 100, 'ipv4' from events limit 1;
             insert into held_deliveries (destination_id, held_by)
             select id, 'transform' from destinations where name = 'broken' on conflict do nothing",
        )
        .await;
    let mut database = gateway.database.connect().await.expect("connects");
    until("the reports of the engine", SOON, async || {
        let reported = "select count(*) from destination_health where failures > 0";
        let reported: i64 = sqlx::query_scalar(reported).fetch_one(&mut database).await.expect("counts");
        if reported > 0 { Ok(()) } else { Err("there is none".to_owned()) }
    })
    .await;
    Filled { source_id: source.id.clone(), source, open, refusing, failing, paused, broken, route }
}

impl Filled {
    /// Checks that the relay goes on with all that was stored.
    async fn check(&self, gateway: &RelayOnly) {
        let api = &gateway.api;
        for (noun, count) in [("sources", 1), ("destinations", 6), ("routes", 6), ("events", 2), ("replays", 1)] {
            api.wait_for_rows(&format!("/v1/{noun}"), count, SOON).await;
        }
        for (_, receiver) in [&self.refusing, &self.failing, &self.paused] {
            receiver.forget();
            receiver.always(Behaviour::Status(200));
        }
        for (path, destination) in [("state=dead", &self.refusing), ("destination=failing", &self.failing)] {
            let delivery = api.wait_for_row(&format!("/v1/deliveries?{path}"), SOON).await;
            api.post(&format!("/v1/deliveries/{}/retry", id(&delivery)), &json!({})).await.expect_status(200);
            destination.1.wait_for(1, SOON).await;
        }
        api.resume("paused").await;
        let received = self.paused.1.wait_for(1, SOON).await.remove(0);
        received.verify(&self.paused.0.signing_secret).expect("it is signed with the secret that was stored");
        api.patch(&format!("/v1/routes/{}", self.route), &json!({ "transform": "{'name': 'x'}" }))
            .await
            .expect_status(200);
        self.broken.1.wait_for(1, SOON).await;
        let event = api.wait_for_row("/v1/events?verification=failed", SOON).await;
        api.post(&format!("/v1/events/{}/release", id(&event)), &json!({})).await.expect_status(200);
        self.open.1.wait_for(2, SOON).await;
        gateway.push(&self.source, b"{}");
        let received = self.open.1.wait_for(3, SOON).await.remove(2);
        assert_eq!(received.header("x-team"), "blue");
        let replay = json!({ "filter": { "source": "shop", "destination": "open", "state": "succeeded" } });
        let replay = api.post("/v1/replays", &replay).await.expect_status(201);
        api.wait_for_replay(&replay, SOON).await;
        self.open.1.wait_for(6, SOON).await;
        // A copy of what was stored is still recognised.
        gateway.push_with(&self.source, &[("webhook-id", "msg_1"), ("content-type", "application/json")], b"{}");
        drained(&gateway.queue, SOON).await;
        api.wait_for_rows("/v1/events", 3, SOON).await;
    }
}

/// Applies the migrations up to one.
async fn migrate_to(newest: i64, database: &mut PgConnection) {
    let migrator = Migrator::new(place::repository().join("relay/store/migrations").as_path()).await.expect("reads");
    migrator.run_to(newest, database).await.expect("migrates");
}

/// Creates a database of the earlier schema with the rows of the gateway's database, as far as it has their tables and
/// columns.
async fn earlier_database(gateway: &RelayOnly) -> Database {
    let earlier = Database::create_empty().await.expect("a database");
    let mut to = earlier.connect().await.expect("connects");
    migrate_to(EARLIER, &mut to).await;
    let days = "select create_day(current_date + day) from generate_series(-1, 1) day";
    earlier.run(days).await;
    // The rows of the migrations themselves are among those of the gateway.
    let tables = tables(&mut to).await;
    earlier.run(&format!("truncate {}", tables.join(", "))).await;
    let mut from = gateway.database.connect().await.expect("connects");
    // Rows refer to rows of tables that come later.
    sqlx::query("set session_replication_role = replica").execute(&mut to).await.expect("is a superuser");
    for table in tables {
        let columns: Vec<String> = sqlx::query_scalar(
            "select quote_ident(column_name) from information_schema.columns
             where table_schema = 'public' and table_name = $1 and is_generated = 'NEVER' order by ordinal_position",
        )
        .bind(&table)
        .fetch_all(&mut to)
        .await
        .expect("the columns");
        let columns = columns.join(", ");
        let read = format!("select to_jsonb(row) from {table} row");
        let found: Vec<Value> = sqlx::query_scalar(AssertSqlSafe(read)).fetch_all(&mut from).await.expect("reads");
        let insert = format!(
            "insert into {table} ({columns}) overriding system value
             select {columns} from jsonb_populate_recordset(null::{table}, $1)"
        );
        let insert = sqlx::query(AssertSqlSafe(insert)).bind(Value::from(found));
        insert.execute(&mut to).await.unwrap_or_else(|error| panic!("{table}: {error}"));
    }
    earlier
}

/// The tables of a database, without partitions.
async fn tables(database: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(
        "select relname::text from pg_class
         where relkind in ('r', 'p') and not relispartition and relnamespace = 'public'::regnamespace
           and relname <> '_sqlx_migrations' order by 1",
    )
    .fetch_all(database)
    .await
    .expect("the tables")
}

/// The columns and the rows of each table.
type Rows = BTreeMap<String, (Vec<String>, Vec<String>)>;

/// All rows of a database, with the tables and the columns of `like`, or else with all of them.
async fn rows(database: &mut PgConnection, like: Option<&Rows>) -> Rows {
    let mut all = Rows::new();
    let tables = match like {
        Some(like) => like.keys().cloned().collect(),
        None => tables(database).await,
    };
    for table in tables {
        let columns: Vec<String> = match like.and_then(|like| like.get(&table)) {
            Some((columns, _)) => columns.clone(),
            None => sqlx::query_scalar(
                "select column_name::text from information_schema.columns
                 where table_schema = 'public' and table_name = $1 order by 1",
            )
            .bind(&table)
            .fetch_all(&mut *database)
            .await
            .expect("the columns"),
        };
        let query = format!(
            "select (select jsonb_object_agg(key, value) from jsonb_each(to_jsonb(row)) where key = any($1))::text
             from {table} row order by 1"
        );
        let query = sqlx::query_scalar(AssertSqlSafe(query)).bind(&columns);
        let rows = query.fetch_all(&mut *database).await.expect("the rows");
        all.insert(table, (columns, rows));
    }
    all
}
