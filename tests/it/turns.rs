//! turns: changes of the configuration and transactions that store events take turns, and neither waits long for the
//! other.

use harness::api::Api;
use harness::gateway::{Gateway, drained};
use harness::postgres::Database;
use harness::wait::{SOON, until};
use serde_json::json;
use sqlx::PgConnection;

/// Takes the locks of a transaction that stores events: those of a short one, or those of one that stores a large body.
async fn hold(database: &mut PgConnection, is_long: bool) {
    let locks: &[&str] = if is_long {
        &["begin", "select pg_advisory_xact_lock_shared(hashtext('tidegate long configuration'))"]
    } else {
        &["begin"]
    };
    let short = "select pg_advisory_xact_lock_shared(hashtext('tidegate configuration'))";
    for statement in locks.iter().copied().chain([short]) {
        sqlx::query(statement).execute(&mut *database).await.expect("locks");
    }
}

async fn commit(database: &mut PgConnection) {
    sqlx::query("commit").execute(database).await.expect("commits");
}

async fn connect(database: &Database) -> PgConnection {
    database.connect().await.expect("connects")
}

/// Starts a change, which waits for the transactions that hold the configuration.
fn pause(api: &Api, destination: &str) -> tokio::task::JoinHandle<u16> {
    let (api, path) = (api.clone(), format!("/v1/destinations/{destination}/pause"));
    tokio::spawn(async move { api.post(&path, &json!({})).await.status })
}

async fn wait_until_the_change_waits(database: &mut PgConnection) {
    until("the change to wait for the configuration", SOON, async || {
        let waits: bool = sqlx::query_scalar(
            "select exists (select from pg_locks join pg_database on pg_database.oid = pg_locks.database
                            where datname = current_database() and locktype = 'advisory' and mode = 'ExclusiveLock'
                              and not granted)",
        )
        .fetch_one(&mut *database)
        .await
        .map_err(|error| error.to_string())?;
        if waits { Ok(()) } else { Err("nothing waits".to_owned()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_stored_while_a_change_waits_for_a_long_transaction() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("stored").await;
    let other = gateway.api.create_destination("other", &line.receiver.url(), json!({})).await;
    let mut holder = connect(&gateway.database).await;
    hold(&mut holder, false).await;
    let change = pause(&gateway.api, &other.id);
    wait_until_the_change_waits(&mut connect(&gateway.database).await).await;

    for round in 1..=3 {
        gateway.push(&line.source, b"{}");
        line.receiver.wait_for(round, SOON).await;
    }
    drained(&gateway.queue, SOON).await;
    assert!(!change.is_finished(), "the change still waits for the transaction");
    commit(&mut holder).await;
    assert_eq!(change.await.expect("answers"), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_gets_its_turn_between_long_transactions_that_overlap() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("stored").await;
    let mut holders = [connect(&gateway.database).await, connect(&gateway.database).await];
    hold(&mut holders[0], true).await;
    let change = pause(&gateway.api, &line.destination.id);
    wait_until_the_change_waits(&mut connect(&gateway.database).await).await;
    // At any time at least one of them holds the configuration, unless it has to wait for the change.
    let overlapping = async {
        loop {
            let [first, second] = &mut holders;
            tokio::join!(hold(second, true), async {
                tokio::task::yield_now().await;
                commit(first).await;
            });
            holders.swap(0, 1);
        }
    };
    let changed = tokio::time::timeout(SOON, async {
        tokio::select! {
            () = overlapping => unreachable!("the transactions do not end"),
            status = change => status.expect("answers"),
        }
    });
    assert_eq!(changed.await.expect("the change gets its turn"), 200);
}
