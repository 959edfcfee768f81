//! Signs by a rule of [`crate::scheme::rule`], in the grammar that the verifier reads.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use super::fresh::Fresh;
use super::{SampleRequest, SignError};
use crate::scheme::each::Each;
use crate::scheme::reference::function::Function;
use crate::scheme::reference::{Field, Place, Reference, Role};
use crate::scheme::rule::{Algorithm, MacRule, SignatureEncoding, SignatureRule, TimestampRule, TimestampUnit};
use crate::scheme::template::Part;
use crate::secret::Secret;
use crate::verify::key::KeyError;
use crate::verify::request::{Joins, View};
use crate::verify::{Rejection, timestamp_text};

/// The part that a rule holds for: the whole request, or the item of its body at this JSON pointer.
pub(super) struct Item(Option<String>);

pub(super) fn sign(
    rule: &MacRule,
    secret: &Secret,
    mut request: SampleRequest,
    fresh: &Fresh,
) -> Result<SampleRequest, SignError> {
    let signs_form = rule.content.references().any(|one| *one == Reference::Function(Function::FormSortedConcat));
    if signs_form && !request.is_form() {
        return Err(SignError::NotAForm);
    }
    let key = rule.key_encoding.hmac_key(secret.reveal())?;
    for item in items(rule.each.as_ref(), &request)? {
        let fields = write_fields(rule, &item, &mut request, fresh)?;
        for equality in &rule.require {
            let value = item.look(&request, rule, |view| fields.text(view, &equality.right))?;
            request.set(&item.place(&equality.left), &value)?;
        }
        let content = item.look(&request, rule, |view| content(rule, view, &fields, &key))?;
        let signature = encode(rule.signature.encoding, &tag(rule.algorithm, &key, &content)?);
        request.set(&item.place(&rule.signature.place), &fields.header(&rule.signature, &signature))?;
    }
    Ok(request)
}

/// The items for which a rule holds one by one; the whole request if it names none.
pub(super) fn items(each: Option<&Each>, request: &SampleRequest) -> Result<Vec<Item>, SignError> {
    let Some(each) = each else { return Ok(vec![Item(None)]) };
    let pointers = request.look(&BTreeMap::new(), |view| match view.document() {
        Some(document) => each.pointers(document),
        None => Err(each.missing()),
    })?;
    Ok(pointers.into_iter().map(|pointer| Item(Some(pointer))).collect())
}

impl Item {
    /// The place of a reference of the rule in the whole request.
    pub(super) fn place(&self, reference: &Reference) -> Reference {
        match (reference, &self.0) {
            (Reference::Json { pointer, optional }, Some(item)) => {
                Reference::Json { pointer: format!("{item}{pointer}"), optional: *optional }
            }
            (other, _) => other.clone(),
        }
    }

    fn look<R>(&self, request: &SampleRequest, rule: &MacRule, look: impl FnOnce(&View<'_>) -> R) -> R {
        request.look(&rule.settings, |view| {
            let item = self.0.as_ref().and_then(|pointer| view.document()?.pointer(pointer));
            match item {
                Some(item) => look(&view.of_item(item)),
                None => look(view),
            }
        })
    }
}

/// The other fields of the signature header.
#[derive(Default)]
struct Fields {
    named: Vec<(String, String)>,
    entries: Vec<String>,
}

/// Writes the time, and fresh ids if a signed value is missing.
fn write_fields(rule: &MacRule, item: &Item, request: &mut SampleRequest, fresh: &Fresh) -> Result<Fields, SignError> {
    let mut fields = Fields::default();
    let signed = rule.content.references().map(|reference| {
        if let Reference::Function(Function::SignedHeaders(names)) = reference { names.as_ref() } else { reference }
    });
    let mut seen: Vec<&Reference> = Vec::new();
    for reference in rule.timestamp.iter().map(|timestamp| &timestamp.place).chain(signed) {
        if seen.contains(&reference) || rule.require.iter().any(|equality| equality.left == *reference) {
            continue;
        }
        seen.push(reference);
        let time = rule.timestamp.as_ref().filter(|timestamp| timestamp.place == *reference);
        let time = time.map(|timestamp| timestamp.text(fresh.now_ms()));
        match reference.role() {
            Role::Field(Field::Named(name)) => {
                let value = time.unwrap_or_else(|| header_names(request));
                fields.named.push((name.to_owned(), value));
            }
            Role::Field(Field::Entry(_)) => fields.entries.push(time.unwrap_or_else(|| fresh.id())),
            Role::Place(Place::Header(_) | Place::Query(_) | Place::Json { optional: false, .. }) => {
                let place = item.place(reference);
                if let Some(value) = time.or_else(|| request.text(&place).is_none().then(|| fresh.id())) {
                    request.set(&place, &value)?;
                }
            }
            Role::Place(Place::HeaderSeries(_) | Place::Json { optional: true, .. })
            | Role::Function(_)
            | Role::Derived => {}
        }
    }
    Ok(fields)
}

/// The names of the headers that a signature covers in addition to the body, as Hook0 lists them: all of them.
fn header_names(request: &SampleRequest) -> String {
    request.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
}

impl Fields {
    /// The value of a reference, which may be one of these fields.
    fn text(&self, view: &View<'_>, reference: &Reference) -> Result<String, Rejection> {
        let missing = || Rejection::FieldMissing { reference: reference.clone() };
        match reference.role() {
            Role::Field(Field::Named(name)) => {
                let found = self.named.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone()).ok_or_else(missing)
            }
            Role::Field(Field::Entry(index)) => self.entries.get(index).cloned().ok_or_else(missing),
            Role::Function(function) => function.evaluate(view, |inner| self.text(view, inner)),
            Role::Place(_) | Role::Derived => view.text(reference, Joins::Allowed).map(String::from),
        }
    }

