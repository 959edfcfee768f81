//! The audit log: who did what, when, and what it was before and after.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde_json::Value;

use super::super::commands::{Commands, single_quoted};
use super::super::failure::Failure;
use super::super::frame::{Frame, page};
use super::super::link;
use super::super::values::{Values, moment};
use super::super::view;
use super::super::viewer::Viewer;
use super::{Link, Tab, of_deployment, tab};
use crate::control::audit::{self, Action, AuditEntry, AuditFilter};
use crate::control::field_error::FieldError;
use crate::control::page::PageRequest;
use crate::control::time::Timestamp;
use crate::control::{Control, Error};

/// The query parameters that are filters, and the field of the API.
const FILTERS: [(&str, &str); 7] = [
    ("of", "customer"),
    ("actor", "actor"),
    ("action", "action"),
    ("object", "object"),
    ("request_id", "request_id"),
    ("after", "after"),
    ("before", "before"),
];

/// The most characters of a value that the list shows.
pub(crate) const SHOWN: usize = 300;

/// A setting that a change has changed.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    field: String,
    before: Cut,
    after: Cut,
}

/// A text of which the end may be left out.
#[derive(Debug, PartialEq, Eq)]
struct Cut {
    text: String,
    /// The number of characters that are left out.
    left_out: usize,
}

impl Cut {
    fn of(value: Option<&Value>) -> Self {
        let text = match value {
            None => "–".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let characters = text.chars().count();
        if characters <= SHOWN {
            return Self { text, left_out: 0 };
        }
        Self { text: text.chars().take(SHOWN).collect(), left_out: characters - SHOWN }
    }
}

/// The settings that differ, in alphabetical order.
fn changes(before: Option<&Value>, after: Option<&Value>) -> Vec<Change> {
    let object = |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
    let (before, after) = (object(before), object(after));
    let mut fields: Vec<&String> = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key))).collect();
    fields.sort();
    let differs = |field: &&&String| before.get(**field) != after.get(**field);
    let change = |field: &String| Change {
        field: field.clone(),
        before: Cut::of(before.get(field)),
        after: Cut::of(after.get(field)),
    };
    fields.iter().filter(differs).map(|field| change(field)).collect()
}

/// An entry with its changes.
struct Row {
    entry: AuditEntry,
    changes: Vec<Change>,
}

#[derive(Template)]
#[template(path = "dashboard/settings_audit.html")]
struct AuditPage {
    frame: Frame,
    tabs: Vec<Link>,
    given: Values,
    rows: Vec<Row>,
    has_filters: bool,
    next: Option<String>,
    newest: Option<String>,
    /// How far back a list with few matches has been scanned.
    scanned_until: Option<Timestamp>,
    actions: &'static [Action],
    commands: Commands,
}

impl AuditPage {
    /// The value of a filter.
    fn value(&self, name: &str) -> &str {
        self.given.get(name).unwrap_or_default()
    }
}

/// A filter that is not known is never ignored: the list would look as if it was filtered.
fn unknown(action: &str) -> Error {
    let problem = format!("\"{action}\" is not an action; choose one of the list");
    Error::Invalid(vec![FieldError::new("action", problem)])
}

/// The list.
pub(super) async fn list(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let given = Values::of(&viewer.uri)?;
    let text = |name: &str| given.get(name).map(str::to_owned);
    let action = given.get("action").map(|name| Action::from_name(name).ok_or_else(|| unknown(name))).transpose()?;
    let filter = AuditFilter {
        customer: text("of"),
        actor: text("actor"),
        action,
        object: text("object"),
        request_id: text("request_id"),
        after: given.get("after").map(moment),
        before: given.get("before").map(moment),
    };
    let cursor = text("cursor");
    let newest_first = PageRequest { limit: None, cursor: cursor.clone() };
    let found = audit::list(&control, &viewer.actor, filter, &newest_first).await?;
    let (frame, tabs) = tab(&viewer, Tab::Audit);
    let mut parameters = Vec::new();
    let mut command = "tidegate audit list".to_owned();
    for (name, field) in FILTERS {
        if let Some(value) = given.get(name) {
            let value = if matches!(name, "after" | "before") { moment(value) } else { value.to_owned() };
            command.push_str(&format!(" --{} {}", field.replace('_', "-"), single_quoted(&value)));
            parameters.push((field, value));
        }
    }
    let query: Vec<(&str, Option<&str>)> =
        parameters.iter().map(|(name, value)| (*name, Some(value.as_str()))).collect();
    let call = link::with("/v1/audit", &query);
    let commands = of_deployment("GET", &call, "", command);
    let row = |entry: AuditEntry| Row { changes: changes(entry.before.as_ref(), entry.after.as_ref()), entry };
    let next = found.next_cursor.map(|cursor| link::changed(&viewer.uri, &[("cursor", Some(&cursor))]));
    let newest = cursor.map(|_| frame.without("cursor"));
    Ok(page(&AuditPage {
        tabs,
        rows: found.data.into_iter().map(row).collect(),
        has_filters: !parameters.is_empty(),
        next,
        newest,
        scanned_until: found.scanned_until,
        actions: &Action::ALL,
        commands,
        given,
        frame,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_settings_that_differ_are_shown() {
        let (before, after) =
            (json!({"name": "a", "rate": 5, "url": "x"}), json!({"name": "a", "rate": null, "new": [1]}));
        let shown: Vec<(String, String, String)> = changes(Some(&before), Some(&after))
            .into_iter()
            .map(|change| (change.field, change.before.text, change.after.text))
            .collect();
        let wanted = [("new", "–", "[1]"), ("rate", "5", "null"), ("url", "x", "–")];
        assert_eq!(shown, wanted.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
        assert_eq!(changes(None, Some(&json!({"name": "a"}))).len(), 1);
        assert_eq!(changes(None, None), []);
    }

    #[test]
    fn a_long_value_is_cut_and_says_by_how_much() {
        let cut = Cut::of(Some(&json!("ü".repeat(SHOWN + 7))));
        assert_eq!((cut.text.chars().count(), cut.left_out), (SHOWN, 7));
        assert_eq!(Cut::of(Some(&json!("ü".repeat(SHOWN)))).left_out, 0);
    }
}
