//! Templates: literal text with references in braces, such as `{h:webhook-id}.{h:webhook-timestamp}.{body}`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::reference::{ParseReferenceError, Reference};

/// A parsed template. A `{` that is followed by a lower-case letter begins a reference; any other `{` is literal text,
/// so that JSON can be written as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Literal(String),
    Reference(Reference),
}

/// A text that is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTemplateError {
    #[error("the reference that begins at \"{0}\" has no closing brace")]
    Open(String),
    #[error(transparent)]
    Reference(#[from] ParseReferenceError),
}

impl Template {
    /// A template that is one reference and nothing else.
    #[must_use]
    pub fn of(reference: Reference) -> Self {
        Self { text: format!("{{{reference}}}"), parts: vec![Part::Reference(reference)] }
    }

    /// Its pieces, in order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Every reference in it, in order.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.parts.iter().filter_map(|part| match part {
            Part::Reference(reference) => Some(reference),
            Part::Literal(_) => None,
        })
    }
}

impl FromStr for Template {
    type Err = ParseTemplateError;

    fn from_str(text: &str) -> Result<Self, ParseTemplateError> {
        let mut parts = Vec::new();
        let mut literal_from = 0;
        let mut at = 0;
        while let Some(brace) = text[at..].find('{').map(|offset| at + offset) {
            let inner = &text[brace + 1..];
            if !inner.starts_with(|first: char| first.is_ascii_lowercase()) {
                at = brace + 1;
                continue;
            }
            let (name, _) = inner.split_once('}').ok_or_else(|| ParseTemplateError::Open(text[brace..].to_owned()))?;
            push_literal(&mut parts, &text[literal_from..brace]);
            parts.push(Part::Reference(name.parse()?));
            at = brace + name.len() + 2;
            literal_from = at;
        }
        push_literal(&mut parts, &text[literal_from..]);
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn push_literal(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Literal(text.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<Part> {
        text.parse::<Template>().expect("parses").parts
    }

    fn literal(text: &str) -> Part {
        Part::Literal(text.to_owned())
    }

    fn reference(text: &str) -> Part {
        Part::Reference(text.parse().expect("parses"))
    }

    #[test]
    fn literals_and_references_alternate() {
        assert_eq!(
            parts("v0:{h:x-time}:{body}"),
            [literal("v0:"), reference("h:x-time"), literal(":"), reference("body")]
        );
        assert_eq!(parts("{body}"), [reference("body")]);
        assert_eq!(parts(""), []);
    }

    #[test]
    fn braces_of_json_are_literal() {
        assert_eq!(
            parts("{\"token\":\"{json:token}\",\"o\":{}}"),
            [literal("{\"token\":\""), reference("json:token"), literal("\",\"o\":{}}")]
        );
        assert_eq!(parts("{ {body}"), [literal("{ "), reference("body")]);
    }

    #[test]
    fn a_reference_that_names_nothing_or_does_not_end_is_refused() {
        assert!(matches!("{bdy}".parse::<Template>(), Err(ParseTemplateError::Reference(_))));
        assert_eq!("a{body".parse::<Template>(), Err(ParseTemplateError::Open("{body".to_owned())));
    }
}
