//! Keys that the tests sign with, always the same ones, and the documents in which providers would publish them.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL};
use chacha20::ChaCha20Rng;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use rsa::Pkcs1v15Sign;
use rsa::rand_core::SeedableRng as _;
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

static RSA: LazyLock<rsa::PrivateKey> =
    LazyLock::new(|| rsa::PrivateKey::new(&mut ChaCha20Rng::from_seed([7; 32]), 2_048).expect("a key"));

static P256: LazyLock<p256::ecdsa::SigningKey> =
    LazyLock::new(|| p256::ecdsa::SigningKey::from_slice(&[7; 32]).expect("a key"));

pub(crate) fn rsa_sha256(message: &[u8]) -> Vec<u8> {
    RSA.sign(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(message)).expect("signs")
}

pub(crate) fn rsa_sha1(message: &[u8]) -> Vec<u8> {
    RSA.sign(Pkcs1v15Sign::new::<Sha1>(), &Sha1::digest(message)).expect("signs")
}

/// An ECDSA signature as r and s of 32 bytes each.
pub(crate) fn p256_raw(message: &[u8]) -> Vec<u8> {
    let signature: p256::ecdsa::Signature = P256.sign_prehash(&Sha256::digest(message)).expect("signs");
    signature.to_bytes().to_vec()
}

/// The RSA key as a JSON Web Key.
pub(crate) fn rsa_jwk(id: &str) -> Value {
    let (n, e) = (RSA.n().to_be_bytes_trimmed_vartime(), RSA.e().to_be_bytes_trimmed_vartime());
    json!({ "kty": "RSA", "use": "sig", "kid": id, "n": BASE64URL.encode(n), "e": BASE64URL.encode(e) })
}

/// The P-256 key as a JSON Web Key.
pub(crate) fn p256_jwk(id: &str) -> Value {
    let point = P256.verifying_key().to_sec1_point(false);
    let (x, y) = (BASE64URL.encode(point.x().expect("a point")), BASE64URL.encode(point.y().expect("a point")));
    json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": id, "x": x, "y": y })
}

/// A JSON Web Key Set.
pub(crate) fn jwks(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

/// The `SubjectPublicKeyInfo` of the RSA key.
pub(crate) fn rsa_spki() -> Vec<u8> {
    let integer = |bytes: &[u8]| element(0x02, &[&[0][..], bytes].concat());
    let (n, e) = (RSA.n().to_be_bytes_trimmed_vartime(), RSA.e().to_be_bytes_trimmed_vartime());
    let key = element(0x30, &[integer(&n), element(0x02, &e)].concat());
    // 1.2.840.113549.1.1.1 with null for its parameters.
    let algorithm = [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 0x05, 0];
    element(0x30, &[element(0x30, &algorithm), element(0x03, &[&[0][..], &key].concat())].concat())
}

/// A PEM certificate of a key, valid between two times written as `YYMMDDhhmmssZ`. Its signature is not a real one.
pub(crate) fn certificate(spki: &[u8], from: &str, until: &str) -> Vec<u8> {
    let time = |text: &str| element(0x17, text.as_bytes());
    let name = element(0x30, &[]);
    let algorithm = element(0x30, &[0x06, 3, 0x2b, 0x65, 0x70]);
    let parts = [
        element(0xa0, &element(0x02, &[2])),
        element(0x02, &[1]),
        algorithm.clone(),
        name.clone(),
        element(0x30, &[time(from), time(until)].concat()),
        name,
        spki.to_vec(),
    ];
    let whole = element(0x30, &[element(0x30, &parts.concat()), algorithm, element(0x03, &[0, 0])].concat());
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64.encode(whole)).into_bytes()
}

/// A token that `sign` signs.
pub(crate) fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let encode = |part: &Value| BASE64URL.encode(part.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = BASE64URL.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let header = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [&header, content].concat()
}
