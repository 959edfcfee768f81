//! The same load on two stacks in turn: the machine is the same for both halves of a pair, whatever else it does.

use std::time::Duration;

use harness::api::Source;
use harness::error::Result;

use super::case::throughput::WARM_UP;
use super::figure::{Figure, Limit, Report, median};
use super::run::{Run, saturate};
use super::sink::Sink;
use super::stack::Stack;

/// A stack with a line that is loaded.
#[derive(Debug)]
pub struct Side {
    pub stack: Stack,
    pub source: Source,
    pub sink: Sink,
}

impl Side {
    /// Starts one relay with all it needs, and a source and a fast destination of this name.
    ///
    /// # Errors
    /// What is missing.
    pub async fn start(name: &str) -> Result<Self> {
        let stack = Stack::start(1).await?;
        let (source, sink) = stack.line(name).await?;
        Ok(Self { stack, source, sink })
    }

    /// Does now what would else be done in the middle of a measurement, and loads it once.
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

/// What both have taken, pair by pair.
#[derive(Debug)]
pub struct Pairs {
    pairs: Vec<(Run, Run)>,
}

/// Loads the two as much as they take, `pairs` times each for `time`; `but` names destinations that are not waited for.
///
/// # Errors
/// Where something is not settled in time.
pub async fn compare(without: &Side, with: &Side, but: &[&str], pairs: usize, time: Duration) -> Result<Pairs> {
    without.prepare(&[]).await?;
    with.prepare(but).await?;
    let mut done = Vec::new();
    for number in 0..pairs {
        // Whoever goes second may have to do with what the first has left to be written.
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
    /// Adds the medians, and what each pair has come to. `without` and `with` say what was measured.
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
