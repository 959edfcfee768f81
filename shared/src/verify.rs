//! Verification: whether a request comes from who holds a source's secret.
//!
//! How a provider signs is data (see [`rule`]); this is its interpreter. A [`Verifier`] is made once for a source's
//! configuration, with its keys decoded and its HMAC states prepared, and then used for every request. What holds for
//! all schemes:
//!
//! - The raw bytes of the body are verified, never a parsed and rewritten form.
//! - A signature is decoded and must have the algorithm's exact length before it is compared in constant time.
//! - Any of a source's secrets may match, so that a secret can be rotated; entries of unknown versions are skipped.
//! - What may stand only once (signature, timestamp, id) is refused where it stands twice, also where the platform has
//!   already joined the two with `", "`.
//! - Timestamps are digits only or RFC 3339, signed as they stand, and near to now in both directions.

pub mod each;
pub mod function;
pub mod host;
pub mod jwt;
pub mod key;
pub mod key_location;
pub mod key_set;
pub mod platform;
pub mod public_key;
pub mod reference;
pub mod rejection;
pub mod rule;
pub mod template;
pub mod url_form;

mod build;
mod certificate;
mod credentials;
mod explain;
mod mac;
pub(crate) mod request;
mod signature;
mod signed_address;
mod timestamp;
mod token;
mod unread;

#[cfg(test)]
mod language;
#[cfg(test)]
mod tampering;
#[cfg(test)]
mod tampering_keys;
#[cfg(test)]
mod test_keys;

pub use explain::{MAX_EXPLAINED_BODY_BYTES, MAX_RETIRED_SECRETS};
pub use key::KeyError;
pub use key_location::{KeyForm, KeyLocation};
pub use key_set::{KeySet, KeySetError};
pub use platform::{PlatformAlgorithm, PlatformCheck};
pub use rejection::Rejection;
pub use request::RequestParts;
pub use rule::Scheme;
pub(crate) use timestamp::text_of as timestamp_text;

use crate::challenge::hands_over_secret;
use crate::source::{OnStale, Secret, SourceConfig};
use jwt::JwtVerifier;
use mac::MacVerifier;
use rule::TokenRule;
use token::{Hashes, verify_basic, verify_token};

/// A source's scheme with its keys, ready to verify.
#[derive(Debug, Clone)]
pub struct Verifier {
    first: Check,
    others: Vec<Check>,
    on_stale: OnStale,
    /// What accepts the retired secrets too, only to explain a refusal.
    retired: Option<Box<Verifier>>,
    /// What accepts the secrets with white space at their end too, only to explain a refusal.
    spaced: Option<Box<Verifier>>,
}

/// What a successful verification has shown. Only [`verify`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    which: Option<usize>,
    stale: bool,
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("this source has no secret; add the one that the provider shows")]
    NoSecret,
    #[error("secret {} {why}", index + 1)]
    Secret { index: usize, why: String },
    #[error("{why}")]
    Rule { why: String },
}

/// What a request is verified by.
#[derive(Debug, Clone)]
enum Check {
    Mac(Box<MacVerifier>),
    Jwt(Box<JwtVerifier>),
    Token(TokenRule, Hashes),
    Basic(Hashes),
    None,
    /// The provider hands over the secret and has not done so yet: nothing can be said of a request.
    AwaitsSecret,
    /// Every one of them has to pass.
    All(Vec<Check>),
}

/// A request with what is needed to verify it.
struct Incoming<'a> {
    /// The provider's published keys, where they are needed and at hand.
    keys: Option<&'a KeySet>,
    request: &'a RequestParts<'a>,
    body: &'a [u8],
    now_ms: u64,
    on_stale: OnStale,
}

impl Verifier {
    /// Prepares the verification of a source's requests. Where the provider hands over the secret, a source may have none
    /// yet.
    ///
    /// # Errors
    /// Where the scheme needs a secret and there is none, where a secret is not one for this scheme, or where the rule
    /// itself would verify nothing.
    pub fn new(config: &SourceConfig) -> Result<Self, ConfigError> {
        let verifier = match Self::of(&config.scheme, &config.secrets) {
            Err(ConfigError::NoSecret) if hands_over_secret(&config.challenges) => Self {
                first: Check::AwaitsSecret,
                others: Vec::new(),
                on_stale: OnStale::Reject,
                retired: None,
                spaced: None,
            },
            made => made?,
        };
        let (retired, spaced) = (explain::retired(config), explain::spaced(config));
        Ok(Self { on_stale: config.on_stale, retired, spaced, ..verifier })
    }

