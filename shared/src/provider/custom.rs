//! The scheme of the `custom` provider, which its owner describes.

use std::collections::BTreeMap;

use super::fields::Fields;
use crate::scheme::key_encoding::KeyEncoding;
use crate::scheme::reference::Reference;
use crate::scheme::rule::{Algorithm, MacRule, Scheme, SignatureEncoding, SignatureRule, TimestampRule, TimestampUnit};
use crate::scheme::template::Template;

const DEFAULT_TOLERANCE_S: u32 = 300;

const HASHES: [(&str, Algorithm); 3] =
    [("sha256", Algorithm::HmacSha256), ("sha512", Algorithm::HmacSha512), ("sha1", Algorithm::HmacSha1)];

const ENCODINGS: [(&str, SignatureEncoding); 3] = [
    ("hex", SignatureEncoding::Hex),
    ("base64", SignatureEncoding::Base64),
    ("base64url", SignatureEncoding::Base64Url),
];

/// Whether the signed bytes are those inside the content-encoding.
const SIGNED: [(&str, bool); 2] = [("as_sent", false), ("decoded", true)];

const UNITS: [(&str, TimestampUnit); 2] = [("s", TimestampUnit::Seconds), ("ms", TimestampUnit::Milliseconds)];

/// The scheme that the settings describe, or `None` and a problem for each wrong setting.
pub(super) fn scheme(fields: &mut Fields<'_>, settings: &BTreeMap<&str, String>) -> Option<Scheme> {
    let setting = |name: &str| settings.get(name).map(String::as_str);
    // All of them are read before the first missing one returns, so that all problems are reported at once.
    let algorithm = setting("hash").and_then(|text| fields.choice("hash", text, &HASHES));
    let encoding = setting("encoding").and_then(|text| fields.choice("encoding", text, &ENCODINGS));
    let unit = setting("timestamp_unit").and_then(|text| fields.choice("timestamp_unit", text, &UNITS));
    let key_encoding = setting("key_encoding").and_then(|text| key_encoding(fields, text));
    let decoded = setting("signed_body").and_then(|text| fields.choice("signed_body", text, &SIGNED));
    let content = setting("content").and_then(|text| content(fields, text));
    let timestamp_header = setting("timestamp_header").map(|name| Reference::Header(name.to_owned()));
    let place = Reference::Header(setting("header")?.to_owned());

    let unit = unit?;
    let timestamp = timestamp_header.map(|place| TimestampRule {
        place,
        unit,
        tolerance_s: Some(DEFAULT_TOLERANCE_S),
        past_only: false,
    });
    // A prefix is a separator with nothing before it.
    let separator = setting("prefix").map(str::to_owned);
    let key = separator.as_ref().map(|_| String::new());
    let signature = SignatureRule { place, encoding: encoding?, list: None, separator, key, skip: 0, blanks: false };
    let rule = MacRule {
        algorithm: algorithm?,
        key_encoding: key_encoding?,
        content: content?,
        signature,
        timestamp,
        require: Vec::new(),
        each: None,
        urls: Vec::new(),
        queries: Vec::new(),
        hosts: Vec::new(),
        decoded: decoded?,
        settings: BTreeMap::new(),
    };
    if let Some(timestamp) = &rule.timestamp
        && !rule.covers(&timestamp.place)
    {
        fields.problem(
            "timestamp_header",
            format!(
                "names a header that is not signed, so that anyone could change the timestamp; add {{{}}} to `content`",
                timestamp.place
            ),
        );
    }
    Some(Scheme::Mac(Box::new(rule)))
}

fn key_encoding(fields: &mut Fields<'_>, text: &str) -> Option<KeyEncoding> {
    let known = [("utf8", ()), ("hex", ()), ("base64", ()), ("whsec", ())];
    fields.choice("key_encoding", text, &known)?;
    text.parse().ok()
}

fn content(fields: &mut Fields<'_>, text: &str) -> Option<Template> {
    let content: Template = match text.parse() {
        Ok(content) => content,
        Err(error) => {
            fields.problem("content", error.to_string());
            return None;
        }
    };
    let of_the_body =
        |r: &Reference| matches!(r, Reference::Body | Reference::BodySha256Hex | Reference::BodySha256Raw);
    if !content.references().any(of_the_body) {
        fields.problem(
            "content",
            "does not include the body, so that anyone could change it; add {body} or {sha256hex:body}",
        );
    }
    let unknown = content.references().find(|reference| matches!(reference, Reference::Setting(_)));
    if let Some(reference) = unknown {
        fields.problem(
            "content",
            format!("{{{reference}}} names a setting, but this provider has none; use the text itself"),
        );
    }
    Some(content)
}
