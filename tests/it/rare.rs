//! rare: filters that match few rows of a large history. Lists and replays search it in parts, and report how far they
//! have come.

use std::collections::BTreeSet;

use harness::api::{Api, id};
use harness::gateway::{Gateway, Line, RelayOnly};
use harness::provider::Provider;
use harness::wait::LONG;
use serde_json::{Value, json};
use shared::id::{DestinationId, EventId, SourceId};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// The number of events of the history, spread over [`DAYS`]. It is more than one call searches.
const EVENTS: usize = 600_000;
/// One event in this many is of the type `rare`.
const RARE_EVERY: usize = 20_000;
const RARE: usize = EVENTS / RARE_EVERY;
const DAYS: i64 = 25;

/// The partitions of the days, and a function for the id of the row `number` of `rows` that are spread over them.
const PREPARE: &str = "
    set timezone = 'UTC';
    select create_day(day::date) from generate_series(current_date - 26, current_date, interval '1 day') day;
    create function spread(number bigint, rows bigint) returns timestamptz language sql stable as $$
        select now() - interval '1 hour' - (rows - number) * interval '25 days' / rows
    $$;
    create function spread_id(number bigint, rows bigint) returns uuid language sql stable as $$
        select (lpad(to_hex((extract(epoch from spread(number, rows)) * 1000)::bigint), 12, '0') || '70008'
                || lpad(to_hex(number), 15, '0'))::uuid
    $$;";

/// A line with a long history, and the ids of its rare events.
struct Past {
    line: Line,
    database: PgConnection,
    rare: BTreeSet<String>,
}

impl Past {
    async fn of(gateway: &RelayOnly, name: &str) -> Self {
        let line = gateway.line(name).await;
        let mut database = gateway.database.connect().await.expect("connects");
        sqlx::raw_sql(PREPARE).execute(&mut database).await.expect("prepares");
        let source: SourceId = line.source.id.parse().expect("an id");
        sqlx::query(
            "insert into events (id, customer_id, source_id, received_at, type, method, query, headers, body_size,
                                 verification)
             select spread_id(number, $2), (select id from customers), $1, spread(number, $2),
                    case when number = 1 then 'once' when number % $3 = 0 then 'rare' else 'usual' end,
                    'POST', '', '[]', 2, 'verified'
             from generate_series(1, $2) number",
        )
        .bind(source.uuid())
        .bind(EVENTS as i64)
        .bind(RARE_EVERY as i64)
        .execute(&mut database)
        .await
        .expect("stores the events");
        let rare: Vec<sqlx::types::Uuid> = sqlx::query_scalar("select id from events where type = 'rare'")
            .fetch_all(&mut database)
            .await
            .expect("reads");
        sqlx::raw_sql("insert into event_bodies select id, '{}' from events where type = 'rare'; analyze events;")
            .execute(&mut database)
            .await
            .expect("stores the bodies");
        let rare = rare.into_iter().map(|id| EventId::from_uuid(id).to_string()).collect::<BTreeSet<_>>();
        assert_eq!(rare.len(), RARE);
        Self { line, database, rare }
    }

    /// Adds dead deliveries, one in twenty thousand of them because of a timeout, and pending deliveries that are due
    /// much later, one in ten thousand of them held.
    async fn add_deliveries(&mut self, settled: usize, pending: usize) {
        let destination: DestinationId = self.line.destination.id.parse().expect("an id");
        let source: SourceId = self.line.source.id.parse().expect("an id");
        for (statement, rows) in [
            (
                "insert into settled_deliveries (id, customer_id, destination_id, event_id, source_id, state, error, reason,
                                                 attempts, schedule_start)
                 select spread_id(number, $3), (select id from customers), $1, spread_id(number, $3), $2, 'dead',
                        case when number % 20000 = 0 then 'timeout' else 'http_status' end, 'it failed', 1, 0
                 from generate_series(1, $3) number",
                settled,
            ),
            (
                "insert into pending_deliveries (id, customer_id, destination_id, event_id, source_id, due_at, held_reason)
                 select spread_id(number + 1, $3), (select id from customers), $1, spread_id(number, $3), $2,
                        case when number % 10000 = 0 then 'infinity' else timestamptz '2100-01-01' end,
                        case when number % 10000 = 0 then 'it waits' end
                 from generate_series(1, $3) number",
                pending,
            ),
        ] {
            sqlx::query(statement)
                .bind(destination.uuid())
                .bind(source.uuid())
                .bind(rows as i64)
                .execute(&mut self.database)
                .await
                .expect("stores the deliveries");
        }
        sqlx::raw_sql("analyze settled_deliveries, pending_deliveries")
            .execute(&mut self.database)
            .await
            .expect("analyzes");
    }
}

