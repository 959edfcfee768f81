//! The configuration of a source at the edge: how it verifies, with which secrets, and how it answers.
//!
//! The relay resolves a source's provider into this configuration and hands it to the edge. The edge therefore has an
//! interpreter of schemes and no catalogue of providers: a provider that is added or fixed in the relay needs no new
//! Worker.

use serde::{Deserialize, Serialize};

use crate::id::SourceId;
use crate::scheme::Scheme;
use crate::scheme::handshake::HandshakeRule;
pub use crate::secret::Secret;

/// The configuration of one source at the edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceConfig {
    pub id: SourceId,
    /// The source's name, also accepted in its URL in place of the id. It is unique at the edge: the name of the
    /// source's customer and a slash precede it, unless that is the default customer.
    pub name: String,
    /// Grows with every change; the edge refuses a revision that is older than the stored one.
    pub revision: u64,
    /// The provider's id, for human-readable messages; the edge decides nothing by it.
    pub provider: String,
    pub scheme: Scheme,
    /// The newest first. A request may be signed with any of them, so that a secret can be rotated without a refused
    /// request. If the scheme is `all_of`, every rule needs one that fits it. A handshake is signed with the first.
    pub secrets: Vec<Secret>,
    /// Secrets that were active before. None of them is accepted; they serve to report to the owner that a sender still
    /// uses one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired_secrets: Vec<Secret>,
    /// The safe methods (RFC 9110, section 9.2.1) whose requests are events. Requests of all other methods always are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<SafeMethod>,
    #[serde(default)]
    pub on_failure: OnFailure,
    #[serde(default)]
    pub on_stale: OnStale,
    #[serde(default)]
    pub handshakes: Vec<HandshakeRule>,
    #[serde(default)]
    pub acknowledgement: Acknowledgement,
    /// The largest body that is accepted, in bytes.
    pub max_body_bytes: u64,
    /// The largest body that is kept of a request that fails, in bytes; a request with a larger one is refused.
    #[serde(default = "default_unverified_body_bytes")]
    pub max_unverified_body_bytes: u64,
    /// Until when events are refused because the customer of the source is over its rate, in Unix milliseconds. A time
    /// that has passed refuses nothing, so the relay need not write the source again at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_until: Option<u64>,
}

impl SourceConfig {
    /// For how many seconds from `now` (Unix milliseconds) the events of the source are refused because its customer is
    /// over its rate, rounded up; `None` if they are accepted.
    #[must_use]
    pub fn refused_for_s(&self, now: u64) -> Option<u64> {
        let left = self.refused_until?.saturating_sub(now);
        (left > 0).then(|| left.div_ceil(1_000))
    }
}

/// A safe method whose requests may be events. HEAD and OPTIONS only probe an address, and are not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SafeMethod {
    #[serde(rename = "GET")]
    Get,
}

/// How much a source keeps of the requests that fail, if it keeps them ([`OnFailure::Quarantine`]). Anyone can send
/// such requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuarantineLimits {
    /// How many events are stored in one hour (UTC).
    pub events_per_hour: u64,
    /// How many bytes their bodies may have together.
    pub bytes_per_hour: u64,
    /// The largest body, in bytes.
    pub body_bytes: u64,
}

impl Default for QuarantineLimits {
    /// Enough for a busy source whose secret is wrong, and few enough for a disk if it is a flood.
    fn default() -> Self {
        Self { events_per_hour: 50_000, bytes_per_hour: 250_000_000, body_bytes: 1_000_000 }
    }
}

fn default_unverified_body_bytes() -> u64 {
    QuarantineLimits::default().body_bytes
}

/// The handling of a request whose signature fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// 401; the provider may resend it or drop it.
    #[default]
    Reject,
    /// Acknowledged, stored as unverified, never forwarded until released.
    Quarantine,
}

/// The handling of a request with a good signature whose time differs from now by more than the tolerance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStale {
    /// Handled as a request whose signature fails.
    #[default]
    Reject,
    /// Accepted, and marked as stale.
    AcceptFlagged,
}

/// The edge's answer to a request that it has queued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// 200 to 299.
    pub status: u16,
    /// `None` answers the event's id as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

impl Default for Acknowledgement {
    fn default() -> Self {
        Self { status: 200, body: None, content_type: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_764_000_000_000;

    /// A configuration as a relay wrote it that knows no rates of customers.
    const STORED: &str = r#"{"id":"src_0197f3c8d2a17c3e9b5d0a4c6f7e8b91","name":"orders","revision":1,"provider":"test",
        "scheme":{"kind":"none"},"secrets":[],"max_body_bytes":1000}"#;

    fn config(refused_until: Option<u64>) -> SourceConfig {
        SourceConfig { refused_until, ..serde_json::from_str(STORED).expect("a configuration") }
    }

    #[test]
    fn events_are_refused_until_the_time_and_the_rest_is_rounded_up_to_seconds() {
        for (until, wanted) in [
            (None, None),
            (Some(0), None),
            (Some(NOW - 1), None),
            (Some(NOW), None),
            (Some(NOW + 1), Some(1)),
            (Some(NOW + 1_000), Some(1)),
            (Some(NOW + 1_001), Some(2)),
            (Some(NOW + 3_600_000), Some(3_600)),
        ] {
            assert_eq!(config(until).refused_for_s(NOW), wanted, "{until:?}");
        }
        assert_eq!(config(Some(NOW)).refused_for_s(0), Some(NOW / 1_000), "a clock that is behind does not overflow");
    }

    #[test]
    fn a_configuration_without_the_time_is_read_and_written_as_before() {
        assert_eq!(config(None), serde_json::from_str(STORED).expect("a configuration"));
        let text = |config: &SourceConfig| serde_json::to_string(config).expect("json");
        assert!(!text(&config(None)).contains("refused_until"));
        let refused = text(&config(Some(NOW)));
        assert!(refused.contains(r#""refused_until":1764000000000"#), "{refused}");
        assert_eq!(serde_json::from_str::<SourceConfig>(&refused).expect("reads"), config(Some(NOW)));
        let newer = STORED.replace("\"revision\"", "\"of_a_newer_relay\":{\"a\":1},\"revision\"");
        assert!(serde_json::from_str::<SourceConfig>(&newer).is_ok(), "an unknown field is ignored");
    }
}
