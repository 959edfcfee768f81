//! The start of a relay while thousands of destinations have overdue deliveries.

use std::time::{Duration, Instant};

use harness::error::{Doing as _, Error, Result};
use harness::memory::Limit as MemoryLimit;
use harness::receiver::Behaviour;
use harness::tools::say;
use harness::wait::try_until;

use crate::figure::{Figure, Limit, Report};
use crate::options::Options;
use crate::run::{PATIENCE, count};
use crate::sink::Sink;
use crate::stack::Stack;

/// The number of waiting deliveries of each destination.
const EACH: usize = 300;

/// The memory limit of the relay, in bytes. The system kills a relay that exceeds it.
const LIMIT: u64 = 400_000_000;

const MB: f64 = 1_000_000.0;

/// Measures the time to the first delivery and to all destinations, and memory.
///
/// # Errors
/// Returns an error if a part does not start, or if a destination gets nothing.
pub async fn run(options: Options) -> Result<Report> {
    let (destinations, each) = (options.pick(3_000, 300), options.pick(EACH, 30));
    let mut stack = Stack::start(1).await?;
    let (source, first) = stack.line("behind").await?;
    stack.push(&source, 0);
    try_until("the first delivery", PATIENCE, async || match first.count() {
        0 => Err("there is none".to_owned()),
        _ => Ok(()),
    })
    .await
    .map_err(Error::new)?;
    stack.gateway.relay.stop().await?;
    let sink = Sink::start(Behaviour::Status(200)).await?;
    stack.gateway.crowd(&source, destinations, &sink.url()).await;
    stack.gateway.backlog(&source, each).await;

    // When the start returns, the relay listens and the tables are migrated. The shards of the stopped relay are free.
    if let Err(problem) = MemoryLimit::new(LIMIT) {
        say(&format!("crowd: the relay's memory is measured but not limited: {problem}"));
        stack.gateway.relay.start_again().await?;
    } else {
        stack.gateway.relay.start_again_with(|settings| settings.with_memory_limit(LIMIT)).await?;
    }
    let begun = Instant::now();
    while sink.count() == 0 && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let first_s = begun.elapsed().as_secs_f64();
    let mut connection = stack.connect().await?;
    let expected = i64::try_from(destinations + 1).doing(|| "too many destinations".to_owned())?;
    try_until("a delivery to each destination", PATIENCE, async || {
        let served: i64 = sqlx::query_scalar("select count(distinct destination_id) from settled_deliveries")
            .fetch_one(&mut connection)
            .await
            .map_err(|error| error.to_string())?;
        if served == expected { Ok(()) } else { Err(format!("{served} of {expected}")) }
    })
    .await
    .map_err(Error::new)?;
    let all_s = begun.elapsed().as_secs_f64();
    let (sent, at) = (sink.count(), begun.elapsed().as_secs_f64());
    let peak = count(stack.gateway.relay.peak_memory()?) / MB;

    let mut report =
        Report::new(format!("A relay starts with {destinations} destinations behind, {each} deliveries each"));
    report.figure(Figure::new("until the first delivery", first_s, "s").must(Limit::AtMost(5.0)));
    report.figure(Figure::new("until each destination has got one", all_s, "s"));
    report.figure(Figure::new("deliveries until then", count(sent) / at, "/s"));
    report.figure(Figure::new("resident memory at most", peak, "MB").must(Limit::AtMost(400.0)));
    Ok(report)
}
