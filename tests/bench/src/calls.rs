//! Calls of the API, with their latencies.

use std::time::Instant;

use harness::api::{Api, Reply};
use harness::error::{Doing as _, Error, Result};
use hdrhistogram::Histogram;
use reqwest::Method;
use serde_json::Value;

use super::run::quantile_ms;
use super::sink::histogram;

/// A call, and how long it took so far.
#[derive(Debug)]
pub struct Timed {
    pub api: Api,
    method: Method,
    path: String,
    latencies: Histogram<u64>,
}

impl Timed {
    /// A call that has not been made yet.
    #[must_use]
    pub fn new(api: &Api, method: Method, path: impl Into<String>) -> Self {
        Self { api: api.clone(), method, path: path.into(), latencies: histogram() }
    }

    /// Calls once, and records the time until the response has arrived.
    ///
    /// # Errors
    /// Returns an error if the response is not 200.
    pub async fn call(&mut self, body: Option<&Value>) -> Result<()> {
        self.call_with(&[], body).await
    }

    /// As [`Self::call`], with these headers.
    ///
    /// # Errors
    /// Returns an error if the response is not 200.
    pub async fn call_with(&mut self, headers: &[(&str, &str)], body: Option<&Value>) -> Result<()> {
        let begun = Instant::now();
        let sent = self.api.try_call_with(self.method.clone(), &self.path, headers, body).await;
        let (reply, _) = sent.doing(|| format!("cannot call {} {}", self.method, self.path))?;
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        if reply.status != 200 {
            return Err(Error::new(format!("{} {} answered {}: {}", self.method, self.path, reply.status, reply.body)));
        }
        self.latencies.saturating_record(took.max(1));
        Ok(())
    }

    /// Forgets the calls so far.
    pub fn forget(&mut self) {
        self.latencies.reset();
    }

    /// A quantile of the latencies, in milliseconds.
    #[must_use]
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        quantile_ms(&self.latencies, quantile)
    }

    /// The median and the 99th percentile, as a text.
    #[must_use]
    pub fn text(&self) -> String {
        format!("p50 {:.2} ms, p99 {:.2} ms", self.quantile_ms(0.5), self.quantile_ms(0.99))
    }
}

/// Makes a call whose response may have any status.
///
/// # Errors
/// Returns an error if there is no response.
pub async fn send(api: &Api, method: Method, path: &str, body: Option<&Value>) -> Result<Reply> {
    let call = || format!("cannot call {method} {path}");
    api.try_call(method.clone(), path, body).await.doing(call)
}
