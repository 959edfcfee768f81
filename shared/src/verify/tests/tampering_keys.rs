//! Tampers with requests that are signed with public keys or carry a token: every change is refused. The rows are those
//! of [`super::tampering`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::Signer as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::test_keys;
use crate::header::HeaderList;
use crate::secret::Secret;
use crate::verify::{KeyForm, KeySet, Rejection, RequestParts, Verifier, verify};

const NOW_S: u64 = 1_700_000_000;
const BODY: &str = "{\"id\":\"evt_test\",\"type\":\"example.event\"}";
const HMAC_SECRET: &str = "a secret of the source";

/// A request that verifies at `now_s`.
#[derive(Clone)]
struct Signed {
    name: &'static str,
    scheme: Value,
    secrets: Vec<String>,
    /// The keys that the provider publishes, and their form.
    published: Option<(KeyForm, Vec<u8>)>,
    headers: Vec<(&'static str, String)>,
    /// The header that holds the signature or the token.
    signature: &'static str,
    body: Vec<u8>,
    url: &'static str,
    now_s: u64,
    /// Whether the whole body is signed.
    binds_body: bool,
    /// How old and how far in the future it may be, in seconds, if its time is signed.
    time: Option<(u64, u64)>,
}

impl Signed {
    fn verify_at(&self, now_s: u64) -> Result<Option<usize>, Rejection> {
        let keys = self.published.as_ref().map(|(form, document)| KeySet::parse(form, document).expect("keys"));
        self.verify_with(keys.as_ref(), now_s)
    }

    fn verify_with(&self, keys: Option<&KeySet>, now_s: u64) -> Result<Option<usize>, Rejection> {
        let headers = HeaderList::new(self.headers.clone());
        verify(&self.verifier(), keys, &self.request(&headers), &self.body, now_s * 1_000)
            .map(|verified| verified.which())
    }

    fn verifier(&self) -> Verifier {
        let secrets: Vec<_> = self.secrets.iter().map(|secret| Secret::new(secret)).collect();
        Verifier::of(&serde_json::from_value(self.scheme.clone()).expect("parses"), &secrets).expect("a verifier")
    }

    fn request<'r>(&self, headers: &'r HeaderList) -> RequestParts<'r>
    where
        Self: 'r,
    {
        RequestParts { method: "POST", url: self.url, query: "", headers }
    }

