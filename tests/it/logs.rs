//! logs: the rules of the logs, checked by reading the sources of the relay and of the edge. The message of an event is
//! constant, so that it can be searched for and counted, and the same thing has the same field everywhere.

use std::path::{Path, PathBuf};

use harness::place;

/// Every field of an event or a span. The cause of a failure is always `error`, whatever its type.
const FIELDS: &[&str] = &[
    "address",
    "ahead_ms",
    "asked",
    "attempts",
    "before",
    "cancelled",
    "command",
    "customer",
    "day",
    "days",
    "decision",
    "delay_s",
    "deliveries",
    "delivery",
    "destination",
    "difference",
    "copies",
    "edge",
    "error",
    "event",
    "events",
    "found",
    "held_by",
    "in_flight",
    "key",
    "kind",
    "known",
    "lanes",
    "lost",
    "message_id",
    "messages",
    "method",
    "name",
    "next",
    "operation",
    "partition",
    "path",
    "patience_s",
    "pause_ms",
    "queue",
    "queues",
    "rejections",
    "replay",
    "reports",
    "request_id",
    "revision",
    "route",
    "shortage",
    "source",
    "start",
    "status",
    "step",
    "task",
    "took_ms",
    "unfinished",
    "unreadable_message",
    "url",
];

/// The steps of the data, and the REST API.
const SPANS: [&str; 10] = ["request", "verify", "queue", "pull", "store", "route", "deliver", "retry", "replay", "api"];

const EVENTS: [&str; 5] =
    ["tracing::error!(", "tracing::warn!(", "tracing::info!(", "tracing::debug!(", "tracing::trace!("];

#[test]
fn every_log_line_of_the_relay_has_a_constant_message_and_known_fields() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (file, text) in sources("relay") {
        for arguments in EVENTS.iter().flat_map(|begin| calls(&text, begin)) {
            seen += 1;
            let problem = event_problem(&arguments);
            wrong.extend(problem.map(|problem| format!("{}: {problem}: {arguments:?}", file.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 80, "only {seen} log lines were found");
}

#[test]
fn every_span_of_the_relay_is_named_after_a_step_and_has_known_fields() {
    let mut found = Vec::new();
    for (file, text) in sources("relay") {
        for arguments in ["info_span!(", "debug_span!(", "trace_span!("].iter().flat_map(|begin| calls(&text, begin)) {
            let (name, fields) = arguments.split_first().expect("a span has a name");
            let name = name.trim_matches('"').to_owned();
            assert!(
                SPANS.contains(&name.as_str()),
                "{}: the span \"{name}\" is not named after a step",
                file.display()
            );
            assert_eq!(fields_problem(fields), None, "{}: {arguments:?}", file.display());
            found.push(name);
        }
        assert!(!text.contains("#[instrument"), "{}: name the span and its fields", file.display());
    }
    for step in ["pull", "store", "route", "deliver", "replay", "api"] {
        assert!(found.iter().any(|name| name == step), "there is no span {step}");
    }
}

#[test]
fn every_log_line_of_the_edge_has_a_constant_message_and_known_fields() {
    let mut seen = 0;
    for (file, text) in sources("edge/src") {
        if file.ends_with("edge/src/log.rs") {
            continue;
        }
        assert!(!text.contains("console_"), "{}: log through edge/src/log.rs", file.display());
        for arguments in ["log::error(", "log::warn("].iter().flat_map(|begin| calls(&text, begin)) {
            seen += 1;
            let [message, fields] = &arguments[..] else { panic!("{}: {arguments:?}", file.display()) };
            assert!(is_constant(message), "{}: {message} is not a constant text", file.display());
            let names = fields.split("(\"").skip(1).filter_map(|field| field.split('"').next());
            for name in names {
                assert!(FIELDS.contains(&name), "{}: the field {name} is not known", file.display());
            }
        }
    }
    assert!(seen >= 6, "only {seen} log lines were found");
}

#[test]
fn log_lines_that_break_the_rules_are_found() {
    let problem = |call: &str| {
        let text = format!("tracing::warn!({call});");
        event_problem(&calls(&text, "tracing::warn!(").remove(0))
    };
    for right in [
        "\"a constant text\"",
        "%error, \"a constant text\"",
        "error = f(a, \"b, c\"), destination = %id, ?decision, \"text (with, signs)\",",
    ] {
        assert_eq!(problem(right), None, "{right}");
    }
    for wrong in [
        "\"the text {error}\"",
        "\"the text {}\", error",
        "text",
        "message = id, \"a text\"",
        "cause, \"a text\"",
        "problem = %error, \"a text\"",
        "reason, \"a text\"",
    ] {
        assert!(problem(wrong).is_some(), "{wrong}");
    }
}

/// The problem with the arguments of an event, if there is one.
fn event_problem(arguments: &[String]) -> Option<String> {
    let (message, fields) = arguments.split_last()?;
    if !is_constant(message) {
        return Some(format!("{message} is not a constant text"));
    }
    fields_problem(fields)
}

/// Whether a text is one literal without a placeholder.
fn is_constant(text: &str) -> bool {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    inner.is_some_and(|inner| !inner.contains(['{', '"']) && !inner.is_empty())
}

fn fields_problem(fields: &[String]) -> Option<String> {
    let name = |field: &str| {
        let name = field.split_once('=').map_or(field, |(name, _)| name);
        name.trim().trim_start_matches(['%', '?']).to_owned()
    };
    let unknown = fields.iter().map(|field| name(field)).find(|name| !FIELDS.contains(&name.as_str()));
    unknown.map(|name| format!("the field {name} is not known"))
}

/// The arguments of each call that begins with this text.
fn calls(text: &str, begin: &str) -> Vec<Vec<String>> {
    text.match_indices(begin).map(|(at, _)| arguments(&text[at + begin.len()..])).collect()
}

/// The arguments up to the parenthesis that closes the call.
fn arguments(text: &str) -> Vec<String> {
    let (mut all, mut current) = (Vec::new(), String::new());
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for character in text.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => in_text = !in_text,
            '(' | '[' | '{' if !in_text => depth += 1,
            ')' | ']' | '}' if !in_text && depth > 0 => depth -= 1,
            ')' if !in_text => break,
            ',' if !in_text && depth == 0 => {
                all.push(std::mem::take(&mut current).trim().to_owned());
                continue;
            }
            _ => {}
        }
        current.push(character);
    }
    let last = current.trim();
    if !last.is_empty() {
        all.push(last.to_owned());
    }
    all
}

/// The sources under a folder of the repository, without the files `tests.rs`.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    read(&place::repository().join(folder), &mut found);
    assert!(!found.is_empty(), "there are no sources in {folder}");
    found
}

fn read(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).expect("reads") {
        let path = entry.expect("reads").path();
        if path.is_dir() {
            read(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).expect("reads");
            found.push((path, text));
        }
    }
}
