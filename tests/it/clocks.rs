//! retry: all waits of a schedule, the first one included, go by the database's clock, whatever the relay's clock says.

use harness::clock::FakeClock;
use harness::gateway::{Gateway, RelayOnly};
use harness::receiver::{Behaviour, Receiver};
use harness::wait::{SOON, until};
use serde_json::{Value, json};
use sqlx::PgConnection;

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_clock_is_an_hour_behind_does_not_use_up_a_schedule_early() {
    assert_retry_after_the_wait(-3_600).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_clock_is_an_hour_ahead_does_not_retry_an_hour_late() {
    assert_retry_after_the_wait(3_600).await;
}

async fn assert_retry_after_the_wait(off_s: i64) {
    let clock = FakeClock::new().await.expect("a clock");
    let mut gateway = Gateway::relay_only_with(|settings| clock.on(settings)).await;
    // The relay logs errors about its clock.
    gateway.relay.expect_errors();
    let receiver = Receiver::start().await.expect("starts");
    receiver.next([Behaviour::Status(500)]);
    let destination = destination(&gateway, &receiver, json!([0, 600, 600]), json!({})).await;
    gateway.api.pause(&destination.0).await;
    gateway.push(&destination.1, b"{}");
    gateway.drained(SOON).await;

    gateway.relay.stop().await.expect("stops");
    clock.set_off_by(off_s);
    gateway.relay.start_again().await.expect("starts again");
    let api = gateway.relay.api();
    api.resume(&destination.0).await;
    receiver.wait_for(1, SOON).await;
    let mut database = gateway.database.connect().await.expect("connects");
    let wait_s = until("the attempt to be settled", SOON, async || {
        due_in_s(&mut database, "attempts = 1").await.first().copied().ok_or_else(|| "it is not settled".to_owned())
    })
    .await;
    // 600 s, plus or minus 20 %, from the settlement on. The test reads it a little later.
    assert!((440.0..=720.0).contains(&wait_s), "due in {wait_s} s by the database's clock");

    // A delivery that is due by the database's clock is sent, although the relay's is an hour ahead or behind.
    make_due(&mut database, "true").await;
    receiver.wait_for(2, SOON).await;
    clock.set_off_by(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_delivery_waits_for_the_first_entry_of_its_schedule_and_a_manual_retry_does_not() {
    let gateway = Gateway::relay_only().await;
    let receiver = Receiver::start().await.expect("starts");
    let (_, source) = destination(&gateway, &receiver, json!([2, 60]), json!({})).await;
    let event = gateway.push(&source, b"{}");
    receiver.wait_for(1, SOON).await;
    let mut database = gateway.database.connect().await.expect("connects");
    let waited_s = until("the attempt to be settled", SOON, async || {
        let waited: Option<f64> = sqlx::query_scalar(
            "select extract(epoch from started_at - stored_at)::float8 from attempts join events on events.id = event_id",
        )
        .fetch_optional(&mut database)
        .await
        .expect("reads");
        waited.ok_or_else(|| "it is not settled".to_owned())
    })
    .await;
    assert!(waited_s >= 2.0, "the first attempt began {waited_s} s after the event was stored");

    let longer = json!({ "url": receiver.url(), "retry": { "schedule_s": [600, 60] } });
    gateway.api.put("/v1/destinations/by-name/waits", &longer).await.expect_status(200);
    gateway.push(&source, b"{}");
    gateway.drained(SOON).await;
    let filter = json!({ "filter": { "state": "succeeded" } });
    gateway.api.post("/v1/replays", &filter).await.expect_status(201);
    let waits = until("the new delivery and that of the replay", SOON, async || {
        let waits = due_in_s(&mut database, "true").await;
        if waits.len() == 2 { Ok(waits) } else { Err(format!("{waits:?}")) }
    })
    .await;
    assert!(waits.iter().all(|wait_s| (500.0..=600.0).contains(wait_s)), "{waits:?}");
    let pending = gateway.api.all("/v1/deliveries?state=pending").await;
    let of_replay = pending.iter().find(|delivery| !delivery["replay_id"].is_null()).expect("one of the replay");
    gateway.api.post(&format!("/v1/deliveries/{}/retry", text(of_replay, "id")), &json!({})).await.expect_status(200);
    let received = receiver.wait_for(2, SOON).await;
    assert_eq!(received[1].header("webhook-id"), event.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_delivery_of_an_order_key_is_not_sent_before_its_own_first_wait_is_over() {
    let gateway = Gateway::relay_only().await;
    let receiver = Receiver::start().await.expect("starts");
    let (_, source) = destination(&gateway, &receiver, json!([600]), json!({ "order_key": "\"all\"" })).await;
    let ids = [gateway.push(&source, b"{}"), {
        gateway.drained(SOON).await;
        gateway.push(&source, b"{}")
    }];
    gateway.drained(SOON).await;
    let mut database = gateway.database.connect().await.expect("connects");
    assert_eq!(due_in_s(&mut database, "true").await.len(), 2);

    // The second delivery is read, put behind the first one, and unblocked by it.
    make_due(&mut database, "id = (select id from pending_deliveries order by id desc limit 1)").await;
    until("the second delivery to be put behind the first one", SOON, async || {
        let waits = due_in_s(&mut database, "id = (select id from pending_deliveries order by id desc limit 1)").await;
        if waits.iter().all(|wait_s| *wait_s > 500.0) { Ok(()) } else { Err(format!("{waits:?}")) }
    })
    .await;
    make_due(&mut database, "id = (select id from pending_deliveries order by id limit 1)").await;
    let first = receiver.wait_for(1, SOON).await.remove(0);
    assert_eq!(first.header("webhook-id"), ids[0].to_string());
    let left = until("the first delivery to be settled", SOON, async || match due_in_s(&mut database, "true").await {
        waits if waits.len() == 1 => Ok(waits),
        waits => Err(format!("{waits:?}")),
    })
    .await;
    assert!(left[0] > 400.0, "its own wait continues: {left:?}");
    assert_eq!(receiver.count(), 1);
    sqlx::query("update pending_deliveries set not_before = now(), due_at = now()")
        .execute(&mut database)
        .await
        .expect("writes");
    let second = receiver.wait_for(2, SOON).await.remove(1);
    assert_eq!(second.header("webhook-id"), ids[1].to_string());
}

/// A destination named "waits" with this schedule, and a source that is routed to it.
async fn destination(
    gateway: &RelayOnly,
    receiver: &Receiver,
    schedule_s: Value,
    route: Value,
) -> (String, harness::api::Source) {
    let line = gateway.line("other").await;
    let more = json!({ "retry": { "schedule_s": schedule_s } });
    let destination = gateway.api.create_destination("waits", &receiver.url(), more).await;
    let source = gateway.api.create_source("waits", &line.provider).await;
    gateway.api.create_route(&source.id, &destination.id, route).await;
    (destination.id, source)
}

/// In how many seconds pending deliveries are due by the database's clock, the oldest first.
async fn due_in_s(database: &mut PgConnection, which: &'static str) -> Vec<f64> {
    let statement =
        format!("select extract(epoch from due_at - now())::float8 from pending_deliveries where {which} order by id");
    sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_all(database).await.expect("reads")
}

async fn make_due(database: &mut PgConnection, which: &'static str) {
    let statement = format!("update pending_deliveries set due_at = now() where {which}");
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(database).await.expect("writes");
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} of {value}"))
}
