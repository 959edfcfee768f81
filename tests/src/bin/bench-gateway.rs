//! `cargo bench-gateway [edge] [relay]`: how fast the edge and the relay are on this machine, and compared with what.

use std::process::ExitCode;
use std::time::Duration;

use tests::bench::edge::{self, Pair, Plan};
use tests::bench::{machine, relay};
use tests::tools::say;

#[tokio::main]
async fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted.iter().find(|name| !matches!(name.as_str(), "edge" | "relay")) {
        say(&format!("{unknown} is no benchmark: name edge, relay or both; without a name all of them run"));
        return ExitCode::FAILURE;
    }
    let runs = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    say(&format!("machine: {}", machine::describe()));
    say(
        "method: everything runs on this machine and shares its cores; medians; ratios hold better than absolute figures",
    );
    let edge_measured = !runs("edge") || measure_edge().await;
    if runs("relay") {
        measure_relay().await;
    }
    if edge_measured { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether all of it could be measured.
async fn measure_edge() -> bool {
    let mut measured = true;
    for (body_bytes, name) in [(1_000, "1 KB"), (100_000, "100 KB")] {
        say(&format!("edge, {name} body, HMAC-SHA256, bare workerd, 32 connections in a closed loop, 5 pairs of 4 s"));
        match edge::measure(Plan { body_bytes, pairs: 5, time: Duration::from_secs(4) }).await {
            Ok(pairs) => report(&pairs),
            Err(error) => {
                say(&format!("  not measured: {error}"));
                measured = false;
            }
        }
    }
    measured
}

async fn measure_relay() {
    for (events, concurrency) in [(30_000, 64), (30_000, 64), (30_000, 64)] {
        let run = relay::measure(events, 1_000, concurrency).await;
        say(&format!(
            "relay, {events} events of 1 KB waiting in the queue, one destination, {concurrency} at a time: {:.0} deliveries/s \
             pulled, stored, delivered and settled ({:.1} s; first to last delivery {:.1} s)",
            run.per_second(),
            run.settled.as_secs_f64(),
            run.delivering.as_secs_f64(),
        ));
    }
}

fn report(pairs: &[Pair]) {
    let rust = median(pairs.iter().map(|pair| pair.rust.load.per_second()));
    let javascript = median(pairs.iter().map(|pair| pair.javascript.load.per_second()));
    let ratio = median(pairs.iter().map(Pair::ratio));
    let all: Vec<String> = pairs.iter().map(|pair| format!("{:.2}", pair.ratio())).collect();
    say(&format!("  Rust {rust:.0}/s, JavaScript {javascript:.0}/s, ratio {ratio:.2} (pairs: {})", all.join(", ")));
    let rust = median(pairs.iter().filter_map(|pair| pair.rust.processor_us));
    let javascript = median(pairs.iter().filter_map(|pair| pair.javascript.processor_us));
    let ratio = median(pairs.iter().filter_map(Pair::processor_ratio));
    say(&format!(
        "  processor time of workerd per request: Rust {rust:.0} µs, JavaScript {javascript:.0} µs, ratio {ratio:.2}"
    ));
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
