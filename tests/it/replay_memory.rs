//! replay: the memory that the relay needs does not depend on the events that are replayed.

use harness::gateway::{Gateway, RelayOnly, drained};
use harness::memory::Limit;
use harness::provider::now_s;
use harness::wait::LONG;
use serde_json::{Value, json};
use shared::envelope::{Failure, Verification};

const MIB: u64 = 1 << 20;

/// Events of 5 MB each: 600 MB together.
const EVENTS: usize = 120;

/// The maximum memory that the relay may take in addition to its memory at rest while it replays them.
const MORE: u64 = 150 * MIB;

/// A JSON object of slightly more than `bytes` bytes.
fn body(bytes: usize) -> Vec<u8> {
    format!("{{\"large\":\"{}\"}}", "x".repeat(bytes)).into_bytes()
}

fn large_body() -> Vec<u8> {
    body(5_000_000)
}

/// Runs the first replay in a relay that has just started, and asserts how much memory that takes. If this machine can
/// limit memory, it runs the second one in a relay that the system kills if it takes more.
async fn assert_replays_in_little_memory(gateway: &mut RelayOnly, replays: [Value; 2]) -> Vec<Value> {
    let [first, second] = replays;
    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again().await.expect("starts again");
    let at_rest = gateway.relay.peak_memory().expect("is measured");
    let mut ended = vec![finished(gateway, &first).await];
    let peak = gateway.relay.peak_memory().expect("is measured");
    println!("at rest {} MiB, during the replay {} MiB at most", at_rest / MIB, peak / MIB);
    assert!(peak < at_rest + MORE, "{} MiB more than at rest", (peak - at_rest) / MIB);

    if let Err(error) = Limit::new(at_rest + MORE) {
        eprintln!("not tested in a relay with limited memory: {error}");
        return ended;
    }
    gateway.relay.stop().await.expect("stops");
    let limited = gateway.relay.start_again_with(|settings| settings.with_memory_limit(at_rest + MORE)).await;
    limited.expect("starts again");
    ended.push(finished(gateway, &second).await);
    assert_eq!(gateway.relay.memory_kills().expect("is counted"), 0);
    ended
}

/// Creates a replay and waits until it has created all its deliveries.
async fn finished(gateway: &RelayOnly, replay: &Value) -> Value {
    let api = gateway.relay.api();
    let replay = api.post("/v1/replays", replay).await.expect_status(201);
    api.wait_for_replay(&replay, LONG).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_large_events_by_routes_that_read_the_body_takes_little_memory() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("large").await;
    // Attempts would take memory of their own, so the destinations are paused.
    let reading = gateway.api.create_destination("reading", &line.receiver.url(), json!({})).await;
    for destination in ["large", "reading"] {
        gateway.api.post(&format!("/v1/destinations/{destination}/pause"), &json!({})).await.expect_status(200);
    }
    gateway.api.create_route(&line.source.id, &reading.id, json!({ "filter": "has(body.large)" })).await;
    let headers = [("content-type", "application/json")];
    gateway.push_large(&line.source, &headers, large_body(), vec![Verification::Verified; EVENTS]);
    // Almost the largest body that a filter reads.
    gateway.push_large(&line.source, &headers, body(1_000_000), vec![Verification::Verified; EVENTS]);
    drained(&gateway.queue, LONG).await;

    let replay = json!({ "filter": { "source": "large" } });
    for ended in assert_replays_in_little_memory(&mut gateway, [replay.clone(), replay]).await {
        // A body that is too large for the filter leaves its delivery undecided: it is created and held.
        assert_eq!((&ended["processed"], &ended["created"]), (&json!(2 * EVENTS), &json!(4 * EVENTS)), "{ended}");
    }
    assert_eq!(line.receiver.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recheck_of_large_events_in_quarantine_takes_little_memory() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("large").await;
    let source = json!({
        "provider": "standard-webhooks",
        "secrets": line.provider.secrets,
        "config": { "on_failure": "quarantine", "quarantine": { "bytes_per_hour": 10_000_000_000_u64 } },
    });
    gateway.api.put("/v1/sources/by-name/large", &source).await.expect_status(200);
    gateway.api.pause("large").await;
    let failed = Verification::Failed(Failure {
        cause: "signature_mismatch".to_owned(),
        detail: "the signature does not match".to_owned(),
    });
    let genuine = line.provider.sign("msg_1", &large_body(), now_s());
    let headers: Vec<(&str, &str)> =
        genuine.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    gateway.push_large(&line.source, &headers, large_body(), vec![failed.clone(); EVENTS]);
    let other = format!("{} ", String::from_utf8_lossy(&large_body())).into_bytes();
    gateway.push_large(&line.source, &headers, other, vec![failed; EVENTS / 2]);
    drained(&gateway.queue, LONG).await;

    let replay = json!({ "filter": { "source": "large", "verification": "failed", "verifies_now": true } });
    let ended = assert_replays_in_little_memory(&mut gateway, [replay.clone(), replay]).await;
    let all = EVENTS + EVENTS / 2;
    assert_eq!((&ended[0]["processed"], &ended[0]["created"]), (&json!(all), &json!(EVENTS)), "{}", ended[0]);
    if let Some(again) = ended.get(1) {
        assert_eq!((&again["processed"], &again["created"]), (&json!(EVENTS / 2), &json!(0)), "{again}");
    }
}
