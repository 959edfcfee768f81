//! The steps of verifying a signature over the request.

use std::borrow::Cow;

use super::{MacVerifier, Texts};
use crate::scheme::reference::Reference;
use crate::scheme::rule::Algorithm;
use crate::scheme::template::Part;
use crate::verify::Incoming;
use crate::verify::Verified;
use crate::verify::rejection::Rejection;
use crate::verify::request::View;
use crate::verify::signature::Candidate;
use crate::verify::trace::{MAX_SIGNED_PREVIEW_BYTES, SignedContent, SignedTime, Step, StepKind, unit};

/// The text that replaces a secret in the signed content that is shown.
const SECRET: &[u8] = b"{secret}";

impl MacVerifier {
    /// The steps for a request. If each item of a list is verified, those of the first item, and the result for all.
    pub(in crate::verify) fn steps(&self, incoming: &Incoming<'_>) -> Vec<Step> {
        let body = self.body(incoming.request, incoming.body);
        let view = View::new(incoming.request, &body, &self.rule.settings);
        let Some(each) = &self.rule.each else { return self.steps_of(incoming, &view) };
        let of_all = Step::new(StepKind::Signature, "a signature of each item that matches a secret of the source");
        let mut steps = match each.items(&view).map(|items| items.first().copied()) {
            Ok(Some(first)) => self.steps_of(incoming, &view.of_item(first)),
            Ok(None) | Err(_) => Vec::new(),
        };
        steps.push(of_all.compared(&self.verify(incoming)));
        steps
    }

    fn steps_of(&self, incoming: &Incoming<'_>, view: &View<'_>) -> Vec<Step> {
        let form = self.form_step();
        let texts = match self.signature_texts(view) {
            Ok(texts) => texts,
            Err(rejection) => return self.without_signature(form.failed(&rejection), "the signature is missing"),
        };
        let reader = self.reader(view, &texts);
        let candidates = self.candidates(&texts);
        let mut steps = vec![match &candidates {
            Ok(found) => form.passed(match found.len() {
                1 => "1 signature".to_owned(),
                several => format!("{several} signatures"),
            }),
            Err(rejection) => form.failed(rejection),
        }];
        if let Some(timestamp) = &self.rule.timestamp {
            let tolerance = timestamp.tolerance_s.map_or_else(
                || "any time".to_owned(),
                |tolerance_s| {
                    let ahead = if timestamp.past_only { " or later" } else { "" };
                    format!("within {tolerance_s} s of now{ahead}")
                },
            );
            let step = Step::new(
                StepKind::Timestamp,
                format!("a time in {} ({}), {tolerance}", timestamp.place, unit(timestamp.unit)),
            );
            steps.push(match reader.text(&timestamp.place) {
                Ok(text) => {
                    let time = timestamp.read(&text).map(|at_ms| SignedTime {
                        at_ms,
                        skew_s: seconds(incoming.now_ms).saturating_sub(seconds(at_ms)),
                        tolerance_s: timestamp.tolerance_s,
                    });
                    let step = match timestamp.check(&text, incoming.now_ms) {
                        Ok(()) => step.passed(text.into_owned()),
                        Err(rejection) => step.failed(&rejection),
                    };
                    Step { time, ..step }
                }
                Err(rejection) => step.failed(&rejection),
            });
        }
        for equality in &self.rule.require {
            let step = Step::new(StepKind::Requirement, format!("{} equals {}", equality.left, equality.right));
            let values = reader.text(&equality.left).and_then(|left| Ok((left, reader.text(&equality.right)?)));
            steps.push(match values {
                Ok((left, right)) if left == right => step.passed("equal"),
                Ok(_) => step.failed(&Rejection::RequirementFailed { reference: equality.left.clone() }),
                Err(rejection) => step.failed(&rejection),
            });
        }
        let step = Step::new(StepKind::SignedContent, format!("the bytes of {}", self.rule.content));
        let parts = self.rule.content.parts();
        steps.push(match reader.content(parts) {
            Ok(pieces) => {
                let signed = preview(parts, &pieces);
                Step { signed: Some(signed), ..step.passed("see signed_content") }
            }
            Err(rejection) => step.failed(&rejection),
        });
        steps.push(self.signature_step(match candidates {
            Ok(candidates) => Some(self.matched(incoming, &texts, view, &candidates)),
            Err(_) => None,
        }));
        steps
    }

