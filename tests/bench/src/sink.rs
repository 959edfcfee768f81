//! A destination with little overhead: it counts requests, keeps latencies in a histogram, and stores only how often
//! each event arrived, and the times of arrival.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use harness::error::{Doing as _, Result};
use harness::receiver::Behaviour;
use harness::server::{Answer, Cut, Server};

/// A running destination. Dropping it closes its port.
#[derive(Debug)]
pub struct Sink {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    behaviour: Behaviour,
    seen: Mutex<Seen>,
}

/// The requests so far.
#[derive(Debug)]
struct Seen {
    /// The latencies from the scheduled time of an event to its arrival, in microseconds.
    latencies: Histogram<u64>,
    /// How often each event arrived, by its number.
    times: HashMap<u64, u32>,
    arrivals_us: Vec<u64>,
}

/// The microseconds since the first call in this process.
#[must_use]
pub fn now_us() -> u64 {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(ORIGIN.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Builds the body of an event: its number, its scheduled time, and filler up to `bytes`.
#[must_use]
pub fn body(number: u64, due_us: u64, bytes: usize) -> Vec<u8> {
    let head = format!(r#"{{"number":{number},"due_us":{due_us},"filler":""#);
    let filler = "x".repeat(bytes.saturating_sub(head.len() + 2));
    format!("{head}{filler}\"}}").into_bytes()
}

/// Creates an empty histogram of microseconds: three digits, up to an hour.
///
/// # Panics
/// Never panics, because the bounds are valid.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap_or_else(|error| panic!("{error}"))
}

impl Sink {
    /// Starts a destination.
    ///
    /// # Errors
    /// Returns an error if no port is free.
    pub async fn start(behaviour: Behaviour) -> Result<Self> {
        let seen = Seen { latencies: histogram(), times: HashMap::new(), arrivals_us: Vec::new() };
        let shared = Arc::new(Shared { behaviour, seen: Mutex::new(seen) });
        let for_handler = Arc::clone(&shared);
        let server = Server::start(0, move |request| answer(Arc::clone(&for_handler), request)).await;
        Ok(Self { server: server.doing(|| "cannot listen".to_owned())?, shared })
    }

    /// The URL to deliver to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.server.address())
    }

    /// The number of requests so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.seen().arrivals_us.len() as u64
    }

    /// The number of connections so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.server.connections()
    }

    /// The number of different events so far.
    #[must_use]
    pub fn different(&self) -> u64 {
        self.seen().times.len() as u64
    }

    /// The number of different events so far whose number is at least `first`.
    #[must_use]
    pub fn different_from(&self, first: u64) -> u64 {
        self.seen().times.keys().filter(|number| **number >= first).count() as u64
    }

    /// The latencies since they were last taken.
    #[must_use]
    pub fn take_latencies(&self) -> Histogram<u64> {
        std::mem::replace(&mut self.seen().latencies, histogram())
    }

    /// The most requests that arrived within any window of this length.
    #[must_use]
    pub fn most_within(&self, window: Duration) -> usize {
        let window_us = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        let mut times = self.seen().arrivals_us.clone();
        times.sort_unstable();
        let (mut first, mut most) = (0, 0);
        for (last, at) in times.iter().enumerate() {
            while at - times[first] >= window_us {
                first += 1;
            }
            most = most.max(last - first + 1);
        }
        most
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.shared)
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let body = request.into_body().collect().await.map_err(|_| Cut::Close)?.to_bytes();
    let now_us = now_us();
    {
        let mut seen = lock(&shared);
        if let Some((number, due_us)) = read(&body) {
            seen.latencies.saturating_record(now_us.saturating_sub(due_us).max(1));
            *seen.times.entry(number).or_default() += 1;
        }
        seen.arrivals_us.push(now_us);
    }
    shared.behaviour.clone().act().await
}

fn lock(shared: &Shared) -> MutexGuard<'_, Seen> {
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Parses the number and the scheduled time of a body that [`body`] built.
fn read(body: &[u8]) -> Option<(u64, u64)> {
    let head = std::str::from_utf8(body.get(..body.len().min(80))?).ok()?;
    let mut fields = head.strip_prefix(r#"{"number":"#)?.splitn(3, ',');
    let number = fields.next()?.parse().ok()?;
    Some((number, fields.next()?.strip_prefix(r#""due_us":"#)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_the_requested_size_and_contains_its_number_and_time() {
        let body = body(7, 1_234_567, 1_000);
        assert_eq!(body.len(), 1_000);
        assert_eq!(read(&body), Some((7, 1_234_567)));
        assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
        assert_eq!(read(b"{}"), None);
    }
}
