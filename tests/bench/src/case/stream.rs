//! Two hundred clients stream changes from two relays under load. One relay is killed with -9, and its clients continue
//! on the other from their last positions: each client gets each change exactly once and in order.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::api::Api;
use harness::error::{Doing as _, Error, Result};
use hdrhistogram::Histogram;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::figure::{Figure, Limit, Report};
use crate::options::Options;
use crate::run::{PATIENCE, Schedule, count, quantile_ms};
use crate::sink::{histogram, now_us};
use crate::stack::Stack;

const CLIENTS: usize = 200;

/// The tokens that the clients share, because a token has a limited number of streams.
const TOKENS: usize = 4;

/// Events per second.
const RATE: f64 = 40.0;

/// What every client streams: two changes for each event.
const PATH: &str = "/v1/stream?kind=delivery_state_changed";
const CHANGES_PER_EVENT: usize = 2;

/// How long a client waits before it connects again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Measures gaps, repetitions and the delay of changes.
///
/// # Errors
/// Returns an error if a part does not start, if the deliveries are not settled in time, or if a client does not get all
/// changes in time.
pub async fn run(options: Options) -> Result<Report> {
    let time = options.time(60, 10);
    let mut stack = Stack::start(2).await?;
    let (source, _sink) = stack.line("streamed").await?;
    let mut tokens = Vec::new();
    for _ in 0..TOKENS {
        tokens.push(stack.gateway.api.limited_to(&["read"], None).await);
    }
    let killed = stack.others[0].url().to_owned();
    let from = stack.gateway.api.stream(PATH, None).await.position;
    let (connected, wanted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let survivor = tokens[number % TOKENS].clone();
            let first = if number % 2 == 0 { survivor.clone() } else { survivor.at(&killed) };
            let client = Client { connected: Arc::clone(&connected), wanted: Arc::clone(&wanted) };
            tokio::spawn(client.run([first, survivor], from.clone()))
        })
        .collect();
    let begun = Instant::now();
    while connected.load(Ordering::Relaxed) < CLIENTS {
        if begun.elapsed() > PATIENCE {
            return Err(Error::new(format!("{} clients are connected", connected.load(Ordering::Relaxed))));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let mut schedule = Schedule::start(options.rate.unwrap_or(RATE));
    schedule.run(&stack, &[&source], time / 2).await;
    stack.relay(1).kill().await?;
    schedule.run(&stack, &[&source], time / 2).await;
    stack.relay(1).start_again().await?;
    stack.settled(&[], PATIENCE).await?;
    let changes = CHANGES_PER_EVENT * usize::try_from(schedule.pushed()).unwrap_or(usize::MAX);
    wanted.store(changes, Ordering::Relaxed);
    // One more event, so that clients which have all changes notice it.
    stack.push(&source, now_us());

    let mut reference = stack.gateway.api.stream(PATH, Some(&from)).await;
    let mut expected = Vec::new();
    while expected.len() < changes {
        expected.push(position(&reference.change().await.ok_or_else(|| Error::new("the stream ended".to_owned()))?));
    }
    let (mut gaps, mut repeated, mut disordered, mut continued) = (0, 0, 0, 0);
    let mut delays = histogram();
    for client in clients {
        let seen = tokio::time::timeout(PATIENCE, client).await;
        let seen = seen.doing(|| "a client did not get all changes in time".to_owned())?;
        let seen = seen.doing(|| "a client ended".to_owned())??;
        let different: HashSet<&String> = seen.positions.iter().collect();
        gaps += expected.iter().filter(|position| !different.contains(position)).count();
        repeated += seen.positions.len() - different.len();
        disordered += usize::from(!seen.positions.windows(2).all(|pair| pair[0] < pair[1]));
        continued += usize::from(seen.connections > 1);
        let _ = delays.add(&seen.delays);
    }

    let mut report = Report::new(format!("{CLIENTS} streams of two relays, one killed with -9"));
    let figure = |what: &str, number: usize| Figure::new(what, count(number as u64), "");
    report.figure(figure("changes that a client missed", gaps).must(Limit::AtMost(0.0)));
    report.figure(figure("changes that a client got again", repeated).must(Limit::AtMost(0.0)));
    report.figure(figure("clients with changes in another order", disordered).must(Limit::AtMost(0.0)));
    report.figure(figure("clients that continued on the other relay", continued).must(Limit::AtLeast(100.0)));
    report.figure(figure("changes for each client", changes));
    for (quantile, of) in [("p50", 0.5), ("p99", 0.99)] {
        let what = format!("{quantile} from the transaction of a change to its client, the kill included");
        report.figure(Figure::new(what, quantile_ms(&delays, of), "ms"));
    }
    Ok(report)
}

fn position(change: &Value) -> String {
    change["position"].as_str().unwrap_or_default().to_owned()
}

/// A client that continues its stream on the next relay whenever it ends.
struct Client {
    /// The clients that have connected.
    connected: Arc<AtomicUsize>,
    /// The number of changes with which a client ends.
    wanted: Arc<AtomicUsize>,
}

/// What a client has seen.
struct Seen {
    positions: Vec<String>,
    /// From the transaction to the client, in microseconds.
    delays: Histogram<u64>,
    connections: usize,
}

impl Client {
    async fn run(self, relays: [Api; 2], from: String) -> Result<Seen> {
        let mut seen = Seen { positions: Vec::new(), delays: histogram(), connections: 0 };
        let mut last = from;
        loop {
            let relay = &relays[seen.connections.min(1)];
            let Ok(opened) = relay.open_stream(PATH, Some(&last)).await else {
                seen.connections += 1;
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            };
            let mut stream = opened.map_err(|reply| Error::new(format!("a stream was refused: {reply:?}")))?;
            if seen.connections == 0 {
                self.connected.fetch_add(1, Ordering::Relaxed);
            }
            seen.connections += 1;
            while let Some(change) = stream.change().await {
                if let Some(delay) = delay_us(&change) {
                    seen.delays.saturating_record(delay);
                }
                seen.positions.push(position(&change));
                if seen.positions.len() > self.wanted.load(Ordering::Relaxed) {
                    return Ok(seen);
                }
            }
            if !stream.position.is_empty() {
                last = stream.position;
            }
        }
    }
}

/// The time since the transaction of a change began.
fn delay_us(change: &Value) -> Option<u64> {
    let at = OffsetDateTime::parse(change["changed_at"].as_str()?, &Rfc3339).ok()?;
    let delay = (OffsetDateTime::now_utc() - at).whole_microseconds();
    Some(u64::try_from(delay).unwrap_or_default().max(1))
}
