//! A request of one provider, and changes of it that must be refused.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use shared::extract::{Extracted, extract};
use shared::header::HeaderList;
use shared::id::SourceId;
use shared::provider::{NewSource, find};
use shared::sample::{Moment, SignError, Wanted, compose, sign};
use shared::source::{Secret, SourceConfig};
use shared::verify::{KeySet, Rejection, RequestParts, Verified, Verifier, verify};

/// The time at which all requests are signed, as a Unix time in seconds. The clock of the SDKs is set to it.
pub(crate) const NOW_S: u64 = 1_700_000_000;

/// A word that appears in every body. One bit of it is changed.
pub(crate) const WORD: &str = "original";

/// The signer of a request: the provider's SDK or these tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signer {
    Sdk,
    Here,
}

/// A request as it is sent.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) url: String,
    /// Names are in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// A signed request, with the data that its receiver needs.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) provider: &'static str,
    pub(crate) signer: Signer,
    /// Empty if the provider publishes its keys.
    pub(crate) secret: String,
    /// A wrong secret of the same form.
    pub(crate) other_secret: String,
    pub(crate) config: Value,
    pub(crate) request: Request,
    /// The place of the signature.
    pub(crate) signature: Place,
    pub(crate) covers: Covers,
    /// The keys that the provider publishes, as PEM by their id or URL, for the SDK.
    pub(crate) keys: BTreeMap<String, String>,
    /// The same keys, as the document that the edge fetches.
    pub(crate) document: Vec<u8>,
}

/// The place of a signature.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    Header(&'static str),
    /// A field of the body, by its JSON pointer.
    Body(&'static str),
}

/// Which verifier refuses another body under the same signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Covers {
    Body,
    /// Only `shared`: the signed token contains a hash of the body, which the SDK leaves to its caller.
    BodyForUs,
    /// Neither: only a token is signed.
    Nothing,
}

/// A change of a case that must be refused.
#[derive(Debug)]
pub(crate) struct Tampered {
    pub(crate) what: &'static str,
    pub(crate) request: Request,
    pub(crate) secret: String,
    /// Whether the SDK checks the changed part.
    pub(crate) seen_by_sdk: bool,
}

impl Case {
    /// Verifies a request of this case's source, as the edge does.
    pub(crate) fn verify(&self, request: &Request, secret: &str) -> Result<Verified, Rejection> {
        let verifier = Verifier::new(&self.source(secret)).expect("a verifier");
        let headers = HeaderList::new(request.headers.clone());
        let query = request.url.split_once('?').map_or("", |(_, query)| query);
        let parts = RequestParts { method: request.method, url: &request.url, query, headers: &headers };
        let location = verifier.key_location(&parts, request.body.as_bytes())?;
        let keys = location.map(|location| KeySet::parse(&location.form, &self.document).expect("reads"));
        verify(&verifier, keys.as_ref(), &parts, request.body.as_bytes(), NOW_S * 1_000)
    }

    /// Extracts the fields of a request of this case's source, as the relay does.
    pub(crate) fn extract(&self, request: &Request) -> Extracted {
        let headers = HeaderList::new(request.headers.clone());
        let query = request.url.split_once('?').map_or("", |(_, query)| query);
        extract(find(self.provider).expect("in the catalogue"), &self.config, query, &headers, request.body.as_bytes())
    }

    /// A sample as `tidegate send` makes it; `None` if the provider signs with a private key.
    pub(crate) fn sample(&self, wanted: Wanted<'_>) -> Option<Request> {
        let source = self.source(&self.secret);
        let moment = Moment { now_ms: NOW_S * 1_000, random: [5; 32] };
        let provider = find(self.provider).expect("in the catalogue");
        let sample = compose(provider, &self.config, &self.request.url, wanted, moment).expect("composed");
        match sign(&source.scheme, &source.secrets, sample, moment) {
            Ok(sample) => Some(Request {
                method: "POST",
                url: sample.url,
                headers: sample.headers.into_iter().collect(),
                body: String::from_utf8(sample.body).expect("is text"),
            }),
            Err(SignError::PrivateKey) => None,
            Err(error) => panic!("{} is not signed: {error}", self.provider),
        }
    }

    fn source(&self, secret: &str) -> SourceConfig {
        let secrets: Vec<_> = Some(secret).filter(|secret| !secret.is_empty()).map(Secret::new).into_iter().collect();
        let source = NewSource {
            id: SourceId::mint(1, [1; 10]),
            name: "a",
            revision: 1,
            secrets: &secrets,
            config: &self.config,
            max_body_bytes: 1_000_000,
        };
        find(self.provider).expect("in the catalogue").resolve(source).expect("resolves")
    }

    fn with_signature(&self, change: impl Fn(&str) -> String) -> Request {
        let mut request = self.request.clone();
        match self.signature {
            Place::Header(name) => {
                let value = request.headers.get_mut(name).unwrap_or_else(|| panic!("{} has {name}", self.provider));
                *value = change(value);
            }
            Place::Body(pointer) => {
                let body: Value = serde_json::from_str(&request.body).expect("JSON");
                let text = body.pointer(pointer).and_then(Value::as_str).expect("a signature");
                request.body = request.body.replace(text, &change(text));
            }
        }
        request
    }
}

impl Tampered {
    /// All changes: one bit of the body, one digit of the signature, a truncated signature, another secret.
    pub(crate) fn all(case: &Case) -> impl Iterator<Item = Self> {
        let of = |what, request, seen_by_sdk| Self { what, request, secret: case.secret.clone(), seen_by_sdk };
        let mut all = vec![
            of("one digit of the signature changed", case.with_signature(change_digit), true),
            of("the end of the signature missing", case.with_signature(|text| text[..text.len() - 4].to_owned()), true),
        ];
        if case.covers != Covers::Nothing {
            assert!(case.request.body.contains(WORD), "{}: {}", case.provider, case.request.body);
            // `o` and `n` differ in one bit.
            let body = case.request.body.replacen(WORD, "nriginal", 1);
            let request = Request { body, ..case.request.clone() };
            all.push(of("one bit of the body changed", request, case.covers == Covers::Body));
        }
        if !case.other_secret.is_empty() {
            let request = case.request.clone();
            all.push(Self { what: "another secret", request, secret: case.other_secret.clone(), seen_by_sdk: true });
        }
        all.into_iter()
    }
}

/// Changes the sixth digit from the end: the digits after it may be padding, or may encode bits that are in no byte.
fn change_digit(text: &str) -> String {
    let at = text.len() - 6;
    let digit = if text.as_bytes()[at] == b'0' { '1' } else { '0' };
    format!("{}{digit}{}", &text[..at], &text[at + 1..])
}
