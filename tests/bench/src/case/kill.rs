//! kill -9 at random moments under load: no event is lost, and repeated deliveries are counted.

use std::time::Duration;

use harness::api::Source;
use harness::error::Result;

use crate::figure::{Figure, Limit, Report};
use crate::options::Options;
use crate::run::{PATIENCE, Schedule, count};
use crate::sink::Sink;
use crate::stack::Stack;

/// The number of relays. With two, one keeps working while the shards of the killed one wait for its lease to expire.
const RELAYS: usize = 2;
const DESTINATIONS: usize = 8;

/// Events per second.
const RATE: f64 = 400.0;

/// The longest time before the next kill.
const LONGEST: Duration = Duration::from_secs(6);

/// Measures lost and repeated events.
///
/// # Errors
/// Returns an error if a part does not start, or if the deliveries are not settled in time.
pub async fn run(options: Options) -> Result<Report> {
    let kills = options.kills.unwrap_or(options.pick(100, 3));
    let mut stack = Stack::start(RELAYS).await?;
    let lines = stack.lines(DESTINATIONS).await?;
    let sources: Vec<&Source> = lines.iter().map(|(source, _)| source).collect();
    let mut schedule = Schedule::start(options.rate.unwrap_or(RATE));
    for _ in 0..kills {
        schedule.run(&stack, &sources, LONGEST.mul_f64(rand::random())).await;
        let relay = stack.relay(usize::from(rand::random::<bool>()));
        relay.kill().await?;
        relay.start_again().await?;
    }
    schedule.run(&stack, &sources, Duration::from_secs(1)).await;
    stack.settled(&[], PATIENCE).await?;

    let mut report =
        Report::new(format!("kill -9 of one of {RELAYS} relays at random moments under load, {kills} times"));
    let different: u64 = lines.iter().map(|(_, sink)| sink.different()).sum();
    let requests: u64 = lines.iter().map(|(_, sink): &(Source, Sink)| sink.count()).sum();
    report.figure(Figure::new("lost", count(schedule.pushed().saturating_sub(different)), "").must(Limit::AtMost(0.0)));
    report.figure(Figure::new("repeated", count(requests - different), ""));
    report.figure(Figure::new("events", count(schedule.pushed()), ""));
    Ok(report)
}
