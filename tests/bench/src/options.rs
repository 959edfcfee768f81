//! The command line of the benchmarks.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, value_parser};

use super::case::{self, Case};

/// Measures how fast Tidegate is on this machine
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench-gateway", after_help = list(), arg_required_else_help = true)]
struct Arguments {
    /// The cases to measure, in this order: from the list below, or `all` of them
    #[arg(required = true, value_name = "CASE", value_parser = names(), hide_possible_values = true)]
    cases: Vec<String>,
    #[command(flatten)]
    options: Options,
}

/// The options of a run.
#[derive(Debug, Clone, PartialEq, Default, Args)]
pub struct Options {
    /// How many seconds the load of a case lasts, in place of the case's own time
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub seconds: Option<u64>,
    /// Run for a short time with small numbers: this shows whether everything works, not how fast it is
    #[arg(long)]
    pub quick: bool,
    /// Rows of history, rows that wait for a dead destination, or customers
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub rows: Option<u64>,
    /// How often the relay is killed
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub kills: Option<u64>,
    /// Events per second, in place of a part of the measured maximum
    #[arg(long, value_name = "N", value_parser = rate)]
    pub rate: Option<f64>,
    /// The program `tidegate` of an earlier version, from which the relay is upgraded
    #[arg(long, value_name = "PATH", value_parser = program)]
    pub old: Option<PathBuf>,
    /// The program `tidegate` of another version, for a comparison
    #[arg(long, value_name = "PATH", value_parser = program)]
    pub base: Option<PathBuf>,
}

impl Options {
    /// How long the load of a case lasts.
    #[must_use]
    pub fn time(&self, usual: u64, quick: u64) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.quick { quick } else { usual }))
    }

    /// Selects the value for a usual or a quick run.
    #[must_use]
    pub fn pick<T>(&self, usual: T, quick: T) -> T {
        if self.quick { quick } else { usual }
    }
}

/// Parses the command line, without the program's name: the cases in the order in which they are to run, and the
/// options.
///
/// # Errors
/// Returns the error with a suggestion if it is wrong, or the help if it was requested.
pub fn read(arguments: impl Iterator<Item = String>) -> Result<(Vec<&'static Case>, Options), clap::Error> {
    let program = std::iter::once("bench-gateway".to_owned());
    let Arguments { cases: names, options } = Arguments::try_parse_from(program.chain(arguments))?;
    let cases = names.iter().flat_map(|name| case::ALL.iter().filter(move |case| name == "all" || name == case.name));
    Ok((cases.collect(), options))
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(case::ALL.iter().map(|case| case.name).chain(["all"]))
}

/// The list of cases for the help.
fn list() -> String {
    let cases = case::ALL.iter().map(|case| format!("\n  {:<15}{}", case.name, case.what));
    format!(
        "Cases:{}\n  {:<15}every one of them, with a report in Markdown on standard output",
        cases.collect::<String>(),
        "all"
    )
}

/// An absolute path, because relays are started in other folders.
fn program(text: &str) -> Result<PathBuf, String> {
    match std::fs::canonicalize(text) {
        Ok(path) if path.is_file() => Ok(path),
        Ok(_) => Err("is not a file; name the program itself, such as target/release/tidegate".to_owned()),
        Err(error) => Err(format!("cannot be found: {error}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<u32>().ok().filter(|rate| *rate > 0);
    rate.map(f64::from).ok_or_else(|| "a whole number of events per second, at least 1, is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<(Vec<&'static Case>, Options), String> {
        read(line.split_whitespace().map(str::to_owned)).map_err(|answer| answer.to_string())
    }

    #[test]
    fn cases_and_options_may_come_in_any_order() {
        let (cases, options) = parse("--quick steady --seconds 3 idle --rate 50").expect("reads");
        let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
        assert_eq!((names, options.seconds, options.quick), (vec!["steady", "idle"], Some(3), true));
        assert_eq!(options.rate, Some(50.0));
        assert_eq!(parse("all").expect("reads").0.len(), case::ALL.len());
    }

    #[test]
    fn an_error_names_the_wrong_word_and_a_correction() {
        for (line, expected) in [
            ("stedy", ["'stedy'", "'steady'"]),
            ("steady --second 3", ["'--second'", "'--seconds'"]),
            ("steady --seconds soon", ["'soon'", "--seconds"]),
            ("steady --seconds 0", ["0", "--seconds"]),
            ("steady --rate 0", ["'0'", "at least 1"]),
            ("steady --rate", ["--rate", "a value is required"]),
            ("migration --old /no/such/program", ["--old", "cannot be found"]),
            ("tokens --base /", ["--base", "is not a file"]),
        ] {
            let answer = parse(line).map(drop).expect_err(line);
            assert!(expected.iter().all(|expected| answer.contains(expected)), "{line}: {answer}");
        }
    }

    #[test]
    fn without_a_case_and_with_help_every_case_is_listed() {
        for line in ["", "--help", "-h"] {
            let answer = parse(line).map(drop).expect_err(line);
            let usage = "Usage: cargo bench-gateway [OPTIONS] <CASE>...";
            assert!(answer.contains(usage), "{line}: {answer}");
            assert!(case::ALL.iter().all(|case| answer.contains(case.what)), "{line}: {answer}");
        }
    }
}
