//! deliver: thousands of destinations.

use std::time::Duration;

use tests::gateway::{Gateway, drained};
use tests::receiver::Receiver;
use tests::wait::until;

const LONG: Duration = Duration::from_secs(120);

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
    until("every delivery to be settled", LONG, async || {
        let settled: i64 = sqlx::query_scalar(
            "select count(distinct destination_id) from settled_deliveries where state = 'succeeded'",
        )
        .fetch_one(&mut database)
        .await
        .map_err(|error| error.to_string())?;
        if settled == 2_001 { Ok(()) } else { Err(format!("{settled} settled")) }
    })
    .await;
}
