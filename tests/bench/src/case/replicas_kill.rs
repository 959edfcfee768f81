//! Three relays under load, one of them killed with -9 every 20 seconds: no event is lost, and no limit is exceeded
//! according to the records of the destinations.

use std::time::{Duration, Instant};

use harness::api::Source;
use harness::error::Result;

use crate::figure::{Figure, Limit, Report};
use crate::limits::{Limits, NEVER_SETTLED};
use crate::options::Options;
use crate::run::{PATIENCE, Schedule, count};
use crate::sink::Sink;
use crate::stack::Stack;

const RELAYS: usize = 3;
const KILL_INTERVAL: Duration = Duration::from_secs(20);
/// The time until a killed relay is restarted.
const AWAY: Duration = Duration::from_secs(5);
/// Events per second to each destination without limits.
const RATE: f64 = 75.0;

/// Measures lost and repeated events, and the limits.
///
/// # Errors
/// Returns an error if a part does not start, or if the deliveries are not settled in time.
pub async fn run(options: Options) -> Result<Report> {
    let time = options.time(300, 45);
    let mut stack = Stack::start(RELAYS).await?;
    let free = stack.lines(6).await?;
    let free_sources: Vec<&Source> = free.iter().map(|(source, _)| source).collect();
    let mut limits = Limits::make(&stack).await?;

    let mut to_free = Schedule::start(options.rate.unwrap_or(RATE * count(free.len() as u64)));
    let begun = Instant::now();
    let mut kills = 0;
    while begun.elapsed() + KILL_INTERVAL <= time {
        let victim = rand::random_range(0..RELAYS);
        tokio::join!(
            to_free.run(&stack, &free_sources, KILL_INTERVAL - AWAY),
            limits.push(&stack, KILL_INTERVAL - AWAY)
        );
        stack.relay(victim).kill().await?;
        kills += 1;
        tokio::join!(to_free.run(&stack, &free_sources, AWAY), limits.push(&stack, AWAY));
        stack.relay(victim).start_again().await?;
    }
    stack.settled(NEVER_SETTLED, PATIENCE).await?;

    let mut report = Report::new(format!("{RELAYS} relays under load, one killed with -9 every 20 s, {kills} times"));
    let sinks = || free.iter().map(|(_, sink)| sink).chain(limits.settled());
    let pushed = to_free.pushed() + limits.pushed();
    let (different, requests): (u64, u64) = (sinks().map(Sink::different).sum(), sinks().map(Sink::count).sum());
    report.figure(Figure::new("lost", count(pushed.saturating_sub(different)), "").must(Limit::AtMost(0.0)));
    report.figure(Figure::new("repeated", count(requests - different), ""));
    report.figure(Figure::new("events", count(pushed), ""));
    limits.figures(&mut report, "");
    Ok(report)
}
