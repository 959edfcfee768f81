//! The rule language of challenges: conditions on a request, and a reply with references in it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::host::HostPattern;
use super::reference::Reference;
use super::template::Template;

/// The content type of a reply that names none.
pub(crate) const PLAIN_TEXT: &str = "text/plain";

/// When a request is a challenge, and what is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengeRule {
    /// All of them must hold.
    pub when: BTreeMap<Reference, Expected>,
    /// Whether the request must pass verification before it is answered.
    pub verify: bool,
    pub reply: ReplyRule,
    /// The status that answers, without a body, what asks like a challenge and is not right: a setting is not the source's,
    /// or verification fails. Without it the one is no challenge and the other is refused like an event.
    #[serde(rename = "else", default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<u16>,
    /// What has to be done before the reply is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<EffectRule>,
    /// Where the provider hands over the secret that it will sign with. Where such a request is an event too, it is kept as
    /// unverified, so that the owner can read what was handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_secret: Option<Reference>,
    /// Whether it is an event too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward: bool,
    /// The values of the `cfg:` references in this rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// What a part of the request must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Expected {
    Number(u64),
    /// `"*"` is anything that is not empty, `"begin*"` what begins so, `"cfg:name"` the source's setting.
    Text(String),
    /// `null`: it is not there.
    Absent,
}

/// A request that confirms the challenge: a GET of a URL that stands in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectRule {
    pub get: Reference,
    /// The hosts that may be asked; a URL with another is no challenge.
    pub hosts: Vec<HostPattern>,
}

/// A reply with references in it. Values are escaped where they are put into JSON.
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
pub fn hands_over_secret(rules: &[ChallengeRule]) -> bool {
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
