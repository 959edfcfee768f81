//! The relay end to end at its maximum rate: one destination per event, the queue never empty.

use std::time::Duration;

use harness::error::Result;

use crate::figure::{Figure, Limit, Report};
use crate::options::Options;
use crate::run::saturate;
use crate::stack::Stack;

/// How long the relay runs under load before a measurement.
pub const WARM_UP: Duration = Duration::from_secs(3);

/// Measures the deliveries per second.
///
/// # Errors
/// Returns an error if a part does not start, or if the deliveries are not settled in time.
pub async fn run(options: Options) -> Result<Report> {
    let stack = Stack::start(1).await?;
    let (source, sink) = stack.line("throughput").await?;
    saturate(&stack, &[&source], &[&sink], &[], WARM_UP).await?;
    let run = saturate(&stack, &[&source], &[&sink], &[], options.time(30, 3)).await?;
    let mut report = Report::new("Throughput: 1 KB bodies, one destination per event");
    report.figure(
        Figure::new("pull → store → deliver → settle, sustained", run.per_second(), "/s")
            .must(Limit::AtLeast(5_000.0))
            .aim(Limit::AtLeast(10_000.0)),
    );
    report.notes = run.notes();
    Ok(report)
}
