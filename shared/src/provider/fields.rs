//! Reads the JSON object that an owner wrote, and collects all its problems.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::{Map, Value};

/// A problem of a source's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigProblem {
    /// The field, such as `tolerance_s` or `acknowledgement.status`; `secrets` for a secret.
    pub field: String,
    /// The fault, and how to fix it.
    pub problem: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

/// The fields of an object; a field that is null counts as absent.
pub(crate) struct Fields<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
    problems: Vec<ConfigProblem>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(value: &'a Value) -> Self {
        let mut fields = Self { path: String::new(), map: value.as_object(), problems: Vec::new() };
        if fields.map.is_none() && !value.is_null() {
            fields.problem("config", "must be an object, such as {\"tolerance_s\": 300}");
        }
        fields
    }

    /// Refuses every field that is not one of `known`.
    pub(crate) fn only<'k>(&mut self, known: impl IntoIterator<Item = &'k str>) {
        let known: Vec<_> = known.into_iter().collect();
        let names = self.map.into_iter().flat_map(Map::keys);
        for name in names.filter(|name| !known.contains(&name.as_str())).collect::<Vec<_>>() {
            self.problem(name, format!("is unknown; expected one of {}", known.join(", ")));
        }
    }

    pub(crate) fn value(&self, name: &str) -> Option<&'a Value> {
        self.map?.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&mut self, name: &str) -> Option<&'a str> {
        let value = self.value(name)?;
        if value.as_str().is_none() {
            self.problem(name, "must be a string");
        }
        value.as_str()
    }

    pub(crate) fn integer(&mut self, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.value(name)?;
        let number = value.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            self.problem(name, format!("must be a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }

    pub(crate) fn truth(&mut self, name: &str) -> Option<bool> {
        let value = self.value(name)?;
        if value.as_bool().is_none() {
            self.problem(name, "must be true or false");
        }
        value.as_bool()
    }

    /// The value of the one of `choices` that is named.
    pub(crate) fn choice<T: Copy>(&mut self, name: &str, text: &str, choices: &[(&str, T)]) -> Option<T> {
        let chosen = choices.iter().find(|(choice, _)| *choice == text).map(|(_, value)| *value);
        if chosen.is_none() {
            let choices: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
            self.problem(name, format!("\"{text}\" is not one of {}", choices.join(", ")));
        }
        chosen
    }

    /// Reads an object inside this one; its problems are named `outer.inner`.
    pub(crate) fn inside<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let value = self.value(name)?;
        let Some(map) = value.as_object() else {
            self.problem(name, "must be an object");
            return None;
        };
        let problems = std::mem::take(&mut self.problems);
        let mut inner = Self { path: format!("{}{name}.", self.path), map: Some(map), problems };
        let read = read(&mut inner);
        self.problems = inner.problems;
        Some(read)
    }

    pub(crate) fn problem(&mut self, name: &str, problem: impl Into<String>) {
        self.problems.push(ConfigProblem { field: format!("{}{name}", self.path), problem: problem.into() });
    }

    /// The result, unless there are problems.
    pub(crate) fn finish<T>(self, read: Option<T>) -> Result<T, Vec<ConfigProblem>> {
        match read {
            Some(read) if self.problems.is_empty() => Ok(read),
            Some(_) | None => Err(self.problems),
        }
    }
}
