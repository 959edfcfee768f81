//! Explains a failed signature to the owner of the source: whether it is that of a retired secret, of a secret with
//! white space at its end, or of the body before it was rewritten on its way. Nothing here accepts a request.

mod rewritten;

use super::rejection::{Rejection, SignedForm};
use super::request::RequestParts;
use super::{KeySet, Verifier, verify};
use crate::scheme::key_encoding::KeyEncoding;
use crate::scheme::rule::Scheme;
use crate::source::{Secret, SourceConfig};

/// The longest body whose other forms are tried, in bytes.
pub const MAX_EXPLAINED_BODY_BYTES: usize = 65_536;

/// The most retired secrets that are tried.
pub const MAX_RETIRED_SECRETS: usize = 4;

impl Verifier {
    /// The same rejection, or a more exact one. It costs about as much as verifying again for each form of the body.
    /// Callers limit how often they explain. The arguments are those of [`verify`].
    #[must_use]
    pub fn explain(
        &self,
        keys: Option<&KeySet>,
        request: &RequestParts<'_>,
        body: &[u8],
        now_ms: u64,
        rejection: Rejection,
    ) -> Rejection {
        let (is_signature, is_secret) = (rejection.is_of_signature(), rejection.is_of_secret());
        let holds = |verifier: &Self, body: &[u8]| verify(verifier, keys, request, body, now_ms).is_ok();
        if is_secret && self.retired.as_ref().is_some_and(|retired| holds(retired, body)) {
            return Rejection::SecretRetired;
        }
        if is_secret && self.spaced.as_ref().is_some_and(|spaced| holds(spaced, body)) {
            return Rejection::SecretWithWhiteSpace;
        }
        if !is_signature || body.len() > MAX_EXPLAINED_BODY_BYTES {
            return rejection;
        }
        let trimmed = body.trim_ascii_end();
        if trimmed.len() < body.len() && holds(self, trimmed) {
            return Rejection::BodyRewritten { signed: SignedForm::WithoutTrailingSpace };
        }
        match rewritten::compact(body) {
            Some(compact) if compact != body && holds(self, &compact) => {
                Rejection::BodyRewritten { signed: SignedForm::CompactJson }
            }
            Some(_) | None => rejection,
        }
    }
}

/// A verifier that also accepts the retired secrets of a source.
pub(super) fn retired(config: &SourceConfig) -> Option<Box<Verifier>> {
    with_more(config, config.retired_secrets.iter())
}

/// A verifier that also accepts the secrets of a source with white space at their end, if a secret is used as it is
/// written.
pub(super) fn spaced(config: &SourceConfig) -> Option<Box<Verifier>> {
    let spaced: Vec<_> = config.secrets.iter().take(1).flat_map(Secret::with_white_space).collect();
    if uses_text(&config.scheme) { with_more(config, spaced.iter()) } else { None }
}

/// A verifier that accepts some more secrets. A request that it accepts and the source's own refuses is signed with one
/// of them; the active secrets stay in it, because several secrets may have to hold at once.
fn with_more<'a>(config: &SourceConfig, more: impl Iterator<Item = &'a Secret>) -> Option<Box<Verifier>> {
    let with = |more: &[&Secret]| -> Option<Verifier> {
        let secrets: Vec<_> = config.secrets.iter().chain(more.iter().copied()).cloned().collect();
        Some(Verifier { on_stale: config.on_stale, ..Verifier::of(&config.scheme, &secrets).ok()? })
    };
    // A secret that does not fit this scheme must not hide the others.
    let more: Vec<_> = more.filter(|secret| with(&[secret]).is_some()).take(MAX_RETIRED_SECRETS).collect();
    if more.is_empty() { None } else { with(&more).map(Box::new) }
}

