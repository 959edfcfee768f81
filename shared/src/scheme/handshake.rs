//! The rule language of handshakes: conditions on a request, and a reply with references in it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::host::HostPattern;
use super::reference::Reference;
use super::template::Template;

/// The content type of a reply that names none.
pub(crate) const PLAIN_TEXT: &str = "text/plain";

/// A rule for handshakes: which requests are handshakes, and how they are answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandshakeRule {
    /// All of them must hold.
    pub when: BTreeMap<Reference, Expected>,
    /// Whether the request must pass verification before it is answered.
    pub verify: bool,
    pub reply: ReplyRule,
    /// The status that answers, without a body, a request that looks like a handshake but is wrong: a setting differs
    /// from the source's, or verification fails. Without it the former is not a handshake, and the latter is refused
    /// like an event.
    #[serde(rename = "else", default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<u16>,
    /// The request to make before the reply is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<EffectRule>,
    /// The place of the secret with which the provider will sign, if it hands one over. If such a request is an event
    /// too, it is kept as unverified, so that the owner can read the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_secret: Option<Reference>,
    /// Whether it is an event too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward: bool,
    /// The values of the `cfg:` references in this rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// The value that a part of the request must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Expected {
    Number(u64),
    /// `"*"` matches every value that is not empty, `"begin*"` a beginning, and `"cfg:name"` the source's setting.
    Text(String),
    /// `null`: the part must be absent.
    Absent,
}

/// A request that confirms the handshake: a GET of a URL in the handshake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectRule {
    pub get: Reference,
    /// The hosts that may be requested; with a URL at another host, the request is not a handshake.
    pub hosts: Vec<HostPattern>,
}

/// A reply with references in it. Values are escaped in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplyRule {
    pub status: u16,
    #[serde(rename = "type", default = "plain_text")]
    pub content_type: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Template>,
    pub body: Template,
}

/// Whether the provider hands over the secret of such a source, so that it has none at first.
#[must_use]
pub fn hands_over_secret(rules: &[HandshakeRule]) -> bool {
    rules.iter().any(|rule| rule.store_secret.is_some())
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "is {number}"),
            Self::Text(text) if text == "*" => f.write_str("is there"),
            Self::Text(text) => match text.strip_suffix('*') {
                Some(begin) => write!(f, "begins with {begin}"),
                None => write!(f, "is {text}"),
            },
            Self::Absent => f.write_str("is not there"),
        }
    }
}

fn plain_text() -> String {
    PLAIN_TEXT.to_owned()
}
