//! The compact form of a signed token (RFC 7515 section 7.1): three parts in base64url, with dots between them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// The longest token that is read, in bytes.
const MAX_TOKEN_BYTES: usize = 8_192;

/// A token that has been read and not verified.
#[derive(Debug)]
pub(super) struct Compact<'t> {
    /// The signed part: the first two parts as they are written.
    pub(super) signed: &'t str,
    pub(super) algorithm: String,
    /// The name of the key (`kid`).
    pub(super) key_id: Option<String>,
    pub(super) claims: Map<String, Value>,
    pub(super) signature: Vec<u8>,
}

impl<'t> Compact<'t> {
    /// Reads a token. `None` if it does not have exactly three parts, if one of them is empty, padded or not in the
    /// alphabet for URLs, if header or claims are not JSON objects, or if the header names extensions that have to be
    /// understood (`crit`): none are supported.
    pub(super) fn parse(text: &'t str) -> Option<Self> {
        if text.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header = object(header)?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return None,
        };
        if header.contains_key("crit") {
            return None;
        }
        Some(Self {
            signed,
            algorithm: header.get("alg")?.as_str()?.to_owned(),
            key_id,
            claims: object(claims)?,
            signature: decode(signature)?,
        })
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&decode(part)?).ok()
}

fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok().filter(|bytes| !bytes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_parts_of_a_token_are_read() {
        let text = token(r#"{"alg":"HS256","typ":"JWT","kid":"k"}"#, r#"{"iss":"a"}"#);
        let read = Compact::parse(&text).expect("a token");
        assert_eq!((read.algorithm.as_str(), read.key_id.as_deref()), ("HS256", Some("k")));
        assert_eq!(read.claims.get("iss"), Some(&Value::from("a")));
        assert_eq!((read.signed, read.signature.as_slice()), (text.rsplit_once('.').expect("dots").0, &b"sig"[..]));
    }

    #[test]
    fn a_url_not_in_the_plain_spelling_is_refused() {
        let good = token(r#"{"alg":"HS256"}"#, "{}");
        assert!(Compact::parse(&good).is_some());
        for bad in [
            String::new(),
            "..".to_owned(),
            good.replace(".c2ln", ""),
            good.replace(".c2ln", "."),
            good.replace("c2ln", "c2ln.c2ln"),
            good.replace("c2ln", "c2k="),
            good.replace("c2ln", "c2l"),
            good.replace("c2ln", "+/+/"),
            format!(" {good}"),
            format!("{good}\n"),
            token(r#"{"alg":"HS256","crit":["b64"]}"#, "{}"),
            token(r#"{"alg":"HS256","crit":null}"#, "{}"),
            token(r#"{"alg":"HS256","kid":7}"#, "{}"),
            token(r#"{"alg":7}"#, "{}"),
            token("{}", "{}"),
            token("[]", "{}"),
            token(r#"{"alg":"HS256"}"#, "[]"),
            token(r#"{"alg":"HS256"}"#, "{} x"),
            token(r#"{"alg":"HS256"}"#, &format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_TOKEN_BYTES))),
        ] {
            assert!(Compact::parse(&bad).is_none(), "{bad}");
        }
    }
}
