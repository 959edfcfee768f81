//! Reads the parts of a request that references name.

mod function;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::rejection::Rejection;
use crate::checksum::crc32;
use crate::header::HeaderList;
use crate::reader::{self, Document, Json, Value};
use crate::scheme::reference::Reference;
use crate::scheme::url_form::escaped;
use crate::secret::Secret;

/// The text with which the platform joins the values of a repeated header.
const JOIN: &str = ", ";

/// The setting that holds the URL which the sender was given.
const PUBLIC_URL: &str = "public_url";

/// The longest text that a handshake may have signed, in bytes.
const MAX_HMAC_TEXT: usize = 256;

/// A request without its body.
#[derive(Debug, Clone, Copy)]
pub struct RequestParts<'a> {
    /// In upper case.
    pub method: &'a str,
    /// The whole URL, as the sender addressed it.
    pub url: &'a str,
    /// The query of the URL without its `?`; empty if there is none.
    pub query: &'a str,
    pub headers: &'a HeaderList,
}

/// Whether a header's value may hold [`JOIN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joins {
    /// It shows that the header was repeated.
    Refused,
    /// The provider writes such values itself, or the whole value is compared with a secret anyway.
    Allowed,
}

/// A request and its body, or one item of it. The body is read at most once, and only if a reference asks for it.
pub(crate) struct View<'a> {
    request: &'a RequestParts<'a>,
    body: &'a [u8],
    settings: &'a BTreeMap<String, String>,
    secrets: &'a [Secret],
    /// A URL that replaces the one the sender was given.
    url: Option<&'a str>,
    content: OnceCell<Option<Document<'a>>>,
    /// The item that `json:` reads in place of the body.
    item: Option<Json<'a>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(request: &'a RequestParts<'a>, body: &'a [u8], settings: &'a BTreeMap<String, String>) -> Self {
        Self { request, body, settings, secrets: &[], url: None, content: OnceCell::new(), item: None }
    }

    /// The same request, with `json:` limited to this item of the body.
    pub(crate) fn of_item<'i>(&self, item: Json<'i>) -> View<'i>
    where
        'a: 'i,
    {
        let Self { request, body, settings, secrets, url, .. } = *self;
        View { request, body, settings, secrets, url, content: OnceCell::new(), item: Some(item) }
    }

    /// The same request, sent to another URL.
    pub(super) fn at_url<'u>(&self, url: &'u str) -> View<'u>
    where
        'a: 'u,
    {
        let Self { request, body, settings, secrets, .. } = *self;
        View { request, body, settings, secrets, url: Some(url), content: OnceCell::new(), item: None }
    }

    /// Lets the functions that sign something for a handshake use the first of these secrets.
    pub(crate) fn with_secrets(self, secrets: &'a [Secret]) -> Self {
        Self { secrets, ..self }
    }

    /// The value of a reference as bytes. It is not empty, unless the reference is the body or optional.
    pub(crate) fn bytes(&self, reference: &Reference) -> Result<Cow<'_, [u8]>, Rejection> {
        match reference {
            Reference::Body => Ok(Cow::Borrowed(self.body)),
            Reference::BodySha256Raw => Ok(Cow::Owned(Sha256::digest(self.body).to_vec())),
            Reference::Header(_)
            | Reference::HeaderSeries(_)
            | Reference::Json { .. }
            | Reference::Query(_)
            | Reference::SignatureField(_)
            | Reference::SignatureEntry(_)
            | Reference::BodySha256Hex
            | Reference::BodyCrc32
            | Reference::Url
            | Reference::UrlSha256Hex
            | Reference::Method
            | Reference::Setting(_)
            | Reference::Literal(_)
            | Reference::Secret
            | Reference::Function(_)
            | Reference::Sha256HexOf(_)
            | Reference::HmacHex(_)
            | Reference::HmacBase64(_) => self.text(reference, Joins::Refused).map(|text| match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            }),
        }
    }

    /// The value of a reference as text. It is not empty, unless the reference is the body or optional.
    pub(crate) fn text(&self, reference: &Reference, joins: Joins) -> Result<Cow<'_, str>, Rejection> {
        let missing = || Rejection::FieldMissing { reference: reference.clone() };
        match reference {
            Reference::Header(name) => self.header(name, joins).map(Cow::Borrowed),
            Reference::Json { pointer, optional: true } => Ok(self.json(pointer).unwrap_or_default()),
            Reference::Json { pointer, optional: false } => {
                self.json(pointer).filter(|text| !text.is_empty()).ok_or_else(missing)
            }
            Reference::Query(name) => self.query(name, reference),
            Reference::Body => std::str::from_utf8(self.body).map(Cow::Borrowed).map_err(|_| missing()),
            Reference::BodySha256Hex => Ok(Cow::Owned(hex::encode(Sha256::digest(self.body)))),
            Reference::BodyCrc32 => Ok(Cow::Owned(crc32(self.body).to_string())),
            Reference::Url => Ok(self.url()),
            Reference::UrlSha256Hex => Ok(Cow::Owned(hex::encode(Sha256::digest(self.url().as_bytes())))),
            Reference::Method => Ok(Cow::Borrowed(self.request.method)),
            Reference::Setting(name) => {
                self.settings.get(name).filter(|text| !text.is_empty()).map(|text| text.into()).ok_or_else(missing)
            }
            Reference::Literal(text) => Ok(Cow::Owned(text.clone())),
            Reference::Function(function) => {
                let read = |inner: &Reference| self.text(inner, Joins::Refused).map(Cow::into_owned);
                function.evaluate(self, read).map(Cow::Owned)
            }
            Reference::Sha256HexOf(parts) => {
                let mut hash = Sha256::new();
                for part in parts {
                    hash.update(self.bytes(part)?);
                }
                Ok(Cow::Owned(hex::encode(hash.finalize())))
            }
            Reference::HmacHex(inner) => self.hmac(inner).map(|tag| Cow::Owned(hex::encode(tag))),
            Reference::HmacBase64(inner) => self.hmac(inner).map(|tag| Cow::Owned(BASE64.encode(tag))),
            // `mac` alone reads the fields of the signature header, a series of headers is only a place of signatures,
            // a secret is only digested, and raw hashes are not text.
            Reference::SignatureField(_)
            | Reference::SignatureEntry(_)
            | Reference::HeaderSeries(_)
            | Reference::Secret
            | Reference::BodySha256Raw => Err(missing()),
        }
    }

    /// The raw bytes of the body.
    pub(crate) fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The body as [`reader`] reads it, or the current item of it.
    pub(crate) fn document(&self) -> Option<Json<'_>> {
        let read = || reader::read(self.request.headers, self.body, reader::decoded_limit(self.body.len())).document();
        self.item.or_else(|| self.content.get_or_init(read).as_ref().map(Document::root))
    }

    /// The URL that the sender was given: the URL of the request, or the setting `public_url` with the parameters that
    /// the sender added, such as Twilio's `bodySHA256`.
    pub(super) fn url(&self) -> Cow<'a, str> {
        if let Some(url) = self.url {
            return Cow::Borrowed(url);
        }
        let Some(public) = self.public_url() else { return Cow::Borrowed(self.request.url) };
        let asked = self.request.query;
        match public.split_once('?') {
            None if !asked.is_empty() => Cow::Owned(format!("{public}?{asked}")),
            // The setting has the URL as the sender was given it, and the platform may have escaped its query.
            Some((_, query)) => match asked.strip_prefix(query).or_else(|| asked.strip_prefix(&*escaped(query))) {
                Some(added) if added.starts_with('&') => Cow::Owned(format!("{public}{added}")),
                Some(_) | None => Cow::Borrowed(public),
            },
            None => Cow::Borrowed(public),
        }
    }

    /// The values of all headers whose name is `prefix` and then digits; none of them is empty or repeated.
    pub(super) fn series(&self, prefix: &str) -> Result<Vec<&str>, Rejection> {
        let numbered = |name: &str| {
            name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
        };
        let names = self.request.headers.iter().map(|(name, _)| name).filter(|name| numbered(name));
        let values: Vec<_> = names.map(|name| self.header(name, Joins::Refused)).collect::<Result<_, _>>()?;
        if values.is_empty() { Err(Rejection::HeaderMissing { name: format!("{prefix}1") }) } else { Ok(values) }
    }

    fn public_url(&self) -> Option<&'a str> {
        let url = self.settings.get(PUBLIC_URL).map(String::as_str).filter(|url| !url.is_empty())?;
        // A fragment is for the sender alone.
        url.split('#').next()
    }

    fn header(&self, name: &str, joins: Joins) -> Result<&str, Rejection> {
        let mut values = self.request.headers.iter().filter(|(n, _)| *n == name).map(|(_, value)| value);
        let value = values.next().ok_or_else(|| Rejection::HeaderMissing { name: name.to_owned() })?;
        if values.next().is_some() || (joins == Joins::Refused && value.contains(JOIN)) {
            return Err(Rejection::HeaderRepeated { name: name.to_owned() });
        }
        if value.is_empty() {
            return Err(Rejection::HeaderEmpty { name: name.to_owned() });
        }
        Ok(value)
    }

    /// A parameter of the signed URL, which may differ from the request's own.
    fn query(&self, name: &str, reference: &Reference) -> Result<Cow<'_, str>, Rejection> {
        let Some(_) = self.public_url() else { return parameter(self.request.query, name, reference) };
        let url = self.url();
        let query = url.split_once('?').map_or("", |(_, query)| query);
        parameter(query, name, reference).map(|value| Cow::Owned(value.into_owned()))
    }

    fn json(&self, pointer: &str) -> Option<Cow<'_, str>> {
        match self.document()?.pointer(pointer)?.value() {
            Value::String(text) | Value::Number(text) => Some(Cow::Borrowed(text)),
            Value::Bool(truth) => Some(Cow::Borrowed(if truth { "true" } else { "false" })),
            Value::Null | Value::Array | Value::Object => None,
        }
    }

    /// Signs a text that the sender chose. Such an answer must never be usable as the signature of a webhook, so the
    /// text is short and consists of characters that are not enough for a JSON or form body.
    fn hmac(&self, inner: &Reference) -> Result<Vec<u8>, Rejection> {
        let missing = || Rejection::FieldMissing { reference: inner.clone() };
        let secret = self.secrets.first().filter(|secret| !secret.reveal().is_empty()).ok_or_else(missing)?;
        let text = self.text(inner, Joins::Refused)?;
        let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+/=".contains(&byte);
        if text.len() > MAX_HMAC_TEXT || !text.bytes().all(harmless) {
            return Err(missing());
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()).map_err(|_| missing())?;
        mac.update(text.as_bytes());
        Ok(mac.finalize().into_bytes().to_vec())
    }
}

