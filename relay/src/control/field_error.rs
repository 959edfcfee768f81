//! Errors of single fields of a request.

use serde::Serialize;
use utoipa::ToSchema;

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The field, such as `rate_limit.per`; empty for the request as a whole.
    pub field: String,
    /// What is wrong and how to fix it.
    pub message: String,
    /// The stable code of the part of Tidegate that refused the field, if it has one.
    #[serde(skip)]
    pub code: Option<&'static str>,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), code: None }
    }

    /// Like [`FieldError::new`], with the stable code of the part of Tidegate that refused the field.
    pub(crate) fn with_code(field: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), code: Some(code) }
    }

    /// The field and the message, in one text.
    pub(crate) fn text(&self) -> String {
        if self.field.is_empty() { self.message.clone() } else { format!("{}: {}", self.field, self.message) }
    }

    /// Converts an error of serde. If serde's path ends at the object that contains the field, the name of the field is
    /// taken from the message.
    pub(crate) fn of_serde(path: &str, text: &str) -> Self {
        let inside = |name: &str| if matches!(path, "" | ".") { name.to_owned() } else { format!("{path}.{name}") };
        let quoted = |rest: &'_ str| rest.split_once('`').map(|(name, rest)| (name.to_owned(), rest.to_owned()));
        if let Some((name, _)) = text.strip_prefix("missing field `").and_then(quoted) {
            return Self::new(inside(&name), "is required");
        }
        if let Some((name, rest)) = text.strip_prefix("unknown field `").and_then(quoted) {
            let known = rest.strip_prefix(", expected ").unwrap_or("");
            let known = known.strip_prefix("one of ").unwrap_or(known);
            // serde's path may already end with the unknown field.
            let field =
                if path == name || path.ends_with(&format!(".{name}")) { path.to_owned() } else { inside(&name) };
            return Self::new(
                field,
                format!("is not a known field; known fields: {}", known.replace("` or `", "`, `").replace('`', "")),
            );
        }
        if text == "invalid digit found in string" {
            return Self::new(path, "must be a whole number");
        }
        let field = if path == "." { "" } else { path };
        let kinds = text.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "));
        let text = match kinds {
            Some((found, expected)) => {
                let subject = if field.is_empty() { "the request body " } else { "" };
                format!("{subject}must be {}, but is {}", expected_kind(expected), found_kind(found))
            }
            None => text.to_owned(),
        };
        Self::new(field, text.replace('`', "\""))
    }
}

/// The expected kind, in the terms of JSON.
fn expected_kind(expected: &str) -> &str {
    match expected {
        "a sequence" => "an array",
        "a map" => "an object",
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" => "a whole number",
        "f32" | "f64" => "a number",
        other => other,
    }
}

/// The kind that serde found, in the terms of JSON.
fn found_kind(found: &str) -> String {
    let value = |kind: &str| found.strip_prefix(kind).map(str::to_owned);
    match found {
        "sequence" => "an array".to_owned(),
        "map" => "an object".to_owned(),
        _ => value("string ")
            .or_else(|| value("boolean "))
            .or_else(|| value("integer "))
            .or_else(|| value("floating point "))
            .unwrap_or_else(|| found.to_owned()),
    }
}