/// All pages of a list.
async fn pages(api: &Api, path: &str) -> Vec<Value> {
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("{path}{cursor}")).await.expect_status(200);
        pages.push(page.clone());
        assert!(pages.len() < 100, "the list does not end");
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return pages,
        }
    }
}

fn ids(pages: &[Value]) -> Vec<String> {
    let rows = pages.iter().flat_map(|page| page["data"].as_array().expect("rows"));
    rows.map(|row| id(row).to_owned()).collect()
}

/// The times down to which the pages except the last have searched. Each page must continue where the one before ended.
fn scanned_until(pages: &[Value]) -> Vec<&str> {
    let (last, before) = pages.split_last().expect("a page");
    assert_eq!(last["scanned_until"], Value::Null, "{last}");
    let times: Vec<&str> = before.iter().map(|page| page["scanned_until"].as_str().expect("a time")).collect();
    assert!(times.is_sorted_by(|earlier, later| earlier > later), "{times:?}");
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_a_list_with_a_rare_filter_report_how_far_they_have_come_and_together_have_each_row_once() {
    let gateway = Gateway::relay_only().await;
    let mut past = Past::of(&gateway, "long").await;
    past.add_deliveries(450_000, 300_000).await;
    let api = &gateway.api;

    let events = pages(api, "/v1/events?source=long&type=rare&limit=200").await;
    assert!(scanned_until(&events).len() > 1, "one call has searched {EVENTS} events");
    let found = ids(&events);
    assert_eq!((found.len(), found.into_iter().collect::<BTreeSet<_>>()), (RARE, past.rare.clone()));
    // Some of the small pages are full.
    let small = pages(api, "/v1/events?type=rare&limit=4").await;
    let found = ids(&small);
    assert!(found.is_sorted_by(|newer, older| newer > older), "newest first: {found:?}");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), past.rare);

    let once = pages(api, "/v1/events?type=once").await;
    let (last, before) = once.split_last().expect("a page");
    assert_eq!(last["data"].as_array().map(Vec::len), Some(1), "the oldest event of all");
    assert!(before.iter().all(|page| page["data"] == json!([])), "{before:?}");
    assert!(!scanned_until(&once).is_empty());
    assert_eq!(ids(&pages(api, "/v1/events?type=none").await), Vec::<String>::new());

    for (path, count) in [
        ("/v1/deliveries?destination=long&error=timeout", 22),
        ("/v1/deliveries?destination=long&state=dead&error=timeout", 22),
        ("/v1/deliveries?destination=long&state=held", 30),
        ("/v1/deliveries?state=held", 30),
        ("/v1/deliveries?destination=long&state=succeeded", 0),
    ] {
        let deliveries = pages(api, path).await;
        assert!(!scanned_until(&deliveries).is_empty(), "one call has searched everything for {path}");
        let found = ids(&deliveries);
        assert_eq!((found.len(), found.into_iter().collect::<BTreeSet<_>>().len()), (count, count), "{path}");
    }
    // A filter that matches many rows fills its page at once.
    for path in
        ["/v1/deliveries?destination=long", "/v1/deliveries?destination=long&state=pending", "/v1/events?type=usual"]
    {
        let page = api.get(path).await.expect_status(200);
        assert_eq!((page["data"].as_array().map(Vec::len), &page["scanned_until"]), (Some(50), &Value::Null), "{path}");
    }
}