    fn code(&self) -> &'static str {
        self.verify_at(self.now_s).map_or_else(|rejection| rejection.code(), |_| "verified")
    }

    fn header_mut(&mut self, name: &str) -> &mut String {
        &mut self.headers.iter_mut().find(|(n, _)| *n == name).expect("the header").1
    }

    fn is_token(&self) -> bool {
        self.scheme["kind"] == "jwt"
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn certificate() -> Option<(KeyForm, Vec<u8>)> {
    let pem = test_keys::certificate(&test_keys::rsa_spki(), "200101000000Z", "300101000000Z");
    Some((KeyForm::Certificate, pem))
}

fn hs256(message: &[u8]) -> Vec<u8> {
    use hmac::Mac as _;
    let mac = <hmac::Hmac<Sha256> as hmac::KeyInit>::new_from_slice(HMAC_SECRET.as_bytes()).expect("a key");
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

fn mac(name: &'static str, scheme: Value) -> Signed {
    Signed {
        name,
        scheme,
        secrets: Vec::new(),
        published: None,
        headers: Vec::new(),
        signature: "",
        body: BODY.as_bytes().to_vec(),
        url: "https://in.example/in/a",
        now_s: NOW_S,
        binds_body: true,
        time: None,
    }
}

fn jwt(name: &'static str, scheme: Value, signature: &'static str, token: &str) -> Signed {
    Signed { signature, headers: vec![(signature, token.to_owned())], ..mac(name, scheme) }
}

fn ed25519(name: &'static str, key: &str, separator: &str, headers: [&'static str; 2]) -> Signed {
    let signing = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let public = signing.verifying_key().to_bytes();
    let raw = signing.sign(format!("{NOW_S}{separator}{BODY}").as_bytes()).to_bytes();
    let hexadecimal = key == "hex";
    let write = |bytes: &[u8]| if hexadecimal { hex::encode(bytes) } else { BASE64.encode(bytes) };
    Signed {
        secrets: vec![write(&public)],
        headers: vec![(headers[0], NOW_S.to_string()), (headers[1], write(&raw))],
        signature: headers[1],
        time: Some((300, 300)),
        ..mac(
            name,
            json!({"kind": "mac", "alg": "ed25519", "key": key, "content": format!("{{h:{}}}{separator}{{body}}", headers[0]),
                "sig": {"in": format!("h:{}", headers[1]), "enc": key},
                "ts": {"in": format!("h:{}", headers[0]), "unit": "s", "tol": 300}}),
        )
    }
}

/// At least one request for each kind of key and algorithm. A comment gives its origin.
fn signed() -> Vec<Signed> {
    // sendgrid-nodejs, packages/eventwebhook/src/eventwebhook.spec.js; its s is in the upper half.
    let sendgrid = Signed {
        secrets: vec!["MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==".to_owned()],
        headers: vec![
            ("x-twilio-email-event-webhook-timestamp", "1600112502".to_owned()),
            ("x-twilio-email-event-webhook-signature", "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=".to_owned()),
        ],
        signature: "x-twilio-email-event-webhook-signature",
        body: b"[{\"email\":\"hello@world.com\",\"event\":\"dropped\",\"reason\":\"Bounced Address\",\"sg_event_id\":\"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA\",\"sg_message_id\":\"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0\",\"smtp-id\":\"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>\",\"timestamp\":1600112492}]\r\n".to_vec(),
        ..mac("sendgrid", json!({"kind": "mac", "alg": "ecdsa-p256-sha256-der", "key": "spki-base64",
            "content": "{h:x-twilio-email-event-webhook-timestamp}{body}",
            "sig": {"in": "h:x-twilio-email-event-webhook-signature", "enc": "base64"},
            "ts": {"in": "h:x-twilio-email-event-webhook-timestamp", "unit": "s", "tol": null}}))
    };
    let paypal_content = format!("69cd13f0|2023-11-14T22:13:20Z|4JH86294D6297924G|{}", "1590049957");
    let paypal = Signed {
        published: certificate(),
        headers: vec![
            ("paypal-transmission-id", "69cd13f0".to_owned()),
            ("paypal-transmission-time", "2023-11-14T22:13:20Z".to_owned()),
            ("paypal-cert-url", "https://api.paypal.com/v1/notifications/certs/CERT-1".to_owned()),
            ("paypal-transmission-sig", BASE64.encode(test_keys::rsa_sha256(paypal_content.as_bytes()))),
        ],
        signature: "paypal-transmission-sig",
        ..mac(
            "paypal",
            json!({"kind": "mac", "alg": "rsa-pkcs1-sha256", "key": "x509url:h:paypal-cert-url",
            "hosts": ["api.paypal.com", "api.sandbox.paypal.com"],
            "content": "{h:paypal-transmission-id}|{h:paypal-transmission-time}|{cfg:webhook_id}|{crc32dec:body}",
            "sig": {"in": "h:paypal-transmission-sig", "enc": "base64"},
            "settings": {"webhook_id": "4JH86294D6297924G"}}),
        )
    };
    let sha1 = Signed {
        headers: vec![
            ("x-certificate", "https://sns.us-east-1.amazonaws.com/a.pem".to_owned()),
            ("x-topic", "arn:1".to_owned()),
            ("x-signature", BASE64.encode(test_keys::rsa_sha1(format!("arn:1\n{BODY}").as_bytes()))),
        ],
        published: certificate(),
        signature: "x-signature",
        ..mac(
            "rsa-pkcs1-sha1",
            json!({"kind": "mac", "alg": "rsa-pkcs1-sha1", "key": "x509url:h:x-certificate",
            "hosts": ["sns.*.amazonaws.com"], "content": "{h:x-topic}\n{body}",
            "sig": {"in": "h:x-signature", "enc": "base64"}, "require": [{"h:x-topic": "cfg:topic"}],
            "settings": {"topic": "arn:1"}}),
        )
    };
    // messagebird-nodejs, lib/testdata/webhook-signature-jwt-reference.json
    let messagebird = Signed {
        secrets: vec!["36efdd1aace2e26cd490f0d951138253bef2f7c6d34d18981da781555cc4cebb".to_owned()],
        body: Vec::new(),
        url: "https://example.com/",
        now_s: 1_625_479_200,
        time: Some((64, 5)),
        ..jwt(
            "messagebird",
            json!({"kind": "jwt", "token": {"in": "h:messagebird-signature-jwt"}, "alg": ["HS256", "HS384", "HS512"],
                "key": "utf8", "leeway": 5, "claims": {"iss": "MessageBird", "url_hash": "sha256hex:url",
                "payload_hash": "sha256hex:body?"}}),
            "messagebird-signature-jwt",
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJNZXNzYWdlQmlyZCIsIm5iZiI6MTYyNTQ3OTIwMCwiZXhwIjoxNjI1NDc5MjYwLCJqdGkiOiI1OWEyNDRkYy1lOWFkLTRlMjMtOTc3OC0zNzFmYWEyMzhmNzIiLCJ1cmxfaGFzaCI6IjBmMTE1ZGIwNjJiN2MwZGQwMzBiMTY4NzhjOTlkZWE1YzM1NGI0OWRjMzdiMzhlYjg4NDYxNzljNzc4M2U5ZDcifQ.6Fp0rVOsRr1fj9S2GidXAfkmPVofKr8_RTffC6G6r2E",
        )
    };
    let netlify_claims = json!({"iss": "netlify", "sha256": sha256(BODY.as_bytes())});
    let netlify = Signed {
        secrets: vec![HMAC_SECRET.to_owned()],
        ..jwt(
            "netlify",
            json!({"kind": "jwt", "token": {"in": "h:x-webhook-signature"}, "alg": ["HS256"], "key": "utf8",
                "claims": {"iss": "netlify", "sha256": "sha256hex:body"}}),
            "x-webhook-signature",
            &test_keys::token(&json!({"alg": "HS256", "typ": "JWT"}), &netlify_claims, hs256),
        )
    };
    let vonage_claims = json!({"iss": "Vonage", "iat": NOW_S, "payload_hash": sha256(BODY.as_bytes()), "api_key": "k"});
    let vonage_token = test_keys::token(&json!({"alg": "HS256"}), &vonage_claims, hs256);
    let vonage = Signed {
        secrets: vec![HMAC_SECRET.to_owned()],
        time: Some((330, 30)),
        ..jwt(
            "vonage",
            json!({"kind": "jwt", "token": {"in": "h:authorization", "strip": "Bearer "}, "alg": ["HS256"], "key": "utf8",
                "claims": {"iss": "Vonage", "payload_hash": "sha256hex:body"}, "max_age": 300}),
            "authorization",
            &format!("Bearer {vonage_token}"),
        )
    };
    let pubsub_claims = json!({"iss": "https://accounts.google.com", "aud": "https://in.example/in/a", "exp": NOW_S + 3_600,
        "iat": NOW_S, "email": "push@project.iam.gserviceaccount.com", "email_verified": true});
    let pubsub_token = test_keys::token(&json!({"alg": "RS256", "kid": "g"}), &pubsub_claims, test_keys::rsa_sha256);
    let pubsub = Signed {
        published: Some((KeyForm::JwkSet, test_keys::jwks(&[test_keys::rsa_jwk("g")]))),
        binds_body: false,
        ..jwt(
            "gcp-pubsub",
            json!({"kind": "jwt", "token": {"in": "h:authorization", "strip": "Bearer "}, "alg": ["RS256"],
                "key": "jwks:https://www.googleapis.com/oauth2/v3/certs",
                "claims": {"iss": ["accounts.google.com", "https://accounts.google.com"], "aud": "cfg:audience",
                    "email": "cfg:service_account", "email_verified": true},
                "settings": {"audience": "https://in.example/in/a",
                    "service_account": "push@project.iam.gserviceaccount.com"}}),
            "authorization",
            &format!("Bearer {pubsub_token}"),
        )
    };
    let plaid_claims = json!({"iat": NOW_S, "request_body_sha256": sha256(BODY.as_bytes())});
    let plaid = Signed {
        secrets: vec!["client:secret".to_owned()],
        published: Some((
            KeyForm::Plaid { key_id: "p".to_owned(), body: String::new() },
            json!({ "key": test_keys::p256_jwk("p"), "request_id": "r" }).to_string().into_bytes(),
        )),
        time: Some((330, 30)),
        ..jwt(
            "plaid",
            json!({"kind": "jwt", "token": {"in": "h:plaid-verification"}, "alg": ["ES256"], "key": "fn:plaid_key",
                "claims": {"request_body_sha256": "sha256hex:body"}, "max_age": 300}),
            "plaid-verification",
            &test_keys::token(&json!({"alg": "ES256", "kid": "p", "typ": "JWT"}), &plaid_claims, test_keys::p256_raw),
        )
    };
    vec![
        sendgrid,
        ed25519("discord", "hex", "", ["x-signature-timestamp", "x-signature-ed25519"]),
        ed25519("telnyx", "base64", "|", ["telnyx-timestamp", "telnyx-signature-ed25519"]),
        paypal,
        sha1,
        messagebird,
        netlify,
        vonage,
        pubsub,
        plaid,
    ]
}

fn of(name: &str) -> Signed {
    signed().into_iter().find(|signed| signed.name == name).expect("a request")
}

#[test]
fn every_request_verifies_with_its_key() {
    for signed in signed() {
        assert_eq!(signed.verify_at(signed.now_s), Ok(Some(0)), "{}", signed.name);
    }
}

#[test]
fn one_bit_of_the_body_is_enough_to_refuse() {
    for signed in signed().into_iter().filter(|signed| signed.binds_body) {
        let expected = if signed.is_token() { "jwt_claim_mismatch" } else { "signature_mismatch" };
        for bit in 0..signed.body.len() * 8 {
            let mut changed = signed.clone();
            changed.body[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(changed.code(), expected, "{} bit {bit}", signed.name);
        }
        let longer = Signed { body: [&signed.body[..], b"\n"].concat(), ..signed.clone() };
        assert!(longer.verify_at(signed.now_s).is_err(), "{}", signed.name);
    }
}

#[test]
fn one_character_of_the_signature_or_the_token_is_enough_to_refuse() {
    for signed in signed() {
        let length = signed.clone().header_mut(signed.signature).len();
        let start = if signed.headers.iter().any(|(_, value)| value.starts_with("Bearer ")) { 7 } else { 0 };
        for at in start..length {
            let mut changed = signed.clone();
            let value = changed.header_mut(signed.signature);
            let other = if value.as_bytes()[at] == b'0' { "1" } else { "0" };
            value.replace_range(at..=at, other);
            assert!(changed.verify_at(signed.now_s).is_err(), "{} at {at}", signed.name);
        }
    }
}

#[test]
fn a_truncated_signature_or_token_never_passes_and_an_empty_one_neither() {
    for signed in signed() {
        let length = signed.clone().header_mut(signed.signature).len();
        for length in 0..length {
            let mut changed = signed.clone();
            changed.header_mut(signed.signature).truncate(length);
            assert!(changed.verify_at(signed.now_s).is_err(), "{} cut to {length}", signed.name);
        }
        let mut longer = signed.clone();
        longer.header_mut(signed.signature).push('A');
        assert!(longer.verify_at(signed.now_s).is_err(), "{}", signed.name);
    }
}

#[test]
fn a_missing_header_is_named_and_a_repeated_one_is_refused() {
    for signed in signed() {
        for (at, (name, value)) in signed.headers.iter().enumerate() {
            let named = |code: &str, changed: &Signed| {
                let rejection = changed.verify_at(signed.now_s).expect_err("refused");
                assert_eq!(rejection.code(), code, "{} {name}", signed.name);
                assert!(rejection.detail().to_lowercase().contains(name), "{}", rejection.detail());
            };
            let mut changed = signed.clone();
            changed.headers.remove(at);
            named("header_missing", &changed);
            let mut changed = signed.clone();
            changed.headers.push((name, value.clone()));
            named("header_repeated", &changed);
            let mut changed = signed.clone();
            changed.headers[at].1 = format!("{value}, {value}");
            named("header_repeated", &changed);
            let mut changed = signed.clone();
            changed.headers[at].1 = String::new();
            named("header_empty", &changed);
        }
    }
}

#[test]
fn names_of_headers_are_in_any_case() {
    for signed in signed() {
        let headers = HeaderList::new(signed.headers.iter().map(|(name, value)| (name.to_uppercase(), value.clone())));
        let keys = signed.published.as_ref().map(|(form, document)| KeySet::parse(form, document).expect("keys"));
        let now_ms = signed.now_s * 1_000;
        let verified = verify(&signed.verifier(), keys.as_ref(), &signed.request(&headers), &signed.body, now_ms);
        assert!(verified.is_ok(), "{}", signed.name);
    }
}

#[test]
fn a_request_is_refused_before_and_after_its_time() {
    for signed in signed() {
        let Some((age, ahead)) = signed.time else { continue };
        // Of a token's `exp` the first second is already too late.
        for (now_s, expected) in [
            (signed.now_s + age + 1, false),
            (signed.now_s + age - 1, true),
            (signed.now_s - ahead, true),
            (signed.now_s - ahead - 1, false),
        ] {
            let outcome = signed.verify_at(now_s);
            assert_eq!(outcome.is_ok(), expected, "{} at {now_s}: {outcome:?}", signed.name);
            let codes = ["timestamp_old", "timestamp_future", "jwt_expired", "jwt_not_yet_valid"];
            assert!(outcome.is_ok() || codes.contains(&outcome.expect_err("refused").code()), "{}", signed.name);
        }
    }
}

#[test]
fn another_key_refuses() {
    let wrong_spki = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==";
    let other_ed25519 = ed25519_dalek::SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
    for signed in signed() {
        let mut changed = signed.clone();
        match signed.name {
            "sendgrid" => changed.secrets = vec![wrong_spki.to_owned()],
            "discord" => changed.secrets = vec![hex::encode(other_ed25519)],
            "telnyx" => changed.secrets = vec![BASE64.encode(other_ed25519)],
            "messagebird" | "netlify" | "vonage" => changed.secrets = vec!["another secret".to_owned()],
            _ => {
                let other = include_bytes!("testdata/rsa.pem").to_vec();
                let rsa = json!({"kty": "RSA", "e": "AQAB", "kid": "g", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"});
                let p256 = json!({"kty": "EC", "crv": "P-256", "kid": "p", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
                let published = changed.published.as_mut().expect("published keys");
                published.1 = match published.0 {
                    KeyForm::JwkSet => test_keys::jwks(&[rsa]),
                    KeyForm::Certificate => other,
                    KeyForm::Plaid { .. } => json!({ "key": p256 }).to_string().into_bytes(),
                };
                // The certificate of openssl is from a later time.
                if published.0 == KeyForm::Certificate {
                    assert_eq!(changed.code(), "key_expired", "{}", signed.name);
                    changed.now_s = 1_800_000_000;
                }
            }
        }
        assert_eq!(changed.code(), "signature_mismatch", "{}", signed.name);
    }
}

#[test]
fn without_published_keys_nothing_is_known_and_the_fault_is_ours() {
    for signed in signed().into_iter().filter(|signed| signed.published.is_some()) {
        let refused = signed.verify_with(None, signed.now_s).expect_err("refused");
        assert_eq!(refused, Rejection::KeysUnavailable, "{}", signed.name);
        assert!(refused.is_ours());
    }
}

#[test]
fn published_keys_of_another_kind_or_name_verify_nothing() {
    let others = KeySet::parse_jwks(&test_keys::jwks(&[
        json!({"kty": "OKP", "crv": "Ed25519", "x": "6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw"}),
        test_keys::p256_jwk("other"),
    ]));
    let others = others.expect("keys");
    for signed in signed().into_iter().filter(|signed| signed.published.is_some()) {
        let refused = signed.verify_with(Some(&others), signed.now_s).expect_err("refused");
        assert_eq!(refused, Rejection::KeyUnknown, "{}", signed.name);
        assert!(refused.may_be_new_key() && !refused.is_ours());
    }
}

#[test]
fn a_signature_in_another_encoding_is_refused() {
    for name in ["sendgrid", "discord", "telnyx", "paypal", "rsa-pkcs1-sha1"] {
        let mut changed = of(name);
        let signature = changed.signature;
        let value = changed.header_mut(signature);
        *value = match hex::decode(&*value) {
            Ok(bytes) => BASE64.encode(bytes),
            Err(_) => hex::encode(BASE64.decode(&*value).expect("base64")),
        };
        // The longest of these could be the base64 of a signature of another length.
        let expected = if value.len() < 512 { "signature_malformed" } else { "signature_mismatch" };
        assert_eq!(changed.code(), expected, "{name}");
    }
}

#[test]
fn the_binding_of_a_request_to_one_customer_must_hold() {
    for (name, setting, code) in [
        ("paypal", "webhook_id", "signature_mismatch"),
        ("rsa-pkcs1-sha1", "topic", "requirement_failed"),
        ("gcp-pubsub", "audience", "jwt_claim_mismatch"),
        ("gcp-pubsub", "service_account", "jwt_claim_mismatch"),
    ] {
        let mut changed = of(name);
        changed.scheme["settings"][setting] = "another customer's".into();
        assert_eq!(changed.code(), code, "{name} {setting}");
        changed.scheme["settings"].as_object_mut().expect("settings").remove(setting);
        assert_eq!(changed.code(), "field_missing", "{name} {setting}");
    }
}
