//! Latency at half of the maximum rate, which is measured first.

use harness::error::{Doing as _, Result};

use super::throughput::WARM_UP;
use crate::figure::{Figure, Limit, Report};
use crate::options::Options;
use crate::run::{at_rate, quantile_ms, saturate};
use crate::stack::Stack;

/// The latency from the transaction that stored an event, which made its delivery due, to the first attempt. The former
/// is a time of the database's clock, the latter one of the relay's clock: a negative difference counts as 0.
const DUE_TO_SENT: &str = "
    select percentile_disc(array[0.5, 0.99, 0.999]) within group (order by greatest(0,
               extract(epoch from attempts.started_at - events.stored_at) * 1000)::float8)
    from attempts join events on events.id = attempts.event_id
    where attempts.number = 1 and attempts.started_at >= $1::timestamptz";

/// Measures the latencies.
///
/// # Errors
/// Returns an error if a part does not start, or if the deliveries are not settled in time.
pub async fn run(options: Options) -> Result<Report> {
    let stack = Stack::start(1).await?;
    let (source, sink) = stack.line("steady").await?;
    saturate(&stack, &[&source], &[&sink], &[], WARM_UP).await?;
    let rate = match options.rate {
        Some(rate) => rate,
        None => saturate(&stack, &[&source], &[&sink], &[], options.time(30, 2)).await?.per_second() / 2.0,
    };
    let mut connection = stack.connect().await?;
    let doing = || "cannot read the latencies".to_owned();
    let begun: String = sqlx::query_scalar("select now()::text").fetch_one(&mut connection).await.doing(doing)?;
    let run = at_rate(&stack, &[&source], &[&sink], &[], rate, options.time(60, 4)).await?;
    let due_to_sent: Vec<f64> =
        sqlx::query_scalar(DUE_TO_SENT).bind(begun).fetch_one(&mut connection).await.doing(doing)?;

    let mut report =
        Report::new(format!("Steady: {rate:.0} events/s, half of the maximum unless --rate says otherwise"));
    for (at, name) in ["p50", "p99", "p99.9"].iter().enumerate() {
        let figure =
            Figure::new(format!("{name} from stored to sent"), due_to_sent.get(at).copied().unwrap_or(f64::NAN), "ms");
        report.figure(if *name == "p99" { figure.must(Limit::AtMost(100.0)).aim(Limit::AtMost(25.0)) } else { figure });
    }
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let what = format!("{name} from the planned time of entering the queue to the arrival at the destination");
        report.figure(Figure::new(what, quantile_ms(&run.latencies, quantile), "ms"));
    }
    report.notes = run.notes();
    Ok(report)
}
