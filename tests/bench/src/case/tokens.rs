//! What the look-up of a token adds to a call: the same calls in turn with a root token, which is compared in memory,
//! and with a token that the API has made. And what an idempotency key adds to a change.

use harness::api::Api;
use harness::error::Result;
use reqwest::Method;
use serde_json::{Value, json};

use crate::calls::Timed;
use crate::figure::{Figure, Limit, Report};
use crate::options::Options;
use crate::stack::Stack;

/// The number of calls of each kind that change nothing, and of those that change a destination.
const READS: usize = 2_000;
const CHANGES: usize = 400;

/// Of these calls, the first tenth is not counted.
const WARM_UP: usize = 10;

/// The indexes of the callers: with a root token, with a token of the API, and of the other program.
const ROOT: usize = 0;
const MADE: usize = 1;
const OTHER: usize = 2;

/// Who calls which relay.
struct Caller {
    name: &'static str,
    api: Api,
    destination: String,
}

/// Measures the calls. With the option `base`, the relay of that program is called in turn too, with its root token.
///
/// # Errors
/// Returns an error if a part does not start, or if a call fails.
pub async fn run(options: Options) -> Result<Report> {
    let stack = Stack::start(1).await?;
    let api = &stack.gateway.api;
    let destination = destination(api).await;
    let made = api.limited_to(&["read", "write"], None).await;
    let mut callers = vec![
        Caller { name: "a root token", api: api.clone(), destination: destination.clone() },
        Caller { name: "a token of the API", api: made, destination },
    ];
    let base = match &options.base {
        Some(program) => Some(Stack::start_program(Some(program)).await?),
        None => None,
    };
    if let Some(base) = &base {
        let api = base.gateway.api.clone();
        let destination = self::destination(&api).await;
        callers.push(Caller { name: "the root token of the other program", api, destination });
    }

    let mut report = Report::new("Calls of the API with a root token and with a token of the API, in turn");
    let (reads, changes) = (options.pick(READS, 100), options.pick(CHANGES, 20));
    let path = |caller: &Caller| format!("/v1/destinations/{}", caller.destination);
    // Another version may not have this call.
    let known = &callers[..callers.len() - usize::from(base.is_some())];
    let whoami = measure(known, &Method::GET, |_| "/v1/whoami".to_owned(), reads, |_| None).await?;
    add(&mut report, "GET /v1/whoami", known, &whoami);
    let shown = measure(&callers, &Method::GET, path, reads, |_| None).await?;
    add(&mut report, "GET /v1/destinations/{id}", &callers, &shown);
    let change = |turn: usize| Some(json!({ "timeout_ms": 10_000 + turn % 2 }));
    let changed = measure(&callers, &Method::PATCH, path, changes, change).await?;
    add(&mut report, "PATCH /v1/destinations/{id}", &callers, &changed);
    add_keys(&mut report, &callers[ROOT], changes).await?;
    report.note("one call at a time on one connection for each caller; the callers take turns");
    Ok(report)
}

async fn destination(api: &Api) -> String {
    api.create_destination("called", "http://127.0.0.1:8999/", json!({})).await.id
}

/// Makes the same call for each caller in turn, so many times.
async fn measure(
    callers: &[Caller],
    method: &Method,
    path: impl Fn(&Caller) -> String,
    times: usize,
    body: impl Fn(usize) -> Option<Value>,
) -> Result<Vec<Timed>> {
    let mut calls: Vec<Timed> =
        callers.iter().map(|caller| Timed::new(&caller.api, method.clone(), path(caller))).collect();
    let warm_up = times / WARM_UP;
    for turn in 0..warm_up + times {
        if turn == warm_up {
            calls.iter_mut().for_each(Timed::forget);
        }
        let body = body(turn);
        // The order alternates, because a call may be slowed down by what the call before it has left.
        for index in 0..calls.len() {
            let index = if turn % 2 == 0 { index } else { calls.len() - 1 - index };
            calls[index].call(body.as_ref()).await?;
        }
    }
    Ok(calls)
}

/// Measures what an idempotency key adds to a change: the same call in turn without a key and with a new one.
async fn add_keys(report: &mut Report, caller: &Caller, times: usize) -> Result<()> {
    let path = format!("/v1/destinations/{}/signing-secret/rotate", caller.destination);
    let mut calls =
        [Timed::new(&caller.api, Method::POST, path.as_str()), Timed::new(&caller.api, Method::POST, path.as_str())];
    let warm_up = times / WARM_UP;
    for turn in 0..warm_up + times {
        if turn == warm_up {
            calls.iter_mut().for_each(Timed::forget);
        }
        let key = format!("key-{turn}");
        for index in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
            let headers: &[(&str, &str)] = if index == 0 { &[] } else { &[("idempotency-key", key.as_str())] };
            calls[index].call_with(headers, Some(&json!({ "overlap_s": 0 }))).await?;
        }
    }
    let what = "POST /v1/destinations/{id}/signing-secret/rotate";
    for (kind, timed) in ["without a key", "with an idempotency key"].into_iter().zip(&calls) {
        report.figure(Figure::new(format!("{what} {kind}, p50"), timed.quantile_ms(0.5), "ms"));
        report.figure(Figure::new(format!("{what} {kind}, p99"), timed.quantile_ms(0.99), "ms"));
    }
    let added = calls[1].quantile_ms(0.5) - calls[0].quantile_ms(0.5);
    report.figure(Figure::new(format!("{what}: a key adds, at p50"), added, "ms").must(Limit::AtMost(1.0)));
    Ok(())
}

/// Adds the median of each caller, what a token of the API adds to that of each root token, and what this program adds
/// to the other.
fn add(report: &mut Report, what: &str, callers: &[Caller], calls: &[Timed]) {
    for (caller, timed) in callers.iter().zip(calls) {
        report.figure(Figure::new(format!("{what} with {}, p50", caller.name), timed.quantile_ms(0.5), "ms"));
        report.figure(Figure::new(format!("{what} with {}, p99", caller.name), timed.quantile_ms(0.99), "ms"));
    }
    let made = &calls[MADE];
    let roots = callers.iter().zip(calls).enumerate().filter(|(index, _)| *index != MADE);
    for (_, (caller, timed)) in roots {
        let added = made.quantile_ms(0.5) - timed.quantile_ms(0.5);
        let what = format!("{what}: a token of the API adds to {}, at p50", caller.name);
        report.figure(Figure::new(what, added, "ms").must(Limit::AtMost(1.0)));
    }
    if let Some(other) = calls.get(OTHER) {
        let added = calls[ROOT].quantile_ms(0.5) - other.quantile_ms(0.5);
        let what = format!("{what}: this program adds to the other, with root tokens, at p50");
        report.figure(Figure::new(what, added, "ms").must(Limit::AtMost(1.0)));
    }
}