fn uses_text(scheme: &Scheme) -> bool {
    match scheme {
        Scheme::Mac(rule) => rule.key_encoding == KeyEncoding::Utf8,
        Scheme::Basic => true,
        Scheme::AnyOf { rules } | Scheme::AllOf { rules } => rules.iter().any(uses_text),
        // White space at the end of a header is removed on its way.
        Scheme::Token(_) | Scheme::Jwt(_) | Scheme::None => false,
    }
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use sha2::Sha256;

    use super::*;
    use crate::header::HeaderList;
    use crate::id::SourceId;

    const HMAC: &str =
        r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{body}","sig":{"in":"h:x-sign","enc":"hex"}}"#;
    const TOKEN: &str = r#"{"kind":"token","in":"h:x-token"}"#;

    fn sign(secret: &str, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
        mac.update(body);
        hex::encode(mac.finalize().into_bytes())
    }

    fn verifier(scheme: &str, secrets: &str, retired: &str) -> Verifier {
        let id = SourceId::mint(1, [1; 10]);
        let config = format!(
            r#"{{"id":"{id}","name":"a","revision":1,"provider":"a","scheme":{scheme},"secrets":{secrets},
                "retired_secrets":{retired},"max_body_bytes":1000}}"#
        );
        Verifier::new(&serde_json::from_str(&config).expect("a configuration")).expect("a verifier")
    }

    /// The code of the rejection of a request, once explained.
    fn explained(verifier: &Verifier, headers: &[(&str, &str)], body: &[u8]) -> &'static str {
        let headers = HeaderList::new(headers.iter().copied());
        let request = RequestParts { method: "POST", url: "", query: "", headers: &headers };
        let rejection = verify(verifier, None, &request, body, 0).expect_err("it is never accepted");
        verifier.explain(None, &request, body, 0, rejection).code()
    }

    #[test]
    fn a_signature_with_a_retired_secret_is_explained_and_refused() {
        let verifier = verifier(HMAC, r#"["new"]"#, r#"["old","older"]"#);
        for (secret, code) in [("old", "secret_retired"), ("older", "secret_retired"), ("other", "signature_mismatch")]
        {
            assert_eq!(explained(&verifier, &[("x-sign", &sign(secret, b"{}"))], b"{}"), code, "{secret}");
        }
    }

    #[test]
    fn a_secret_with_white_space_at_its_end_is_explained_and_refused() {
        let verifier = verifier(HMAC, r#"["s","other"]"#, r#"["old"]"#);
        for (secret, code) in [
            ("s\n", "secret_with_white_space"),
            ("s\r\n", "secret_with_white_space"),
            ("s ", "secret_with_white_space"),
            ("s\n\n", "signature_mismatch"),
            ("old", "secret_retired"),
        ] {
            assert_eq!(explained(&verifier, &[("x-sign", &sign(secret, b"{}"))], b"{}"), code, "{secret:?}");
        }
    }

    #[test]
    fn a_retired_token_is_explained_too() {
        let verifier = verifier(TOKEN, r#"["new"]"#, r#"["old"]"#);
        assert_eq!(explained(&verifier, &[("x-token", "old")], b""), "secret_retired");
        assert_eq!(explained(&verifier, &[("x-token", "other")], b""), "token_mismatch");
    }

    #[test]
    fn a_retired_secret_that_is_no_key_hides_no_other() {
        let base64 = HMAC.replace("utf8", "base64");
        let verifier = verifier(&base64, r#"["AAAA"]"#, r#"["!","AQID"]"#);
        let signed = {
            let mut mac = Hmac::<Sha256>::new_from_slice(&[1, 2, 3]).expect("a key");
            mac.update(b"x");
            hex::encode(mac.finalize().into_bytes())
        };
        assert_eq!(explained(&verifier, &[("x-sign", &signed)], b"x"), "secret_retired");
    }

    #[test]
    fn one_retired_secret_of_several_that_must_hold_is_explained() {
        let both = format!(r#"{{"kind":"all_of","rules":[{{"kind":"basic"}},{HMAC}]}}"#);
        let verifier = verifier(&both, r#"["u:p","new"]"#, r#"["old"]"#);
        let headers = |secret| [("authorization", "Basic dTpw".to_owned()), ("x-sign", sign(secret, b"x"))];
        let of = |secret| {
            let headers = headers(secret);
            explained(&verifier, &[(headers[0].0, &headers[0].1), (headers[1].0, &headers[1].1)], b"x")
        };
        assert_eq!((of("old"), of("other")), ("secret_retired", "signature_mismatch"));
    }

    #[test]
    fn a_body_that_was_rewritten_on_its_way_is_explained_and_refused() {
        let verifier = verifier(HMAC, r#"["s"]"#, "[]");
        for (signed, received, code) in [
            (r#"{"b":"é/","a":[1.0,2]}"#, "{\n  \"b\": \"\\u00e9\\/\",\n  \"a\": [1.0, 2]\n}\n", "body_rewritten"),
            ("{\"a\": 1}", "{\"a\": 1}\n", "body_rewritten"),
            ("a=1&b=2", "a=1&b=2\r\n ", "body_rewritten"),
            (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#, "signature_mismatch"),
            (r#"{"a":1}"#, r#"{"a":2}"#, "signature_mismatch"),
            (r#"{"a":1}"#, r#"{"a": 1"#, "signature_mismatch"),
        ] {
            let signature = sign("s", signed.as_bytes());
            assert_eq!(explained(&verifier, &[("x-sign", &signature)], received.as_bytes()), code, "{received}");
        }
    }

    #[test]
    fn other_forms_of_a_large_body_are_not_tried() {
        let verifier = verifier(HMAC, r#"["s"]"#, "[]");
        let of = |blanks: usize| {
            let body = format!("{{}}{}", " ".repeat(blanks));
            explained(&verifier, &[("x-sign", &sign("s", b"{}"))], body.as_bytes())
        };
        let most = MAX_EXPLAINED_BODY_BYTES - 2;
        assert_eq!((of(most), of(most + 1)), ("body_rewritten", "signature_mismatch"));
    }

    #[test]
    fn a_fault_of_the_request_itself_is_not_explained_away() {
        let verifier = verifier(HMAC, r#"["new"]"#, r#"["old"]"#);
        assert_eq!(explained(&verifier, &[], b"{}\n"), "header_missing");
        assert_eq!(explained(&verifier, &[("x-sign", "00")], b"{}\n"), "signature_malformed");
    }
}
