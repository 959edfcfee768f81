//! deliver: the memory that the relay needs does not depend on how many deliveries wait.

use harness::api::http_client;
use harness::gateway::{Gateway, drained};
use harness::memory::Limit;
use harness::postgres::wait_for_count;
use harness::receiver::{Behaviour, Receiver};
use harness::wait::LONG;
use serde_json::json;
use shared::envelope::Verification;
use tokio::task::JoinSet;

const MIB: u64 = 1 << 20;

/// The maximum memory of a relay while three thousand destinations have a backlog.
const MOST: u64 = 400 * MIB;

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_starts_with_backlogs_of_thousands_of_destinations_serves_all_of_them_in_little_memory() {
    const DESTINATIONS: usize = 3_000;
    const EACH: usize = 100;
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("behind").await;
    let headers: Vec<(String, String)> =
        (0..20).map(|number| (format!("x-header-{number}"), format!("{number}").repeat(30))).collect();
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    gateway.push_with(&line.source, &headers, b"{}");
    line.receiver.wait_for(1, LONG).await;
    gateway.relay.stop().await.expect("stops");
    let receiver = Receiver::start().await.expect("starts");
    gateway.crowd(&line.source, DESTINATIONS, &receiver.url()).await;
    gateway.backlog(&line.source, EACH).await;

    match Limit::new(MOST) {
        Ok(_) => gateway.relay.start_again_with(|settings| settings.with_memory_limit(MOST)).await,
        Err(error) => {
            eprintln!("the system does not limit the relay's memory: {error}");
            gateway.relay.start_again().await
        }
    }
    .expect("starts again");
    receiver.wait_for(1, LONG).await;
    let mut database = gateway.database.connect().await.expect("connects");
    let served = "select count(distinct destination_id) from settled_deliveries";
    // Including the destination of the line.
    let all = |served| usize::try_from(served) == Ok(DESTINATIONS + 1);
    wait_for_count(&mut database, "a delivery to each destination", served, LONG, all).await;
    let peak = gateway.relay.peak_memory().expect("is measured");
    println!("{} MiB at most, after {} deliveries", peak / MIB, receiver.count());
    assert!(peak < MOST, "{} MiB", peak / MIB);
    assert_eq!(gateway.relay.memory_kills().expect("is counted"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_to_a_hanging_destination_take_little_memory_and_leave_room_for_another_destination() {
    const BODY: usize = 20_000_000;
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("hanging").await;
    line.receiver.always(Behaviour::Hang);
    let wanted = json!({ "name": "hanging", "url": line.receiver.url(), "max_concurrency": 50, "timeout_ms": 2_000 });
    gateway.api.put("/v1/destinations/by-name/hanging", &wanted).await.expect_status(200);
    gateway.api.pause("hanging").await;
    let verified = vec![Verification::Verified; 24];
    gateway.push_large(&line.source, &[("content-type", "text/plain")], vec![b'x'; BODY], verified);
    drained(&gateway.queue, LONG).await;
    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again().await.expect("starts again");
    let at_rest = gateway.relay.peak_memory().expect("is measured");

    let other = gateway.line("other").await;
    gateway.api.resume("hanging").await;
    line.receiver.wait_for(2, LONG).await;
    gateway.push_large(
        &other.source,
        &[("content-type", "text/plain")],
        vec![b'x'; 5_000_000],
        [Verification::Verified],
    );
    other.receiver.wait_for(1, LONG).await;
    // By then the first attempts have timed out.
    line.receiver.wait_for(8, LONG).await;
    let peak = gateway.relay.peak_memory().expect("is measured");
    println!("at rest {} MiB, {} MiB at most", at_rest / MIB, peak / MIB);
    assert!(peak < at_rest + 300 * MIB, "{} MiB more than at rest", (peak - at_rest) / MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn api_callers_that_are_slow_to_read_large_bodies_take_little_memory_and_all_get_theirs() {
    const BODY: usize = 20_000_000;
    const CALLERS: usize = 30;
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("orders").await;
    gateway.api.pause(&line.destination.id).await;
    let ids =
        gateway.push_large(&line.source, &[("content-type", "text/plain")], vec![b'x'; BODY], [Verification::Verified]);
    gateway.api.wait_for_row("/v1/events", LONG).await;
    gateway.relay.reset_peak_memory().expect("is reset");
    let at_rest = gateway.relay.peak_memory().expect("is measured");

    let (client, url) = (http_client(), format!("{}/v1/events/{}/body", gateway.relay.url(), ids[0]));
    let mut calls = JoinSet::new();
    for _ in 0..CALLERS {
        calls.spawn(client.get(&url).bearer_auth(gateway.relay.token()).send());
    }
    // Three bodies of this size fit. The callers read nothing until these three have their heads and another call was answered.
    let mut unread = Vec::new();
    for _ in 0..3 {
        unread.push(calls.join_next().await.expect("a call").expect("ends").expect("a response"));
    }
    gateway.api.get("/v1/events").await.expect_status(200);
    for response in unread {
        assert_eq!(response.bytes().await.expect("a body").len(), BODY);
    }
    while let Some(response) = calls.join_next().await {
        let response = response.expect("ends").expect("a response");
        assert_eq!(response.status(), 200);
        assert_eq!(response.bytes().await.expect("a body").len(), BODY);
    }
    let peak = gateway.relay.peak_memory().expect("is measured");
    println!("at rest {} MiB, {} MiB at most", at_rest / MIB, peak / MIB);
    assert!(peak < at_rest + 250 * MIB, "{} MiB more than at rest", (peak - at_rest) / MIB);
}
