//! X.509 certificates (RFC 5280), as far as a signature needs them: the public key and the time in which it is valid.
//!
//! Who issued a certificate is not looked at. A certificate is fetched over TLS from a host that the rule names, so that
//! host has vouched for it; a chain to an authority would add that the authority knows the provider's name.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode as _, Reader as _, SliceReader, Tag};

use super::public_key::PublicKey;

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

/// The key of a certificate, and when it is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) key: PublicKey,
    /// Unix time in milliseconds; both ends are valid.
    pub(super) valid_ms: RangeInclusive<u64>,
}

impl Certificate {
    /// Reads the first certificate of a PEM document (RFC 7468). The document must begin with it: an answer that only holds
    /// a certificate somewhere may be a page that repeats what was asked.
    pub(super) fn from_pem(document: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(document).ok()?;
        let (base64, _) = text.trim_start().strip_prefix(PEM_BEGIN)?.split_once(PEM_END)?;
        let base64: String = base64.split_ascii_whitespace().collect();
        Self::from_der(&BASE64.decode(base64).ok()?)
    }

    fn from_der(der: &[u8]) -> Option<Self> {
        let certificate = AnyRef::from_der(der).ok()?;
        let (valid_ms, spki) = certificate.sequence(outer).ok()?;
        Some(Self { key: PublicKey::from_spki(spki)?, valid_ms })
    }
}

type Parts<'c> = (RangeInclusive<u64>, &'c [u8]);

fn outer<'c>(reader: &mut SliceReader<'c>) -> der::Result<Parts<'c>> {
    let parts = reader.decode::<AnyRef<'c>>()?.sequence(inner)?;
    skip_rest(reader)?;
    Ok(parts)
}

/// `TBSCertificate`: version where there is one, serial number, algorithm, issuer, validity, subject, key, and more.
fn inner<'c>(reader: &mut SliceReader<'c>) -> der::Result<Parts<'c>> {
    if reader.peek_tag()? != Tag::Integer {
        reader.tlv_bytes()?;
    }
    for _serial_algorithm_issuer in 0..3 {
        reader.tlv_bytes()?;
    }
    let valid_ms = reader.sequence(|validity| Ok::<_, der::Error>(time(validity)?..=time(validity)?))?;
    let _subject = reader.tlv_bytes()?;
    let spki = reader.tlv_bytes()?;
    skip_rest(reader)?;
    Ok((valid_ms, spki))
}

fn time(reader: &mut SliceReader<'_>) -> der::Result<u64> {
    let since_1970 = match reader.peek_tag()? {
        Tag::UtcTime => reader.decode::<UtcTime>()?.to_unix_duration(),
        _ => reader.decode::<GeneralizedTime>()?.to_unix_duration(),
    };
    Ok(since_1970.as_secs().saturating_mul(1_000))
}

fn skip_rest(reader: &mut SliceReader<'_>) -> der::Result<()> {
    reader.drain(reader.remaining_len())
}