    fn matched(
        &self,
        incoming: &Incoming<'_>,
        texts: &Texts<'_>,
        view: &View<'_>,
        candidates: &[Candidate],
    ) -> Result<Verified, Rejection> {
        let reader = self.reader(view, texts);
        self.certificate_url(&reader)?;
        match self.find(incoming, &reader, candidates)? {
            Some(secret) => Ok(Verified::by(secret)),
            None => Err(Rejection::SignatureMismatch { secrets: self.keys.count_with(incoming.keys) }),
        }
    }

    fn form_step(&self) -> Step {
        let rule = &self.rule.signature;
        let of_version = rule.key.as_ref().map(|key| format!(" of version {key}")).unwrap_or_default();
        let lengths = &self.signature_bytes;
        let length = if lengths.start() == lengths.end() {
            lengths.start().to_string()
        } else {
            format!("{} to {}", lengths.start(), lengths.end())
        };
        let encoding = match rule.encoding {
            crate::scheme::rule::SignatureEncoding::Hex => "hexadecimal digits",
            crate::scheme::rule::SignatureEncoding::Base64 => "base64",
            crate::scheme::rule::SignatureEncoding::Base64Url => "base64url",
        };
        Step::new(
            StepKind::SignatureForm,
            format!("a signature{of_version} in {}: {length} bytes as {encoding}", rule.place),
        )
    }

    /// The comparison with the keys. `None` if there is no signature to compare.
    fn signature_step(&self, result: Option<Result<Verified, Rejection>>) -> Step {
        let keys = if self.rule.key_encoding.is_published() {
            "a public key of the provider"
        } else if self.has_public_keys() {
            "a public key of the source"
        } else {
            "a secret of the source"
        };
        let step = Step::new(StepKind::Signature, format!("{} with {keys}", algorithm(self.rule.algorithm)));
        match result {
            Some(result) => step.compared(&result),
            None => step.unknown("there is no signature to compare"),
        }
    }

    /// The steps of a request whose signature cannot be found.
    fn without_signature(&self, form: Step, why: &str) -> Vec<Step> {
        let content = Step::new(StepKind::SignedContent, format!("the bytes of {}", self.rule.content));
        vec![form, content.unknown(why), self.signature_step(None)]
    }
}

fn algorithm(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HmacSha1 => "HMAC-SHA1",
        Algorithm::HmacSha256 => "HMAC-SHA256",
        Algorithm::HmacSha512 => "HMAC-SHA512",
        Algorithm::Sha256 => "SHA-256",
        Algorithm::Ed25519 => "Ed25519",
        Algorithm::EcdsaP256Sha256Der => "ECDSA over P-256 with SHA-256",
        Algorithm::RsaPkcs1Sha1 => "RSA with SHA-1",
        Algorithm::RsaPkcs1Sha256 => "RSA with SHA-256",
    }
}

fn preview(parts: &[Part], pieces: &[Cow<'_, [u8]>]) -> SignedContent {
    let mut preview = Vec::new();
    for (part, piece) in parts.iter().zip(pieces) {
        let shown = if *part == Part::Reference(Reference::Secret) { SECRET } else { piece.as_ref() };
        let room = MAX_SIGNED_PREVIEW_BYTES.saturating_sub(preview.len());
        preview.extend_from_slice(shown.get(..room).unwrap_or(shown));
    }
    SignedContent { preview, size: pieces.iter().map(|piece| piece.len()).sum() }
}

fn seconds(ms: u64) -> i64 {
    i64::try_from(ms / 1_000).unwrap_or(i64::MAX)
}
