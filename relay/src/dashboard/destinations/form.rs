//! The settings of a destination as a form: as they are typed, and as the control layer takes them.

use serde_json::{Map, Value, json};

use crate::control::destinations::{Destination, DestinationPatch, DestinationSpec};
use crate::control::fields::{Unread, deserialize};
use crate::dashboard::values::Values;
use crate::dashboard::wrong::Wrong;

/// How many empty rows for further headers a form has.
const EMPTY_HEADERS: usize = 2;

/// The units of a wait, the largest first.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// The fields that the form shows with their problems.
pub(super) const SHOWN: [&str; 8] =
    ["name", "url", "signing_secret", "timeout_ms", "rate_limit", "max_concurrency", "retry", "headers"];

/// A header of the form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HeaderRow {
    pub(super) name: String,
    pub(super) value: String,
    /// Its value is stored, and not shown.
    pub(super) is_stored: bool,
    pub(super) is_removed: bool,
}

/// The settings as they are typed.
#[derive(Debug, Clone, Default)]
pub(super) struct Typed {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) signing_secret: String,
    pub(super) timeout_ms: String,
    pub(super) rate_limit: String,
    pub(super) rate_per: String,
    pub(super) max_concurrency: String,
    /// `standard`, `schedule` or `growing`.
    pub(super) retry: String,
    pub(super) schedule: String,
    pub(super) initial_s: String,
    pub(super) multiplier: String,
    pub(super) max_s: String,
    pub(super) attempts: String,
    pub(super) append_query: bool,
    pub(super) headers: Vec<HeaderRow>,
}

impl Typed {
    /// The form of a new destination, which has the defaults.
    pub(super) fn new(name: Option<String>, url: Option<String>) -> Self {
        Self {
            name: name.unwrap_or_default(),
            url: url.unwrap_or_default(),
            rate_per: "second".to_owned(),
            retry: "standard".to_owned(),
            headers: vec![HeaderRow::default(); EMPTY_HEADERS],
            ..Self::default()
        }
    }

    /// The form of a destination as it is.
    pub(super) fn of(destination: &Destination, standard: &Value) -> Self {
        let retry = &destination.retry;
        let field = |name: &str| retry.get(name).map(Value::to_string).unwrap_or_default();
        let schedule = retry["schedule_s"].as_array().map(|waits| written(waits.iter().filter_map(Value::as_u64)));
        let stored = |name: &String| HeaderRow { name: name.clone(), is_stored: true, ..HeaderRow::default() };
        let mut headers: Vec<HeaderRow> = destination.header_names.iter().map(stored).collect();
        headers.resize(headers.len() + EMPTY_HEADERS, HeaderRow::default());
        let per = destination.rate_limit.and_then(|limit| serde_json::to_value(limit.per).ok());
        Self {
            name: destination.name.clone(),
            url: destination.url.clone(),
            signing_secret: String::new(),
            timeout_ms: destination.timeout_ms.to_string(),
            rate_limit: destination.rate_limit.map(|limit| limit.limit.to_string()).unwrap_or_default(),
            rate_per: per.and_then(|per| per.as_str().map(str::to_owned)).unwrap_or_else(|| "second".to_owned()),
            max_concurrency: destination.max_concurrency.to_string(),
            retry: match &schedule {
                _ if retry == standard => "standard",
                Some(_) => "schedule",
                None => "growing",
            }
            .to_owned(),
            schedule: schedule.unwrap_or_default(),
            initial_s: field("initial_s"),
            multiplier: field("multiplier"),
            max_s: field("max_s"),
            attempts: field("attempts"),
            append_query: destination.append_query,
            headers,
        }
    }

    /// The form as it was sent.
    pub(super) fn read(filled: &Values) -> Self {
        let text = |name: &str| filled.raw(name).trim().to_owned();
        let removed: Vec<&str> = filled.all("header_removed").collect();
        let stored: Vec<&str> = filled.all("header_stored").collect();
        let row = |(name, value): (&str, &str)| HeaderRow {
            name: name.trim().to_owned(),
            value: value.to_owned(),
            is_stored: stored.contains(&name),
            is_removed: removed.contains(&name),
        };
        let mut headers: Vec<HeaderRow> = filled.all("header_name").zip(filled.all("header_value")).map(row).collect();
        headers.retain(|row| *row != HeaderRow::default());
        headers.resize(headers.len() + EMPTY_HEADERS, HeaderRow::default());
        Self {
            name: text("name"),
            url: text("url"),
            signing_secret: text("signing_secret"),
            timeout_ms: text("timeout_ms"),
            rate_limit: text("rate_limit"),
            rate_per: text("rate_per"),
            max_concurrency: text("max_concurrency"),
            retry: text("retry"),
            schedule: text("schedule"),
            initial_s: text("initial_s"),
            multiplier: text("multiplier"),
            max_s: text("max_s"),
            attempts: text("attempts"),
            append_query: filled.has("append_query"),
            headers,
        }
    }

