//! Reads bodies: one lenient reader for ids, types, handshakes, signatures in the body, filters and transforms.
//!
//! The bytes themselves are verified and delivered; a value that is read here is never sent in their place.
//!
//! A body is read in this order:
//!
//! 1. Bytes that are JSON in UTF-8 are that JSON, whatever the headers say. Most signatures do not cover the headers, so a
//!    copy of a signed request with other headers must not be read as something else.
//! 2. The content-encodings `gzip` and `deflate` are undone, up to a limit; gzip also without a header that names it. A body
//!    that is not encoded as its header says is taken as it is: some proxies decode a body and keep the header.
//! 3. A byte order mark, the zeros of UTF-16, or the charset of `content-type` say how the bytes become text:
//!    UTF-8, UTF-16, windows-1252. JSON is looked for again.
//! 4. `application/x-www-form-urlencoded` and `multipart/form-data` become objects of their fields.
//! 5. Whatever else is text stays text.
//!
//! | in the body | what is read |
//! |---|---|
//! | half of a surrogate pair (`"\ud83d"`), bytes that are no UTF-8 | U+FFFD |
//! | a number of any size | its digits, as they are written |
//! | `NaN`, `Infinity`, `-Infinity` (Python writes them) | a number of these letters |
//! | control characters in a text (templates write them) | themselves |
//! | a name that is repeated in an object | the last one |
//! | more than [`MAX_LEVELS`] levels | nothing: [`Content::TooDeep`] |
//! | comments, trailing commas, single quotes, text after the value | not JSON, so text |
//! | a field of a form that is repeated | a list of its values |
//! | `payload` as the only text of a form, holding JSON (GitHub, Slack) | that JSON |
//! | a form of more than 10,000 fields | nothing: [`Content::TooLarge`] |
//! | a file of a multipart form | an object of `name`, `filename`, `type` and `size` |
//!
//! A document takes time in proportion to its text, and twelve bytes for each value and each name in addition to it: at most
//! six times its size, and ordinarily less than once.

mod charset;
mod coding;
mod document;
mod form;
mod multipart;
mod number;
mod parse;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

#[cfg(test)]
pub(crate) use coding::gzip;
pub use document::{Document, Json, Step, Value};
pub use number::{Number, compare};

use crate::header::HeaderList;
use coding::Decoded;
use parse::NotJson;

/// How many levels arrays and objects may be nested.
pub const MAX_LEVELS: usize = 5_000;

/// The content of a body.
#[derive(Debug)]
pub enum Content<'a> {
    /// JSON, or the fields of a form.
    Document(Document<'a>),
    /// Text that is neither; not empty.
    Text(Cow<'a, str>),
    /// Nothing readable: no bytes, or bytes that are not text.
    Nothing,
    /// JSON with more than [`MAX_LEVELS`] levels.
    TooDeep,
    /// Decoded, it would be larger than the limit; or it is a form of more fields than are read.
    TooLarge,
}

impl<'a> Content<'a> {
    /// The document, if it is one.
    #[must_use]
    pub fn document(self) -> Option<Document<'a>> {
        match self {
            Self::Document(document) => Some(document),
            Self::Text(_) | Self::Nothing | Self::TooDeep | Self::TooLarge => None,
        }
    }
}

/// Reads a body. `max_decoded_bytes` limits only a body that is content-encoded.
#[must_use]
pub fn read<'a>(headers: &HeaderList, body: &'a [u8], max_decoded_bytes: usize) -> Content<'a> {
    let text = std::str::from_utf8(charset::without_mark(body));
    match text.map(parse::json) {
        Ok(Ok(document)) => return Content::Document(document),
        Ok(Err(NotJson::TooDeep)) => return Content::TooDeep,
        Ok(Err(NotJson::Other)) | Err(_) => {}
    }
    match coding::decode(headers, body, max_decoded_bytes) {
        Decoded::AsItIs => read_plain(headers, body, true),
        Decoded::Into(bytes) => owned(read_plain(headers, &bytes, false)),
        Decoded::TooLarge => Content::TooLarge,
    }
}

