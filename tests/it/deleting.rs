//! deleting: a destination or a source with a large backlog is deleted at once. Pending deliveries of a deleted
//! destination are cancelled in the background.

use std::time::Duration;

use harness::api::id;
use harness::gateway::{Gateway, Line, RelayOnly};
use harness::postgres::wait_for_count;
use harness::receiver::{Behaviour, Receiver};
use harness::wait::{LONG, SOON, until};
use serde_json::{Value, json};
use shared::id::{DestinationId, EventId};
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::operations::{connect, count};

/// A backlog that is cancelled in many chunks.
const MANY: i64 = 200_000;

/// A random id of the current time, for the row `number`.
const NEW_ID: &str = "(lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '7'
                       || substr(md5(number::text || $1), 1, 3) || '8' || substr(md5(number::text || $1), 4, 15))::uuid";

fn of(destination: &str) -> Uuid {
    destination.parse::<DestinationId>().expect("an id").uuid()
}

async fn pending(database: &mut PgConnection, destination: &str) -> i64 {
    count(database, &format!("pending_deliveries where destination_id = '{}'", of(destination))).await
}

async fn cancelled(database: &mut PgConnection, destination: &str) -> i64 {
    let of = of(destination);
    let reason = "state = 'cancelled' and reason = 'the destination was deleted'";
    count(database, &format!("settled_deliveries where destination_id = '{of}' and {reason}")).await
}