    /// The settings of a new destination. What cannot be read is added to `wrong`.
    pub(super) fn spec(&self, wrong: &mut Wrong) -> Option<DestinationSpec> {
        let mut settings = json!({
            "url": self.url,
            "rate_limit": self.rate(wrong),
            "max_concurrency": number(&self.max_concurrency, "max_concurrency", wrong),
            "timeout_ms": number(&self.timeout_ms, "timeout_ms", wrong),
            "retry": self.policy(wrong),
            "append_query": self.append_query,
            "headers": self.new_headers(wrong),
        });
        for (name, text) in [("name", &self.name), ("signing_secret", &self.signing_secret)] {
            if !text.is_empty() {
                settings[name] = Value::from(text.as_str());
            }
        }
        if !wrong.is_empty() {
            return None;
        }
        match deserialize(settings) {
            Ok(spec) => Some(spec),
            Err(Unread::Field(error)) => {
                wrong.add(&error.field, error.message);
                None
            }
            Err(Unread::Syntax(error)) => {
                wrong.add("", error.to_string());
                None
            }
        }
    }

    /// The changes of a destination: all settings that the form has. What cannot be read is added to `wrong`.
    pub(super) fn patch(&self, wrong: &mut Wrong) -> Option<DestinationPatch> {
        let patch = DestinationPatch {
            url: Some(Value::from(self.url.as_str())),
            rate_limit: Some(self.rate(wrong)),
            max_concurrency: Some(number(&self.max_concurrency, "max_concurrency", wrong)),
            timeout_ms: Some(number(&self.timeout_ms, "timeout_ms", wrong)),
            retry: Some(in_one_form(self.policy(wrong))),
            append_query: Some(Value::from(self.append_query)),
            headers: self.header_changes(wrong),
            signing_secret: None,
        };
        wrong.is_empty().then_some(patch)
    }

    fn rate(&self, wrong: &mut Wrong) -> Value {
        let limit = number(&self.rate_limit, "rate_limit", wrong);
        if limit.is_null() { Value::Null } else { json!({ "limit": limit, "per": self.rate_per }) }
    }

    /// The retry policy; null for the standard one.
    fn policy(&self, wrong: &mut Wrong) -> Value {
        match self.retry.as_str() {
            "schedule" => match waits(&self.schedule) {
                Ok(waits) => json!({ "schedule_s": waits }),
                Err(text) => {
                    wrong.add(
                        "retry",
                        format!(
                            "\"{text}\" is not a wait; write seconds, or a number with s, m, h or d, such as 30m, with blanks \
                             between them"
                        ),
                    );
                    Value::Null
                }
            },
            "growing" => json!({
                "initial_s": number(&self.initial_s, "retry.initial_s", wrong),
                "multiplier": decimal(&self.multiplier, "retry.multiplier", wrong),
                "max_s": number(&self.max_s, "retry.max_s", wrong),
                "attempts": number(&self.attempts, "retry.attempts", wrong),
            }),
            _ => Value::Null,
        }
    }

    fn new_headers(&self, wrong: &mut Wrong) -> Value {
        self.header_changes(wrong).unwrap_or(Value::Null)
    }

    /// The headers that are set and removed; `None` if none is. A stored header with an empty value stays as it is.
    fn header_changes(&self, wrong: &mut Wrong) -> Option<Value> {
        let mut changes = Map::new();
        for row in &self.headers {
            let change = match row {
                HeaderRow { name, value, .. } if name.is_empty() && value.is_empty() => continue,
                HeaderRow { name, .. } if name.is_empty() => {
                    wrong.add("headers", "a value has no name; give it one, or remove the value");
                    continue;
                }
                HeaderRow { is_removed: true, .. } => Value::Null,
                HeaderRow { is_stored: true, value, .. } if value.is_empty() => continue,
                HeaderRow { value, .. } => Value::from(value.as_str()),
            };
            if changes.insert(row.name.clone(), change).is_some() {
                wrong.add("headers", format!("\"{}\" is there twice; remove one of them", row.name));
            }
        }
        (!changes.is_empty()).then_some(Value::Object(changes))
    }
}

/// A retry policy as a patch that also removes the fields of the other form.
fn in_one_form(policy: Value) -> Value {
    let Value::Object(mut fields) = policy else { return policy };
    for name in ["schedule_s", "initial_s", "multiplier", "max_s", "attempts"] {
        fields.entry(name).or_insert(Value::Null);
    }
    Value::Object(fields)
}

/// A whole number; null if the text is empty.
fn number(text: &str, field: &str, wrong: &mut Wrong) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    match text.replace([',', ' '], "").parse::<i64>() {
        Ok(number) => Value::from(number),
        Err(_) => {
            wrong.add(field, format!("must be a whole number, but is \"{text}\""));
            Value::Null
        }
    }
}

