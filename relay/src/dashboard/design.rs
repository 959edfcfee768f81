//! The page of the style sheet: every token and component, in light and dark. It is for those who develop the dashboard
//! (`TIDEGATE_DASHBOARD=design`).

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::get;

use super::Dashboard;
use super::frame::{Frame, page};
use super::view::{self, Tone};
use super::viewer::Viewer;

/// The style sheet, from which the tokens are read.
const STYLES: &str = include_str!("../../assets/tidegate.css");

const TONES: [(Tone, &str); 5] = [
    (Tone::Ok, "Succeeded"),
    (Tone::Warn, "Pending"),
    (Tone::Danger, "Dead"),
    (Tone::Held, "Held"),
    (Tone::Quiet, "Cancelled"),
];

/// A token of the style sheet.
#[derive(Debug, PartialEq, Eq)]
struct Token {
    name: &'static str,
    value: &'static str,
}

#[derive(Template)]
#[template(path = "dashboard/design.html")]
struct DesignPage {
    frame: Frame,
    colours: Vec<Token>,
    sizes: Vec<Token>,
    spaces: Vec<Token>,
    others: Vec<Token>,
    tones: [(Tone, &'static str); 5],
}

/// The pages.
pub(super) fn routes() -> Router<Dashboard> {
    Router::new().route("/dashboard/design", get(show))
}

/// The page.
async fn show(viewer: Viewer) -> Response {
    let frame = Frame::new(&viewer, "Design", None);
    let (mut colours, mut sizes, mut spaces, mut others) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for token in tokens(STYLES) {
        if token.value.starts_with("light-dark(#") {
            colours.push(token);
        } else if token.name.starts_with("--type-") {
            sizes.push(token);
        } else if token.name.starts_with("--s") && token.name[3..].bytes().all(|byte| byte.is_ascii_digit()) {
            spaces.push(token);
        } else {
            others.push(token);
        }
    }
    page(&DesignPage { frame, colours, sizes, spaces, others, tones: TONES })
}

/// The tokens that a style sheet defines for the whole page.
fn tokens(styles: &'static str) -> Vec<Token> {
    let root = styles.split(":root {").nth(1).and_then(|rest| rest.split("\n}").next()).unwrap_or_default();
    let token = |line: &'static str| {
        let (name, value) = line.trim().strip_suffix(';')?.split_once(": ")?;
        name.starts_with("--").then_some(Token { name, value })
    };
    root.lines().filter_map(token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_read_and_every_colour_has_a_light_and_a_dark_value() {
        let tokens = tokens(STYLES);
        let of = |name: &str| tokens.iter().find(|token| token.name == name).map(|token| token.value);
        assert_eq!((of("--s4"), of("--type-xs")), (Some("1rem"), Some("0.75rem")));
        assert!(of("--danger").is_some_and(|value| value.starts_with("light-dark(#")), "{tokens:?}");
        assert!(tokens.len() > 40, "{}", tokens.len());
    }

    #[test]
    fn the_page_shows_every_class_of_the_components() {
        // Badges and marks are made by `view`.
        let page = include_str!("../../templates/dashboard/design_parts.html");
        for class in [
            "table folds",
            "facts",
            "figures",
            "callout",
            "empty",
            "steps",
            "tabs",
            "code",
            "copyable",
            "way",
            "progress",
            "chip",
            "alert",
            "notice",
            "choice",
            "field",
            "error",
            "hint",
            "axis",
            "legend",
            "spark",
            "panel",
            "filters",
            "crumb",
            "pager",
            "curve",
            "form",
            "live",
        ] {
            assert!(page.contains(&format!("class=\"{class}")), "{class}");
        }
    }
}
