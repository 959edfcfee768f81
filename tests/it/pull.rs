//! pull: a response that is cut off, or that one message makes invalid, does not harm the other messages.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::gateway::{Gateway, RelayOnly};
use harness::provider::now_s;
use harness::queue::{Counters, DEAD, Garble, Garbled, Times};
use harness::wait::{LONG, until};
use serde_json::json;
use shared::envelope::Verification;

/// The duration of a lease and of the delay after it.
const LEASE: Duration = Duration::from_secs(70);

/// Waits until the queues are empty. If all remaining messages are leased and nothing happens, it advances the time.
async fn drained_in_time(gateway: &RelayOnly) {
    let (mut before, mut still) = (Counters::default(), 0);
    until("the queues to be drained", LONG, async || {
        if gateway.queue.left() == 0 {
            return Ok(());
        }
        let counters = gateway.queue.counters();
        still = if counters == before { still + 1 } else { 0 };
        before = counters;
        if still >= 5 {
            still = 0;
            gateway.queue.advance(LEASE);
        }
        Err(format!("{counters:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_whose_pull_responses_are_cut_off_drains_in_smaller_pulls() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("narrow").await;
    gateway.relay.stop().await.expect("stops");
    gateway.queue.fault(|faults| faults.pull_cut_above_bytes = 700_000);
    let pushed: BTreeSet<String> = (0..60)
        .map(|number| json!({ "number": number, "padding": "x".repeat(100_000) }).to_string())
        .map(|body| gateway.push(&line.source, body.as_bytes()).to_string())
        .collect();
    gateway.relay.start_again().await.expect("starts again");
    drained_in_time(&gateway).await;
    line.receiver.wait_for(60, LONG).await;
    assert_eq!(line.receiver.ids().into_iter().collect::<BTreeSet<_>>(), pushed);
    let Counters { dead_lettered, most_attempts, .. } = gateway.queue.counters();
    assert_eq!(dead_lettered, 0);
    assert!(most_attempts <= 8, "a message was leased {most_attempts} times");
    assert_eq!(gateway.queue.counters_of(DEAD).accepted, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_makes_a_pull_response_invalid_is_kept_as_unreadable_and_the_others_are_delivered() {
    for (how, attempts) in [(Garble::NotJson, 12), (Garble::LoneSurrogate, 1)] {
        let mut gateway = Gateway::relay_only().await;
        gateway.relay.expect_errors();
        let line = gateway.line("spoilt").await;
        gateway.relay.stop().await.expect("stops");
        gateway.queue.fault(|faults| faults.garbled = Some(Garbled { holding: "poison".to_owned(), how }));
        let push = |number: usize| {
            let body = if number == 37 { json!({ "poison": true }) } else { json!({ "number": number }) };
            (number != 37, gateway.push(&line.source, body.to_string().as_bytes()).to_string())
        };
        let good: BTreeSet<String> = (0..100).map(push).filter(|(good, _)| *good).map(|(_, id)| id).collect();
        gateway.relay.start_again().await.expect("starts again");
        drained_in_time(&gateway).await;
        line.receiver.wait_for(99, LONG).await;
        assert_eq!(line.receiver.ids().into_iter().collect::<BTreeSet<_>>(), good);
        let kept = gateway.api.all("/v1/unreadable-messages").await;
        assert_eq!(kept.len(), 1, "{kept:?}");
        let message = format!("/v1/unreadable-messages/{}/message", kept[0]["id"].as_str().expect("an id"));
        let message = String::from_utf8_lossy(&gateway.api.bytes(&message).await).into_owned();
        assert!(message.contains("poison"), "{message:?}");
        let Counters { acked, dead_lettered, most_attempts, .. } = gateway.queue.counters();
        assert_eq!((acked, dead_lettered), (100, 0));
        assert!(most_attempts <= attempts, "a message was leased {most_attempts} times");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_that_a_pull_does_not_reach_are_pulled_again_soon_however_often_they_were_leased() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("large").await;
    gateway.relay.stop().await.expect("stops");
    // Two of them take up the whole time of a pull.
    gateway.edge.slow_down_bodies(Duration::from_secs(14));
    let verified = vec![Verification::Verified; 4];
    // A message whose body could not be fetched this often would return only after hours.
    let pushed = gateway.push_large_leased(&line.source, &[], vec![b'x'; 200_000], verified, 14);
    gateway.relay.start_again().await.expect("starts again");
    line.receiver.wait_for(4, Duration::from_secs(150)).await;
    assert_eq!(line.receiver.ids(), pushed.iter().map(ToString::to_string).collect());
    let Counters { most_attempts, .. } = gateway.queue.counters();
    assert!(most_attempts <= 17, "a message was leased {most_attempts} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_copy_that_the_queue_hands_out_again_is_still_a_copy() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("large").await;
    let body = vec![b'x'; 200_000];
    let signed = line.provider.sign("msg_1", &body, now_s());
    let headers: Vec<(&str, &str)> =
        signed.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let pushed = gateway.push_large(&line.source, &headers, body.clone(), [Verification::Verified]);
    line.receiver.wait_for(1, LONG).await;
    gateway.drained(LONG).await;

    gateway.queue.fault(|faults| faults.forgotten_acks = Times::Next(2));
    gateway.push_large(&line.source, &headers, body, [Verification::Verified]);
    gateway.drained(LONG).await;
    assert_eq!(gateway.api.all("/v1/unreadable-messages").await, [] as [serde_json::Value; 0]);
    let event = gateway.api.get(&format!("/v1/events/{}", pushed[0])).await.expect_status(200);
    assert!(event["copies"].as_u64() >= Some(1), "{event}");
    assert_eq!(line.receiver.count(), 1);
}
