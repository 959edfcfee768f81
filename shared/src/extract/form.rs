//! Forms, read as if they were JSON: the same references then name their fields.

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::header::HeaderList;

/// The field that holds the whole of an event as JSON where it is the only one: so Slack sends interactions, and GitHub
/// what it is asked to send as a form.
const PAYLOAD: &str = "payload";

/// The fields of a body of the type `application/x-www-form-urlencoded`, or what its `payload` holds. `None` where it is no
/// form, which includes JSON whatever its type: no signature covers the type, and whoever sends an event a second time
/// must not hide its id with another one.
pub(crate) fn read(headers: &HeaderList, body: &[u8]) -> Option<Value> {
    let content_type = headers.get("content-type")?.split(';').next()?.trim();
    if !content_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        || serde_json::from_slice::<IgnoredAny>(body).is_ok()
    {
        return None;
    }
    let mut fields = Map::new();
    for (name, value) in form_urlencoded::parse(body) {
        // What stands twice has no value that could be told.
        let value = if fields.contains_key(&*name) { Value::Null } else { value.into() };
        fields.insert(name.into_owned(), value);
    }
    let payload = fields.get(PAYLOAD).filter(|_| fields.len() == 1).and_then(Value::as_str);
    Some(payload.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Object(fields)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(content_type: &str, body: &str) -> Option<Value> {
        read(&HeaderList::new([("Content-Type", content_type)]), body.as_bytes())
    }

    const FORM: &str = "application/x-www-form-urlencoded";

    #[test]
    fn fields_are_decoded_and_what_stands_twice_has_no_value() {
        assert_eq!(of(FORM, "a=%2Fx+y&b=&a%20c=%C3%A9"), Some(json!({"a": "/x y", "b": "", "a c": "é"})));
        assert_eq!(of("Application/X-WWW-Form-Urlencoded; charset=utf-8", "a=1"), Some(json!({"a": "1"})));
        assert_eq!(of(FORM, "a=1&b=2&a=3"), Some(json!({"a": null, "b": "2"})));
    }

    #[test]
    fn a_payload_alone_is_the_event_and_beside_others_a_field() {
        assert_eq!(of(FORM, "payload=%7B%22type%22%3A%22a%22%7D"), Some(json!({"type": "a"})));
        assert_eq!(of(FORM, "payload=%7B%7D&x=1"), Some(json!({"payload": "{}", "x": "1"})));
        assert_eq!(of(FORM, "payload=text"), Some(json!({"payload": "text"})));
    }

    #[test]
    fn what_is_no_form_is_read_as_it_is() {
        for (content_type, body) in [("text/plain", "a=1"), ("", "a=1"), (FORM, "{\"id\":1}"), (FORM, " [1]\n")] {
            assert_eq!(of(content_type, body), None, "{content_type} {body}");
        }
        assert_eq!(read(&HeaderList::default(), b"a=1"), None);
    }
}
