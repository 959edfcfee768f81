//! Forms that were sent: the values as they were typed, and what is wrong with them.

use axum::RequestExt as _;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::StatusCode;
use url::form_urlencoded;

use super::failure::Failure;
use super::view;
use crate::api::problem::ApiError;
use crate::control::error::Conflict;
use crate::control::field_error::FieldError;
use crate::control::{Error, Precondition};

/// The form field with the version of the object that is edited.
pub(super) const VERSION: &str = "version";

/// The values of a form, in the order in which the browser sent them.
#[derive(Debug, Clone, Default)]
pub(super) struct Filled(Vec<(String, String)>);

impl Filled {
    fn read(body: &[u8]) -> Result<Self, ApiError> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
        // PostgreSQL cannot store NUL.
        match pairs.iter().find(|(name, value)| name.contains('\0') || value.contains('\0')) {
            Some((name, _)) => Err(ApiError::NulCharacter(FieldError::new(
                name.replace('\0', "\u{2400}"),
                "contains a NUL character (%00); remove it",
            ))),
            None => Ok(Self(pairs)),
        }
    }

    /// The value of a field without the blanks around it; `None` if it is missing or empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        Some(self.raw(name).trim()).filter(|value| !value.is_empty())
    }

    /// The value of a field as it was typed; empty if it is missing. Browsers send lines that end with CR and LF.
    pub(super) fn raw(&self, name: &str) -> &str {
        self.0.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value.as_str())
    }

    /// All values of a field that occurs several times.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Whether a box is ticked, or a button was pressed.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(found, _)| found == name)
    }

    /// The version of the object that the form shows, as the precondition of its change.
    pub(super) fn precondition(&self) -> Precondition {
        Precondition { versions: Some(vec![self.raw(VERSION).to_owned()]), ..Precondition::default() }
    }
}

impl<S: Send + Sync> FromRequest<S> for Filled {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let body: Bytes = request.extract().await.map_err(|_| Failure::from(ApiError::TooLarge))?;
        Ok(Self::read(&body)?)
    }
}

/// What is wrong with a form.
#[derive(Debug, Default)]
pub(super) struct Wrong {
    fields: Vec<FieldError>,
    /// What is wrong with the form as a whole.
    whole: Option<String>,
    is_changed: bool,
}

impl Wrong {
    /// What the control layer refuses, if the form can be shown again with it; otherwise the error.
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other error is about what was typed")]
    pub(super) fn of(error: Error) -> Result<Self, Failure> {
        match error {
            Error::Invalid(fields) => Ok(Self { fields, ..Self::default() }),
            Error::Conflict(Conflict::NameTaken) => {
                Ok(Self { fields: vec![FieldError::new("name", Conflict::NameTaken.detail())], ..Self::default() })
            }
            Error::Conflict(conflict) => Ok(Self { whole: Some(conflict.detail().to_owned()), ..Self::default() }),
            Error::Changed { exists: true } => Ok(Self {
                whole: Some(
                    "someone has changed it since this form was opened. What you typed is still here: compare it with the \
                     current settings, and save again to replace them"
                        .to_owned(),
                ),
                is_changed: true,
                ..Self::default()
            }),
            other => Err(other.into()),
        }
    }

    /// Whether the object has changed since the form was opened.
    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    pub(super) fn add(&mut self, field: &str, message: impl Into<String>) {
        self.fields.push(FieldError::new(field, message));
    }

    /// The same problems, with those of one field at another: a form may have one field for two of a request.
    pub(super) fn renamed(mut self, from: &str, to: &str) -> Self {
        for error in &mut self.fields {
            if error.field == from {
                to.clone_into(&mut error.field);
            }
        }
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.whole.is_none()
    }

    /// What is wrong with a field, or with a part of it: `rate_limit` is also `rate_limit.limit`, and `types` is also
    /// `types[0]`. Several problems are several sentences. Empty if nothing is.
    pub(super) fn at(&self, field: &str) -> String {
        let of_field = self.fields.iter().filter(|error| is_of(&error.field, field));
        let texts: Vec<String> = of_field
            .map(|error| match error.field.strip_prefix(field).map(|rest| rest.trim_start_matches('.')) {
                None | Some("") => view::sentence(&error.message),
                Some(part) => view::sentence(&format!("{part} {}", error.message)),
            })
            .collect();
        texts.join(" ")
    }

    /// What no field of the form shows.
    pub(super) fn elsewhere(&self, shown: &[&str]) -> Vec<String> {
        let is_shown = |error: &FieldError| shown.iter().any(|field| is_of(&error.field, field));
        let rest = self.fields.iter().filter(|error| !is_shown(error)).map(|error| view::sentence(&error.text()));
        self.whole.iter().map(|text| view::sentence(text)).chain(rest).collect()
    }

    /// The status of the page that shows the form again.
    pub(super) fn status(&self) -> StatusCode {
        match (self.is_empty(), self.is_changed) {
            (true, _) => StatusCode::OK,
            (false, true) => StatusCode::PRECONDITION_FAILED,
            (false, false) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }
}

fn is_of(found: &str, field: &str) -> bool {
    found.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_were_typed() {
        let filled = Filled::read(b"name=+a+&filter=x%0D%0Ay&header=1&header=2&empty=+&on=").expect("a form");
        assert_eq!((filled.text("name"), filled.raw("name")), (Some("a"), " a "));
        assert_eq!(filled.all("header").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((filled.text("empty"), filled.text("none"), filled.raw("filter")), (None, None, "x\r\ny"));
        assert!(filled.has("on") && !filled.has("off"));
        assert!(matches!(Filled::read(b"name=a%00"), Err(ApiError::NulCharacter(_))));
    }

    #[test]
    fn each_problem_is_shown_once_at_its_field_or_above_the_form() {
        let mut wrong = Wrong::default();
        wrong.add("rate_limit.limit", "must be from 1 to 5");
        wrong.add("types[1]", "must not be empty");
        wrong.add("secret", "is unknown");
        assert_eq!(wrong.at("rate_limit"), "Limit must be from 1 to 5.");
        assert_eq!(wrong.at("types"), "[1] must not be empty.");
        assert_eq!((wrong.at("type"), wrong.at("rate")), (String::new(), String::new()));
        assert_eq!(wrong.elsewhere(&["rate_limit", "types"]), ["Secret: is unknown."]);
        assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }

    #[test]
    fn a_form_is_shown_again_only_with_what_its_user_can_mend() {
        let taken = Wrong::of(Error::Conflict(Conflict::NameTaken)).expect("the form");
        assert!(taken.at("name").starts_with("The name is already in use"), "{taken:?}");
        let changed = Wrong::of(Error::Changed { exists: true }).expect("the form");
        assert!(changed.is_changed() && changed.elsewhere(&[]).len() == 1, "{changed:?}");
        assert!(Wrong::of(Error::Unavailable(String::new())).is_err());
        assert!(Wrong::of(Error::Changed { exists: false }).is_err());
    }
}
