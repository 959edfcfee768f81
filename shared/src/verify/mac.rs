//! Verifying a signature over the request.

mod check;
mod content;
mod keys;
mod steps;

use std::borrow::Cow;
use std::ops::RangeInclusive;

use super::each::verify_each;
use super::key::RefusedSecret;
use super::key_location::{KeyForm, KeyLocation};
use super::platform::PlatformCheck;
use super::rejection::Rejection;
use super::request::{Joins, RequestParts, View};
use super::signature::{Candidate, MAX_SIGNATURES, SignatureValue};
use super::{ConfigError, Incoming, Verified};
use crate::reader;
use crate::scheme::host::is_certificate_url;
use crate::scheme::key_encoding::KeyEncoding;
use crate::scheme::reference::Reference;
use crate::scheme::rule::MacRule;
use crate::scheme::template::Part;
use crate::scheme::url_form::{MAX_RESPELLED_BYTES, first_match, has_other_forms};
use crate::secret::Secret;
use content::Reader;
use keys::Keys;

/// A rule with its keys, ready to be used many times.
#[derive(Debug, Clone)]
pub(super) struct MacVerifier {
    rule: MacRule,
    keys: Keys,
    /// How many bytes a signature of the rule's algorithm has.
    signature_bytes: RangeInclusive<usize>,
}

impl MacVerifier {
    /// Makes a verifier of the rule and the secrets that are keys for it, and returns the refused secrets with their
    /// faults. Each secret comes with its index in the source's list.
    pub(super) fn new(rule: &MacRule, secrets: &[(usize, &Secret)]) -> Result<(Self, Vec<RefusedSecret>), ConfigError> {
        check::check_rule(rule)?;
        let (keys, refused) = Keys::new(rule.algorithm, &rule.key_encoding, secrets);
        Ok((Self { rule: rule.clone(), keys, signature_bytes: keys::signature_bytes(rule.algorithm) }, refused))
    }

    /// The number of its keys; `None` if they come from a published key set.
    pub(super) fn key_count(&self) -> Option<usize> {
        self.keys.count()
    }

    /// The location of the published keys. If the request names its key, only for a request that could be accepted with
    /// it.
    pub(super) fn key_location(
        &self,
        request: &RequestParts<'_>,
        body: &[u8],
    ) -> Result<Option<KeyLocation>, Rejection> {
        match &self.rule.key_encoding {
            KeyEncoding::KeySet { url } => Ok(Some(KeyLocation { url: url.clone(), form: KeyForm::JwkSet })),
            KeyEncoding::Certificate { .. } => {
                let body = self.body(request, body);
                let view = View::new(request, &body, &self.rule.settings);
                let texts = self.signature_texts(&view)?;
                self.candidates(&texts)?;
                let reader = self.reader(&view, &texts);
                self.check_fields(&reader)?;
                reader.content(self.rule.content.parts())?;
                let url = self.certificate_url(&reader)?;
                Ok(url.map(|url| KeyLocation { url: url.into_owned(), form: KeyForm::Certificate }))
            }
            KeyEncoding::Utf8
            | KeyEncoding::Base64
            | KeyEncoding::Hex
            | KeyEncoding::StandardSecret
            | KeyEncoding::StandardPublicKey
            | KeyEncoding::Spki
            | KeyEncoding::PlaidKey { .. } => Ok(None),
        }
    }

    /// Whether it verifies with public keys.
    pub(super) const fn has_public_keys(&self) -> bool {
        self.rule.algorithm.of_public_key().is_some()
    }