fn decimal(text: &str, field: &str, wrong: &mut Wrong) -> Value {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Value::from(number),
        _ if text.is_empty() => Value::Null,
        _ => {
            wrong.add(field, format!("must be a number, but is \"{text}\""));
            Value::Null
        }
    }
}

/// The waits of a schedule in seconds, from a text such as `0s 5s 30m`. Fails with the first word that is none.
fn waits(text: &str) -> Result<Vec<u64>, String> {
    let wait = |word: &str| {
        let unit = UNITS.iter().find(|(unit, _)| word.ends_with(*unit));
        let digits = unit.map_or(word, |(unit, _)| word.trim_end_matches(*unit));
        let number: Option<u64> = digits.parse().ok();
        number
            .and_then(|number| number.checked_mul(unit.map_or(1, |(_, seconds)| *seconds)))
            .ok_or_else(|| word.to_owned())
    };
    text.split([' ', ',', '\n', '\r', '\t']).filter(|word| !word.is_empty()).map(wait).collect()
}

/// The waits as [`waits`] reads them, in the largest unit that each has a whole number of.
pub(super) fn written(waits: impl IntoIterator<Item = u64>) -> String {
    let word = |seconds: u64| {
        let whole = |(_, unit): &&(char, u64)| seconds >= *unit && seconds.is_multiple_of(*unit);
        UNITS.iter().find(whole).map_or_else(|| "0s".to_owned(), |(name, unit)| format!("{}{name}", seconds / unit))
    };
    waits.into_iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_written_as_it_is_read() {
        let seconds = [0, 5, 90, 1_800, 7_200, 86_400, 604_800];
        assert_eq!(written(seconds), "0s 5s 90s 30m 2h 1d 7d");
        assert_eq!(waits(&written(seconds)), Ok(seconds.to_vec()));
        assert_eq!(waits("0, 5,\r\n300"), Ok(vec![0, 5, 300]));
        assert_eq!(waits(""), Ok(Vec::new()));
        for wrong in ["soon", "5x", "-1", "1.5h", "99999999999999999999", "18446744073709551615d", "s"] {
            assert_eq!(waits(wrong), Err(wrong.to_owned()));
        }
    }

    #[test]
    fn stored_headers_stay_unless_they_are_changed_or_removed() {
        let row = |name: &str, value: &str, is_stored, is_removed| HeaderRow {
            name: name.to_owned(),
            value: value.to_owned(),
            is_stored,
            is_removed,
        };
        let headers = vec![
            row("x-kept", "", true, false),
            row("x-new", "1", false, false),
            row("x-other", "2", true, false),
            row("x-gone", "", true, true),
            HeaderRow::default(),
        ];
        let typed = Typed { headers, ..Typed::new(None, None) };
        let mut wrong = Wrong::default();
        let changes = typed.header_changes(&mut wrong);
        assert_eq!(changes, Some(json!({ "x-new": "1", "x-other": "2", "x-gone": null })));
        assert!(wrong.is_empty(), "{wrong:?}");
        let typed = Typed { headers: vec![row("", "1", false, false)], ..typed };
        typed.header_changes(&mut wrong);
        assert!(!wrong.at("headers").is_empty());
        assert_eq!(Typed::new(None, None).header_changes(&mut Wrong::default()), None);
    }

    #[test]
    fn all_numbers_that_cannot_be_read_are_reported_at_once() {
        let typed = Typed {
            timeout_ms: "soon".to_owned(),
            rate_limit: "1,000".to_owned(),
            max_concurrency: "1.5".to_owned(),
            retry: "growing".to_owned(),
            multiplier: "two".to_owned(),
            ..Typed::new(None, Some("https://example.com".to_owned()))
        };
        let mut wrong = Wrong::default();
        assert!(typed.patch(&mut wrong).is_none());
        for field in ["timeout_ms", "max_concurrency", "retry"] {
            assert!(!wrong.at(field).is_empty(), "{field}: {wrong:?}");
        }
        assert!(wrong.at("rate_limit").is_empty(), "thousands may be separated: {wrong:?}");
    }

    #[test]
    fn another_form_of_retries_replaces_the_fields_of_the_first() {
        let typed = Typed { retry: "schedule".to_owned(), schedule: "0 5m".to_owned(), ..Typed::new(None, None) };
        let patch = typed.patch(&mut Wrong::default()).expect("a patch");
        let retry = patch.retry.expect("retries");
        assert_eq!((&retry["schedule_s"], &retry["attempts"]), (&json!([0, 300]), &Value::Null));
        assert!(retry.as_object().is_some_and(|fields| fields.len() == 5), "{retry}");
        let standard = Typed::new(None, None).patch(&mut Wrong::default()).and_then(|patch| patch.retry);
        assert_eq!(standard, Some(Value::Null));
    }
}
