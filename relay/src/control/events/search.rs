//! Searches the bodies of events for a text.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::Serialize;
use store::body_search::BodySearch;
use store::events;
use store::search::{self, Order, Outcome};
use utoipa::ToSchema;

use super::{Event, EventFilter, selection, summary};
use crate::control::fields::Problems;
use crate::control::page::{self, PageRequest, Window, id_range};
use crate::control::record::{self, Action, Object};
use crate::control::time::Timestamp;
use crate::control::{Actor, Control, Error, Scope, sources};

/// The shortest text, in bytes: a shorter one is in most bodies.
pub const LEAST_TEXT_BYTES: usize = 3;

/// The longest text, in bytes.
pub const MOST_TEXT_BYTES: usize = 200;

/// The bytes of bodies after which a call stops.
pub const BYTES_PER_CALL: i64 = 256 << 20;

/// The time after which a call stops.
pub const SEARCH_WITHIN: Duration = Duration::from_secs(5);

/// How many calls of one relay search at a time.
pub const SEARCHES_AT_ONCE: usize = 2;

/// The longest that a call waits for the others.
pub const SEARCH_WAIT: Duration = Duration::from_secs(10);

/// A page of the events whose body contains a text, and how far the search has come.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventSearch {
    /// The events, newest first.
    pub data: Vec<Event>,
    /// The value for `cursor` to continue; null if everything was searched. A page can have fewer items than `limit`, or
    /// none, although there is more to search.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
    /// Everything from `before` (or from `cursor`) back to this time has been searched; null if everything was.
    #[schema(required = true)]
    pub searched_until: Option<Timestamp>,
    /// How many events this call has searched.
    pub searched_events: i64,
    /// How many bytes their bodies have.
    pub searched_bytes: i64,
}

/// Searches bodies of the customer's events, newest first, until the page is full or the call has read as much as it
/// may.
///
/// # Errors
/// Returns an error if the text, the filter, the limit or the cursor is invalid, [`Error::SearchesBusy`] if other calls
/// search for too long, or an error if a query fails.
pub async fn search(
    control: &Control,
    actor: &Actor,
    text: Option<&str>,
    filter: EventFilter,
    page: &PageRequest,
) -> Result<EventSearch, Error> {
    actor.require(Scope::Bodies)?;
    let customer = actor.customer()?;
    let mut problems = Problems::default();
    match text {
        None => problems.add("contains", "is required"),
        Some(text) if (LEAST_TEXT_BYTES..=MOST_TEXT_BYTES).contains(&text.len()) => {}
        Some(_) => {
            problems.add("contains", format!("must be {LEAST_TEXT_BYTES} to {MOST_TEXT_BYTES} bytes long in UTF-8"))
        }
    }
    let window = Window::read(page, &mut problems);
    let range = id_range(filter.after.as_deref(), filter.before.as_deref(), window, &mut problems);
    let source = sources::id_of(control, actor, "source", filter.source.as_deref(), &mut problems).await?;
    problems.finish()?;
    record::read(control, actor, Action::EventsSearchBodies, Object::of(customer, customer)).await?;
    let turn = tokio::time::timeout(SEARCH_WAIT, control.body_searches.acquire()).await;
    let _turn = turn.ok().and_then(Result::ok).ok_or(Error::SearchesBusy)?;

    let events = events::Page::begin(&control.pool, Some(customer), selection(filter, source), window.fetch()).await?;
    let until = Instant::now() + SEARCH_WITHIN;
    let mut search = BodySearch::new(events, forms(text.unwrap_or_default()), window.fetch(), BYTES_PER_CALL, until);
    let outcome = search::run(&control.pool, &mut search, Order::NewestFirst, range, page::LIST).await?;
    let stopped = match outcome {
        Outcome::Full => search.stopped_before,
        Outcome::Stopped(rest) => Some(rest.until),
        Outcome::End => None,
    };
    let (searched_events, searched_bytes) = (search.events, search.bytes);
    let found = window.found_until(stopped, search.found, |row| row.id.uuid(), summary);
    let searched_until = found.scanned_until.or_else(|| {
        let last = found.data.last().map(|event| Timestamp(model::unix_time::timestamp(event.id.minted_at_ms())));
        last.filter(|_| found.next_cursor.is_some())
    });
    let page::Page { data, next_cursor, .. } = found;
    Ok(EventSearch { data, next_cursor, searched_until, searched_events, searched_bytes })
}

/// The bytes for which bodies are searched: the text itself, and the text as JSON may write it in a string. JSON escapes
/// quotes, backslashes and control characters; many programs also escape every character beyond ASCII, and some every
/// slash.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let mut forms = BTreeSet::from([text.to_owned(), json_string(text)]);
    let escaped: Vec<String> = forms.iter().flat_map(|form| [ascii(form, false), ascii(form, true)]).collect();
    forms.extend(escaped);
    let slashed: Vec<String> = forms.iter().map(|form| form.replace('/', "\\/")).collect();
    forms.extend(slashed);
    forms.into_iter().filter(|form| !form.is_empty()).map(String::into_bytes).collect()
}

/// The text as the content of a JSON string.
fn json_string(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap_or_default();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// The text with every character beyond ASCII as JSON escapes it.
fn ascii(text: &str, upper: bool) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if character.is_ascii() {
            escaped.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            escaped.push_str(&if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") });
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        forms(text).into_iter().map(|form| String::from_utf8(form).expect("UTF-8")).collect()
    }

    #[test]
    fn a_plain_text_has_one_form_and_others_those_that_json_may_give_them() {
        assert_eq!(texts("in_1Q2w"), ["in_1Q2w"]);
        assert_eq!(texts("a\"b"), ["a\"b", "a\\\"b"]);
        assert_eq!(texts("a/b"), ["a/b", "a\\/b"]);
        assert_eq!(texts("Zoë"), ["Zo\\u00EB", "Zo\\u00eb", "Zoë"]);
        assert_eq!(texts("😀 a"), ["\\uD83D\\uDE00 a", "\\ud83d\\ude00 a", "😀 a"]);
        assert!(texts("\"ë/\n").len() <= 12, "{:?}", texts("\"ë/\n"));
    }
}
