//! replicas: several relays on one database and one queue. Each destination has one owner at any time, also while
//! replicas join and leave.

use std::time::{Duration, Instant};

use harness::api::id;
use harness::gateway::{Gateway, Line, RelayOnly, drained};
use harness::receiver::{Behaviour, Received, Receiver};
use harness::wait::{LONG, SOON, until};
use serde_json::{Value, json};

/// Makes destinations of one source, so that each of several replicas owns some.
async fn destinations(gateway: &RelayOnly, line: &Line, count: usize, limits: Value) -> Vec<Receiver> {
    let mut made = Vec::new();
    for number in 0..count {
        let receiver = Receiver::start().await.expect("starts");
        let name = format!("{}-{number}", line.destination.body["name"].as_str().unwrap_or_default());
        let destination = gateway.api.create_destination(&name, &receiver.url(), limits.clone()).await;
        gateway.api.create_route(&line.source.id, &destination.id, json!({})).await;
        made.push(receiver);
    }
    made
}

/// The maximum number of requests that arrived within any period of this length.
fn most_within(requests: &[Received], period: Duration) -> usize {
    let mut times: Vec<Instant> = requests.iter().map(|request| request.at).collect();
    times.sort_unstable();
    let mut first = 0;
    let mut most = 0;
    for (last, at) in times.iter().enumerate() {
        while *at - times[first] >= period {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_the_shards_and_send_every_delivery_once_while_others_join() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("first").await;
    let others = destinations(&gateway, &line, 7, json!({})).await;
    let receivers: Vec<&Receiver> = others.iter().chain(std::iter::once(&line.receiver)).collect();
    for receiver in &receivers {
        receiver.always(Behaviour::Delay(Duration::from_millis(100)));
    }
    // Ten attempts at a time that take 100 ms each: six seconds or more, in which two replicas join.
    let mut pushed = gateway.push_many(&line.source, 600);
    line.receiver.wait_for(20, SOON).await;
    let _second = gateway.another_relay().await;
    gateway.shared_by(2, SOON).await;
    pushed.extend(gateway.push_many(&line.source, 200));
    let _third = gateway.another_relay().await;
    gateway.shared_by(3, SOON).await;
    for receiver in &receivers {
        receiver.wait_for(pushed.len(), LONG).await;
    }
    drained(&gateway.queue, SOON).await;
    for receiver in &receivers {
        assert_eq!(receiver.ids(), pushed);
        assert_eq!(receiver.count(), pushed.len(), "each delivery is sent once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_and_a_concurrency_limit_hold_while_replicas_join_and_leave() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("free").await;
    let limited = Receiver::start().await.expect("starts");
    let limits = json!({ "rate_limit": { "limit": 20, "per": "second" } });
    let destination = gateway.api.create_destination("limited", &limited.url(), limits).await;
    gateway.api.create_route(&line.source.id, &destination.id, json!({})).await;
    // Longer than the interval between renewals of a lease, so that shards change hands while attempts are in flight.
    let takes = Duration::from_secs(5);
    let slow = gateway.line("slow").await;
    let capped = destinations(&gateway, &slow, 6, json!({ "max_concurrency": 2, "timeout_ms": 30_000 })).await;
    for receiver in &capped {
        receiver.always(Behaviour::Delay(takes));
    }
    let to_limited = gateway.push_many(&line.source, 300);
    let to_capped = gateway.push_many(&slow.source, 8);
    capped[0].wait_for(1, SOON).await;
    let mut second = gateway.another_relay().await;
    gateway.shared_by(2, SOON).await;
    let _third = gateway.another_relay().await;
    gateway.shared_by(3, SOON).await;
    let _more = [gateway.another_relay().await, gateway.another_relay().await];
    gateway.shared_by(5, SOON).await;
    second.stop().await.expect("stops");
    gateway.shared_by(4, SOON).await;
    let all = std::iter::once((&limited, &to_limited)).chain(capped.iter().map(|receiver| (receiver, &to_capped)));
    for (receiver, pushed) in all {
        receiver.wait_for(pushed.len(), LONG).await;
        assert_eq!(&receiver.ids(), pushed);
        assert_eq!(receiver.count(), pushed.len(), "each delivery is sent once");
    }
    // A request that the machine delays arrives closer to the next one, hence some slack. Two owners would send 200.
    let in_five_seconds = most_within(&limited.requests(), Duration::from_secs(5));
    assert!(in_five_seconds <= 110, "{in_five_seconds} within five seconds at 20/s");
    for receiver in &capped {
        let at_once = most_within(&receiver.requests(), takes);
        assert!(at_once <= 2, "{at_once} at once, but only two are allowed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_hands_the_shards_over_at_once_although_a_destination_hangs() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let line = gateway.line("hanging").await;
    line.receiver.always(Behaviour::Hang);
    gateway.push(&line.source, b"{}");
    line.receiver.wait_for(1, SOON).await;
    let before = gateway.shared_by(1, SOON).await;
    let second = gateway.another_relay().await;
    let both = gateway.shared_by(2, SOON).await;
    let new_owner = both.iter().find(|id| !before.contains(id)).expect("a second one").clone();

    let leaving = gateway.owner_of("hanging").await;
    let begun = Instant::now();
    let handed_over = async |gateway: &RelayOnly| {
        until("all shards but that of the hanging destination to be taken over", SOON, async || {
            let shares = gateway.shares().await;
            match shares.iter().find(|(owner, _)| *owner == new_owner) {
                Some((_, 255 | 256)) => Ok(begun.elapsed()),
                _ => Err(format!("{shares:?}")),
            }
        })
        .await
    };
    // The signal is sent first, so that the relay shuts down while the test reads the shards.
    let pid = gateway.relay.id().to_string();
    let signalled = std::process::Command::new("sh").args(["-c", "kill -s TERM \"$1\"", "sh", &pid]).status();
    assert!(signalled.expect("runs").success());
    let taken = handed_over(&gateway).await;
    assert!(taken < Duration::from_secs(8), "taken over after {taken:?}; a lease lasts longer than that");
    if leaving != new_owner {
        assert_eq!(gateway.owner_of("hanging").await, leaving, "an attempt in flight keeps its shard");
    }
    gateway.relay.stop().await.expect("stops");
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_is_replaced_within_fifteen_seconds_and_nothing_is_lost() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let line = gateway.line("first").await;
    let others = destinations(&gateway, &line, 3, json!({})).await;
    let _second = gateway.another_relay().await;
    gateway.shared_by(2, SOON).await;
    let pushed = gateway.push_many(&line.source, 1_000);
    line.receiver.wait_for(100, SOON).await;
    gateway.relay.kill().await.expect("is killed");
    let killed = Instant::now();
    gateway.shared_by(1, SOON).await;
    assert!(killed.elapsed() < Duration::from_secs(15), "taken over after {:?}", killed.elapsed());
    for receiver in others.iter().chain(std::iter::once(&line.receiver)) {
        receiver.wait_for_events(&pushed, LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_frozen_for_longer_than_its_lease_neither_sends_nor_settles_as_the_former_owner() {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("slow").await;
    let frozen = gateway.shared_by(1, SOON).await.remove(0);
    let second = gateway.another_relay().await;
    gateway.shared_by(2, SOON).await;
    // The owner of the destination is frozen during an attempt.
    let first_owns = gateway.owner_of("slow").await == frozen;
    let (owner, new_owner) = if first_owns { (&gateway.relay, &second) } else { (&second, &gateway.relay) };
    line.receiver.next([Behaviour::Delay(Duration::from_secs(2))]);
    let event = gateway.push(&line.source, b"{}").to_string();
    line.receiver.wait_for(1, SOON).await;
    owner.freeze();
    // The new owner cannot know the response to the first attempt: it sends again, and its attempt is stored.
    line.receiver.wait_for(2, SOON).await;
    let path = format!("/v1/deliveries?event={event}&limit=10");
    let settled = until("the new owner to have settled", SOON, async || {
        let delivery = new_owner.api().get(&path).await.expect_status(200)["data"][0].clone();
        if delivery["state"] == "succeeded" { Ok(delivery) } else { Err(delivery.to_string()) }
    })
    .await;
    owner.thaw();
    gateway.shared_by(2, SOON).await;
    owner.wait_for_log("the outcomes of some attempts were discarded", SOON).await;
    let attempts = format!("/v1/deliveries/{}/attempts", id(&settled));
    let attempts = new_owner.api().get(&attempts).await.expect_status(200);
    assert_eq!(attempts["data"].as_array().map(Vec::len), Some(1), "{attempts}");
    assert_eq!(line.receiver.count(), 2, "it sends nothing more");
}
