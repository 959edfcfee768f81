//! Replays of ten thousand and of a hundred thousand events, without a rate limit.

use std::time::{Duration, Instant};

use harness::error::{Error, Result};
use harness::wait::try_until;
use serde_json::json;

use crate::figure::{Figure, Limit, Report};
use crate::options::Options;
use crate::run::count;
use crate::sink::now_us;
use crate::stack::Stack;

/// The timeout of the first deliveries, and of a replay.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(300);

/// Measures the time of each replay.
///
/// # Errors
/// Returns an error if a part does not start, or if the deliveries are not completed in time.
pub async fn run(options: Options) -> Result<Report> {
    let mut report = Report::new("Replay, uncapped");
    for events in options.pick(vec![10_000, 100_000], vec![1_000]) {
        let seconds = measure(events).await?.as_secs_f64();
        let mut figure = Figure::new(format!("{events} events, until all have been delivered again"), seconds, "s");
        if events == 10_000 {
            figure = figure.must(Limit::AtMost(5.0)).aim(Limit::AtMost(1.0));
        }
        report.figure(figure);
        report.note(format!("{events} events: {:.0} deliveries/s", count(events) / seconds));
    }
    Ok(report)
}

async fn measure(events: u64) -> Result<Duration> {
    let stack = Stack::start(1).await?;
    let (source, sink) = stack.line("replay").await?;
    for _ in 0..events {
        stack.push(&source, now_us());
    }
    let arrived = async |wanted: u64| {
        try_until("the deliveries", REPLAY_TIMEOUT, async || match sink.count() {
            there if there >= wanted => Ok(()),
            there => Err(format!("{there} of {wanted}")),
        })
        .await
        .map_err(Error::new)
    };
    arrived(events).await?;
    stack.settled(&[], REPLAY_TIMEOUT).await?;
    let begun = Instant::now();
    let replay = stack.gateway.api.post("/v1/replays", &json!({ "filter": { "source": "replay" } })).await;
    let path = format!("/v1/replays/{}", replay.expect_status(201)["id"].as_str().unwrap_or_default());
    arrived(2 * events).await?;
    let settled = try_until("the replay to end", REPLAY_TIMEOUT, async || {
        let progress = stack.gateway.api.get(&path).await.expect_status(200);
        if progress["succeeded"] == events { Ok(begun.elapsed()) } else { Err(progress.to_string()) }
    });
    settled.await.map_err(Error::new)
}
