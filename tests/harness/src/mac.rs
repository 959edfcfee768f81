//! HMAC as providers use it to sign, in code that shares nothing with the crate that verifies. Each function takes the
//! key and the parts of the signed text, which are concatenated without a separator.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha1::Sha1;
use sha2::{Sha256, Sha512};

/// HMAC-SHA1.
#[must_use]
pub fn hmac_sha1(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    hmac::<Hmac<Sha1>>(key, parts)
}

/// HMAC-SHA256.
#[must_use]
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    hmac::<Hmac<Sha256>>(key, parts)
}

/// HMAC-SHA512.
#[must_use]
pub fn hmac_sha512(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    hmac::<Hmac<Sha512>>(key, parts)
}

/// A JSON Web Token with these claims, signed with HMAC-SHA256 (`HS256`).
#[must_use]
pub fn json_web_token(key: &[u8], claims: &Value) -> String {
    let part = |text: &str| BASE64URL.encode(text);
    let signed = format!("{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(&claims.to_string()));
    let signature = BASE64URL.encode(hmac_sha256(key, &[signed.as_bytes()]));
    format!("{signed}.{signature}")
}

fn hmac<M: KeyInit + Mac>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}
