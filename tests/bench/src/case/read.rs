//! Calls that read, with millions of events in history: the overview, lists, and the search in bodies.

use std::time::Instant;

use harness::error::{Error, Result};
use reqwest::Method;

use crate::calls::{Timed, send};
use crate::figure::{Figure, Limit, Report};
use crate::history::{self, DAYS};
use crate::options::Options;
use crate::pairs::Side;
use crate::run::count;

/// How often each call is made. The first tenth is not counted.
const CALLS: usize = 300;
const WARM_UP: usize = 10;

/// The calls of which 99 in 100 have to end within [`MOST_MS`].
const PAGES: [(&str, &str); 5] = [
    ("the overview", "/v1/overview"),
    ("a page of events", "/v1/events?limit=50"),
    ("a page of deliveries", "/v1/deliveries?limit=50"),
    ("a page of succeeded deliveries", "/v1/deliveries?state=succeeded&limit=50"),
    ("a page of dead deliveries, of which there are none", "/v1/deliveries?state=dead&limit=50"),
];
const MOST_MS: f64 = 50.0;

/// The bounds of one search in bodies (`docs/API.md`), and how much longer its last statement may take.
const MOST_EVENTS: u64 = 200_000;
const MOST_BYTES: u64 = 256 << 20;
const MOST_SEARCH_S: f64 = 5.0 + 1.0;

/// How many calls continue the search.
const SEARCHES: usize = 4;

/// Fills history, and measures the calls.
///
/// # Errors
/// Returns an error if a part does not start, or if a call fails.
pub async fn run(options: Options) -> Result<Report> {
    let rows = options.rows.unwrap_or(options.pick(10_000_000, 50_000));
    let Side { stack, .. } = Side::start("history").await?;
    history::fill(&stack, rows, 1).await?;
    for statement in ["vacuum analyze", "checkpoint"] {
        stack.execute(statement.to_owned()).await?;
    }

    let mut report = Report::new(format!("Calls that read, with {rows} events in history"));
    let api = &stack.gateway.api;
    for (what, path) in PAGES {
        let mut timed = Timed::new(api, Method::GET, path);
        let calls = options.pick(CALLS, 20);
        for turn in 0..calls + calls / WARM_UP {
            if turn == calls / WARM_UP {
                timed.forget();
            }
            timed.call(None).await?;
        }
        report.figure(Figure::new(format!("{what}, p50"), timed.quantile_ms(0.5), "ms"));
        report.figure(Figure::new(format!("{what}, p99"), timed.quantile_ms(0.99), "ms").must(Limit::AtMost(MOST_MS)));
    }

    let mut path = "/v1/events/search?contains=in%20no%20body&limit=50".to_owned();
    let (mut seconds, mut events, mut bytes): (Vec<f64>, Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new(), Vec::new());
    let mut until = String::new();
    for _ in 0..SEARCHES {
        let begun = Instant::now();
        let reply = send(api, Method::GET, &path, None).await?;
        seconds.push(begun.elapsed().as_secs_f64());
        let number = |field: &str| reply.body[field].as_u64();
        let (Some(searched_events), Some(searched_bytes)) = (number("searched_events"), number("searched_bytes"))
        else {
            return Err(Error::new(format!("GET {path} answered {}: {}", reply.status, reply.body)));
        };
        events.push(searched_events);
        bytes.push(searched_bytes);
        // How far it got has to be said by every call that has not reached the end of history.
        let Some(cursor) = reply.body["next_cursor"].as_str() else { break };
        let Some(reached) = reply.body["searched_until"].as_str() else {
            return Err(Error::new(format!("a search that goes on does not say how far it got: {}", reply.body)));
        };
        reached.clone_into(&mut until);
        path = format!("/v1/events/search?contains=in%20no%20body&limit=50&cursor={cursor}");
    }
    let slowest = seconds.iter().copied().fold(0.0, f64::max);
    let most = |values: &[u64]| values.iter().copied().max().unwrap_or(0);
    report.figure(Figure::new("a search in bodies, slowest call", slowest, "s").must(Limit::AtMost(MOST_SEARCH_S)));
    // A batch that has begun is finished.
    let bound = count(MOST_EVENTS + 500);
    report.figure(Figure::new("events searched by one call", count(most(&events)), "").must(Limit::AtMost(bound)));
    let bound = count(MOST_BYTES + (8 << 20));
    report.figure(Figure::new("bytes searched by one call", count(most(&bytes)), "").must(Limit::AtMost(bound)));
    let searched = events.iter().sum::<u64>();
    report.note(format!("the search: {} calls searched {searched} events, and came to {until}", events.len()));
    report.note(format!("history is spread over {DAYS} days; the events of today have bodies of 1,000 bytes"));
    report.note("one call at a time on one connection");
    Ok(report)
}
