//! Refusing a request by its head alone, so that the body of a request without a signature is not read.

use super::rejection::Rejection;
use super::request::RequestParts;
use super::token::{verify_basic, verify_token};
use super::{Check, Incoming, Verifier};

impl Verifier {
    /// Why a request is refused whatever its body is, as [`super::verify`] would say it; `None` if the body matters.
    #[must_use]
    pub fn refuse_unread(&self, request: &RequestParts<'_>, now_ms: u64) -> Option<Rejection> {
        let incoming = Incoming { keys: None, request, body: &[], now_ms, on_stale: self.on_stale };
        let mut rejection = self.first.refuse_unread(&incoming)?;
        for check in &self.others {
            let other = check.refuse_unread(&incoming)?;
            if other.progress() > rejection.progress() {
                rejection = other;
            }
        }
        Some(rejection)
    }
}

impl Check {
    fn refuse_unread(&self, incoming: &Incoming<'_>) -> Option<Rejection> {
        match self {
            Self::Mac(mac) => mac.refuse_unread(incoming),
            Self::Jwt(jwt) => jwt.refuse_unread(incoming),
            Self::Token(rule, secrets) if rule.each.is_none() && !rule.place.reads_body() => {
                verify_token(rule, secrets, incoming.request, incoming.body).err()
            }
            Self::Basic(secrets) => verify_basic(secrets, incoming.request, incoming.body).err(),
            Self::All(checks) => checks.iter().find_map(|check| check.refuse_unread(incoming)),
            Self::Token(..) | Self::None | Self::AwaitsSecret => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::HeaderList;
    use crate::secret::Secret;
    use crate::verify::verify;

    const NOW_MS: u64 = 1_700_000_000_000;

    const MAC: &str = r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{h:x-time}{body}",
        "sig":{"in":"h:x-sign","enc":"hex"},"ts":{"in":"h:x-time","unit":"s","tol":300}}"#;
    const TOKEN: &str = r#"{"kind":"token","in":"h:x-token"}"#;
    const BASIC: &str = r#"{"kind":"basic"}"#;

    /// The results without the body and with one.
    fn outcomes(scheme: &str, headers: &[(&str, &str)]) -> (Option<Rejection>, Option<Rejection>) {
        let verifier = Verifier::of(&serde_json::from_str(scheme).expect("a scheme"), &[Secret::new("a:b")]);
        let verifier = verifier.expect("a verifier");
        let headers = HeaderList::new(headers.iter().copied());
        let request = RequestParts { method: "POST", url: "https://edge.example/in/a", query: "", headers: &headers };
        (verifier.refuse_unread(&request, NOW_MS), verify(&verifier, None, &request, b"{\"a\":1}", NOW_MS).err())
    }

    #[test]
    fn a_refusal_by_the_head_has_the_same_reason_as_with_the_body() {
        let signature = "00".repeat(32);
        for (scheme, headers) in [
            (MAC, &[][..]),
            (MAC, &[("x-sign", ""), ("x-time", "1700000000")]),
            (MAC, &[("x-sign", "abc"), ("x-time", "1700000000")]),
            (MAC, &[("x-sign", &signature)]),
            (MAC, &[("x-sign", &signature), ("x-time", "1699990000")]),
            (MAC, &[("x-sign", &signature), ("x-time", "x")]),
            (TOKEN, &[]),
            (TOKEN, &[("x-token", "c")]),
            (BASIC, &[]),
            (BASIC, &[("authorization", "Basic YTpj")]),
        ] {
            let (unread, read) = outcomes(scheme, headers);
            assert!(unread.is_some(), "{scheme} {headers:?}");
            assert_eq!(unread, read, "{scheme} {headers:?}");
        }
    }

    #[test]
    fn a_request_that_the_body_decides_is_not_refused_by_its_head() {
        let signature = "00".repeat(32);
        let signed = [("x-sign", signature.as_str()), ("x-time", "1700000000")];
        assert_eq!(outcomes(MAC, &signed).0, None);
        assert_eq!(outcomes(TOKEN, &[("x-token", "a:b")]), (None, None));
        assert_eq!(outcomes(BASIC, &[("authorization", "Basic YTpi")]), (None, None));
        assert_eq!(outcomes(r#"{"kind":"token","in":"json:a"}"#, &[]).0, None);
        let stale = r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{json:at}{body}",
            "sig":{"in":"h:x-sign","enc":"hex"},"ts":{"in":"json:at","unit":"s","tol":300}}"#;
        assert_eq!(outcomes(stale, &signed).0, None, "the time is in the body");
    }

    #[test]
    fn of_several_rules_every_one_has_to_refuse_and_of_those_that_must_hold_one_is_enough() {
        let any = format!(r#"{{"kind":"any_of","rules":[{MAC},{{"kind":"token","in":"json:token"}}]}}"#);
        assert_eq!(outcomes(&any, &[]).0, None);
        let any = format!(r#"{{"kind":"any_of","rules":[{MAC},{TOKEN}]}}"#);
        let (unread, read) = outcomes(&any, &[("x-token", "c")]);
        assert_eq!(unread, Some(Rejection::TokenMismatch { secrets: 1 }));
        assert_eq!(unread, read);
        let all = format!(r#"{{"kind":"all_of","rules":[{MAC},{{"kind":"token","in":"json:token"}}]}}"#);
        assert_eq!(outcomes(&all, &[]).0, Some(Rejection::HeaderMissing { name: "x-sign".to_owned() }));
    }
}