    /// The same for a scheme and secrets that are not in a source's configuration yet.
    ///
    /// # Errors
    /// As [`Verifier::new`].
    pub fn of(scheme: &Scheme, secrets: &[Secret]) -> Result<Self, ConfigError> {
        let (first, others) = build::checks(scheme, secrets)?;
        Ok(Self { first, others, on_stale: OnStale::Reject, retired: None, spaced: None })
    }

    /// Where the provider publishes the keys that [`verify`] needs for this request; `None` where it needs none.
    ///
    /// # Errors
    /// Where the request itself names its key and could not be verified with any: nothing is to be fetched for it.
    pub fn key_location(&self, request: &RequestParts<'_>, body: &[u8]) -> Result<Option<KeyLocation>, Rejection> {
        let mut outcome = self.first.key_location(request, body);
        for check in &self.others {
            let other = check.key_location(request, body);
            outcome = match (outcome, other) {
                (Ok(Some(location)), _) | (Err(_) | Ok(None), Ok(Some(location))) => Ok(Some(location)),
                (Ok(None), _) | (Err(_), Ok(None)) => Ok(None),
                (Err(first), Err(other)) => Err(if other.progress() > first.progress() { other } else { first }),
            };
        }
        outcome
    }
}

impl Verified {
    /// The place of the secret that matched in the source's list, or of the key in the provider's key set; `None` where
    /// the scheme verifies nothing. Where several rules or items had to match, that of the first.
    #[must_use]
    pub const fn which(&self) -> Option<usize> {
        self.which
    }

    /// Whether the time that was signed is out of tolerance, which the source has asked to accept.
    #[must_use]
    pub const fn stale(&self) -> bool {
        self.stale
    }

    /// Whether the scheme verifies nothing, so that whoever knew the URL could send the request.
    #[must_use]
    pub const fn unsigned(&self) -> bool {
        self.which.is_none()
    }

    const fn by(secret: usize) -> Self {
        Self { which: Some(secret), stale: false }
    }

    const fn stale_if(self, stale: bool) -> Self {
        Self { stale, ..self }
    }

    /// This and another one, which both had to be shown.
    const fn and(self, other: Self) -> Self {
        Self { which: self.which, stale: self.stale || other.stale }
    }
}

impl Incoming<'_> {
    /// Whether the signed time is out of tolerance, which is an error unless the source has asked to accept it.
    fn tolerate(&self, time: Result<(), Rejection>) -> Result<bool, Rejection> {
        match (time, self.on_stale) {
            (Ok(()), _) => Ok(false),
            (Err(rejection), OnStale::AcceptFlagged) if rejection.is_of_time() => Ok(true),
            (Err(rejection), _) => Err(rejection),
        }
    }
}

/// Verifies a request. `keys` is what the provider publishes where [`Verifier::key_location`] says, `body` the raw
/// bytes, `now_ms` the Unix time in milliseconds.
///
/// # Errors
/// Why the request is refused. Where [`Rejection::is_ours`] holds, nothing is known and the sender should try again.
pub fn verify(
    verifier: &Verifier,
    keys: Option<&KeySet>,
    request: &RequestParts<'_>,
    body: &[u8],
    now_ms: u64,
) -> Result<Verified, Rejection> {
    let incoming = Incoming { keys, request, body, now_ms, on_stale: verifier.on_stale };
    let mut rejection = match verifier.first.verify(&incoming) {
        Ok(verified) => return Ok(verified),
        Err(rejection) => rejection,
    };
    for check in &verifier.others {
        match check.verify(&incoming) {
            Ok(verified) => return Ok(verified),
            Err(other) if other.progress() > rejection.progress() => rejection = other,
            Err(_) => {}
        }
    }
    Err(rejection)
}

impl Check {
    fn verify(&self, incoming: &Incoming<'_>) -> Result<Verified, Rejection> {
        match self {
            Self::Mac(mac) => mac.verify(incoming),
            Self::Jwt(jwt) => jwt.verify(incoming),
            Self::Token(rule, secrets) => verify_token(rule, secrets, incoming.request, incoming.body),
            Self::Basic(secrets) => verify_basic(secrets, incoming.request, incoming.body),
            Self::None => Ok(Verified { which: None, stale: false }),
            Self::AwaitsSecret => Err(Rejection::SecretAwaited),
            Self::All(checks) => {
                let mut whole: Option<Verified> = None;
                for check in checks {
                    let one = check.verify(incoming)?;
                    whole = Some(whole.map_or(one, |before| before.and(one)));
                }
                // No list of rules that must hold is empty: see `build`.
                whole.ok_or(Rejection::SignatureMismatch { secrets: 0 })
            }
        }
    }

