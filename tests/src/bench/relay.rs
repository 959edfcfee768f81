//! The relay end to end: events wait in the local queue, and the time is taken from the first delivery to the last.
//!
//! Everything is on this machine and shares its cores: the queue, PostgreSQL, the relay, the destination that answers
//! 200 at once.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::gateway::Gateway;

/// What a run came to.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub events: usize,
    /// From the first delivery to the last.
    pub delivering: Duration,
    /// From the start of the relay's first pull to the last delivery being settled.
    pub settled: Duration,
}

impl Run {
    /// Deliveries per second, until all of them were settled.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let events = self.events as f64;
        events / self.settled.as_secs_f64()
    }
}

/// Delivers `events` of `body_bytes` to one destination with `concurrency` attempts at a time.
pub async fn measure(events: usize, body_bytes: usize, concurrency: usize) -> Run {
    let gateway = Gateway::relay_only().await;
    let line = gateway.line("bench").await;
    let path = "/v1/destinations/by-name/bench";
    let wanted = json!({ "name": "bench", "url": line.receiver.url(), "max_concurrency": concurrency });
    gateway.api.put(path, &wanted).await.expect_status(200);
    let filler = "x".repeat(body_bytes.saturating_sub(40));
    let begun = Instant::now();
    for number in 0..events {
        gateway.push(&line.source, format!(r#"{{"number":{number},"filler":"{filler}"}}"#).as_bytes());
    }
    let requests = line.receiver.wait_for(events, Duration::from_secs(600)).await;
    let settled = async || {
        let page = gateway.api.get("/v1/deliveries?state=pending&limit=1").await.expect_status(200);
        let pending = page["data"].as_array().map_or(0, Vec::len);
        if pending == 0 { Ok(()) } else { Err("some are pending".to_owned()) }
    };
    crate::wait::until("all to be settled", Duration::from_secs(60), settled).await;
    let settled = begun.elapsed();
    let first = requests.iter().map(|request| request.at).min().unwrap_or(begun);
    let last = requests.iter().map(|request| request.at).max().unwrap_or(begun);
    Run { events, delivering: last - first, settled }
}