fn parameter<'q>(query: &'q str, name: &str, reference: &Reference) -> Result<Cow<'q, str>, Rejection> {
    let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(n, _)| n == name);
    let (_, value) = values
        .next()
        .filter(|(_, value)| !value.is_empty())
        .ok_or_else(|| Rejection::FieldMissing { reference: reference.clone() })?;
    if values.next().is_some() {
        return Err(Rejection::FieldRepeated { reference: reference.clone() });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reference: &str, headers: &HeaderList, query: &str, body: &[u8]) -> Result<String, Rejection> {
        let request = RequestParts { method: "POST", url: "https://in.example/a?b", query, headers };
        let settings = BTreeMap::from([("user_id".to_owned(), "u1".to_owned())]);
        let view = View::new(&request, body, &settings);
        view.text(&reference.parse().expect("parses"), Joins::Refused).map(Cow::into_owned)
    }

    fn field_missing(reference: &str) -> Rejection {
        Rejection::FieldMissing { reference: reference.parse().expect("parses") }
    }

    #[test]
    fn a_header_appears_exactly_once_and_is_not_empty() {
        let name = || "x-a".to_owned();
        let read = |pairs: &[(&str, &str)]| text("h:x-a", &HeaderList::new(pairs.iter().copied()), "", b"");
        assert_eq!(read(&[("X-A", "1"), ("x-b", "2")]).as_deref(), Ok("1"));
        assert_eq!(read(&[("x-b", "2")]), Err(Rejection::HeaderMissing { name: name() }));
        assert_eq!(read(&[("x-a", "")]), Err(Rejection::HeaderEmpty { name: name() }));
        assert_eq!(read(&[("x-a", "1"), ("X-A", "1")]), Err(Rejection::HeaderRepeated { name: name() }));
        assert_eq!(read(&[("x-a", "1, 1")]), Err(Rejection::HeaderRepeated { name: name() }), "joined by the platform");
    }

    #[test]
    fn json_values_are_text_and_absent_ones_are_missing() {
        let body = br#"{"a":{"b":"x"},"n":7,"t":true,"z":null,"l":[1],"e":""}"#;
        let read = |reference: &str| text(reference, &HeaderList::default(), "", body);
        assert_eq!(read("json:a.b").as_deref(), Ok("x"));
        assert_eq!(read("json:n").as_deref(), Ok("7"));
        assert_eq!(read("json:t").as_deref(), Ok("true"));
        for absent in ["json:z", "json:l", "json:a", "json:e", "json:nowhere"] {
            assert_eq!(read(absent), Err(field_missing(absent)));
        }
        assert_eq!(read("json?:nowhere").as_deref(), Ok(""));
        assert_eq!(text("json:a", &HeaderList::default(), "", b"not json"), Err(field_missing("json:a")));
    }

    #[test]
    fn a_query_parameter_is_decoded_and_appears_once() {
        let read = |query: &str| text("query:hub.challenge", &HeaderList::default(), query, b"");
        assert_eq!(read("a=1&hub.challenge=a%20b+c").as_deref(), Ok("a b c"));
        assert_eq!(read("a=1"), Err(field_missing("query:hub.challenge")));
        let repeated = Rejection::FieldRepeated { reference: "query:hub.challenge".parse().expect("parses") };
        assert_eq!(read("hub.challenge=1&hub.challenge=1"), Err(repeated));
    }

    #[test]
    fn a_setting_is_the_value_that_the_rule_carries() {
        assert_eq!(text("cfg:user_id", &HeaderList::default(), "", b"").as_deref(), Ok("u1"));
        assert_eq!(text("cfg:other", &HeaderList::default(), "", b""), Err(field_missing("cfg:other")));
    }

    #[test]
    fn hashes_and_checksums_are_of_the_bytes_that_they_name() {
        let read = |reference: &str| {
            text(reference, &HeaderList::default(), "", br#"{"id":"evt_test","type":"example.event"}"#)
        };
        assert_eq!(read("crc32dec:body").as_deref(), Ok("1590049957"));
        assert_eq!(
            read("sha256hex:url").as_deref(),
            Ok("3f2b0405e57f6a08a756ae1cea4f84c76d7bef68bd865b95c501b5a929e720a5"),
            "of https://in.example/a?b"
        );
        assert_eq!(
            read("sha256hex:json:id+cfg:user_id+url").as_deref(),
            Ok("454d40a973b06d21b376603f6a1cad2282592de15f6bd9b996f0775af82c1966"),
            "of evt_testu1https://in.example/a?b"
        );
        assert_eq!(read("sha256hex:body+cfg:other"), Err(field_missing("cfg:other")));
        assert_eq!(read("lit:a literal").as_deref(), Ok("a literal"));
    }

    #[test]
    fn a_reference_for_signatures_alone_has_no_text() {
        for reference in ["secret", "h*:x-", "sig:t", "sig#0", "sha256raw:body"] {
            assert_eq!(text(reference, &HeaderList::new([("x-1", "a")]), "", b"b"), Err(field_missing(reference)));
        }
    }
}
