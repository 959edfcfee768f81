//! Healthy destinations next to one that never answers and gets the same rate.

use std::time::Duration;

use harness::api::Source;
use harness::error::Result;
use harness::receiver::Behaviour;
use serde_json::json;

use super::throughput::WARM_UP;
use crate::figure::{Figure, Limit, Report};
use crate::options::Options;
use crate::run::{at_rate, quantile_ms, saturate};
use crate::sink::Sink;
use crate::stack::Stack;

/// The number of destinations. The last one hangs in the second half.
const DESTINATIONS: usize = 4;

/// Measures the latency of the healthy destinations in both halves.
///
/// # Errors
/// Returns an error if a part does not start, or if the deliveries are not settled in time.
pub async fn run(options: Options) -> Result<Report> {
    let stack = Stack::start(1).await?;
    let lines = stack.lines(DESTINATIONS).await?;
    let sources: Vec<&Source> = lines.iter().map(|(source, _)| source).collect();
    let sinks: Vec<&Sink> = lines.iter().map(|(_, sink)| sink).collect();
    saturate(&stack, &sources, &sinks, &[], WARM_UP).await?;
    let rate = match options.rate {
        Some(rate) => rate,
        // Half of the maximum, as in the case `steady`.
        None => saturate(&stack, &sources, &sinks, &[], options.time(10, 2)).await?.per_second() / 2.0,
    };
    let healthy = &sinks[..DESTINATIONS - 1];
    let time = options.time(40, 4);
    let before = at_rate(&stack, &sources, healthy, &[], rate, time).await?;

    let hanging = Sink::start(Behaviour::Hang).await?;
    let name = format!("line-{}", DESTINATIONS - 1);
    let wanted = json!({ "name": name, "url": hanging.url(), "max_concurrency": 64, "timeout_ms": 2_000 });
    stack.gateway.api.put(&format!("/v1/destinations/by-name/{name}"), &wanted).await.expect_status(200);
    let beside = at_rate(&stack, &sources, healthy, &[&name], rate, time).await?;

    let mut report = Report::new(format!(
        "One of {DESTINATIONS} destinations hangs: {rate:.0} events/s in all, its timeout is 2 s, 64 attempts at a time"
    ));
    let (calm, p99) = (quantile_ms(&before.latencies, 0.99), quantile_ms(&beside.latencies, 0.99));
    report.figure(Figure::new("p99 of the healthy ones while all are healthy", calm, "ms"));
    report.figure(Figure::new("p99 of the healthy ones while one hangs", p99, "ms"));
    report.figure(
        Figure::new("added p99", (p99 - calm).max(0.0), "ms").must(Limit::AtMost(20.0)).aim(Limit::AtMost(0.0)),
    );
    report.note(format!(
        "latency from the planned time of entering the queue to the arrival; {} attempts at the hanging one in {} s",
        hanging.count(),
        Duration::from_secs(beside.elapsed.as_secs()).as_secs()
    ));
    report.notes.extend(beside.notes());
    Ok(report)
}
