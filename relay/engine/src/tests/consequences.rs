//! The table at the head of `outcome.rs`: each row is compared with what the engine does.

use http::StatusCode;
use model::failure::{EgressError, SendFailure, TlsFailure};
use model::settlement::Next;

use super::*;
use crate::tuning::{FIRST_THROTTLE_BACK_OFF_US, LATE_TRANSFORMS, NOT_SENT_WAIT_US, THROTTLED_FOR_FREE};

/// The wait that the destination asks for in `Retry-After`, in milliseconds: longer than the first waits of its
/// schedule.
const ASKED_MS: u64 = 60_000;

/// One row: outcomes that all have the same consequences.
struct Kind {
    answer: &'static str,
    outcomes: Vec<Outcome>,
    /// Sets up earlier attempts of the delivery.
    item: fn(&mut Item),
    /// The outcome of another delivery to the same destination before.
    before: Option<Outcome>,
}

fn kind(answer: &'static str, outcomes: impl IntoIterator<Item = Outcome>) -> Kind {
    Kind { answer, outcomes: outcomes.into_iter().collect(), item: |_| {}, before: None }
}

fn statuses(answer: &'static str, statuses: &[u16]) -> Kind {
    kind(answer, statuses.iter().map(|status| failed(*status, None)))
}

fn no_response(failure: SendFailure) -> Outcome {
    Outcome::Failed { attempt: attempt(), failure: Failure::NoAnswer(failure), retry_after_ms: None }
}

fn redirect() -> Outcome {
    let failure = Failure::Redirect { status: 302, location: "https://example.com/".to_owned() };
    Outcome::Failed { attempt: attempt(), failure, retry_after_ms: None }
}

fn reason() -> String {
    "a reason".to_owned()
}

/// The row of a failure without a response. A new kind of failure needs a row.
fn row_of(failure: &SendFailure) -> &'static str {
    match failure {
        SendFailure::Timeout | SendFailure::ConnectTimeout => "no response in time",
        SendFailure::NameNotResolved => "host name without an address",
        SendFailure::Refused | SendFailure::Unreachable | SendFailure::NoResponse => {
            "no connection, or one that ends without a response"
        }
        SendFailure::Tls(_) => "TLS handshake failed",
        SendFailure::Blocked(_) => "address or port that may not be called",
        SendFailure::NotHttp | SendFailure::TooMuch => "not HTTP",
        SendFailure::Ours(_) => "a fault of the relay: no descriptors, no database, no lease",
    }
}

fn without_response() -> Vec<Kind> {
    let mut rows: Vec<Kind> = Vec::new();
    for failure in [
        SendFailure::ConnectTimeout,
        SendFailure::Timeout,
        SendFailure::NameNotResolved,
        SendFailure::Refused,
        SendFailure::NoResponse,
        SendFailure::Unreachable,
        SendFailure::Tls(TlsFailure::Certificate),
        SendFailure::Blocked(EgressError::HostBlocked("internal.example".to_owned())),
        SendFailure::Blocked(EgressError::PortBlocked(5432)),
        SendFailure::NotHttp,
        SendFailure::TooMuch,
    ] {
        let answer = row_of(&failure);
        match rows.last_mut().filter(|row| row.answer == answer) {
            Some(row) => row.outcomes.push(no_response(failure)),
            None => rows.push(kind(answer, [no_response(failure)])),
        }
    }
    rows
}

