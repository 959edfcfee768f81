//! Signing deliveries by the Standard Webhooks specification: `v1` (HMAC-SHA256) and `v1a` (Ed25519) over
//! `{webhook-id}.{webhook-timestamp}.{body}`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::Signer as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::verify::key::{KeyError, PRIVATE_PREFIX, PUBLIC_PREFIX, SECRET_PREFIX, standard_secret};

/// A key that signs deliveries. Neither its `Debug` nor its `Display` shows anything secret.
#[derive(Clone)]
pub enum SigningSecret {
    /// Shared with the destination.
    Hmac(HmacKey),
    /// The destination knows only the public key, [`SigningSecret::public_text`].
    Ed25519(Box<ed25519_dalek::SigningKey>),
}

/// The key of an HMAC-SHA256, ready to be used many times.
#[derive(Clone)]
pub struct HmacKey {
    bytes: Vec<u8>,
    state: Hmac<Sha256>,
}

/// Why a text is not a signing secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseSigningSecretError {
    #[error("must begin with whsec_ (shared secret) or whsk_ (Ed25519 key pair)")]
    Prefix,
    #[error("must be whsec_ followed by the base64 of 24 to 64 bytes")]
    Key(#[from] KeyError),
    #[error(
        "is not an Ed25519 key pair; it must be whsk_ followed by the base64 of 64 bytes: the seed (32) and the public \
         key (32)"
    )]
    KeyPair,
}

impl SigningSecret {
    /// Reads `whsec_…` (24 to 64 bytes) or `whsk_…` (seed and public key, 64 bytes).
    ///
    /// # Errors
    /// Returns an error if the prefix is another one, such as a public key's, or if the rest is not a key.
    pub fn parse(text: &str) -> Result<Self, ParseSigningSecretError> {
        let text = text.trim();
        if text.starts_with(SECRET_PREFIX) {
            return Ok(Self::hmac(standard_secret(text)?));
        }
        let encoded = text.strip_prefix(PRIVATE_PREFIX).ok_or(ParseSigningSecretError::Prefix)?;
        let bytes = BASE64.decode(encoded).map_err(|_| ParseSigningSecretError::KeyPair)?;
        let pair: &[u8; 64] = bytes.as_slice().try_into().map_err(|_| ParseSigningSecretError::KeyPair)?;
        let key = ed25519_dalek::SigningKey::from_keypair_bytes(pair).map_err(|_| ParseSigningSecretError::KeyPair)?;
        Ok(Self::Ed25519(Box::new(key)))
    }

    /// A shared secret of 32 random bytes.
    #[must_use]
    pub fn generate_hmac(random: [u8; 32]) -> Self {
        Self::hmac(random.to_vec())
    }

    /// A key pair from a seed of 32 random bytes.
    #[must_use]
    pub fn generate_ed25519(random: [u8; 32]) -> Self {
        Self::Ed25519(Box::new(ed25519_dalek::SigningKey::from_bytes(&random)))
    }

    /// The key itself, `whsec_…` or `whsk_…`: it is sealed at rest, and shown only to the owner of the destination.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Hmac(key) => format!("{SECRET_PREFIX}{}", BASE64.encode(&key.bytes)),
            Self::Ed25519(key) => format!("{PRIVATE_PREFIX}{}", BASE64.encode(key.to_keypair_bytes())),
        }
    }

    /// `whpk_…`, the key with which a receiver verifies; `None` for a shared secret.
    #[must_use]
    pub fn public_text(&self) -> Option<String> {
        match self {
            Self::Hmac(_) => None,
            Self::Ed25519(key) => Some(format!("{PUBLIC_PREFIX}{}", BASE64.encode(key.verifying_key().as_bytes()))),
        }
    }

    fn hmac(bytes: Vec<u8>) -> Self {
        let state = Hmac::new_from_slice(&bytes).expect("an HMAC takes a key of any length");
        Self::Hmac(HmacKey { bytes, state })
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hmac(_) => "hmac key",
            Self::Ed25519(_) => "ed25519 key",
        })
    }
}

/// The value of `webhook-signature`: one entry for each key, separated by blanks, so that a destination can rotate.
///
/// `id` is the value of `webhook-id` and contains no `.`; `timestamp_s` is that of `webhook-timestamp`, in seconds;
/// `body` is the exact body of the request.
#[must_use]
pub fn sign(keys: &[SigningSecret], id: &str, timestamp_s: u64, body: &[u8]) -> String {
    let head = format!("{id}.{timestamp_s}.");
    let entries = keys.iter().map(|key| match key {
        SigningSecret::Hmac(key) => {
            let mut mac = key.state.clone();
            mac.update(head.as_bytes());
            mac.update(body);
            format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
        }
        SigningSecret::Ed25519(key) => {
            let message = [head.as_bytes(), body].concat();
            format!("v1a,{}", BASE64.encode(key.sign(&message).to_bytes()))
        }
    });
    entries.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const WHSK: &str = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    const WHPK: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";

    fn key(text: &str) -> SigningSecret {
        SigningSecret::parse(text).expect("a key")
    }

    #[test]
    fn the_vectors_of_the_specification_and_of_svix_are_reproduced() {
        // standard-webhooks libraries/javascript/src/webhook.test.ts and svix-server src/worker.rs
        let v1 = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let v1a = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
        let keys = [key(WHSEC), key(WHSK)];
        let signed = sign(&keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(signed, format!("{v1} {v1a}"));
    }

    #[test]
    fn a_key_survives_its_text_form_and_knows_its_public_half() {
        assert_eq!(key(WHSEC).to_text(), WHSEC);
        assert_eq!(key(WHSK).to_text(), WHSK);
        assert_eq!(key(WHSK).public_text().as_deref(), Some(WHPK));
        assert_eq!(key(WHSEC).public_text(), None);
        let generated = SigningSecret::generate_ed25519([7; 32]);
        assert_eq!(key(&generated.to_text()).public_text(), generated.public_text());
        let generated = SigningSecret::generate_hmac([7; 32]);
        assert_eq!(sign(&[key(&generated.to_text())], "a", 1, b""), sign(&[generated], "a", 1, b""));
    }

    #[test]
    fn a_text_that_is_not_a_signing_secret_is_refused() {
        let error = |text: &str| SigningSecret::parse(text).err();
        assert_eq!(error(WHPK), Some(ParseSigningSecretError::Prefix), "a public key signs nothing");
        assert_eq!(error("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), Some(ParseSigningSecretError::Prefix));
        assert!(matches!(error("whsec_AAAA"), Some(ParseSigningSecretError::Key(KeyError::Length { bytes: 3, .. }))));
        assert!(matches!(error("whsec_"), Some(ParseSigningSecretError::Key(_))));
        assert_eq!(error("whsk_AAAA"), Some(ParseSigningSecretError::KeyPair));
        let torn = format!("whsk_{}", BASE64.encode([7; 64]));
        assert_eq!(error(&torn), Some(ParseSigningSecretError::KeyPair), "the halves do not belong together");
    }

    #[test]
    fn nothing_secret_is_shown() {
        assert_eq!(format!("{:?} {}", key(WHSEC), key(WHSK)), "hmac key ed25519 key");
    }
}
