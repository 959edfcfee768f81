//! Three relays under load, one of them killed with -9 every 20 seconds: nothing is lost, and no limit is exceeded, by
//! the records of the destinations.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::api::Source;
use crate::bench::figure::{Figure, Limit, Report};
use crate::bench::options::Options;
use crate::bench::run::{PATIENCE, Schedule, count};
use crate::bench::sink::Sink;
use crate::bench::stack::Stack;
use crate::error::Result;
use crate::receiver::Behaviour;

const RELAYS: usize = 3;
const EVERY: Duration = Duration::from_secs(20);
/// How long a killed relay stays away.
const AWAY: Duration = Duration::from_secs(5);
/// Events per second to each of the free destinations.
const RATE: f64 = 75.0;
/// Events per second to each of the two limited ones: less than they may get, so that they catch up after a kill.
const LIMITED_RATE: f64 = 8.0;
const LIMIT_PER_SECOND: usize = 20;
const CAP: usize = 3;
/// How long the capped destination takes for an answer.
const TAKES: Duration = Duration::from_millis(200);
const WINDOW: Duration = Duration::from_secs(10);

/// Measures it.
///
/// # Errors
/// Where something does not start or is not settled in time.
pub async fn run(options: Options) -> Result<Report> {
    let time = options.time(300, 45);
    let mut stack = Stack::start(RELAYS).await?;
    let mut free = Vec::new();
    for number in 0..6 {
        free.push(stack.line(&format!("line-{number}")).await?);
    }
    let free_sources: Vec<&Source> = free.iter().map(|(source, _)| source).collect();
    let limits = [
        ("limited", Behaviour::Status(200), json!({ "rate_limit": { "limit": LIMIT_PER_SECOND, "per": "second" } })),
        ("capped", Behaviour::Delay(TAKES), json!({ "max_concurrency": CAP })),
    ];
    let mut limited: Vec<(Source, Sink)> = Vec::new();
    for (name, behaviour, more) in limits {
        let (source, sink) = (stack.source(name).await, Sink::start(behaviour).await?);
        stack.destination(&source, name, &sink.url(), more).await;
        limited.push((source, sink));
    }
    let limited_sources: Vec<&Source> = limited.iter().map(|(source, _)| source).collect();

    let mut to_free = Schedule::start(options.rate.unwrap_or(RATE * count(free.len() as u64)));
    let mut to_limited = Schedule::start(LIMITED_RATE * 2.0);
    let begun = Instant::now();
    let mut kills = 0;
    while begun.elapsed() + EVERY <= time {
        let victim = rand::random_range(0..RELAYS);
        tokio::join!(
            to_free.run(&stack, &free_sources, EVERY - AWAY),
            to_limited.run(&stack, &limited_sources, EVERY - AWAY)
        );
        stack.relay(victim).kill().await?;
        kills += 1;
        tokio::join!(to_free.run(&stack, &free_sources, AWAY), to_limited.run(&stack, &limited_sources, AWAY));
        stack.relay(victim).start_again().await?;
    }
    stack.settled(&[], PATIENCE).await?;

    let mut report = Report::new(format!("{RELAYS} relays under load, one killed with -9 every 20 s, {kills} times"));
    let sinks = || free.iter().chain(&limited).map(|(_, sink)| sink);
    let pushed = to_free.pushed() + to_limited.pushed();
    let (different, requests): (u64, u64) = (sinks().map(Sink::different).sum(), sinks().map(Sink::count).sum());
    report.figure(Figure::new("lost", count(pushed.saturating_sub(different)), "").must(Limit::AtMost(0.0)));
    report.figure(Figure::new("duplicates", count(requests - different), ""));
    report.figure(Figure::new("events", count(pushed), ""));
    // A twentieth of a second at once (deliver/pace.rs), and half a second by which this machine may hold one up.
    let most = LIMIT_PER_SECOND * 10 + LIMIT_PER_SECOND / 2 + 2;
    report.figure(
        Figure::new("most within 10 s at 20/s", count(limited[0].1.most_within(WINDOW) as u64), "")
            .must(Limit::AtMost(count(most as u64))),
    );
    report.figure(
        Figure::new(format!("most at once where {CAP} are allowed"), count(limited[1].1.most_within(TAKES) as u64), "")
            .must(Limit::AtMost(count(CAP as u64))),
    );
    Ok(report)
}
