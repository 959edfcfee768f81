//! The grammar of signature headers.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE, URL_SAFE_NO_PAD};
use hmac::Hmac;
use serde_json::{Value, json};
use sha2::Sha256;
use shared::scheme::Scheme;
use shared::secret::Secret;
use shared::verify::{Verifier, verify};

use super::plain;
use super::wire::{NOW_MS, TAG, Wire};

/// The grammar of a header as JSON (`sig` of a scheme, without its place), and a request whose body is signed in the header
/// `sig`.
pub fn signature(data: &[u8]) -> bool {
    let Some(([grammar], wire)) = Wire::read(data) else { return false };
    let Ok(Value::Object(mut grammar)) = serde_json::from_str(&grammar) else { return false };
    grammar.insert("in".to_owned(), "h:sig".into());
    let scheme = json!({"kind": "mac", "alg": "hmac-sha256", "key": "utf8", "content": "{body}", "sig": grammar});
    let Ok(scheme) = serde_json::from_value::<Scheme>(scheme) else { return false };
    let Ok(verifier) = Verifier::of(&scheme, &[Secret::new(plain::SECRET)]) else { return false };
    let tag = plain::hmac::<Hmac<Sha256>>(&wire.body);
    let text = |name: &str| grammar.get(name).and_then(Value::as_str);
    let written = match text("enc") {
        Some("hex") => vec![hex::encode(&tag)],
        Some("base64") => vec![BASE64.encode(&tag)],
        _ => vec![URL_SAFE_NO_PAD.encode(&tag), URL_SAFE.encode(&tag)],
    };
    let wire = wire.with_tag(&written[0]);
    let accepted = verify(&verifier, None, &wire.parts(), &wire.body, NOW_MS).is_ok();
    let blanks = grammar.get("blanks") == Some(&Value::Bool(true));
    let skip = grammar.get("skip").and_then(Value::as_u64).and_then(|skip| skip.try_into().ok()).unwrap_or_default();
    let values: Vec<_> = wire.headers.all("sig").collect();
    let plainly = match values[..] {
        [value] if blanks || !value.contains(", ") => {
            let entries = text("list").map_or_else(|| vec![value], |list| value.split(list).collect());
            let mut entries = entries.into_iter().map(str::trim).filter(|entry| !entry.is_empty()).skip(skip);
            let begins = text("kv").map_or_else(String::new, |kv| format!("{}{kv}", text("key").unwrap_or_default()));
            let is_hex = text("enc") == Some("hex");
            let same =
                |one: &str| written.iter().any(|tag| if is_hex { tag.eq_ignore_ascii_case(one) } else { tag == one });
            entries.any(|entry| entry.strip_prefix(&begins).is_some_and(same))
        }
        _ => false,
    };
    assert!(!accepted || plainly, "{grammar:?} accepts {values:?}, in which {TAG} is {written:?}");
    accepted
}
