//! The location of keys that have to be fetched before a signature can be verified.

use std::borrow::Cow;
use std::fmt;

/// The location of published keys. Fetch them, read them with [`KeySet::parse`](super::KeySet::parse) and pass them to
/// [`verify`](super::verify).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLocation {
    pub url: String,
    pub form: KeyForm,
}

/// How keys are requested, and how they are written.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyForm {
    /// A JSON Web Key Set (RFC 7517), by GET.
    JwkSet,
    /// A PEM certificate (RFC 7468), by GET.
    Certificate,
    /// Plaid's answer with one JSON Web Key, by POST of `body` as JSON. The body holds a secret: `Debug` does not show it.
    Plaid { key_id: String, body: String },
}

impl KeyLocation {
    /// The key under which a cache may keep the keys: two locations with the same name have the same keys. It may
    /// contain a secret.
    #[must_use]
    pub fn cache_key(&self) -> Cow<'_, str> {
        match &self.form {
            KeyForm::JwkSet | KeyForm::Certificate => Cow::Borrowed(&self.url),
            KeyForm::Plaid { body, .. } => Cow::Owned(format!("{}\n{body}", self.url)),
        }
    }

    /// Whether the request itself names the key. Then the sender decides how much is fetched, so fetches have to be
    /// limited. Such a key does not change, so it need not be fetched again.
    #[must_use]
    pub const fn is_named_by_request(&self) -> bool {
        match self.form {
            KeyForm::JwkSet => false,
            KeyForm::Certificate | KeyForm::Plaid { .. } => true,
        }
    }
}

