//! The database falls silent under load: open connections get no responses any more, and new ones work, as to a standby
//! that has taken over the address.

use std::time::{Duration, Instant};

use harness::error::Result;

use crate::figure::{Figure, Limit, Report};
use crate::options::Options;
use crate::run::{PATIENCE, Schedule, count};
use crate::stack::Stack;

/// Events per second.
const RATE: f64 = 500.0;

/// The maximum time until the relay abandons its silent connections.
const LEFT_WITHIN_S: f64 = 30.0;

/// The interval at which the deliveries are checked.
const STEP: Duration = Duration::from_millis(20);

/// Measures the time until deliveries continue. Each body is read from the database when it is sent, so that attempts
/// are affected as well.
///
/// # Errors
/// Returns an error if a part does not start, or if the deliveries are not settled in time.
pub async fn run(options: Options) -> Result<Report> {
    let rate = options.rate.unwrap_or(RATE);
    let time = options.time(20, 3);
    let (stack, proxy) = Stack::start_by_proxy(|settings| settings.with("TIDEGATE_MAX_WAITING_BYTES", "0")).await?;
    let (source, sink) = stack.line("silent").await?;
    let mut schedule = Schedule::start(rate);
    schedule.run(&stack, &[&source], time).await;

    proxy.silence();
    let (silent, before) = (Instant::now(), schedule.pushed());
    let (mut first_s, mut all_s) = (None, None);
    while (first_s.is_none() || all_s.is_none()) && silent.elapsed() < PATIENCE {
        schedule.run(&stack, &[&source], STEP).await;
        let after = sink.different_from(before);
        if after > 0 {
            first_s.get_or_insert(silent.elapsed().as_secs_f64());
        }
        if sink.different() - after >= before {
            all_s.get_or_insert(silent.elapsed().as_secs_f64());
        }
    }
    schedule.run(&stack, &[&source], time).await;
    stack.settled(&[], PATIENCE).await?;

    let mut report = Report::new(format!("A database that falls silent: {rate:.0} events/s"));
    let within = |what: &str, seconds: Option<f64>| {
        Figure::new(what, seconds.unwrap_or(f64::INFINITY), "s").must(Limit::AtMost(LEFT_WITHIN_S))
    };
    report.figure(within("until an event that came after it is delivered", first_s));
    report.figure(within("until all events that came before it are delivered", all_s));
    let lost = count(schedule.pushed().saturating_sub(sink.different()));
    report.figure(Figure::new("lost", lost, "").must(Limit::AtMost(0.0)));
    report.figure(Figure::new("repeated", count(sink.count() - sink.different()), ""));
    Ok(report)
}
