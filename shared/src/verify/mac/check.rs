//! Finds faults of a rule itself, whatever the secrets are.

use crate::scheme::key_encoding::KeyEncoding;
use crate::scheme::reference::Reference;
use crate::scheme::reference::function::Function;
use crate::scheme::rule::{Algorithm, MacRule};
use crate::verify::ConfigError;

/// Refuses a rule that would verify less than it seems to.
pub(super) fn check_rule(rule: &MacRule) -> Result<(), ConfigError> {
    match fault(rule) {
        Some(why) => Err(ConfigError::Rule { why: why.to_owned() }),
        None => Ok(()),
    }
}

fn fault(rule: &MacRule) -> Option<&'static str> {
    let content = || rule.content.references();
    let required = || rule.require.iter().flat_map(|equality| [&equality.left, &equality.right]);
    let timed = || rule.timestamp.iter().map(|timestamp| &timestamp.place);
    if !fits(rule) {
        return Some("the key encoding does not fit the algorithm");
    }
    if content().chain(required()).any(is_for_replies) {
        return Some(
            "HMAC functions and hashes of several values can only be used in handshake replies, not in signed content",
        );
    }
    if content().chain(required()).chain(timed()).any(|r| matches!(r, Reference::Function(Function::Items(_)))) {
        return Some("fn:items identifies events; it cannot be part of the signed content");
    }
    if content().chain(required()).chain(timed()).any(|r| matches!(r, Reference::HeaderSeries(_))) {
        return Some("a series of headers (h*:) can be used only as the place of signatures");
    }
    if !content().any(is_of_the_request) {
        return Some("the signed content is the same for every request; add {body} to it");
    }
    if content().any(|r| *r == Reference::Secret) != (rule.algorithm == Algorithm::Sha256) {
        return Some("{secret} can only be used in the content of the algorithm sha256, and is required there");
    }
    if required().chain(timed()).any(|r| *r == Reference::Secret) {
        return Some("a secret cannot be compared with a part of the request; use it in the content of a plain sha256");
    }
    if timed().any(|place| !rule.signs(place)) {
        return Some(
            "the timestamp is not a part of the signed content, so anyone can change it; add it to the content",
        );
    }
    if rule.require.iter().any(|equality| !rule.signs(&equality.left)) {
        return Some("a requirement compares a value that is not signed, so anyone can change it");
    }
    let has_url_forms = !rule.urls.is_empty() || !rule.queries.is_empty();
    if has_url_forms && !content().any(|r| *r == Reference::Url) {
        return Some("URL forms are set, but the URL is not signed; add {url} to the content");
    }
    let names_certificate = matches!(rule.key_encoding, KeyEncoding::Certificate { .. });
    if names_certificate == rule.hosts.is_empty() {
        return Some(
            "`hosts` is required for keys of the form x509url:, because otherwise a request could name any \
             certificate; remove it for other keys",
        );
    }
    if names_certificate && rule.each.is_some() {
        return Some("a request has one certificate, so a key x509url cannot be combined with each");
    }
    if rule.key_encoding.is_published() && !content().chain(required()).any(|r| matches!(r, Reference::Setting(_))) {
        return Some(
            "the provider uses these keys for all its customers; require a signed value that equals a setting of the \
             source",
        );
    }
    if [&rule.signature.list, &rule.signature.separator].into_iter().flatten().any(String::is_empty) {
        return Some("the separators of the signature header are empty; omit them if there are none");
    }
    None
}

fn fits(rule: &MacRule) -> bool {
    let encoding = &rule.key_encoding;
    match rule.algorithm {
        Algorithm::HmacSha1 | Algorithm::HmacSha256 | Algorithm::HmacSha512 => {
            matches!(encoding, KeyEncoding::Utf8 | KeyEncoding::Base64 | KeyEncoding::Hex | KeyEncoding::StandardSecret)
        }
        Algorithm::Sha256 => *encoding == KeyEncoding::Utf8,
        Algorithm::Ed25519 if !is_of_any_kind(encoding) => {
            matches!(encoding, KeyEncoding::Base64 | KeyEncoding::Hex | KeyEncoding::StandardPublicKey)
        }
        Algorithm::Ed25519 | Algorithm::EcdsaP256Sha256Der | Algorithm::RsaPkcs1Sha1 | Algorithm::RsaPkcs1Sha256 => {
            is_of_any_kind(encoding)
        }
    }
}

/// Whether the encoding itself names the kind of a public key.
fn is_of_any_kind(encoding: &KeyEncoding) -> bool {
    matches!(encoding, KeyEncoding::Spki | KeyEncoding::KeySet { .. } | KeyEncoding::Certificate { .. })
}

fn is_for_replies(reference: &Reference) -> bool {
    matches!(reference, Reference::HmacHex(_) | Reference::HmacBase64(_) | Reference::Sha256HexOf(_))
}

/// Whether the value differs between two requests to one source.
fn is_of_the_request(reference: &Reference) -> bool {
    !matches!(reference, Reference::Secret | Reference::Setting(_) | Reference::Literal(_) | Reference::Method)
}
