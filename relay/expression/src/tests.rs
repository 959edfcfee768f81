use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use shared::header::HeaderList;
use shared::id::SourceId;
use tokio::task::JoinHandle;

use super::*;

fn input_of(body: &[u8]) -> Input {
    let event = EventFields {
        id: "evt_1".to_owned(),
        event_type: Some("invoice.paid".to_owned()),
        source: "stripe".to_owned(),
        provider_event_id: None,
        received_at_ms: 1_764_000_000_123,
        method: "POST".to_owned(),
        query: "a=1".to_owned(),
    };
    let headers = HeaderList::new([("Content-Type", "application/json"), ("X-Tag", "a"), ("x-tag", "b")]);
    Input::new(event, headers, body.to_vec())
}

fn input() -> Input {
    let body = json!({
        "type": "invoice.paid",
        "amount": 4200,
        "rate": 0.5,
        "big": u64::MAX,
        "live": true,
        "none": null,
        "customer": {"email": "a@example.com", "tags": ["vip", "eu"]},
        "lines": [{"sku": "x", "n": 2}, {"sku": "y", "n": 5}],
    });
    input_of(body.to_string().as_bytes())
}

fn matches(source: &str) -> Result<bool, ExpressionError> {
    Filter::compile(source)?.matches(&input())
}

fn apply(source: &str) -> Result<(String, &'static str), ExpressionError> {
    let Transformed { body, content_type } = Transform::compile(source)?.apply(&input())?;
    Ok((String::from_utf8(body).expect("text"), content_type))
}

#[test]
fn filters_see_the_event_its_headers_and_its_body() {
    for source in [
        "event.type == 'invoice.paid'",
        "event.type.startsWith('invoice.') && event.source == \"stripe\"",
        "event.provider_event_id == null",
        "event.received_at == '2025-11-24T16:00:00.123Z' && event.received_at_ms == 1764000000123",
        "event.method == 'POST' && event.query == 'a=1' && event.id.startsWith('evt_')",
        "headers['content-type'].contains('json')",
        "headers['x-tag'] == 'a, b'",
        "'x-tag' in headers && !('x-other' in headers)",
        "body.customer.email.endsWith('@example.com')",
        "body.customer.email.matches('^[a-z]@example[.]com$')",
        "body.amount > 4000 && body.amount == 4200.0 && body.rate < 1",
        "body.big == 18446744073709551615u",
        "body.live && body.none == null",
        "'vip' in body.customer.tags && body.customer.tags[1] == 'eu' && size(body.lines) == 2",
        "body.lines.exists(line, line.sku == 'y' && line.n > 4)",
        "body.lines.all(line, line.n > 1) && body.lines.exists_one(line, line.n == 2)",
        "body.lines.filter(line, line.n > 2).map(line, line.sku) == ['y']",
        "body.lines.map(line, line.n > 2, line.sku) == ['y']",
        "has(body.customer) && !has(body.customer.phone)",
        "body.?customer.?phone.orValue('none') == 'none'",
        "type(body.amount) == int && type(event) == map",
    ] {
        assert_eq!(matches(source), Ok(true), "{source}");
    }
    assert_eq!(matches("event.type == 'invoice.failed'"), Ok(false));
}

#[test]
fn a_missing_field_is_named() {
    assert_eq!(matches("body.customer.phone == '1'"), Err(ExpressionError::MissingField("phone".to_owned())));
    assert_eq!(matches("headers['x-other'] == '1'"), Err(ExpressionError::MissingField("x-other".to_owned())));
    assert_eq!(matches("false && body.nothing == 1"), Ok(false));
    let error = matches("body.nothing == 1").expect_err("missing");
    assert!(error.to_string().contains("has(") && !error.is_ours(), "{error}");
}

#[test]
fn errors_of_an_evaluation_are_reported() {
    assert_eq!(matches("body.amount"), Err(ExpressionError::NotBoolean("int".to_owned())));
    for source in ["body.amount > 'x'", "body.amount.startsWith('4')", "1 / 0 == 1", "body.customer.tags[7] == ''"] {
        let error = matches(source).expect_err(source);
        assert!(
            matches!(error, ExpressionError::Evaluation(_) | ExpressionError::MissingField(_)),
            "{source}: {error}"
        );
    }
}

#[test]
fn a_body_that_is_not_json_is_text_or_null() {
    let sees = |body: &[u8], source: &str| Filter::compile(source).expect(source).matches(&input_of(body));
    assert_eq!(sees(b"payload=%7B%7D", "body == 'payload=%7B%7D'"), Ok(true));
    assert_eq!(sees(b"{\"broken\"", "body.startsWith('{')"), Ok(true));
    assert_eq!(sees(b"[1,2]", "body[0] == 1"), Ok(true));
    assert_eq!(sees(&[0xff, 0xfe], "body == null"), Ok(true));
    assert_eq!(sees(b"", "body == null"), Ok(true));
}

/// `levels` nested arrays, the innermost empty.
fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// `{"action":"opened","n":36893488147419103233}`, by GNU gzip.
const GZIP: &[u8] = include_bytes!("testdata/event.json.gz");

