use serde_json::{Value as Plain, json};

use super::coding::gzip;
use super::*;

const FORM: &str = "application/x-www-form-urlencoded";
const LIMIT: usize = 10_000;

/// The content as a value of `serde_json`, numbers that it cannot hold as text; a text that is no document as `"text: …"`.
fn shown(content: &Content<'_>) -> Plain {
    match content {
        Content::Document(document) => plain(document.root()),
        Content::Text(text) => json!(format!("text: {text}")),
        Content::Nothing => json!("nothing"),
        Content::TooDeep => json!("too deep"),
        Content::TooLarge => json!("too large"),
    }
}

fn plain(json: Json<'_>) -> Plain {
    match json.value() {
        Value::Null => Plain::Null,
        Value::Bool(truth) => json!(truth),
        Value::Number(digits) => serde_json::from_str(digits).unwrap_or_else(|_| json!(format!("number: {digits}"))),
        Value::String(text) => json!(text),
        Value::Array => json.items().expect("an array").map(plain).collect(),
        Value::Object => {
            let mut map = serde_json::Map::new();
            let mut depth = 0;
            for step in json.walk().skip(1) {
                match step {
                    Step::Name(name) if depth == 0 => {
                        map.insert(name.to_owned(), plain(json.get(name).expect("is there")));
                    }
                    Step::Value(Value::Array | Value::Object) => depth += 1,
                    Step::End => depth -= 1,
                    Step::Name(_) | Step::Value(_) => {}
                }
            }
            Plain::Object(map)
        }
    }
}

