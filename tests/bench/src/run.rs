//! Load on a stack, at its maximum rate or at a given rate.

use std::time::{Duration, Instant};

use harness::api::Source;
use harness::error::Result;
use hdrhistogram::Histogram;

use super::meter::{Meter, Usage};
use super::sink::{Sink, histogram, now_us};
use super::stack::Stack;

/// The number of queued messages below which more are pushed, if the relay is loaded at its maximum rate and each event
/// has one destination.
pub const BACKLOG: u64 = 3_000;

/// How long to wait until all deliveries are settled after the last push.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The result of a load.
#[derive(Debug)]
pub struct Run {
    pub deliveries: u64,
    /// The time until the last of them was settled.
    pub elapsed: Duration,
    /// The latencies from the scheduled time of an event to its arrival, in microseconds.
    pub latencies: Histogram<u64>,
    /// The number of connections that the relays opened to the destinations.
    pub connections: u64,
    pub usage: Usage,
}

impl Run {
    /// Deliveries per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        count(self.deliveries) / self.elapsed.as_secs_f64()
    }

    /// The notes of a report: the cost, and the numbers of deliveries and connections.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.usage.notes(self.deliveries);
        notes.push(format!(
            "{} deliveries in {:.1} s over {} new connections",
            self.deliveries,
            self.elapsed.as_secs_f64(),
            self.connections
        ));
        notes
    }
}

/// Converts a count to the value of a figure.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub fn count(number: u64) -> f64 {
    number as f64
}

/// A quantile of microseconds, in milliseconds.
#[must_use]
pub fn quantile_ms(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    count(latencies.value_at_quantile(quantile)) / 1_000.0
}

/// Keeps the queue filled for `time`, equally from all sources, and waits until all deliveries are settled, except
/// those to the destinations in `but`.
///
/// # Errors
/// Returns an error if the deliveries are not settled in time.
pub async fn saturate(
    stack: &Stack,
    sources: &[&Source],
    sinks: &[&Sink],
    but: &[&str],
    time: Duration,
) -> Result<Run> {
    saturate_with(stack, sources, sinks, but, time, BACKLOG).await
}

/// Like [`saturate`], with at least `backlog` messages in the queue: fewer if each of them becomes many deliveries.
///
/// # Errors
/// Returns an error if the deliveries are not settled in time.
pub async fn saturate_with(
    stack: &Stack,
    sources: &[&Source],
    sinks: &[&Sink],
    but: &[&str],
    time: Duration,
    backlog: u64,
) -> Result<Run> {
    let before = Before::take(stack, sinks).await?;
    let mut turn = 0;
    while before.begun.elapsed() < time {
        while stack.gateway.queue.counters().backlog < backlog {
            for _ in 0..100 {
                stack.push(sources[turn % sources.len()], now_us());
                turn += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stack.settled(but, PATIENCE).await?;
    before.compare(stack, sinks).await
}

/// Pushes events at a rate for `time`, equally to all sources, and waits until all deliveries are settled, except those
/// to the destinations in `but`.
///
/// # Errors
/// Returns an error if the deliveries are not settled in time.
pub async fn at_rate(
    stack: &Stack,
    sources: &[&Source],
    sinks: &[&Sink],
    but: &[&str],
    rate: f64,
    time: Duration,
) -> Result<Run> {
    let before = Before::take(stack, sinks).await?;
    let mut schedule = Schedule::start(rate);
    schedule.run(stack, sources, time).await;
    stack.settled(but, PATIENCE).await?;
    before.compare(stack, sinks).await
}

/// The scheduled times of events.
#[derive(Debug)]
pub struct Schedule {
    started_us: u64,
    rate: f64,
    pushed: u64,
}

impl Schedule {
    /// Starts a schedule now, with `rate` events per second.
    #[must_use]
    pub fn start(rate: f64) -> Self {
        Self { started_us: now_us(), rate, pushed: 0 }
    }

    /// The number of pushed events.
    #[must_use]
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Pushes the events that have become due since the last call, and those that become due within `time`.
    pub async fn run(&mut self, stack: &Stack, sources: &[&Source], time: Duration) {
        let until = Instant::now() + time;
        loop {
            let now_us = now_us();
            loop {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "microseconds of a run of minutes"
                )]
                let due_us = self.started_us + (count(self.pushed) * 1e6 / self.rate) as u64;
                if due_us > now_us {
                    break;
                }
                let turn = usize::try_from(self.pushed).unwrap_or(0) % sources.len();
                stack.push(sources[turn], due_us);
                self.pushed += 1;
            }
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

struct Before {
    begun: Instant,
    deliveries: u64,
    connections: u64,
    meter: Meter,
}

impl Before {
    async fn take(stack: &Stack, sinks: &[&Sink]) -> Result<Self> {
        for sink in sinks {
            drop(sink.take_latencies());
        }
        Ok(Self {
            deliveries: sinks.iter().map(|sink| sink.count()).sum(),
            connections: sinks.iter().map(|sink| sink.connections()).sum(),
            meter: Meter::start(stack).await?,
            begun: Instant::now(),
        })
    }

    async fn compare(self, stack: &Stack, sinks: &[&Sink]) -> Result<Run> {
        let elapsed = self.begun.elapsed();
        let mut latencies = histogram();
        for sink in sinks {
            // Cannot fail: the histograms have the same bounds.
            let _ = latencies.add(sink.take_latencies());
        }
        Ok(Run {
            deliveries: sinks.iter().map(|sink| sink.count()).sum::<u64>() - self.deliveries,
            elapsed,
            latencies,
            connections: sinks.iter().map(|sink| sink.connections()).sum::<u64>() - self.connections,
            usage: self.meter.stop(stack).await?,
        })
    }
}
