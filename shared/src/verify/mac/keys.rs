//! The keys of a rule, and the search for the one that made a signature.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use crate::scheme::key_encoding::KeyEncoding;
use crate::scheme::reference::Reference;
use crate::scheme::rule::Algorithm;
use crate::scheme::template::Part;
use crate::secret::Secret;
use crate::verify::Incoming;
use crate::verify::key::KeyError;
use crate::verify::key::RefusedSecret;
use crate::verify::key_set::KeySet;
use crate::verify::platform::PlatformAlgorithm;
use crate::verify::public_key::{PublicKey, SignatureAlgorithm};
use crate::verify::rejection::Rejection;
use crate::verify::signature::Candidate;

/// The keys of one algorithm.
#[derive(Clone)]
pub(super) enum Keys {
    HmacSha1(Vec<Numbered<HmacKey<Hmac<Sha1>>>>),
    HmacSha256(Vec<Numbered<HmacKey<Hmac<Sha256>>>>),
    HmacSha512(Vec<Numbered<HmacKey<Hmac<Sha512>>>>),
    /// The bytes that replace `{secret}`.
    Sha256(Vec<Numbered<Vec<u8>>>),
    Public(SignatureAlgorithm, Vec<Numbered<PublicKey>>),
    /// The provider's published keys, which come with each request.
    Published(SignatureAlgorithm),
}

/// A key of an HMAC: a state that has absorbed it, and its bytes for the platform.
#[derive(Clone)]
pub(super) struct HmacKey<M> {
    mac: M,
    bytes: Vec<u8>,
}

/// A key and the index of its secret in the source's list.
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

/// How many bytes a signature of an algorithm has.
pub(super) fn signature_bytes(algorithm: Algorithm) -> RangeInclusive<usize> {
    match algorithm {
        Algorithm::HmacSha1 => 20..=20,
        Algorithm::HmacSha256 | Algorithm::Sha256 => 32..=32,
        Algorithm::HmacSha512 => 64..=64,
        Algorithm::Ed25519 => SignatureAlgorithm::Ed25519.lengths(),
        Algorithm::EcdsaP256Sha256Der => SignatureAlgorithm::P256Der.lengths(),
        Algorithm::RsaPkcs1Sha1 => SignatureAlgorithm::RsaSha1.lengths(),
        Algorithm::RsaPkcs1Sha256 => SignatureAlgorithm::RsaSha256.lengths(),
    }
}

impl Keys {
    /// The secrets that are keys, and the others with their faults.
    pub(super) fn new(
        algorithm: Algorithm,
        encoding: &KeyEncoding,
        secrets: &[(usize, &Secret)],
    ) -> (Self, Vec<RefusedSecret>) {
        let mut refused = Vec::new();
        let public = |algorithm, refused: &mut Vec<RefusedSecret>| public(algorithm, encoding, secrets, refused);
        let keys = match algorithm {
            Algorithm::HmacSha1 => Self::HmacSha1(take(secrets, &mut refused, |secret| hmac(encoding, secret))),
            Algorithm::HmacSha256 => Self::HmacSha256(take(secrets, &mut refused, |secret| hmac(encoding, secret))),
            Algorithm::HmacSha512 => Self::HmacSha512(take(secrets, &mut refused, |secret| hmac(encoding, secret))),
            Algorithm::Sha256 => Self::Sha256(take(secrets, &mut refused, |secret| encoding.hmac_key(secret))),
            Algorithm::Ed25519 => public(SignatureAlgorithm::Ed25519, &mut refused),
            Algorithm::EcdsaP256Sha256Der => public(SignatureAlgorithm::P256Der, &mut refused),
            Algorithm::RsaPkcs1Sha1 => public(SignatureAlgorithm::RsaSha1, &mut refused),
            Algorithm::RsaPkcs1Sha256 => public(SignatureAlgorithm::RsaSha256, &mut refused),
        };
        (keys, refused)
    }

    /// The number of keys; `None` if they come from a published key set.
    pub(super) fn count(&self) -> Option<usize> {
        match self {
            Self::HmacSha1(keys) => Some(keys.len()),
            Self::HmacSha256(keys) => Some(keys.len()),
            Self::HmacSha512(keys) => Some(keys.len()),
            Self::Sha256(keys) => Some(keys.len()),
            Self::Public(_, keys) => Some(keys.len()),
            Self::Published(_) => None,
        }
    }

    /// The same, counting the published key set if it is available.
    pub(super) fn count_with(&self, published: Option<&KeySet>) -> usize {
        self.count().unwrap_or_else(|| published.map_or(0, KeySet::len))
    }

