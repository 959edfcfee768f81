//! Collects the errors of a request's fields, so that the caller gets all of them at once.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};

use super::error::Error;

pub use super::field_error::FieldError;

/// Reads a value only from a JSON object. Serde also reads a derived struct from an array of its fields in order. No
/// caller means that, and the meaning would change with the order of the fields.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
    }
}

/// Reads a field that is an object; for `#[serde(deserialize_with = …)]`.
pub(super) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// Like [`object`], for a field that may be null. With `#[serde(default)]` it may be omitted.
pub(super) fn optional_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(value)| value))
}

/// A whole number. It may have a fraction of zero: JSON Schema accepts `340.0` as an integer, and some languages write
/// it that way.
struct Whole(i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Number::deserialize(deserializer)?;
        whole_of(&number).map(Self).ok_or_else(|| D::Error::custom(format!("must be a whole number, but is {number}")))
    }
}

fn whole_of(number: &Number) -> Option<i64> {
    let exact = |number: &f64| number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| number.as_f64().filter(exact).and_then(|number| format!("{number:.0}").parse().ok()))
}

/// Reads a field that is a whole number; for `#[serde(deserialize_with = …)]`.
pub(super) fn whole<'de, T: TryFrom<i64>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let Whole(number) = Whole::deserialize(deserializer)?;
    T::try_from(number)
        .map_err(|_| D::Error::custom(format!("must be a whole number within its range, but is {number}")))
}

/// Like [`whole`], for a field that may be null. With `#[serde(default)]` it may be omitted.
pub(super) fn optional_whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(Option::<Whole>::deserialize(deserializer)?.map(|Whole(number)| number))
}

/// Writes every whole number in a value without a fraction.
pub(super) fn without_zero_fractions(value: Value) -> Value {
    match value {
        Value::Number(number) => whole_of(&number).map_or(Value::Number(number), Value::from),
        Value::Array(values) => values.into_iter().map(without_zero_fractions).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, without_zero_fractions(value))).collect()
        }
        Value::Null | Value::Bool(_) | Value::String(_) => value,
    }
}

/// Why JSON could not be read as the expected type.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The text is not JSON.
    Syntax(serde_json::Error),
    /// The text is JSON, but this field is invalid.
    Field(FieldError),
}

/// Reads a JSON object.
///
/// # Errors
/// Returns the invalid field, or a syntax error if the text is not JSON.
pub(crate) fn deserialize<'de, T: DeserializeOwned>(
    deserializer: impl Deserializer<'de, Error = serde_json::Error>,
) -> Result<T, Unread> {
    let read = serde_path_to_error::deserialize(deserializer).map(|Object(value)| value);
    read.map_err(|error| {
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

/// Reads the settings that a patch has been merged into, with the same errors as for settings that are given as a
/// whole.
///
/// # Errors
/// Returns the invalid field.
pub(crate) fn read<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    deserialize(value).map_err(|unread| match unread {
        Unread::Field(error) => Error::Invalid(vec![error]),
        Unread::Syntax(error) => Error::Internal(error.to_string()),
    })
}

/// Collects problems, so that the caller gets all of them at once.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<FieldError>);

impl Problems {
    pub(super) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError::new(field, message));
    }

    /// Adds the problems of an object, which is the value of `field`.
    pub(super) fn add_of(&mut self, field: &str, problems: Self) {
        let inside = |error: FieldError| FieldError { field: format!("{field}.{}", error.field), ..error };
        self.0.extend(problems.0.into_iter().map(inside));
    }

    pub(super) fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// Returns `number` if it is in its range, and otherwise adds a problem.
    pub(super) fn range(&mut self, field: &str, number: i64, least: i32, most: i32) -> Option<i32> {
        let found = i32::try_from(number).ok().filter(|number| (least..=most).contains(number));
        if found.is_none() {
            self.add(field, format!("must be from {least} to {most}, but is {number}"));
        }
        found
    }

    /// The object that a field names. If it does not exist, a problem is added.
    ///
    /// # Errors
    /// Returns every other error unchanged.
    pub(super) fn named<T>(&mut self, field: &str, text: &str, found: Result<T, Error>) -> Result<Option<T>, Error> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound(noun)) => {
                self.add(field, format!("there is no {noun} \"{text}\"; use the id or name of an existing {noun}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a problem was noted.
    pub(super) fn has_any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Returns the problems as an error, if there are any.
    pub(super) fn finish(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }

    /// Like [`Problems::finish`], but returns the value that was read. It is `Some` if there are no problems.
    pub(super) fn finish_with<T>(self, read: Option<T>) -> Result<T, Error> {
        self.finish()?;
        read.ok_or_else(|| Error::Internal("a value is missing and no problem was noted".to_owned()))
    }
}

/// The invalid fields.
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
    fn an_invalid_query_parameter_is_named() {
        assert_eq!(FieldError::of_serde("limit", "invalid digit found in string").field, "limit");
        assert_eq!(FieldError::of_serde("", "unknown field `colour`, expected `limit` or `cursor`").field, "colour");
    }

    #[test]
    fn a_whole_number_may_have_a_fraction_of_zero() {
        let read = |text: &str| whole::<u32, _>(&mut serde_json::Deserializer::from_str(text)).ok();
        for (text, number) in [("340", Some(340)), ("340.0", Some(340)), ("3.4e2", Some(340)), ("0", Some(0))] {
            assert_eq!(read(text), number, "{text}");
        }
        for text in ["340.5", "-1", "4294967296", "1e300", "\"340\"", "null"] {
            assert_eq!(read(text), None, "{text}");
        }
        let value = serde_json::json!({"a": [1.0, 2.5], "b": "3.0"});
        assert_eq!(without_zero_fractions(value), serde_json::json!({"a": [1, 2.5], "b": "3.0"}));
    }

    #[test]
    fn out_of_range_numbers_and_missing_objects_are_noted_and_other_errors_are_returned() {
        let mut problems = Problems::default();
        assert_eq!((problems.range("a", 5, 1, 5), problems.range("b", 6, 1, 5)), (Some(5), None));
        let missing = problems.named::<()>("c", "x", Err(Error::NotFound(super::super::error::Noun::Source)));
        assert!(matches!(missing, Ok(None)));
        assert!(problems.named::<()>("d", "x", Err(Error::Internal(String::new()))).is_err());
        let errors = wrong_fields(problems.finish());
        assert_eq!(
            errors.iter().map(FieldError::text).collect::<Vec<_>>(),
            [
                "b: must be from 1 to 5, but is 6",
                "c: there is no source \"x\"; use the id or name of an existing source"
            ]
        );
    }
}
