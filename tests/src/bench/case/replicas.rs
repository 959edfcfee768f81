//! One, two and four relays on one database and one queue.

use super::throughput::WARM_UP;
use crate::api::Source;
use crate::bench::figure::{Figure, Report};
use crate::bench::options::Options;
use crate::bench::run::saturate;
use crate::bench::sink::Sink;
use crate::bench::stack::Stack;
use crate::error::Result;

/// Destinations, so that every replica owns some.
const DESTINATIONS: usize = 16;

/// Measures it.
///
/// # Errors
/// Where something does not start or is not settled in time.
pub async fn run(options: Options) -> Result<Report> {
    let mut report = Report::new(format!("Replicas: {DESTINATIONS} destinations, one PostgreSQL, one queue"));
    for replicas in [1, 2, 4] {
        let stack = Stack::start(replicas).await?;
        let mut lines = Vec::new();
        for number in 0..DESTINATIONS {
            lines.push(stack.line(&format!("line-{number}")).await?);
        }
        let sources: Vec<&Source> = lines.iter().map(|(source, _)| source).collect();
        let sinks: Vec<&Sink> = lines.iter().map(|(_, sink)| sink).collect();
        saturate(&stack, &sources, &sinks, &[], WARM_UP).await?;
        let run = saturate(&stack, &sources, &sinks, &[], options.time(20, 3)).await?;
        report.figure(Figure::new(format!("deliveries with {replicas}"), run.per_second(), "/s"));
        for note in run.notes() {
            report.note(format!("{replicas}: {note}"));
        }
    }
    report.note(
        "the replicas share the cores of this machine with everything else: the figures tell what coordination costs, not how \
         several machines would do",
    );
    Ok(report)
}
