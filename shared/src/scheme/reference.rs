//! References: the names that rules use for the parts of a request, such as `h:webhook-id`, `json:event.type` or `body`.

pub mod function;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::pointer::pointer;
use function::Function;

/// A part of a request, or of the rule that reads it. Each variant gives its text form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// `h:name`: the value of a header that may appear only once. The name is in lower case.
    Header(String),
    /// `h*:prefix`: every header whose name is this prefix followed by digits. Only as the place of signatures.
    HeaderSeries(String),
    /// `json:a.b`, `json:/a/b`, and `json?:…` which is empty if there is no such value. It is kept as a JSON pointer
    /// (RFC 6901). Numbers and booleans count as their text; objects, lists and null as absent.
    Json { pointer: String, optional: bool },
    /// `query:name`: a parameter of the URL's query, decoded; it may appear only once.
    Query(String),
    /// `sig:name`: the field of that name in the signature header, such as Stripe's `t`; it may appear only once.
    SignatureField(String),
    /// `sig#n`: the n-th entry of the signature header, counted from 0.
    SignatureEntry(usize),
    /// `body`: the raw bytes.
    Body,
    /// `sha256hex:body`: the SHA-256 of the body in lower-case hexadecimal.
    BodySha256Hex,
    /// `sha256raw:body`: the 32 bytes of the body's SHA-256.
    BodySha256Raw,
    /// `crc32dec:body`: the CRC-32 of the body as an unsigned decimal number.
    BodyCrc32,
    /// `url`: the URL that the sender was given, which is that of the request unless `cfg:public_url` is set.
    Url,
    /// `sha256hex:url`: the SHA-256 of that URL in lower-case hexadecimal.
    UrlSha256Hex,
    /// `method`: in upper case.
    Method,
    /// `cfg:name`: a setting of the source, carried by the rule itself.
    Setting(String),
    /// `lit:text`: the text itself, to require that a value is this one.
    Literal(String),
    /// `secret`: the source's secret. Only in the content of a plain digest.
    Secret,
    /// `fn:name`: a function of the request.
    Function(Function),
    /// `sha256hex:a+b`: the SHA-256 of several values, one after the other, in lower-case hexadecimal. Only in the reply
    /// to a handshake.
    Sha256HexOf(Vec<Reference>),
    /// `hmac-sha256-hex:secret,<reference>`: only in the reply to a handshake.
    HmacHex(Box<Reference>),
    /// `hmac-sha256-base64:secret,<reference>`: only in the reply to a handshake.
    HmacBase64(Box<Reference>),
}

/// A text that is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a part of a request; use body, method, url, h:<header>, json:<path>, query:<name>, sig:<field>, \
     sig#<n>, cfg:<setting>, lit:<text>, sha256hex:body, sha256raw:body, crc32dec:body, sha256hex:url or fn:<name>"
)]
pub struct ParseReferenceError(String);