    /// The whole value of the signature header.
    fn header(&self, rule: &SignatureRule, signature: &str) -> String {
        let separator = rule.separator.as_deref();
        let named = self.named.iter().map(|(name, value)| format!("{name}{}{value}", separator.unwrap_or("=")));
        let signature = match separator {
            Some(separator) => format!("{}{separator}{signature}", rule.key.as_deref().unwrap_or_default()),
            None => signature.to_owned(),
        };
        let entries: Vec<_> = self.entries.iter().cloned().chain(named).chain([signature]).collect();
        let between = format!("{}{}", rule.list.as_deref().unwrap_or_default(), if rule.blanks { " " } else { "" });
        entries.join(&between)
    }
}

/// The bytes that are signed.
fn content(rule: &MacRule, view: &View<'_>, fields: &Fields, key: &[u8]) -> Result<Vec<u8>, Rejection> {
    let mut out = Vec::new();
    for part in rule.content.parts() {
        match part {
            Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Part::Reference(Reference::Secret) => out.extend_from_slice(key),
            Part::Reference(raw @ (Reference::Body | Reference::BodySha256Raw)) => {
                out.extend_from_slice(&view.bytes(raw)?);
            }
            Part::Reference(reference) => out.extend_from_slice(fields.text(view, reference)?.as_bytes()),
        }
    }
    Ok(out)
}

impl TimestampRule {
    /// A time as the sender writes it.
    fn text(&self, now_ms: u64) -> String {
        match self.unit {
            TimestampUnit::Seconds => (now_ms / 1_000).to_string(),
            TimestampUnit::Milliseconds => now_ms.to_string(),
            TimestampUnit::Iso8601 => timestamp_text(now_ms),
        }
    }
}

fn tag(algorithm: Algorithm, key: &[u8], content: &[u8]) -> Result<Vec<u8>, SignError> {
    match algorithm {
        Algorithm::HmacSha1 => hmac::<Hmac<Sha1>>(key, content),
        Algorithm::HmacSha256 => hmac::<Hmac<Sha256>>(key, content),
        Algorithm::HmacSha512 => hmac::<Hmac<Sha512>>(key, content),
        Algorithm::Sha256 => Ok(Sha256::digest(content).to_vec()),
        Algorithm::Ed25519 | Algorithm::EcdsaP256Sha256Der | Algorithm::RsaPkcs1Sha1 | Algorithm::RsaPkcs1Sha256 => {
            Err(SignError::PrivateKey)
        }
    }
}

fn hmac<M: KeyInit + Mac>(key: &[u8], content: &[u8]) -> Result<Vec<u8>, SignError> {
    let mut mac = <M as KeyInit>::new_from_slice(key).map_err(|_| KeyError::Empty)?;
    mac.update(content);
    Ok(mac.finalize().into_bytes().to_vec())
}

fn encode(encoding: SignatureEncoding, bytes: &[u8]) -> String {
    match encoding {
        SignatureEncoding::Hex => hex::encode(bytes),
        SignatureEncoding::Base64 => STANDARD.encode(bytes),
        SignatureEncoding::Base64Url => URL_SAFE_NO_PAD.encode(bytes),
    }
}
