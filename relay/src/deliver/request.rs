//! The request of an attempt: its URL and its headers, with a signature over exactly the bytes that are sent.

use std::borrow::Cow;

use egress::OF_THE_CONNECTION;
use engine::item::{Event, Item};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use model::destination::Destination;
use shared::sign::sign;
use url::Url;

use crate::mint;

/// Headers of the provider's request that, in addition to [`OF_THE_CONNECTION`], are not passed on: those that describe
/// the requester or its preferences, credentials, and headers that the edge's platform added.
const NOT_PASSED_ON: [&str; 11] = [
    "accept",
    "authorization",
    "cdn-loop",
    "cookie",
    "forwarded",
    "user-agent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Headers that describe the bytes of the provider's body. They are not passed on with a body that a transform made.
/// Neither is the provider's content type, which is replaced.
///
/// They are the fields that RFC 9110 defines for a representation: its coding, language and location (8.4, 8.5, 8.7),
/// its validators (8.8.2, 8.8.3), and its range if it is a part (14.4). In addition, the digests of a content or a
/// representation that RFC 9530 defines, with their predecessors `Digest` (RFC 3230) and `Content-MD5` (RFC 1864, RFC
/// 2616 section 14.15), and the transfer encoding of MIME (RFC 2045), which some senders use in HTTP. A provider's own
/// headers are not among them: its signature, for instance, is passed on with every body.
const OF_THE_BODY: [&str; 11] = [
    "content-digest",
    "content-encoding",
    "content-language",
    "content-location",
    "content-md5",
    "content-range",
    "content-transfer-encoding",
    "digest",
    "etag",
    "last-modified",
    "repr-digest",
];

const ORIGINAL_METHOD: &str = "tidegate-original-method";
const ORIGINAL_QUERY: &str = "tidegate-original-query";

/// The longest query that is sent in [`ORIGINAL_QUERY`], and the longest URL, in bytes: the length that every server
/// should support (RFC 9110, section 4.1). Many servers refuse longer lines.
const MAX_QUERY_BYTES: usize = 8_000;
pub(crate) const MAX_URL_BYTES: usize = 8_000;

/// Which headers describe the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Described {
    /// The provider's headers: the body is the provider's.
    ByProvider,
    /// Only this content type: a transform made the body.
    Anew(Option<HeaderValue>),
}

/// The URL would be longer than [`MAX_URL_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the URL including the appended query is {0} bytes long, but at most {MAX_URL_BYTES} are allowed; set append_query \
     of the destination to false, then release the delivery"
)]
pub(super) struct UrlTooLong(usize);

/// The URL of a delivery: the URL of its destination, with the query of the provider's request appended if the
/// destination is configured for that.
///
/// # Errors
/// Returns an error if the query makes the URL too long.
pub(super) fn url<'a>(destination: &'a Destination, query: &str) -> Result<Cow<'a, Url>, UrlTooLong> {
    if !destination.append_query || query.is_empty() {
        return Ok(Cow::Borrowed(&destination.url));
    }
    let mut url = destination.url.clone();
    let own = url.query().unwrap_or_default();
    let joint = if own.is_empty() || own.ends_with('&') { "" } else { "&" };
    let both = format!("{own}{joint}{query}");
    // It escapes every character that would end a query, so that no part of it becomes another component of the URL.
    url.set_query(Some(&both));
    match url.as_str().len() {
        length if length > MAX_URL_BYTES => Err(UrlTooLong(length)),
        _ => Ok(Cow::Owned(url)),
    }
}

/// The headers of a delivery: the provider's own, so that a receiver can verify them again, then the destination's,
/// then those that Tidegate adds. If a provider uses Standard Webhooks itself, its headers are passed on as
/// `tidegate-original-webhook-…`.
pub(super) fn headers(item: &Item, destination: &Destination, described: &Described, body: &[u8]) -> HeaderMap {
    let event = &item.event;
    // Enough capacity for all of them, including those that the HTTP client adds.
    let mut headers = HeaderMap::with_capacity(event.meta.headers.iter().len() + destination.headers.len() + 16);
    for (name, value) in event.meta.headers.iter() {
        let platform = name.starts_with("cf-") || name.starts_with("sec-") || name.starts_with("proxy-");
        let outdated = *described != Described::ByProvider && OF_THE_BODY.contains(&name);
        if platform || outdated || OF_THE_CONNECTION.contains(&name) || NOT_PASSED_ON.contains(&name) {
            continue;
        }
        let name = if name.starts_with("webhook-") {
            HeaderName::from_bytes(format!("tidegate-original-{name}").as_bytes())
        } else {
            HeaderName::from_bytes(name.as_bytes())
        };
        if let (Ok(name), Some(value)) = (name, original(value)) {
            headers.append(name, value);
        }
    }
    headers.remove(CONTENT_TYPE);
    for (name, value) in &destination.headers {
        headers.insert(name, value.clone());
    }
    let content_type = match described {
        Described::ByProvider => event.meta.headers.get("content-type").and_then(original),
        Described::Anew(content_type) => content_type.clone(),
    };
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, content_type);
    }
    match original_query(event) {
        Some(query) => headers.insert(ORIGINAL_QUERY, query),
        None => headers.remove(ORIGINAL_QUERY),
    };
    let id = event.meta.id.to_string();
    let now_ms = mint::now_ms();
    let timestamp_s = now_ms / 1000;
    let signature = sign(destination.signing_secrets.signing(now_ms), &id, timestamp_s, body);
    for (name, value) in [
        ("webhook-id", id),
        ("webhook-timestamp", timestamp_s.to_string()),
        ("webhook-signature", signature),
        ("tidegate-delivery-id", item.id.to_string()),
        ("tidegate-attempt", (u32::from(item.attempts) + 1).to_string()),
        (ORIGINAL_METHOD, event.meta.method.clone()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    headers
}

/// The query as it is sent in a header: empty if there is none, `None` if it is too long. The edge passes it
/// percent-encoded. Characters that a header cannot contain, or that a receiver would strip as surrounding white space,
/// are encoded here.
fn original_query(event: &Event) -> Option<HeaderValue> {
    let query = &event.meta.query;
    let text = if query.bytes().all(|byte| byte.is_ascii_graphic()) {
        Cow::Borrowed(query)
    } else {
        let encode =
            |byte: u8| if byte.is_ascii_graphic() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        Cow::Owned(query.bytes().map(encode).collect())
    };
    HeaderValue::from_str(&text).ok().filter(|value| value.len() <= MAX_QUERY_BYTES)
}

/// A header value of the provider. The edge's platform has decoded it as UTF-8, so this is what arrived, unless it was
/// not UTF-8: the platform has replaced such bytes with U+FFFD, and they cannot be recovered.
fn original(value: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(value).ok()
}

#[cfg(test)]
mod tests;
