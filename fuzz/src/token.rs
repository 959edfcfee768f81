//! Signed JSON Web Tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Hmac;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use shared::scheme::Scheme;
use shared::secret::Secret;
use shared::verify::{Verifier, verify};

use super::plain;
use super::wire::{NOW_MS, TAG, Wire};

/// As Vonage signs.
const SCHEME: &str = r#"{"kind":"jwt","token":{"in":"h:authorization","strip":"Bearer "},"alg":["HS256"],"key":"utf8",
    "claims":{"iss":"Vonage","payload_hash":"sha256hex:body"},"max_age":300}"#;

/// The header of a token and its claims, both as JSON in one line, in which `{sha256}` is the hash of the body; and a
/// request, in which `{token}` is the first two parts and `{tag}` the third.
pub fn token(data: &[u8]) -> bool {
    let Some(([header, claims], wire)) = Wire::read(data) else { return false };
    let claims = claims.replace("{sha256}", &hex::encode(Sha256::digest(&wire.body)));
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = URL_SAFE_NO_PAD.encode(plain::hmac::<Hmac<Sha256>>(signed.as_bytes()));
    let value = |value: &str| value.replace("{token}", &signed).replace(TAG, &tag);
    let headers = wire.headers.iter().map(|(name, text)| (name.to_owned(), value(text))).collect::<Vec<_>>();
    let wire = Wire { headers: shared::header::HeaderList::new(headers), ..wire };
    let scheme: Scheme = serde_json::from_str(SCHEME).expect("a scheme");
    let verifier = Verifier::of(&scheme, &[Secret::new(plain::SECRET)]).expect("a verifier");
    let accepted = verify(&verifier, None, &wire.parts(), &wire.body, NOW_MS).is_ok();
    assert!(!accepted || accepts(&wire), "accepted: {wire:?}");
    accepted
}

/// RFC 7515 section 5.2 and RFC 7519 section 7.2, for this one scheme.
fn accepts(wire: &Wire) -> bool {
    let values: Vec<_> = wire.headers.all("authorization").collect();
    let [value] = values[..] else { return false };
    let Some((scheme, token)) = value.split_once(' ') else { return false };
    let parts: Vec<_> = token.trim_start_matches(' ').split('.').collect();
    let [header, claims, tag] = parts[..] else { return false };
    let (Some(first), Some(second)) = (object(header), object(claims)) else { return false };
    let signed = format!("{header}.{claims}");
    let right = URL_SAFE_NO_PAD.encode(plain::hmac::<Hmac<Sha256>>(signed.as_bytes()));
    let now_s = (NOW_MS / 1_000) as f64;
    let number = |name: &str| second.get(name).map(|value| value.as_f64().unwrap_or(f64::NAN).trunc());
    scheme.eq_ignore_ascii_case("bearer")
        && first.get("alg") == Some(&Value::from("HS256"))
        && !first.contains_key("crit")
        && tag == right
        && second.get("iss") == Some(&Value::from("Vonage"))
        && second.get("payload_hash") == Some(&Value::from(hex::encode(Sha256::digest(&wire.body))))
        && number("iat").is_some_and(|at| at >= now_s - 330.0 && at <= now_s + 30.0)
        && number("exp").is_none_or(|at| now_s < at + 30.0)
        && number("nbf").is_none_or(|at| now_s >= at - 30.0)
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok().filter(|bytes| URL_SAFE_NO_PAD.encode(bytes) == part)?;
    serde_json::from_slice(&bytes).ok()
}