/// Whether a body is JSON, whatever the headers say, even with more than [`MAX_LEVELS`] levels.
pub(crate) fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(charset::without_mark(body)).is_ok_and(|text| !matches!(parse::json(text), Err(NotJson::Other)))
}

/// The bytes inside the content-encoding of a body; the body itself if it has no known one. `None` if they are more
/// than `max_decoded_bytes`.
#[must_use]
pub fn decoded<'a>(headers: &HeaderList, body: &'a [u8], max_decoded_bytes: usize) -> Option<Cow<'a, [u8]>> {
    match coding::decode(headers, body, max_decoded_bytes) {
        Decoded::AsItIs => Some(Cow::Borrowed(body)),
        Decoded::Into(bytes) => Some(Cow::Owned(bytes)),
        Decoded::TooLarge => None,
    }
}

/// The most bytes that a body of `body_bytes` may become when its content-encoding is undone: 32 times its size, at
/// least 64 KiB and at most 4 MiB. JSON seldom compresses to less than a tenth, so memory and time stay in proportion
/// to the size that was sent.
#[must_use]
pub fn decoded_limit(body_bytes: usize) -> usize {
    body_bytes.saturating_mul(32).clamp(64 * 1024, 4 * 1024 * 1024)
}

/// Reads bytes that are not content-encoded. `is_not_json` says that they are not JSON as they are.
fn read_plain<'a>(headers: &HeaderList, bytes: &'a [u8], is_not_json: bool) -> Content<'a> {
    let media = MediaType::of(headers);
    let (text, exact) = charset::text(bytes, media.charset());
    let json = match text {
        Cow::Borrowed(_) if is_not_json => Err(NotJson::Other),
        Cow::Borrowed(text) => parse::json(text),
        Cow::Owned(ref text) => parse::json(text).map(Document::into_owned),
    };
    match json {
        Ok(document) => return Content::Document(document),
        Err(NotJson::TooDeep) => return Content::TooDeep,
        Err(NotJson::Other) => {}
    }
    if media.is("application/x-www-form-urlencoded") {
        return form::document(form::fields(&text, media.charset()));
    }
    if media.is("multipart/form-data")
        && let Some(boundary) = media.parameter("boundary")
    {
        return form::document(multipart::fields(bytes, boundary, media.charset()));
    }
    if exact && !text.is_empty() { Content::Text(text) } else { Content::Nothing }
}

fn owned(content: Content<'_>) -> Content<'static> {
    match content {
        Content::Document(document) => Content::Document(document.into_owned()),
        Content::Text(text) => Content::Text(Cow::Owned(text.into_owned())),
        Content::Nothing => Content::Nothing,
        Content::TooDeep => Content::TooDeep,
        Content::TooLarge => Content::TooLarge,
    }
}

/// A header such as `content-type: text/plain; charset=utf-8`; empty if there is none.
struct MediaType<'a>(&'a str);

impl<'a> MediaType<'a> {
    fn of(headers: &'a HeaderList) -> Self {
        Self(headers.get("content-type").unwrap_or_default())
    }

    fn is(&self, name: &str) -> bool {
        self.0.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(name)
    }

    fn charset(&self) -> Option<&'a str> {
        self.parameter("charset")
    }

    /// A parameter without its quotes, if it is not empty. No escapes are known: browsers write `%22` for a quote.
    fn parameter(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.0.split_once(';')?.1;
        loop {
            let (found, behind) = rest.split_once('=')?;
            let behind = behind.trim_start();
            let (value, next) = match behind.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => behind.split_once(';').map_or((behind, ""), |(value, _)| (value, &behind[value.len()..])),
            };
            // A parameter without a value may come before this one.
            let found = found.rsplit(';').next().unwrap_or_default();
            if found.trim().eq_ignore_ascii_case(name) {
                return Some(value.trim()).filter(|value| !value.is_empty());
            }
            rest = next.split_once(';')?.1;
        }
    }
}
