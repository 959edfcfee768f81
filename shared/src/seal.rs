//! Sealing: secrets at rest are encrypted with XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha).
//!
//! The text form is `s1.<key id>.<base64url of nonce and ciphertext>`. The associated data names the owner of the
//! secret, so that a sealed text that is copied to another row does not open there.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};

const VERSION: &str = "s1";
const NONCE_BYTES: usize = 24;

/// A key to seal with. Its `Debug` shows its id and nothing else.
#[derive(Clone)]
pub struct SealingKey {
    id: String,
    cipher: XChaCha20Poly1305,
}

/// Why a text is not a sealing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the base64 of exactly 32 random bytes; create it with `openssl rand -base64 32`")]
pub struct ParseSealingKeyError;

/// Why a sealed text does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the stored value is not encrypted data")]
    Malformed,
    #[error(
        "encrypted with the key whose id is {0} (the first 8 hex digits of its SHA-256), which is not configured; add \
         that key"
    )]
    UnknownKey(String),
    #[error("the encrypted data was changed, or was encrypted for a different purpose")]
    Refused,
}

impl SealingKey {
    /// Reads a key: standard base64 of 32 bytes.
    ///
    /// # Errors
    /// Returns an error if it is not base64 of 32 bytes.
    pub fn parse(text: &str) -> Result<Self, ParseSealingKeyError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| ParseSealingKeyError)?;
        let cipher = XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| ParseSealingKeyError)?;
        let mut id = hex::encode(Sha256::digest(&bytes));
        id.truncate(8);
        Ok(Self { id, cipher })
    }

    /// The first eight hexadecimal digits of the key's SHA-256.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.id)
    }
}

/// Seals `plain`. `associated_data` names the owner of the secret, and `nonce` is random and never used twice.
#[must_use]
pub fn seal(key: &SealingKey, associated_data: &str, nonce: [u8; 24], plain: &[u8]) -> String {
    let payload = Payload { msg: plain, aad: associated_data.as_bytes() };
    let ciphertext = key
        .cipher
        .encrypt(&XNonce::from(nonce), payload)
        .expect("the cipher takes up to 256 GiB, more than a secret can be");
    let mut bytes = nonce.to_vec();
    bytes.extend(ciphertext);
    format!("{VERSION}.{}.{}", key.id, URL_SAFE_NO_PAD.encode(bytes))
}

/// Opens a sealed text with the one of `keys` that sealed it, so that keys can be rotated.
///
/// # Errors
/// Returns an error if the text cannot be opened, see [`SealError`].
pub fn open(keys: &[SealingKey], associated_data: &str, sealed: &str) -> Result<Vec<u8>, SealError> {
    let mut fields = sealed.split('.');
    let (Some(VERSION), Some(id), Some(text), None) = (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(SealError::Malformed);
    };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SealError::Malformed)?;
    let (nonce, ciphertext) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Malformed)?;
    let key = keys.iter().find(|key| key.id == id).ok_or_else(|| SealError::UnknownKey(id.to_owned()))?;
    let payload = Payload { msg: ciphertext, aad: associated_data.as_bytes() };
    key.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| SealError::Refused)
}

/// The id of the key that sealed a text; `None` if the text is not sealed.
#[must_use]
pub fn key_id_of(sealed: &str) -> Option<&str> {
    let mut fields = sealed.split('.');
    match (fields.next(), fields.next(), fields.next(), fields.next()) {
        (Some(VERSION), Some(id), Some(_), None) => Some(id),
        _ => None,
    }
}

/// The SHA-256 of a sealed text in lower-case hexadecimal. It identifies the text and reveals nothing of the secret,
/// because every sealing has a nonce of its own.
#[must_use]
pub fn digest(sealed: &str) -> String {
    hex::encode(Sha256::digest(sealed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::parse(&STANDARD.encode([byte; 32])).expect("32 bytes")
    }

    #[test]
    fn a_sealed_text_opens_with_any_ring_that_has_its_key() {
        let sealed = seal(&key(1), "source/src_1", [9; 24], b"secret");
        assert_eq!(open(&[key(2), key(1)], "source/src_1", &sealed), Ok(b"secret".to_vec()));
        assert!(sealed.starts_with(&format!("s1.{}.", key(1).key_id())), "{sealed}");
        assert_eq!(key_id_of(&sealed), Some(key(1).key_id()));
        assert_eq!((key_id_of("s2.72cd6e84.AAAA"), key_id_of("s1.72cd6e84")), (None, None));
        assert_eq!(key(1).key_id(), "72cd6e84", "the start of SHA-256 of 32 times 0x01");
    }

    #[test]
    fn the_cipher_is_the_one_of_the_draft() {
        // draft-irtf-cfrg-xchacha-03, appendix A.3.1.
        let key: Vec<u8> = (0x80..=0x9f).collect();
        let nonce: Vec<u8> = (0x40..=0x57).collect();
        let aad = hex::decode("50515253c0c1c2c3c4c5c6c7").expect("hex");
        let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                      sunscreen would be it.";
        let cipher = SealingKey::parse(&STANDARD.encode(key)).expect("32 bytes").cipher;
        let nonce: [u8; 24] = nonce.try_into().expect("24 bytes");
        let out = cipher.encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &aad }).expect("encrypts");
        assert_eq!(hex::encode(&out[out.len() - 16..]), "c0875924c1c7987947deafd8780acf49");
    }

    #[test]
    fn a_changed_moved_or_foreign_text_does_not_open() {
        let sealed = seal(&key(1), "source/src_1", [9; 24], b"secret");
        assert_eq!(open(&[key(1)], "source/src_2", &sealed), Err(SealError::Refused));
        assert_eq!(open(&[key(2)], "source/src_1", &sealed), Err(SealError::UnknownKey(key(1).key_id().to_owned())));
        let (head, text) = sealed.rsplit_once('.').expect("three fields");
        let mut bytes = URL_SAFE_NO_PAD.decode(text).expect("base64");
        for at in [0, NONCE_BYTES, bytes.len() - 1] {
            bytes[at] ^= 1;
            let changed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(&bytes));
            assert_eq!(open(&[key(1)], "source/src_1", &changed), Err(SealError::Refused));
            bytes[at] ^= 1;
        }
    }

    #[test]
    fn a_text_that_is_not_sealed_or_not_a_key_is_refused() {
        for text in ["", "s1", "s1.a", "s2.72cd6e84.AAAA", "s1.72cd6e84.AAAA", "s1.72cd6e84.!", "s1.a.b.c"] {
            assert_eq!(open(&[key(1)], "", text), Err(SealError::Malformed), "{text}");
        }
        for text in ["", "AAAA", "not base64", &STANDARD.encode([1; 33])] {
            assert!(SealingKey::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_digest_is_sha_256_of_the_sealed_text() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn debug_shows_nothing_of_a_key() {
        assert_eq!(format!("{:?}", key(1)), "SealingKey(72cd6e84)");
    }
}
