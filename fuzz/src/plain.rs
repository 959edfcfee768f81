//! The documented signatures of providers, implemented once more in the plainest way: no rule language, no catalogue,
//! nothing of `shared`. A request that `shared` accepts must also be accepted here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::Signer as _;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::wire::{NOW_MS, Wire};

/// The secret of each of them.
pub(super) const SECRET: &str = "the secret of every source that is fuzzed";
/// The same bytes as Standard Webhooks write them.
const STANDARD: &str = "whsec_dGhlIHNlY3JldCBvZiBldmVyeSBzb3VyY2UgdGhhdCBpcyBmdXp6ZWQ=";
/// Of the Ed25519 key that signs.
const SEED: [u8; 32] = [7; 32];

/// A provider whose requests are read here too.
pub(super) struct Plain {
    pub(super) id: &'static str,
    read: fn(&Reader<'_>) -> Option<Claim>,
    tag: fn(&[u8]) -> String,
}

pub(super) const PROVIDERS: &[Plain] = &[
    Plain { id: "github", read: github, tag: sha256_hex },
    Plain { id: "stripe", read: stripe, tag: sha256_hex },
    Plain { id: "slack", read: slack, tag: sha256_hex },
    Plain { id: "shopify", read: shopify, tag: sha256_base64 },
    Plain { id: "standard-webhooks", read: standard_webhooks, tag: sha256_base64 },
    Plain { id: "recurly", read: recurly, tag: sha256_hex },
    Plain { id: "zendesk", read: zendesk, tag: sha256_base64 },
    Plain { id: "twilio", read: twilio, tag: sha1_base64 },
    Plain { id: "discord", read: discord, tag: ed25519_hex },
    Plain { id: "telegram", read: telegram, tag: |_| SECRET.to_owned() },
    Plain { id: "basic", read: basic, tag: |_| BASE64.encode(format!("user:{SECRET}")) },
];

/// The values of a request.
struct Claim {
    signed: Vec<u8>,
    tags: Vec<String>,
    /// The signed time in milliseconds, if one is signed, and its precision.
    at: Option<(u64, Unit)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// Reads headers: strictly, or whatever is there, so that a wrong request can be signed too.
struct Reader<'a> {
    wire: &'a Wire,
    strict: bool,
}

impl Plain {
    /// The secret of a source of this provider.
    pub(super) fn secret(&self) -> String {
        match self.id {
            "standard-webhooks" => STANDARD.to_owned(),
            "basic" => format!("user:{SECRET}"),
            "discord" => hex::encode(ed25519_dalek::SigningKey::from_bytes(&SEED).verifying_key().to_bytes()),
            _ => SECRET.to_owned(),
        }
    }

    /// The signature of a request, however wrong that is.
    pub(super) fn sign(&self, wire: &Wire) -> String {
        let claim = (self.read)(&Reader { wire, strict: false });
        (self.tag)(&claim.map(|claim| claim.signed).unwrap_or_default())
    }

    /// Whether a request is genuine and of this time.
    pub(super) fn accepts(&self, wire: &Wire) -> bool {
        let Some(claim) = (self.read)(&Reader { wire, strict: true }) else { return false };
        let near = claim.at.is_none_or(|(at_ms, unit)| {
            let now_ms = if unit == Unit::Seconds { NOW_MS / 1_000 * 1_000 } else { NOW_MS };
            now_ms.abs_diff(at_ms) <= 300_000
        });
        near && claim.tags.contains(&(self.tag)(&claim.signed))
    }
}

impl Reader<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        let values: Vec<_> = self.wire.headers.all(name).collect();
        match values[..] {
            [one] if !one.is_empty() && !one.contains(", ") => Some(one),
            _ if self.strict => None,
            _ => Some(values.first().copied().unwrap_or_default()),
        }
    }

    /// The only element, or the first if the request need not be right.
    fn only<'t>(&self, texts: &[&'t str]) -> Option<&'t str> {
        match texts {
            [one] if !one.is_empty() => Some(one),
            _ if self.strict => None,
            _ => Some(texts.first().copied().unwrap_or_default()),
        }
    }

    fn number(&self, text: &str, unit: Unit) -> Option<(u64, Unit)> {
        let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        let number = if digits { text.parse::<u64>().ok() } else { None };
        let at_ms = number.and_then(|number| number.checked_mul(if unit == Unit::Seconds { 1_000 } else { 1 }));
        if self.strict { at_ms.map(|at_ms| (at_ms, unit)) } else { Some((0, unit)) }
    }

    fn date(&self, text: &str) -> Option<(u64, Unit)> {
        let unit = if text.contains('.') { Unit::Milliseconds } else { Unit::Seconds };
        let at = OffsetDateTime::parse(text, &Rfc3339).ok();
        let at_ms = at.and_then(|at| u64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).ok());
        if self.strict { at_ms.map(|at_ms| (at_ms, unit)) } else { Some((0, unit)) }
    }
}

