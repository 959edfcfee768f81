//! Checks the static headers of a destination.

use std::collections::BTreeMap;

use egress::OF_THE_CONNECTION;
use http::{HeaderName, HeaderValue};

use crate::control::fields::Problems;

/// The maximum number of static headers of a destination.
pub(crate) const MAX_HEADERS: usize = 50;

/// The maximum length of a value, in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 4_096;

/// The prefixes of headers that Tidegate sets itself.
pub(crate) const OURS: [&str; 2] = ["webhook-", "tidegate-"];

/// The names of the other headers that Tidegate sets itself, in lower case. The content type is that of the event or of
/// the transform.
pub(crate) fn set_by_tidegate() -> impl Iterator<Item = &'static str> {
    OF_THE_CONNECTION.into_iter().chain(["content-type"])
}

/// The problem with a name that differs from another one only in case.
pub(crate) const TWICE: &str =
    "is set twice with different capitalisation; header names are case-insensitive, so remove one";

/// Returns the headers with their names in lower case. Problems are noted.
pub(super) fn check(headers: &BTreeMap<String, String>, problems: &mut Problems) -> BTreeMap<String, String> {
    if headers.len() > MAX_HEADERS {
        problems.add("headers", format!("has {} entries, but may have at most {MAX_HEADERS}", headers.len()));
    }
    let mut checked = BTreeMap::new();
    for (name, value) in headers {
        let lower = name.to_ascii_lowercase();
        if let Some(problem) = problem(&lower, value) {
            problems.add(format!("headers.{name}"), problem);
        } else if checked.insert(lower, value.clone()).is_some() {
            problems.add(format!("headers.{name}"), TWICE);
        }
    }
    checked
}

fn problem(name: &str, value: &str) -> Option<String> {
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Some("is not a valid header name".to_owned());
    }
    if set_by_tidegate().any(|set| set == name) || OURS.iter().any(|prefix| name.starts_with(prefix)) {
        return Some("is set by Tidegate and cannot be overridden; remove it".to_owned());
    }
    let storable = value.len() <= MAX_VALUE_BYTES && HeaderValue::from_str(value).is_ok();
    (!storable).then(|| {
        format!(
            "has an invalid value; values may be at most {MAX_VALUE_BYTES} bytes long and must not contain \
             control characters"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, value: &str) -> bool {
        let mut problems = Problems::default();
        check(&BTreeMap::from([(name.to_owned(), value.to_owned())]), &mut problems);
        problems.finish().is_err()
    }

    #[test]
    fn credentials_and_custom_headers_are_accepted_in_lower_case() {
        let mut problems = Problems::default();
        let given = BTreeMap::from([
            ("Authorization".to_owned(), "Bearer x".to_owned()),
            ("X-Team".to_owned(), "ä".to_owned()),
        ]);
        let names: Vec<String> = check(&given, &mut problems).into_keys().collect();
        assert!(problems.finish().is_ok());
        assert_eq!(names, ["authorization", "x-team"]);
    }

    #[test]
    fn headers_that_tidegate_sets_cannot_be_overridden() {
        for name in [
            "webhook-id",
            "Webhook-Signature",
            "webhook-anything",
            "Host",
            "content-length",
            "Connection",
            "transfer-encoding",
            "Expect",
            "te",
            "content-type",
            "tidegate-attempt",
        ] {
            assert!(refused(name, "x"), "{name}");
        }
    }

    #[test]
    fn invalid_names_and_values_are_refused() {
        assert!(refused("", "x"));
        assert!(refused("a b", "x"));
        assert!(refused("a:", "x"));
        assert!(refused("x", "a\r\nhost: b"));
        assert!(refused("x", &"a".repeat(MAX_VALUE_BYTES + 1)));
        assert!(!refused("x", &"a".repeat(MAX_VALUE_BYTES)));
    }

    #[test]
    fn names_that_differ_only_in_case_are_refused() {
        let mut problems = Problems::default();
        let given = BTreeMap::from([("X-A".to_owned(), "1".to_owned()), ("x-a".to_owned(), "2".to_owned())]);
        check(&given, &mut problems);
        assert!(problems.finish().is_err());
    }
}