fn kinds() -> Vec<Kind> {
    let mut kinds = vec![
        kind("2xx", [succeeded()]),
        statuses("410", &[410]),
        Kind {
            before: Some(failed(410, None)),
            ..statuses("410 to a request that was sent before the first 410 arrived", &[410])
        },
        kind("429 with `Retry-After`", [failed(429, Some(ASKED_MS))]),
        statuses("429 without `Retry-After`", &[429]),
        Kind {
            item: |item| (item.attempts, item.throttled) = (THROTTLED_FOR_FREE, THROTTLED_FOR_FREE),
            ..statuses("429 without `Retry-After`, the 101st of one delivery", &[429])
        },
        kind("503 with `Retry-After`", [failed(503, Some(ASKED_MS))]),
        statuses("502, 503, 504", &[502, 503, 504]),
        kind(
            "any other 5xx, 1xx, 3xx",
            [100, 103, 300, 304, 500, 501, 505, 599].map(|status| failed(status, None)).into_iter().chain([redirect()]),
        ),
        kind("500 with `Retry-After`", [failed(500, Some(ASKED_MS))]),
        statuses("401, 403, 407, 408", &[401, 403, 407, 408]),
        statuses("any other 4xx, such as 400, 404, 409, 413, 422", &[400, 402, 404, 409, 413, 422, 451, 499]),
    ];
    kinds.extend(without_response());
    let internal = Failure::Internal(reason());
    let internal = Outcome::Failed { attempt: attempt(), failure: internal, retry_after_ms: None };
    kinds.push(kind("the relay panicked during the request", [internal]));
    kinds.push(Kind {
        item: |item| item.attempts = 2,
        ..statuses("any failure at the last attempt of the schedule", &[500])
    });
    kinds.push(kind("the transform failed", [Outcome::TransformFailed { reason: reason() }]));
    kinds.push(kind("the transform was not evaluated in time", [Outcome::TransformLate { reason: reason() }]));
    kinds.push(Kind {
        item: |item| item.not_sent = LATE_TRANSFORMS - 1,
        ..kind("the same, for the 8th time in a row", [Outcome::TransformLate { reason: reason() }])
    });
    kinds.push(kind("the transform that was current when it was created is no longer known", [Outcome::RouteGone]));
    kinds.push(kind("no request can be made from the URL", [Outcome::Unsendable { reason: reason() }]));
    kinds.push(kind("the body of the event is no longer kept", [Outcome::BodyGone]));
    let ours = SendFailure::Ours(reason());
    kinds.push(kind(row_of(&ours), [Outcome::NotSent { reason: ours.to_string() }]));
    kinds
}

/// What the engine does with one outcome, in the words of the table.
fn consequences(kind: &Kind, outcome: &Outcome) -> [String; 5] {
    let destination = Destination { max_concurrency: 20, ..destination(1) };
    let mut core = core_with(&destination);
    let items = (0..20).map(|number| {
        let mut item = item(&destination, number, START_US);
        (kind.item)(&mut item);
        item
    });
    let mut sent = sends(&core.handle(Input::Fresh(items.collect()), START_US));
    assert!(sent.len() >= 12, "{}", sent.len());
    let learned = |core: &Core| core.lines[&destination.id].learned(false, START_US);
    if let Some(before) = &kind.before {
        core.handle(answered(sent.remove(0), before.clone()), START_US);
    }
    let before = learned(&core);
    let item = sent.remove(0);
    let commands = core.handle(answered(item.clone(), outcome.clone()), START_US);
    let after = learned(&core);
    // Ten more of the same, which open the breaker if they count.
    for item in sent.drain(..10) {
        core.handle(answered(item, outcome.clone()), START_US);
    }
    let breaker = matches!(learned(&core).breaker, BreakerState::Open { .. });

    let [settlement] = settlements(&commands).try_into().expect("one settlement");
    let disabled = commands.iter().any(|command| matches!(command, Command::Disable(_, Disabling::Gone)));
    let delivery = match &settlement.next {
        Next::Succeeded => "succeeded".to_owned(),
        Next::Dead { .. } => "dead".to_owned(),
        Next::RetryIn(wait) if wait.is_zero() => "kept until the destination is resumed".to_owned(),
        Next::RetryIn(wait) if u16::try_from(settlement.throttled).expect("small") > item.throttled => {
            assert_eq!(*wait, Duration::from_micros(FIRST_THROTTLE_BACK_OFF_US));
            "retried after the back-off, not charged".to_owned()
        }
        Next::RetryIn(wait) if *wait == Duration::from_millis(ASKED_MS) => {
            "retried, no sooner than requested".to_owned()
        }
        Next::RetryIn(wait) => {
            assert_eq!(*wait, seconds(10), "the second attempt of the schedule");
            "retried on its schedule".to_owned()
        }
        Next::Held { by, .. } => format!("held by `{}`", by.name()),
        Next::NotSent { wait, .. } => {
            assert_eq!(*wait, Duration::from_micros(NOT_SENT_WAIT_US));
            "tried again soon, not charged".to_owned()
        }
        Next::Behind { .. } => panic!("it was sent"),
    };
    let counts = [("breaker", breaker), ("run", after.failing != before.failing)];
    let counts: Vec<_> = counts.into_iter().filter(|(_, counts)| *counts).map(|(name, _)| name).collect();
    let stops_for_us = after.back_off_until_us.filter(|_| after.back_off_until_us != before.back_off_until_us);
    let stops_for_us = stops_for_us.map(|until_us| until_us - START_US);
    let sends = match (after.reduced.is_some(), stops_for_us) {
        (false, None) => "go on",
        (true, None) => "are halved",
        (false, Some(_)) if disabled => "stop: it is disabled",
        (true, Some(us)) if us == ASKED_MS * 1_000 => "are halved, and stop for as long as requested",
        (true, Some(FIRST_THROTTLE_BACK_OFF_US)) => "are halved, and stop for a back-off that doubles",
        (reduced, stops) => panic!("reduced: {reduced}, stops for {stops:?}"),
    };
    let event = if matches!(settlement.next, Next::Held { .. }) {
        "`deliveries.held`"
    } else if disabled {
        "`destination.disabled`"
    } else {
        "–"
    };
    let error = if let Outcome::Failed { failure, .. } = outcome { format!("`{}`", failure.code()) } else { dash() };
    let counts = if counts.is_empty() { dash() } else { counts.join(", ") };
    [error, delivery, counts, sends.to_owned(), event.to_owned()]
}