/// Two million spaces, by GNU gzip.
const BOMB: &[u8] = include_bytes!("testdata/blanks.gz");

fn with_headers(headers: &[(&str, &str)], body: &[u8]) -> Input {
    Input::new(
        EventFields { event_type: Some("invoice.paid".to_owned()), ..EventFields::default() },
        HeaderList::new(headers.iter().copied()),
        body.to_vec(),
    )
}

#[test]
fn bodies_as_real_providers_send_them_are_read() {
    let form = ("content-type", "application/x-www-form-urlencoded");
    let utf16: Vec<u8> = "{\"a\":\"é\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [u8], &'a str);
    let cases: [Case<'_>; 9] = [
        (
            &[],
            br#"{"action":"opened","title":"ship it \ud83d"}"#,
            "body.action == 'opened' && body.title.startsWith('ship')",
        ),
        (&[], b"\xef\xbb\xbf{\"a\":1}", "body.a == 1"),
        (&[("content-type", "application/json; charset=ISO-8859-1")], b"{\"a\":\"\xe9\"}", "body.a == 'é'"),
        (&[], &utf16, "body.a == 'é'"),
        (&[("content-encoding", "gzip")], GZIP, "body.action == 'opened'"),
        (&[form], b"payload=%7B%22action%22%3A%22opened%22%7D", "body.action == 'opened'"),
        (&[form], b"a=1&b=x+y&b=z", "body.a == '1' && body.b == ['x y', 'z']"),
        (
            &[("content-type", "multipart/form-data; boundary=b")],
            b"--b\r\ncontent-disposition: form-data; name=\"a\"; filename=\"x\"\r\n\r\n123\r\n--b--",
            "body.a.filename == 'x' && body.a.size == 3",
        ),
        (&[], b"{\"kind\":\"order\",\"ratio\":1e400}", "body.kind == 'order'"),
    ];
    for (headers, body, source) in cases {
        let filter = Filter::compile(source).expect(source);
        assert_eq!(filter.matches(&with_headers(headers, body)), Ok(true), "{source}");
    }
}

#[tokio::test]
async fn a_body_of_thousands_of_levels_is_read_compared_and_passed_on() {
    let evaluator = Evaluator::start(NonZeroUsize::MIN, 8).expect("threads");
    let levels = shared::reader::MAX_LEVELS - 1;
    let body = format!("{{\"a\":{},\"a\":{},\"b\":\"x\"}}", nested(levels), nested(levels));
    let input = Arc::new(input_of(body.as_bytes()));
    let filter = |source: &str| Filter::compile(source).expect(source);
    let filters = vec![filter("body.b == 'x'"), filter("body == body && [body.a] == [body.a]")];
    assert_eq!(evaluator.matches_all(turn(1), filters, Arc::clone(&input)).await, [Ok(true), Ok(true)]);
    let transform = Transform::compile("{'in': [body.a]}").expect("good");
    let made = evaluator.apply(turn(1), transform, Arc::clone(&input)).await.expect("a body");
    assert_eq!(String::from_utf8(made.body), Ok(format!("{{\"in\":[{}]}}", nested(levels))));
    let key = OrderKey::compile("body.a").expect("good");
    assert!(matches!(evaluator.order_keys(turn(1), vec![key], input).await[..], [Ok(Some(_))]));
}

#[test]
fn numbers_keep_their_digits() {
    let body = br#"{"a":36893488147419103233,"b":36893488147419103234,"c":0.12345678901234567890,"i":7,"u":18446744073709551615,
        "d":0.5,"huge":1e400,"tiny":-1e-400,"inf":Infinity,"nan":NaN}"#;
    let input = input_of(body);
    for source in [
        "body.a != body.b && body.a == body.a && body.a < body.b && !(body.b <= body.a) && body.a in [body.a]",
        "body.i < body.a && body.u < body.a && body.d < body.a && body.a > body.i && body.a > body.u && body.a > body.d",
        "body.i != body.a && body.a != body.i && body.i > body.c && body.c < body.i && body.c > body.tiny",
        "1 < body.a && 1u < body.a && 1.5 < body.a && body.a > 1 && body.a > 1u && body.a > 1.5 && !(1 == body.a)",
        "body.c == 0.12345678901234568 && 0.12345678901234568 == body.c && body.d > body.c",
        "body.huge > body.a && body.huge > 1.0 && body.tiny < 0 && body.tiny < body.i",
        "string(body.a) == '36893488147419103233' && double(body.c) == 0.12345678901234568 && int(body.c) == 0",
        "body.c * 2.0 > 0.24 && 2.0 * body.c < 0.25 && body.c + body.c > 0.24 && -body.c < 0.0 && 1.0 - body.c > 0.8",
        "[body.a, body.b].exists(n, n == body.b) && [1, 2].all(n, n < body.a)",
        "body.inf > body.a && body.nan != body.nan",
        "{'n': body.a} == {'n': body.a} && {'n': body.a} != {'n': body.b}",
    ] {
        assert_eq!(Filter::compile(source).expect(source).matches(&input), Ok(true), "{source}");
    }
    let error = Filter::compile("body.a < 'x'").expect("good").matches(&input).expect_err("two kinds");
    assert!(matches!(error, ExpressionError::Evaluation(_)), "{error}");
    let transform = Transform::compile("{'a': body.a, 'c': [body.c], 'huge': body.huge}").expect("good");
    let made = transform.apply(&input).expect("a body").body;
    let expected = r#"{"a":36893488147419103233,"c":[0.12345678901234567890],"huge":1e400}"#;
    assert_eq!(String::from_utf8(made).as_deref(), Ok(expected));
    let key = |source: &str| OrderKey::compile(source).expect(source).hash(&input);
    assert_ne!(key("body.a"), key("body.b"));
    let long = input_of(format!("[1{}]", "0".repeat(1_000)).as_bytes());
    let of_long = Transform::compile("body").expect("good").apply(&long);
    assert_eq!(
        of_long,
        Err(ExpressionError::NotJson("a number that is not finite".to_owned())),
        "longer than the digits that are kept"
    );
}

