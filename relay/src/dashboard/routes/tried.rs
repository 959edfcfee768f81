//! The result of trying a route against events, for the page.

use crate::control::events::RouteOutcome;
use crate::control::trial::{TransformedBody, TrialCost, TrialError, TrialReport, TrialResult};
use crate::dashboard::view::{self, Tone};

/// How a trial went.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) summary: String,
    pub(super) rows: Vec<Row>,
}

/// How a trial went for one event.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) result: TrialResult,
    pub(super) outcome: (Tone, &'static str),
    /// What failed, and why.
    pub(super) errors: Vec<(&'static str, String)>,
    pub(super) steps: u64,
    pub(super) took: String,
}

impl Row {
    pub(super) fn body(&self) -> Option<&TransformedBody> {
        self.result.transform.as_ref()?.result.as_ref()
    }

    pub(super) fn order_key(&self) -> Option<&str> {
        self.result.order_key.as_ref()?.value.as_deref()
    }

    /// Whether a delivery would be made and sent.
    fn is_sent(&self) -> bool {
        self.result.outcome == RouteOutcome::Matched && self.errors.is_empty()
    }

    /// Whether an expression failed, so that there is no delivery or one that is held.
    fn has_failed(&self) -> bool {
        !self.errors.is_empty() || matches!(self.outcome.0, Tone::Danger)
    }
}

impl Tried {
    pub(super) fn of(report: TrialReport) -> Self {
        let rows: Vec<Row> = report.results.into_iter().map(row).collect();
        let count = |which: fn(&Row) -> bool| rows.iter().filter(|row| which(row)).count();
        let (sent, failed) = (count(Row::is_sent), count(Row::has_failed));
        let rest = rows.len() - sent - failed;
        let verb = |count: usize| if count == 1 { "matches" } else { "match" };
        let summary = if rows.is_empty() {
            "This source has no event yet.".to_owned()
        } else {
            format!(
                "Of the newest {}, {} {}, {} {} not, and {} {}.",
                view::count(rows.len(), "event", "events"),
                view::number(sent),
                verb(sent),
                view::number(rest),
                if rest == 1 { "does" } else { "do" },
                view::number(failed),
                if failed == 1 { "fails" } else { "fail" }
            )
        };
        Self { summary, rows }
    }

    /// Whether an expression failed on an event.
    pub(super) fn has_failed(&self) -> bool {
        self.rows.iter().any(Row::has_failed)
    }
}

fn row(result: TrialResult) -> Row {
    let mut errors = Vec::new();
    let mut note = |what: &'static str, error: Option<&TrialError>| {
        errors.extend(error.map(|error| (what, view::sentence(&error.detail))));
    };
    let (filter, key, transform) = (&result.filter, &result.order_key, &result.transform);
    note("Filter", filter.as_ref().and_then(|filter| filter.error.as_ref()));
    note("Order key", key.as_ref().and_then(|key| key.error.as_ref()));
    note("Transform", transform.as_ref().and_then(|transform| transform.error.as_ref()));
    let costs = [
        filter.as_ref().map(|filter| &filter.cost),
        key.as_ref().map(|key| &key.cost),
        transform.as_ref().map(|transform| &transform.cost),
    ];
    let sum = |of: fn(&TrialCost) -> u64| costs.iter().flatten().map(|cost| of(cost)).sum::<u64>();
    let (steps, took_us) = (sum(|cost| cost.steps), sum(|cost| cost.took_us));
    let has_no_body = transform.as_ref().is_some_and(|transform| transform.error.is_some());
    let outcome = outcome(result.outcome, has_no_body);
    let took = if took_us < 1_000 { format!("{took_us} µs") } else { view::duration(took_us / 1_000) };
    Row { result, outcome, errors, steps, took }
}

const fn outcome(outcome: RouteOutcome, has_no_body: bool) -> (Tone, &'static str) {
    match outcome {
        RouteOutcome::Matched if has_no_body => (Tone::Danger, "Would be held"),
        RouteOutcome::Matched => (Tone::Ok, "Matches"),
        RouteOutcome::Off => (Tone::Quiet, "Disabled"),
        RouteOutcome::TypeNotMatched => (Tone::Quiet, "Other type"),
        RouteOutcome::NotMatched => (Tone::Quiet, "Does not match"),
        RouteOutcome::FilterFailed => (Tone::Danger, "Filter fails"),
        RouteOutcome::Undecided => (Tone::Warn, "Undecided"),
        RouteOutcome::Unordered => (Tone::Danger, "Would be held"),
    }
}

/// The line and the column of an error of the compiler, which begins with them.
pub(super) fn place(message: &str) -> Option<(u32, u32)> {
    let rest = &message[message.find("ine ")? + 4..];
    let (line, rest) = rest.split_once(", column ")?;
    let column: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((line.parse().ok()?, column.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::trial::{TriedFilter, TriedTransform};

    fn cost(steps: u64) -> TrialCost {
        TrialCost { steps, took_us: 600 }
    }

    fn result(outcome: RouteOutcome) -> TrialResult {
        TrialResult {
            event_id: None,
            event_type: None,
            outcome,
            reason: None,
            filter: Some(TriedFilter { matched: Some(true), error: None, cost: cost(3) }),
            order_key: None,
            transform: None,
        }
    }

    #[test]
    fn the_summary_counts_each_event_once() {
        let error = TrialError { code: "expression_failed".to_owned(), detail: "no <b>".to_owned() };
        let broken = TriedTransform { result: None, error: Some(error), cost: cost(4) };
        let tried = Tried::of(TrialReport {
            results: vec![
                result(RouteOutcome::Matched),
                result(RouteOutcome::NotMatched),
                result(RouteOutcome::TypeNotMatched),
                TrialResult { transform: Some(broken), ..result(RouteOutcome::Matched) },
            ],
        });
        assert_eq!(tried.summary, "Of the newest 4 events, 1 matches, 2 do not, and 1 fails.");
        assert!(tried.has_failed());
        let held = &tried.rows[3];
        assert_eq!((held.outcome.1, held.steps, held.took.as_str()), ("Would be held", 7, "1 ms"));
        assert_eq!(held.errors, [("Transform", "No <b>.".to_owned())]);
        assert!(!Tried::of(TrialReport { results: Vec::new() }).has_failed());
    }

    #[test]
    fn the_place_of_an_error_is_read_from_its_text() {
        assert_eq!(place("Line 2, column 13: expected a boolean"), Some((2, 13)));
        assert_eq!(place("line 1, column 3 is no line 5, column 6"), Some((1, 3)));
        for none in ["", "The expression is empty.", "line x, column 1", "online shop"] {
            assert_eq!(place(none), None, "{none}");
        }
    }
}
