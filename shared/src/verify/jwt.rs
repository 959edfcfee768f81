//! Verifying a signed JSON Web Token (RFC 7519, RFC 7515) that the request carries.
//!
//! The token says with which algorithm it is signed. That only chooses among the algorithms of the rule, all of which
//! fit the kind of key that the rule names: a token never decides what a key is.

mod check;
mod claims;
mod compact;
mod steps;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::{Sha256, Sha384, Sha512};

use super::key::{KeyError, RefusedSecret};
use super::key_location::{KeyForm, KeyLocation};
use super::key_set::KeySet;
use super::public_key::SignatureAlgorithm;
use super::rejection::Rejection;
use super::request::{Joins, RequestParts, View};
use super::token::after_prefix;
use super::{ConfigError, Incoming, Verified};
use crate::scheme::jwt::{JwtAlgorithm, JwtRule};
use crate::scheme::key_encoding::KeyEncoding;
use crate::secret::Secret;
use check::check_rule;
use claims::{check_claims, check_times};
use compact::Compact;

/// The longest name of a key that is sent to Plaid, in bytes.
const MAX_KEY_ID_BYTES: usize = 64;

/// A rule with its keys, ready to be used many times.
#[derive(Debug, Clone)]
pub(super) struct JwtVerifier {
    rule: JwtRule,
    keys: Keys,
}

#[derive(Clone)]
enum Keys {
    /// The keys of an HMAC, with the index of each in the source's list.
    Secrets(Vec<(usize, Vec<u8>)>),
    /// The provider's published keys, which come with each request.
    Published { url: String },
    /// The same, one at a time, for these credentials.
    Plaid { url: String, credentials: Vec<(String, String)> },
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl JwtVerifier {
    /// Makes a verifier of the rule and the secrets that are keys for it, and returns the refused secrets with their
    /// faults. Each secret comes with its index in the source's list.
    pub(super) fn new(rule: &JwtRule, secrets: &[(usize, &Secret)]) -> Result<(Self, Vec<RefusedSecret>), ConfigError> {
        check_rule(rule)?;
        let mut refused = Vec::new();
        let mut refuse = |secret: usize, why: KeyError| refused.push(RefusedSecret { secret, why });
        let keys = match &rule.key_encoding {
            KeyEncoding::KeySet { url } => {
                secrets.iter().for_each(|(secret, _)| refuse(*secret, KeyError::NotUsed));
                Keys::Published { url: url.clone() }
            }
            KeyEncoding::PlaidKey { url } => {
                let mut credentials = Vec::new();
                for (index, secret) in secrets {
                    match secret.reveal().split_once(':') {
                        Some((id, secret)) => credentials.push((id.to_owned(), secret.to_owned())),
                        None => refuse(*index, KeyError::Encoding { expected: "client_id:secret" }),
                    }
                }
                Keys::Plaid { url: url.clone(), credentials }
            }
            encoding @ (KeyEncoding::Utf8
            | KeyEncoding::Base64
            | KeyEncoding::Hex
            | KeyEncoding::StandardSecret
            | KeyEncoding::StandardPublicKey
            | KeyEncoding::Spki
            | KeyEncoding::Certificate { .. }) => {
                let mut keys = Vec::new();
                for (index, secret) in secrets {
                    match encoding.hmac_key(secret.reveal()) {
                        Ok(key) => keys.push((*index, key)),
                        Err(why) => refuse(*index, why),
                    }
                }
                Keys::Secrets(keys)
            }
        };
        Ok((Self { rule: rule.clone(), keys }, refused))
    }

    /// Whether the rule needs a secret and has none.
    pub(super) fn is_without_key(&self) -> bool {
        match &self.keys {
            Keys::Secrets(keys) => keys.is_empty(),
            Keys::Published { .. } => false,
            Keys::Plaid { credentials, .. } => credentials.is_empty(),
        }
    }

    /// The location of the key. If the token names it, only for a token that could be accepted with the right key.
    pub(super) fn key_location(
        &self,
        request: &RequestParts<'_>,
        body: &[u8],
    ) -> Result<Option<KeyLocation>, Rejection> {
        match &self.keys {
            Keys::Secrets(_) => Ok(None),
            Keys::Published { url } => Ok(Some(KeyLocation { url: url.clone(), form: KeyForm::JwkSet })),
            Keys::Plaid { url, credentials } => {
                let view = View::new(request, body, &self.rule.settings);
                let text = view.text(&self.rule.token.place, Joins::Refused)?;
                let (token, _) = self.read(&text, &view)?;
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                let key_id = token
                    .key_id
                    .filter(|id| (1..=MAX_KEY_ID_BYTES).contains(&id.len()) && id.bytes().all(plain))
                    .ok_or_else(|| Rejection::JwtMalformed { place: self.rule.token.place.clone() })?;
                let Some((client_id, secret)) = credentials.first() else { return Ok(None) };
                let body = json!({ "client_id": client_id, "secret": secret, "key_id": key_id }).to_string();
                Ok(Some(KeyLocation { url: url.clone(), form: KeyForm::Plaid { key_id, body } }))
            }
        }
    }

    /// Why the request is refused whatever its body is: it has no token.
    pub(super) fn refuse_unread(&self, incoming: &Incoming<'_>) -> Option<Rejection> {
        let place = &self.rule.token.place;
        if place.reads_body() {
            return None;
        }
        View::new(incoming.request, &[], &self.rule.settings).text(place, Joins::Refused).err()
    }

    pub(super) fn verify(&self, incoming: &Incoming<'_>) -> Result<Verified, Rejection> {
        let view = View::new(incoming.request, incoming.body, &self.rule.settings);
        let text = view.text(&self.rule.token.place, Joins::Refused)?;
        let (token, algorithm) = self.read(&text, &view)?;
        let which = match &self.keys {
            Keys::Secrets(keys) => {
                let found = keys.iter().find(|(_, key)| is_signed(algorithm, key, &token));
                found.map(|(index, _)| *index).ok_or(Rejection::SignatureMismatch { secrets: keys.len() })?
            }
            Keys::Published { .. } | Keys::Plaid { .. } => {
                let keys = incoming.keys.ok_or(Rejection::KeysUnavailable)?;
                find_key(algorithm, keys, &token, incoming.now_ms)?
            }
        };
        let stale = incoming.tolerate(check_times(&self.rule, &token.claims, incoming.now_ms))?;
        Ok(Verified::by(which).stale_if(stale))
    }

    /// The token and its algorithm, after every check that needs neither a key nor the time.
    fn read<'t>(&self, text: &'t str, view: &View<'_>) -> Result<(Compact<'t>, JwtAlgorithm), Rejection> {
        let malformed = || Rejection::JwtMalformed { place: self.rule.token.place.clone() };
        let token = after_prefix(text, &self.rule.token.strip).and_then(Compact::parse).ok_or_else(malformed)?;
        let algorithm = self.rule.algorithms.iter().find(|algorithm| algorithm.name() == token.algorithm);
        let algorithm = *algorithm.ok_or(Rejection::JwtAlgorithm)?;
        check_claims(&self.rule, &token.claims, view)?;
        Ok((token, algorithm))
    }
}

