//! Fan-out of an event to one and to ten destinations.

use harness::error::Result;
use harness::receiver::Behaviour;
use serde_json::json;

use super::throughput::WARM_UP;
use crate::figure::{Figure, Report};
use crate::options::Options;
use crate::run::saturate;
use crate::sink::Sink;
use crate::stack::Stack;

/// Measures the deliveries with each.
///
/// # Errors
/// Returns an error if a part does not start, or if the deliveries are not settled in time.
pub async fn run(options: Options) -> Result<Report> {
    let mut report = Report::new("Fan-out");
    for width in [1, 10] {
        let stack = Stack::start(1).await?;
        let source = stack.source("fanout").await;
        let mut sinks = Vec::new();
        for number in 0..width {
            let sink = Sink::start(Behaviour::Status(200)).await?;
            let more = json!({ "max_concurrency": 64 });
            stack.destination(&source, &format!("fanout-{number}"), &sink.url(), more).await;
            sinks.push(sink);
        }
        let sinks: Vec<&Sink> = sinks.iter().collect();
        saturate(&stack, &[&source], &sinks, &[], WARM_UP).await?;
        let run = saturate(&stack, &[&source], &sinks, &[], options.time(20, 3)).await?;
        report.figure(Figure::new(format!("deliveries with {width} per event"), run.per_second(), "/s"));
        for note in run.notes() {
            report.note(format!("{width} per event: {note}"));
        }
    }
    Ok(report)
}
