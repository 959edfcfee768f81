//! deliver: the limits of a destination hold whichever replica owns it, and the back-off and the failures of an address
//! end when the address changes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::api::{Api, Source};
use harness::gateway::{Gateway, RelayOnly, drained};
use harness::receiver::{Behaviour, Receiver};
use harness::relay::Relay;
use harness::wait::{LONG, SOON, until};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Destinations that are limited, each in a different way, and one that is not.
struct Limited {
    source: Source,
    free: Receiver,
    /// Its rate limit is one delivery an hour.
    hourly: Receiver,
    /// It has answered 503 with a `Retry-After` of an hour, and would accept everything now.
    backing_off: Receiver,
    /// It fails, and its breaker is open.
    broken: Receiver,
}

/// The number of events that are pushed before the limits are checked. It is enough to open the breaker.
const EVENTS: usize = 20;

impl Limited {
    /// Creates them, and waits until their limits have taken effect.
    async fn make(gateway: &RelayOnly) -> Self {
        let line = gateway.line("free").await;
        let hour = json!({ "rate_limit": { "limit": 1, "per": "hour" } });
        let one = json!({ "max_concurrency": 1 });
        let limited = Self {
            hourly: destination(gateway, &line.source, "hourly", Behaviour::Status(200), &hour).await,
            backing_off: destination(gateway, &line.source, "backing-off", Behaviour::Status(200), &one).await,
            broken: destination(gateway, &line.source, "broken", Behaviour::Status(500), &one).await,
            source: line.source,
            free: line.receiver,
        };
        limited.backing_off.next([Behaviour::RetryAfter(503, "3600".to_owned())]);
        for number in 0..EVENTS {
            gateway.push(&limited.source, json!({ "number": number }).to_string().as_bytes());
        }
        limited.free.wait_for(EVENTS, SOON).await;
        drained(&gateway.queue, SOON).await;
        limited.hourly.wait_for(1, SOON).await;
        health(&gateway.api, "backing-off", "to be in back-off", |health| health["back_off_until"].is_string()).await;
        health(&gateway.api, "broken", "its breaker to open", |health| health["breaker"]["state"] == "open").await;
        limited
    }

    /// Waits until the present owners send, and checks that they keep the limits. `probes` is the maximum number of
    /// probes of the broken destination that they may have sent in all.
    async fn check(&self, gateway: &RelayOnly, api: &Api, probes: usize) {
        // A relay loads the stored health of all its destinations together. So once this one gets the new events, the
        // relay could have sent to the others, too.
        for _ in 0..3 {
            let event = gateway.push(&self.source, b"{}").to_string();
            self.free.wait_for_events([event], SOON).await;
        }
        drained(&gateway.queue, SOON).await;
        assert_eq!(self.hourly.count(), 1, "one an hour");
        assert_eq!(self.backing_off.count(), 1, "its back-off lasts an hour");
        let failed = self.broken.count();
        assert!(failed <= 10 + probes, "{failed} attempts, of which ten open a breaker");
        let backing_off = api.get("/v1/destinations/backing-off/health").await.expect_status(200);
        assert!(backing_off["back_off_until"].is_string(), "{backing_off}");
        let broken = api.get("/v1/destinations/broken/health").await.expect_status(200);
        assert_ne!(broken["breaker"]["state"], "closed", "{broken}");
        assert!(broken["failing"]["failures"].as_u64().is_some_and(|failures| failures >= 10), "{broken}");
    }
}

async fn destination(
    gateway: &RelayOnly,
    source: &Source,
    name: &str,
    behaviour: Behaviour,
    settings: &Value,
) -> Receiver {
    let receiver = Receiver::behaving(behaviour).await.expect("starts");
    let destination = gateway.api.create_destination(name, &receiver.url(), settings.clone()).await;
    gateway.api.create_route(&source.id, &destination.id, json!({})).await;
    receiver
}

