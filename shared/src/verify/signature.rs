//! The grammar of signature headers: lists of entries, of which some are signatures and some are other fields.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use super::rejection::Rejection;
use crate::scheme::reference::Reference;
use crate::scheme::rule::{SignatureEncoding, SignatureRule};

/// The most signatures of a request that are tried.
pub(super) const MAX_SIGNATURES: usize = 16;

const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The value of a signature header and the grammar it is read with.
pub(super) struct SignatureValue<'a> {
    rule: &'a SignatureRule,
    text: &'a str,
}

/// A signature that decoded to a wanted length.
pub(super) struct Candidate(Vec<u8>);

impl Candidate {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<'a> SignatureValue<'a> {
    pub(super) fn new(rule: &'a SignatureRule, text: &'a str) -> Self {
        Self { rule, text }
    }

    /// The signatures of these lengths in bytes. Entries of unknown versions, and entries that are not signatures of
    /// such a length, are skipped. If none is left, the rejection says why.
    pub(super) fn candidates(&self, lengths: &RangeInclusive<usize>) -> Result<Vec<Candidate>, Rejection> {
        let mut written = 0;
        let mut candidates = Vec::new();
        for text in self.signatures() {
            written += 1;
            if written > MAX_SIGNATURES {
                return Err(Rejection::TooManySignatures { limit: MAX_SIGNATURES });
            }
            candidates.extend(decode(self.rule.encoding, text).filter(|one| lengths.contains(&one.0.len())));
        }
        let place = || self.rule.place.clone();
        match (written, candidates.is_empty()) {
            (0, _) => {
                let wanted = self.rule.key.clone().or_else(|| self.rule.separator.clone()).unwrap_or_default();
                Err(Rejection::SignatureVersionMissing { place: place(), wanted })
            }
            (_, true) => Err(Rejection::SignatureMalformed { place: place() }),
            (_, false) => Ok(candidates),
        }
    }

    /// The one field of this name, such as Stripe's `t`.
    pub(super) fn field(&self, name: &str) -> Result<&'a str, Rejection> {
        let reference = || Reference::SignatureField(name.to_owned());
        let separator = self.rule.separator.as_deref().unwrap_or("=");
        let mut values = self.entries().filter_map(|entry| entry.split_once(separator)).filter(|(key, _)| *key == name);
        let (_, value) = values
            .next()
            .filter(|(_, value)| !value.is_empty())
            .ok_or_else(|| Rejection::FieldMissing { reference: reference() })?;
        if values.next().is_some() {
            return Err(Rejection::FieldRepeated { reference: reference() });
        }
        Ok(value)
    }

    /// The entry at this index.
    pub(super) fn entry(&self, index: usize) -> Result<&'a str, Rejection> {
        self.entries().nth(index).ok_or(Rejection::FieldMissing { reference: Reference::SignatureEntry(index) })
    }

    fn signatures(&self) -> impl Iterator<Item = &'a str> {
        let rule = self.rule;
        self.entries().skip(rule.skip).filter_map(move |entry| match &rule.separator {
            None => Some(entry),
            Some(separator) => {
                let (key, value) = entry.split_once(separator.as_str())?;
                (key == rule.key.as_deref().unwrap_or_default()).then_some(value)
            }
        })
    }

    fn entries(&self) -> impl Iterator<Item = &'a str> {
        let (listed, single) = match &self.rule.list {
            Some(list) => (Some(self.text.split(list.as_str())), None),
            None => (None, Some(self.text)),
        };
        listed.into_iter().flatten().chain(single).map(str::trim).filter(|entry| !entry.is_empty())
    }
}