    fn key_location(&self, request: &RequestParts<'_>, body: &[u8]) -> Result<Option<KeyLocation>, Rejection> {
        match self {
            Self::Mac(mac) => mac.key_location(request, body),
            Self::Jwt(jwt) => jwt.key_location(request, body),
            // What needs no published key and fails spares the others theirs.
            Self::Token(rule, secrets) => verify_token(rule, secrets, request, body).map(|_| None),
            Self::Basic(secrets) => verify_basic(secrets, request, body).map(|_| None),
            Self::None | Self::AwaitsSecret => Ok(None),
            Self::All(checks) => {
                let mut location = None;
                for check in checks {
                    location = check.key_location(request, body)?.or(location);
                }
                Ok(location)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifier(scheme: &str, secrets: &[&str]) -> Result<Verifier, ConfigError> {
        let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new(secret)).collect();
        Verifier::of(&serde_json::from_str(scheme).expect("parses"), &secrets)
    }

    fn mac(fields: &str) -> String {
        format!(r#"{{"kind":"mac","alg":"hmac-sha256","key":"utf8","sig":{{"in":"h:a","enc":"hex"}},{fields}}}"#)
    }

    #[test]
    fn a_scheme_without_a_usable_secret_makes_no_verifier() {
        let body = mac(r#""content":"{body}""#);
        for scheme in [body.as_str(), r#"{"kind":"token","in":"h:a"}"#, r#"{"kind":"basic"}"#] {
            assert!(matches!(verifier(scheme, &[]), Err(ConfigError::NoSecret)), "{scheme}");
            let empty = verifier(scheme, &["a:b", "  "]);
            assert!(matches!(empty, Err(ConfigError::Secret { index: 1, .. })), "{scheme}");
            assert!(verifier(scheme, &["a:b"]).is_ok(), "{scheme}");
        }
        assert!(matches!(verifier(r#"{"kind":"basic"}"#, &["user"]), Err(ConfigError::Secret { index: 0, .. })));
        assert!(matches!(verifier(r#"{"kind":"none"}"#, &["a"]), Err(ConfigError::Secret { index: 0, .. })));
    }

    #[test]
    fn a_rule_that_would_verify_too_little_makes_no_verifier() {
        for fields in [
            r#""content":"always""#,
            r#""content":"{body}","ts":{"in":"h:time","unit":"s","tol":300}"#,
            r#""content":"{body}","require":[{"h:user":"cfg:user"}]"#,
            r#""content":"{hmac-sha256-hex:secret,body}""#,
        ] {
            assert!(matches!(verifier(&mac(fields), &["a"]), Err(ConfigError::Rule { .. })), "{fields}");
        }
        let none = format!(r#"{{"kind":"any_of","rules":[{},{{"kind":"none"}}]}}"#, mac(r#""content":"{body}""#));
        assert!(matches!(verifier(&none, &["a"]), Err(ConfigError::Rule { .. })));
        for (algorithm, keys) in [
            ("hmac-sha1", &["whpk", "spki-base64"][..]),
            ("hmac-sha256", &["whpk", "spki-base64", "jwks:https://a.example", "fn:plaid_key"]),
            ("hmac-sha512", &["whpk", "x509url:h:b"]),
            ("sha256", &["base64", "hex", "whsec", "spki-base64"]),
            ("ed25519", &["utf8", "whsec", "fn:plaid_key"]),
            ("ecdsa-p256-sha256-der", &["utf8", "base64", "hex", "whsec", "whpk", "fn:plaid_key"]),
            ("rsa-pkcs1-sha256", &["utf8", "base64", "hex", "whsec", "whpk", "fn:plaid_key"]),
        ] {
            for key in keys {
                let content = if algorithm == "sha256" { "{secret}{body}" } else { "{body}{cfg:c}" };
                let rule = mac(&format!(r#""content":"{content}""#)).replace("hmac-sha256", algorithm);
                let rule = verifier(&rule.replace("utf8", key), &["a"]);
                assert!(matches!(rule, Err(ConfigError::Rule { .. })), "{algorithm} with {key}");
            }
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let shown = format!("{:?}", verifier(&mac(r#""content":"{body}""#), &["hush"]).expect("a verifier"));
        assert!(!shown.contains("hush") && shown.contains("Keys(..)"), "{shown}");
    }
}