/// Adds an event that is older than all others, with a dead and a pending delivery and a rejection.
async fn add_oldest(database: &mut PgConnection, customer: &str, number: i64, source: &str, destination: &str) {
    let (source, destination): (SourceId, DestinationId) =
        (source.parse().expect("an id"), destination.parse().expect("an id"));
    sqlx::query(
        "with of as (
             select customers.id as customer, sample.id as row from customers,
                    (select (lpad(to_hex((extract(epoch from now() - interval '25 days 2 hours') * 1000)::bigint), 12, '0')
                             || '70008' || lpad(to_hex($2), 15, '0'))::uuid as id) sample
             where name = $1
         ), event as (
             insert into events (id, customer_id, source_id, received_at, method, query, headers, body_size, verification)
             select row, customer, $3, now() - interval '25 days', 'POST', '', '[]', 2, 'verified' from of
         ), settled as (
             insert into settled_deliveries (id, customer_id, destination_id, event_id, source_id, state, error, reason,
                                             attempts, schedule_start)
             select row, customer, $4, row, $3, 'dead', 'timeout', 'it failed', 1, 0 from of
         ), pending as (
             insert into pending_deliveries (id, customer_id, destination_id, event_id, source_id, due_at)
             select (overlay(row::text placing 'f' from 20 for 1))::uuid, customer, $4, row, $3, timestamptz '2100-01-01'
             from of
         )
         insert into rejections (id, source_id, cause, detail, count, first_at, last_at, size, remote)
         select row, $3, 'bad_signature', '', 1, now(), now(), 2, '192.0.2.1' from of",
    )
    .bind(customer)
    .bind(number)
    .bind(source.uuid())
    .bind(destination.uuid())
    .execute(database)
    .await
    .expect("stores the rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lists_of_a_customer_are_read_in_one_call_however_much_history_the_others_have() {
    let gateway = Gateway::relay_only().await;
    let mut past = Past::of(&gateway, "long").await;
    past.add_deliveries(450_000, 300_000).await;
    let source: SourceId = past.line.source.id.parse().expect("an id");
    sqlx::query(
        "insert into rejections (id, source_id, cause, detail, count, first_at, last_at, size, remote)
         select spread_id(number, 300000), $1, 'bad_signature', '', 1, now(), now(), 2, '192.0.2.1'
         from generate_series(1, 300000) number",
    )
    .bind(source.uuid())
    .execute(&mut past.database)
    .await
    .expect("stores the rejections");
    gateway.api.create_customer("acme").await;
    let acme = gateway.api.acting_for("acme");
    let mut lines = Vec::new();
    for (number, name) in (1..).zip(["shop", "deleted"]) {
        let source = acme.create_source(name, &Provider::standard_webhooks()).await;
        let destination = acme.create_destination(name, "http://127.0.0.1:9999/", json!({})).await;
        acme.post(&format!("/v1/destinations/{}/pause", destination.id), &json!({})).await.expect_status(200);
        add_oldest(&mut past.database, "acme", number, &source.id, &destination.id).await;
        lines.push((source.id, destination.id));
    }
    sqlx::raw_sql("analyze rejections, events, settled_deliveries")
        .execute(&mut past.database)
        .await
        .expect("analyzes");
    acme.delete(&format!("/v1/sources/{}", lines[1].0)).await.expect_status(204);

    let whole = async |path: &str, count: usize| {
        let page = acme.get(path).await.expect_status(200);
        let found = page["data"].as_array().map(Vec::len);
        assert_eq!((found, &page["scanned_until"]), (Some(count), &Value::Null), "{path}: {page}");
    };
    // Events of the deleted source are listed; its rejections are not.
    for (path, count) in [
        ("/v1/events", 2),
        ("/v1/events?verification=verified", 2),
        ("/v1/events?verification=failed", 0),
        ("/v1/deliveries", 4),
        ("/v1/deliveries?state=dead", 2),
        ("/v1/deliveries?state=held", 2),
        ("/v1/deliveries?error=timeout", 2),
        ("/v1/rejections", 1),
    ] {
        whole(path, count).await;
    }
    acme.delete(&format!("/v1/destinations/{}", lines[1].1)).await.expect_status(204);
    whole("/v1/deliveries?error=timeout", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_as_far_as_one_call_gets_and_the_next_call_continues_from_there() {
    let gateway = Gateway::relay_only().await;
    let _past = Past::of(&gateway, "long").await;
    let mut wanted = json!({ "filter": { "source": "long", "type": "rare" }, "dry_run": true });
    let first = gateway.api.post("/v1/replays", &wanted).await.expect_status(200);
    assert_eq!(first["complete"], false, "{first}");
    assert!(first["scanned_until"].is_string(), "{first}");
    wanted["cursor"] = first["next_cursor"].clone();
    let second = gateway.api.post("/v1/replays", &wanted).await.expect_status(200);
    assert_eq!((&second["complete"], &second["next_cursor"]), (&json!(true), &Value::Null), "{second}");
    let matched = |plan: &Value| plan["matched"].as_u64().expect("a number");
    assert!(matched(&first) > 0, "{first}");
    assert_eq!(matched(&first) + matched(&second), RARE as u64);
    wanted["dry_run"] = json!(false);
    gateway.api.post("/v1/replays", &wanted).await.expect_status(422);
}

/// Locks the events of a day in the middle of history, so that statements over all of history wait.
async fn lock_a_day(database: &mut PgConnection) -> sqlx::Transaction<'_, sqlx::Postgres> {
    let day: String = sqlx::query_scalar("select to_char(now() - $1 * interval '1 day', 'YYYYMMDD')")
        .bind((DAYS / 2) as f64)
        .fetch_one(&mut *database)
        .await
        .expect("reads");
    let mut held = database.begin().await.expect("begins");
    let lock = AssertSqlSafe(format!("lock table events_{day} in access exclusive mode"));
    sqlx::raw_sql(lock).execute(&mut *held).await.expect("locks");
    held
}

fn path_of(replay: &Value) -> String {
    format!("/v1/replays/{}", id(replay))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_whose_events_cannot_be_counted_at_once_is_created_counted_later_and_takes_each_event_once() {
    let mut gateway = Gateway::relay_only().await;
    let mut past = Past::of(&gateway, "long").await;
    let api = gateway.api.clone();
    let wanted = |limit: u32, per: &str| {
        json!({
            "filter": { "source": "long", "type": "rare" }, "destination": "long",
            "rate_limit": { "limit": limit, "per": per },
        })
    };

    let held = lock_a_day(&mut past.database).await;
    let slow = api.post("/v1/replays", &wanted(1, "hour")).await.expect_status(201);
    assert_eq!((&slow["state"], &slow["matched"]), (&json!("running"), &Value::Null), "{slow}");
    gateway.relay.kill().await.expect("is killed");
    held.rollback().await.expect("rolls back");
    gateway.relay.start_again().await.expect("starts again");
    // It is counted although its rate limit stops it after its first event.
    let counted =
        api.wait_until("the replay to be counted", &path_of(&slow), LONG, |replay| !replay["matched"].is_null()).await;
    assert_eq!((&counted["matched"], &counted["state"]), (&json!(RARE), &json!("running")), "{counted}");
    api.post(&format!("{}/cancel", path_of(&slow)), &json!({})).await.expect_status(200);
    api.wait_until("the deliveries of the replay to end", &path_of(&slow), LONG, |replay| replay["pending"] == 0).await;
    past.line.receiver.forget();

    let replay = api.post("/v1/replays", &wanted(10, "second")).await.expect_status(201);
    api.wait_until("the replay to begin", &path_of(&replay), LONG, |replay| replay["processed"].as_u64() >= Some(3))
        .await;
    gateway.relay.kill().await.expect("is killed");
    gateway.relay.start_again().await.expect("starts again");
    let ended = api
        .wait_until("the replay to end", &path_of(&replay), LONG, |replay| {
            replay["state"] == "completed" && replay["succeeded"] == json!(RARE)
        })
        .await;
    for field in ["matched", "matched_so_far", "processed", "created"] {
        assert_eq!(ended[field], json!(RARE), "{field} in {ended}");
    }
    assert_eq!(past.line.receiver.ids(), past.rare.iter().cloned().collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_over_a_slow_history_delays_no_other_and_continues_once_the_history_can_be_read() {
    let gateway = Gateway::relay_only().await;
    let mut past = Past::of(&gateway, "long").await;
    let quick = gateway.line("quick").await;
    for number in 0..20 {
        gateway.push(&quick.source, json!({ "number": number }).to_string().as_bytes());
    }
    quick.receiver.wait_for(20, LONG).await;
    let api = &gateway.api;
    let today: String =
        sqlx::query_scalar("select to_char(now() - interval '30 minutes', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
            .fetch_one(&mut past.database)
            .await
            .expect("reads");

    let held = lock_a_day(&mut past.database).await;
    let slow = json!({ "filter": { "source": "long", "type": "rare" } });
    let slow = api.post("/v1/replays", &slow).await.expect_status(201);
    let other = json!({ "filter": { "source": "quick", "after": today } });
    let other = api.post("/v1/replays", &other).await.expect_status(201);
    api.wait_for_replay(&other, LONG).await;
    let waiting = api.get(&path_of(&slow)).await.expect_status(200);
    assert_eq!((&waiting["state"], &waiting["processed"]), (&json!("running"), &json!(0)), "{waiting}");
    held.rollback().await.expect("rolls back");

    let ended = api
        .wait_until("the slow replay to end", &path_of(&slow), LONG, |replay| {
            replay["state"] == "completed" && replay["pending"] == 0
        })
        .await;
    assert_eq!((&ended["matched"], &ended["created"]), (&json!(RARE), &json!(RARE)), "{ended}");
    assert_eq!(past.line.receiver.ids(), past.rare.iter().cloned().collect());
}
