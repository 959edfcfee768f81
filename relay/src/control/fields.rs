//! What is wrong with the fields of a request, collected so that a caller learns of everything at once.

use serde::Deserializer;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::Error;
pub use super::field_error::FieldError;

/// Why JSON cannot be read as what it has to be.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It is not JSON.
    Syntax(serde_json::Error),
    /// It is JSON, and this field of it is wrong.
    Field(FieldError),
}

/// Reads JSON.
///
/// # Errors
/// Returns the field that is wrong, if it is JSON at all.
pub(crate) fn deserialize<'de, T: DeserializeOwned>(
    deserializer: impl Deserializer<'de, Error = serde_json::Error>,
) -> Result<T, Unread> {
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        if !error.is_data() {
            return Unread::Syntax(error);
        }
        let text = error.to_string();
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        Unread::Field(FieldError::of_serde(&path, text))
    })
}

/// Reads the settings that a patch has been merged into, with the same errors as for those that are given as a whole.
///
/// # Errors
/// Returns the field that is wrong.
pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    deserialize(value).map_err(|unread| match unread {
        Unread::Field(error) => Error::Invalid(vec![error]),
        Unread::Syntax(error) => Error::Internal(error.to_string()),
    })
}

/// Collects what is wrong, so that a caller learns of everything at once.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<FieldError>);

impl Problems {
    pub(super) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError::new(field, message));
    }

    pub(super) fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// Adds a problem unless `number` is in its range, and hands it back if it is.
    pub(super) fn range(&mut self, field: &str, number: i64, least: i32, most: i32) -> Option<i32> {
        let found = i32::try_from(number).ok().filter(|number| (least..=most).contains(number));
        if found.is_none() {
            self.add(field, format!("is {number}; give {least} to {most}"));
        }
        found
    }

    /// What a field names; if that does not exist, it is noted.
    ///
    /// # Errors
    /// Returns every other error as it is.
    pub(super) fn named<T>(&mut self, field: &str, text: &str, found: Result<T, Error>) -> Result<Option<T>, Error> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound(noun)) => {
                self.add(field, format!("there is no {noun} \"{text}\"; give its id or name"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Goes on if nothing is wrong.
    pub(super) fn finish(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }

    /// As [`Problems::finish`], with what was read in the meantime; it is there if nothing is wrong.
    pub(super) fn finish_with<T>(self, read: Option<T>) -> Result<T, Error> {
        self.finish()?;
        read.ok_or_else(|| Error::Internal("a value is missing and no problem was noted".to_owned()))
    }
}

/// The fields that are wrong.
#[cfg(test)]
pub(super) fn wrong_fields<T>(result: Result<T, Error>) -> Vec<FieldError> {
    match result {
        Err(Error::Invalid(errors)) => errors,
        Ok(_) => Vec::new(),
        Err(error) => panic!("{error:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_of_a_query_is_named() {
        assert_eq!(FieldError::of_serde("limit", "invalid digit found in string").field, "limit");
        assert_eq!(FieldError::of_serde("", "unknown field `colour`, expected `limit` or `cursor`").field, "colour");
    }

    #[test]
    fn what_is_out_of_range_or_not_there_is_noted_and_other_errors_go_on() {
        let mut problems = Problems::default();
        assert_eq!((problems.range("a", 5, 1, 5), problems.range("b", 6, 1, 5)), (Some(5), None));
        let missing = problems.named::<()>("c", "x", Err(Error::NotFound(super::super::error::Noun::Source)));
        assert!(matches!(missing, Ok(None)));
        assert!(problems.named::<()>("d", "x", Err(Error::Internal(String::new()))).is_err());
        let errors = wrong_fields(problems.finish());
        assert_eq!(
            errors.iter().map(FieldError::text).collect::<Vec<_>>(),
            ["b: is 6; give 1 to 5", "c: there is no source \"x\"; give its id or name"]
        );
    }
}
