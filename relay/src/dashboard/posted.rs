//! Reads the form that a page has posted.

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use url::form_urlencoded;

use super::failure::Failure;
use crate::api::problem::ApiError;
use crate::control::field_error::FieldError;

/// The largest form, in bytes: it holds a pasted request of about 2 MB.
pub(crate) const MAX_FORM_BYTES: usize = 4_000_000;

/// The most fields of a form.
pub(crate) const MAX_FIELDS: usize = 1_000;

/// The fields of a form, in the order of the page.
#[derive(Debug, Clone, Default)]
pub(super) struct Posted(Vec<(String, String)>);

impl Posted {
    /// Reads a form. A text with the character NUL is refused as the REST API does, because PostgreSQL cannot store it.
    fn read(body: &Bytes) -> Result<Self, ApiError> {
        let mut fields = Vec::new();
        for (name, value) in form_urlencoded::parse(body).into_owned() {
            if name.contains('\0') || value.contains('\0') {
                let message = "contains a NUL character; remove it";
                return Err(ApiError::NulCharacter(FieldError::new(name, message)));
            }
            if fields.len() == MAX_FIELDS {
                return Err(ApiError::TooLarge);
            }
            fields.push((name, value));
        }
        Ok(Self(fields))
    }

    /// The value of a field, as it was sent; empty if the form has none.
    pub(super) fn raw(&self, name: &str) -> &str {
        self.0.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// The value of a field of one line, without blanks at its ends.
    pub(super) fn text(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// The value of a field, unless it is empty.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// The text of several lines. Browsers send each line end as CRLF, whatever was pasted; here it is LF.
    pub(super) fn lines(&self, name: &str) -> String {
        self.raw(name).replace("\r\n", "\n")
    }
}

impl<S: Send + Sync> FromRequest<S> for Posted {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let body = to_bytes(request.into_body(), MAX_FORM_BYTES).await.map_err(|_| ApiError::TooLarge)?;
        Ok(Self::read(&body)?)
    }
}

impl FromIterator<(String, String)> for Posted {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(text: &'static str) -> Result<Posted, ApiError> {
        Posted::read(&Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn lines_end_as_they_were_pasted_and_not_as_the_browser_sends_them() {
        let form = posted("a=+x+&b=1%0D%0A2%0A&c=").expect("a form");
        assert_eq!((form.text("a"), form.raw("a")), ("x", " x "));
        assert_eq!(form.lines("b"), "1\n2\n");
        assert_eq!((form.given("c"), form.given("d"), form.given("a")), (None, None, Some("x")));
    }

    #[test]
    fn nul_and_too_many_fields_are_refused() {
        assert!(matches!(posted("a=%00"), Err(ApiError::NulCharacter(_))));
        let many: String = (0..=MAX_FIELDS).map(|at| format!("a{at}=1&")).collect();
        assert!(matches!(Posted::read(&Bytes::from(many)), Err(ApiError::TooLarge)));
    }
}
