//! Routes: their editor, in which they are tried before they are saved, and what is done with them.

use super::view::{self, Markup, Tone};
use crate::control::routes::Route;

pub(super) mod editor;
pub(super) mod steer;
mod tried;
mod typed;

/// How much of a filter or of a list of types a row shows, in characters.
const SHOWN_CHARACTERS: usize = 80;

/// Which events a route takes, in a few words.
pub(super) fn takes(route: &Route) -> String {
    let types = match route.types.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        [one, rest @ ..] => Some(format!("{one} and {}", view::count(rest.len(), "other type", "other types"))),
    };
    let filter = route.filter.as_ref().map(|filter| format!("if {filter}"));
    let text = [types, filter].into_iter().flatten().collect::<Vec<_>>().join(", ");
    if text.is_empty() { "every event".to_owned() } else { shortened(&text) }
}

/// The first characters of a text, with the number of those that are left out.
fn shortened(text: &str) -> String {
    let all = text.chars().count();
    if all <= SHOWN_CHARACTERS {
        return text.to_owned();
    }
    let shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
    format!("{shown}… ({} more characters)", view::number(all - SHOWN_CHARACTERS))
}

/// Whether a route works.
pub(super) fn condition(route: &Route) -> (Tone, &'static str) {
    match route {
        Route { enabled: false, .. } => (Tone::Quiet, "Disabled"),
        Route { unusable: Some(_), .. } => (Tone::Danger, "Unusable"),
        Route { .. } => (Tone::Ok, "Enabled"),
    }
}

/// Whether a route works, as a badge.
pub(super) fn badge(route: &Route) -> Markup {
    let (tone, word) = condition(route);
    view::badge(tone, word)
}

/// What a route is called: its name, or what it joins.
pub(super) fn title(route: &Route) -> String {
    route.name.clone().unwrap_or_else(|| format!("{} to {}", route.source, route.destination))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_says_how_much_of_it_is_left_out() {
        assert_eq!(shortened("a"), "a");
        let text = "ü".repeat(SHOWN_CHARACTERS + 1_000);
        assert_eq!(shortened(&text), format!("{}… (1,000 more characters)", "ü".repeat(SHOWN_CHARACTERS)));
    }
}
