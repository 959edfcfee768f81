//! The Worker's log: one line of JSON for each entry, with a constant message. Workers Logs indexes its fields.

use std::fmt::Display;

use serde_json::{Map, Value};

/// The name and the value of a field.
type Field<'a> = (&'static str, &'a dyn Display);

/// Logs a failure that an operator has to know about.
pub(crate) fn error(message: &'static str, fields: &[Field<'_>]) {
    worker::console_error!("{}", line(message, fields));
}

/// Logs a fault that loses nothing acknowledged.
pub(crate) fn warn(message: &'static str, fields: &[Field<'_>]) {
    worker::console_warn!("{}", line(message, fields));
}

fn line(message: &'static str, fields: &[Field<'_>]) -> Value {
    let mut line = Map::new();
    line.insert("message".to_owned(), message.into());
    line.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string().into())));
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_whatever_a_field_contains() {
        let line = line("a message could not be sent to the queue", &[("error", &"a \"quoted\"\nline")]).to_string();
        assert!(!line.contains('\n'), "{line}");
        let read: Value = serde_json::from_str(&line).expect("is JSON");
        assert_eq!(read["message"], "a message could not be sent to the queue");
        assert_eq!(read["error"], "a \"quoted\"\nline");
    }
}
