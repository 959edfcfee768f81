//! Verifying a signature over the request.

use std::borrow::Cow;

use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use super::key::{KeyEncoding, KeyError};
use super::key_set::KeySet;
use super::reference::Reference;
use super::rejection::Rejection;
use super::request::{Joins, RequestParts, View};
use super::rule::{Algorithm, MacRule};
use super::signature::{Candidate, SignatureValue};
use super::template::Part;
use super::{ConfigError, RefusedSecret, Verified};
use crate::source::Secret;

/// A rule with its keys, ready to be used many times.
#[derive(Debug, Clone)]
pub(super) struct MacVerifier {
    rule: MacRule,
    keys: Keys,
    /// The length of a signature of the rule's algorithm.
    signature_bytes: usize,
}

/// The keys of one algorithm. Those of an HMAC are states that have already taken in the key.
#[derive(Clone)]
enum Keys {
    HmacSha1(Vec<Numbered<Hmac<Sha1>>>),
    HmacSha256(Vec<Numbered<Hmac<Sha256>>>),
    HmacSha512(Vec<Numbered<Hmac<Sha512>>>),
    Ed25519(Vec<Numbered<VerifyingKey>>),
    /// The provider's published keys, which come with each request.
    KeySet,
}

/// A key and the place of its secret in the source's list.
#[derive(Clone)]
struct Numbered<K> {
    secret: usize,
    key: K,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl MacVerifier {
    /// Takes the rule with those of the secrets that are keys for it, and the others with what is wrong with each.
    pub(super) fn new(rule: &MacRule, secrets: &[Secret]) -> Result<(Self, Vec<RefusedSecret>), ConfigError> {
        check_rule(rule)?;
        let mut refused = Vec::new();
        let encoding = &rule.key_encoding;
        let keys = match (rule.algorithm, encoding) {
            (Algorithm::Ed25519, KeyEncoding::KeySet { .. }) => {
                refused.extend((0..secrets.len()).map(|secret| RefusedSecret { secret, why: KeyError::NotUsed }));
                Keys::KeySet
            }
            (Algorithm::Ed25519, _) => Keys::Ed25519(take(secrets, &mut refused, |secret| encoding.public_key(secret))),
            (Algorithm::HmacSha1, _) => Keys::HmacSha1(take(secrets, &mut refused, |secret| hmac(encoding, secret))),
            (Algorithm::HmacSha256, _) => {
                Keys::HmacSha256(take(secrets, &mut refused, |secret| hmac(encoding, secret)))
            }
            (Algorithm::HmacSha512, _) => {
                Keys::HmacSha512(take(secrets, &mut refused, |secret| hmac(encoding, secret)))
            }
        };
        let signature_bytes = match rule.algorithm {
            Algorithm::HmacSha1 => 20,
            Algorithm::HmacSha256 => 32,
            Algorithm::HmacSha512 | Algorithm::Ed25519 => 64,
        };
        Ok((Self { rule: rule.clone(), keys, signature_bytes }, refused))
    }

    /// How many keys it holds; `None` where they come from a published key set.
    pub(super) fn key_count(&self) -> Option<usize> {
        match &self.keys {
            Keys::HmacSha1(keys) => Some(keys.len()),
            Keys::HmacSha256(keys) => Some(keys.len()),
            Keys::HmacSha512(keys) => Some(keys.len()),
            Keys::Ed25519(keys) => Some(keys.len()),
            Keys::KeySet => None,
        }
    }

    pub(super) fn key_set_url(&self) -> Option<&str> {
        match &self.rule.key_encoding {
            KeyEncoding::KeySet { url } => Some(url),
            KeyEncoding::Utf8
            | KeyEncoding::Base64
            | KeyEncoding::Hex
            | KeyEncoding::StandardSecret
            | KeyEncoding::StandardPublicKey => None,
        }
    }

    pub(super) fn verify(
        &self,
        published: Option<&KeySet>,
        request: &RequestParts<'_>,
        body: &[u8],
        now_ms: u64,
    ) -> Result<Verified, Rejection> {
        let rule = &self.rule;
        let view = View::new(request, body, &rule.settings);
        let joins = if rule.signature.blanks { Joins::Allowed } else { Joins::Refused };
        let text = view.text(&rule.signature.place, joins)?;
        let reader = Reader { view: &view, signature: SignatureValue::new(&rule.signature, &text) };

        let candidates = reader.signature.candidates(self.signature_bytes)?;
        if let Some(timestamp) = &rule.timestamp {
            timestamp.check(&reader.text(&timestamp.place)?, now_ms)?;
        }
        for equality in &rule.require {
            // What is compared is known to the sender, so time tells nothing.
            if reader.text(&equality.left)? != reader.text(&equality.right)? {
                return Err(Rejection::RequirementFailed { reference: equality.left.clone() });
            }
        }
        let content = reader.content(rule)?;

        let (found, keys) = match &self.keys {
            Keys::HmacSha1(keys) => (match_hmac(keys, &content, &candidates), keys.len()),
            Keys::HmacSha256(keys) => (match_hmac(keys, &content, &candidates), keys.len()),
            Keys::HmacSha512(keys) => (match_hmac(keys, &content, &candidates), keys.len()),
            Keys::Ed25519(keys) => {
                let numbered = keys.iter().map(|numbered| (numbered.secret, &numbered.key));
                (match_ed25519(numbered, &content, &candidates), keys.len())
            }
            Keys::KeySet => {
                let keys = published.ok_or(Rejection::KeysUnavailable)?.keys();
                (match_ed25519(keys.iter().enumerate(), &content, &candidates), keys.len())
            }
        };
        found.map(Verified::by).ok_or(Rejection::SignatureMismatch { secrets: keys })
    }
}

/// What is wrong with a rule itself, whatever the secrets.
fn check_rule(rule: &MacRule) -> Result<(), ConfigError> {
    let wrong = |why: &str| Err(ConfigError::Rule { why: why.to_owned() });
    let fits = match (rule.algorithm, &rule.key_encoding) {
        (
            Algorithm::HmacSha1 | Algorithm::HmacSha256 | Algorithm::HmacSha512,
            KeyEncoding::Utf8 | KeyEncoding::Base64 | KeyEncoding::Hex | KeyEncoding::StandardSecret,
        )
        | (
            Algorithm::Ed25519,
            KeyEncoding::Base64 | KeyEncoding::Hex | KeyEncoding::StandardPublicKey | KeyEncoding::KeySet { .. },
        ) => true,
        (
            Algorithm::HmacSha1 | Algorithm::HmacSha256 | Algorithm::HmacSha512,
            KeyEncoding::StandardPublicKey | KeyEncoding::KeySet { .. },
        )
        | (Algorithm::Ed25519, KeyEncoding::Utf8 | KeyEncoding::StandardSecret) => false,
    };
    if !fits {
        return wrong("the key encoding does not belong to the algorithm");
    }
    let signs_for_challenges = |r: &Reference| matches!(r, Reference::HmacHex(_) | Reference::HmacBase64(_));
    if rule.content.references().any(signs_for_challenges) {
        return wrong("hmac functions are for the replies to challenges, not for signed content");
    }
    if rule.content.references().next().is_none() {
        return wrong("the signed content is the same for every request; put {body} into it");
    }
    match &rule.timestamp {
        Some(timestamp) if !rule.covers(&timestamp.place) => wrong(
            "the timestamp is not a part of the signed content, so anybody can change it; put it into the content",
        ),
        Some(_) | None => Ok(()),
    }?;
    if rule.require.iter().any(|equality| !rule.covers(&equality.left)) {
        return wrong("a requirement looks at something that is not signed, so anybody can change it");
    }
    if [&rule.signature.list, &rule.signature.separator].into_iter().flatten().any(String::is_empty) {
        return wrong("the separators of the signature header are empty; leave them out where there are none");
    }
    Ok(())
}

fn take<K>(
    secrets: &[Secret],
    refused: &mut Vec<RefusedSecret>,
    decode: impl Fn(&str) -> Result<K, KeyError>,
) -> Vec<Numbered<K>> {
    let mut keys = Vec::with_capacity(secrets.len());
    for (index, secret) in secrets.iter().enumerate() {
        match decode(secret.reveal()) {
            Ok(key) => keys.push(Numbered { secret: index, key }),
            Err(why) => refused.push(RefusedSecret { secret: index, why }),
        }
    }
    keys
}

fn hmac<M: KeyInit>(encoding: &KeyEncoding, secret: &str) -> Result<M, KeyError> {
    M::new_from_slice(&encoding.hmac_key(secret)?).map_err(|_| KeyError::Empty)
}

/// Resolves references, those to the fields of the signature header included.
struct Reader<'v> {
    view: &'v View<'v>,
    signature: SignatureValue<'v>,
}