fn dash() -> String {
    "–".to_owned()
}

/// The table as it would be written.
fn rows() -> Vec<String> {
    let rows = kinds().into_iter().map(|kind| {
        let mut errors = Vec::new();
        let mut others = Vec::new();
        for outcome in &kind.outcomes {
            let [error, rest @ ..] = consequences(&kind, outcome);
            errors.push(error);
            others.push(rest);
        }
        errors.dedup();
        others.dedup();
        assert_eq!(others.len(), 1, "the outcomes of the row \"{}\" differ", kind.answer);
        format!("//! | {} | {} | {} |", kind.answer, errors.join(", "), others[0].join(" | "))
    });
    rows.collect()
}

#[test]
fn the_table_of_responses_says_what_the_engine_does() {
    let source = include_str!("../outcome.rs");
    let written: Vec<&str> = source.lines().filter(|line| line.starts_with("//! | ")).skip(1).collect();
    let made = rows();
    assert_eq!(written, made, "the table at the head of outcome.rs should be:\n{}", made.join("\n"));
}

#[test]
fn every_status_is_a_success_or_a_failure() {
    let mut ranges: Vec<(String, u16, u16)> = vec![];
    for status in 100..=599 {
        let outcome = match Failure::of(StatusCode::from_u16(status).expect("a status"), None) {
            None => "Succeeded".to_owned(),
            Some(Failure::Gone) => "Gone".to_owned(),
            Some(failure) => {
                assert_eq!(failure, Failure::Status(status));
                "Failed".to_owned()
            }
        };
        match ranges.last_mut() {
            Some((last, _, to)) if *last == outcome => *to = status,
            _ => ranges.push((outcome, status, status)),
        }
    }
    let ranges: Vec<_> = ranges.iter().map(|(outcome, from, to)| format!("{from}-{to} {outcome}")).collect();
    let failures = ["100-199 Failed", "200-299 Succeeded", "300-409 Failed", "410-410 Gone", "411-599 Failed"];
    assert_eq!(ranges, failures);
    let at = |status| Failure::of(status, Some("https://example.com/".to_owned()));
    assert!(matches!(at(StatusCode::FOUND), Some(Failure::Redirect { status: 302, .. })));
    assert_eq!((at(StatusCode::GONE), at(StatusCode::NO_CONTENT)), (Some(Failure::Gone), None));
}
