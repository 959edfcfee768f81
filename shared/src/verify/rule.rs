//! The rule language: how one provider signs, as data. The relay's catalogue is written in it and the edge interprets it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::key::KeyEncoding;
use super::reference::Reference;
use super::template::Template;

/// How the requests of a source are verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Scheme {
    /// A signature over the request: an HMAC or a public-key signature.
    Mac(Box<MacRule>),
    /// A shared secret that the request carries as it is.
    Token(TokenRule),
    /// HTTP Basic authentication (RFC 7617); a secret is `user:password`.
    Basic,
    /// Nothing is verified: whoever knows the URL may send.
    None,
    /// One of several suffices. A secret belongs to every rule whose key encoding takes it.
    AnyOf { rules: Vec<Scheme> },
}

/// A signature over the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MacRule {
    #[serde(rename = "alg")]
    pub algorithm: Algorithm,
    /// How a secret becomes the bytes of a key: a property of the provider, never guessed from the secret.
    #[serde(rename = "key")]
    pub key_encoding: KeyEncoding,
    /// What is signed.
    pub content: Template,
    #[serde(rename = "sig")]
    pub signature: SignatureRule,
    #[serde(rename = "ts", default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<TimestampRule>,
    /// What must hold besides: the binding to one tenant where a provider's key is the same for all its customers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Equality>,
    /// The values of the `cfg:` references in this rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// The algorithms of [`MacRule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    HmacSha1,
    HmacSha256,
    HmacSha512,
    /// Pure Ed25519 (RFC 8032).
    Ed25519,
}

/// Where signatures stand and how they are written.
///
/// One grammar covers the providers' headers: split at `list` where there is one, then each entry once at `kv` where
/// there is one, and keep the values whose key is `key`; other keys (versions that are not known) are skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureRule {
    #[serde(rename = "in")]
    pub place: Reference,
    #[serde(rename = "enc")]
    pub encoding: SignatureEncoding,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    #[serde(rename = "kv", default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How many entries at the beginning are no signatures.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip: usize,
    /// Whether the provider itself writes a blank after a comma. Without it a value that holds `", "` is refused: it is
    /// how a platform joins a header that was sent twice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blanks: bool,
}

/// How the bytes of a signature are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureEncoding {
    Hex,
    /// The standard alphabet, padded (RFC 4648 section 4).
    Base64,
    /// The alphabet for URLs, padded or not (RFC 4648 section 5).
    Base64Url,
}

/// A signed time that has to be near to now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimestampRule {
    #[serde(rename = "in")]
    pub place: Reference,
    pub unit: TimestampUnit,
    /// In seconds; `None` accepts any time.
    #[serde(rename = "tol")]
    pub tolerance_s: Option<u32>,
    /// Whether a time in the future is accepted however far it is.
    #[serde(default)]
    pub past_only: bool,
}

/// What a timestamp counts since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimestampUnit {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "ms")]
    Milliseconds,
}

/// Two references whose values must be equal. Written as an object with one entry, `{"h:x-user": "cfg:user_id"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<Reference, Reference>", into = "BTreeMap<Reference, Reference>")]
pub struct Equality {
    pub left: Reference,
    pub right: Reference,
}

/// A shared secret in the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRule {
    #[serde(rename = "in")]
    pub place: Reference,
    /// What stands before the secret, such as `Bearer`; in any case, and blanks after it are skipped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

impl Scheme {
    /// Whether a signature covers the value of `reference`, so that nobody without a key can change it.
    #[must_use]
    pub fn covers(&self, reference: &Reference) -> bool {
        match self {
            Self::Mac(rule) => rule.covers(reference),
            Self::AnyOf { rules } => !rules.is_empty() && rules.iter().all(|rule| rule.covers(reference)),
            Self::Token(_) | Self::Basic | Self::None => false,
        }
    }

    /// Every [`MacRule`] in it.
    pub fn mac_rules_mut(&mut self) -> Vec<&mut MacRule> {
        match self {
            Self::Mac(rule) => vec![rule],
            Self::AnyOf { rules } => rules.iter_mut().flat_map(Self::mac_rules_mut).collect(),
            Self::Token(_) | Self::Basic | Self::None => Vec::new(),
        }
    }
}

impl MacRule {
    /// Whether the signed content holds the value of `reference`, itself or as a part of the body.
    #[must_use]
    pub fn covers(&self, reference: &Reference) -> bool {
        self.content.references().any(|signed| signed == reference) || (reference.reads_json() && self.covers_body())
    }

    /// Whether the signed content holds the whole body or its SHA-256.
    #[must_use]
    pub fn covers_body(&self) -> bool {
        self.content
            .references()
            .any(|signed| matches!(signed, Reference::Body | Reference::BodySha256Hex | Reference::BodySha256Raw))
    }
}

impl TryFrom<BTreeMap<Reference, Reference>> for Equality {
    type Error = &'static str;

    fn try_from(map: BTreeMap<Reference, Reference>) -> Result<Self, Self::Error> {
        let mut entries = map.into_iter();
        match (entries.next(), entries.next()) {
            (Some((left, right)), None) => Ok(Self { left, right }),
            _ => Err("a requirement is an object with exactly one entry"),
        }
    }
}

impl From<Equality> for BTreeMap<Reference, Reference> {
    fn from(equality: Equality) -> Self {
        Self::from([(equality.left, equality.right)])
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAL: &str = r#"{"kind":"mac","alg":"ed25519","key":"jwks:https://keys.example/jwks.json",
        "content":"{h:x-id}\n{h:x-user}\n{h:x-time}\n{sha256hex:body}","sig":{"in":"h:x-signature","enc":"hex"},
        "ts":{"in":"h:x-time","unit":"s","tol":300,"past_only":false},"require":[{"h:x-user":"cfg:user_id"}],
        "settings":{"user_id":"u1"}}"#;

    fn scheme(json: &str) -> Scheme {
        serde_json::from_str(json).expect("parses")
    }

    #[test]
    fn a_rule_survives_its_json() {
        for rule in [FAL, r#"{"kind":"basic"}"#, r#"{"kind":"none"}"#, r#"{"kind":"token","in":"h:x-token"}"#] {
            let rule = scheme(rule);
            assert_eq!(scheme(&serde_json::to_string(&rule).expect("serialises")), rule);
        }
    }

    #[test]
    fn a_field_or_algorithm_that_is_not_known_is_refused() {
        let parse = |json: &str| serde_json::from_str::<Scheme>(json);
        assert!(parse(&FAL.replace("\"require\"", "\"requires\"")).is_err());
        assert!(parse(&FAL.replace("ed25519", "ed448")).is_err());
        assert!(parse(r#"{"kind":"trust_me"}"#).is_err());
    }

    #[test]
    fn a_rule_covers_what_it_signs_and_nothing_else() {
        let fal = scheme(FAL);
        let covers = |text: &str| fal.covers(&text.parse().expect("parses"));
        assert!(covers("h:x-id"));
        assert!(covers("json:request_id"), "a part of the body whose hash is signed");
        assert!(!covers("h:x-other"));
        assert!(!scheme(r#"{"kind":"token","in":"h:x-token"}"#).covers(&Reference::Body));
    }
}
