//! history: data past its retention is dropped by partition, data that is still needed is kept, and both are reported.

use std::time::Duration;

use harness::api::id;
use harness::gateway::{Gateway, Line, RelayOnly};
use harness::postgres::PARTITIONED;
use harness::wait::{SOON, until};
use serde_json::json;
use shared::id::{DeliveryId, EventId, SourceId};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// History of past days, as a relay that ran at the time would have left it.
struct Past {
    database: PgConnection,
}

impl Past {
    async fn of(gateway: &RelayOnly) -> Self {
        Self { database: gateway.database.connect().await.expect("connects") }
    }

    /// An event with its body.
    async fn event(&mut self, line: &Line, days_ago: i64) -> EventId {
        let at_ms = ms(days_ago);
        let id = EventId::mint(at_ms, rand::random());
        sqlx::query("select create_day((to_timestamp($1) at time zone 'UTC')::date)")
            .bind((at_ms / 1000) as f64)
            .execute(&mut self.database)
            .await
            .expect("makes the day");
        let source: SourceId = line.source.id.parse().expect("an id");
        sqlx::query(
            "with event as (
                 insert into events (id, customer_id, source_id, received_at, method, query, headers, body_size, verification)
                 values ($1, (select id from customers), $2, to_timestamp($3), 'POST', '', '[]', 2, 'verified'))
             insert into event_bodies (event_id, body) values ($1, '{}')",
        )
        .bind(id.uuid())
        .bind(source.uuid())
        .bind((at_ms / 1000) as f64)
        .execute(&mut self.database)
        .await
        .expect("stores the event");
        id
    }

    /// A delivery of an event, made when the event was stored.
    async fn delivery(&mut self, line: &Line, event: EventId, settled: bool) -> DeliveryId {
        let id = DeliveryId::mint(event.minted_at_ms(), rand::random());
        let columns = "id, customer_id, destination_id, event_id, source_id";
        let of_event = "select $1, customer_id, $2, id, source_id";
        let statement = if settled {
            format!(
                "with attempt as (
                     insert into attempts (id, delivery_id, destination_id, event_id, number, started_at, latency_ms)
                     values ($1, $1, $2, $3, 1, now(), 1))
                 insert into settled_deliveries ({columns}, state, error, reason, attempts, schedule_start)
                 {of_event}, 'dead', 'http_status', 'status 500', 1, 0 from events where id = $3"
            )
        } else {
            format!("insert into pending_deliveries ({columns}, due_at) {of_event}, now() from events where id = $3")
        };
        let destination: shared::id::DestinationId = line.destination.id.parse().expect("an id");
        let inserted = sqlx::query(AssertSqlSafe(statement))
            .bind(id.uuid())
            .bind(destination.uuid())
            .bind(event.uuid())
            .execute(&mut self.database)
            .await;
        assert_eq!(inserted.expect("stores the delivery").rows_affected(), 1);
        id
    }

    async fn exists(&mut self, table: &str, days_ago: i64) -> bool {
        sqlx::query_scalar("select to_regclass($1) is not null")
            .bind(self.partition(table, days_ago).await)
            .fetch_one(&mut self.database)
            .await
            .expect("reads")
    }

    async fn partition(&mut self, table: &str, days_ago: i64) -> String {
        sqlx::query_scalar("select $1 || to_char(to_timestamp($2) at time zone 'UTC', '_YYYYMMDD')")
            .bind(table)
            .bind((ms(days_ago) / 1000) as f64)
            .fetch_one(&mut self.database)
            .await
            .expect("reads")
    }

    async fn wait_until_dropped(&mut self, table: &str, days_ago: i64) {
        until(&format!("{table} of {days_ago} days ago to be dropped"), SOON, async || {
            if self.exists(table, days_ago).await { Err("it still exists".to_owned()) } else { Ok(()) }
        })
        .await;
    }
}

fn ms(days_ago: i64) -> u64 {
    harness::provider::now_s().saturating_add_signed(-days_ago * 86_400) * 1_000
}