/// Makes `number` deliveries of an event to the destination of the line. All are due, and every third has an order key.
async fn pile_up(gateway: &RelayOnly, line: &Line, event: EventId, number: i64) {
    let mut database = connect(gateway).await;
    until("the event to be stored", SOON, async || {
        match count(&mut database, &format!("events where id = '{}'", event.uuid())).await {
            0 => Err("it is not stored".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    let statement = format!(
        "insert into pending_deliveries (id, customer_id, destination_id, event_id, source_id, route_id, due_at, order_key)
         select {NEW_ID}, events.customer_id, routes.destination_id, events.id, events.source_id, routes.id,
                now() - number * interval '1 millisecond', case when number % 3 = 0 then number % 100 end
         from generate_series(1, $2) number, events join routes on routes.source_id = events.source_id
         where events.id = $3 and routes.destination_id = $4"
    );
    sqlx::raw_sql("set synchronous_commit = off").execute(&mut database).await.expect("sets");
    let made = sqlx::query(AssertSqlSafe(statement))
        .bind(&line.destination.id)
        .bind(number)
        .bind(event.uuid())
        .bind(of(&line.destination.id))
        .execute(&mut database)
        .await
        .expect("makes deliveries");
    assert_eq!(made.rows_affected(), u64::try_from(number).expect("positive"));
    sqlx::raw_sql("analyze pending_deliveries").execute(&mut database).await.expect("analyzes");
}

/// A line with a backlog whose destination does not answer.
async fn stuck_line(gateway: &RelayOnly, name: &str, number: i64) -> Line {
    let line = gateway.line(name).await;
    line.receiver.always(Behaviour::Hang);
    let event = gateway.push(&line.source, b"{}");
    line.receiver.wait_for(1, SOON).await;
    pile_up(gateway, &line, event, number).await;
    line
}

/// Locks one of the pending deliveries of a destination. They cannot all be cancelled until this is dropped.
async fn lock_one(gateway: &RelayOnly, destination: &str) -> PgConnection {
    let mut database = connect(gateway).await;
    sqlx::query("begin").execute(&mut database).await.expect("begins");
    let one = "select id from pending_deliveries where destination_id = $1 order by id desc limit 1 for update";
    sqlx::query(one).bind(of(destination)).fetch_one(&mut database).await.expect("locks one");
    database
}

async fn wait_until_all_cancelled(gateway: &RelayOnly, destination: &str, least: i64) {
    let mut database = connect(gateway).await;
    until("all deliveries of the deleted destination to be cancelled", LONG, async || {
        match (pending(&mut database, destination).await, count(&mut database, "deleted_destinations").await) {
            (0, 0) => Ok(()),
            (left, jobs) => Err(format!("{left} pending, {jobs} deletions not finished")),
        }
    })
    .await;
    let cancelled = cancelled(&mut database, destination).await;
    assert!(cancelled >= least, "{cancelled} of {least} are in history");
}

async fn wait_until_being_cancelled(gateway: &RelayOnly, destination: &str, of_all: i64) {
    let mut database = connect(gateway).await;
    until("the cancellation to have begun", LONG, async || match pending(&mut database, destination).await {
        left if left < of_all => Ok(()),
        left => Err(format!("{left} pending")),
    })
    .await;
}

async fn finished(gateway: &RelayOnly, replay: &str) -> Value {
    gateway
        .api
        .wait_until("the replay to end and its deliveries to be settled", replay, LONG, |replay| {
            replay["state"] != "running" && replay["pending"] == 0
        })
        .await
}

fn assert_no_deadlock(log: &str) {
    assert!(!log.contains("deadlock"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_with_a_backlog_is_deleted_at_once_while_others_and_a_replay_continue() {
    let gateway = Gateway::relay_only().await;
    let doomed = stuck_line(&gateway, "doomed", MANY).await;
    let other = Receiver::start().await.expect("starts");
    let kept = gateway.api.create_destination("kept", &other.url(), json!({})).await;
    gateway.api.create_route(&doomed.source.id, &kept.id, json!({})).await;
    for number in 0..300 {
        gateway.push(&doomed.source, json!({ "number": number }).to_string().as_bytes());
    }
    other.wait_for(300, LONG).await;
    let wanted = json!({ "filter": { "source": "doomed" }, "rate_limit": { "limit": 50, "per": "second" } });
    let replay = gateway.api.post("/v1/replays", &wanted).await.expect_status(201);
    let replay = format!("/v1/replays/{}", id(&replay));
    // By now the replay has made deliveries to both destinations.
    other.wait_for(310, LONG).await;

    let mut locked = lock_one(&gateway, &doomed.destination.id).await;
    let path = format!("/v1/destinations/{}", doomed.destination.id);
    gateway.api.delete(&path).await.expect_status(204);
    gateway.api.delete(&path).await.expect_status(404);
    gateway.api.get("/v1/destinations/doomed").await.expect_status(404);
    let routes = gateway.api.all("/v1/routes").await;
    assert!(routes.iter().all(|route| route["destination_id"] != json!(doomed.destination.id)), "{routes:?}");

    // While one of the deliveries is locked, the cancellation does not finish.
    wait_until_being_cancelled(&gateway, &doomed.destination.id, MANY).await;
    other.forget();
    let live: Vec<String> = (0..200).map(|_| gateway.push(&doomed.source, b"{\"live\":true}").to_string()).collect();
    other.wait_for_events(&live, LONG).await;
    let mut database = connect(&gateway).await;
    until("the deliveries to the other destination to be settled", LONG, async || {
        match pending(&mut database, &kept.id).await {
            0 => Ok(()),
            left => Err(format!("{left} pending")),
        }
    })
    .await;
    assert!(pending(&mut database, &doomed.destination.id).await > 0, "one of the deliveries is locked");
    sqlx::query("commit").execute(&mut locked).await.expect("unlocks");

    let ended = finished(&gateway, &replay).await;
    assert_eq!((&ended["state"], &ended["error"]), (&json!("completed"), &Value::Null), "{ended}");
    assert!(ended["cancelled"].as_i64().is_some_and(|cancelled| cancelled > 0), "{ended}");
    wait_until_all_cancelled(&gateway, &doomed.destination.id, MANY).await;
    assert_no_deadlock(&gateway.relay.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_can_be_deleted_while_a_chunk_of_its_replay_is_being_stored() {
    let gateway = Gateway::relay_only().await;
    let line = stuck_line(&gateway, "target", 10).await;
    let wanted = json!({ "filter": { "source": "target" }, "destination": "target",
                         "rate_limit": { "limit": 1, "per": "hour" } });
    let replay = gateway.api.post("/v1/replays", &wanted).await.expect_status(201);
    let path = format!("/v1/replays/{}", id(&replay));
    gateway.api.wait_until("the first chunk of the replay", &path, SOON, |replay| replay["processed"] == 1).await;

    // A chunk locks the configuration first, and updates the row of the replay last.
    let mut chunk = connect(&gateway).await;
    for statement in ["begin", "select pg_advisory_xact_lock_shared(hashtext('tidegate configuration'))"] {
        sqlx::query(statement).execute(&mut chunk).await.expect("begins");
    }
    let api = gateway.api.clone();
    let deleting = tokio::spawn(async move { api.delete("/v1/destinations/target").await });
    let mut watch = connect(&gateway).await;
    let waiting = "select count(*) from pg_locks join pg_database on pg_database.oid = pg_locks.database
                       where datname = current_database() and not granted";
    wait_for_count(&mut watch, "the deletion to wait for the chunk", waiting, SOON, |waiting| waiting > 0).await;
    for statement in ["update replays set next_at = next_at", "commit"] {
        sqlx::query(statement).execute(&mut chunk).await.expect("the chunk is stored");
    }
    deleting.await.expect("is answered").expect_status(204);
    let ended = finished(&gateway, &path).await;
    assert_eq!(
        (&ended["state"], &ended["error"]),
        (&json!("cancelled"), &json!("its destination was deleted")),
        "{ended}"
    );
    wait_until_all_cancelled(&gateway, &line.destination.id, 10).await;
    assert_no_deadlock(&gateway.relay.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_while_it_cancels_deliveries_continues_after_its_restart() {
    let mut gateway = Gateway::relay_only().await;
    let line = stuck_line(&gateway, "doomed", MANY).await;
    let mut locked = lock_one(&gateway, &line.destination.id).await;
    gateway.api.delete("/v1/destinations/doomed").await.expect_status(204);
    wait_until_being_cancelled(&gateway, &line.destination.id, MANY).await;
    gateway.relay.kill().await.expect("is killed");
    let mut database = connect(&gateway).await;
    let left = pending(&mut database, &line.destination.id).await;
    assert!(left > 0, "the relay was killed before the cancellation was finished");
    println!("killed with {left} of {MANY} pending");
    let sent = line.receiver.count();
    gateway.relay.start_again().await.expect("starts again");
    sqlx::query("commit").execute(&mut locked).await.expect("unlocks");
    wait_until_all_cancelled(&gateway, &line.destination.id, MANY).await;
    assert_eq!(line.receiver.count(), sent, "nothing is sent after the restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_deleted_destination_is_free_while_its_backlog_is_cancelled() {
    let gateway = Gateway::relay_only().await;
    let line = stuck_line(&gateway, "shop", 5_000).await;
    let mut locked = lock_one(&gateway, &line.destination.id).await;
    gateway.api.delete("/v1/destinations/shop").await.expect_status(204);
    let receiver = Receiver::start().await.expect("starts");
    let new = gateway.api.create_destination("shop", &receiver.url(), json!({})).await;
    assert_ne!(new.id, line.destination.id);
    gateway.api.create_route("shop", "shop", json!({})).await;
    let event = gateway.push(&line.source, b"{\"new\":true}").to_string();
    let got = receiver.wait_for(1, SOON).await;
    assert_eq!(got[0].header("webhook-id"), event);

    // A delivery that waits to be cancelled is shown as held, and cannot be retried.
    let mut database = connect(&gateway).await;
    assert!(pending(&mut database, &line.destination.id).await > 0, "one of the deliveries is locked");
    let held = format!("/v1/deliveries?destination={}&state=held&limit=1", line.destination.id);
    let held = gateway.api.get(&held).await.expect_status(200)["data"][0].clone();
    assert_eq!(held["held_reason"], "its destination was deleted; it is being cancelled", "{held}");
    assert_eq!((&held["destination"], &held["next_attempt_at"]), (&Value::Null, &Value::Null), "{held}");
    let retry = format!("/v1/deliveries/{}/retry", id(&held));
    assert_eq!(gateway.api.post(&retry, &json!({})).await.expect_status(409)["code"], "destination_gone");

    sqlx::query("commit").execute(&mut locked).await.expect("unlocks");
    wait_until_all_cancelled(&gateway, &line.destination.id, 5_000).await;
    assert_eq!(receiver.count(), 1, "the new destination gets no delivery of the old one");
    assert_eq!(gateway.api.post(&retry, &json!({})).await.expect_status(409)["code"], "destination_gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_in_flight_is_settled_after_its_destination_was_deleted() {
    let gateway = Gateway::relay_only().await;
    for (name, status) in [("answers", 200), ("fails", 500)] {
        let line = gateway.line(name).await;
        line.receiver.always(Behaviour::DelayedStatus(Duration::from_secs(3), status));
        gateway.push(&line.source, b"{}");
        line.receiver.wait_for(1, SOON).await;
        // The lock keeps the delivery from being cancelled before its attempt is settled.
        let mut locked = lock_one(&gateway, &line.destination.id).await;
        gateway.api.delete(&format!("/v1/destinations/{name}")).await.expect_status(204);
        let mut database = connect(&gateway).await;
        let waiting =
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        wait_for_count(&mut database, "the attempt to be settled", waiting, SOON, |waiting| waiting > 0).await;
        sqlx::query("commit").execute(&mut locked).await.expect("unlocks");
        wait_until_all_cancelled(&gateway, &line.destination.id, 0).await;
        let deliveries = gateway.api.all(&format!("/v1/deliveries?destination={}", line.destination.id)).await;
        let [delivery] = deliveries.as_slice() else { panic!("{deliveries:?}") };
        let ended = ["succeeded", "cancelled"].contains(&delivery["state"].as_str().unwrap_or_default());
        assert!(ended && (status == 200 || delivery["state"] == "cancelled"), "{delivery}");
        assert_eq!(line.receiver.count(), 1, "it is not sent again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_cancel_the_backlogs_of_deleted_destinations_together() {
    let gateway = Gateway::relay_only().await;
    let second = gateway.another_relay().await;
    gateway.shared_by(2, SOON).await;
    let first = stuck_line(&gateway, "first", 30_000).await;
    let other = stuck_line(&gateway, "other", 30_000).await;
    gateway.api.delete("/v1/destinations/first").await.expect_status(204);
    second.api().delete("/v1/destinations/other").await.expect_status(204);
    for line in [&first, &other] {
        wait_until_all_cancelled(&gateway, &line.destination.id, 30_000).await;
        let mut database = connect(&gateway).await;
        let rows = format!("settled_deliveries where destination_id = '{}'", of(&line.destination.id));
        assert_eq!(count(&mut database, &rows).await, 30_001, "each delivery is in history once");
    }
    for log in [gateway.relay.log(), second.log()] {
        assert_no_deadlock(&log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_with_a_backlog_is_deleted_at_once_and_its_events_are_still_delivered() {
    // All of it is delivered before the new event, so it is smaller than in the other tests.
    const BACKLOG: i64 = 20_000;
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("shop").await;
    gateway.api.pause("shop").await;
    let event = gateway.push(&line.source, b"{}");
    pile_up(&gateway, &line, event, BACKLOG).await;
    let mut locked = lock_one(&gateway, &line.destination.id).await;
    gateway.api.delete("/v1/sources/shop").await.expect_status(204);
    gateway.api.delete(&format!("/v1/sources/{}", line.source.id)).await.expect_status(404);
    assert!(gateway.api.all("/v1/routes").await.is_empty(), "its routes are gone");

    let new = gateway.api.create_source("shop", &line.provider).await;
    gateway.api.create_route(&new.id, &line.destination.id, json!({})).await;
    let mut database = connect(&gateway).await;
    assert_eq!(pending(&mut database, &line.destination.id).await, BACKLOG + 1, "none of its deliveries is cancelled");
    sqlx::query("commit").execute(&mut locked).await.expect("unlocks");
    gateway.api.resume("shop").await;
    line.receiver.wait_for(1_000, LONG).await;
    let event = gateway.push(&new, b"{\"new\":true}").to_string();
    line.receiver.wait_for_events([event], LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_of_destinations_is_stored_although_one_of_them_is_deleted_concurrently() {
    let gateway = Gateway::relay_only().await;
    let (deleted, kept) = (gateway.line("deleted").await, gateway.line("kept").await);
    let mut change = connect(&gateway).await;
    sqlx::query("begin").execute(&mut change).await.expect("begins");
    let delete = "delete from destinations where id = $1";
    sqlx::query(delete).bind(of(&deleted.destination.id)).execute(&mut change).await.expect("deletes");
    gateway.push(&deleted.source, b"{}");
    deleted.receiver.wait_for(1, SOON).await;
    let mut database = connect(&gateway).await;
    until("the statement to wait for the destination that is being deleted", SOON, async || {
        let waiting = "pg_stat_activity where wait_event_type = 'Lock' and query like 'insert into destination_health%'
                                              and datname = current_database()";
        if count(&mut database, waiting).await > 0 { Ok(()) } else { Err("none waits".to_owned()) }
    })
    .await;
    sqlx::query("commit").execute(&mut change).await.expect("commits");

    gateway.push(&kept.source, b"{}");
    let stored = format!("destination_health where destination_id = '{}'", of(&kept.destination.id));
    until("the health of the other destination to be stored", SOON, async || {
        if count(&mut database, &stored).await > 0 { Ok(()) } else { Err("it is not stored".to_owned()) }
    })
    .await;
    assert_eq!(count(&mut database, "destination_health").await, 1, "no health of the deleted one is kept");
    let log = gateway.relay.log();
    assert!(!log.contains("the health of destinations") && !log.contains("health reports"), "{log}");
}
