//! The same load with and without millions of settled deliveries in history.

use harness::error::Result;

use crate::figure::Report;
use crate::history::{self, DAYS, KEY_DAYS};
use crate::options::Options;
use crate::pairs::{Side, compare};

/// Measures the deliveries with and without history.
///
/// # Errors
/// Returns an error if a part does not start, or if the deliveries are not settled in time.
pub async fn run(options: Options) -> Result<Report> {
    let rows = options.rows.unwrap_or(options.pick(10_000_000, 50_000));
    let (without, with) = (Side::start("history").await?, Side::start("history").await?);
    history::fill(&with.stack, rows, 0).await?;
    let pairs = compare(&without, &with, &[], options.pick(5, 1), options.time(20, 3)).await?;

    let mut report = Report::new(format!("{rows} settled deliveries in history"));
    pairs.report(&mut report, "deliveries without them", "deliveries with them");
    report.note(format!(
        "as many events and attempts, without bodies, over {DAYS} days with a {DAYS}th of them today, all of one source and one \
         destination; the dedupe keys of {KEY_DAYS} days"
    ));
    Ok(report)
}