impl<'v> Reader<'v> {
    fn text(&self, reference: &Reference) -> Result<Cow<'v, str>, Rejection> {
        match self.field(reference) {
            Some(field) => field.map(Cow::Borrowed),
            None => self.view.text(reference, Joins::Refused),
        }
    }

    fn bytes(&self, reference: &Reference) -> Result<Cow<'v, [u8]>, Rejection> {
        match self.field(reference) {
            Some(field) => field.map(|text| Cow::Borrowed(text.as_bytes())),
            None => self.view.bytes(reference),
        }
    }

    fn field(&self, reference: &Reference) -> Option<Result<&'v str, Rejection>> {
        match reference {
            Reference::SignatureField(name) => Some(self.signature.field(name)),
            Reference::SignatureEntry(index) => Some(self.signature.entry(*index)),
            Reference::Header(_)
            | Reference::Json { .. }
            | Reference::Query(_)
            | Reference::Body
            | Reference::BodySha256Hex
            | Reference::BodySha256Raw
            | Reference::Url
            | Reference::Method
            | Reference::Setting(_)
            | Reference::HmacHex(_)
            | Reference::HmacBase64(_) => None,
        }
    }

    /// The pieces of the signed content, in order, without copying them together.
    ///
    /// A header that stands before a literal may not contain it: `{id}.{time}.{body}` with a `.` in the id could be read
    /// in two ways, and a signature over one of them would be a signature over the other.
    fn content<'r>(&self, rule: &'r MacRule) -> Result<Vec<Cow<'r, [u8]>>, Rejection>
    where
        'v: 'r,
    {
        let parts = rule.content.parts();
        let mut pieces = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            match part {
                Part::Literal(text) => pieces.push(Cow::Borrowed(text.as_bytes())),
                Part::Reference(reference) => {
                    let piece = self.bytes(reference)?;
                    if let Some(Part::Literal(separator)) = parts.get(index + 1)
                        && is_of_a_header(reference)
                        && contains(&piece, separator.as_bytes())
                    {
                        let (reference, separator) = (reference.clone(), separator.clone());
                        return Err(Rejection::SeparatorInside { reference, separator });
                    }
                    pieces.push(piece);
                }
            }
        }
        Ok(pieces)
    }
}

fn is_of_a_header(reference: &Reference) -> bool {
    matches!(reference, Reference::Header(_) | Reference::SignatureField(_) | Reference::SignatureEntry(_))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
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
        // Slices of unequal length are never equal to `ct_eq`; the candidates have the algorithm's exact length.
        candidates.iter().any(|candidate| tag.as_slice().ct_eq(candidate.bytes()).into()).then_some(numbered.secret)
    })
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
