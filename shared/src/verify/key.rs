//! Decodes secrets into keys.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::public_key::{ED25519_BYTES, PublicKey};
use crate::scheme::key_encoding::KeyEncoding;

/// Base64 as it is pasted: padding may be missing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The sizes in bytes that the Standard Webhooks specification allows for a symmetric secret.
pub const STANDARD_SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The prefixes of the Standard Webhooks specification: symmetric secret, public key, private key.
pub const SECRET_PREFIX: &str = "whsec_";
/// See [`SECRET_PREFIX`].
pub const PUBLIC_PREFIX: &str = "whpk_";
/// See [`SECRET_PREFIX`].
pub const PRIVATE_PREFIX: &str = "whsk_";

const PRIVATE_PEM: &str = "PRIVATE KEY-----";

/// Marks of files that are public.
const PUBLIC_PEM: [&str; 2] = ["PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----"];

/// A secret that a rule cannot use, with its place in the source's list.
pub(super) struct RefusedSecret {
    pub(super) secret: usize,
    pub(super) why: KeyError,
}

/// Why a secret is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("is empty; paste the secret that the provider shows")]
    Empty,
    #[error("is a public key, which is not secret; paste the signing secret")]
    PublicKey,
    #[error("is a private key, which only the sender should have; paste the public key or the signing secret")]
    PrivateKey,
    #[error("must be {expected}; paste it exactly as the provider shows it")]
    Encoding { expected: &'static str },
    #[error("is {bytes} bytes long, but must be {expected} bytes long; paste the whole secret")]
    Length { bytes: usize, expected: &'static str },
    #[error("is not a usable public key for this algorithm; paste the key that the provider shows")]
    NotUsable,
    #[error("is not used by this scheme; remove it")]
    NotUsed,
}

impl KeyEncoding {
    /// The bytes of an HMAC key.
    ///
    /// # Errors
    /// Returns an error if the secret is empty, is a public or private key, or does not decode.
    pub fn hmac_key(&self, secret: &str) -> Result<Vec<u8>, KeyError> {
        refuse_asymmetric(secret)?;
        let key = match self {
            Self::Utf8 => secret.as_bytes().to_vec(),
            Self::Base64 => base64(secret)?,
            Self::Hex => hex::decode(secret).map_err(|_| KeyError::Encoding { expected: "hexadecimal" })?,
            Self::StandardSecret => standard_secret(secret)?,
            Self::StandardPublicKey | Self::Spki => return Err(KeyError::PublicKey),
            Self::KeySet { .. } | Self::Certificate { .. } | Self::PlaidKey { .. } => return Err(KeyError::NotUsed),
        };
        if key.is_empty() { Err(KeyError::Empty) } else { Ok(key) }
    }

    /// A public key. It is one of Ed25519, unless the encoding itself names the kind.
    ///
    /// # Errors
    /// Returns an error if the text is empty, is a private key, or does not decode to a key.
    pub fn public_key(&self, text: &str) -> Result<PublicKey, KeyError> {
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if text.starts_with(PRIVATE_PREFIX) || text.contains(PRIVATE_PEM) {
            return Err(KeyError::PrivateKey);
        }
        let bytes = match self {
            Self::Base64 => base64(text)?,
            Self::Hex => hex::decode(text).map_err(|_| KeyError::Encoding { expected: "hexadecimal" })?,
            Self::StandardPublicKey => {
                base64(text.strip_prefix(PUBLIC_PREFIX).ok_or(KeyError::Encoding { expected: "whpk_ and base64" })?)?
            }
            Self::Spki => return PublicKey::from_spki(&base64(&without_armour(text))?).ok_or(KeyError::NotUsable),
            Self::Utf8 | Self::StandardSecret => return Err(KeyError::Encoding { expected: "a public key" }),
            Self::KeySet { .. } | Self::Certificate { .. } | Self::PlaidKey { .. } => return Err(KeyError::NotUsed),
        };
        if bytes.len() != ED25519_BYTES {
            return Err(KeyError::Length { bytes: bytes.len(), expected: "32" });
        }
        PublicKey::ed25519(&bytes).ok_or(KeyError::NotUsable)
    }
}

/// The 24 to 64 bytes of a Standard Webhooks secret.
///
/// # Errors
/// Returns an error if it is empty, is another kind of key, or does not decode.
pub fn standard_secret(secret: &str) -> Result<Vec<u8>, KeyError> {
    refuse_asymmetric(secret)?;
    let key = base64(secret.strip_prefix(SECRET_PREFIX).unwrap_or(secret))?;
    if STANDARD_SECRET_BYTES.contains(&key.len()) {
        Ok(key)
    } else {
        Err(KeyError::Length { bytes: key.len(), expected: "24 to 64" })
    }
}

fn is_spki(secret: &str) -> bool {
    BASE64.decode(without_armour(secret)).is_ok_and(|der| PublicKey::from_spki(&der).is_some())
}

/// The base64 of a PEM file (RFC 7468), or the text itself if it is not one.
fn without_armour(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("-----")).flat_map(str::split_ascii_whitespace).collect()
}

