//! Whole requests: to a source of a provider, and to a source with any scheme.

use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use shared::id::SourceId;
use shared::provider::{NewSource, Provider, find};
use shared::scheme::Scheme;
use shared::source::{Secret, SourceConfig};
use shared::verify::{KeyForm, PlatformAlgorithm, PlatformCheck, Verifier, verify};

use super::plain::{PROVIDERS, Plain};
use super::wire::{NOW_MS, Wire};

/// Secrets of every kind that nothing in the corpus tells: a text that is also credentials, a secret of Standard Webhooks,
/// an Ed25519 key (RFC 8032 section 7.1), and a key of P-256.
const UNKNOWN: [&str; 4] = [
    "b7c1f0a2 nobody: knows this one",
    "whsec_sN1mQkq2zYtW7xA0hRr5u8v3dEoPjZbC",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEAE1nWl3x9DS1r1orNzPJmo8wZ7k2R7Fpy/L0Ug2dFFtIrAQdSn9bdAp0VW5qWALeYpSCJMeg9++jTrpuekFKw==",
];

/// The id of a provider, a source's config as JSON or nothing, and a request. A provider that is read plainly too has a
/// source whose secret signs the request; with any other nothing can be signed, and so nothing may be accepted.
pub fn request(data: &[u8]) -> bool {
    let Some(([id, config], wire)) = Wire::read(data) else { return false };
    let Some(provider) = find(&id) else { return false };
    let config = serde_json::from_str(&config).unwrap_or_default();
    match PROVIDERS.iter().find(|plain| plain.id == id) {
        Some(plain) => signed(plain, provider, &config, &wire),
        None => unsigned(provider, &config, &wire),
    }
}

/// A scheme as JSON in one line, and a request to a source that has it.
pub fn scheme(data: &[u8]) -> bool {
    let text = data.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Ok(scheme) = serde_json::from_slice::<Scheme>(text) else { return false };
    let written = serde_json::to_string(&scheme).expect("a scheme is JSON");
    assert_eq!(serde_json::from_str::<Scheme>(&written).ok().as_ref(), Some(&scheme), "{written}");
    let secrets = UNKNOWN.map(Secret::new);
    let lists = secrets.iter().map(std::slice::from_ref).chain([&[][..], &secrets[..2]]);
    let verifiers: Vec<_> = lists.filter_map(|secrets| Verifier::of(&scheme, secrets).ok()).collect();
    if let Some(([_], wire)) = Wire::read(data) {
        verifiers.iter().for_each(|verifier| refuse(&scheme, verifier, &wire));
    }
    !verifiers.is_empty()
}

fn signed(plain: &Plain, provider: &Provider, config: &Value, wire: &Wire) -> bool {
    let Some(config) = resolve(provider, &plain.secret(), config) else { return false };
    let verifier = Verifier::new(&config).expect("what resolves makes a verifier");
    let wire = &wire.with_tag(&plain.sign(wire));
    let verified = verify(&verifier, None, &wire.parts(), &wire.body, NOW_MS);
    let accepted = verified.is_ok();
    if let Some(check) = verifier.platform_check(None, &wire.parts(), usize::MAX, NOW_MS) {
        assert_eq!(platform(&check, &wire.body), accepted, "left to the platform: {wire:?}");
    }
    assert!(!accepted || plain.accepts(wire), "{} accepts what its own reading refuses: {wire:?}", plain.id);
    accepted
}

/// The platform's result of a check.
fn platform(check: &PlatformCheck, body: &[u8]) -> bool {
    fn hmac<M: KeyInit + Mac>(key: &[u8], content: &[u8], tag: &[u8]) -> bool {
        <M as KeyInit>::new_from_slice(key).expect("a key").chain_update(content).verify_slice(tag).is_ok()
    }
    let content = [check.before.as_bytes(), body, check.after.as_bytes()].concat();
    let is_signed = |key: &[u8], signature: &[u8]| match check.algorithm {
        PlatformAlgorithm::HmacSha1 => hmac::<Hmac<Sha1>>(key, &content, signature),
        PlatformAlgorithm::HmacSha256 => hmac::<Hmac<Sha256>>(key, &content, signature),
        PlatformAlgorithm::HmacSha512 => hmac::<Hmac<Sha512>>(key, &content, signature),
        PlatformAlgorithm::Ed25519 => {
            let key = VerifyingKey::from_bytes(key.try_into().expect("32 bytes")).expect("a key");
            Signature::from_slice(signature).is_ok_and(|signature| key.verify(&content, &signature).is_ok())
        }
        PlatformAlgorithm::P256 => panic!("no provider that is read plainly signs with P-256"),
    };
    check.keys.iter().any(|key| check.signatures.iter().any(|signature| is_signed(key, signature)))
}

fn unsigned(provider: &Provider, config: &Value, wire: &Wire) -> bool {
    let secrets = UNKNOWN.iter().chain(&[""]);
    let Some(config) = secrets.into_iter().find_map(|secret| resolve(provider, secret, config)) else { return false };
    let verifier = Verifier::new(&config).expect("what resolves makes a verifier");
    refuse(&config.scheme, &verifier, wire);
    false
}

/// The request cannot have been signed, so it may be accepted only if nothing is verified; and if a key is fetched for
/// it, then from a plain address.
fn refuse(scheme: &Scheme, verifier: &Verifier, wire: &Wire) {
    let accepted = verify(verifier, None, &wire.parts(), &wire.body, NOW_MS).is_ok();
    assert_eq!(accepted, *scheme == Scheme::None, "{scheme:?}: {wire:?}");
    let Ok(Some(location)) = verifier.key_location(&wire.parts(), &wire.body) else { return };
    if location.form == KeyForm::Certificate {
        let (host, path) = location.url.strip_prefix("https://").and_then(|rest| rest.split_once('/')).expect("a path");
        let label = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        assert!(host.split('.').count() >= 2 && host.split('.').all(label), "{host}");
        assert!(path.chars().all(|c| c.is_ascii_alphanumeric() || "-._~/".contains(c)), "{path}");
        assert!(path.split('/').all(|segment| !["", ".", ".."].contains(&segment)), "{path}");
    }
}

fn resolve(provider: &Provider, secret: &str, config: &Value) -> Option<SourceConfig> {
    let secrets: Vec<_> = [secret].into_iter().filter(|secret| !secret.is_empty()).map(Secret::new).collect();
    let source = NewSource {
        id: SourceId::mint(1, [1; 10]),
        name: "a",
        revision: 1,
        secrets: &secrets,
        config,
        max_body_bytes: 1_000_000,
    };
    provider.resolve(source).ok()
}
