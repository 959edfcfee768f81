//! Keys that a provider publishes, for schemes without a secret of the source.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::certificate::Certificate;
use super::key_location::KeyForm;
use super::public_key::{PublicKey, SignatureAlgorithm};
use super::rejection::Rejection;

/// The most keys of a set: each of them costs a verification if a signature matches none.
pub const MAX_KEYS: usize = 16;

/// Keys of a provider, in the order in which it publishes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet(Vec<PublishedKey>);

/// Why a document has no usable keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("the document is not a JSON Web Key Set: {0}")]
    Json(String),
    #[error("the document does not begin with a certificate whose key can be used")]
    Certificate,
    #[error("the document contains no usable Ed25519, P-256 or RSA key")]
    NoUsableKey,
    #[error("the document contains {0} keys, more than {MAX_KEYS}")]
    TooManyKeys(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PublishedKey {
    /// The name by which a token refers to it (`kid`).
    id: Option<String>,
    key: PublicKey,
    /// Unix time in milliseconds.
    valid_ms: RangeInclusive<u64>,
}

/// RFC 7517 section 5.
#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<serde_json::Value>,
}

/// Plaid's answer to `/webhook_verification_key/get`.
#[derive(Deserialize)]
struct PlaidAnswer {
    key: serde_json::Value,
}

/// RFC 7517 section 4, RFC 7518 section 6 and RFC 8037 section 2.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    /// Plaid's: the Unix time in seconds from which the key is not used any more.
    expired_at: Option<u64>,
}

impl KeySet {
    /// Reads a document that was fetched from a [`KeyLocation`](super::KeyLocation).
    ///
    /// # Errors
    /// Returns an error if it is not of this form, or has no usable key, or more than [`MAX_KEYS`].
    pub fn parse(form: &KeyForm, document: &[u8]) -> Result<Self, KeySetError> {
        match form {
            KeyForm::JwkSet => Self::parse_jwks(document),
            KeyForm::Certificate => Self::parse_certificate(document),
            KeyForm::Plaid { .. } => Self::parse_plaid(document),
        }
    }

    /// Reads a JSON Web Key Set. Keys of other types or uses, and damaged or weak keys, are skipped.
    ///
    /// # Errors
    /// Returns an error under the conditions of [`KeySet::parse`].
    pub fn parse_jwks(document: &[u8]) -> Result<Self, KeySetError> {
        let set: JwkSet = parse(document)?;
        Self::of(set.keys)
    }

    /// The number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key; [`KeySet::parse`] makes no such set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys that an algorithm may be used with now.
    pub(super) fn valid(&self, algorithm: SignatureAlgorithm, now_ms: u64) -> Vec<&PublicKey> {
        let fits = |published: &&PublishedKey| published.valid_ms.contains(&now_ms) && algorithm.takes(&published.key);
        self.0.iter().filter(fits).map(|published| &published.key).collect()
    }

    /// The index of the key that made one of the signatures. `id` is the name of the key, if the signature has one; a
    /// key without a name matches every name.
    pub(super) fn find<'s>(
        &self,
        algorithm: SignatureAlgorithm,
        id: Option<&str>,
        input: &[u8],
        signatures: impl Iterator<Item = &'s [u8]> + Clone,
        now_ms: u64,
    ) -> Result<usize, Rejection> {
        let (mut tried, mut expired) = (0, false);
        for (index, published) in self.0.iter().enumerate() {
            let called = published.id.as_deref().zip(id).is_none_or(|(name, wanted)| name == wanted);
            if !called || !algorithm.takes(&published.key) {
                continue;
            }
            if !published.valid_ms.contains(&now_ms) {
                expired = true;
                continue;
            }
            tried += 1;
            if signatures.clone().any(|signature| published.key.verifies(algorithm, input, signature)) {
                return Ok(index);
            }
        }
        Err(match (tried, expired) {
            (0, true) => Rejection::KeyExpired,
            (0, false) => Rejection::KeyUnknown,
            (secrets, _) => Rejection::SignatureMismatch { secrets },
        })
    }

    fn parse_plaid(document: &[u8]) -> Result<Self, KeySetError> {
        let answer: PlaidAnswer = parse(document)?;
        Self::of(vec![answer.key])
    }

    fn parse_certificate(document: &[u8]) -> Result<Self, KeySetError> {
        let Certificate { key, valid_ms } = Certificate::from_pem(document).ok_or(KeySetError::Certificate)?;
        Ok(Self(vec![PublishedKey { id: None, key, valid_ms }]))
    }

    fn of(keys: Vec<serde_json::Value>) -> Result<Self, KeySetError> {
        let keys: Vec<_> = keys.into_iter().filter_map(usable).collect();
        match keys.len() {
            0 => Err(KeySetError::NoUsableKey),
            1..=MAX_KEYS => Ok(Self(keys)),
            more => Err(KeySetError::TooManyKeys(more)),
        }
    }
}

