use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use super::*;
use crate::header::HeaderList;
use crate::source::{OnStale, Secret};
use crate::verify::public_key::{PublicKey, SignatureAlgorithm};
use crate::verify::{Rejection, Verified};

const NOW_MS: u64 = 1_700_000_000_000;
const LARGE: usize = SMALL_BODY_BYTES + 1;

/// The platform's result.
fn passes(check: &PlatformCheck, body: &[u8]) -> bool {
    fn hmac<M: KeyInit + Mac>(key: &[u8], content: &[u8], signature: &[u8]) -> bool {
        <M as KeyInit>::new_from_slice(key).expect("a key").chain_update(content).verify_slice(signature).is_ok()
    }
    let public = |algorithm: SignatureAlgorithm, key: Option<PublicKey>, content: &[u8], signature: &[u8]| {
        key.expect("a key").verifies(algorithm, &algorithm.input(&[content.into()]), signature)
    };
    let content = [check.before.as_bytes(), body, check.after.as_bytes()].concat();
    let one = |key: &[u8], signature: &[u8]| match check.algorithm {
        PlatformAlgorithm::HmacSha1 => hmac::<Hmac<Sha1>>(key, &content, signature),
        PlatformAlgorithm::HmacSha256 => hmac::<Hmac<Sha256>>(key, &content, signature),
        PlatformAlgorithm::HmacSha512 => hmac::<Hmac<Sha512>>(key, &content, signature),
        PlatformAlgorithm::Ed25519 => public(SignatureAlgorithm::Ed25519, PublicKey::ed25519(key), &content, signature),
        PlatformAlgorithm::P256 => {
            assert_eq!((key.len(), key[0], signature.len()), (65, 4, 64));
            public(SignatureAlgorithm::P256Raw, PublicKey::p256(&key[1..33], &key[33..]), &content, signature)
        }
    };
    check.keys.iter().any(|key| check.signatures.iter().any(|signature| one(key, signature)))
}

/// Asserts that the platform's check of a request has the same result as [`verify`].
pub(crate) fn assert_agrees(
    outcome: &Result<Verified, Rejection>,
    verifier: &Verifier,
    keys: Option<&KeySet>,
    request: &RequestParts<'_>,
    body: &[u8],
    now_ms: u64,
) {
    if let Some(check) = verifier.platform_check(keys, request, LARGE, now_ms) {
        assert_eq!(passes(&check, body), outcome.is_ok(), "{outcome:?}");
        assert!(outcome.as_ref().is_err() || outcome.as_ref().is_ok_and(|verified| verified.stale() == check.stale));
    }
}

const STRIPE: &str = r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{sig:t}.{body}",
    "sig":{"in":"h:stripe-signature","enc":"hex","list":",","kv":"=","key":"v1"},
    "ts":{"in":"sig:t","unit":"s","tol":300}}"#;
const SIGNED: &str = "t=1700000000,v1=0d196e3df9b9cad0e904fe0b11e2bb446ec74e54a0cb22fa2ac9b39d85f08274";
const BODY: &[u8] = br#"{"id":"evt_test","type":"example.event"}"#;

fn verifier(scheme: &str, secrets: &[&str]) -> Verifier {
    let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new(secret)).collect();
    Verifier::of(&serde_json::from_str(scheme).expect("parses"), &secrets).expect("a verifier")
}

fn check(verifier: &Verifier, header: (&str, &str), size: usize, now_ms: u64) -> Option<PlatformCheck> {
    let headers = HeaderList::new([header]);
    let request = RequestParts { method: "POST", url: "", query: "", headers: &headers };
    verifier.platform_check(None, &request, size, now_ms)
}

#[test]
fn the_platform_is_left_the_signature_and_nothing_else() {
    let of = |secrets: &[&str], signature: &str, now_ms: u64| {
        check(&verifier(STRIPE, secrets), ("stripe-signature", signature), LARGE, now_ms)
    };
    let left = of(&["whsec_test_secret"], SIGNED, NOW_MS).expect("a check");
    assert_eq!((left.before.as_str(), left.after.as_str(), left.stale), ("1700000000.", "", false));
    assert_eq!(left.keys, [b"whsec_test_secret"]);
    assert!(passes(&left, BODY) && !passes(&left, b"{}"));
    let rotated = of(&[&"k".repeat(100), "whsec_test_secret"], SIGNED, NOW_MS).expect("a check");
    assert!(passes(&rotated, BODY), "any of the keys");
    assert!(!passes(&of(&["whsec_other"], SIGNED, NOW_MS).expect("a check"), BODY));
    for (signature, now_ms) in [
        (SIGNED, NOW_MS + 301_000),
        (&SIGNED.replace("v1", "v0"), NOW_MS),
        (&SIGNED.replace("0d19", ""), NOW_MS),
        ("", NOW_MS),
    ] {
        assert_eq!(of(&["whsec_test_secret"], signature, now_ms), None, "{signature}");
    }
}