    /// The check that is left to the platform, if only the signature needs the body.
    pub(super) fn platform_check(&self, incoming: &Incoming<'_>) -> Option<PlatformCheck> {
        let rule = &self.rule;
        let parts = rule.content.parts();
        let at = parts.iter().position(|part| *part == Part::Reference(Reference::Body))?;
        let others = rule.content.references().filter(|reference| **reference != Reference::Body);
        let required = rule.require.iter().flat_map(|equality| [&equality.left, &equality.right]);
        let timed = rule.timestamp.iter().map(|timestamp| &timestamp.place);
        let bodies = rule.content.references().filter(|reference| **reference == Reference::Body).count();
        let elsewhere = others.chain(required).chain(timed).chain([&rule.signature.place]).any(Reference::reads_body);
        if bodies > 1 || elsewhere || rule.each.is_some() || !rule.urls.is_empty() || rule.decoded {
            return None;
        }
        // This comes before the head is read: for RSA, and without keys, reading it would be in vain.
        let (algorithm, keys) = self.keys.for_platform(incoming)?;
        let view = View::new(incoming.request, &[], &rule.settings);
        if rule.content.references().any(Reference::reads_url) && has_other_forms(&view.url(), &rule.queries) {
            return None;
        }
        let texts = self.signature_texts(&view).ok()?;
        let reader = self.reader(&view, &texts);
        let candidates = self.candidates(&texts).ok()?;
        let stale = self.check_head(incoming, &reader).ok()?;
        let pieces = reader.content(parts).ok()?;
        let text = |pieces: &[Cow<'_, [u8]>]| String::from_utf8(pieces.concat()).ok();
        let (before, after) = (text(pieces.get(..at)?)?, text(pieces.get(at + 1..)?)?);
        let signatures = candidates.iter().filter_map(|one| self.keys.signature_for_platform(one.bytes())).collect();
        Some(PlatformCheck { algorithm, keys, signatures, before, after, stale })
    }

    /// Why the request is refused whatever its body is.
    pub(super) fn refuse_unread(&self, incoming: &Incoming<'_>) -> Option<Rejection> {
        let rule = &self.rule;
        if rule.each.is_some() || rule.signature.place.reads_body() {
            return None;
        }
        let view = View::new(incoming.request, &[], &rule.settings);
        let texts = match self.signature_texts(&view) {
            Ok(texts) => texts,
            Err(rejection) => return Some(rejection),
        };
        if let Err(rejection) = self.candidates(&texts) {
            return Some(rejection);
        }
        let required = rule.require.iter().flat_map(|equality| [&equality.left, &equality.right]);
        let timed = rule.timestamp.iter().map(|timestamp| &timestamp.place);
        let certificate = if let KeyEncoding::Certificate { place } = &rule.key_encoding { Some(place) } else { None };
        if required.chain(timed).chain(certificate).any(Reference::reads_body) {
            return None;
        }
        self.check_head(incoming, &self.reader(&view, &texts)).err()
    }

    pub(super) fn verify(&self, incoming: &Incoming<'_>) -> Result<Verified, Rejection> {
        let body = self.body(incoming.request, incoming.body);
        let view = View::new(incoming.request, &body, &self.rule.settings);
        verify_each(self.rule.each.as_ref(), &view, |view| self.verify_one(incoming, view))
    }

    /// The body that is signed. A body that becomes too large when it is decoded stays as it is: no signature matches
    /// it.
    fn body<'a>(&self, request: &RequestParts<'_>, body: &'a [u8]) -> Cow<'a, [u8]> {
        let limit = reader::decoded_limit(body.len());
        let decoded = self.rule.decoded.then(|| reader::decoded(request.headers, body, limit));
        decoded.flatten().unwrap_or(Cow::Borrowed(body))
    }

    fn verify_one(&self, incoming: &Incoming<'_>, view: &View<'_>) -> Result<Verified, Rejection> {
        let texts = self.signature_texts(view)?;
        let reader = self.reader(view, &texts);
        let candidates = self.candidates(&texts)?;
        let stale = self.check_head(incoming, &reader)?;
        match self.find(incoming, &reader, &candidates)? {
            Some(secret) => Ok(Verified::by(secret).stale_if(stale)),
            None => Err(Rejection::SignatureMismatch { secrets: self.keys.count_with(incoming.keys) }),
        }
    }

    fn reader<'v, 'b>(&'v self, view: &'v View<'b>, texts: &'v Texts<'v>) -> Reader<'v, 'b> {
        Reader { view, signature: SignatureValue::new(&self.rule.signature, texts.first()) }
    }

    /// Checks everything except the signature, and returns whether the signed time is out of tolerance.
    fn check_head(&self, incoming: &Incoming<'_>, reader: &Reader<'_, '_>) -> Result<bool, Rejection> {
        let stale = match &self.rule.timestamp {
            Some(timestamp) => incoming.tolerate(timestamp.check(&reader.text(&timestamp.place)?, incoming.now_ms))?,
            None => false,
        };
        self.check_fields(reader)?;
        self.certificate_url(reader)?;
        Ok(stale)
    }

    fn check_fields(&self, reader: &Reader<'_, '_>) -> Result<(), Rejection> {
        for equality in &self.rule.require {
            // The sender knows both values, so the time of the comparison reveals nothing.
            if reader.text(&equality.left)? != reader.text(&equality.right)? {
                return Err(Rejection::RequirementFailed { reference: equality.left.clone() });
            }
        }
        Ok(())
    }

    /// The URL of the certificate, if the request names one. It must be at a host of the rule.
    fn certificate_url<'v>(&self, reader: &Reader<'v, '_>) -> Result<Option<Cow<'v, str>>, Rejection> {
        let KeyEncoding::Certificate { place } = &self.rule.key_encoding else { return Ok(None) };
        let url = reader.text(place)?;
        if is_certificate_url(&url, &self.rule.hosts) {
            return Ok(Some(url));
        }
        Err(Rejection::KeyLocationRefused { reference: place.clone() })
    }

    fn signature_texts<'v>(&self, view: &'v View<'_>) -> Result<Texts<'v>, Rejection> {
        let joins = if self.rule.signature.blanks { Joins::Allowed } else { Joins::Refused };
        let place = &self.rule.signature.place;
        if let Reference::HeaderSeries(prefix) = place {
            return view.series(prefix).map(Texts::Series);
        }
        view.text(place, joins).map(Texts::One)
    }

    /// The signatures of the header, or of all headers of a series. A header without signatures is skipped if another
    /// one has some.
    fn candidates(&self, texts: &Texts<'_>) -> Result<Vec<Candidate>, Rejection> {
        let read = |text| SignatureValue::new(&self.rule.signature, text).candidates(&self.signature_bytes);
        let series = match texts {
            Texts::One(text) => return read(text),
            Texts::Series(series) => series,
        };
        let mut candidates = Vec::new();
        let mut rejection = None;
        for text in series {
            match read(text) {
                Ok(more) => candidates.extend(more),
                Err(error) => rejection = rejection.or(Some(error)),
            }
        }
        match rejection {
            _ if candidates.len() > MAX_SIGNATURES => Err(Rejection::TooManySignatures { limit: MAX_SIGNATURES }),
            Some(rejection) if candidates.is_empty() => Err(rejection),
            Some(_) | None => Ok(candidates),
        }
    }

    /// The index of the secret whose signature is among the candidates, over any of the forms in which the URL may have
    /// been signed.
    fn find(
        &self,
        incoming: &Incoming<'_>,
        reader: &Reader<'_, '_>,
        candidates: &[Candidate],
    ) -> Result<Option<usize>, Rejection> {
        let parts = self.rule.content.parts();
        let mut content = reader.content(parts)?;
        if !self.rule.content.references().any(Reference::reads_url) {
            return self.keys.find(incoming, parts, &content, candidates);
        }
        let asked = reader.view.url();
        let is_small = content.iter().map(|piece| piece.len()).sum::<usize>() <= MAX_RESPELLED_BYTES;
        let queries = is_small.then_some(self.rule.queries.as_slice());
        // A rule may list its forms in any order, so the pieces may be those of another form when the URL is tried as
        // it arrived.
        let mut content_is_asked = true;
        first_match(&asked, &self.rule.urls, queries, |url| {
            let is_asked = url == asked.as_ref();
            if !(is_asked && content_is_asked) {
                reader.put_url(url, parts, &mut content)?;
                content_is_asked = is_asked;
            }
            self.keys.find(incoming, parts, &content, candidates)
        })
    }
}

/// The texts with signatures: one value, or those of a series of headers, of which there is at least one.
enum Texts<'v> {
    One(Cow<'v, str>),
    Series(Vec<&'v str>),
}

impl Texts<'_> {
    fn first(&self) -> &str {
        match self {
            Self::One(text) => text,
            Self::Series(texts) => texts.first().copied().unwrap_or_default(),
        }
    }
}
