//! Verifying a shared secret that the request carries: a token, or HTTP Basic credentials.
//!
//! Both sides are hashed before they are compared in constant time, so that neither a length nor a prefix leaks.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Verified;
use super::each::verify_each;
use super::rejection::Rejection;
use super::request::{Joins, RequestParts, View};
use crate::scheme::reference::Reference;
use crate::scheme::rule::TokenRule;
use crate::secret::Secret;

/// The hashes of the secrets, each with the index of its secret in the source's list.
#[derive(Clone)]
pub(super) struct Hashes(Vec<(usize, [u8; 32])>);

impl std::fmt::Debug for Hashes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashes(..)")
    }
}

impl Hashes {
    pub(super) fn new(secrets: &[(usize, &Secret)]) -> Self {
        Self(secrets.iter().map(|(place, secret)| (*place, Sha256::digest(secret.reveal()).into())).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, candidate: &[u8]) -> Result<Verified, Rejection> {
        let hash: [u8; 32] = Sha256::digest(candidate).into();
        let found = self.0.iter().find(|(_, secret)| secret.ct_eq(&hash).into());
        found.map(|(place, _)| Verified::by(*place)).ok_or(Rejection::TokenMismatch { secrets: self.0.len() })
    }
}

pub(super) fn verify_token(
    rule: &TokenRule,
    secrets: &Hashes,
    request: &RequestParts<'_>,
    body: &[u8],
) -> Result<Verified, Rejection> {
    let settings = BTreeMap::new();
    verify_each(rule.each.as_ref(), &View::new(request, body, &settings), |view| {
        // A value that was joined from two headers is not the secret, so joins need no check of their own.
        let text = view.text(&rule.place, Joins::Allowed)?;
        let token = after_prefix(&text, &rule.prefix).ok_or(Rejection::TokenMismatch { secrets: secrets.0.len() })?;
        secrets.find(token.as_bytes())
    })
}

pub(super) fn verify_basic(secrets: &Hashes, request: &RequestParts<'_>, body: &[u8]) -> Result<Verified, Rejection> {
    let settings = BTreeMap::new();
    let view = View::new(request, body, &settings);
    let text = view.text(&Reference::Header("authorization".to_owned()), Joins::Allowed)?;
    let credentials = after_prefix(&text, "Basic ").and_then(|encoded| BASE64.decode(encoded).ok());
    secrets.find(&credentials.ok_or(Rejection::CredentialsMalformed)?)
}

/// The text after a prefix in any case, and after the blanks that follow the prefix.
pub(super) fn after_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    if prefix.is_empty() {
        return Some(text);
    }
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then(|| rest.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::HeaderList;

    fn hashes(secrets: &[&str]) -> Hashes {
        let secrets: Vec<_> = secrets.iter().map(|text| Secret::new(text)).collect();
        Hashes::new(&secrets.iter().enumerate().collect::<Vec<_>>())
    }

    fn token(prefix: &str, value: &str) -> Result<Option<usize>, Rejection> {
        let place = Reference::Header("x-token".to_owned());
        let rule = TokenRule { place, prefix: prefix.to_owned(), each: None };
        let headers = HeaderList::new([("X-Token", value)]);
        let request = RequestParts { method: "POST", url: "", query: "", headers: &headers };
        verify_token(&rule, &hashes(&["new", "old"]), &request, b"").map(|verified| verified.which())
    }

    fn basic(value: &str) -> Result<Option<usize>, Rejection> {
        let headers = HeaderList::new([("Authorization", value)]);
        let request = RequestParts { method: "POST", url: "", query: "", headers: &headers };
        verify_basic(&hashes(&["user:pa:ss"]), &request, b"").map(|verified| verified.which())
    }

    #[test]
    fn any_of_the_secrets_is_accepted_and_nothing_near_to_one() {
        assert_eq!(token("", "old"), Ok(Some(1)));
        for wrong in ["ol", "olD", "old ", "old, old", "newold"] {
            assert_eq!(token("", wrong), Err(Rejection::TokenMismatch { secrets: 2 }), "{wrong}");
        }
        assert_eq!(token("", ""), Err(Rejection::HeaderEmpty { name: "x-token".to_owned() }));
    }

    #[test]
    fn a_prefix_is_required_if_the_rule_has_one() {
        assert_eq!(token("Bearer", "Bearer new"), Ok(Some(0)));
        assert_eq!(token("Bearer ", "bearer new"), Ok(Some(0)));
        assert!(token("Bearer", "new").is_err());
        assert!(token("Bearer", "Basic new").is_err());
        assert!(token("Bearer", "Bearer ").is_err(), "an empty token");
    }

    #[test]
    fn basic_credentials_are_user_and_password() {
        assert_eq!(basic("Basic dXNlcjpwYTpzcw=="), Ok(Some(0)));
        assert_eq!(basic("basic dXNlcjpwYTpzcw=="), Ok(Some(0)));
        assert_eq!(basic("Basic dXNlcjpwYTpzUw=="), Err(Rejection::TokenMismatch { secrets: 1 }));
        assert_eq!(basic("Basic user:pa:ss"), Err(Rejection::CredentialsMalformed));
        assert_eq!(basic("Bearer x"), Err(Rejection::CredentialsMalformed));
    }

    fn of_items(body: &str) -> Result<Option<usize>, Rejection> {
        let rule = serde_json::from_str(r#"{"in":"json:clientState","each":"value[]"}"#).expect("parses");
        let headers = HeaderList::default();
        let request = RequestParts { method: "POST", url: "", query: "", headers: &headers };
        verify_token(&rule, &hashes(&["new", "old"]), &request, body.as_bytes()).map(|verified| verified.which())
    }

    #[test]
    fn every_item_carries_the_token() {
        assert_eq!(of_items(r#"{"value":[{"clientState":"old"},{"clientState":"new"}]}"#), Ok(Some(1)));
        let mismatch = Err(Rejection::TokenMismatch { secrets: 2 });
        assert_eq!(of_items(r#"{"value":[{"clientState":"new"},{"clientState":"x"}]}"#), mismatch);
        for body in [
            r#"{"value":[]}"#,
            r#"{"value":{"clientState":"new"}}"#,
            r#"{"clientState":"new"}"#,
            r#"{"value":[{"clientState":"new"},{}],"clientState":"new"}"#,
            r#"{"value":[{"clientState":"new"},7]}"#,
            "",
        ] {
            assert!(matches!(of_items(body), Err(Rejection::FieldMissing { .. })), "{body}");
        }
    }
}
