//! The rule language: how one provider signs, as data. The relay's catalogue is written in it and the edge interprets it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::each::Each;
use super::host::HostPattern;
use super::jwt::JwtRule;
use super::key_encoding::KeyEncoding;
use super::reference::Reference;
use super::reference::function::{Function, sns};
use super::template::Template;
use super::url_form::{QueryForm, UrlForm};

/// How the requests of a source are verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Scheme {
    /// A signature over the request: an HMAC or a public-key signature.
    Mac(Box<MacRule>),
    /// A signed JSON Web Token.
    Jwt(Box<JwtRule>),
    /// A shared secret that the request carries as it is.
    Token(TokenRule),
    /// HTTP Basic authentication (RFC 7617); a secret is `user:password`.
    Basic,
    /// Nothing is verified: anyone who knows the URL can send.
    None,
    /// One of several must hold. A secret belongs to every rule whose key encoding accepts it.
    AnyOf { rules: Vec<Scheme> },
    /// Every one must hold. A secret `user:password` belongs to the Basic rule among them, any other to every rule
    /// whose key encoding accepts it.
    AllOf { rules: Vec<Scheme> },
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
    /// The signed content.
    pub content: Template,
    #[serde(rename = "sig")]
    pub signature: SignatureRule,
    #[serde(rename = "ts", default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<TimestampRule>,
    /// Further requirements: they bind a request to one tenant if a provider signs for all its customers with one key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Equality>,
    /// The place of the items, if the rule holds for every item of a list in the body on its own, as with Adyen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Each>,
    /// The ports that the signed URL may have, if a provider does not always sign the URL it requested (Twilio). If
    /// empty, the URL is taken as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<UrlForm>,
    /// The forms of the query that the provider may have signed, in addition to those that are tried for every
    /// provider: the query as it is, and with the characters that the platform escapes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<QueryForm>,
    /// The hosts from which the certificate that the request names may be fetched; only for a key `x509url:`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostPattern>,
    /// Whether the sender signs the body before it encodes it (`content-encoding`). If so, all references to the body
    /// read the decoded one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub decoded: bool,
    /// The values of the `cfg:` references in this rule. The one named `public_url` also replaces the request's own
    /// URL: the sender signs the URL that it was given, which a proxy may have changed on the way.
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
    /// `sha256`: a plain digest, keyed by the `{secret}` in its content (the older schemes of `HubSpot`).
    Sha256,
    /// Pure Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA over P-256 with SHA-256, the signature in DER (`SendGrid`).
    EcdsaP256Sha256Der,
    /// RSASSA-PKCS1-v1_5 with SHA-1 (Amazon SNS, version 1).
    RsaPkcs1Sha1,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaPkcs1Sha256,
}

/// The place of signatures, and how they are written.
///
/// One grammar covers the providers' headers: the value is split at `list`, if there is one, then each entry once at
/// `kv`, if there is one. The values whose key is `key` are signatures; other keys (unknown versions) are skipped.
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
    /// The number of entries at the beginning that are not signatures.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip: usize,
    /// Whether the provider itself writes a blank after a comma. Otherwise a value with `", "` is refused: the platform
    /// joins a header that was sent twice in this way.
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

/// How a timestamp is written; the numbers count since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimestampUnit {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "ms")]
    Milliseconds,
    /// A date and time in the format of RFC 3339, such as `2021-03-25T05:09:27.5Z`.
    #[serde(rename = "iso8601")]
    Iso8601,
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
    /// The text before the secret, such as `Bearer`; in any case. Blanks after it are skipped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// The place of the items, if every item of a list in the body carries the secret, as with Microsoft Graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Each>,
}

