//! How secrets are written, and where published keys are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::reference::Reference;

/// The URL at which Plaid returns the keys that it signs with, one at a time.
pub const PLAID_KEY_URL: &str = "https://production.plaid.com/webhook_verification_key/get";

/// The encoding of a provider's secrets. `whsec_…` is base64 for one provider and plain text for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyEncoding {
    /// `utf8`: the text itself, prefix and all.
    Utf8,
    /// `base64`
    Base64,
    /// `hex`
    Hex,
    /// `whsec`: base64 after `whsec_`, which may be missing; 24 to 64 bytes.
    StandardSecret,
    /// `whpk`: base64 after `whpk_`; an Ed25519 public key.
    StandardPublicKey,
    /// `spki-base64`: base64 of a `SubjectPublicKeyInfo` in DER (RFC 5280), with or without the lines of a PEM file
    /// around it; a public key of any kind.
    Spki,
    /// `jwks:<url>`: no secret; the keys are the provider's key set at this URL (RFC 7517).
    KeySet { url: String },
    /// `x509url:<reference>`: no secret; the request names the URL of the certificate that it is signed with.
    Certificate { place: Reference },
    /// `fn:plaid_key`, or `fn:plaid_key:<url>` for another environment: a secret is `client_id:secret`, with which the
    /// key that the token names is fetched.
    PlaidKey { url: String },
}

impl KeyEncoding {
    /// Whether the keys have to be fetched, because they are not part of the source.
    #[must_use]
    pub const fn is_published(&self) -> bool {
        match self {
            Self::KeySet { .. } | Self::Certificate { .. } | Self::PlaidKey { .. } => true,
            Self::Utf8 | Self::Base64 | Self::Hex | Self::StandardSecret | Self::StandardPublicKey | Self::Spki => {
                false
            }
        }
    }
}

impl FromStr for KeyEncoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "utf8" => Ok(Self::Utf8),
            "base64" => Ok(Self::Base64),
            "hex" => Ok(Self::Hex),
            "whsec" => Ok(Self::StandardSecret),
            "whpk" => Ok(Self::StandardPublicKey),
            "spki-base64" => Ok(Self::Spki),
            "fn:plaid_key" => Ok(Self::PlaidKey { url: PLAID_KEY_URL.to_owned() }),
            other => fetched(other).ok_or_else(|| format!("\"{other}\" is not a key encoding")),
        }
    }
}

impl fmt::Display for KeyEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utf8 => f.write_str("utf8"),
            Self::Base64 => f.write_str("base64"),
            Self::Hex => f.write_str("hex"),
            Self::StandardSecret => f.write_str("whsec"),
            Self::StandardPublicKey => f.write_str("whpk"),
            Self::Spki => f.write_str("spki-base64"),
            Self::KeySet { url } => write!(f, "jwks:{url}"),
            Self::Certificate { place } => write!(f, "x509url:{place}"),
            Self::PlaidKey { url } if url == PLAID_KEY_URL => f.write_str("fn:plaid_key"),
            Self::PlaidKey { url } => write!(f, "fn:plaid_key:{url}"),
        }
    }
}

impl Serialize for KeyEncoding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyEncoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn fetched(text: &str) -> Option<KeyEncoding> {
    let at = |prefix: &str| text.strip_prefix(prefix).filter(|rest| !rest.is_empty()).map(str::to_owned);
    if let Some(url) = at("jwks:") {
        return Some(KeyEncoding::KeySet { url });
    }
    if let Some(url) = at("fn:plaid_key:") {
        return Some(KeyEncoding::PlaidKey { url });
    }
    at("x509url:")?.parse().ok().map(|place| KeyEncoding::Certificate { place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_survives_its_text_form() {
        for text in [
            "utf8",
            "base64",
            "hex",
            "whsec",
            "whpk",
            "spki-base64",
            "jwks:https://keys.example/jwks.json",
            "x509url:h:paypal-cert-url",
            "x509url:json:/SigningCertURL",
            "fn:plaid_key",
            "fn:plaid_key:https://sandbox.plaid.com/webhook_verification_key/get",
        ] {
            assert_eq!(text.parse::<KeyEncoding>().map(|encoding| encoding.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "rot13", "jwks:", "x509url:", "x509url:nothing", "fn:plaid_key:", "fn:other"] {
            assert!(text.parse::<KeyEncoding>().is_err(), "{text}");
        }
    }
}