fn is_signed(algorithm: JwtAlgorithm, key: &[u8], token: &Compact<'_>) -> bool {
    // `verify_slice` takes the whole tag only, and compares in constant time.
    macro_rules! verifies {
        ($hash:ty) => {
            Hmac::<$hash>::new_from_slice(key)
                .is_ok_and(|mac| mac.chain_update(token.signed).verify_slice(&token.signature).is_ok())
        };
    }
    match algorithm {
        JwtAlgorithm::HS256 => verifies!(Sha256),
        JwtAlgorithm::HS384 => verifies!(Sha384),
        JwtAlgorithm::HS512 => verifies!(Sha512),
        JwtAlgorithm::RS256 | JwtAlgorithm::ES256 => false,
    }
}

fn find_key(algorithm: JwtAlgorithm, keys: &KeySet, token: &Compact<'_>, now_ms: u64) -> Result<usize, Rejection> {
    let algorithm = match algorithm {
        JwtAlgorithm::RS256 => SignatureAlgorithm::RsaSha256,
        JwtAlgorithm::ES256 => SignatureAlgorithm::P256Raw,
        JwtAlgorithm::HS256 | JwtAlgorithm::HS384 | JwtAlgorithm::HS512 => return Err(Rejection::JwtAlgorithm),
    };
    let input = algorithm.input(&[Cow::Borrowed(token.signed.as_bytes())]);
    let signature = std::iter::once(token.signature.as_slice());
    keys.find(algorithm, token.key_id.as_deref(), &input, signature, now_ms)
}
