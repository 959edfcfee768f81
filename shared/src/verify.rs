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
//! - Timestamps are digits only, signed as they stand, and near to now in both directions.

pub mod key;
pub mod key_set;
pub mod reference;
pub mod rejection;
pub mod rule;
pub mod template;

mod mac;
pub(crate) mod request;
mod signature;
mod timestamp;
mod token;

#[cfg(test)]
mod tampering;

pub use key::KeyError;
pub use key_set::{KeySet, KeySetError};
pub use rejection::Rejection;
pub use request::RequestParts;
pub use rule::Scheme;

use crate::source::{Secret, SourceConfig};
use mac::MacVerifier;
use rule::{Algorithm, TokenRule};
use token::{Hashes, verify_basic, verify_token};

/// A source's scheme with its keys, ready to verify.
#[derive(Debug, Clone)]
pub struct Verifier {
    first: Check,
    others: Vec<Check>,
}

/// What a successful verification has shown. Only [`verify`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    which: Option<usize>,
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

/// A secret that a rule cannot use.
struct RefusedSecret {
    secret: usize,
    why: KeyError,
}

#[derive(Debug, Clone)]
enum Check {
    Mac(Box<MacVerifier>),
    Token(TokenRule, Hashes),
    Basic(Hashes),
    None,
}

impl Verifier {
    /// Prepares the verification of a source's requests.
    ///
    /// # Errors
    /// Where the scheme needs a secret and there is none, where a secret is not one for this scheme, or where the rule
    /// itself would verify nothing.
    pub fn new(config: &SourceConfig) -> Result<Self, ConfigError> {
        Self::of(&config.scheme, &config.secrets)
    }

    /// The same for a scheme and secrets that are not in a source's configuration yet.
    ///
    /// # Errors
    /// As [`Verifier::new`].
    pub fn of(scheme: &Scheme, secrets: &[Secret]) -> Result<Self, ConfigError> {
        let (first, others) = match scheme {
            Scheme::AnyOf { rules } => any_of(rules, secrets)?,
            Scheme::Mac(_) | Scheme::Token(_) | Scheme::Basic | Scheme::None => (single(scheme, secrets)?, Vec::new()),
        };
        Ok(Self { first, others })
    }

    /// The URL of the provider's key set, where the scheme needs one: fetch it, parse it with [`KeySet::parse_jwks`] and
    /// give it to [`verify`].
    #[must_use]
    pub fn key_set_url(&self) -> Option<&str> {
        std::iter::once(&self.first).chain(&self.others).find_map(|check| match check {
            Check::Mac(mac) => mac.key_set_url(),
            Check::Token(..) | Check::Basic(_) | Check::None => None,
        })
    }
}

impl Verified {
    /// The place of the secret that matched in the source's list, or of the key in the provider's key set; `None` where
    /// the scheme verifies nothing.
    #[must_use]
    pub const fn which(&self) -> Option<usize> {
        self.which
    }

    /// Whether the scheme verifies nothing, so that whoever knew the URL could send the request.
    #[must_use]
    pub const fn unsigned(&self) -> bool {
        self.which.is_none()
    }

    const fn by(secret: usize) -> Self {
        Self { which: Some(secret) }
    }
}

/// Verifies a request. `keys` is the provider's key set where [`Verifier::key_set_url`] names one, `body` the raw bytes,
/// `now_ms` the Unix time in milliseconds.
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
    let mut rejection = match verifier.first.verify(keys, request, body, now_ms) {
        Ok(verified) => return Ok(verified),
        Err(rejection) => rejection,
    };
    for check in &verifier.others {
        match check.verify(keys, request, body, now_ms) {
            Ok(verified) => return Ok(verified),
            Err(other) if other.progress() > rejection.progress() => rejection = other,
            Err(_) => {}
        }
    }
    Err(rejection)
}

impl Check {
    fn verify(
        &self,
        keys: Option<&KeySet>,
        request: &RequestParts<'_>,
        body: &[u8],
        now_ms: u64,
    ) -> Result<Verified, Rejection> {
        match self {
            Self::Mac(mac) => mac.verify(keys, request, body, now_ms),
            Self::Token(rule, secrets) => verify_token(rule, secrets, request, body),
            Self::Basic(secrets) => verify_basic(secrets, request, body),
            Self::None => Ok(Verified { which: None }),
        }
    }
}

