//! chaos: the database misbehaves while events are delivered. Nothing is lost, and the relay recovers automatically.
//!
//! A restart of PostgreSQL and kills of the relay are in [`crate::crash`] and [`crate::replicas`]; the benchmark
//! `cargo bench-gateway chaos` does all of this for longer and measures it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use harness::gateway::{Gateway, RelayOnly, drained};
use harness::postgres::Server;
use harness::receiver::Receiver;
use harness::wait::{SOON, until};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

const KILL_BACKENDS: &str = "select pg_terminate_backend(pid) from pg_stat_activity
                             where datname = current_database() and application_name = 'tidegate-relay'";

/// Waits until every event has arrived and every delivery is settled.
async fn wait_until_all_is_settled(gateway: &RelayOnly, pushed: &HashSet<String>, receiver: &Receiver) {
    receiver.wait_for_events(pushed, SOON).await;
    drained(&gateway.queue, SOON).await;
    let mut connection = gateway.database.connect().await.expect("connects");
    until("every delivery to be settled", SOON, async || {
        let counts: (i64, i64) = sqlx::query_as(
            "select (select count(*) from pending_deliveries),
                    (select count(*) from settled_deliveries where state = 'succeeded')",
        )
        .fetch_one(&mut connection)
        .await
        .map_err(|error| error.to_string())?;
        if counts == (0, pushed.len() as i64) { Ok(()) } else { Err(format!("pending, succeeded: {counts:?}")) }
    })
    .await;
}

async fn run(connection: &mut PgConnection, statements: &[&'static str]) {
    for statement in statements {
        sqlx::query(*statement).execute(&mut *connection).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cutting_all_connections_repeatedly_loses_nothing() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("cut").await;
    let mut pushed = HashSet::new();
    let mut connection = gateway.database.connect().await.expect("connects");
    let mut cut = 0;
    for _ in 0..20 {
        pushed.extend(gateway.push_many(&line.source, 100));
        line.receiver.wait_for(pushed.len() / 2, SOON).await;
        cut += sqlx::query(KILL_BACKENDS).execute(&mut connection).await.expect("kills").rows_affected();
    }
    assert!(cut >= 20, "{cut} connections were cut");
    wait_until_all_is_settled(&gateway, &pushed, &line.receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_a_free_connection_stops_the_relay_only_while_that_lasts() {
    let server = Server::start_private().await.expect("starts");
    let gateway = Gateway::relay_only_on_server(&server).await;
    let line = gateway.line("full").await;
    let mut pushed = gateway.push_many(&line.source, 300);
    line.receiver.wait_for(100, SOON).await;
    let mut own = gateway.database.connect().await.expect("connects");
    let begun = Instant::now();
    let mut taken = Vec::new();
    while begun.elapsed() < Duration::from_secs(6) {
        match PgConnection::connect(gateway.database.url()).await {
            Ok(connection) => taken.push(connection),
            Err(_) => {
                // No connection is free. The relay loses its own, and the next iteration takes one of them.
                sqlx::query(KILL_BACKENDS).execute(&mut own).await.expect("kills");
                pushed.extend(gateway.push_many(&line.source, 5));
                // The outage has to last some seconds.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    assert!(taken.len() > 100, "{} connections were taken", taken.len());
    for connection in taken {
        let _ = connection.close().await;
    }
    pushed.extend(gateway.push_many(&line.source, 300));
    wait_until_all_is_settled(&gateway, &pushed, &line.receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_transaction_with_locks_delays_deliveries_only_until_it_ends() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("idle").await;
    let mut pushed = gateway.push_many(&line.source, 200);
    line.receiver.wait_for(200, SOON).await;
    let mut idle = gateway.database.connect().await.expect("connects");
    // As if an operator locked these rows in a console and left it open. The server ends the session.
    run(
        &mut idle,
        &[
            "set idle_in_transaction_session_timeout = '5s'",
            "begin",
            "select from shards for update",
            "select from replicas for update",
        ],
    )
    .await;
    let locked = Instant::now();
    pushed.extend(gateway.push_many(&line.source, 500));
    wait_until_all_is_settled(&gateway, &pushed, &line.receiver).await;
    assert!(locked.elapsed() > Duration::from_secs(4), "nothing was delayed: {:?}", locked.elapsed());
    assert!(sqlx::query("select 1").execute(&mut idle).await.is_err(), "the server has ended the idle transaction");
    assert_eq!(line.receiver.count(), pushed.len(), "a delivery that waited to be settled is not sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_long_readers_stop_no_delivery() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("read").await;
    let mut pushed = gateway.push_many(&line.source, 200);
    line.receiver.wait_for(200, SOON).await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut reader = gateway.database.connect().await.expect("connects");
        run(&mut reader, &["begin isolation level repeatable read", "select count(*) from pending_deliveries"]).await;
        readers.push(reader);
    }
    for _ in 0..4 {
        pushed.extend(gateway.push_many(&line.source, 500));
        wait_until_all_is_settled(&gateway, &pushed, &line.receiver).await;
    }
    for reader in &mut readers {
        let seen: i64 =
            sqlx::query_scalar("select count(*) from settled_deliveries").fetch_one(reader).await.expect("reads");
        assert!(seen <= 200, "the reader still sees only the rows from before it began: {seen}");
    }
    assert_eq!(line.receiver.count(), pushed.len(), "each delivery is sent once");
}