async fn start_again(gateway: &mut RelayOnly) {
    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again().await.expect("starts again");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_past_its_retention_is_dropped_by_partition_and_reported_as_gone() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("kept").await;
    let mut past = Past::of(&gateway).await;
    let (recent, older, ancient) =
        (past.event(&line, 25).await, past.event(&line, 40).await, past.event(&line, 100).await);
    let mut deliveries = Vec::new();
    for event in [recent, older, ancient] {
        deliveries.push(past.delivery(&line, event, true).await);
    }
    start_again(&mut gateway).await;

    past.wait_until_dropped("event_bodies", 40).await;
    for table in PARTITIONED {
        past.wait_until_dropped(table, 100).await;
    }
    past.wait_until_dropped("event_keys", 25).await;
    for (table, days_ago) in [("events", 40), ("settled_deliveries", 40), ("attempts", 40), ("event_bodies", 25)] {
        assert!(past.exists(table, days_ago).await, "{table} of {days_ago} days ago");
    }

    let api = &gateway.api;
    assert_eq!(api.bytes(&format!("/v1/events/{recent}/body")).await, b"{}");
    let gone = api.get(&format!("/v1/events/{older}/body")).await.expect_status(410);
    assert_eq!(
        gone["detail"], "event bodies are kept for 30 days (TIDEGATE_BODY_RETENTION_DAYS), and this period has passed",
        "{gone}"
    );
    assert_eq!(gone["code"], "past_retention");
    api.get(&format!("/v1/events/{older}")).await.expect_status(200);
    api.get(&format!("/v1/events/{ancient}")).await.expect_status(404);
    let refused = api.post(&format!("/v1/deliveries/{}/retry", deliveries[1]), &json!({})).await.expect_status(409);
    assert_eq!(refused["code"], "body_gone", "{refused}");
    let attempts = api.all(&format!("/v1/deliveries/{}/attempts", deliveries[1])).await;
    assert_eq!(attempts.len(), 1, "the metadata of a delivery outlives the body");

    for filter in [json!({ "source": "kept", "state": "dead" }), json!({ "source": "kept" })] {
        let replay = api.post("/v1/replays", &json!({ "filter": filter })).await.expect_status(201);
        let ended = api.wait_for_replay(&replay, SOON).await;
        assert_eq!(
            (&ended["matched"], &ended["processed"], &ended["skipped"], &ended["created"]),
            (&json!(2), &json!(2), &json!(1), &json!(1)),
            "{ended}"
        );
        assert_eq!(
            ended["skipped_reason"],
            "event bodies are kept for 30 days (TIDEGATE_BODY_RETENTION_DAYS), and this period has passed; or their \
             customer has a shorter body_retention_days, or their bodies were erased"
        );
        let path = format!("/v1/replays/{}", id(&replay));
        api.wait_until("the replay to be delivered", &path, SOON, |replay| replay["pending"] == 0).await;
    }
    assert_eq!(line.receiver.ids().into_iter().collect::<Vec<_>>(), [recent.to_string()]);
    assert_eq!(line.receiver.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_a_pending_delivery_needs_is_kept_beyond_its_retention_until_it_is_delivered() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("paused").await;
    let pause = format!("/v1/destinations/{}/pause", line.destination.id);
    gateway.api.post(&pause, &json!({})).await.expect_status(200);
    let mut past = Past::of(&gateway).await;
    let event = past.event(&line, 60).await;
    past.delivery(&line, event, false).await;
    past.event(&line, 59).await;
    start_again(&mut gateway).await;

    past.wait_until_dropped("event_bodies", 59).await;
    assert!(past.exists("event_bodies", 60).await);
    let partition = past.partition("event_bodies", 60).await;
    assert!(
        gateway.relay.log().lines().any(|line| line.contains("kept beyond its retention") && line.contains(&partition)),
        "{}",
        gateway.relay.log()
    );
    let resume = format!("/v1/destinations/{}/resume", line.destination.id);
    gateway.api.post(&resume, &json!({})).await.expect_status(200);
    let received = line.receiver.wait_for(1, SOON).await.remove(0);
    assert_eq!((received.body.as_ref(), received.header("webhook-id")), (b"{}".as_slice(), event.to_string().as_str()));
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 1, SOON).await;
    start_again(&mut gateway).await;
    past.wait_until_dropped("event_bodies", 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_still_pending_when_its_retention_ends_is_dead_with_that_reason() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("forgotten").await;
    let pause = format!("/v1/destinations/{}/pause", line.destination.id);
    gateway.api.post(&pause, &json!({})).await.expect_status(200);
    let mut past = Past::of(&gateway).await;
    // Past its retention and within the day of grace, in which the outcome can still be read.
    let event = past.event(&line, 90).await;
    let delivery = past.delivery(&line, event, false).await;
    start_again(&mut gateway).await;

    let path = format!("/v1/deliveries/{delivery}");
    let ended =
        gateway.api.wait_until("the delivery to end", &path, SOON, |delivery| delivery["state"] == "dead").await;
    assert_eq!(ended["error"], "expired", "{ended}");
    assert_eq!(ended["reason"], "not delivered within 90 days (TIDEGATE_METADATA_RETENTION_DAYS)");
    gateway.api.post(&format!("{path}/retry"), &json!({})).await.expect_status(409);
    assert!(past.exists("settled_deliveries", 90).await);
    assert_eq!(line.receiver.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_drop_of_partitions_is_completed_after_a_restart() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("interrupted").await;
    let mut past = Past::of(&gateway).await;
    let (half, apart) = (past.partition("event_bodies", 50).await, past.partition("event_bodies", 45).await);
    for days_ago in [50, 45] {
        past.event(&line, days_ago).await;
    }
    gateway.relay.stop().await.expect("stops");
    let detach =
        |name: &str, how: &str| AssertSqlSafe(format!("alter table event_bodies detach partition {name} {how}"));
    sqlx::query(detach(&apart, "")).execute(&mut past.database).await.expect("detaches");
    // A reader of the table blocks the second half of detaching the other partition.
    let mut reader = gateway.database.connect().await.expect("connects");
    let mut reading = reader.begin().await.expect("begins");
    sqlx::query("select from event_bodies limit 1").execute(&mut *reading).await.expect("reads");
    sqlx::query("set lock_timeout = '200ms'").execute(&mut past.database).await.expect("sets");
    let refused = sqlx::raw_sql(detach(&half, "concurrently")).execute(&mut past.database).await;
    assert!(refused.is_err(), "it waits for the reader");
    reading.rollback().await.expect("ends");

    gateway.relay.start_again().await.expect("starts again");
    past.wait_until_dropped("event_bodies", 50).await;
    past.wait_until_dropped("event_bodies", 45).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_reader_delays_the_drop_of_partitions_and_nothing_else() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("read").await;
    let mut past = Past::of(&gateway).await;
    past.event(&line, 50).await;
    gateway.relay.stop().await.expect("stops");
    // The partitions of a coming day are created while a reader holds the tables.
    for table in PARTITIONED {
        let ahead = past.partition(table, -3).await;
        sqlx::query(AssertSqlSafe(format!("drop table {ahead}"))).execute(&mut past.database).await.expect("drops");
    }
    let mut reader = gateway.database.connect().await.expect("connects");
    let mut reading = reader.begin_with("begin isolation level repeatable read").await.expect("begins");
    for table in PARTITIONED {
        let read = AssertSqlSafe(format!("select count(*) from {table}"));
        sqlx::query(read).execute(&mut *reading).await.expect("reads");
    }
    gateway.relay.start_again().await.expect("starts again");
    gateway.relay.wait_for_log("could not be dropped because a query is reading it", SOON).await;
    for number in 0..100 {
        gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes());
    }
    line.receiver.wait_for(100, SOON).await;
    for table in PARTITIONED {
        assert!(past.exists(table, -3).await, "{table}");
    }
    reading.rollback().await.expect("ends");
    start_again(&mut gateway).await;
    past.wait_until_dropped("event_bodies", 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_long_readers_and_an_idle_transaction_delay_no_delivery() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("held").await;
    let mut held = Vec::new();
    for number in 0..5 {
        let mut database = gateway.database.connect().await.expect("connects");
        let statements = match number {
            // This one has written, so its own transaction id holds back vacuum, too.
            0 => vec!["begin", "create temporary table left_idle (number int)"],
            _ => vec![
                "begin isolation level repeatable read",
                "select count(*) from pending_deliveries",
                "select count(*) from settled_deliveries",
                "select count(*) from event_bodies",
                "select count(*) from destination_counters",
            ],
        };
        for statement in statements {
            sqlx::query(statement).execute(&mut database).await.expect("begins");
        }
        held.push(database);
    }
    let count = 3_000;
    for number in 0..count {
        gateway.push(&line.source, json!({ "number": number }).to_string().as_bytes());
    }
    line.receiver.wait_for(count, Duration::from_secs(60)).await;
    until("every delivery to be settled", SOON, async || {
        let stats = gateway.api.get("/v1/stats?destination=held&step=day").await.expect_status(200);
        let settled = stats["deliveries"].as_array().into_iter().flatten().filter_map(|day| day["succeeded"].as_u64());
        match settled.sum::<u64>() {
            settled if settled == count as u64 => Ok(()),
            settled => Err(format!("{settled} settled")),
        }
    })
    .await;
    assert_eq!(line.receiver.ids().len(), count);
}
