//! The values that the URL of a page or a posted form gives.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::IntoResponse as _;
use http::Uri;
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::failure::Failure;
use crate::api::problem::ApiError;
use crate::control::Precondition;
use crate::control::field_error::FieldError;

/// The most values of a page or form.
pub(crate) const MAX_VALUES: usize = 500;

/// The largest form with a pasted request, in bytes: the request itself may have about 2 MB. Other forms are as large as
/// the body of a request to the REST API.
pub(crate) const MAX_PASTED_BYTES: usize = 4_000_000;

/// The form field with the version of the object that is edited.
pub(super) const VERSION: &str = "version";

/// Names and values as they were sent, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Values(Vec<(String, String)>);

impl Values {
    /// The query parameters of a page.
    pub(super) fn of(uri: &Uri) -> Result<Self, Failure> {
        Ok(Self::read(uri.query().unwrap_or_default().as_bytes())?)
    }

    /// A text with the character NUL is refused as the REST API does, because PostgreSQL cannot store it.
    pub(super) fn read(text: &[u8]) -> Result<Self, ApiError> {
        let mut values = Vec::new();
        for (name, value) in form_urlencoded::parse(text).into_owned() {
            if name.contains('\0') || value.contains('\0') {
                let field = name.replace('\0', "\u{2400}");
                return Err(ApiError::NulCharacter(FieldError::new(field, "contains a NUL character; remove it")));
            }
            if values.len() == MAX_VALUES {
                return Err(ApiError::TooLarge);
            }
            values.push((name, value));
        }
        Ok(Self(values))
    }

    /// The first value with this name, as it was typed; empty if there is none.
    pub(super) fn raw(&self, name: &str) -> &str {
        self.0.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// The first value with this name without blanks at its ends; empty if there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// As [`Self::text`]; `None` if it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// The text of several lines. Browsers send each line end as CRLF, whatever was pasted; here it is LF.
    pub(super) fn lines(&self, name: &str) -> String {
        self.raw(name).replace("\r\n", "\n")
    }

    /// All values with this name, as they were typed.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// All values with this name without blanks at their ends. Those that are empty are left out.
    pub(super) fn listed(&self, name: &str) -> impl Iterator<Item = &str> {
        self.all(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// Whether there is a value with this name: a box is ticked, or a button was pressed.
    pub(super) fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The values with these names, as the object that the REST API would read. The value of a time is completed, because
    /// the field of a form has no zone.
    pub(super) fn object(&self, names: &[&str]) -> Map<String, Value> {
        let value = |name: &&str| Some(((*name).to_owned(), Value::String(moment(self.get(name)?))));
        names.iter().filter_map(value).collect()
    }

    /// The version of the object that the form shows, as the precondition of its change.
    pub(super) fn precondition(&self) -> Precondition {
        Precondition { versions: Some(vec![self.text(VERSION).to_owned()]), ..Precondition::default() }
    }
}

/// A time of a form, which has no zone and is UTC, as RFC 3339. Other texts are unchanged.
pub(super) fn moment(text: &str) -> String {
    let bytes = text.as_bytes();
    let is_time = matches!(bytes.len(), 16 | 19)
        && [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':')].iter().all(|(at, byte)| bytes[*at] == *byte);
    match (is_time, text.len()) {
        (true, 16) => format!("{text}:00Z"),
        (true, _) => format!("{text}Z"),
        (false, _) => text.to_owned(),
    }
}

impl<S: Send + Sync> FromRequest<S> for Values {
    type Rejection = Failure;

    /// Reads a form. The layers of its route limit its size.
    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let body = Bytes::from_request(request, state).await.map_err(|rejection| {
            tracing::debug!(status = rejection.into_response().status().as_u16(), "a form could not be read");
            ApiError::TooLarge
        })?;
        Ok(Self::read(&body)?)
    }
}

impl FromIterator<(String, String)> for Values {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Values {
        Values::read(text.as_bytes()).expect("values")
    }

    #[test]
    fn empty_values_are_left_out_and_repeated_ones_are_kept() {
        let given = values("id=a&id=b&state=&type=+x%26y+");
        assert_eq!(given.listed("id").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((given.get("state"), given.get("type"), given.get("none")), (None, Some("x&y"), None));
        assert_eq!(given.listed("state").count(), 0);
        let object = given.object(&["type", "state"]);
        assert_eq!(Value::Object(object), serde_json::json!({ "type": "x&y" }));
    }

    #[test]
    fn values_are_kept_as_they_were_typed() {
        let filled = values("name=+a+&filter=x%0D%0Ay&header=1&header=2&empty=+&on=");
        assert_eq!((filled.get("name"), filled.raw("name")), (Some("a"), " a "));
        assert_eq!(filled.all("header").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((filled.get("empty"), filled.get("none"), filled.raw("filter")), (None, None, "x\r\ny"));
        assert!(filled.has("on") && !filled.has("off"));
    }

    #[test]
    fn lines_end_as_they_were_pasted_and_not_as_the_browser_sends_them() {
        let form = values("a=+x+&b=1%0D%0A2%0A&c=");
        assert_eq!((form.text("a"), form.raw("a")), ("x", " x "));
        assert_eq!(form.lines("b"), "1\n2\n");
        assert_eq!((form.get("c"), form.get("d"), form.get("a")), (None, None, Some("x")));
    }

    #[test]
    fn nul_and_too_many_values_are_refused() {
        for text in ["a=%00", "name=a%00", "a%00=1"] {
            assert!(matches!(Values::read(text.as_bytes()), Err(ApiError::NulCharacter(_))), "{text}");
        }
        let many = "a=1&".repeat(MAX_VALUES + 1);
        assert!(matches!(Values::read(many.as_bytes()), Err(ApiError::TooLarge)));
    }

    #[test]
    fn a_time_of_a_form_is_utc_and_other_texts_are_unchanged() {
        assert_eq!(moment("2026-01-31T08:00"), "2026-01-31T08:00:00Z");
        assert_eq!(moment("2026-01-31T08:00:05"), "2026-01-31T08:00:05Z");
        for text in ["2026-01-31T08:00:05+01:00", "payment_succeeded", "", "größe größe größ"] {
            assert_eq!(moment(text), text);
        }
    }
}
