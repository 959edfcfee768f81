//! Verifying a signature over the request.

mod check;
mod content;
mod keys;

use std::borrow::Cow;

use super::each::verify_each;
use super::key::KeyEncoding;
use super::key_set::KeySet;
use super::reference::Reference;
use super::rejection::Rejection;
use super::request::{Joins, View};
use super::rule::MacRule;
use super::signature::{Candidate, MAX_SIGNATURES, SignatureValue};
use super::{ConfigError, Incoming, RefusedSecret, Verified};
use crate::source::Secret;
use content::Reader;
use keys::Keys;

/// A rule with its keys, ready to be used many times.
#[derive(Debug, Clone)]
pub(super) struct MacVerifier {
    rule: MacRule,
    keys: Keys,
    /// The length of a signature of the rule's algorithm.
    signature_bytes: usize,
}

impl MacVerifier {
    /// Takes the rule with those of the secrets that are keys for it, and the others with what is wrong with each. Each
    /// secret comes with its place in the source's list.
    pub(super) fn new(rule: &MacRule, secrets: &[(usize, &Secret)]) -> Result<(Self, Vec<RefusedSecret>), ConfigError> {
        check::check_rule(rule)?;
        let (keys, refused) = Keys::new(rule.algorithm, &rule.key_encoding, secrets);
        Ok((Self { rule: rule.clone(), keys, signature_bytes: keys::signature_bytes(rule.algorithm) }, refused))
    }

    /// How many keys it holds; `None` where they come from a published key set.
    pub(super) fn key_count(&self) -> Option<usize> {
        self.keys.count()
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

    pub(super) fn verify(&self, incoming: &Incoming<'_>) -> Result<Verified, Rejection> {
        let view = View::new(incoming.request, incoming.body, &self.rule.settings);
        verify_each(self.rule.each.as_ref(), &view, |view| self.verify_one(incoming, view))
    }

    fn verify_one(&self, incoming: &Incoming<'_>, view: &View<'_>) -> Result<Verified, Rejection> {
        let rule = &self.rule;
        let texts = self.signature_texts(view)?;
        let reader = Reader { view, signature: SignatureValue::new(&rule.signature, texts.first()) };
        let candidates = self.candidates(&texts)?;
        let mut stale = false;
        if let Some(timestamp) = &rule.timestamp {
            stale = incoming.tolerate(timestamp.check(&reader.text(&timestamp.place)?, incoming.now_ms))?;
        }
        for equality in &rule.require {
            // What is compared is known to the sender, so time tells nothing.
            if reader.text(&equality.left)? != reader.text(&equality.right)? {
                return Err(Rejection::RequirementFailed { reference: equality.left.clone() });
            }
        }
        match self.find(incoming.keys, &reader, &candidates)? {
            Some(secret) => Ok(Verified::by(secret).stale_if(stale)),
            None => Err(Rejection::SignatureMismatch { secrets: self.keys.count_with(incoming.keys) }),
        }
    }

    fn signature_texts<'v>(&self, view: &'v View<'_>) -> Result<Texts<'v>, Rejection> {
        let joins = if self.rule.signature.blanks { Joins::Allowed } else { Joins::Refused };
        let place = &self.rule.signature.place;
        if let Reference::HeaderSeries(prefix) = place {
            return view.series(prefix).map(Texts::Series);
        }
        view.text(place, joins).map(Texts::One)
    }

    /// The signatures of the header, or of all headers of a series: one that holds none is passed over where another does.
    fn candidates(&self, texts: &Texts<'_>) -> Result<Vec<Candidate>, Rejection> {
        let read = |text| SignatureValue::new(&self.rule.signature, text).candidates(self.signature_bytes);
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

    /// The secret whose signature is among the candidates, over any of the forms that the URL may have been signed in.
    fn find(
        &self,
        published: Option<&KeySet>,
        reader: &Reader<'_>,
        candidates: &[Candidate],
    ) -> Result<Option<usize>, Rejection> {
        let parts = self.rule.content.parts();
        if self.rule.urls.is_empty() {
            return self.keys.find(published, parts, &reader.content(parts, None)?, candidates);
        }
        let asked = reader.view.url();
        let mut tried: Vec<Cow<'_, str>> = Vec::with_capacity(self.rule.urls.len());
        for form in &self.rule.urls {
            let url = form.of(&asked);
            if tried.contains(&url) {
                continue;
            }
            let found = self.keys.find(published, parts, &reader.content(parts, Some(&url))?, candidates)?;
            if found.is_some() {
                return Ok(found);
            }
            tried.push(url);
        }
        Ok(None)
    }
}

/// Where the signatures stand: one value, or those of a series of headers, of which there is at least one.
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