fn github(reader: &Reader<'_>) -> Option<Claim> {
    let tag = reader.header("x-hub-signature-256")?.trim().strip_prefix("sha256=").unwrap_or_default();
    Some(Claim { signed: reader.wire.body.clone(), tags: vec![tag.to_ascii_lowercase()], at: None })
}

fn stripe(reader: &Reader<'_>) -> Option<Claim> {
    let header = reader.header("stripe-signature")?;
    let pairs: Vec<_> = header.split(',').filter_map(|entry| entry.trim().split_once('=')).collect();
    let of = |name| pairs.iter().filter(move |(key, _)| *key == name).map(|(_, value)| *value).collect::<Vec<_>>();
    let time = reader.only(&of("t"))?;
    let signed = [time.as_bytes(), b".", &reader.wire.body].concat();
    let tags = of("v1").into_iter().map(str::to_ascii_lowercase).collect();
    Some(Claim { signed, tags, at: Some(reader.number(time, Unit::Seconds)?) })
}

fn slack(reader: &Reader<'_>) -> Option<Claim> {
    let time = reader.header("x-slack-request-timestamp")?;
    let tag = reader.header("x-slack-signature")?.trim().strip_prefix("v0=").unwrap_or_default();
    let signed = [b"v0:", time.as_bytes(), b":", &reader.wire.body].concat();
    let at = Some(reader.number(time, Unit::Seconds)?);
    Some(Claim { signed, tags: vec![tag.to_ascii_lowercase()], at })
}

fn shopify(reader: &Reader<'_>) -> Option<Claim> {
    let tag = reader.header("x-shopify-hmac-sha256")?.trim().to_owned();
    Some(Claim { signed: reader.wire.body.clone(), tags: vec![tag], at: None })
}

fn standard_webhooks(reader: &Reader<'_>) -> Option<Claim> {
    let [id, time, tags] = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| reader.header(name));
    let (id, time, tags) = (id?, time?, tags?);
    if reader.strict && (id.contains('.') || time.contains('.')) {
        return None;
    }
    let signed = [id.as_bytes(), b".", time.as_bytes(), b".", &reader.wire.body].concat();
    let tags = tags.split(' ').filter_map(|entry| entry.trim().strip_prefix("v1,")).map(str::to_owned).collect();
    Some(Claim { signed, tags, at: Some(reader.number(time, Unit::Seconds)?) })
}

fn recurly(reader: &Reader<'_>) -> Option<Claim> {
    let entries: Vec<_> = reader.header("recurly-signature")?.split(',').map(str::trim).collect();
    let mut entries = entries.into_iter().filter(|entry| !entry.is_empty());
    let time = entries.next().unwrap_or_default();
    if reader.strict && time.contains('.') {
        return None;
    }
    let signed = [time.as_bytes(), b".", &reader.wire.body].concat();
    let at = Some(reader.number(time, Unit::Milliseconds)?);
    Some(Claim { signed, tags: entries.map(str::to_ascii_lowercase).collect(), at })
}

fn zendesk(reader: &Reader<'_>) -> Option<Claim> {
    let time = reader.header("x-zendesk-webhook-signature-timestamp")?;
    let tag = reader.header("x-zendesk-webhook-signature")?.trim().to_owned();
    let signed = [time.as_bytes(), &reader.wire.body].concat();
    Some(Claim { signed, tags: vec![tag], at: Some(reader.date(time)?) })
}