impl Scheme {
    /// Whether a signature covers the value of `reference`, so that it cannot be changed without a key.
    #[must_use]
    pub fn covers(&self, reference: &Reference) -> bool {
        match self {
            Self::Mac(rule) => rule.covers(reference),
            Self::Jwt(rule) => rule.covers(reference),
            Self::AnyOf { rules } => !rules.is_empty() && rules.iter().all(|rule| rule.covers(reference)),
            Self::AllOf { rules } => rules.iter().any(|rule| rule.covers(reference)),
            Self::Token(_) | Self::Basic | Self::None => false,
        }
    }

    /// Whether an id from `reference` counts without the body: a signature covers it, or nothing of the request is
    /// signed. A request that only carries a credential can be changed only by holders of the credential, who can send
    /// any event anyway.
    #[must_use]
    pub fn identifies(&self, reference: &Reference) -> bool {
        match self {
            Self::AnyOf { rules } => !rules.is_empty() && rules.iter().all(|rule| rule.identifies(reference)),
            Self::AllOf { rules } => rules.iter().all(Self::signs_nothing) || self.covers(reference),
            Self::Mac(_) | Self::Jwt(_) | Self::Token(_) | Self::Basic | Self::None => {
                self.signs_nothing() || self.covers(reference)
            }
        }
    }

    /// Whether it proves the sender of a request, but nothing of its content.
    fn signs_nothing(&self) -> bool {
        match self {
            Self::Token(_) | Self::Basic | Self::None => true,
            Self::Jwt(rule) => !rule.is_bound(),
            Self::Mac(_) => false,
            Self::AnyOf { rules } | Self::AllOf { rules } => rules.iter().all(Self::signs_nothing),
        }
    }

    /// Every [`MacRule`] in it.
    pub fn mac_rules_mut(&mut self) -> Vec<&mut MacRule> {
        match self {
            Self::Mac(rule) => vec![rule],
            Self::AnyOf { rules } | Self::AllOf { rules } => rules.iter_mut().flat_map(Self::mac_rules_mut).collect(),
            Self::Jwt(_) | Self::Token(_) | Self::Basic | Self::None => Vec::new(),
        }
    }

    /// Every [`JwtRule`] in it.
    pub fn jwt_rules_mut(&mut self) -> Vec<&mut JwtRule> {
        match self {
            Self::Jwt(rule) => vec![rule],
            Self::AnyOf { rules } | Self::AllOf { rules } => rules.iter_mut().flat_map(Self::jwt_rules_mut).collect(),
            Self::Mac(_) | Self::Token(_) | Self::Basic | Self::None => Vec::new(),
        }
    }

    /// The location of the published keys that a single rule needs: the encoding that names it, and the allowed hosts.
    pub(crate) fn published_keys(&self) -> Option<(&KeyEncoding, &[HostPattern])> {
        let (encoding, hosts) = match self {
            Self::Mac(rule) => (&rule.key_encoding, rule.hosts.as_slice()),
            Self::Jwt(rule) => (&rule.key_encoding, &[][..]),
            Self::Token(_) | Self::Basic | Self::None | Self::AnyOf { .. } | Self::AllOf { .. } => return None,
        };
        encoding.is_published().then_some((encoding, hosts))
    }
}

impl MacRule {
    /// Whether the signed content holds the value of `reference`, itself or as a part of the body.
    ///
    /// If the rule is for each item of a list, the fields in its content are those of an item, and `reference` names
    /// none of them in the whole body.
    #[must_use]
    pub fn covers(&self, reference: &Reference) -> bool {
        match (&self.each, reference.reads_json()) {
            (Some(_), true) => self.covers_body(),
            (Some(_), false) | (None, _) => self.signs(reference),
        }
    }

    /// Whether the signed content holds the whole body or its SHA-256.
    #[must_use]
    pub fn covers_body(&self) -> bool {
        let of_the_body =
            |r: &Reference| matches!(r, Reference::Body | Reference::BodySha256Hex | Reference::BodySha256Raw);
        let bound = |pair: &Equality| of_the_body(&pair.right) && self.holds(&pair.left);
        self.content.references().any(of_the_body) || self.require.iter().any(bound)
    }