#[test]
fn header_names_match_in_any_case() {
    for source in [
        "headers['X-Tag'] == 'a, b'",
        "'X-TAG' in headers && !('X-Other' in headers)",
        "headers[?'X-Tag'].orValue('') == 'a, b' && headers.?Host.orValue('none') == 'none'",
        "has(headers.Host) == false && [1].all(n, headers['X-Tag'] == 'a, b' && n == 1)",
        "{'k': headers['X-Tag']}.k == 'a, b' && [headers['X-Tag']] == ['a, b']",
        "[{'X-Tag': 'own'}].all(headers, headers['X-Tag'] == 'own')",
        "body.type == 'invoice.paid' && {'X-Tag': 1}['X-Tag'] == 1 && !('Type' in body)",
    ] {
        assert_eq!(matches(source), Ok(true), "{source}");
    }
}

#[test]
fn an_expression_that_can_never_have_a_value_is_rejected_when_it_is_saved() {
    let code = |source: &str| Filter::check(source).expect_err(source).code();
    for source in [
        "event.action == 'opened'",
        "event.headers['x-tag'] == 'a'",
        "event['kind'] == 'a'",
        "event.?kind.orValue('a') == 'a'",
        "event[?'kind'].hasValue()",
        "has(event.kind) && event.kind == 'a'",
        "'kind' in event",
        "body.all(line, line == event.kind)",
    ] {
        assert_eq!(code(source), "expression_unknown_field", "{source}");
        assert!(Filter::compile(source).is_ok(), "an expression that was saved before is used: {source}");
    }
    for source in ["headers['x tag'] == 'a'", "'x:tag' in headers", "headers[''] == 'a'"] {
        assert_eq!(code(source), "expression_not_header_name", "{source}");
    }
    for source in [
        "'push'",
        "42",
        "null",
        "['push']",
        "{'a': true}",
        "event.type == 'a' ? 'yes' : 'no'",
        "event.type == 'a' || 'b'",
        "event.type == 'a' && 1",
        "!'a'",
        "body.lines.exists(line, line.sku == 'x' || 'y')",
        "'a' ? true : false",
    ] {
        assert_eq!(code(source), "expression_not_boolean", "{source}");
    }
    let error = Filter::check("event.type == 'a' ||\n  'b'").expect_err("a text");
    assert_eq!(
        error.to_string(),
        "line 2, column 3: expected a boolean, but found a string; use a comparison such as event.type == 'push'"
    );
    let error = Filter::check("event.acton == 'a'").expect_err("unknown").to_string();
    assert!(
        error.contains("no field \"acton\"; its fields are id, type,") && error.contains("in body and headers"),
        "{error}"
    );
    assert_eq!(code("event.type.matches('a(')"), "expression_pattern_syntax");
    for source in [
        "true",
        "event.id != '' && event['type'] != null && 'query' in event && event.received_at_ms > 0",
        "event.source == 'a' || event.method == 'b' || event.provider_event_id == null || event.received_at == ''",
        "[{'kind': 1}].all(event, event.kind == 1)",
        "body.event.action == 'opened' && headers['X-GitHub-Event'] == 'push'",
        "event.type == 'a' ? body.live : false",
    ] {
        assert_eq!(Filter::check(source), Ok(()), "{source}");
    }
    assert_eq!(Transform::check("{'id': event.id, 'text': 'x'}"), Ok(()));
    assert_eq!(Transform::check("event.kind").expect_err("unknown").code(), "expression_unknown_field");
    assert_eq!(OrderKey::check("'always the same'"), Ok(()));
    assert_eq!(OrderKey::check("event.kind").expect_err("unknown").code(), "expression_unknown_field");
}

