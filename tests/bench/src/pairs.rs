//! The same load on two stacks in turn: other load on the machine affects both halves of a pair alike.

use std::time::Duration;

use harness::api::Source;
use harness::error::Result;

use super::case::throughput::WARM_UP;
use super::figure::{Figure, Limit, Report, median};
use super::run::{Run, saturate};
use super::sink::Sink;
use super::stack::Stack;

/// A stack with a source and a destination for the load.
#[derive(Debug)]
pub struct Side {
    pub stack: Stack,
    pub source: Source,
    pub sink: Sink,
}

impl Side {
    /// Starts one relay with everything it needs, and creates a source and a fast destination with this name.
    ///
    /// # Errors
    /// Returns an error if a part does not start.
    pub async fn start(name: &str) -> Result<Self> {
        let stack = Stack::start(1).await?;
        let (source, sink) = stack.line(name).await?;
        Ok(Self { stack, source, sink })
    }

    /// Runs vacuum and a checkpoint now, so that they do not run during a measurement, and a first load.
    async fn prepare(&self, but: &[&str]) -> Result<()> {
        for statement in ["vacuum analyze", "checkpoint"] {
            self.stack.execute(statement.to_owned()).await?;
        }
        self.saturate(but, WARM_UP).await?;
        Ok(())
    }

    async fn saturate(&self, but: &[&str], time: Duration) -> Result<Run> {
        saturate(&self.stack, &[&self.source], &[&self.sink], but, time).await
    }
}

/// The runs of both sides, pair by pair.
#[derive(Debug)]
pub struct Pairs {
    pairs: Vec<(Run, Run)>,
}

/// Loads both sides at their maximum rate, `pairs` times each for `time`. It does not wait for the destinations in
/// `but`.
///
/// # Errors
/// Returns an error if the deliveries are not settled in time.
pub async fn compare(without: &Side, with: &Side, but: &[&str], pairs: usize, time: Duration) -> Result<Pairs> {
    without.prepare(&[]).await?;
    with.prepare(but).await?;
    let mut done = Vec::new();
    for number in 0..pairs {
        // The order alternates, because the second run may be slowed by writes that the first has left.
        done.push(if number % 2 == 0 {
            let first = without.saturate(&[], time).await?;
            (first, with.saturate(but, time).await?)
        } else {
            let first = with.saturate(but, time).await?;
            (without.saturate(&[], time).await?, first)
        });
    }
    Ok(Pairs { pairs: done })
}

impl Pairs {
    /// Adds the medians and the ratio of each pair. `without` and `with` are the names of the two figures.
    pub fn report(&self, report: &mut Report, without: &str, with: &str) {
        let ratio = |(without, with): &(Run, Run)| with.per_second() / without.per_second();
        let figures = [
            (without, median(self.pairs.iter().map(|(run, _)| run.per_second()))),
            (with, median(self.pairs.iter().map(|(_, run)| run.per_second()))),
        ];
        for (what, value) in figures {
            report.figure(Figure::new(what, value, "/s"));
        }
        report.figure(
            Figure::new("ratio", median(self.pairs.iter().map(ratio)), "×")
                .must(Limit::AtLeast(0.9))
                .aim(Limit::AtLeast(1.0)),
        );
        let all: Vec<String> = self.pairs.iter().map(|pair| format!("{:.2}", ratio(pair))).collect();
        report.note(format!(
            "median of {} pairs, each side with a database of its own; ratios {}",
            all.len(),
            all.join(", ")
        ));
        for (side, run) in self.pairs.last().into_iter().flat_map(|(left, right)| [("without", left), ("with", right)])
        {
            for note in run.notes() {
                report.note(format!("{side}: {note}"));
            }
        }
    }
}
