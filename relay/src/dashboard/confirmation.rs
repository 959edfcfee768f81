//! Asks before something is done that cannot be taken back easily: what will happen, in sentences.

use askama::Template;
use axum::response::Response;

use super::commands::Commands;
use super::frame::{Frame, page};
use super::view;
use super::wrong::Wrong;

/// What a confirmation also asks for.
#[derive(Debug)]
pub(super) enum Asks {
    Nothing,
    /// A rate limit, as it is typed.
    Rate {
        limit: String,
        per: String,
    },
    /// For how long the previous signing secret also signs, in seconds.
    Overlap {
        overlap_s: String,
    },
    /// This name of the object.
    Name(String),
}

#[derive(Template)]
#[template(path = "dashboard/confirmation.html")]
pub(super) struct ConfirmPage {
    pub(super) frame: Frame,
    /// The pages above: their names and URLs.
    pub(super) above: Vec<(String, String)>,
    pub(super) sentences: Vec<String>,
    pub(super) asks: Asks,
    pub(super) wrong: Wrong,
    /// The URLs of the form, and of the page that leaves everything as it is.
    pub(super) action: String,
    pub(super) back: String,
    /// What the link that leads back says.
    pub(super) keep: &'static str,
    pub(super) button: &'static str,
    pub(super) is_dangerous: bool,
    /// The version of the object that the page describes.
    pub(super) version: Option<String>,
    pub(super) commands: Option<Commands>,
}

impl ConfirmPage {
    /// Asks for nothing else. `action` and `back` are paths below the dashboard.
    pub(super) fn new(frame: Frame, action: &str, back: &str, button: &'static str, sentences: Vec<String>) -> Self {
        Self {
            action: frame.to(action),
            back: frame.to(back),
            frame,
            above: Vec::new(),
            sentences,
            asks: Asks::Nothing,
            wrong: Wrong::default(),
            keep: "Cancel",
            button,
            is_dangerous: false,
            version: None,
            commands: None,
        }
    }

    fn elsewhere(&self) -> Vec<String> {
        self.wrong.elsewhere(&["rate_limit", "overlap_s", "typed"])
    }

    /// Renders the page, with the status that says whether something is wrong.
    pub(super) fn render_page(&self) -> Response {
        let mut response = page(self);
        *response.status_mut() = self.wrong.status();
        response
    }
}

/// The overlaps that the form offers, in seconds.
const OVERLAPS: [(&str, &str); 5] = [
    ("3600", "1 hour"),
    ("86400", "1 day"),
    ("604800", "7 days"),
    ("2592000", "30 days"),
    ("0", "Not at all: it has leaked"),
];

impl ConfirmPage {
    #[expect(clippy::unused_self, reason = "templates call it on the page")]
    fn overlaps(&self) -> &'static [(&'static str, &'static str)] {
        &OVERLAPS
    }
}

/// How many deliveries: a count that may be a lower bound.
pub(super) fn deliveries(count: i64, and_more: bool) -> String {
    match (count, and_more) {
        (0, _) => "no delivery".to_owned(),
        (count, false) => view::count(count, "delivery", "deliveries"),
        (count, true) => format!("more than {} deliveries", view::number(count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_says_whether_there_are_more() {
        assert_eq!(deliveries(0, false), "no delivery");
        assert_eq!(deliveries(1, false), "1 delivery");
        assert_eq!(deliveries(10_000, true), "more than 10,000 deliveries");
    }
}
