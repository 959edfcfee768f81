//! Verification: whether a request comes from a holder of a source's secret.
//!
//! How a provider signs is data (see [`scheme`](crate::scheme)); this is its interpreter. A [`Verifier`] is made once
//! for a source's configuration, with its keys decoded and its HMAC states prepared, and then used for every request.
//! These rules hold for all schemes:
//!
//! - The raw bytes of the body are verified, never a parsed and rewritten form.
//! - A signature is decoded and must have the algorithm's exact length before it is compared in constant time.
//! - Any of a source's secrets may match, so that a secret can be rotated. An `all_of` scheme is the exception: every
//!   rule must hold, each with a secret that fits it. A handshake is signed with the first secret, the newest one, and
//!   so is the request for a key of Plaid.
//! - Entries of unknown versions are skipped.
//! - A value that may appear only once (signature, timestamp, id) is refused if it appears twice, also if the platform
//!   has already joined the two with `", "`.
//! - Timestamps are digits only or RFC 3339, signed as they are written, and near to now in both directions.

pub mod key;
pub mod key_location;
pub mod key_set;
pub mod platform;
pub mod public_key;
pub mod rejection;

mod build;
mod certificate;
mod each;
mod explain;
mod jwt;
mod mac;
pub(crate) mod request;
mod signature;
mod signed_address;
mod timestamp;
mod token;
pub mod trace;
mod unread;

pub use explain::{MAX_EXPLAINED_BODY_BYTES, MAX_RETIRED_SECRETS};
pub use key::KeyError;
pub use key_location::{KeyForm, KeyLocation};
pub use key_set::{KeySet, KeySetError};
pub use platform::{PlatformAlgorithm, PlatformCheck};
pub use rejection::Rejection;
pub use request::RequestParts;
pub(crate) use timestamp::text_of as timestamp_text;

use crate::scheme::Scheme;
use crate::scheme::handshake::hands_over_secret;
use crate::scheme::rule::TokenRule;
use crate::secret::Secret;
use crate::source::{OnStale, SourceConfig};
use jwt::JwtVerifier;
use mac::MacVerifier;
use token::{Hashes, verify_basic, verify_token};

/// A source's scheme with its keys, ready to verify.
#[derive(Debug, Clone)]
pub struct Verifier {
    first: Check,
    others: Vec<Check>,
    on_stale: OnStale,
    /// A verifier that accepts the retired secrets too, only to explain a refusal.
    retired: Option<Box<Verifier>>,
    /// A verifier that accepts the secrets with white space at their end too, only to explain a refusal.
    spaced: Option<Box<Verifier>>,
}

/// The result of a successful verification. Only [`verify`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    which: Option<usize>,
    stale: bool,
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("the source has no secret; add the one that the provider shows")]
    NoSecret,
    #[error("secret number {} {why}", index + 1)]
    Secret { index: usize, why: String },
    #[error("{why}")]
    Rule { why: String },
}

/// A check of a request.
#[derive(Debug, Clone)]
enum Check {
    Mac(Box<MacVerifier>),
    Jwt(Box<JwtVerifier>),
    Token(TokenRule, Hashes),
    Basic(Hashes),
    None,
    /// The provider hands over the secret and has not done so yet: requests cannot be verified.
    AwaitsSecret,
    /// Every one of them has to pass.
    All(Vec<Check>),
}

/// A request, with everything that verifying it needs.
struct Incoming<'a> {
    /// The provider's published keys, if they are needed and available.
    keys: Option<&'a KeySet>,
    request: &'a RequestParts<'a>,
    body: &'a [u8],
    now_ms: u64,
    on_stale: OnStale,
}

impl Verifier {
    /// Prepares the verification of a source's requests. If the provider hands over the secret, the source may have
    /// none yet.
    ///
    /// # Errors
    /// Returns an error if the scheme needs a secret and there is none, if a secret does not fit the scheme, or if the
    /// rule itself would verify nothing.
    pub fn new(config: &SourceConfig) -> Result<Self, ConfigError> {
        let verifier = match Self::of(&config.scheme, &config.secrets) {
            Err(ConfigError::NoSecret) if hands_over_secret(&config.handshakes) => Self {
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
    /// Returns an error under the conditions of [`Verifier::new`].
    pub fn of(scheme: &Scheme, secrets: &[Secret]) -> Result<Self, ConfigError> {
        let (first, others) = build::checks(scheme, secrets)?;
        Ok(Self { first, others, on_stale: OnStale::Reject, retired: None, spaced: None })
    }

    /// The location of the published keys that [`verify`] needs for this request; `None` if it needs none.
    ///
    /// # Errors
    /// Returns a rejection if the request itself names its key and could not be verified with any key: nothing is
    /// fetched for it.
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
    /// The index of the secret that matched in the source's list, or of the key in the provider's key set; `None` if
    /// the scheme verifies nothing. If several rules or items had to match, that of the first.
    #[must_use]
    pub const fn which(&self) -> Option<usize> {
        self.which
    }

    /// Whether the signed time is out of tolerance. This is an error unless the source accepts it.
    #[must_use]
    pub const fn stale(&self) -> bool {
        self.stale
    }

    /// Whether the scheme verifies nothing, so that anyone who knew the URL could send the request.
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

    /// Combines this result with another one, if both were required.
    const fn and(self, other: Self) -> Self {
        Self { which: self.which, stale: self.stale || other.stale }
    }
}

impl Incoming<'_> {
    /// Whether the signed time is out of tolerance. This is an error unless the source accepts it.
    fn tolerate(&self, time: Result<(), Rejection>) -> Result<bool, Rejection> {
        match (time, self.on_stale) {
            (Ok(()), _) => Ok(false),
            (Err(rejection), OnStale::AcceptFlagged) if rejection.is_of_time() => Ok(true),
            (Err(rejection), _) => Err(rejection),
        }
    }
}

/// Verifies a request. `keys` are the keys published at [`Verifier::key_location`], `body` the raw bytes, `now_ms` the
/// Unix time in milliseconds.
///
/// # Errors
/// Returns the reason of the refusal. If [`Rejection::is_ours`] holds, the request could not be verified and the sender
/// should try again.
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
                // A list of rules that must hold is never empty: see `build`.
                whole.ok_or(Rejection::SignatureMismatch { secrets: 0 })
            }
        }
    }

    fn key_location(&self, request: &RequestParts<'_>, body: &[u8]) -> Result<Option<KeyLocation>, Rejection> {
        match self {
            Self::Mac(mac) => mac.key_location(request, body),
            Self::Jwt(jwt) => jwt.key_location(request, body),
            // If a check without published keys fails, no keys are fetched for the others.
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
pub(crate) mod tests;