#[test]
fn a_stale_request_that_its_source_accepts_is_marked_as_stale() {
    let lenient = Verifier { on_stale: OnStale::AcceptFlagged, ..verifier(STRIPE, &["whsec_test_secret"]) };
    let left = check(&lenient, ("stripe-signature", SIGNED), LARGE, NOW_MS + 301_000).expect("a check");
    assert!(left.stale && passes(&left, BODY));
}

#[test]
fn a_small_body_is_hashed_here_and_a_flood_of_signatures_is_not_left_to_the_platform() {
    let stripe = verifier(STRIPE, &["whsec_test_secret"]);
    assert_eq!(check(&stripe, ("stripe-signature", SIGNED), SMALL_BODY_BYTES, NOW_MS), None);
    let signatures = |count| format!("t=1700000000{}", format!(",v1={}", "00".repeat(32)).repeat(count));
    assert!(check(&stripe, ("stripe-signature", &signatures(MAX_PAIRS)), LARGE, NOW_MS).is_some());
    assert_eq!(check(&stripe, ("stripe-signature", &signatures(MAX_PAIRS + 1)), LARGE, NOW_MS), None);
}

#[test]
fn a_rule_that_needs_the_body_itself_is_never_left_to_the_platform() {
    let mac = |alg: &str, content: &str| {
        format!(r#"{{"kind":"mac","alg":"{alg}","key":"utf8","content":"{content}","sig":{{"in":"h:a","enc":"hex"}}}}"#)
    };
    let signature = "00".repeat(32);
    let plain = verifier(&mac("hmac-sha256", "{body}"), &["secret"]);
    assert!(check(&plain, ("a", &signature), LARGE, NOW_MS).is_some(), "the one that the others are made of");
    for scheme in [
        mac("sha256", "{secret}{body}"),
        mac("hmac-sha256", "{body}{body}"),
        mac("hmac-sha256", "{json:id}{body}"),
        mac("hmac-sha256", "{sha256hex:body}"),
        mac("hmac-sha256", "{json?:id}{body}"),
        mac("hmac-sha256", "{crc32dec:body}.{body}"),
        mac("hmac-sha256", "{body}").replace("h:a", "body"),
        mac("hmac-sha256", "{body}").replacen('{', r#"{"each":"value[]","#, 1),
        mac("hmac-sha256", "{url}{body}").replacen('{', r#"{"urls":["without_port"],"#, 1),
        mac("hmac-sha256", "{body}").replacen('{', r#"{"decoded":true,"#, 1),
        r#"{"kind":"token","in":"h:a"}"#.to_owned(),
    ] {
        assert_eq!(check(&verifier(&scheme, &["secret"]), ("a", &signature), LARGE, NOW_MS), None, "{scheme}");
    }
}

#[test]
fn published_keys_are_left_to_the_platform_once_they_are_at_hand() {
    let fal = r#"{"kind":"mac","alg":"ed25519","key":"jwks:https://keys.example/jwks.json",
        "content":"{h:user}{body}","sig":{"in":"h:a","enc":"hex"},"require":[{"h:user":"cfg:user"}],"settings":{"user":"u"}}"#;
    let set = crate::verify::tests::test_keys::jwks(&[
        crate::verify::tests::test_keys::p256_jwk("a"),
        serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": "6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw"}),
    ]);
    let set = KeySet::parse_jwks(&set).expect("a set");
    let signature = "00".repeat(64);
    let headers = HeaderList::new([("a", signature.as_str()), ("user", "u")]);
    let request = RequestParts { method: "POST", url: "", query: "", headers: &headers };
    let verifier = verifier(fal, &[]);
    let left = verifier.platform_check(Some(&set), &request, 1, NOW_MS).expect("a check, however small the body");
    let [key] = &left.keys[..] else { panic!("only keys of its kind") };
    assert_eq!((left.algorithm, left.before.as_str(), key.len()), (PlatformAlgorithm::Ed25519, "u", 32));
    assert_eq!(verifier.platform_check(None, &request, 1, NOW_MS), None);
}