/// Reads the whole document first: otherwise members that are not used would not have to be JSON.
fn parse<T: DeserializeOwned>(document: &[u8]) -> Result<T, KeySetError> {
    let whole = serde_json::from_slice::<serde_json::Value>(document);
    whole.and_then(serde_json::from_value).map_err(|error| KeySetError::Json(error.to_string()))
}

fn usable(key: serde_json::Value) -> Option<PublishedKey> {
    let jwk: Jwk = serde_json::from_value(key).ok()?;
    if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?.trim_end_matches('=')).ok();
    let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("OKP", Some("Ed25519")) => PublicKey::ed25519(&bytes(&jwk.x)?),
        ("EC", Some("P-256")) => PublicKey::p256(&bytes(&jwk.x)?, &bytes(&jwk.y)?),
        ("RSA", None) => PublicKey::rsa(&bytes(&jwk.n)?, &bytes(&jwk.e)?),
        _ => None,
    }?;
    let until_ms = jwk.expired_at.map_or(u64::MAX, |seconds| seconds.saturating_mul(1_000));
    Some(PublishedKey { id: jwk.kid, key, valid_ms: 0..=until_ms })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::tests::test_keys;
    use serde_json::{Value, json};

    const NOW_MS: u64 = 1_764_000_000_000;

    fn ed25519() -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": "6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw", "use": "sig"})
    }

    fn parse(keys: &[Value]) -> Result<usize, KeySetError> {
        KeySet::parse_jwks(&test_keys::jwks(keys)).map(|set| set.len())
    }

    fn plaid(key: &Value) -> Result<KeySet, KeySetError> {
        let form = KeyForm::Plaid { key_id: "a".to_owned(), body: String::new() };
        KeySet::parse(&form, json!({ "key": key, "request_id": "r" }).to_string().as_bytes())
    }

    /// The place of the key with which `algorithm` verifies.
    fn find(set: &KeySet, algorithm: SignatureAlgorithm, id: Option<&str>, now_ms: u64) -> Result<usize, Rejection> {
        let message = b"a message";
        let is_rsa = algorithm == SignatureAlgorithm::RsaSha256;
        let signature = if is_rsa { test_keys::rsa_sha256(message) } else { test_keys::p256_raw(message) };
        let input = algorithm.input(&[message.as_slice().into()]);
        set.find(algorithm, id, &input, std::iter::once(signature.as_slice()), now_ms)
    }

    #[test]
    fn only_usable_keys_are_taken() {
        let with = |mut key: Value, name: &str, value: &str| {
            key[name] = value.into();
            key
        };
        let unusable = [
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
            json!({"kty": "oct", "k": "AAAA"}),
            json!({"kty": "OKP", "crv": "Ed25519"}),
            json!(7),
            with(ed25519(), "x", "AAAA"),
            with(ed25519(), "x", &"A".repeat(43)),
            with(ed25519(), "use", "enc"),
            with(ed25519(), "crv", "X25519"),
            with(test_keys::p256_jwk("a"), "crv", "P-384"),
            with(test_keys::p256_jwk("a"), "y", "AAAA"),
            with(test_keys::rsa_jwk("a"), "kty", "EC"),
        ];
        let usable = [ed25519(), test_keys::p256_jwk("a"), test_keys::rsa_jwk("b")];
        assert_eq!(parse(&[&unusable[..], &usable].concat()), Ok(3));
        for key in unusable {
            assert_eq!(parse(std::slice::from_ref(&key)), Err(KeySetError::NoUsableKey), "{key}");
        }
    }

    #[test]
    fn a_document_of_another_form_or_with_too_many_keys_is_refused() {
        assert!(matches!(KeySet::parse_jwks(b"<html>"), Err(KeySetError::Json(_))));
        assert!(matches!(KeySet::parse_jwks(b"{}"), Err(KeySetError::Json(_))));
        assert_eq!(parse(&vec![ed25519(); 17]), Err(KeySetError::TooManyKeys(17)));
        let jwks = test_keys::jwks(&[ed25519()]);
        assert_eq!(KeySet::parse(&KeyForm::Certificate, &jwks), Err(KeySetError::Certificate));
        let certificate = include_bytes!("tests/testdata/rsa.pem");
        assert!(matches!(KeySet::parse(&KeyForm::JwkSet, certificate), Err(KeySetError::Json(_))));
        assert!(KeySet::parse(&KeyForm::Certificate, certificate).is_ok());
    }

    #[test]
    fn a_key_is_found_by_its_kind_and_by_its_name() {
        let set = KeySet::parse_jwks(&test_keys::jwks(&[
            ed25519(),
            test_keys::rsa_jwk("old"),
            test_keys::p256_jwk("b"),
            test_keys::rsa_jwk("new"),
        ]));
        let set = set.expect("a set");
        assert_eq!(find(&set, SignatureAlgorithm::P256Raw, Some("b"), NOW_MS), Ok(2));
        assert_eq!(find(&set, SignatureAlgorithm::RsaSha256, None, NOW_MS), Ok(1));
        assert_eq!(find(&set, SignatureAlgorithm::RsaSha256, Some("new"), NOW_MS), Ok(3));
        assert_eq!(find(&set, SignatureAlgorithm::RsaSha256, Some("b"), NOW_MS), Err(Rejection::KeyUnknown));
        assert_eq!(find(&set, SignatureAlgorithm::RsaSha256, Some(""), NOW_MS), Err(Rejection::KeyUnknown));
        let nameless = KeySet::parse(&KeyForm::Certificate, include_bytes!("tests/testdata/p256.pem")).expect("a set");
        let now_ms = 1_800_000_000_000;
        let mismatch = Err(Rejection::SignatureMismatch { secrets: 1 });
        assert_eq!(find(&nameless, SignatureAlgorithm::P256Raw, Some("any"), now_ms), mismatch);
    }

    #[test]
    fn a_key_that_is_not_valid_now_is_not_used() {
        let mut key = test_keys::p256_jwk("a");
        let set = plaid(&key).expect("a key");
        assert_eq!(find(&set, SignatureAlgorithm::P256Raw, Some("a"), NOW_MS), Ok(0));
        key["expired_at"] = Value::Null;
        assert!(plaid(&key).is_ok());
        key["expired_at"] = (NOW_MS / 1_000).into();
        let set = plaid(&key).expect("a key");
        assert_eq!(find(&set, SignatureAlgorithm::P256Raw, Some("a"), NOW_MS), Ok(0));
        assert_eq!(find(&set, SignatureAlgorithm::P256Raw, Some("a"), NOW_MS + 1), Err(Rejection::KeyExpired));
        let certificate = test_keys::certificate(&test_keys::rsa_spki(), "200101000000Z", "300101000000Z");
        let set = KeySet::parse(&KeyForm::Certificate, &certificate).expect("a certificate");
        for (now_ms, expected) in [
            (1_577_836_799_999, Err(Rejection::KeyExpired)),
            (1_577_836_800_000, Ok(0)),
            (1_893_456_000_000, Ok(0)),
            (1_893_456_000_001, Err(Rejection::KeyExpired)),
        ] {
            assert_eq!(find(&set, SignatureAlgorithm::RsaSha256, None, now_ms), expected, "{now_ms}");
        }
    }
}
