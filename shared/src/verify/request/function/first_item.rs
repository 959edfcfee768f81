//! The bytes of the first item of a list: of a batch, Segment signs `JSON.stringify` of its first event
//! (segment-docs, `connections/destinations/catalog/actions-webhook`).

/// The first item of a body that is a list of objects, as it is written there. `None` if the body is anything else.
pub(super) fn of(body: &[u8]) -> Option<&str> {
    let inside = body.trim_ascii_start().strip_prefix(b"[")?.trim_ascii_start();
    let end = end_of_object(inside)?;
    let rest = inside.get(end..)?.trim_ascii_start();
    matches!(rest.first(), Some(b',' | b']')).then_some(())?;
    std::str::from_utf8(inside.get(..end)?).ok()
}

/// The end of the object that begins with the first byte. Brackets are counted and the content is not parsed, so depth
/// costs nothing.
fn end_of_object(text: &[u8]) -> Option<usize> {
    (text.first() == Some(&b'{')).then_some(())?;
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_first_object_of_a_list_is_given_as_it_is_written() {
        for (body, first) in [
            (r#"[{"a":1},{"b":2}]"#, r#"{"a":1}"#),
            (" [ {\"a\": [1, {}]} ]", "{\"a\": [1, {}]}"),
            (r#"[{"a":"}],\"{"},1]"#, r#"{"a":"}],\"{"}"#),
            (r#"[{"a\\":"\\"}]"#, r#"{"a\\":"\\"}"#),
            ("[{\"a\":\"\u{e9}\"},{}]", "{\"a\":\"\u{e9}\"}"),
        ] {
            assert_eq!(of(body.as_bytes()), Some(first), "{body}");
        }
        let deep = format!("[{{\"a\":{}1{}}}]", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(of(deep.as_bytes()).map(str::len), Some(deep.len() - 2));
    }

    #[test]
    fn a_body_that_is_not_a_list_of_objects_has_no_first_item() {
        for body in ["", "{}", "[]", "[1]", "[\"{}\"]", "[{\"a\":1}", "[{\"a\":1", "[{\"a\":\"]", "[{}x]", "[{\"\\"] {
            assert_eq!(of(body.as_bytes()), None, "{body}");
        }
        assert_eq!(of(b"[{\"a\":\"\xff\"}]"), None, "it is no text");
    }

    /// JSON with texts that look like its structure.
    fn values() -> impl Strategy<Value = Value> {
        let text = || r#"[\[\]{}",:\\a\u{e9}]{0,6}"#;
        let leaf = text().prop_map(Value::from);
        leaf.prop_recursive(4, 24, 4, move |inner| {
            let list = prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from);
            let object = prop::collection::btree_map(text(), inner, 0..4);
            prop_oneof![list, object.prop_map(|map| Value::Object(map.into_iter().collect()))]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_first_is_found_whatever_is_in_it(values in prop::collection::vec(values(), 1..4), pretty: bool) {
            let write = |value: &Value| if pretty { format!("{value:#}") } else { value.to_string() };
            let body = write(&Value::from(values.clone()));
            let items: Vec<&serde_json::value::RawValue> = serde_json::from_str(&body).expect("a list");
            let first = items[0].get();
            prop_assert_eq!(of(body.as_bytes()), values[0].is_object().then_some(first));
        }
    }
}
