//! The keys of a rule, and the search for the one that made a signature.

use std::borrow::Cow;

use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use crate::source::Secret;
use crate::verify::RefusedSecret;
use crate::verify::key::{KeyEncoding, KeyError};
use crate::verify::key_set::KeySet;
use crate::verify::reference::Reference;
use crate::verify::rejection::Rejection;
use crate::verify::rule::Algorithm;
use crate::verify::signature::Candidate;
use crate::verify::template::Part;

/// The keys of one algorithm. Those of an HMAC are states that have already taken in the key.
#[derive(Clone)]
pub(super) enum Keys {
    HmacSha1(Vec<Numbered<Hmac<Sha1>>>),
    HmacSha256(Vec<Numbered<Hmac<Sha256>>>),
    HmacSha512(Vec<Numbered<Hmac<Sha512>>>),
    /// The bytes that stand for `{secret}`.
    Sha256(Vec<Numbered<Vec<u8>>>),
    Ed25519(Vec<Numbered<VerifyingKey>>),
    /// The provider's published keys, which come with each request.
    KeySet,
}

/// A key and the place of its secret in the source's list.
#[derive(Clone)]
pub(super) struct Numbered<K> {
    secret: usize,
    key: K,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// The length of a signature of an algorithm, in bytes.
pub(super) fn signature_bytes(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::HmacSha1 => 20,
        Algorithm::HmacSha256 | Algorithm::Sha256 => 32,
        Algorithm::HmacSha512 | Algorithm::Ed25519 => 64,
    }
}

impl Keys {
    /// Those of the secrets that are keys, and the others with what is wrong with each.
    pub(super) fn new(
        algorithm: Algorithm,
        encoding: &KeyEncoding,
        secrets: &[(usize, &Secret)],
    ) -> (Self, Vec<RefusedSecret>) {
        let mut refused = Vec::new();
        let keys = match (algorithm, encoding) {
            (Algorithm::Ed25519, KeyEncoding::KeySet { .. }) => {
                let unused =
                    secrets.iter().map(|(secret, _)| RefusedSecret { secret: *secret, why: KeyError::NotUsed });
                refused.extend(unused);
                Self::KeySet
            }
            (Algorithm::Ed25519, _) => Self::Ed25519(take(secrets, &mut refused, |secret| encoding.public_key(secret))),
            (Algorithm::HmacSha1, _) => Self::HmacSha1(take(secrets, &mut refused, |secret| hmac(encoding, secret))),
            (Algorithm::HmacSha256, _) => {
                Self::HmacSha256(take(secrets, &mut refused, |secret| hmac(encoding, secret)))
            }
            (Algorithm::HmacSha512, _) => {
                Self::HmacSha512(take(secrets, &mut refused, |secret| hmac(encoding, secret)))
            }
            (Algorithm::Sha256, _) => Self::Sha256(take(secrets, &mut refused, |secret| encoding.hmac_key(secret))),
        };
        (keys, refused)
    }

    /// How many keys there are; `None` where they come from a published key set.
    pub(super) fn count(&self) -> Option<usize> {
        match self {
            Self::HmacSha1(keys) => Some(keys.len()),
            Self::HmacSha256(keys) => Some(keys.len()),
            Self::HmacSha512(keys) => Some(keys.len()),
            Self::Sha256(keys) => Some(keys.len()),
            Self::Ed25519(keys) => Some(keys.len()),
            Self::KeySet => None,
        }
    }

    /// The same, where the published key set is at hand.
    pub(super) fn count_with(&self, published: Option<&KeySet>) -> usize {
        self.count().unwrap_or_else(|| published.map_or(0, |published| published.keys().len()))
    }

