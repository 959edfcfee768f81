//! A provider's published key set (RFC 7517), for schemes without a secret of one's own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::VerifyingKey;
use serde::Deserialize;

use super::key;

/// The most keys that are taken from one set: each of them costs a verification when a signature matches none.
pub const MAX_KEYS: usize = 16;

/// The Ed25519 keys of a key set, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet(Vec<VerifyingKey>);

/// Why a document is not a usable key set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("the document is not a JSON Web Key Set: {0}")]
    Json(String),
    #[error("the key set holds no usable Ed25519 key")]
    NoUsableKey,
    #[error("the key set holds {0} Ed25519 keys, more than {MAX_KEYS}")]
    TooManyKeys(usize),
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Key {
    kty: String,
    crv: String,
    x: String,
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys of other types, and keys that are damaged or weak, are passed over.
    ///
    /// # Errors
    /// Where it is not a key set, or holds no usable Ed25519 key, or more than [`MAX_KEYS`].
    pub fn parse_jwks(document: &[u8]) -> Result<Self, KeySetError> {
        let document: Document =
            serde_json::from_slice(document).map_err(|error| KeySetError::Json(error.to_string()))?;
        let keys: Vec<_> = document.keys.into_iter().filter_map(usable).collect();
        match keys.len() {
            0 => Err(KeySetError::NoUsableKey),
            1..=MAX_KEYS => Ok(Self(keys)),
            more => Err(KeySetError::TooManyKeys(more)),
        }
    }

    pub(super) fn keys(&self) -> &[VerifyingKey] {
        &self.0
    }
}

fn usable(key: serde_json::Value) -> Option<VerifyingKey> {
    let key: Key = serde_json::from_value(key).ok()?;
    if key.kty != "OKP" || key.crv != "Ed25519" {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(key.x.trim_end_matches('=')).ok()?;
    key::point(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw","use":"sig"}"#;

    fn parse(keys: &str) -> Result<usize, KeySetError> {
        KeySet::parse_jwks(format!("{{\"keys\":[{keys}]}}").as_bytes()).map(|set| set.keys().len())
    }

    #[test]
    fn only_usable_ed25519_keys_are_taken() {
        let rsa = r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#;
        let short = r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#;
        let weak = r#"{"kty":"OKP","crv":"Ed25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;
        assert_eq!(parse(&[rsa, GOOD, short, weak].join(",")), Ok(1));
        assert_eq!(parse(&[rsa, short, weak].join(",")), Err(KeySetError::NoUsableKey));
    }

    #[test]
    fn a_document_that_is_no_key_set_or_too_large_is_refused() {
        assert!(matches!(KeySet::parse_jwks(b"<html>"), Err(KeySetError::Json(_))));
        assert!(matches!(KeySet::parse_jwks(b"{}"), Err(KeySetError::Json(_))));
        assert_eq!(parse(&[GOOD; 17].join(",")), Err(KeySetError::TooManyKeys(17)));
    }
}
