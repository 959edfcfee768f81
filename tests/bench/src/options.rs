//! What a person asks of the benchmarks.

use std::time::Duration;

use super::case::{self, Case};

/// The options of a run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Options {
    /// How long the load of a case lasts, in place of the case's own time.
    pub seconds: Option<u64>,
    /// Short runs with small numbers: whether everything works, not how fast it is.
    pub quick: bool,
    /// Rows of history, or rows that wait for a dead destination.
    pub rows: Option<u64>,
    /// How often the relay is killed.
    pub kills: Option<u64>,
    /// Events per second, in place of a part of the measured maximum.
    pub rate: Option<f64>,
}

impl Options {
    /// How long the load of a case lasts.
    #[must_use]
    pub fn time(&self, usual: u64, quick: u64) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.quick { quick } else { usual }))
    }

    /// One of two numbers.
    #[must_use]
    pub fn pick<T>(&self, usual: T, quick: T) -> T {
        if self.quick { quick } else { usual }
    }
}

/// Reads the command line: the cases in the order in which they are to run, and the options.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn read(arguments: impl Iterator<Item = String>) -> Result<(Vec<&'static Case>, Options), String> {
    let mut cases = Vec::new();
    let mut options = Options::default();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().ok_or_else(|| format!("{argument} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{argument} needs a whole number, not \"{value}\""))
        };
        match argument.as_str() {
            "--quick" => options.quick = true,
            "--seconds" => options.seconds = Some(number()?.max(1)),
            "--rows" => options.rows = Some(number()?.max(1)),
            "--kills" => options.kills = Some(number()?.max(1)),
            "--rate" => options.rate = Some(f64::from(u32::try_from(number()?.max(1)).unwrap_or(u32::MAX))),
            "all" => cases.extend(case::ALL),
            name => cases.push(case::ALL.iter().find(|case| case.name == name).ok_or_else(|| {
                let names: Vec<&str> = case::ALL.iter().map(|case| case.name).collect();
                format!("{name} is no benchmark: name one of {}, or all", names.join(", "))
            })?),
        }
    }
    if cases.is_empty() {
        let list: Vec<String> = case::ALL.iter().map(|case| format!("  {:<14}{}", case.name, case.what)).collect();
        return Err(format!(
            "usage: cargo bench-gateway <case>… [--seconds n] [--quick] [--rows n] [--kills n] [--rate n]\n{}\n  \
             all           every one of them, with a report in Markdown on standard output",
            list.join("\n")
        ));
    }
    Ok((cases, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<(Vec<&'static Case>, Options), String> {
        read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn cases_and_options_may_come_in_any_order() {
        let (cases, options) = parse("--quick steady --seconds 3 idle").expect("reads");
        let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
        assert_eq!((names, options.seconds, options.quick), (vec!["steady", "idle"], Some(3), true));
        assert_eq!(parse("all").expect("reads").0.len(), case::ALL.len());
    }

    #[test]
    fn what_is_wrong_is_told_with_the_names_there_are() {
        assert!(parse("stedy").is_err_and(|error| error.contains("stedy is no benchmark") && error.contains("steady")));
        assert!(parse("steady --seconds soon").is_err_and(|error| error.contains("\"soon\"")));
        assert!(parse("").is_err_and(|error| error.contains("usage")));
    }
}