#[test]
fn only_an_expression_that_reads_the_body_fails_because_of_its_size() {
    let large = input_of(&vec![b'x'; MAX_BODY_BYTES + 1]);
    let ask = |source: &str| Filter::compile(source).expect(source).matches(&large);
    assert_eq!(ask("event.type == 'invoice.paid'"), Ok(true));
    assert_eq!(ask("size(body) > 0"), Err(ExpressionError::BodyTooLarge(MAX_BODY_BYTES + 1)));
    assert_eq!(ask("[1].all(x, has(.body.x))"), Err(ExpressionError::BodyTooLarge(MAX_BODY_BYTES + 1)));
    let deep = input_of(nested(shared::reader::MAX_LEVELS + 1).as_bytes());
    let ask = |source: &str| Filter::compile(source).expect(source).matches(&deep);
    assert_eq!(ask("event.type == 'invoice.paid'"), Ok(true));
    assert_eq!(ask("size(body) > 0"), Err(ExpressionError::BodyTooDeep));
    let bomb = with_headers(&[("content-encoding", "gzip")], BOMB);
    let ask = |source: &str| Filter::compile(source).expect(source).matches(&bomb);
    assert_eq!(ask("event.type == 'invoice.paid'"), Ok(true));
    assert_eq!(ask("size(body) > 0"), Err(ExpressionError::DecodedBodyTooLarge));
    for error in [
        ExpressionError::BodyTooLarge(1),
        ExpressionError::DecodedBodyTooLarge,
        ExpressionError::BodyTooDeep,
        ExpressionError::TooExpensive,
    ] {
        assert!(error.cannot_read_body() && !error.is_ours(), "{error}");
    }
}