/// A rule on its own: every secret must be one for it.
fn single(rule: &Scheme, secrets: &[Secret]) -> Result<Check, ConfigError> {
    let (check, refused) = one(rule, secrets)?;
    if let Some(refused) = refused.first() {
        return Err(ConfigError::Secret { index: refused.secret, why: refused.why.to_string() });
    }
    if is_without_key(&check) { Err(ConfigError::NoSecret) } else { Ok(check) }
}

/// Alternatives: every secret must be one for at least one of them, and those that got none are left out.
fn any_of(rules: &[Scheme], secrets: &[Secret]) -> Result<(Check, Vec<Check>), ConfigError> {
    refuse_downgrade(rules)?;
    let mut checks = Vec::with_capacity(rules.len());
    let mut reasons: Vec<Vec<String>> = vec![Vec::new(); secrets.len()];
    for rule in rules {
        let (check, refused) = one(rule, secrets)?;
        for RefusedSecret { secret, why } in refused {
            if let Some(reasons) = reasons.get_mut(secret) {
                reasons.push(why.to_string());
            }
        }
        if !is_without_key(&check) {
            checks.push(check);
        }
    }
    if let Some(index) = reasons.iter().position(|reasons| reasons.len() == rules.len()) {
        let why = reasons.get(index).map(|reasons| reasons.join("; or ")).unwrap_or_default();
        return Err(ConfigError::Secret { index, why });
    }
    let mut checks = checks.into_iter();
    let first = checks.next().ok_or(ConfigError::NoSecret)?;
    Ok((first, checks.collect()))
}

fn one(rule: &Scheme, secrets: &[Secret]) -> Result<(Check, Vec<RefusedSecret>), ConfigError> {
    let refuse = |why: KeyError, unusable: fn(&str) -> bool| -> Vec<RefusedSecret> {
        let unusable = secrets.iter().enumerate().filter(|(_, secret)| unusable(secret.reveal()));
        unusable.map(|(secret, _)| RefusedSecret { secret, why: why.clone() }).collect()
    };
    Ok(match rule {
        Scheme::Mac(rule) => {
            let (mac, refused) = MacVerifier::new(rule, secrets)?;
            (Check::Mac(Box::new(mac)), refused)
        }
        Scheme::Token(rule) => {
            (Check::Token(rule.clone(), Hashes::new(secrets)), refuse(KeyError::Empty, str::is_empty))
        }
        Scheme::Basic => {
            let expected = KeyError::Encoding { expected: "user:password" };
            (Check::Basic(Hashes::new(secrets)), refuse(expected, |secret| !secret.contains(':')))
        }
        Scheme::None => (Check::None, refuse(KeyError::NotUsed, |_| true)),
        Scheme::AnyOf { .. } => {
            return Err(ConfigError::Rule { why: "alternatives may not hold alternatives".to_owned() });
        }
    })
}

fn is_without_key(check: &Check) -> bool {
    match check {
        Check::Mac(mac) => mac.key_count() == Some(0),
        Check::Token(_, secrets) | Check::Basic(secrets) => secrets.is_empty(),
        Check::None => false,
    }
}

/// An alternative that is weaker than its neighbours would be what a forger chooses.
fn refuse_downgrade(rules: &[Scheme]) -> Result<(), ConfigError> {
    let sha1 = |rule: &Scheme| matches!(rule, Scheme::Mac(mac) if mac.algorithm == Algorithm::HmacSha1);
    if rules.iter().any(sha1) && !rules.iter().all(sha1) {
        return Err(ConfigError::Rule { why: "hmac-sha1 may not stand beside something stronger".to_owned() });
    }
    if rules.iter().any(|rule| matches!(rule, Scheme::None)) {
        return Err(ConfigError::Rule { why: "none may not be an alternative to a signature".to_owned() });
    }
    Ok(())
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
        let key = mac(r#""content":"{body}""#).replace("utf8", "whpk");
        assert!(matches!(verifier(&key, &["a"]), Err(ConfigError::Rule { .. })));
    }

    #[test]
    fn nothing_secret_is_shown() {
        let shown = format!("{:?}", verifier(&mac(r#""content":"{body}""#), &["hush"]).expect("a verifier"));
        assert!(!shown.contains("hush") && shown.contains("Keys(..)"), "{shown}");
    }
}
