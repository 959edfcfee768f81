//! A signed request of one provider, with the facts needed to tamper with it.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::Value;

use super::source;
use crate::header::HeaderList;
use crate::provider::find;
use crate::source::SourceConfig;
use crate::verify::{KeyForm, KeySet, Rejection, RequestParts, Verified, Verifier, verify};

/// A request that verifies at `signed_at_s`. Everything is text that can be found and replaced in its headers and body.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sample {
    pub(crate) provider: String,
    #[serde(default)]
    pub(crate) secrets: Vec<String>,
    /// A secret of the same form that is not the right one.
    #[serde(default)]
    pub(crate) wrong: Option<String>,
    #[serde(default)]
    pub(crate) config: Value,
    #[serde(default = "post")]
    pub(crate) method: String,
    #[serde(default = "url")]
    pub(crate) url: String,
    /// Each of them is needed and may appear only once.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    pub(crate) signed_at_s: u64,
    /// The signature or token as the request contains it; empty if the provider signs nothing.
    #[serde(default)]
    pub(crate) signature: String,
    /// `None` if it is a token.
    #[serde(default)]
    pub(crate) encoding: Option<Encoding>,
    /// The signed time as the request contains it, and the same one second later.
    #[serde(default)]
    pub(crate) time: Option<[String; 2]>,
    /// How far the time may be from now, to both sides.
    #[serde(default)]
    pub(crate) tolerance_s: Option<u64>,
    /// The age at which it is too old, if a token contains the time.
    #[serde(default)]
    pub(crate) expires_s: Option<u64>,
    /// Whether the signature covers less than the body.
    #[serde(default)]
    pub(crate) fields_only: bool,
    #[serde(default)]
    pub(crate) keys: Option<Document>,
    /// Made once, and the same for every change of the request.
    #[serde(skip)]
    verifier: OnceCell<Rc<(Verifier, Option<KeySet>)>>,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    Hex,
    Base64,
}

/// A key as its owner publishes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Document {
    JwkSet { document: String },
    Certificate { document: String },
    Plaid { document: String, key_id: String },
}

impl Sample {
    /// A request of which only its one secret is known.
    pub(crate) fn bearing(provider: &str, secret: &str, headers: &[(&str, &str)], body: &str, at_s: u64) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            provider: provider.to_owned(),
            secrets: vec![secret.to_owned()],
            wrong: Some("another secret".to_owned()),
            config: Value::Null,
            method: post(),
            url: url(),
            headers: headers.iter().map(owned).collect(),
            body: body.to_owned(),
            signed_at_s: at_s,
            signature: String::new(),
            encoding: None,
            time: None,
            tolerance_s: None,
            expires_s: None,
            fields_only: true,
            keys: None,
            verifier: OnceCell::new(),
        }
    }

    pub(crate) fn config(&self) -> SourceConfig {
        let secrets: Vec<_> = self.secrets.iter().map(String::as_str).collect();
        source(&self.provider, &secrets, &self.config)
            .unwrap_or_else(|problems| panic!("{} does not resolve: {problems:?}", self.provider))
    }

    pub(crate) fn verify(&self) -> Result<Verified, Rejection> {
        self.verify_at(self.signed_at_s)
    }

    pub(crate) fn verify_at(&self, now_s: u64) -> Result<Verified, Rejection> {
        self.verify_with(HeaderList::new(self.headers.clone()), self.body.as_bytes(), now_s)
    }

    pub(crate) fn verify_body(&self, body: &[u8]) -> Result<Verified, Rejection> {
        self.verify_with(HeaderList::new(self.headers.clone()), body, self.signed_at_s)
    }

    pub(crate) fn verify_headers(&self, headers: Vec<(String, String)>) -> Result<Verified, Rejection> {
        self.verify_with(HeaderList::new(headers), self.body.as_bytes(), self.signed_at_s)
    }

    /// The same request with a text in its headers and body replaced.
    pub(crate) fn with(&self, from: &str, to: &str) -> Self {
        let mut changed = self.clone();
        changed.headers.values_mut().for_each(|value| *value = value.replace(from, to));
        changed.body = changed.body.replace(from, to);
        changed
    }

    /// The same request to a source with other secrets.
    pub(crate) fn with_secrets(&self, secrets: Vec<String>) -> Self {
        Self { secrets, verifier: OnceCell::new(), ..self.clone() }
    }

    fn verify_with(&self, headers: HeaderList, body: &[u8], now_s: u64) -> Result<Verified, Rejection> {
        let prepared =
            self.verifier.get_or_init(|| Rc::new((Verifier::new(&self.config()).expect("a verifier"), self.key_set())));
        let (verifier, keys) = prepared.as_ref();
        let query = self.url.split_once('?').map_or("", |(_, query)| query);
        let request = RequestParts { method: &self.method, url: &self.url, query, headers: &headers };
        let outcome = verify(verifier, keys.as_ref(), &request, body, now_s * 1_000);
        let unread = verifier.refuse_unread(&request, now_s * 1_000);
        assert!(unread.is_none() || outcome.is_err(), "{} refuses unread what it accepts: {unread:?}", self.provider);
        outcome
    }

    fn key_set(&self) -> Option<KeySet> {
        let (form, document) = match self.keys.as_ref()? {
            Document::JwkSet { document } => (KeyForm::JwkSet, document),
            Document::Certificate { document } => (KeyForm::Certificate, document),
            Document::Plaid { document, key_id } => {
                (KeyForm::Plaid { key_id: key_id.clone(), body: String::new() }, document)
            }
        };
        Some(KeySet::parse(&form, document.as_bytes()).expect("a key"))
    }
}

/// The samples whose signatures were made with another program.
pub(crate) fn asymmetric() -> Vec<Sample> {
    serde_json::from_str(include_str!("asymmetric.json")).expect("samples")
}

/// Whether the catalogue says that something of a provider's requests is not authenticated.
pub(crate) fn admits_gaps(provider: &str) -> bool {
    find(provider).is_some_and(|provider| provider.unauthenticated.is_some())
}

fn post() -> String {
    "POST".to_owned()
}

fn url() -> String {
    "https://in.example/in/a".to_owned()
}
