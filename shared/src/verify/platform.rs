//! Signatures that the platform checks.
//!
//! In WebAssembly SHA-256 takes five times, and an ECDSA signature twenty times, as long as the platform's own
//! cryptography, and the body has to be copied in. If only the signature needs the body, [`Verifier::platform_check`]
//! makes every other check of [`super::verify`] and returns the remaining one, in the terms of the Web Cryptography
//! API.

use super::public_key::SignatureAlgorithm;
use super::{Check, Incoming, KeySet, RequestParts, Verifier};

/// Up to this size, in bytes, an HMAC costs less than a call of the platform.
pub const SMALL_BODY_BYTES: usize = 8_000;

/// The most pairs of a key and a signature that are left to the platform. A rotation makes two of each.
const MAX_PAIRS: usize = 4;

/// The remaining check of a request: one of the signatures has to be that of one of the keys, over `before`, the body
/// and `after`.
#[derive(Clone, PartialEq, Eq)]
pub struct PlatformCheck {
    pub algorithm: PlatformAlgorithm,
    /// In the format `raw`. The keys of an HMAC are secret and must not be shown.
    pub keys: Vec<Vec<u8>>,
    pub signatures: Vec<Vec<u8>>,
    pub before: String,
    pub after: String,
    /// Whether the signed time is out of tolerance, which the source accepts.
    pub stale: bool,
}

/// The algorithms that are left to the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlatformAlgorithm {
    HmacSha1,
    HmacSha256,
    HmacSha512,
    Ed25519,
    /// ECDSA with SHA-256; a signature is r and s, 32 bytes each.
    P256,
}

impl PlatformAlgorithm {
    /// The platform's algorithm for signatures of public keys. `None` for RSA, which the platform is not asked to verify.
    pub(super) const fn of(algorithm: SignatureAlgorithm) -> Option<Self> {
        match algorithm {
            SignatureAlgorithm::Ed25519 => Some(Self::Ed25519),
            SignatureAlgorithm::P256Der | SignatureAlgorithm::P256Raw => Some(Self::P256),
            SignatureAlgorithm::RsaSha1 | SignatureAlgorithm::RsaSha256 => None,
        }
    }

    /// The name by which `entry.js` finds its parameters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac-sha1",
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha512 => "hmac-sha512",
            Self::Ed25519 => "ed25519",
            Self::P256 => "p256",
        }
    }
}

impl std::fmt::Debug for PlatformCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlatformCheck(..)")
    }
}

impl Verifier {
    /// The remaining check of a request with a body of `size` bytes, after all others have passed. `None` if the rule
    /// needs the body itself, if the platform would gain nothing, or if the request is refused anyway:
    /// [`super::verify`] says why.
    #[must_use]
    pub fn platform_check(
        &self,
        keys: Option<&KeySet>,
        request: &RequestParts<'_>,
        size: usize,
        now_ms: u64,
    ) -> Option<PlatformCheck> {
        let Check::Mac(mac) = &self.first else { return None };
        let gains = size > SMALL_BODY_BYTES || mac.has_public_keys();
        if !gains || !self.others.is_empty() {
            return None;
        }
        let check = mac.platform_check(&Incoming { keys, request, body: &[], now_ms, on_stale: self.on_stale })?;
        (1..=MAX_PAIRS).contains(&(check.keys.len() * check.signatures.len())).then_some(check)
    }
}

#[cfg(test)]
pub(crate) mod tests;
