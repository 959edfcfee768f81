//! deliver: thousands of destinations.

use harness::gateway::{Gateway, drained};
use harness::postgres::wait_for_count;
use harness::provider::Provider;
use harness::receiver::{Behaviour, Receiver};
use harness::wait::{LONG, until};
use serde_json::json;
use sqlx::PgConnection;

#[tokio::test(flavor = "multi_thread")]
async fn one_event_reaches_each_of_two_thousand_destinations() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("crowd").await;
    let receiver = Receiver::start().await.expect("starts");
    let destinations = gateway.crowd(&line.source, 2_000, &receiver.url()).await;
    let event = gateway.push(&line.source, b"{}");
    let received = receiver.wait_for(destinations.len(), LONG).await;
    assert!(received.iter().all(|request| request.header("webhook-id") == event.to_string()));
    drained(&gateway.queue, LONG).await;
    let mut database = gateway.database.connect().await.expect("connects");
    wait_for_count(
        &mut database,
        "every delivery to be settled",
        "select count(distinct destination_id) from settled_deliveries where state = 'succeeded'",
        LONG,
        |settled| settled == 2_001,
    )
    .await;
}

/// How often the index of due deliveries has been searched so far, and how many transactions have been committed.
async fn searches_and_transactions(database: &mut PgConnection) -> (i64, i64) {
    sqlx::query_as(
        "select idx_scan, xact_commit from pg_stat_user_indexes, pg_stat_database
         where indexrelname = 'pending_deliveries_by_lane' and datname = current_database()",
    )
    .fetch_one(database)
    .await
    .expect("reads")
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_destinations_are_not_searched_one_by_one() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("idle").await;
    let count = 2_000;
    gateway.crowd(&line.source, count, &line.receiver.url()).await;
    let lanes = 3 * i64::try_from(count + 1).expect("small");
    let mut database = gateway.database.connect().await.expect("connects");
    let (read, begun) =
        until("each lane to have been read", LONG, async || match searches_and_transactions(&mut database).await {
            (searches, transactions) if searches >= lanes => Ok((searches, transactions)),
            (searches, _) => Err(format!("{searches} searches for {lanes} lanes")),
        })
        .await;
    // An idle relay makes two transactions a second, and one in four of them is a scan.
    let after = until("forty more transactions", LONG, async || match searches_and_transactions(&mut database).await {
        (searches, transactions) if transactions >= begun + 40 => Ok(searches),
        (_, transactions) => Err(format!("{} transactions", transactions - begun)),
    })
    .await;
    assert!(after - read < lanes, "{} searches for {lanes} lanes in forty transactions", after - read);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_another_replica_makes_due_is_found_behind_thousands_of_paused_destinations() {
    let mut gateway = Gateway::relay_only().await;
    let first = gateway.line("first").await;
    gateway.push(&first.source, b"{}");
    first.receiver.wait_for(1, LONG).await;
    gateway.relay.stop().await.expect("stops");
    // More than one scan reads.
    gateway.crowd(&first.source, 6_000, &first.receiver.url()).await;
    let mut database = gateway.database.connect().await.expect("connects");
    let paused = "update destinations set state = 'paused' where name like 'crowd-%'";
    sqlx::query(paused).execute(&mut database).await.expect("pauses");
    gateway.backlog(&first.source, 1).await;
    gateway.relay.start_again().await.expect("starts again");

    let (api, receiver) = (gateway.relay.api(), Receiver::start().await.expect("starts"));
    let source = api.create_source("last", &Provider::standard_webhooks()).await;
    let settings = json!({ "retry": { "schedule_s": [0, 86_400] } });
    let destination = api.create_destination("last", &receiver.url(), settings).await;
    api.create_route(&source.id, &destination.id, json!({})).await;
    receiver.next([Behaviour::Status(500)]);
    gateway.push(&source, b"{}");
    let made_due = "update pending_deliveries set due_at = now() where attempts = 1";
    until("its next attempt to be made due", LONG, async || {
        let made = sqlx::query(made_due).execute(&mut database).await.map_err(|error| error.to_string())?;
        if made.rows_affected() == 1 { Ok(()) } else { Err("it has not been settled".to_owned()) }
    })
    .await;
    receiver.wait_for(2, LONG).await;
    assert_eq!(first.receiver.count(), 1, "nothing is sent to paused destinations");
}