fn base64(text: &str) -> Result<Vec<u8>, KeyError> {
    BASE64.decode(text).map_err(|_| KeyError::Encoding { expected: "base64" })
}

fn refuse_asymmetric(secret: &str) -> Result<(), KeyError> {
    let is_public = || PUBLIC_PEM.iter().any(|mark| secret.contains(mark)) || is_spki(secret);
    if secret.is_empty() {
        Err(KeyError::Empty)
    } else if secret.starts_with(PUBLIC_PREFIX) || is_public() {
        Err(KeyError::PublicKey)
    } else if secret.starts_with(PRIVATE_PREFIX) || secret.contains(PRIVATE_PEM) {
        Err(KeyError::PrivateKey)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const WHPK: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";

    #[test]
    fn the_same_text_is_another_key_in_another_encoding() {
        assert_eq!(KeyEncoding::StandardSecret.hmac_key(WHSEC).map(|key| key.len()), Ok(24));
        assert_eq!(KeyEncoding::Utf8.hmac_key(WHSEC), Ok(WHSEC.as_bytes().to_vec()));
        assert_eq!(KeyEncoding::Hex.hmac_key("00ff"), Ok(vec![0, 255]));
        assert_eq!(KeyEncoding::Base64.hmac_key("AP8="), Ok(vec![0, 255]));
    }

    #[test]
    fn a_public_or_private_key_is_never_an_hmac_secret() {
        for encoding in [KeyEncoding::Utf8, KeyEncoding::Base64, KeyEncoding::Hex, KeyEncoding::StandardSecret] {
            assert_eq!(encoding.hmac_key(WHPK), Err(KeyError::PublicKey), "{encoding}");
            assert_eq!(encoding.hmac_key("whsk_AAAA"), Err(KeyError::PrivateKey), "{encoding}");
            assert_eq!(encoding.hmac_key("-----BEGIN PUBLIC KEY-----\nAA\n"), Err(KeyError::PublicKey), "{encoding}");
            assert_eq!(encoding.hmac_key(""), Err(KeyError::Empty), "{encoding}");
        }
    }

    #[test]
    fn a_secret_that_does_not_decode_reports_the_expected_form() {
        assert_eq!(KeyEncoding::Hex.hmac_key("xyz"), Err(KeyError::Encoding { expected: "hexadecimal" }));
        assert_eq!(KeyEncoding::StandardSecret.hmac_key("whsec_!"), Err(KeyError::Encoding { expected: "base64" }));
        let short = KeyEncoding::StandardSecret.hmac_key("whsec_AAAA");
        assert_eq!(short, Err(KeyError::Length { bytes: 3, expected: "24 to 64" }));
    }

    #[test]
    fn a_public_key_has_32_bytes_and_is_not_weak() {
        assert!(KeyEncoding::StandardPublicKey.public_key(WHPK).is_ok());
        let weak = format!("whpk_{}", BASE64.encode([0; 32]));
        assert_eq!(KeyEncoding::StandardPublicKey.public_key(&weak), Err(KeyError::NotUsable));
        let short = KeyEncoding::StandardPublicKey.public_key("whpk_AAAA");
        assert_eq!(short, Err(KeyError::Length { bytes: 3, expected: "32" }));
        assert!(KeyEncoding::StandardPublicKey.public_key(WHSEC).is_err());
    }

    #[test]
    fn a_public_key_of_any_kind_is_taken_with_and_without_its_armour() {
        // SendGrid's: sendgrid-nodejs, packages/eventwebhook/src/eventwebhook.spec.js.
        let p256 = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";
        let armoured =
            format!("-----BEGIN PUBLIC KEY-----\n{}\r\n{}\n-----END PUBLIC KEY-----\n", &p256[..64], &p256[64..]);
        let key = KeyEncoding::Spki.public_key(p256).expect("a key");
        assert!(matches!(key, PublicKey::P256(_)));
        assert_eq!(KeyEncoding::Spki.public_key(&armoured), Ok(key));
        assert_eq!(KeyEncoding::Spki.public_key(&p256[..120]), Err(KeyError::NotUsable));
        let private = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----";
        assert_eq!(KeyEncoding::Spki.public_key(private), Err(KeyError::PrivateKey));
        let lines = armoured.lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().join("\n");
        let pkcs1 = "-----BEGIN RSA PUBLIC KEY-----\nAA==\n-----END RSA PUBLIC KEY-----";
        for known in [p256, &armoured, &lines, pkcs1, include_str!("tests/testdata/p256.pem")] {
            for encoding in [KeyEncoding::Spki, KeyEncoding::Utf8, KeyEncoding::Base64] {
                assert_eq!(encoding.hmac_key(known), Err(KeyError::PublicKey), "{encoding}: anyone can know {known}");
            }
        }
    }
}
