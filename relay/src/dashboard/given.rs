//! The values that the URL of a page or a posted form gives.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::IntoResponse as _;
use http::Uri;
use url::form_urlencoded;

use super::failure::Failure;
use crate::api::problem::ApiError;
use crate::control::field_error::FieldError;

/// The most values of a page or form.
pub(crate) const MAX_VALUES: usize = 500;

/// Names and values, in their order. Values that are empty are left out.
#[derive(Debug, Clone, Default)]
pub(super) struct Given(Vec<(String, String)>);

impl Given {
    /// The query parameters of a page.
    pub(super) fn of(uri: &Uri) -> Result<Self, Failure> {
        Ok(Self::read(uri.query().unwrap_or_default().as_bytes())?)
    }

    /// A text with the character NUL is refused as the REST API does, because PostgreSQL cannot store it.
    fn read(text: &[u8]) -> Result<Self, ApiError> {
        let mut values = Vec::new();
        for (name, value) in form_urlencoded::parse(text).into_owned() {
            if name.contains('\0') || value.contains('\0') {
                return Err(ApiError::NulCharacter(FieldError::new(name, "contains a NUL character; remove it")));
            }
            if values.len() == MAX_VALUES {
                return Err(ApiError::TooLarge);
            }
            let value = value.trim();
            if !value.is_empty() {
                values.push((name, value.to_owned()));
            }
        }
        Ok(Self(values))
    }

    /// The first value with this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// All values with this name.
    pub(super) fn all<'g>(&'g self, name: &'g str) -> impl Iterator<Item = &'g str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
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

impl<S: Send + Sync> FromRequest<S> for Given {
    type Rejection = Failure;

    /// Reads a form. The size of bodies is limited by `axum`.
    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let body = Bytes::from_request(request, state).await.map_err(|rejection| {
            tracing::debug!(status = rejection.into_response().status().as_u16(), "a form could not be read");
            ApiError::TooLarge
        })?;
        Ok(Self::read(&body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Given {
        Given::read(text.as_bytes()).expect("values")
    }

    #[test]
    fn empty_values_are_left_out_and_repeated_ones_are_kept() {
        let given = given("id=a&id=b&state=&type=+x%26y+");
        assert_eq!(given.all("id").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((given.get("state"), given.get("type"), given.get("none")), (None, Some("x&y"), None));
    }

    #[test]
    fn nul_and_too_many_values_are_refused() {
        assert!(matches!(Given::read(b"a=%00"), Err(ApiError::NulCharacter(_))));
        let many = "a=1&".repeat(MAX_VALUES + 1);
        assert!(matches!(Given::read(many.as_bytes()), Err(ApiError::TooLarge)));
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
