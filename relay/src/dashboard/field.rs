//! The fields of a form: what they ask for, what was typed, and what is wrong with it.

use super::values::Values;
use crate::control::fields::FieldError;
use crate::control::{self, Error};

/// How a field is filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Text,
    Number,
    /// A text of several lines.
    Area,
    /// A secret, which is never shown again.
    Secret,
    /// One of these values, each with its name.
    Choice(&'static [(&'static str, &'static str)]),
}

/// A field of a form.
#[derive(Debug, Clone)]
pub(super) struct Field {
    /// The name in the form, and the path of the field in the errors of the control layer.
    pub(super) name: String,
    pub(super) label: String,
    /// What to fill in.
    pub(super) hint: String,
    pub(super) input: Input,
    pub(super) value: String,
    pub(super) required: bool,
    pub(super) errors: Vec<String>,
}

impl Field {
    pub(super) fn new(
        name: impl Into<String>,
        label: impl Into<String>,
        hint: impl Into<String>,
        input: Input,
    ) -> Self {
        Self {
            name: name.into(),
            label: label.into(),
            hint: hint.into(),
            input,
            value: String::new(),
            required: false,
            errors: Vec::new(),
        }
    }

    pub(super) fn required(self, required: bool) -> Self {
        Self { required, ..self }
    }

    pub(super) fn with(self, value: impl Into<String>) -> Self {
        Self { value: value.into(), ..self }
    }

    /// The id of its element. A name may have characters that ids of elements have not.
    pub(super) fn id(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' };
        format!("f-{}", self.name.chars().map(plain).collect::<String>())
    }

    /// Takes what was typed. A secret is not shown again.
    pub(super) fn typed(&mut self, form: &Values) {
        if self.input != Input::Secret {
            self.value = match self.input {
                Input::Area => form.lines(&self.name),
                Input::Text | Input::Number | Input::Secret | Input::Choice(_) => form.text(&self.name).to_owned(),
            };
        }
    }
}

/// Shows each error next to its field: the field of the same name, or the one that contains it. Returns the others, to
/// be shown at the top of the form.
pub(super) fn place<'f>(errors: Vec<FieldError>, fields: impl IntoIterator<Item = &'f mut Field>) -> Vec<String> {
    let mut fields: Vec<&mut Field> = fields.into_iter().collect();
    let mut rest = Vec::new();
    for error in errors {
        let fits = |field: &Field| {
            let inner = error.field.strip_prefix(field.name.as_str());
            inner.is_some_and(|inner| inner.is_empty() || inner.starts_with(['.', '[']))
        };
        match fields.iter_mut().filter(|field| fits(field)).max_by_key(|field| field.name.len()) {
            Some(field) => field.errors.push(super::view::sentence(&error.message)),
            None => rest.push(super::view::sentence(&error.text())),
        }
    }
    rest
}

/// The errors that a form shows; every other error is a page of its own. `named` is the field of a name that is taken.
pub(super) fn shown(error: Error, named: &str) -> Result<Vec<FieldError>, Error> {
    if let Error::Invalid(errors) = error {
        return Ok(errors);
    }
    let Error::Conflict(conflict) = error else { return Err(error) };
    let field = if conflict == control::error::Conflict::NameTaken { named } else { "" };
    Ok(vec![FieldError::new(field, conflict.detail())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_at_the_field_that_contains_it_most_closely() {
        let field = |name: &str| Field::new(name, "", "", Input::Text);
        let mut fields = [field("config.key"), field("config.quarantine"), field("config.quarantine.body_bytes")];
        let error = |name: &str| FieldError::new(name, "is wrong");
        let rest = place(
            ["config.key.header", "config.quarantine.body_bytes", "config.keys", ""].map(error).to_vec(),
            fields.iter_mut(),
        );
        assert_eq!(fields.each_ref().map(|field| field.errors.len()), [1, 0, 1]);
        assert_eq!(rest, ["Config.keys: is wrong.", "Is wrong."]);
    }

    #[test]
    fn a_secret_that_was_typed_is_not_shown_again() {
        let form = Values::default();
        let mut secret = Field::new("secret", "", "", Input::Secret).with("x");
        secret.typed(&form);
        assert_eq!(secret.value, "x", "only what the page itself has set");
        assert_eq!(Field::new("config.key a", "", "", Input::Text).id(), "f-config-key-a");
    }
}
