//! One, two and four relays on one database and one queue: what they deliver, and whether limits hold while each of them is
//! restarted.

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

/// Destinations, so that every replica owns some.
const DESTINATIONS: usize = 16;

/// How long the replicas may take to share the shards again.
const SHARED_WITHIN: Duration = Duration::from_secs(60);

/// Measures it.
///
/// # Errors
/// Returns an error if something does not start or is not settled in time.
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
        "the replicas share the cores of this machine with everything else: the figures tell what coordination costs, not how \
         several machines would do",
    );
    Ok(report)
}

/// Restarts one relay after the other, while destinations with limits get something.
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