    /// The place of the secret, or of the published key, that made one of the candidates over this content. The pieces of
    /// the content go with the parts of the template.
    pub(super) fn find(
        &self,
        published: Option<&KeySet>,
        parts: &[Part],
        content: &[Cow<'_, [u8]>],
        candidates: &[Candidate],
    ) -> Result<Option<usize>, Rejection> {
        Ok(match self {
            Self::HmacSha1(keys) => match_hmac(keys, content, candidates),
            Self::HmacSha256(keys) => match_hmac(keys, content, candidates),
            Self::HmacSha512(keys) => match_hmac(keys, content, candidates),
            Self::Sha256(keys) => match_digest(keys, parts, content, candidates),
            Self::Ed25519(keys) => {
                let numbered = keys.iter().map(|numbered| (numbered.secret, &numbered.key));
                match_ed25519(numbered, content, candidates)
            }
            Self::KeySet => {
                let keys = published.ok_or(Rejection::KeysUnavailable)?.keys();
                match_ed25519(keys.iter().enumerate(), content, candidates)
            }
        })
    }
}

fn take<K>(
    secrets: &[(usize, &Secret)],
    refused: &mut Vec<RefusedSecret>,
    decode: impl Fn(&str) -> Result<K, KeyError>,
) -> Vec<Numbered<K>> {
    let mut keys = Vec::with_capacity(secrets.len());
    for (index, secret) in secrets {
        match decode(secret.reveal()) {
            Ok(key) => keys.push(Numbered { secret: *index, key }),
            Err(why) => refused.push(RefusedSecret { secret: *index, why }),
        }
    }
    keys
}

fn hmac<M: KeyInit>(encoding: &KeyEncoding, secret: &str) -> Result<M, KeyError> {
    M::new_from_slice(&encoding.hmac_key(secret)?).map_err(|_| KeyError::Empty)
}

fn match_hmac<M: Mac + Clone>(
    keys: &[Numbered<M>],
    content: &[Cow<'_, [u8]>],
    candidates: &[Candidate],
) -> Option<usize> {
    keys.iter().find_map(|numbered| {
        let mut mac = numbered.key.clone();
        for piece in content {
            mac.update(piece);
        }
        let tag = mac.finalize().into_bytes();
        is_among(&tag, candidates).then_some(numbered.secret)
    })
}

/// A digest that begins with the secret can be carried on by whoever has seen one: the signature of a longer body follows
/// from that of its beginning. What has to stand between the two is no UTF-8, so a body that is not text is not accepted.
fn match_digest(
    keys: &[Numbered<Vec<u8>>],
    parts: &[Part],
    content: &[Cow<'_, [u8]>],
    candidates: &[Candidate],
) -> Option<usize> {
    let is = |part: &Part, wanted: &Reference| matches!(part, Part::Reference(reference) if reference == wanted);
    let pieces = || parts.iter().zip(content);
    if pieces().any(|(part, piece)| is(part, &Reference::Body) && std::str::from_utf8(piece).is_err()) {
        return None;
    }
    keys.iter().find_map(|numbered| {
        let mut hash = Sha256::new();
        for (part, piece) in pieces() {
            hash.update(if is(part, &Reference::Secret) { &numbered.key } else { piece.as_ref() });
        }
        is_among(&hash.finalize(), candidates).then_some(numbered.secret)
    })
}

/// Slices of unequal length are never equal to `ct_eq`; the candidates have the algorithm's exact length.
fn is_among(tag: &[u8], candidates: &[Candidate]) -> bool {
    candidates.iter().any(|candidate| tag.ct_eq(candidate.bytes()).into())
}

fn match_ed25519<'k>(
    keys: impl Iterator<Item = (usize, &'k VerifyingKey)>,
    content: &[Cow<'_, [u8]>],
    candidates: &[Candidate],
) -> Option<usize> {
    let message = content.concat();
    let signatures: Vec<_> = candidates.iter().filter_map(|c| Signature::from_slice(c.bytes()).ok()).collect();
    let mut keys = keys;
    keys.find_map(|(index, key)| {
        signatures.iter().any(|signature| key.verify_strict(&message, signature).is_ok()).then_some(index)
    })
}
