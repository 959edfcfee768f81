//! What is wrong with a form that was sent, to be shown next to what was typed.

use http::StatusCode;

use super::failure::Failure;
use super::view;
use crate::control::Error;
use crate::control::error::Conflict;
use crate::control::field_error::FieldError;

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
