//! The place of a value in a request, as one line of text: `header x-id`, `pointer /data/id`, `query id`, or a template.

use serde_json::{Map, Value};

const KINDS: [&str; 3] = ["header", "pointer", "query"];

/// The place of a source's config as a line.
pub(super) fn line(value: &Value) -> String {
    if let Some(text) = value.as_str() {
        return text.to_owned();
    }
    let named = KINDS.iter().find_map(|kind| Some(format!("{kind} {}", value[*kind].as_str()?)));
    named.unwrap_or_default()
}

/// The change of the config that makes it this place: null resets it to its default. The places that an earlier value
/// named are removed, because a patch merges objects.
pub(super) fn patch(line: &str) -> Value {
    let line = line.trim();
    if line.is_empty() {
        return Value::Null;
    }
    let named = line.split_once(char::is_whitespace).and_then(|(kind, name)| {
        let kind = KINDS.iter().find(|known| **known == kind)?;
        let part = |of: &&str| if of == kind { Value::from(name.trim()) } else { Value::Null };
        Some(KINDS.iter().map(|of| ((*of).to_owned(), part(of))).collect::<Map<_, _>>())
    });
    named.map_or_else(|| Value::from(line), Value::Object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_place_is_a_line_and_the_line_is_the_place() {
        for (value, text) in [
            (json!({ "header": "x-id" }), "header x-id"),
            (json!({ "pointer": "/data/id" }), "pointer /data/id"),
            (json!({ "query": "a b" }), "query a b"),
            (json!("{json:id}-{h:x}"), "{json:id}-{h:x}"),
            (json!("none"), "none"),
        ] {
            assert_eq!(line(&value), text);
            let mut patched = patch(text);
            if let Value::Object(fields) = &mut patched {
                assert_eq!(fields.len(), 3, "the places of an earlier value are removed");
                fields.retain(|_, value| !value.is_null());
            }
            assert_eq!(patched, value);
        }
        assert_eq!((line(&Value::Null), patch("  ")), (String::new(), Value::Null));
    }
}
