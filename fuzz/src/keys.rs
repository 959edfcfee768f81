//! Keys: pasted secrets, and documents that providers publish.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use serde_json::Value;
use shared::scheme::key_encoding::KeyEncoding;
use shared::verify::key_set::MAX_KEYS;
use shared::verify::{KeyForm, KeySet};

/// A line that names the kind of the rest: `jwks`, `plaid`, `certificate`, or the encoding of a secret.
pub fn keys(data: &[u8]) -> bool {
    let Some(at) = data.iter().position(|byte| *byte == b'\n') else { return false };
    let document = &data[at + 1..];
    match &data[..at] {
        b"jwks" => published(&KeyForm::JwkSet, document, |json| json["keys"].as_array().cloned().unwrap_or_default()),
        b"plaid" => {
            let form = KeyForm::Plaid { key_id: "a".to_owned(), body: String::new() };
            published(&form, document, |json| vec![json["key"].clone()])
        }
        b"certificate" => {
            let accepted = KeySet::parse(&KeyForm::Certificate, document).is_ok();
            assert!(!accepted || is_certificate(document), "{:?}", String::from_utf8_lossy(document));
            accepted
        }
        encoding => secret(encoding, document),
    }
}

fn published(form: &KeyForm, document: &[u8], listed: impl Fn(&Value) -> Vec<Value>) -> bool {
    let Ok(set) = KeySet::parse(form, document) else { return false };
    let json = serde_json::from_slice(document).expect("JSON");
    let usable = listed(&json).iter().filter(|key| is_usable(key)).count();
    assert!((1..=MAX_KEYS.min(usable)).contains(&set.len()), "{} keys of {usable} usable ones: {json}", set.len());
    true
}

/// Whether a key has the members of its kind (RFC 7518 section 6, RFC 8037 section 2), each of a possible size.
fn is_usable(key: &Value) -> bool {
    let bytes = |name: &str| {
        let text = key[name].as_str().map(|text| text.trim_end_matches('='));
        text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .map_or(0, |bytes| bytes.iter().position(|byte| *byte != 0).map_or(0, |at| bytes.len() - at))
    };
    let to_sign = key["use"].is_null() || key["use"] == "sig";
    to_sign
        && match (key["kty"].as_str(), key["crv"].as_str()) {
            (Some("OKP"), Some("Ed25519")) => (1..=32).contains(&bytes("x")),
            (Some("EC"), Some("P-256")) => bytes("x") <= 32 && bytes("y") <= 32 && bytes("x") + bytes("y") > 0,
            (Some("RSA"), None) => (256..=512).contains(&bytes("n")) && (1..=8).contains(&bytes("e")),
            _ => false,
        }
}

/// Whether a document begins with a certificate in PEM (RFC 7468) whose outer structure is that of RFC 5280 section 4.1:
/// a sequence of a sequence, a sequence and a string of bits, and nothing behind it.
fn is_certificate(document: &[u8]) -> bool {
    let text = String::from_utf8_lossy(document);
    let mut lines = text.trim_start().split_inclusive('\n').collect::<String>();
    let Some(at) = lines.find("-----END CERTIFICATE-----") else { return false };
    lines.truncate(at);
    let Some(base64) = lines.strip_prefix("-----BEGIN CERTIFICATE-----") else { return false };
    let Ok(der) = BASE64.decode(base64.split_ascii_whitespace().collect::<String>()) else { return false };
    let Some([(0x30, certificate)]) = elements(&der).as_deref().map(<[_; 1]>::try_from).and_then(Result::ok) else {
        return false;
    };
    matches!(elements(certificate).as_deref(), Some([(0x30, tbs), (0x30, _), (0x03, _)]) if elements(tbs).is_some())
}

/// The elements of DER (X.690) in a row, each with its tag; `None` if they do not add up.
fn elements(mut der: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut found = Vec::new();
    while let [tag, length, rest @ ..] = der {
        let (length, rest) = match *length {
            short @ 0..=0x7f => (usize::from(short), rest),
            long => {
                let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f)).filter(|(d, _)| d.len() <= 4)?;
                (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
            }
        };
        let (content, rest) = rest.split_at_checked(length)?;
        found.push((*tag, content));
        der = rest;
    }
    der.is_empty().then_some(found)
}

/// A secret that signs is not a public key, and fits its encoding.
fn secret(encoding: &[u8], secret: &[u8]) -> bool {
    let (Ok(encoding), Ok(secret)) = (std::str::from_utf8(encoding), std::str::from_utf8(secret)) else { return false };
    let Ok(encoding) = encoding.parse::<KeyEncoding>() else { return false };
    let verifies = encoding.public_key(secret).is_ok();
    assert!(!verifies || !secret.contains("PRIVATE KEY"), "{secret}");
    let Ok(key) = encoding.hmac_key(secret) else { return verifies };
    assert!(!key.is_empty() && !verifies_with(secret), "{secret:?} is public");
    match encoding {
        KeyEncoding::Utf8 => assert_eq!(key, secret.as_bytes()),
        KeyEncoding::Hex => assert_eq!(hex::encode(key), secret.to_ascii_lowercase()),
        KeyEncoding::Base64 => assert_eq!(BASE64.encode(key).trim_end_matches('='), secret.trim_end_matches('=')),
        KeyEncoding::StandardSecret => assert!((24..=64).contains(&key.len())),
        KeyEncoding::StandardPublicKey
        | KeyEncoding::Spki
        | KeyEncoding::KeySet { .. }
        | KeyEncoding::Certificate { .. }
        | KeyEncoding::PlaidKey { .. } => panic!("{encoding} makes no key that signs"),
    }
    true
}

/// Whether a text is a public key that says so itself.
fn verifies_with(text: &str) -> bool {
    let armoured = ["PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----"].iter().any(|mark| text.contains(mark));
    armoured || text.starts_with("whpk_") || KeyEncoding::Spki.public_key(text).is_ok()
}
