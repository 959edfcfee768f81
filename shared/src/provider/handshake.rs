//! The handshakes that an owner may choose, whatever the provider of the source is.

use std::sync::LazyLock;

use crate::scheme::handshake::HandshakeRule;

/// A handshake that senders of more than one provider make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// Section 4 of "HTTP 1.1 Web Hooks for Event Delivery" of `CloudEvents`, as Azure Event Grid makes it: an OPTIONS request
    /// asks whether events of an origin may be sent.
    CloudEvents,
}

/// Every origin is allowed, because the handshake proves nothing: events are verified later. The reply is the
/// permission, so that `WebHook-Request-Callback` is not called. The rate is not limited.
static CLOUD_EVENTS: LazyLock<HandshakeRule> = LazyLock::new(|| {
    serde_json::from_str(
        r#"{
            "when": { "method": "OPTIONS", "h:webhook-request-origin": "*" },
            "verify": false,
            "reply": {
                "status": 200,
                "headers": {
                    "allow": "POST",
                    "webhook-allowed-origin": "{h:webhook-request-origin}",
                    "webhook-allowed-rate": "*"
                },
                "body": ""
            }
        }"#,
    )
    .expect("a test parses it")
});

impl Handshake {
    /// The rule that answers it at the edge.
    pub(super) fn rule(self) -> &'static HandshakeRule {
        match self {
            Self::CloudEvents => &CLOUD_EVENTS,
        }
    }
}
