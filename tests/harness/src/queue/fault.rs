//! Faults that the local queue produces on demand.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::JsonBodies;

/// The active faults. By default all are off. A field that is missing in JSON has its default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// A Worker's sends are refused because the queue is overloaded (10250).
    pub overloaded: Times,
    /// Pulls are answered with `pull_status`.
    pub pull_failures: Times,
    /// The status of a failing pull, such as 429 or 503; 0 counts as 500.
    pub pull_status: u16,
    /// Pulls take this much longer, in milliseconds.
    pub pull_latency_ms: u64,
    /// Every message is delivered twice.
    pub duplicates: bool,
    /// Acknowledgements are confirmed but have no effect: the messages return at once.
    pub forgotten_acks: Times,
    /// Connections are closed without a response, whatever the request.
    pub dropped_connections: Times,
    /// Pulls and acknowledgements are answered 405, as before `http_pull` is enabled for a queue.
    pub pull_disabled: bool,
    /// The form in which a pull returns bodies of content type `json`.
    pub json_bodies: JsonBodies,
    /// The response to a pull that is larger than this, in bytes, is cut off halfway: the connection is closed. 0 means
    /// no limit.
    pub pull_cut_above_bytes: u64,
    /// The response to a pull arrives at this rate, in bytes per second. 0 means no limit.
    pub pull_bytes_per_s: u64,
    /// Messages that a pull returns garbled.
    pub garbled: Option<Garbled>,
}

/// Which messages a pull garbles, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Garbled {
    /// Each message whose body contains this text is garbled.
    pub holding: String,
    pub how: Garble,
}

/// How a message is garbled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Garble {
    /// Its body makes the whole response invalid JSON.
    NotJson,
    /// Its body is a JSON string that encodes no text, because it has half of a surrogate pair.
    LoneSurrogate,
}

/// How many requests a fault affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Times {
    #[default]
    Never,
    Next(u64),
    UntilCleared,
}

impl Times {
    /// Whether the fault affects this request. Counts it if so.
    pub fn strike(&mut self) -> bool {
        match self {
            Self::Never | Self::Next(0) => false,
            Self::Next(left) => {
                *left -= 1;
                true
            }
            Self::UntilCleared => true,
        }
    }
}

impl Faults {
    /// The status of this pull, if it is to fail.
    pub fn failing_pull(&mut self) -> Option<u16> {
        let status = if self.pull_status == 0 { 500 } else { self.pull_status };
        self.pull_failures.strike().then_some(status)
    }

    /// How long a pull is delayed.
    #[must_use]
    pub fn pull_latency(&self) -> Duration {
        Duration::from_millis(self.pull_latency_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_fault_affects_exactly_that_many_requests() {
        let mut times = Times::Next(2);
        assert_eq!([times.strike(), times.strike(), times.strike()], [true, true, false]);
        assert!(!Times::Never.strike());
        let mut until_cleared = Times::UntilCleared;
        assert!((0..100).all(|_| until_cleared.strike()));
    }

    #[test]
    fn faults_are_read_from_json_and_a_misspelt_one_is_refused() {
        let read = |text: &str| serde_json::from_str::<Faults>(text);
        let faults = read(r#"{"overloaded":{"next":3},"duplicates":true}"#).expect("reads");
        assert_eq!(faults, Faults { overloaded: Times::Next(3), duplicates: true, ..Faults::default() });
        assert_eq!(read(r#"{"overloaded":"until_cleared"}"#).expect("reads").overloaded, Times::UntilCleared);
        assert!(read(r#"{"overlooded":"never"}"#).is_err());
    }
}
