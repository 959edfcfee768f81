//! The results of a case with their requirements and aims, and the report in Markdown.

/// The results of one case.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub title: String,
    pub figures: Vec<Figure>,
    /// Tables of further values: rows of cells, and the first row is the head.
    pub tables: Vec<Vec<Vec<String>>>,
    /// Further observations, such as processor time and bytes.
    pub notes: Vec<String>,
}

/// One measured value.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    pub what: String,
    pub value: f64,
    pub unit: &'static str,
    pub must: Option<Limit>,
    pub aim: Option<Limit>,
}

/// A bound for a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// The median; of an even number of values, the upper of the two in the middle.
#[must_use]
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Report {
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), figures: Vec::new(), tables: Vec::new(), notes: Vec::new() }
    }

    /// Adds a figure.
    pub fn figure(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Adds a table: rows of cells, and the first row is the head.
    pub fn table(&mut self, rows: Vec<Vec<String>>) {
        self.tables.push(rows);
    }

    /// Adds a note.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Whether every figure meets its requirement.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.figures.iter().all(|figure| figure.holds() != Some(false))
    }

    /// The report in Markdown: a heading, a table of the figures, further tables, and a list.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("## {}\n", self.title);
        if !self.figures.is_empty() {
            text.push_str("\n| what | measured | must | aim | holds |\n|---|---:|---:|---:|---|\n");
        }
        for figure in &self.figures {
            let limit = |limit: Option<Limit>| limit.map_or_else(String::new, |limit| limit.text(figure.unit));
            let holds = match figure.holds() {
                None => "",
                Some(true) => "yes",
                Some(false) => "**no**",
            };
            text.push_str(&format!(
                "| {} | {} | {} | {} | {holds} |\n",
                figure.what,
                with_unit(figure.value, figure.unit),
                limit(figure.must),
                limit(figure.aim),
            ));
        }
        for table in &self.tables {
            for (index, row) in table.iter().enumerate() {
                let line = format!("| {} |\n", row.join(" | "));
                match index {
                    0 => text.push_str(&format!("\n{line}|---|{}\n", "---:|".repeat(row.len().saturating_sub(1)))),
                    _ => text.push_str(&line),
                }
            }
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        for note in &self.notes {
            text.push_str(&format!("- {note}\n"));
        }
        text
    }
}

impl Figure {
    #[must_use]
    pub fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit, must: None, aim: None }
    }

    /// Sets the requirement.
    #[must_use]
    pub fn must(mut self, limit: Limit) -> Self {
        self.must = Some(limit);
        self
    }

    /// Sets the aim.
    #[must_use]
    pub fn aim(mut self, limit: Limit) -> Self {
        self.aim = Some(limit);
        self
    }

    /// Whether it meets its requirement; `None` if it has none.
    #[must_use]
    pub fn holds(&self) -> Option<bool> {
        self.must.map(|limit| match limit {
            Limit::AtLeast(least) => self.value >= least,
            Limit::AtMost(most) => self.value <= most,
        })
    }
}

impl Limit {
    fn text(self, unit: &str) -> String {
        match self {
            Self::AtLeast(value) => format!("≥ {}", with_unit(value, unit)),
            Self::AtMost(value) => format!("≤ {}", with_unit(value, unit)),
        }
    }
}

/// Formats a value with its unit, with about three significant digits: a shared machine does not measure more
/// precisely.
#[must_use]
pub fn with_unit(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if unit.is_empty() { text } else { format!("{text} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_whether_each_figure_holds() {
        let mut report = Report::new("steady");
        report.figure(Figure::new("p99", 12.34, "ms").must(Limit::AtMost(100.0)).aim(Limit::AtMost(25.0)));
        report.figure(Figure::new("rate", 4_999.0, "/s").must(Limit::AtLeast(5_000.0)));
        report.figure(Figure::new("size", 0.0, "KB"));
        report.table(vec![vec!["what".to_owned(), "many".to_owned()], vec!["lists".to_owned(), "1 ms".to_owned()]]);
        report.note("on two cores");
        assert!(!report.holds());
        let wanted = "## steady\n\n| what | measured | must | aim | holds |\n|---|---:|---:|---:|---|\n\
                      | p99 | 12.3 ms | ≤ 100 ms | ≤ 25.0 ms | yes |\n| rate | 4999 /s | ≥ 5000 /s |  | **no** |\n\
                      | size | 0 KB |  |  |  |\n\n| what | many |\n|---|---:|\n| lists | 1 ms |\n\n- on two cores\n";
        assert_eq!(report.markdown(), wanted);
    }
}
