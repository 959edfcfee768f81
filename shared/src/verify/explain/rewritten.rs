//! The form in which most senders write their JSON, from a rewritten one.

use serde::de::IgnoredAny;

/// The same JSON without white space between its tokens and with as few escapes in its texts as possible, with names in
/// their order and numbers as they are written. `None` if the body is not JSON.
pub(super) fn compact(body: &[u8]) -> Option<Vec<u8>> {
    serde_json::from_slice::<IgnoredAny>(body).ok()?;
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(&first) = rest.first() {
        let is_text = first == b'"';
        let (token, next) = rest.split_at_checked(if is_text { text_length(rest) } else { 1 })?;
        if is_text {
            let text: String = serde_json::from_slice(token).ok()?;
            serde_json::to_writer(&mut out, &text).ok()?;
        } else if !first.is_ascii_whitespace() {
            out.push(first);
        }
        rest = next;
    }
    Some(out)
}

/// The length of a text in valid JSON with both of its quotes.
fn text_length(json: &[u8]) -> usize {
    let mut escaped = false;
    for (at, byte) in json.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Option<String> {
        compact(body.as_bytes()).map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    #[test]
    fn white_space_between_tokens_goes_and_that_in_texts_stays() {
        assert_eq!(
            of("\t{ \"a b\" : [ 1 , -2.50e+3 , true , null ] }\r\n").as_deref(),
            Some(r#"{"a b":[1,-2.50e+3,true,null]}"#)
        );
        assert_eq!(of(r#"{"a":" \" , : \\","b":""}"#).as_deref(), Some(r#"{"a":" \" , : \\","b":""}"#));
        assert_eq!(of(" \"x\" ").as_deref(), Some("\"x\""));
    }

    #[test]
    fn escapes_that_json_can_do_without_go() {
        assert_eq!(of(r#""\u00e9\/\u0041\ud83d\ude00""#).as_deref(), Some("\"é/A😀\""));
        assert_eq!(of(r#""\u0001\u000a\t""#).as_deref(), Some(r#""\u0001\n\t""#));
    }

    #[test]
    fn a_body_that_is_not_json_has_no_other_form() {
        for body in ["", "{", "{\"a\":1}}", "a=1", "\"a", "{\"a\" 1}"] {
            assert_eq!(of(body), None, "{body}");
        }
        assert_eq!(compact(b"\"\xff\""), None);
    }
}