#[test]
fn transforms_return_json_text_or_bytes() {
    let json = "application/json";
    let text = "text/plain; charset=utf-8";
    for (source, body, content_type) in [
        ("{'b': body.amount, 'a': [1, 2.5, true, null], 3: 1u}", r#"{"3":1,"a":[1,2.5,true,null],"b":4200}"#, json),
        ("body.lines.map(line, {'id': line.sku})", r#"[{"id":"x"},{"id":"y"}]"#, json),
        ("body.amount + 1", "4201", json),
        ("body.none", "null", json),
        ("'paid: ' + string(body.amount)", "paid: 4200", text),
        ("b'abc'", "abc", "application/octet-stream"),
        ("[b'abc']", r#"["YWJj"]"#, json),
        ("{'to': body.?customer.?phone}", r#"{"to":null}"#, json),
    ] {
        assert_eq!(apply(source), Ok((body.to_owned(), content_type)), "{source}");
    }
    let (whole, _) = apply("body").expect("the body itself");
    assert_eq!(serde_json::from_str::<Json>(&whole).expect("json")["customer"]["tags"], json!(["vip", "eu"]));
}

#[test]
fn a_transform_whose_value_cannot_be_sent_is_an_error() {
    assert_eq!(apply("[1.0 / 0.0]"), Err(ExpressionError::NotJson("a number that is not finite".to_owned())));
    assert_eq!(apply("type(1)"), Err(ExpressionError::NotJson("a type".to_owned())));
    let large = input_of(format!("\"{}\"", "x".repeat(MAX_BODY_BYTES / 2)).as_bytes());
    for source in ["body + body + body", "[body, body, body]", "{'a': body, 'b': body, 'c': body}"] {
        let transform = Transform::compile(source).expect(source);
        assert_eq!(transform.apply(&large), Err(ExpressionError::OutputTooLarge), "{source}");
    }
}

#[test]
fn an_invalid_expression_is_rejected_with_its_position() {
    let refused = |source: &str| Filter::compile(source).expect_err(source);
    let position = |line, column| Position { line, column };
    assert_eq!(refused(" \n"), ExpressionError::Empty);
    assert_eq!(refused(&format!("'{}'", "x".repeat(MAX_SOURCE_BYTES))).code(), "expression_too_long");
    let ExpressionError::Syntax { position: at, message } = refused("event.type ==") else {
        panic!("not a syntax error")
    };
    assert_eq!(at.line, 1);
    assert!(!message.is_empty());
    assert!(matches!(refused("true &&\n  )"), ExpressionError::Syntax { position: Position { line: 2, .. }, .. }));
    let unknown = |name: &str, at| ExpressionError::UnknownName { position: at, name: name.to_owned() };
    assert_eq!(refused("'\u{e9}' != '' && evnt.type == 'x'"), unknown("evnt", position(1, 14)));
    assert_eq!(refused("true &&\n  bdy.x"), unknown("bdy", position(2, 3)));
    assert_eq!(refused("body.exists(x, y == 1)"), unknown("y", position(1, 16)));
    assert_eq!(refused("body.exists(x, x == 1) && x"), unknown("x", position(1, 27)));
    for source in ["body.lines.exists(x)", "size2(body)", "body.customer.lower()", "env('HOME')", "timestamp('x')"] {
        assert_eq!(refused(source).code(), "expression_unknown_function", "{source}");
    }
    assert_eq!(refused("Foo{a: 1}").code(), "expression_unknown_name");
    assert_eq!(refused("@meter").code(), "expression_syntax");
}

#[test]
fn many_expressions_can_be_compiled_at_once() {
    let compile = |n: usize| std::thread::spawn(move || Filter::compile(&format!("body.amount > {n}")).map(|_| ()));
    let threads: Vec<_> = (0..40).map(compile).collect();
    assert!(threads.into_iter().all(|thread| thread.join().expect("no panic") == Ok(())));
}

#[test]
fn every_function_that_passes_the_check_exists() {
    for name in compile::FUNCTIONS {
        // An error about a wrong argument shows that the function exists.
        for source in [format!("{name}(event)"), format!("event.{name}(event)"), format!("optional.{name}(event)")] {
            let error = Filter::compile(&source).expect("known").matches(&input());
            let exists =
                !matches!(&error, Err(ExpressionError::Evaluation(text)) if text.contains("Undeclared reference"));
            if exists {
                break;
            }
            assert!(!source.starts_with("optional"), "{name} does not exist");
        }
    }
}

/// The names that the dashboard's editor offers.
const OFFERED: &str = include_str!("../../../tools/vendor/src/cel/names.json");

#[test]
fn the_editor_offers_exactly_the_names_that_an_expression_can_use() {
    let offered: Json = serde_json::from_str(OFFERED).expect("JSON");
    let list = |value: &Json, field: &str| value[field].as_array().cloned().unwrap_or_default();
    let name = |value: Json| value["name"].as_str().unwrap_or_default().to_owned();
    let sorted = |mut names: Vec<String>| {
        names.sort_unstable();
        names.dedup();
        names
    };
    let owned = |names: &[&str]| sorted(names.iter().map(|&name| name.to_owned()).collect());

    let variables = list(&offered, "variables");
    assert_eq!(sorted(variables.iter().cloned().map(name).collect()), owned(&compile::NAMES));
    let fields = variables.iter().flat_map(|variable| list(variable, "fields")).map(name);
    assert_eq!(sorted(fields.collect()), owned(&never::EVENT_FIELDS));
    let types = list(&offered, "types").into_iter().map(|name| name.as_str().unwrap_or_default().to_owned());
    assert_eq!(sorted(types.collect()), owned(&compile::TYPE_NAMES));

    // The parser replaces calls of macros, so they are not in `FUNCTIONS`. Their examples show that they exist.
    let macros = ["all", "exists", "exists_one", "filter", "has", "map", "optFlatMap", "optMap"];
    let functions = list(&offered, "functions");
    let all = [&compile::FUNCTIONS[..], &macros, &[instrument::MATCHES]].concat();
    assert_eq!(sorted(functions.iter().cloned().map(name).collect()), owned(&all));
    for function in functions {
        let example = function["example"].as_str().expect("an example");
        assert!(example.contains(&format!("{}(", name(function.clone()))), "{example}");
        Transform::check(example).expect(example);
        apply(example).expect(example);
    }
}

#[test]
fn deep_nesting_is_rejected_and_accepted_nesting_can_be_evaluated() {
    for (open, middle, close) in [
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("{1:", "1", "}"),
        ("size(", "1", ")"),
        ("body.a[", "1", "]"),
        ("[1].map(x,", "1", ")"),
        ("true?1:", "1", ""),
        ("a.", "a", ""),
        ("1+", "1", ""),
        ("true&&", "true", ""),
        ("!", "true", ""),
        ("-", "1", ""),
    ] {
        let mut refused = false;
        for depth in [1, 2, 4, 8, 16, 32, 48, 64, 128, 256, 512, 4000] {
            let source = format!("{}{middle}{}", open.repeat(depth), close.repeat(depth));
            match Transform::compile(&source) {
                Ok(transform) => {
                    // Only that it ends matters here, not its value. The stack is a quarter of the evaluator's.
                    let thread = std::thread::Builder::new().stack_size(4 << 20);
                    let result = thread.spawn(move || transform.apply(&input()).is_ok()).expect("a thread").join();
                    assert!(result.is_ok(), "{open} {depth}");
                }
                Err(error) => refused |= !error.is_ours(),
            }
        }
        // The parser folds signs before they nest.
        assert!(refused || matches!(open, "!" | "-"), "{open}");
    }
}

#[test]
fn nested_loops_are_limited_and_chained_loops_are_not() {
    assert_eq!(matches("[1].all(a, [1].all(b, a == b))"), Ok(true));
    assert_eq!(matches("[1].all(a, [1].all(b, [1].all(c, true)))"), Err(ExpressionError::TooManyNestedLoops));
    assert_eq!(matches("[1, 2].map(a, a + 1).filter(a, a > 2).map(a, a * 2).exists(a, a == 6)"), Ok(true));
}

/// A body that is a list of `count` numbers.
fn numbers(count: usize) -> Input {
    input_of(json!((0..count).collect::<Vec<_>>()).to_string().as_bytes())
}

#[test]
fn loops_of_every_kind_end_when_they_cost_too_much() {
    let input = numbers(2_000);
    for source in [
        "body.all(a, body.all(b, a + b >= 0))",
        "body.exists(a, body.exists(b, a + b < 0))",
        "body.exists_one(a, body.exists_one(b, a == b))",
        "size(body.map(a, body.map(b, a * b))) == 1",
        "size(body.filter(a, size(body.filter(b, a > b)) > -1)) == 1",
        "size(body.map(a, true, body.map(b, true, a * b))) == 1",
        // The error of the meter is absorbed by the other operand and counts nevertheless.
        "body.all(a, body.all(b, a + b >= 0)) || true",
        "!(body.all(a, body.all(b, a + b >= 0)) && false)",
    ] {
        let filter = Filter::compile(source).expect(source);
        let Evaluated { result, steps } = filter.0.evaluate(&input, BY_WORK, value::boolean);
        assert_eq!((result, steps), (Err(ExpressionError::TooExpensive), MAX_STEPS), "{source}");
    }
}

/// Lets only the budget decide, however slow the machine is.
const BY_WORK: Limits = Limits { steps: MAX_STEPS, deadline: Duration::from_secs(3600) };

/// The result of a filter and the steps that it took, decided only by its work.
fn by_work(source: &str, input: &Input) -> (Result<bool, ExpressionError>, u64) {
    let filter = Filter::compile(source).unwrap_or_else(|error| panic!("{source}: {error}"));
    let Evaluated { result, steps } = filter.0.evaluate(input, BY_WORK, value::boolean);
    (result, steps)
}

#[test]
fn an_exhausted_budget_gives_the_same_result_every_time() {
    let source = "body.all(a, body.all(b, a + b >= 0))";
    let input = numbers(2_000);
    assert_eq!(by_work(source, &input), (Err(ExpressionError::TooExpensive), MAX_STEPS));
    assert_eq!(by_work(source, &input), (Err(ExpressionError::TooExpensive), MAX_STEPS));
    let (result, steps) = by_work(source, &numbers(400));
    assert_eq!((result, by_work(source, &numbers(400)).1), (Ok(true), steps));
}

/// A body with one text of `bytes` bytes, of a and b in an irregular order.
fn text(bytes: usize) -> Input {
    let mut state = 1_u32;
    let letters = (0..bytes).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if state >> 31 == 0 { 'a' } else { 'b' }
    });
    input_of(json!({ "s": letters.collect::<String>(), "t": "x" }).to_string().as_bytes())
}

#[test]
fn a_pattern_with_a_long_search_costs_too_much_before_it_searches() {
    let large = text(1_000_000);
    for pattern in ["[ab]*a[ab]{900}[c-z]", "a[ab]{900}[c-z]", "(?s).*a.{400}[c-z]"] {
        let (result, steps) = by_work(&format!("body.s.matches('{pattern}')"), &large);
        assert_eq!((result, steps), (Err(ExpressionError::TooExpensive), MAX_STEPS), "{pattern}");
        let (result, steps) = by_work(&format!("matches(body.s, '{pattern}') || true"), &large);
        assert_eq!((result, steps), (Err(ExpressionError::TooExpensive), MAX_STEPS), "{pattern}");
    }
    // In a loop each search is charged.
    let searches = "body.all(a, 'aaaaaaaaaaaaaaaa'.matches('^[ab]*a[ab]{90}|a+$'))";
    assert_eq!(by_work(searches, &numbers(100_000)).0, Err(ExpressionError::TooExpensive));
}

#[test]
fn a_pattern_is_compiled_when_the_expression_is_saved_and_rejected_with_its_position() {
    let refused = |source: &str| Filter::compile(source).expect_err(source);
    for source in [
        r"event.type.matches(r'(?:\pL|\pN){150}x')",
        r"event.type.matches(r'\w{60}')",
        "event.type.matches('((a{100}){100}){100}')",
    ] {
        assert_eq!(refused(source), ExpressionError::PatternTooLarge { position: Position { line: 1, column: 20 } });
    }
    let many = (0..90).map(|number| format!(r"'a'.matches(r'\w{number}')")).collect::<Vec<_>>().join(" || ");
    assert_eq!(refused(&many).code(), "expression_pattern_too_large", "their sizes are added");
    let broken = refused("event.type.matches('a(')");
    assert!(matches!(&broken, ExpressionError::PatternSyntax { .. }), "{broken:?}");
    assert!(broken.to_string().contains("unclosed group"), "{broken}");
    for source in ["event.type.matches(body.s)", "event.type.matches('a' + 'b')", "matches('a', event.type)"] {
        assert_eq!(refused(source).code(), "expression_pattern_not_literal", "{source}");
    }
    for source in ["event.type.matches()", "matches('a')", "'a'.matches('a', 'b')"] {
        assert_eq!(refused(source).code(), "expression_unknown_function", "{source}");
    }
}

#[test]
fn ordinary_patterns_match_as_they_are_written() {
    for (source, expected) in [
        (r"body.customer.email.matches(r'^[\w.+-]+@[\w-]+\.[a-z]{2,}$')", true),
        ("event.type.matches('^invoice[.](paid|failed)$')", true),
        ("matches(event.type, 'paid') && 'abc'.matches('') && 'Ünï'.matches('(?i)ünÏ')", true),
        ("event.type.matches('^paid')", false),
    ] {
        assert_eq!(matches(source), Ok(expected), "{source}");
    }
    let error = matches("body.amount.matches('4')").expect_err("is a number");
    assert!(matches!(error, ExpressionError::Evaluation(_)), "{error}");
    let (result, steps) = by_work("body.s.matches('c')", &text(1_000_000));
    assert_eq!(result, Ok(false));
    assert!(steps < MAX_STEPS / 2, "a plain search of a large body is affordable: {steps}");
}

#[test]
fn reading_long_texts_is_charged_by_their_length() {
    let (small, large) = (text(10), text(1_000_000));
    for source in [
        "body.s.contains(body.t)",
        "body.s.startsWith(body.t + body.t)",
        "body.s.endsWith('y')",
        "string(body.s) != 'y'",
        "size(bytes(body.s)) > 0",
        "size(body.s) > 0",
        "body.s == body.t || true",
        "[body.s == body.s].exists(x, x)",
        "body.s < body.t",
        "body == body",
        "!(body.t in [body.s])",
    ] {
        let (few, many) = (by_work(source, &small), by_work(source, &large));
        assert!(few.0.is_ok() && many.0.is_ok(), "{source}: {few:?} {many:?}");
        assert!(many.1 > few.1 + 1_000_000 / 256 / 2, "{source}: {few:?} {many:?}");
    }
    // Literals are small, and so is the part that is compared with them.
    let source = "body.s == 'x' || body.t == 'x' && headers != null && 'x-tag' in headers";
    assert_eq!(by_work(source, &small), by_work(source, &large));
    let input =
        input_of(json!({ "list": (0..1_000).collect::<Vec<_>>(), "s": "x".repeat(500_000) }).to_string().as_bytes());
    for turn in
        ["body.s.contains('y')", "body.s == body.s + 'x'", "body == body", "size(body.s) == 1", "n in body.list"]
    {
        let source = format!("body.list.exists(n, body.list.exists(m, {turn} && n < 0))");
        assert_eq!(by_work(&source, &input).0, Err(ExpressionError::TooExpensive), "{source}");
    }
}

#[test]
fn an_iteration_of_a_loop_costs_as_much_as_the_nodes_that_it_evaluates() {
    let long = vec!["n >= 0"; 200].join(" && ");
    let (short, long) =
        (by_work("body.all(n, n >= 0)", &numbers(1_000)), by_work(&format!("body.all(n, {long})"), &numbers(1_000)));
    assert_eq!((short.0, long.0), (Ok(true), Ok(true)));
    assert!(long.1 > 100 * short.1, "{} {}", long.1, short.1);
}

#[test]
fn a_late_evaluation_is_a_fault_of_the_relay() {
    let filter = Filter::compile("body.all(a, a >= 0)").expect("good");
    let limits = Limits { deadline: Duration::ZERO, ..Limits::default() };
    let error = filter.0.evaluate(&numbers(1_000), limits, value::boolean).result.expect_err("late");
    assert_eq!(error, ExpressionError::TooSlow);
    assert!(error.is_ours());
}

#[test]
fn growth_is_stopped_before_memory_runs_out() {
    let large = input_of(format!("\"{}\"", "x".repeat(MAX_BODY_BYTES - 2)).as_bytes());
    let doubling = |times| (0..times).fold("body".to_owned(), |inner, _| format!("[{inner}].map(x, x + x)[0]"));
    for source in [
        format!("[1].map(x, {})", ["body"; 40].join(" + ")),
        format!("[{}]", ["body"; 500].join(",")),
        format!("{{{}}}", (0..300).map(|n| format!("{n}: body")).collect::<Vec<_>>().join(",")),
        "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20].map(x, body)".to_owned(),
        doubling(8),
    ] {
        let result = Transform::compile(&source).map(|transform| transform.apply(&large));
        let stopped = match result {
            Err(error) => error == ExpressionError::TooDeep,
            Ok(result) => matches!(result, Err(ExpressionError::TooExpensive | ExpressionError::TooSlow)),
        };
        assert!(stopped, "{}", &source[..source.len().min(60)]);
    }
}

/// A turn of a source whose caller waits for as long as a test may take.
fn turn(source: u8) -> Turn {
    Turn::within(SourceId::mint(1, [source; 10]), Duration::from_secs(60))
}

/// Occupies the only thread for filters and order keys until it is released.
async fn block(evaluator: &Evaluator) -> (std::sync::mpsc::Sender<()>, JoinHandle<Result<(), ExpressionError>>) {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let (started, running) = tokio::sync::oneshot::channel();
    let evaluator = evaluator.clone();
    let work = move || {
        let _ = started.send(());
        let _ = wait.recv();
    };
    let blocked = tokio::spawn(async move { evaluator.decide(turn(0), work).await });
    running.await.expect("the only thread is occupied");
    (release, blocked)
}

#[tokio::test]
async fn the_evaluator_returns_results_in_order_and_shares_the_input() {
    let evaluator = Evaluator::start(NonZeroUsize::MIN, 8).expect("threads");
    let input = Arc::new(input());
    let compile = |source: &str| Filter::compile(source).expect(source);
    let filters = vec![compile("body.live"), compile("body.nothing"), compile("!body.live")];
    let answers = evaluator.matches_all(turn(1), filters, Arc::clone(&input)).await;
    assert_eq!(answers, [Ok(true), Err(ExpressionError::MissingField("nothing".to_owned())), Ok(false)]);
    let transform = Transform::compile("body.customer").expect("good");
    assert_eq!(evaluator.apply(turn(1), transform, input).await.expect("a body").content_type, "application/json");
}

#[tokio::test]
async fn the_filters_of_an_event_share_a_budget() {
    let evaluator = Evaluator::start(NonZeroUsize::MIN, 8).expect("threads");
    let filter = Filter::compile("body.all(a, body.all(b, a + b >= 0))").expect("good");
    let input = Arc::new(numbers(2_000));
    // On an overloaded machine, the time limit of one evaluation may be reached before its limit of steps.
    let answers = loop {
        let answers = evaluator.matches_all(turn(1), vec![filter.clone(); 30], Arc::clone(&input)).await;
        if !answers.contains(&Err(ExpressionError::TooSlow)) {
            break answers;
        }
    };
    let (own, together): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| **answer == Err(ExpressionError::TooExpensive));
    assert_eq!((own.len(), together.len()), (3, 27));
    assert!(together.iter().all(|answer| **answer == Err(ExpressionError::TooExpensiveTogether)), "{together:?}");
}

#[tokio::test]
async fn an_evaluation_that_panics_is_an_error_and_does_not_end_the_only_thread() {
    let evaluator = Evaluator::start(NonZeroUsize::MIN, 8).expect("threads");
    for _ in 0..2 {
        let answer = evaluator.decide(turn(1), || -> u8 { panic!("a test") }).await;
        assert_eq!(answer, Err(ExpressionError::Internal));
    }
    assert_eq!(evaluator.decide(turn(1), || 7).await, Ok(7));
}

#[tokio::test]
async fn transforms_do_not_wait_for_filters() {
    let evaluator = Evaluator::start(NonZeroUsize::MIN, 8).expect("threads");
    let (release, blocked) = block(&evaluator).await;
    let transform = Transform::compile("'made'").expect("good");
    let made = evaluator.apply(turn(1), transform, Arc::new(input())).await;
    assert_eq!(made.map(|made| made.body), Ok(b"made".to_vec()));
    release.send(()).expect("the thread waits");
    assert_eq!(blocked.await.expect("no panic"), Ok(()));
}

#[tokio::test]
async fn sources_take_turns_on_a_thread() {
    let evaluator = Evaluator::start(NonZeroUsize::MIN, 100).expect("threads");
    let (release, blocked) = block(&evaluator).await;
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let ask = |source: u8| {
        let (evaluator, order) = (evaluator.clone(), Arc::clone(&order));
        Box::pin(async move { evaluator.decide(turn(source), move || order.lock().expect("whole").push(source)).await })
    };
    let mut waiting: Vec<_> = [1, 1, 1, 1, 2].into_iter().map(ask).collect();
    for future in &mut waiting {
        // Polling it once puts it into the queue.
        assert!(poll_once(future.as_mut()).await.is_none());
    }
    release.send(()).expect("the thread waits");
    for future in waiting {
        assert_eq!(future.await, Ok(()));
    }
    assert_eq!(*order.lock().expect("whole"), [1, 2, 1, 1, 1]);
    assert_eq!(blocked.await.expect("no panic"), Ok(()));
}

#[tokio::test]
async fn a_caller_waits_for_room_and_for_its_turn_until_its_deadline() {
    let evaluator = Evaluator::start(NonZeroUsize::MIN, 1).expect("threads");
    let (release, blocked) = block(&evaluator).await;
    let filter = Filter::compile("true").expect("good");
    let input = Arc::new(input());
    let ask = |turn| evaluator.matches_all(turn, vec![filter.clone()], Arc::clone(&input));
    let now = || Turn::within(SourceId::mint(1, [3; 10]), Duration::ZERO);
    let waiting = ask(turn(1));
    tokio::pin!(waiting);
    assert!(poll_once(waiting.as_mut()).await.is_none());
    assert_eq!(ask(now()).await, [Err(ExpressionError::Busy)], "there is no room");
    let patient = ask(turn(2));
    tokio::pin!(patient);
    assert!(poll_once(patient.as_mut()).await.is_none());
    release.send(()).expect("the thread waits");
    assert_eq!(waiting.await, [Ok(true)]);
    assert_eq!(patient.await, [Ok(true)]);
    assert_eq!(blocked.await.expect("no panic"), Ok(()));
    let (release, blocked) = block(&evaluator).await;
    assert_eq!(ask(now()).await, [Err(ExpressionError::TooSlow)], "the thread is occupied");
    release.send(()).expect("the thread waits");
    assert_eq!(blocked.await.expect("no panic"), Ok(()));
}

async fn poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn a_filter_can_be_evaluated_without_the_body_only_if_the_body_cannot_change_its_result() {
    let without = |bytes: usize| Input::without_body(EventFields::default(), HeaderList::default(), bytes);
    let by_header = Filter::compile("!('x-kind' in headers)").expect("compiles");
    assert!(!by_header.uses_body());
    assert_eq!(by_header.matches(&without(10)), Ok(true));
    for source in ["has(body.amount)", "true || body == null", ".body != null", "[1].exists(body, body == 1)"] {
        let by_body = Filter::compile(source).expect("compiles");
        assert!(by_body.uses_body(), "{source}");
        let too_large = vec![b'1'; MAX_BODY_BYTES + 1];
        assert_eq!(by_body.matches(&without(MAX_BODY_BYTES + 1)), by_body.matches(&input_of(&too_large)), "{source}");
        let error = by_body.matches(&without(10)).expect_err("has no body");
        assert!(error.is_ours(), "{source}: a body that was not read decides nothing: {error}");
    }
}
