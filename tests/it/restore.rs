//! store: a database whose state goes back, as after a restore or a failover to a standby that lagged, and missing
//! partitions.

use harness::gateway::{Gateway, drained};
use harness::postgres::transactions;
use harness::receiver::Receiver;
use harness::wait::{SOON, until};
use serde_json::{Value, json};
use sqlx::Connection as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_whose_revision_goes_back_is_read_again_and_events_are_still_stored() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("back").await;
    gateway.push(&line.source, b"{}");
    line.receiver.wait_for(1, SOON).await;
    let mut database = gateway.database.connect().await.expect("connects");
    sqlx::query("update configuration set revision = revision - 1, identity = gen_random_uuid()")
        .execute(&mut database)
        .await
        .expect("goes back");
    let before = transactions(&mut database).await;
    gateway.push(&line.source, b"{}");
    line.receiver.wait_for(2, SOON).await;
    drained(&gateway.queue, SOON).await;
    let spent = transactions(&mut database).await - before;
    assert!(spent < 2_000, "{spent} transactions for one event");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_events_are_routed_by_the_routes_in_the_database_even_if_the_revision_is_the_same_again() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let line = gateway.line("restored").await;
    gateway.push(&line.source, b"{}");
    line.receiver.wait_for(1, SOON).await;
    drained(&gateway.queue, SOON).await;
    let saved = gateway.database.save().await.expect("saves");

    // Each connection that the server has ended fails one call.
    let put = async |name: &str, url: String| {
        let destination = json!({ "url": url });
        until("the destination to be saved", SOON, async || {
            let reply = gateway.api.put(&format!("/v1/destinations/by-name/{name}"), &destination).await;
            match reply.status {
                200 | 201 => Ok(reply.body["id"].as_str().unwrap_or_default().to_owned()),
                status => Err(format!("status {status}")),
            }
        })
        .await
    };
    let route_to = async |destination: String| {
        let route = json!({ "source": line.source.id, "destination": destination });
        until("the route to be saved", SOON, async || match gateway.api.post("/v1/routes", &route).await.status {
            201 | 409 => Ok(()),
            status => Err(format!("status {status}")),
        })
        .await;
    };

    // Lost with the restore: a second route of the same source.
    let (lost, kept) = (Receiver::start().await.expect("starts"), Receiver::start().await.expect("starts"));
    put("kept", kept.url()).await;
    route_to(put("lost", lost.url()).await).await;
    gateway.push(&line.source, b"{}");
    lost.wait_for(1, SOON).await;
    gateway.database.restore(saved).await.expect("restores");

    // As many changes as were lost. So the revision is the one that the relay has in memory, with different contents.
    put("other", lost.url()).await;
    route_to(put("kept", kept.url()).await).await;
    let event = gateway.push(&line.source, b"{\"after\":true}");
    let received = kept.wait_for(1, SOON).await.remove(0);
    assert_eq!(received.header("webhook-id"), event.to_string());
    let shown = gateway.api.get(&format!("/v1/events/{event}")).await.expect_status(200);
    let deliveries = shown["deliveries"].as_array().map(Vec::len);
    assert_eq!(deliveries, Some(2), "by the two routes that are in the database: {shown}");
    assert_eq!(lost.count(), 1, "the route that was lost is not used");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_partition_is_created_and_deliveries_are_settled() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("partition").await;
    gateway.push(&line.source, b"{}");
    line.receiver.wait_for(1, SOON).await;
    drained(&gateway.queue, SOON).await;
    let mut database = gateway.database.connect().await.expect("connects");
    let succeeded = async |count: usize| {
        gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", count, SOON).await;
    };
    succeeded(1).await;
    sqlx::raw_sql(
        "do $$ declare part text; begin
             for part in select inhrelid::regclass::text from pg_inherits
                         where inhparent in ('attempts'::regclass, 'events'::regclass, 'event_bodies'::regclass,
                                             'event_keys'::regclass, 'event_copies'::regclass, 'source_counters'::regclass,
                                             'destination_counters'::regclass, 'unreadable_messages'::regclass)
             loop execute 'drop table ' || part; end loop; end $$",
    )
    .execute(&mut database)
    .await
    .expect("drops");
    let event = gateway.push(&line.source, b"{\"after\":true}");
    let received = line.receiver.wait_for(2, SOON).await;
    assert_eq!(received[1].header("webhook-id"), event.to_string());
    drained(&gateway.queue, SOON).await;
    let path = format!("/v1/events/{event}");
    let is_settled = |event: &Value| event["deliveries"][0]["state"] == "succeeded";
    gateway.api.wait_until("the delivery to be settled", &path, SOON, is_settled).await;
    assert_eq!(gateway.api.all("/v1/unreadable-messages").await.len(), 0, "no message was kept as unreadable");
    database.close().await.expect("closes");
}