    /// As [`MacRule::covers`], for a `reference` of the rule itself, whose fields are those of an item.
    pub(crate) fn signs(&self, reference: &Reference) -> bool {
        self.holds(reference) || (reference.reads_json() && self.covers_body())
    }

    fn holds(&self, reference: &Reference) -> bool {
        let is_part_of = |signed: &Reference| {
            if let Reference::Json { pointer, .. } = reference {
                matches!(signed, Reference::Json { pointer: signed, .. } if signed == pointer)
                    || (*signed == Reference::Function(Function::SnsCanonical) && sns::covers(pointer))
                    || (*signed == Reference::Function(Function::FirstItem) && pointer.starts_with("/0/"))
            } else {
                *signed == Reference::Url && matches!(reference, Reference::Query(_))
            }
        };
        self.content.references().any(|signed| signed == reference || is_part_of(signed))
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

    const ADYEN: &str = r#"{"kind":"mac","alg":"hmac-sha256","key":"hex","content":"{json?:pspReference}:{json?:success}",
        "sig":{"in":"json:additionalData.hmacSignature","enc":"base64"},"each":"items[].item"}"#;

    fn scheme(json: &str) -> Scheme {
        serde_json::from_str(json).expect("parses")
    }

    #[test]
    fn a_rule_survives_its_json() {
        let all = format!(r#"{{"kind":"all_of","rules":[{{"kind":"basic"}},{ADYEN}]}}"#);
        for rule in [
            FAL,
            ADYEN,
            &all,
            r#"{"kind":"basic"}"#,
            r#"{"kind":"none"}"#,
            r#"{"kind":"token","in":"json:clientState","each":"value[]"}"#,
            r#"{"kind":"mac","alg":"hmac-sha1","key":"utf8","content":"{url}{fn:form_sorted_concat}",
                "sig":{"in":"h:x-twilio-signature","enc":"base64"},"urls":["as_is","without_port","with_default_port"],
                "queries":["escaped","rewritten"]}"#,
            r#"{"kind":"mac","alg":"sha256","key":"utf8","content":"{secret}{method}{url}{body}",
                "sig":{"in":"h*:x-signature-","enc":"hex"},"ts":{"in":"h:x-time","unit":"iso8601","tol":300}}"#,
        ] {
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
    fn a_rule_covers_its_signed_content_and_nothing_else() {
        let fal = scheme(FAL);
        let covers = |text: &str| fal.covers(&text.parse().expect("parses"));
        assert!(covers("h:x-id"));
        assert!(covers("json:request_id"), "a part of the body whose hash is signed");
        assert!(!covers("h:x-other"));
        assert!(!scheme(r#"{"kind":"token","in":"h:x-token"}"#).covers(&Reference::Body));
    }

    #[test]
    fn an_id_counts_alone_if_it_is_signed_or_nothing_is() {
        let of = |rule: &str, id: &str| scheme(rule).identifies(&id.parse().expect("parses"));
        let token = r#"{"kind":"token","in":"h:x-token"}"#;
        let mac =
            r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{body}","sig":{"in":"h:a","enc":"hex"}}"#;
        let jwt = |claims: &str| {
            format!(
                r#"{{"kind":"jwt","token":{{"in":"h:authorization"}},"alg":["HS256"],"key":"utf8","claims":{claims},"max_age":300}}"#
            )
        };
        for rule in [token, r#"{"kind":"basic"}"#, r#"{"kind":"none"}"#, &jwt("{}"), &jwt(r#"{"iss":"a"}"#)] {
            assert!(of(rule, "json:id") && of(rule, "h:x-id"), "{rule}");
        }
        for rule in [mac, &jwt(r#"{"a":"sha256hex:body"}"#), &jwt(r#"{"a":"sha256base64:body"}"#)] {
            assert!(of(rule, "json:id") && !of(rule, "h:x-id"), "{rule}");
        }
        assert!(!of(&jwt(r#"{"a":"sha256hex:url"}"#), "json:id"));
        let list = |kind: &str, rules: [&str; 2]| format!(r#"{{"kind":"{kind}","rules":[{},{}]}}"#, rules[0], rules[1]);
        assert!(of(&list("any_of", [token, r#"{"kind":"basic"}"#]), "h:x-id"));
        assert!(!of(&list("any_of", [token, mac]), "h:x-id"), "of a signed request only the id is changed");
        assert!(!of(&list("all_of", [token, mac]), "h:x-id") && of(&list("all_of", [token, mac]), "json:id"));
        assert!(!of(ADYEN, "json:id") && !scheme(r#"{"kind":"any_of","rules":[]}"#).identifies(&Reference::Body));
    }

    #[test]
    fn the_first_item_is_covered_if_it_is_signed() {
        let rule = r#"{"kind":"mac","alg":"hmac-sha1","key":"utf8","content":"{fn:first_item}","sig":{"in":"h:a","enc":"hex"}}"#;
        let covers = |id: &str| scheme(rule).covers(&id.parse().expect("parses"));
        assert!(covers("json:/0/messageId"));
        assert!(!covers("json:/1/messageId") && !covers("json:messageId") && !covers("json:/0") && !covers("body"));
    }

    #[test]
    fn the_fields_that_sns_signs_are_covered_by_its_own_string_alone() {
        let signed = |content: &str| {
            let rule = r#"{"kind":"mac","alg":"rsa-pkcs1-sha256","key":"utf8","content":"CONTENT","sig":{"in":"h:a","enc":"hex"}}"#;
            scheme(&rule.replace("CONTENT", content)).covers(&"json:MessageId".parse().expect("parses"))
        };
        assert!(signed("{fn:sns_canonical}"));
        assert!(!signed("{h:x-time}"));
    }

    #[test]
    fn the_rules_of_tokens_are_found_at_any_depth() {
        let token = r#"{"kind":"jwt","token":{"in":"h:authorization"},"alg":["HS256"],"key":"utf8"}"#;
        let whole =
            format!(r#"{{"kind":"any_of","rules":[{{"kind":"basic"}},{{"kind":"all_of","rules":[{token}]}}]}}"#);
        assert_eq!(scheme(&whole).jwt_rules_mut().len(), 1);
        assert_eq!(scheme(FAL).jwt_rules_mut().len(), 0);
    }

    #[test]
    fn a_field_of_each_item_is_no_field_of_the_body() {
        let adyen = scheme(ADYEN);
        let Scheme::Mac(rule) = &adyen else { panic!("a mac rule") };
        let field = "json:pspReference".parse().expect("parses");
        assert!(rule.signs(&field) && !adyen.covers(&field));
    }

    #[test]
    fn a_body_whose_hash_must_equal_something_signed_is_covered() {
        let by_url = scheme(
            r#"{"kind":"mac","alg":"hmac-sha1","key":"utf8","content":"{url}","sig":{"in":"h:a","enc":"hex"},
                "require":[{"query:bodySHA256":"sha256hex:body"}]}"#,
        );
        assert!(by_url.covers(&"json:id".parse().expect("parses")));
        let by_header = serde_json::to_string(&by_url).expect("serialises").replace("query:", "h:");
        assert!(!scheme(&by_header).covers(&"json:id".parse().expect("parses")), "the header is not signed");
    }

    #[test]
    fn of_several_rules_one_has_to_cover_or_all() {
        let signed =
            r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{body}","sig":{"in":"h:a","enc":"hex"}}"#;
        let of = |kind| scheme(&format!(r#"{{"kind":"{kind}","rules":[{{"kind":"basic"}},{signed}]}}"#));
        let field = "json:id".parse().expect("parses");
        assert!(of("all_of").covers(&field) && !of("any_of").covers(&field));
    }
}
