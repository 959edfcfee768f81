//! The rule language of tokens.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key_encoding::KeyEncoding;
use super::reference::Reference;

/// How far the sender's clock may be from this one if the rule gives no `leeway`, in seconds.
const DEFAULT_LEEWAY_S: u32 = 30;

/// A signed JSON Web Token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtRule {
    pub token: JwtPlace,
    /// The token's own `alg` must be one of these.
    #[serde(rename = "alg")]
    pub algorithms: Vec<JwtAlgorithm>,
    /// `utf8` for the `HS…` algorithms, `jwks:<url>` or `fn:plaid_key` for the others.
    #[serde(rename = "key")]
    pub key_encoding: KeyEncoding,
    /// The claims that must be there, each with the value it must have.
    #[serde(default)]
    pub claims: BTreeMap<String, Claim>,
    /// How old the token may be by its `iat`, in seconds; `None` if only its `exp` counts.
    #[serde(rename = "max_age", default, skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<u32>,
    /// How far the sender's clock may be from this one, in seconds.
    #[serde(rename = "leeway", default = "default_leeway_s")]
    pub leeway_s: u32,
    /// The values of the `cfg:` references in this rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// The place of the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtPlace {
    #[serde(rename = "in")]
    pub place: Reference,
    /// The text before the token, such as `Bearer `; in any case.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub strip: String,
}

/// The algorithms of RFC 7518 section 3.1 that providers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JwtAlgorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    ES256,
}

/// The value that a claim must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum Claim {
    /// A text, number or truth value.
    Literal(Value),
    /// One of several of those.
    OneOf(Vec<Value>),
    /// `cfg:name`: a setting of the source.
    Setting(String),
    /// `sha256hex:body`, and `sha256hex:body?` which may be missing if the body is empty.
    BodySha256Hex { optional: bool },
    /// `sha256base64:body`: in the standard alphabet, padded (`LiveKit`).
    BodySha256Base64,
    /// `sha256hex:url`
    UrlSha256Hex,
}

impl JwtRule {
    /// Whether a claim binds the token to the body.
    #[must_use]
    pub fn covers_body(&self) -> bool {
        self.claims.values().any(|claim| matches!(claim, Claim::BodySha256Hex { .. } | Claim::BodySha256Base64))
    }

    /// Whether the token's signature covers the value of `reference`.
    #[must_use]
    pub fn covers(&self, reference: &Reference) -> bool {
        let is_of_url = matches!(reference, Reference::Url | Reference::Query(_));
        let is_of_body = reference.reads_json() || matches!(reference, Reference::Body);
        (is_of_body && self.covers_body())
            || (is_of_url && self.claims.values().any(|claim| *claim == Claim::UrlSha256Hex))
    }

    /// Whether a claim binds the token to any part of the request. If none does, the token is valid for every request.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.covers_body() || self.claims.values().any(|claim| *claim == Claim::UrlSha256Hex)
    }
}

impl JwtAlgorithm {
    /// The name in a token's header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
        }
    }

    pub(crate) const fn is_symmetric(self) -> bool {
        match self {
            Self::HS256 | Self::HS384 | Self::HS512 => true,
            Self::RS256 | Self::ES256 => false,
        }
    }
}

impl TryFrom<Value> for Claim {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        const SCALAR: &str = "a claim must be a string, a number, a boolean, or a list of these";
        match value {
            Value::String(text) => match text.as_str() {
                "sha256hex:body" => Ok(Self::BodySha256Hex { optional: false }),
                "sha256base64:body" => Ok(Self::BodySha256Base64),
                "sha256hex:body?" => Ok(Self::BodySha256Hex { optional: true }),
                "sha256hex:url" => Ok(Self::UrlSha256Hex),
                other => match other.strip_prefix("cfg:") {
                    Some("") => Err("cfg: names no setting"),
                    Some(name) => Ok(Self::Setting(name.to_owned())),
                    None => Ok(Self::Literal(Value::String(text))),
                },
            },
            Value::Number(_) | Value::Bool(_) => Ok(Self::Literal(value)),
            Value::Array(values) if values.is_empty() => Err("a list of no values accepts nothing"),
            Value::Array(values) if values.iter().all(is_scalar) => Ok(Self::OneOf(values)),
            Value::Null | Value::Array(_) | Value::Object(_) => Err(SCALAR),
        }
    }
}

impl From<Claim> for Value {
    fn from(claim: Claim) -> Self {
        match claim {
            Claim::Literal(value) => value,
            Claim::OneOf(values) => Self::Array(values),
            Claim::Setting(name) => Self::String(format!("cfg:{name}")),
            Claim::BodySha256Hex { optional: false } => "sha256hex:body".into(),
            Claim::BodySha256Hex { optional: true } => "sha256hex:body?".into(),
            Claim::BodySha256Base64 => "sha256base64:body".into(),
            Claim::UrlSha256Hex => "sha256hex:url".into(),
        }
    }
}

fn is_scalar(value: &Value) -> bool {
    matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_))
}

const fn default_leeway_s() -> u32 {
    DEFAULT_LEEWAY_S
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBSUB: &str = r#"{"token":{"in":"h:authorization","strip":"Bearer "},"alg":["RS256"],
        "key":"jwks:https://keys.example/certs","claims":{"iss":["a","b"],"aud":"cfg:audience","email_verified":true},
        "settings":{"audience":"x"}}"#;
    const NETLIFY: &str = r#"{"token":{"in":"h:x-webhook-signature"},"alg":["HS256"],"key":"utf8",
        "claims":{"iss":"netlify","sha256":"sha256hex:body"}}"#;
    const PLAID: &str = r#"{"token":{"in":"h:plaid-verification"},"alg":["ES256"],"key":"fn:plaid_key",
        "claims":{"request_body_sha256":"sha256hex:body"},"max_age":300}"#;

    #[test]
    fn a_rule_survives_its_json() {
        for json in
            [PUBSUB, NETLIFY, PLAID, &NETLIFY.replace("hex:body", "hex:body?").replace("netlify", "sha256hex:url")]
        {
            let rule: JwtRule = serde_json::from_str(json).expect("parses");
            let text = serde_json::to_string(&rule).expect("serialises");
            assert_eq!(serde_json::from_str::<JwtRule>(&text).expect("parses"), rule);
        }
    }

    #[test]
    fn a_wrong_algorithm_or_claim_does_not_parse() {
        for (from, to) in [
            ("HS256", "none"),
            ("HS256", "hs256"),
            (r#""netlify""#, "null"),
            (r#""netlify""#, "[]"),
            (r#""netlify""#, "[[]]"),
            (r#""netlify""#, r#""cfg:""#),
            (r#""claims""#, r#""claim""#),
        ] {
            assert!(serde_json::from_str::<JwtRule>(&NETLIFY.replace(from, to)).is_err(), "{from} → {to}");
        }
    }

    #[test]
    fn a_hash_in_a_claim_covers_the_hashed_part() {
        let covers = |json: &str, reference: &str| {
            serde_json::from_str::<JwtRule>(json).expect("parses").covers(&reference.parse().expect("parses"))
        };
        assert!(covers(NETLIFY, "body") && covers(NETLIFY, "json:id"));
        assert!(!covers(NETLIFY, "h:x-id") && !covers(NETLIFY, "query:id"));
        assert!(!covers(PUBSUB, "json:id"), "the token says nothing of the body");
        assert!(covers(&NETLIFY.replace("hex:body", "hex:url"), "query:id"));
    }
}