/// The kind of a reference, for code that reads or writes its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role<'r> {
    Place(Place<'r>),
    Field(Field<'r>),
    Function(&'r Function),
    /// Derived from the whole request, or given by the rule or the source.
    Derived,
}

/// A place of its own in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'r> {
    Header(&'r str),
    /// The beginning of the headers' names.
    HeaderSeries(&'r str),
    Json {
        pointer: &'r str,
        optional: bool,
    },
    Query(&'r str),
}

/// A part of the signature header, which has to be parsed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'r> {
    Named(&'r str),
    Entry(usize),
}

impl Reference {
    /// The kind of the reference, for code that reads or writes its value.
    #[must_use]
    pub fn role(&self) -> Role<'_> {
        match self {
            Self::Header(name) => Role::Place(Place::Header(name)),
            Self::HeaderSeries(prefix) => Role::Place(Place::HeaderSeries(prefix)),
            Self::Json { pointer, optional } => Role::Place(Place::Json { pointer, optional: *optional }),
            Self::Query(name) => Role::Place(Place::Query(name)),
            Self::SignatureField(name) => Role::Field(Field::Named(name)),
            Self::SignatureEntry(index) => Role::Field(Field::Entry(*index)),
            Self::Function(function) => Role::Function(function),
            Self::Body
            | Self::BodySha256Hex
            | Self::BodySha256Raw
            | Self::BodyCrc32
            | Self::Url
            | Self::UrlSha256Hex
            | Self::Method
            | Self::Setting(_)
            | Self::Literal(_)
            | Self::Secret
            | Self::Sha256HexOf(_)
            | Self::HmacHex(_)
            | Self::HmacBase64(_) => Role::Derived,
        }
    }

    /// Whether the value is read from a JSON body.
    #[must_use]
    pub fn reads_json(&self) -> bool {
        match self {
            Self::Json { .. } => true,
            Self::HmacHex(inner) | Self::HmacBase64(inner) => inner.reads_json(),
            Self::Sha256HexOf(parts) => parts.iter().any(Self::reads_json),
            Self::Function(function) => match function {
                Function::SnsCanonical | Function::FirstItem | Function::Items(_) => true,
                Function::SignedHeaders(names) => names.reads_json(),
                Function::FormSortedConcat | Function::HubspotUri => false,
            },
            Self::Header(_)
            | Self::HeaderSeries(_)
            | Self::Query(_)
            | Self::SignatureField(_)
            | Self::SignatureEntry(_)
            | Self::Body
            | Self::BodySha256Hex
            | Self::BodySha256Raw
            | Self::BodyCrc32
            | Self::Url
            | Self::UrlSha256Hex
            | Self::Method
            | Self::Setting(_)
            | Self::Literal(_)
            | Self::Secret => false,
        }
    }
}

impl Reference {
    /// Whether the value depends on the body.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        match self {
            Self::Body | Self::BodySha256Hex | Self::BodySha256Raw | Self::BodyCrc32 | Self::Json { .. } => true,
            Self::HmacHex(inner) | Self::HmacBase64(inner) => inner.reads_body(),
            Self::Sha256HexOf(parts) => parts.iter().any(Self::reads_body),
            Self::Function(function) => match function {
                Function::SnsCanonical | Function::FormSortedConcat | Function::FirstItem | Function::Items(_) => true,
                Function::SignedHeaders(names) => names.reads_body(),
                Function::HubspotUri => false,
            },
            Self::Header(_)
            | Self::HeaderSeries(_)
            | Self::Query(_)
            | Self::SignatureField(_)
            | Self::SignatureEntry(_)
            | Self::Url
            | Self::UrlSha256Hex
            | Self::Method
            | Self::Setting(_)
            | Self::Literal(_)
            | Self::Secret => false,
        }
    }

    /// Whether the value depends on the spelling of the URL.
    pub(crate) const fn reads_url(&self) -> bool {
        matches!(self, Self::Url | Self::UrlSha256Hex | Self::Function(Function::HubspotUri))
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        parse(text).ok_or_else(|| ParseReferenceError(text.to_owned()))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "h:{name}"),
            Self::HeaderSeries(prefix) => write!(f, "h*:{prefix}"),
            Self::Json { pointer, optional: false } => write!(f, "json:{pointer}"),
            Self::Json { pointer, optional: true } => write!(f, "json?:{pointer}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::SignatureField(name) => write!(f, "sig:{name}"),
            Self::SignatureEntry(index) => write!(f, "sig#{index}"),
            Self::Body => f.write_str("body"),
            Self::BodySha256Hex => f.write_str("sha256hex:body"),
            Self::BodySha256Raw => f.write_str("sha256raw:body"),
            Self::BodyCrc32 => f.write_str("crc32dec:body"),
            Self::Url => f.write_str("url"),
            Self::UrlSha256Hex => f.write_str("sha256hex:url"),
            Self::Method => f.write_str("method"),
            Self::Setting(name) => write!(f, "cfg:{name}"),
            Self::Literal(text) => write!(f, "lit:{text}"),
            Self::Secret => f.write_str("secret"),
            Self::Function(function) => write!(f, "fn:{function}"),
            Self::Sha256HexOf(parts) => {
                let parts: Vec<_> = parts.iter().map(Self::to_string).collect();
                write!(f, "sha256hex:{}", parts.join("+"))
            }
            Self::HmacHex(inner) => write!(f, "hmac-sha256-hex:secret,{inner}"),
            Self::HmacBase64(inner) => write!(f, "hmac-sha256-base64:secret,{inner}"),
        }
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether a text can be the name of a header (RFC 9110, `token`).
#[must_use]
pub fn is_header_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn parse(text: &str) -> Option<Reference> {
    match text {
        "body" => return Some(Reference::Body),
        "url" => return Some(Reference::Url),
        "method" => return Some(Reference::Method),
        "sha256hex:body" => return Some(Reference::BodySha256Hex),
        "sha256raw:body" => return Some(Reference::BodySha256Raw),
        "crc32dec:body" => return Some(Reference::BodyCrc32),
        "sha256hex:url" => return Some(Reference::UrlSha256Hex),
        "secret" => return Some(Reference::Secret),
        _ => {}
    }
    if let Some(index) = text.strip_prefix("sig#") {
        return index.parse().ok().map(Reference::SignatureEntry);
    }
    let (kind, name) = text.split_once(':').filter(|(_, name)| !name.is_empty())?;
    let named = || name.to_owned();
    match kind {
        "h" if is_header_name(name) => Some(Reference::Header(name.to_ascii_lowercase())),
        "h*" if is_header_name(name) => Some(Reference::HeaderSeries(name.to_ascii_lowercase())),
        "json" => Some(Reference::Json { pointer: pointer(name), optional: false }),
        "json?" => Some(Reference::Json { pointer: pointer(name), optional: true }),
        "query" => Some(Reference::Query(named())),
        "sig" => Some(Reference::SignatureField(named())),
        "cfg" => Some(Reference::Setting(named())),
        "lit" => Some(Reference::Literal(named())),
        "fn" => name.parse().ok().map(Reference::Function),
        "sha256hex" if name.contains('+') => {
            name.split('+').map(parse).collect::<Option<_>>().map(Reference::Sha256HexOf)
        }
        "hmac-sha256-hex" => Some(Reference::HmacHex(Box::new(parse(name.strip_prefix("secret,")?)?))),
        "hmac-sha256-base64" => Some(Reference::HmacBase64(Box::new(parse(name.strip_prefix("secret,")?)?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_survives_its_text_form() {
        for text in [
            "h:webhook-id",
            "h*:x-docusign-signature-",
            "json:/a/b",
            "json?:/a",
            "query:hub.challenge",
            "sig:t",
            "sig#0",
            "body",
            "sha256hex:body",
            "sha256raw:body",
            "crc32dec:body",
            "url",
            "sha256hex:url",
            "method",
            "secret",
            "lit:a literal: text",
            "fn:first_item",
            "fn:form_sorted_concat",
            "fn:hubspot_uri",
            "fn:items(events[]:id+data.at?)",
            "fn:signed_headers(sig:h)",
            "fn:sns_canonical",
            "sha256hex:query:challenge_code+cfg:verification_token+url",
            "cfg:user_id",
            "hmac-sha256-hex:secret,json:/payload/plainToken",
            "hmac-sha256-base64:secret,query:crc_token",
        ] {
            assert_eq!(text.parse::<Reference>().map(|reference| reference.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn a_dotted_path_is_a_json_pointer_and_a_header_name_is_lower_case() {
        let json = |pointer: &str| Ok(Reference::Json { pointer: pointer.to_owned(), optional: false });
        assert_eq!("json:event.type".parse(), json("/event/type"));
        assert_eq!("json:a/b.c~d".parse(), json("/a~1b/c~0d"));
        assert_eq!("h:X-GitHub-Event".parse(), Ok(Reference::Header("x-github-event".to_owned())));
    }

    #[test]
    fn a_text_that_is_not_a_reference_is_refused() {
        for text in [
            "",
            "h:",
            "h:a b",
            "h:cfg:header",
            "h*:",
            "h*:a b",
            "json:",
            "lit:",
            "sig#x",
            "bdy",
            "hmac-sha256-hex:body",
            "sha256hex:method",
            "sha256hex:body+bdy",
            "fn:trust_me",
            "fn:signed_headers(bdy)",
            "fn:signed_headers",
            "fn:items(id)",
            "fn:items(events[]:id",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
