//! crash: the relay and the database are killed while they work. Nothing accepted is lost. The tests print how
//! many deliveries are repeated.

use std::collections::HashSet;
use std::time::Duration;

use harness::gateway::{Gateway, drained};
use harness::postgres::{Server, Shutdown};
use harness::receiver::Receiver;
use harness::wait::{LONG, until};

async fn wait_for_every_event(what: &str, pushed: &HashSet<String>, receiver: &Receiver) {
    receiver.wait_for_events(pushed, LONG).await;
    println!(
        "{what}: {} events, {} deliveries, {} of them repeated",
        pushed.len(),
        receiver.count(),
        receiver.count() - pushed.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_during_five_thousand_deliveries_loses_none() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("killed").await;
    let pushed = gateway.push_many(&line.source, 5_000);
    for part in [500, 2_000, 3_500] {
        line.receiver.wait_for(part, LONG).await;
        gateway.relay.kill().await.expect("is killed");
        gateway.relay.start_again().await.expect("starts again");
    }
    wait_for_every_event("kill -9 of the relay", &pushed, &line.receiver).await;
    drained(&gateway.queue, LONG).await;
    let api = gateway.relay.api();
    until("every delivery to be settled", LONG, async || {
        match api.get("/v1/deliveries?state=pending&limit=1").await.body["data"].as_array() {
            Some(pending) if pending.is_empty() => Ok(()),
            _ => Err("some are pending".to_owned()),
        }
    })
    .await;
    assert_eq!(api.all("/v1/events?limit=200").await.len(), 5_000, "every event is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_for_ten_seconds_loses_nothing() {
    let mut server = Server::start_private().await.expect("starts");
    let gateway = Gateway::relay_only_on_server(&server).await;
    let line = gateway.line("away").await;
    let mut pushed = gateway.push_many(&line.source, 2_000);
    line.receiver.wait_for(500, LONG).await;
    server.stop(Shutdown::Immediate).await.expect("stops");
    pushed.extend(gateway.push_many(&line.source, 1_000));
    // The outage has to last this long.
    tokio::time::sleep(Duration::from_secs(10)).await;
    server.start().await.expect("starts again");
    wait_for_every_event("PostgreSQL stopped for 10 s", &pushed, &line.receiver).await;
    drained(&gateway.queue, LONG).await;
}