/// The URL and the parameters of the form; or, if the URL contains the hash of the body, the URL alone.
fn twilio(reader: &Reader<'_>) -> Option<Claim> {
    let tag = reader.header("x-twilio-signature")?.trim().to_owned();
    let mut signed = reader.wire.url.clone();
    if signed.contains("bodySHA256") {
        let parameters = form(reader.wire.query().as_bytes());
        let hashes: Vec<_> = parameters.iter().filter(|(name, _)| name == "bodySHA256").collect();
        let right = hex::encode(<Sha256 as sha2::Digest>::digest(&reader.wire.body));
        if reader.strict && !matches!(hashes[..], [(_, hash)] if *hash == right) {
            return None;
        }
    } else {
        let mut parameters = form(&reader.wire.body);
        parameters.sort_by_key(|(name, value)| {
            (name.encode_utf16().collect::<Vec<_>>(), value.encode_utf16().collect::<Vec<_>>())
        });
        parameters.dedup();
        parameters.iter().for_each(|(name, value)| signed.extend([name.as_str(), value.as_str()]));
    }
    Some(Claim { signed: signed.into_bytes(), tags: vec![tag], at: None })
}

fn discord(reader: &Reader<'_>) -> Option<Claim> {
    let time = reader.header("x-signature-timestamp")?;
    let tag = reader.header("x-signature-ed25519")?.trim().to_ascii_lowercase();
    let signed = [time.as_bytes(), &reader.wire.body].concat();
    Some(Claim { signed, tags: vec![tag], at: Some(reader.number(time, Unit::Seconds)?) })
}

fn telegram(reader: &Reader<'_>) -> Option<Claim> {
    let tags = reader.wire.headers.all("x-telegram-bot-api-secret-token").map(str::to_owned).collect::<Vec<_>>();
    (tags.len() == 1).then(|| Claim { signed: Vec::new(), tags, at: None })
}

fn basic(reader: &Reader<'_>) -> Option<Claim> {
    let values: Vec<_> = reader.wire.headers.all("authorization").collect();
    let [value] = values[..] else { return None };
    let (scheme, credentials) = value.split_once(' ')?;
    let tags = vec![credentials.trim_start_matches(' ').to_owned()];
    scheme.eq_ignore_ascii_case("basic").then(|| Claim { signed: Vec::new(), tags, at: None })
}

/// The parameters of a form (WHATWG URL, `application/x-www-form-urlencoded`).
fn form(text: &[u8]) -> Vec<(String, String)> {
    let decode = |part: &[u8]| {
        let mut out = Vec::new();
        let mut at = 0;
        while let Some(byte) = part.get(at) {
            let code = part.get(at + 1..at + 3).filter(|code| *byte == b'%' && code.iter().all(u8::is_ascii_hexdigit));
            match code.and_then(|code| hex::decode(code).ok()) {
                Some(decoded) => {
                    out.extend(decoded);
                    at += 3;
                }
                None => {
                    out.push(if *byte == b'+' { b' ' } else { *byte });
                    at += 1;
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    let pairs = text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = at.map_or((pair, &b""[..]), |at| (&pair[..at], &pair[at + 1..]));
            (decode(name), decode(value))
        })
        .collect()
}

pub(super) fn hmac<M: KeyInit + Mac>(text: &[u8]) -> Vec<u8> {
    let mac = <M as KeyInit>::new_from_slice(SECRET.as_bytes()).expect("an HMAC takes a key of any length");
    mac.chain_update(text).finalize().into_bytes().to_vec()
}

fn sha256_hex(text: &[u8]) -> String {
    hex::encode(hmac::<Hmac<Sha256>>(text))
}

fn sha256_base64(text: &[u8]) -> String {
    BASE64.encode(hmac::<Hmac<Sha256>>(text))
}

fn sha1_base64(text: &[u8]) -> String {
    BASE64.encode(hmac::<Hmac<Sha1>>(text))
}

fn ed25519_hex(text: &[u8]) -> String {
    hex::encode(ed25519_dalek::SigningKey::from_bytes(&SEED).sign(text).to_bytes())
}