impl fmt::Debug for KeyForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JwkSet => f.write_str("JwkSet"),
            Self::Certificate => f.write_str("Certificate"),
            Self::Plaid { key_id, .. } => f.debug_struct("Plaid").field("key_id", key_id).finish_non_exhaustive(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::header::HeaderList;
    use crate::secret::Secret;
    use crate::verify::tests::test_keys;
    use crate::verify::{ConfigError, KeySet, Rejection, RequestParts, Verifier, verify};

    const CERTIFICATE_URL: &str = "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem";

    fn verifier(scheme: &Value, secrets: &[&str]) -> Result<Verifier, ConfigError> {
        let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new(secret)).collect();
        Verifier::of(&serde_json::from_value(scheme.clone()).expect("parses"), &secrets)
    }

    fn locate(verifier: &Verifier, headers: &[(&str, &str)], body: &[u8]) -> Result<Option<KeyLocation>, Rejection> {
        let headers = HeaderList::new(headers.iter().copied());
        verifier.key_location(&RequestParts { method: "POST", url: "", query: "", headers: &headers }, body)
    }

    /// Like the rule of Amazon SNS: everything is in the body.
    fn sns(algorithm: &str, version: &str) -> Value {
        json!({"kind": "mac", "alg": algorithm, "key": "x509url:json:SigningCertURL",
            "hosts": ["sns.*.amazonaws.com", "sns.*.amazonaws.com.cn"], "content": "{json:Message}|{json:TopicArn}",
            "sig": {"in": "json:Signature", "enc": "base64"}, "require": [{"json:TopicArn": "cfg:topic_arn"}],
            "settings": {"topic_arn": "arn:1", "version": version}})
    }

    fn notification(changes: Value) -> Vec<u8> {
        use base64::Engine as _;
        let signature = base64::engine::general_purpose::STANDARD.encode(test_keys::rsa_sha256(b"hello|arn:1"));
        let mut notification = json!({"Message": "hello", "TopicArn": "arn:1", "Signature": signature,
            "SigningCertURL": CERTIFICATE_URL});
        for (name, value) in changes.as_object().expect("an object") {
            notification[name] = value.clone();
        }
        notification.to_string().into_bytes()
    }

    fn plaid() -> Value {
        json!({"kind": "jwt", "token": {"in": "h:plaid-verification"}, "alg": ["ES256"], "key": "fn:plaid_key",
            "claims": {"request_body_sha256": "sha256hex:body"}, "max_age": 300})
    }

    #[test]
    fn the_place_of_a_key_set_is_known_before_any_request() {
        let fal = json!({"kind": "mac", "alg": "ed25519", "key": "jwks:https://keys.example/jwks.json",
            "content": "{h:x-user}{body}", "sig": {"in": "h:x-signature", "enc": "hex"},
            "require": [{"h:x-user": "cfg:user"}], "settings": {"user": "u"}});
        let location = locate(&verifier(&fal, &[]).expect("a verifier"), &[], b"").expect("a location").expect("one");
        assert_eq!((location.url.as_str(), &location.form), ("https://keys.example/jwks.json", &KeyForm::JwkSet));
        assert!(!location.is_named_by_request());
        let own = json!({"kind": "token", "in": "h:x-token"});
        assert_eq!(locate(&verifier(&own, &["a"]).expect("a verifier"), &[("x-token", "a")], b""), Ok(None));
    }

    #[test]
    fn a_certificate_is_named_only_by_a_request_that_it_could_verify() {
        let sns = verifier(&sns("rsa-pkcs1-sha256", "2"), &[]).expect("a verifier");
        let locate = |changes: Value| locate(&sns, &[], &notification(changes));
        let location = locate(json!({})).expect("a location").expect("one");
        assert_eq!((location.url.as_str(), &location.form), (CERTIFICATE_URL, &KeyForm::Certificate));
        assert!(location.is_named_by_request());
        assert_eq!(location.cache_key(), CERTIFICATE_URL);
        for (changes, code) in [
            (json!({"SigningCertURL": "https://evil.example/a.pem"}), "key_location_refused"),
            (json!({"SigningCertURL": "https://sns.s3.amazonaws.com/a.pem"}), "key_location_refused"),
            (json!({"SigningCertURL": format!("{CERTIFICATE_URL}?a=b")}), "key_location_refused"),
            (json!({"SigningCertURL": null}), "field_missing"),
            (json!({"Signature": null}), "field_missing"),
            (json!({"Signature": "AAAA"}), "signature_malformed"),
            (json!({"Message": null}), "field_missing"),
            (json!({"TopicArn": "arn:2"}), "requirement_failed"),
        ] {
            let refused = locate(changes.clone()).expect_err("refused");
            assert_eq!(refused.code(), code, "{changes}");
            // Verifying without keys gives the same result, so that the sender does not try again.
            let headers = HeaderList::default();
            let request = RequestParts { method: "POST", url: "", query: "", headers: &headers };
            assert_eq!(verify(&sns, None, &request, &notification(changes), 0), Err(refused));
        }
    }

    #[test]
    fn a_certificate_of_the_right_host_verifies() {
        let sns = verifier(&sns("rsa-pkcs1-sha256", "2"), &[]).expect("a verifier");
        let pem = test_keys::certificate(&test_keys::rsa_spki(), "200101000000Z", "300101000000Z");
        let keys = KeySet::parse(&KeyForm::Certificate, &pem).expect("a certificate");
        let headers = HeaderList::default();
        let request = RequestParts { method: "POST", url: "", query: "", headers: &headers };
        let at = |changes: Value, now_ms: u64| {
            let body = notification(changes);
            verify(&sns, Some(&keys), &request, &body, now_ms).map_or_else(|refused| refused.code(), |_| "verified")
        };
        assert_eq!(at(json!({}), 1_700_000_000_000), "verified");
        assert_eq!(at(json!({"Message": "hallo"}), 1_700_000_000_000), "signature_mismatch");
        assert_eq!(at(json!({"SigningCertURL": "https://a.example/a.pem"}), 1_700_000_000_000), "key_location_refused");
        assert_eq!(at(json!({}), 1_500_000_000_000), "key_expired");
        assert_eq!(at(json!({}), 2_000_000_000_000), "key_expired");
    }

    #[test]
    fn plaid_is_asked_for_the_key_of_a_token_that_fits_the_request() {
        let verifier = verifier(&plaid(), &["client:se:cret", "old:secret"]).expect("a verifier");
        let claims =
            json!({"iat": 1, "request_body_sha256": hex::encode(<sha2::Sha256 as sha2::Digest>::digest(b"x"))});
        let token = |header: Value| test_keys::token(&header, &claims, test_keys::p256_raw);
        let locate = |token: &str, body: &[u8]| locate(&verifier, &[("plaid-verification", token)], body);
        let good = token(json!({"alg": "ES256", "kid": "6c5516e1-92dc"}));
        let location = locate(&good, b"x").expect("a location").expect("one");
        assert_eq!(location.url, "https://production.plaid.com/webhook_verification_key/get");
        let KeyForm::Plaid { key_id, body } = &location.form else { panic!("Plaid's form") };
        assert_eq!(key_id, "6c5516e1-92dc");
        let question: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(question, json!({"client_id": "client", "secret": "se:cret", "key_id": "6c5516e1-92dc"}));
        assert!(location.is_named_by_request() && location.cache_key().contains("6c5516e1-92dc"));
        assert!(!format!("{location:?}{verifier:?}").contains("cret"), "nothing secret is shown");
        for (token, body, code) in [
            (good, &b"y"[..], "jwt_claim_mismatch"),
            (token(json!({"alg": "ES256"})), b"x", "jwt_malformed"),
            (token(json!({"alg": "ES256", "kid": ""})), b"x", "jwt_malformed"),
            (token(json!({"alg": "ES256", "kid": "a b"})), b"x", "jwt_malformed"),
            (token(json!({"alg": "ES256", "kid": "a".repeat(65)})), b"x", "jwt_malformed"),
            (token(json!({"alg": "RS256", "kid": "a"})), b"x", "jwt_algorithm"),
            ("a.b.c".to_owned(), b"x", "jwt_malformed"),
        ] {
            assert_eq!(locate(&token, body).expect_err("refused").code(), code, "{token}");
        }
    }

    #[test]
    fn plaid_needs_both_halves_of_the_credentials() {
        let secret = |secrets: &[&str]| verifier(&plaid(), secrets).expect_err("refused");
        assert!(matches!(secret(&["only-a-secret"]), ConfigError::Secret { index: 0, .. }));
        assert_eq!(secret(&[]), ConfigError::NoSecret);
    }

    #[test]
    fn of_several_rules_the_one_that_fits_the_request_names_the_key() {
        let token = json!({"kind": "token", "in": "h:x-token"});
        let either =
            json!({"kind": "any_of", "rules": [sns("rsa-pkcs1-sha1", "1"), sns("rsa-pkcs1-sha256", "1"), token]});
        let either = verifier(&either, &["a"]).expect("a verifier");
        let url = |verifier: &Verifier, headers: &[(&str, &str)], body: &[u8]| {
            locate(verifier, headers, body).map(|location| location.map(|location| location.url))
        };
        let named = Ok(Some(CERTIFICATE_URL.to_owned()));
        assert_eq!(url(&either, &[], &notification(json!({}))), named);
        assert_eq!(url(&either, &[("x-token", "a")], b"{}"), Ok(None));
        let mismatch = Err(Rejection::TokenMismatch { secrets: 1 });
        assert_eq!(url(&either, &[("x-token", "b")], b"{}"), mismatch, "it came furthest");
        let of_headers = |name: &str| json!({"kind": "token", "in": format!("h:{name}")});
        let two = json!({"kind": "any_of", "rules": [of_headers("x-a"), of_headers("x-b")]});
        let two = verifier(&two, &["a"]).expect("a verifier");
        assert_eq!(url(&two, &[("x-a", "b")], b"{}"), mismatch);
        let missing = Err(Rejection::HeaderMissing { name: "x-a".to_owned() });
        assert_eq!(url(&two, &[], b"{}"), missing, "the first, where none came further");
        let both = json!({"kind": "all_of", "rules": [sns("rsa-pkcs1-sha256", "2"), token]});
        let both = verifier(&both, &["a"]).expect("a verifier");
        assert_eq!(url(&both, &[("x-token", "a")], &notification(json!({}))), named);
        let refused = url(&both, &[("x-token", "b")], &notification(json!({})));
        assert_eq!(refused, mismatch, "nothing is fetched for it");
        assert!(url(&both, &[("x-token", "a")], b"{}").is_err());
    }

    #[test]
    fn a_rule_that_would_trust_too_much_makes_no_verifier() {
        let with = |change: &dyn Fn(&mut Value)| {
            let mut rule = sns("rsa-pkcs1-sha256", "2");
            change(&mut rule);
            verifier(&rule, &[])
        };
        assert!(with(&|_| {}).is_ok());
        for (index, refused) in [
            with(&|rule| rule["hosts"] = json!([])),
            with(&|rule| drop(rule.as_object_mut().expect("an object").remove("hosts"))),
            with(&|rule| rule["require"] = json!([])),
            with(&|rule| rule["require"] = json!([{"json:TopicArn": "lit:arn:1"}])),
            with(&|rule| rule["each"] = "items[]".into()),
            with(&|rule| rule["alg"] = "hmac-sha256".into()),
            with(&|rule| rule["key"] = "jwks:https://keys.example".into()),
            with(&|rule| rule["key"] = "fn:plaid_key".into()),
            with(&|rule| rule["key"] = "base64".into()),
            verifier(&json!({"kind": "any_of", "rules": [sns("rsa-pkcs1-sha256", "2"), plaid()]}), &["a:b"]),
            verifier(&json!({"kind": "all_of", "rules": [sns("rsa-pkcs1-sha256", "2"), plaid()]}), &["a:b"]),
        ]
        .into_iter()
        .enumerate()
        {
            assert!(matches!(refused, Err(ConfigError::Rule { .. })), "{index}: {refused:?}");
        }
        let bound_by_content = with(&|rule| {
            rule["require"] = json!([]);
            rule["content"] = "{cfg:topic_arn}|{json:Message}".into();
        });
        assert!(bound_by_content.is_ok(), "another customer's request is signed over another text");
        for hosts in [json!(["*"]), json!(["*.com"]), json!(["https://a.example"])] {
            let mut rule = sns("rsa-pkcs1-sha256", "2");
            rule["hosts"] = hosts.clone();
            assert!(serde_json::from_value::<crate::scheme::Scheme>(rule).is_err(), "{hosts}");
        }
    }

    #[test]
    fn a_public_key_is_never_the_secret_of_a_neighbour() {
        let hmac = json!({"kind": "mac", "alg": "hmac-sha256", "key": "utf8", "content": "{body}",
            "sig": {"in": "h:a", "enc": "hex"}});
        let public = |algorithm: &str, key: &str| json!({"kind": "mac", "alg": algorithm, "key": key, "content": "{body}", "sig": {"in": "h:b", "enc": "hex"}});
        let either = |other: Value| json!({"kind": "any_of", "rules": [hmac, other]});
        for key in ["hex", "base64"] {
            let refused = verifier(&either(public("ed25519", key)), &["a"]);
            assert!(matches!(refused, Err(ConfigError::Rule { .. })), "{key}");
        }
        let spki = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";
        let ecdsa = public("ecdsa-p256-sha256-der", "spki-base64");
        assert!(verifier(&either(ecdsa.clone()), &[spki]).is_ok());
        assert!(matches!(verifier(&hmac, &[spki]), Err(ConfigError::Secret { index: 0, .. })));
        assert!(matches!(
            verifier(&public("rsa-pkcs1-sha256", "spki-base64"), &[spki]),
            Err(ConfigError::Secret { .. })
        ));
        // Signed with a public key.
        use hmac::Mac as _;
        let mac = <hmac::Hmac<sha2::Sha256> as hmac::KeyInit>::new_from_slice(spki.as_bytes()).expect("a key");
        let tag = hex::encode(mac.chain_update(b"x").finalize().into_bytes());
        let headers = HeaderList::new([("a", tag.as_str()), ("b", tag.as_str())]);
        let request = RequestParts { method: "POST", url: "", query: "", headers: &headers };
        let verifier = verifier(&either(ecdsa), &[spki]).expect("a verifier");
        assert!(verify(&verifier, None, &request, b"x", 0).is_err());
    }
}
