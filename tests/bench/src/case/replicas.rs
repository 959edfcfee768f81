//! One, two and four relays on one database and one queue: their throughput, and whether limits hold while each relay
//! is restarted.

use std::time::Duration;

use harness::api::Source;
use harness::error::Result;

use super::throughput::WARM_UP;
use crate::figure::{Figure, Report};
use crate::limits::{Limits, NEVER_SETTLED};
use crate::options::Options;
use crate::run::{PATIENCE, saturate};
use crate::sink::Sink;
use crate::stack::Stack;

/// The number of destinations: enough that every replica owns some.
const DESTINATIONS: usize = 16;

/// The maximum time until the replicas share the shards again.
const SHARED_WITHIN: Duration = Duration::from_secs(60);

/// Measures both for each number of relays.
///
/// # Errors
/// Returns an error if a part does not start, or if the deliveries are not settled in time.
pub async fn run(options: Options) -> Result<Report> {
    let mut report = Report::new(format!("Replicas: {DESTINATIONS} destinations, one PostgreSQL, one queue"));
    for replicas in [1, 2, 4] {
        let mut stack = Stack::start(replicas).await?;
        let lines = stack.lines(DESTINATIONS).await?;
        let sources: Vec<&Source> = lines.iter().map(|(source, _)| source).collect();
        let sinks: Vec<&Sink> = lines.iter().map(|(_, sink)| sink).collect();
        saturate(&stack, &sources, &sinks, &[], WARM_UP).await?;
        let run = saturate(&stack, &sources, &sinks, &[], options.time(20, 3)).await?;
        report.figure(Figure::new(format!("deliveries with {replicas}"), run.per_second(), "/s"));
        for note in run.notes() {
            report.note(format!("{replicas}: {note}"));
        }
        let limits = restart_each(&mut stack, replicas, options.time(10, 3)).await?;
        limits.figures(&mut report, &format!(", {replicas} restarted in turn"));
    }
    report.note(
        "the replicas share the cores of this machine with everything else: the figures show the cost of coordination, not how \
         several machines would perform",
    );
    Ok(report)
}

/// Restarts one relay after the other while destinations with limits receive deliveries.
async fn restart_each(stack: &mut Stack, replicas: usize, time: Duration) -> Result<Limits> {
    let mut limits = Limits::make(stack).await?;
    for index in 0..replicas {
        limits.push(stack, time).await;
        stack.relay(index).stop().await?;
        stack.relay(index).start_again().await?;
        stack.gateway.shared_by(replicas, SHARED_WITHIN).await;
    }
    limits.push(stack, time).await;
    stack.settled(NEVER_SETTLED, PATIENCE).await?;
    Ok(limits)
}