fn decode(encoding: SignatureEncoding, text: &str) -> Option<Candidate> {
    let decoded = match encoding {
        SignatureEncoding::Hex => hex::decode(text).ok(),
        SignatureEncoding::Base64 => STANDARD.decode(text).ok(),
        SignatureEncoding::Base64Url => BASE64_URL.decode(text).ok(),
    };
    decoded.map(Candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> SignatureRule {
        serde_json::from_str(json).expect("parses")
    }

    fn stripe() -> SignatureRule {
        rule(r#"{"in":"h:stripe-signature","enc":"hex","list":",","kv":"=","key":"v1"}"#)
    }

    fn standard() -> SignatureRule {
        rule(r#"{"in":"h:webhook-signature","enc":"base64","list":" ","kv":",","key":"v1"}"#)
    }

    fn read(rule: &SignatureRule, text: &str, length: usize) -> Result<Vec<Vec<u8>>, Rejection> {
        let candidates = SignatureValue::new(rule, text).candidates(&(length..=length))?;
        Ok(candidates.iter().map(|candidate| candidate.bytes().to_vec()).collect())
    }

    fn malformed(rule: &SignatureRule) -> Result<Vec<Vec<u8>>, Rejection> {
        Err(Rejection::SignatureMalformed { place: rule.place.clone() })
    }

    #[test]
    fn entries_of_the_wanted_version_are_kept_and_others_skipped() {
        assert_eq!(read(&stripe(), "t=5,v1=0102,v0=0304,v1=0506", 2), Ok(vec![vec![1, 2], vec![5, 6]]));
        assert_eq!(read(&standard(), "v1,AQI= v1a,AwQ= v2,BQY=", 2), Ok(vec![vec![1, 2]]));
        let missing = |rule: &SignatureRule| {
            Err(Rejection::SignatureVersionMissing { place: rule.place.clone(), wanted: "v1".to_owned() })
        };
        assert_eq!(read(&stripe(), "t=5,v0=0304", 2), missing(&stripe()));
        assert_eq!(read(&standard(), "v1a,AwQ=", 2), missing(&standard()));
    }

    #[test]
    fn empty_short_long_and_wrongly_encoded_signatures_are_malformed() {
        for text in ["v1=", "v1=01", "v1=010203", "v1=AQI=", "v1=zz02"] {
            assert_eq!(read(&stripe(), text, 2), malformed(&stripe()), "{text}");
        }
        for text in ["v1,", "v1,AQ==", "v1,AQID", "v1,0102", "v1,AQI", "v1,AQJ="] {
            assert_eq!(read(&standard(), text, 2), malformed(&standard()), "{text}");
        }
    }

    #[test]
    fn a_prefix_is_split_once_so_that_padding_stays() {
        let typeform = rule(r#"{"in":"h:typeform-signature","enc":"base64","kv":"=","key":"sha256"}"#);
        assert_eq!(read(&typeform, "sha256=AQ==", 1), Ok(vec![vec![1]]));
        assert!(read(&typeform, "sha1=AQ==", 1).is_err());
    }

    #[test]
    fn base64_for_urls_may_lack_its_padding() {
        let url = rule(r#"{"in":"h:x","enc":"base64url"}"#);
        assert_eq!(read(&url, "-_8", 2), Ok(vec![vec![0xfb, 0xff]]));
        assert_eq!(read(&url, "-_8=", 2), Ok(vec![vec![0xfb, 0xff]]));
        assert_eq!(read(&url, "+/8=", 2), malformed(&url));
    }

    #[test]
    fn a_field_appears_exactly_once() {
        let rule = stripe();
        let field = |text| SignatureValue::new(&rule, text).field("t");
        let t = || Reference::SignatureField("t".to_owned());
        assert_eq!(field("v1=00,t=5"), Ok("5"));
        assert_eq!(field("v1=00"), Err(Rejection::FieldMissing { reference: t() }));
        assert_eq!(field("t=,v1=00"), Err(Rejection::FieldMissing { reference: t() }));
        assert_eq!(field("t=5,v1=00,t=5"), Err(Rejection::FieldRepeated { reference: t() }));
    }

    #[test]
    fn entries_before_the_signatures_can_be_skipped_and_named() {
        let recurly = rule(r#"{"in":"h:recurly-signature","enc":"hex","list":",","skip":1}"#);
        assert_eq!(read(&recurly, "1700000000000,0102,0304", 2), Ok(vec![vec![1, 2], vec![3, 4]]));
        assert_eq!(SignatureValue::new(&recurly, "17,0102").entry(0), Ok("17"));
        assert!(SignatureValue::new(&recurly, "17").entry(1).is_err());
    }

    #[test]
    fn the_number_of_signatures_is_bounded() {
        let most = ["v1,AQI="; MAX_SIGNATURES].join(" ");
        assert_eq!(read(&standard(), &most, 2), Ok(vec![vec![1, 2]; MAX_SIGNATURES]));
        let many = ["v1,AQI="; MAX_SIGNATURES + 1].join(" ");
        assert_eq!(read(&standard(), &many, 2), Err(Rejection::TooManySignatures { limit: MAX_SIGNATURES }));
    }
}
