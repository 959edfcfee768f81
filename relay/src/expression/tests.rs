use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value as Json, json};
use shared::header::HeaderList;

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
fn a_field_that_is_missing_is_named() {
    assert_eq!(matches("body.customer.phone == '1'"), Err(ExpressionError::MissingField("phone".to_owned())));
    assert_eq!(matches("headers['x-other'] == '1'"), Err(ExpressionError::MissingField("x-other".to_owned())));
    assert_eq!(matches("false && body.nothing == 1"), Ok(false));
    let error = matches("body.nothing == 1").expect_err("missing");
    assert!(error.to_string().contains("has(") && !error.is_ours(), "{error}");
}

#[test]
fn what_an_expression_does_wrong_is_told() {
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

#[test]
fn only_an_expression_that_looks_into_the_body_minds_its_size() {
    let large = input_of(&vec![b'x'; MAX_BODY_BYTES + 1]);
    let ask = |source: &str| Filter::compile(source).expect(source).matches(&large);
    assert_eq!(ask("event.type == 'invoice.paid'"), Ok(true));
    assert_eq!(ask("size(body) > 0"), Err(ExpressionError::BodyTooLarge(MAX_BODY_BYTES + 1)));
    assert_eq!(ask("[1].all(x, has(.body.x))"), Err(ExpressionError::BodyTooLarge(MAX_BODY_BYTES + 1)));
}

#[test]
fn transforms_give_json_text_or_bytes() {
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
fn a_broken_expression_is_refused_with_its_place() {
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
        // A wrong argument is another error than a function that is not there.
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

#[test]
fn deep_nesting_is_refused_and_what_is_not_refused_can_be_evaluated() {
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
                    // Whether it has a value does not matter here, only that it ends. The stack is a quarter of the
                    // evaluator's.
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
fn loops_inside_loops_are_limited_and_chains_are_not() {
    assert_eq!(matches("[1].all(a, [1].all(b, a == b))"), Ok(true));
    assert_eq!(matches("[1].all(a, [1].all(b, [1].all(c, true)))"), Err(ExpressionError::TooManyNestedLoops));
    assert_eq!(matches("[1, 2].map(a, a + 1).filter(a, a > 2).map(a, a * 2).exists(a, a == 6)"), Ok(true));
}

/// A body that is a list of `count` numbers.
fn numbers(count: usize) -> Input {
    input_of(json!((0..count).collect::<Vec<_>>()).to_string().as_bytes())
}

#[test]
fn loops_of_every_kind_end_when_they_have_cost_too_much() {
    let input = numbers(2_000);
    for source in [
        "body.all(a, body.all(b, a + b >= 0))",
        "body.exists(a, body.exists(b, a + b < 0))",
        "body.exists_one(a, body.exists_one(b, a == b))",
        "size(body.map(a, body.map(b, a * b))) == 1",
        "size(body.filter(a, size(body.filter(b, a > b)) > -1)) == 1",
        "size(body.map(a, true, body.map(b, true, a * b))) == 1",
        // The error of the meter is absorbed by the other operand and counts all the same.
        "body.all(a, body.all(b, a + b >= 0)) || true",
        "!(body.all(a, body.all(b, a + b >= 0)) && false)",
    ] {
        let filter = Filter::compile(source).expect(source);
        let began = Instant::now();
        let error = filter.matches(&input).expect_err(source);
        assert!(matches!(error, ExpressionError::TooExpensive | ExpressionError::TooSlow), "{source}: {error}");
        assert!(began.elapsed() < Duration::from_secs(5), "{source}: {:?}", began.elapsed());
    }
}

#[test]
fn a_budget_that_is_spent_gives_the_same_answer_every_time() {
    let filter = Filter::compile("body.all(a, body.all(b, a + b >= 0))").expect("good");
    let input = numbers(2_000);
    // An hour's deadline leaves the budget alone to decide.
    let ask = || filter.0.evaluate(&input, Duration::from_secs(3600), value::boolean);
    assert_eq!((ask(), ask()), (Err(ExpressionError::TooExpensive), Err(ExpressionError::TooExpensive)));
    assert_eq!(filter.0.evaluate(&numbers(400), Duration::from_secs(3600), value::boolean), Ok(true));
}

#[test]
fn an_evaluation_that_is_late_is_ours() {
    let filter = Filter::compile("body.all(a, a >= 0)").expect("good");
    let error = filter.0.evaluate(&numbers(1_000), Duration::ZERO, value::boolean).expect_err("late");
    assert_eq!(error, ExpressionError::TooSlow);
    assert!(error.is_ours());
}

#[test]
fn growth_is_stopped_before_it_takes_the_memory() {
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

#[tokio::test]
async fn the_evaluator_answers_in_order_and_shares_the_input() {
    let evaluator = Evaluator::start(NonZeroUsize::MIN, 8).expect("threads");
    let input = Arc::new(input());
    let compile = |source: &str| Filter::compile(source).expect(source);
    assert_eq!(evaluator.matches(compile("body.live"), Arc::clone(&input)).await, Ok(true));
    let filters = vec![compile("body.live"), compile("body.nothing"), compile("!body.live")];
    let answers = evaluator.matches_all(filters, Arc::clone(&input)).await;
    assert_eq!(answers, [Ok(true), Err(ExpressionError::MissingField("nothing".to_owned())), Ok(false)]);
    let transform = Transform::compile("body.customer").expect("good");
    assert_eq!(evaluator.apply(transform, input).await.expect("a body").content_type, "application/json");
}

#[tokio::test]
async fn a_full_queue_is_told_at_once() {
    let evaluator = Evaluator::start(NonZeroUsize::MIN, 1).expect("threads");
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let (started, running) = tokio::sync::oneshot::channel();
    let blocker = tokio::spawn({
        let evaluator = evaluator.clone();
        async move {
            evaluator
                .evaluate(1, move || {
                    let _ = started.send(());
                    let _ = wait.recv();
                })
                .await
        }
    });
    running.await.expect("the only thread is taken");
    let filter = Filter::compile("true").expect("good");
    let input = Arc::new(input());
    let waiting = evaluator.matches(filter.clone(), Arc::clone(&input));
    tokio::pin!(waiting);
    // Polling it once puts it into the queue.
    assert!(poll_once(waiting.as_mut()).await.is_none());
    assert_eq!(evaluator.matches(filter, input).await, Err(ExpressionError::Busy));
    release.send(()).expect("the thread waits");
    assert_eq!(waiting.await, Ok(true));
    assert_eq!(blocker.await.expect("no panic"), Ok(()));
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
fn a_filter_is_asked_without_the_body_only_if_the_body_cannot_change_its_answer() {
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
        assert!(error.is_ours(), "{source}: nothing is decided by a body that was not read: {error}");
    }
}