async fn health(api: &Api, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) {
    let path = format!("/v1/destinations/{name}/health");
    api.wait_until(&format!("{name} {what}"), &path, SOON, is_so).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_per_hour_a_retry_after_and_an_open_breaker_hold_after_a_kill_and_a_restart() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.expect_errors();
    let limited = Limited::make(&gateway).await;
    // The breaker is open for 5 s, then 10, 20, 40: a new owner that did not know of it would make ten attempts.
    gateway.relay.kill().await.expect("is killed");
    gateway.relay.start_again().await.expect("starts again");
    limited.check(&gateway, &gateway.relay.api(), 5).await;
    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again().await.expect("starts again");
    limited.check(&gateway, &gateway.relay.api(), 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_per_hour_a_retry_after_and_an_open_breaker_hold_when_shards_are_handed_over() {
    let mut gateway = Gateway::relay_only().await;
    let limited = Limited::make(&gateway).await;
    let second = gateway.another_relay().await;
    gateway.shared_by(2, SOON).await;
    limited.check(&gateway, &second.api(), 5).await;
    gateway.relay.stop().await.expect("stops");
    gateway.shared_by(1, SOON).await;
    limited.check(&gateway, &second.api(), 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_address_gets_the_waiting_deliveries_and_the_back_off_of_the_old_one_does_not_return() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("moving").await;
    line.receiver.always(Behaviour::RetryAfter(503, "3600".to_owned()));
    gateway.push(&line.source, b"{}");
    health(&gateway.api, "moving", "to be in back-off", |health| health["back_off_until"].is_string()).await;
    let second = gateway.push(&line.source, b"{}").to_string();
    drained(&gateway.queue, SOON).await;
    // A URL with another path leads to the same server.
    let path = format!("http://{}/elsewhere", line.receiver.address());
    gateway.api.put("/v1/destinations/by-name/moving", &json!({ "url": path })).await.expect_status(200);
    health(&gateway.api, "moving", "to be still in back-off", |health| health["back_off_until"].is_string()).await;

    let other = Receiver::start().await.expect("starts");
    gateway.api.put("/v1/destinations/by-name/moving", &json!({ "url": other.url() })).await.expect_status(200);
    other.wait_for(1, SOON).await;
    assert!(other.ids().contains(&second), "the first delivery still waits for its Retry-After");
    health(&gateway.api, "moving", "to be no longer in back-off", |health| {
        health["back_off_until"].is_null() && health["failing"].is_null()
    })
    .await;
    gateway.relay.stop().await.expect("stops");
    gateway.relay.start_again().await.expect("starts again");
    gateway.push(&line.source, b"{}");
    other.wait_for(2, SOON).await;
    assert_eq!(line.receiver.count(), 1);
}

/// A destination that never answers, and counts its open requests.
struct Hanging {
    address: SocketAddr,
    requests: Arc<Requests>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Requests {
    all: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
}

impl Hanging {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("listens");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Requests::default());
        let for_task = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(Requests::take(Arc::clone(&for_task), stream));
            }
        });
        Self { address, requests, task }
    }

    fn count(&self) -> usize {
        self.requests.all.load(Ordering::SeqCst)
    }
}

impl Requests {
    /// Reads until the connection is closed.
    async fn take(self: Arc<Self>, mut stream: TcpStream) {
        let mut buffer = [0; 4_096];
        if !matches!(stream.read(&mut buffer).await, Ok(1..)) {
            return;
        }
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(open, Ordering::SeqCst);
        self.all.fetch_add(1, Ordering::SeqCst);
        while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_loses_its_database_aborts_its_attempts_before_another_one_sends_them_again() {
    let (mut gateway, proxy) = Gateway::relay_only_by_proxy().await;
    gateway.relay.expect_errors();
    let source = gateway.line("free").await.source;
    let hanging = Hanging::start().await;
    let url = format!("http://{}/hook", hanging.address);
    let settings = json!({ "max_concurrency": 2, "timeout_ms": 120_000 });
    let destination = gateway.api.create_destination("hanging", &url, settings).await;
    let ordered = json!({ "order_key": "body.key" });
    gateway.api.create_route(&source.id, &destination.id, ordered).await;
    // The second delivery of the first key waits for the first one.
    for (key, number) in [(1, 1), (1, 2), (2, 3), (3, 4)] {
        gateway.push(&source, json!({ "key": key, "number": number }).to_string().as_bytes());
    }
    until("two requests at the destination", SOON, async || match hanging.count() {
        2 => Ok(()),
        count => Err(format!("{count} arrived")),
    })
    .await;
    let direct = gateway.relay.settings().clone().with("DATABASE_URL", gateway.database.url());
    let second = Relay::start(direct.with("TIDEGATE_LISTEN", "127.0.0.1:0")).await.expect("starts");
    drop(proxy);
    gateway.shared_by(1, SOON).await;
    until("the other replica to have sent them again", LONG, async || match hanging.count() {
        4.. => Ok(()),
        count => Err(format!("{count} arrived")),
    })
    .await;
    let most = hanging.requests.most.load(Ordering::SeqCst);
    assert_eq!(most, 2, "at a time, whichever replica sends");
    assert!(gateway.relay.log().contains("attempts in flight are aborted"), "{}", gateway.relay.log());
    drop(second);
}
