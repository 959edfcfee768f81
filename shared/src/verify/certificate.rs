//! X.509 certificates (RFC 5280), as far as a signature needs them: the public key and the time in which it is valid.
//!
//! The issuer of a certificate is not checked. A certificate is fetched over TLS from a host that the rule names, so
//! that host has vouched for it; a chain to an authority would add only that the authority knows the provider's name.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, UtcTime};
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
    /// Reads the first certificate of a PEM document (RFC 7468). The document must begin with it: an answer that
    /// contains a certificate elsewhere may be a page that repeats the request.
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
    let _algorithm = sequence(reader)?;
    let _signature: BitStringRef<'c> = reader.decode()?;
    Ok(parts)
}

/// `TBSCertificate`: an optional version, serial number, algorithm, issuer, validity, subject, key, and more.
fn inner<'c>(reader: &mut SliceReader<'c>) -> der::Result<Parts<'c>> {
    if Tag::peek(reader)? != Tag::Integer {
        reader.tlv_bytes()?;
    }
    let _serial = reader.tlv_bytes()?;
    let (_algorithm, _issuer) = (sequence(reader)?, sequence(reader)?);
    let valid_ms = reader.sequence(|validity| Ok::<_, der::Error>(time(validity)?..=time(validity)?))?;
    let _subject = sequence(reader)?;
    let spki = sequence(reader)?;
    while !reader.is_finished() {
        let _extensions = reader.tlv_bytes()?;
    }
    Ok((valid_ms, spki))
}

fn sequence<'c>(reader: &mut SliceReader<'c>) -> der::Result<&'c [u8]> {
    Tag::peek(reader)?.assert_eq(Tag::Sequence)?;
    reader.tlv_bytes()
}

fn time(reader: &mut SliceReader<'_>) -> der::Result<u64> {
    let since_1970 = if Tag::peek(reader)? == Tag::UtcTime {
        reader.decode::<UtcTime>()?.to_unix_duration()
    } else {
        reader.decode::<GeneralizedTime>()?.to_unix_duration()
    };
    Ok(since_1970.as_secs().saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::tests::test_keys;

    // Made by openssl: RSA until 2081, so that one of its times is a GeneralizedTime, P-256, and RSA of 1024 bits.
    const RSA: &[u8] = include_bytes!("tests/testdata/rsa.pem");
    const P256: &[u8] = include_bytes!("tests/testdata/p256.pem");
    const SMALL: &[u8] = include_bytes!("tests/testdata/rsa-1024.pem");

    fn der(pem: &[u8]) -> Vec<u8> {
        let text = std::str::from_utf8(pem).expect("text");
        let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        BASE64.decode(base64).expect("base64")
    }

    #[test]
    fn the_key_and_the_time_of_a_certificate_are_read() {
        let rsa = Certificate::from_pem(RSA).expect("a certificate");
        assert!(matches!(rsa.key, PublicKey::Rsa(_)));
        assert_eq!(rsa.valid_ms, 1_795_508_080_000..=3_523_508_080_000);
        let p256 = Certificate::from_pem(P256).expect("a certificate");
        assert!(matches!(p256.key, PublicKey::P256(_)));
        assert_eq!(p256.valid_ms, 1_795_508_080_000..=1_827_044_080_000);
        assert_eq!(Certificate::from_pem(SMALL), None, "its key is too small");
    }

    #[test]
    fn the_certificates_that_the_tests_make_are_like_real_ones() {
        let made = test_keys::certificate(&test_keys::rsa_spki(), "200101000000Z", "300101000000Z");
        let read = Certificate::from_pem(&made).expect("a certificate");
        assert_eq!(read.valid_ms, 1_577_836_800_000..=1_893_456_000_000);
    }

    #[test]
    fn the_first_certificate_of_a_chain_counts_and_must_begin_the_document() {
        let chain = [RSA, P256].concat();
        assert_eq!(Certificate::from_pem(&chain), Certificate::from_pem(RSA));
        assert!(Certificate::from_pem(&[b"\r\n", RSA].concat()).is_some());
        let page = [b"<Error>".as_slice(), RSA, b"</Error>"].concat();
        assert_eq!(Certificate::from_pem(&page), None, "a page that repeats what was asked");
        let cut = &RSA[..RSA.len() - 10];
        for document in [&b""[..], b"-----BEGIN CERTIFICATE-----", cut, &[0xff; 64]] {
            assert_eq!(Certificate::from_pem(document), None);
        }
    }

    #[test]
    fn a_damaged_certificate_is_none() {
        let whole = der(P256);
        for length in 0..whole.len() {
            assert_eq!(Certificate::from_der(&whole[..length]), None, "cut to {length}");
        }
        assert_eq!(Certificate::from_der(&[&whole[..], &[0]].concat()), None, "something follows");
        // The extensions are [3], and the signature is the last BIT STRING.
        let extensions = whole.windows(2).position(|pair| pair == [0xa3, 0x53]).expect("extensions");
        let signature = whole.windows(3).rposition(|three| three == [0x03, 0x48, 0x00]).expect("a signature");
        for (what, at) in [("extensions", extensions + 1), ("signature", signature)] {
            let mut changed = whole.clone();
            changed[at] -= 1;
            assert_eq!(Certificate::from_der(&changed), None, "{what} that are none");
        }
    }
}