    /// The index of the secret, or of the published key, that made one of the candidates over this content. The pieces
    /// of the content correspond to the parts of the template.
    pub(super) fn find(
        &self,
        incoming: &Incoming<'_>,
        parts: &[Part],
        content: &[Cow<'_, [u8]>],
        candidates: &[Candidate],
    ) -> Result<Option<usize>, Rejection> {
        Ok(match self {
            Self::HmacSha1(keys) => match_hmac(keys, content, candidates),
            Self::HmacSha256(keys) => match_hmac(keys, content, candidates),
            Self::HmacSha512(keys) => match_hmac(keys, content, candidates),
            Self::Sha256(keys) => match_digest(keys, parts, content, candidates),
            Self::Public(algorithm, keys) => {
                let input = algorithm.input(content);
                let verifies =
                    |key: &PublicKey| candidates.iter().any(|one| key.verifies(*algorithm, &input, one.bytes()));
                keys.iter().find(|numbered| verifies(&numbered.key)).map(|numbered| numbered.secret)
            }
            Self::Published(algorithm) => {
                let keys = incoming.keys.ok_or(Rejection::KeysUnavailable)?;
                let signatures = candidates.iter().map(Candidate::bytes);
                match keys.find(*algorithm, None, &algorithm.input(content), signatures, incoming.now_ms) {
                    Ok(place) => Some(place),
                    Err(Rejection::SignatureMismatch { .. }) => None,
                    Err(rejection) => return Err(rejection),
                }
            }
        })
    }

    /// The keys in the form that the platform imports; `None` if the platform must not get them, or they are not
    /// available.
    pub(super) fn for_platform(&self, incoming: &Incoming<'_>) -> Option<(PlatformAlgorithm, Vec<Vec<u8>>)> {
        fn bytes<M>(keys: &[Numbered<HmacKey<M>>]) -> Vec<Vec<u8>> {
            keys.iter().map(|numbered| numbered.key.bytes.clone()).collect()
        }
        let (algorithm, keys) = match self {
            Self::HmacSha1(keys) => return Some((PlatformAlgorithm::HmacSha1, bytes(keys))),
            Self::HmacSha256(keys) => return Some((PlatformAlgorithm::HmacSha256, bytes(keys))),
            Self::HmacSha512(keys) => return Some((PlatformAlgorithm::HmacSha512, bytes(keys))),
            Self::Sha256(_) => return None,
            Self::Public(algorithm, keys) => (algorithm, keys.iter().map(|numbered| &numbered.key).collect()),
            Self::Published(algorithm) => (algorithm, incoming.keys?.valid(*algorithm, incoming.now_ms)),
        };
        Some((PlatformAlgorithm::of(*algorithm)?, keys.into_iter().filter_map(PublicKey::raw).collect()))
    }

    /// A signature in the form that the platform accepts; `None` if no key could have made it.
    pub(super) fn signature_for_platform(&self, signature: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::HmacSha1(_) | Self::HmacSha256(_) | Self::HmacSha512(_) | Self::Sha256(_) => Some(signature.to_vec()),
            Self::Public(algorithm, _) | Self::Published(algorithm) => algorithm.raw_signature(signature),
        }
    }
}

fn public(
    algorithm: SignatureAlgorithm,
    encoding: &KeyEncoding,
    secrets: &[(usize, &Secret)],
    refused: &mut Vec<RefusedSecret>,
) -> Keys {
    if encoding.is_published() {
        let unused = secrets.iter().map(|(secret, _)| RefusedSecret { secret: *secret, why: KeyError::NotUsed });
        refused.extend(unused);
        return Keys::Published(algorithm);
    }
    let key = |secret: &str| {
        encoding.public_key(secret).and_then(|key| algorithm.takes(&key).then_some(key).ok_or(KeyError::NotUsable))
    };
    Keys::Public(algorithm, take(secrets, refused, key))
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

fn hmac<M: KeyInit>(encoding: &KeyEncoding, secret: &str) -> Result<HmacKey<M>, KeyError> {
    let bytes = encoding.hmac_key(secret)?;
    let mac = M::new_from_slice(&bytes).map_err(|_| KeyError::Empty)?;
    Ok(HmacKey { mac, bytes })
}

fn match_hmac<M: Mac + Clone>(
    keys: &[Numbered<HmacKey<M>>],
    content: &[Cow<'_, [u8]>],
    candidates: &[Candidate],
) -> Option<usize> {
    keys.iter().find_map(|numbered| {
        let mut mac = numbered.key.mac.clone();
        for piece in content {
            mac.update(piece);
        }
        let tag = mac.finalize().into_bytes();
        is_among(&tag, candidates).then_some(numbered.secret)
    })
}

/// A digest that begins with the secret can be extended by anyone who has seen one: the signature of a longer body
/// follows from that of its beginning. The bytes that have to come between the two are not UTF-8, so a body that is not
/// text is not accepted.
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

/// `ct_eq` never finds slices of unequal length equal; the candidates have the algorithm's exact length.
fn is_among(tag: &[u8], candidates: &[Candidate]) -> bool {
    candidates.iter().any(|candidate| tag.ct_eq(candidate.bytes()).into())
}