fn of(headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Plain {
    shown(&read(&HeaderList::new(headers.iter().copied()), body.as_ref(), LIMIT))
}

fn of_type(content_type: &str, body: impl AsRef<[u8]>) -> Plain {
    of(&[("Content-Type", content_type)], body)
}

#[test]
fn json_is_read_as_it_is() {
    for body in [
        "null",
        "true",
        " [ ] ",
        "{}",
        r#"{"a":{"b":[1,2.5,{"c":"x"}],"d":false},"e":"","":[[],{}]}"#,
        r#"["\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é😀","\u0000"]"#,
        "[-0.5,1e3,1E-3,0,9223372036854775807,18446744073709551615]",
        "\t{\r\n\"a\" : 1 ,\n\"a\":2}\n",
    ] {
        assert_eq!(of(&[], body), serde_json::from_str::<Plain>(body).expect("JSON"), "{body}");
    }
}

#[test]
fn half_of_a_surrogate_pair_becomes_the_replacement_character() {
    assert_eq!(of(&[], r#"{"a":"x\ud83dy","id":"1"}"#), json!({"a": "x\u{fffd}y", "id": "1"}));
    assert_eq!(
        of(&[], r#"["\ude00","\ud83d","\ud83d\u0041","\ud83d\ud83d\ude00","\ud83d\n"]"#),
        json!(["\u{fffd}", "\u{fffd}", "\u{fffd}A", "\u{fffd}😀", "\u{fffd}\n"])
    );
    assert_eq!(of(&[], b"{\"a\":\"x\xffy\"}"), json!({"a": "x\u{fffd}y"}), "bytes that are no UTF-8");
}

#[test]
fn numbers_keep_their_digits() {
    let body = r#"{"a":36893488147419103233,"b":-1e400,"c":0.12345678901234567890,"d":1.50}"#;
    let content = read(&HeaderList::default(), body.as_bytes(), LIMIT).document().expect("JSON");
    let digits = |name| content.root().get(name).map(|json| json.value());
    assert_eq!(digits("a"), Some(Value::Number("36893488147419103233")));
    assert_eq!(digits("b"), Some(Value::Number("-1e400")));
    assert_eq!(digits("c"), Some(Value::Number("0.12345678901234567890")));
    assert_eq!(digits("d"), Some(Value::Number("1.50")));
    assert_eq!(of(&[], "[NaN,Infinity,-Infinity]"), json!(["number: NaN", "number: Infinity", "number: -Infinity"]));
}

#[test]
fn control_characters_may_stand_in_a_text() {
    assert_eq!(of(&[], "{\"a\":\"two\nlines\tand \u{1}\"}"), json!({"a": "two\nlines\tand \u{1}"}));
}

#[test]
fn a_body_that_is_not_json_is_text() {
    for body in [
        "{\"a\":1,}",
        "[1,]",
        "{'a':1}",
        "{a:1}",
        "// x\n{}",
        "{} {}",
        "{\"a\":1}x",
        "[1 2]",
        "{\"a\" 1}",
        "{\"a\"}",
        "{1:2}",
        "01",
        "1.",
        ".5",
        "1e",
        "1e+",
        "1E-",
        "+1",
        "--1",
        "-",
        "tru",
        "nul",
        "Inf",
        "\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\u12",
        "[",
        "{",
        "{\"a\":",
        "]",
        "}",
        "[}",
        "{]",
        "\u{a0}1",
        "1\0",
        "\"\\",
        "[\"a\"",
        "-Inf",
    ] {
        assert_eq!(of(&[], body), json!(format!("text: {body}")), "{body}");
        assert!(serde_json::from_str::<Plain>(body).is_err(), "{body}");
    }
    assert_eq!(of(&[], ""), json!("nothing"));
    assert_eq!(of(&[], b"\xff\xd8\xff\xe0"), json!("nothing"));
    assert_eq!(of_type("text/plain; charset=latin1", b"caf\xe9"), json!("text: café"));
}

#[test]
fn thousands_of_levels_are_read_and_more_are_not() {
    let nested = |levels: usize| format!("{}1{}", "[{\"a\":".repeat(levels / 2), "}]".repeat(levels / 2));
    let body = nested(MAX_LEVELS);
    let content = read(&HeaderList::default(), body.as_bytes(), LIMIT).document().expect("JSON");
    let deepest = content.root().pointer(&"/0/a".repeat(MAX_LEVELS / 2)).expect("is there");
    assert_eq!(deepest.value(), Value::Number("1"));
    assert_eq!(content.root().walk().filter(|step| *step == Step::End).count(), MAX_LEVELS);
    assert_eq!(of(&[], nested(MAX_LEVELS + 2)), json!("too deep"));
    assert_eq!(of(&[], "[".repeat(10_000_000)), json!("too deep"));
}

#[test]
fn a_pointer_leads_to_the_last_of_equal_names() {
    let body = br#"{"a":{"b":1},"a":{"~/":[10,{"c":true}]},"z":null}"#;
    let content = read(&HeaderList::default(), body, LIMIT).document().expect("JSON");
    let at = |pointer: &str| content.root().pointer(pointer).map(|json| plain(json));
    assert_eq!(at(""), Some(json!({"a": {"~/": [10, {"c": true}]}, "z": null})));
    assert_eq!(at("/a/~0~1/1/c"), Some(json!(true)));
    assert_eq!(at("/a/~0~1/0"), Some(json!(10)));
    assert_eq!(at("/z"), Some(Plain::Null));
    for nowhere in ["/a/b", "/a/~0~1/00", "/a/~0~1/2", "/a/~0~1/-", "/a/~0~1/+1", "/z/a", "a", "/b"] {
        assert_eq!(at(nowhere), None, "{nowhere}");
    }
}

#[test]
fn a_walk_passes_everything_in_order() {
    let content = read(&HeaderList::default(), br#"[{"a":[1],"b":"x"},[],{}]"#, LIMIT).document().expect("JSON");
    let value = Step::Value;
    let walked: Vec<_> = content.root().walk().collect();
    assert_eq!(
        walked,
        [
            value(Value::Array),
            value(Value::Object),
            Step::Name("a"),
            value(Value::Array),
            value(Value::Number("1")),
            Step::End,
            Step::Name("b"),
            value(Value::String("x")),
            Step::End,
            value(Value::Array),
            Step::End,
            value(Value::Object),
            Step::End,
            Step::End,
        ]
    );
    let inner: Vec<_> = content.root().pointer("/0/a").expect("is there").walk().collect();
    assert_eq!(inner, [value(Value::Array), value(Value::Number("1")), Step::End]);
}

#[test]
fn a_byte_order_mark_and_other_charsets_are_read() {
    let expected = json!({"a": "é"});
    let text = r#"{"a":"é"}"#;
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(of(&[], format!("\u{feff}{text}")), expected);
    assert_eq!(of(&[], &utf16), expected);
    assert_eq!(of_type("application/json; charset=\"utf-16le\"", &utf16), expected);
    assert_eq!(of_type("application/json;charset=ISO-8859-1", b"{\"a\":\"\xe9\"}"), expected);
    assert_eq!(of_type("application/json; charset=iso-8859-1", text), expected, "valid UTF-8 is UTF-8");
}

#[test]
fn content_encodings_are_undone_within_the_limit() {
    let expected = json!({"a": 1});
    let body = gzip(br#"{"a":1}"#);
    assert_eq!(of(&[("Content-Encoding", "gzip")], &body), expected);
    assert_eq!(of(&[], &body), expected);
    assert_eq!(of(&[("Content-Encoding", "gzip")], r#"{"a":1}"#), expected, "a proxy has decoded it");
    assert_eq!(of(&[("Content-Encoding", "gzip"), ("Content-Type", FORM)], gzip(b"a=1")), json!({"a": "1"}));
    assert_eq!(of(&[("Content-Encoding", "gzip"), ("Content-Type", FORM)], "a=1"), json!({"a": "1"}));
    assert_eq!(of(&[("Content-Encoding", "gzip")], gzip(b"plain")), json!("text: plain"));
    assert_eq!(of(&[("Content-Encoding", "gzip")], gzip(&[b' '; LIMIT + 1])), json!("too large"));
    assert_eq!(of(&[("Content-Encoding", "gzip")], gzip("[".repeat(MAX_LEVELS + 1).as_bytes())), json!("too deep"));
}

#[test]
fn json_in_utf_8_is_the_same_whatever_the_headers_say() {
    for headers in [
        [("Content-Type", FORM)],
        [("Content-Type", "multipart/form-data; boundary=a")],
        [("Content-Type", "application/json; charset=utf-16")],
        [("Content-Encoding", "gzip")],
        [("Content-Encoding", "br, deflate")],
    ] {
        assert_eq!(of(&headers, r#"{"id":"a=1&b"}"#), json!({"id": "a=1&b"}), "{headers:?}");
    }
}

#[test]
fn the_fields_of_a_form_are_an_object() {
    assert_eq!(of_type(FORM, "a=%2Fx+y&b=&a%20c=%C3%A9&d"), json!({"a": "/x y", "b": "", "a c": "é", "d": ""}));
    assert_eq!(of_type("Application/X-WWW-Form-Urlencoded ; charset=utf-8", "a=1"), json!({"a": "1"}));
    assert_eq!(
        of_type(FORM, "b=2&a=1&b=3&a=4&&c=%2&=x"),
        json!({"a": ["1", "4"], "b": ["2", "3"], "c": "%2", "": "x"})
    );
    assert_eq!(of_type(FORM, "a=%E9"), json!({"a": "\u{fffd}"}));
    assert_eq!(
        of_type("application/x-www-form-urlencoded; charset=windows-1252", "a=%E9%80&b=é"),
        json!({
            "a": "é€",
            "b": "é"
        })
    );
    assert_eq!(of_type("text/plain", "a=1"), json!("text: a=1"));
    let many = |fields: usize| of_type(FORM, "a&".repeat(fields));
    assert_eq!(many(form::MAX_FIELDS)["a"].as_array().map(Vec::len), Some(form::MAX_FIELDS));
    assert_eq!(many(form::MAX_FIELDS + 1), json!("too large"));
}

#[test]
fn a_payload_alone_is_the_event_and_with_others_a_field() {
    assert_eq!(of_type(FORM, "payload=%7B%22type%22%3A%22a%22%7D"), json!({"type": "a"}));
    assert_eq!(of_type(FORM, "payload=%7B%22a%22%3A%22%5Cud83d%22%7D"), json!({"a": "\u{fffd}"}));
    assert_eq!(of_type(FORM, "payload=%7B%7D&x=1"), json!({"payload": "{}", "x": "1"}));
    assert_eq!(of_type(FORM, "payload=text"), json!({"payload": "text"}));
}

#[test]
fn the_parts_of_a_multipart_form_are_an_object() {
    let kind = "multipart/form-data; charset=utf-8; boundary=\"x;y\"";
    let body = "preamble\r\n--x;y\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\r\ntwo\r\n--x;y \r\n\
                content-type: text/plain; charset=latin1\r\nContent-Disposition: form-data; name=b\r\n\r\n\r\n\
                --x;y\r\nContent-Disposition: form-data; filename=\"a; b.pdf\"; name=\"file\"\r\n\
                Content-Type: application/pdf\r\n\r\n%PDF--x;y\r\n--x;y\r\nContent-Disposition: form-data; name=\"b\"\n\n2\r\n\
                --x;y\r\nContent-Disposition: form-data\r\n\r\nno name\r\n--x;y--\r\nepilogue";
    let file = json!({"name": "file", "filename": "a; b.pdf", "type": "application/pdf", "size": 9});
    assert_eq!(of_type(kind, body), json!({"a": "one\r\ntwo", "b": ["", "2"], "file": file}));
    let part = "--b\r\nContent-Disposition: form-data; name=\"payload\"\r\n\r\n{\"event\":\"media.play\"}\r\n";
    let thumb = "--b\r\nContent-Disposition: form-data; name=\"thumb\"; filename=\"t.jpg\"\r\n\r\nJPEG\r\n";
    for whole in [format!("{part}--b--"), format!("{thumb}{part}--b--"), part.to_owned()] {
        assert_eq!(of_type("multipart/form-data; boundary=b", &whole), json!({"event": "media.play"}), "{whole}");
    }
    assert_eq!(of_type("multipart/form-data; boundary=b", "no part"), json!({}));
    assert_eq!(of_type("multipart/form-data", "no boundary"), json!("text: no boundary"));
}

#[test]
fn the_decoded_limit_is_in_proportion_to_the_body() {
    const KIB: usize = 1024;
    assert_eq!(
        [0, 2 * KIB, 10 * KIB, 128 * KIB, KIB * KIB].map(decoded_limit),
        [64 * KIB, 64 * KIB, 320 * KIB, 4 * KIB * KIB, 4 * KIB * KIB]
    );
}
