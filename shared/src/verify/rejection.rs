//! Why a request was refused.

use crate::scheme::reference::Reference;
use crate::scheme::rule::TimestampUnit;

/// The cause of a refusal: a stable code for machines and a detail for the source's owner. The sender learns neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// A header that the scheme needs is not there.
    HeaderMissing { name: String },
    /// A header that the scheme needs is there and empty.
    HeaderEmpty { name: String },
    /// A header that may appear only once appears more than once.
    HeaderRepeated { name: String },
    /// A value that is not a header is missing or empty, such as a field of the body.
    FieldMissing { reference: Reference },
    /// A value that may appear only once appears more than once, such as `t=` in Stripe's signature header.
    FieldRepeated { reference: Reference },
    /// A header contains the text that separates it from the next value in the signed content.
    SeparatorInside { reference: Reference, separator: String },
    /// The signature header holds no entry of the version that is verified.
    SignatureVersionMissing { place: Reference, wanted: String },
    /// No entry decodes to a signature of the right length; empty signatures are among these.
    SignatureMalformed { place: Reference },
    /// More entries than any provider sends.
    TooManySignatures { limit: usize },
    /// The timestamp is not written as the rule says, or too large.
    TimestampMalformed { place: Reference, unit: TimestampUnit },
    /// The timestamp is further in the past than the tolerance.
    TimestampOld { age_s: u64, tolerance_s: u32 },
    /// The timestamp is further in the future than the tolerance.
    TimestampFuture { ahead_s: u64, tolerance_s: u32 },
    /// A value is not the one that the source is bound to: the signature may be valid for another customer.
    RequirementFailed { reference: Reference },
    /// No signature matches any of the secrets.
    SignatureMismatch { secrets: usize },
    /// A signature or token is good for a secret that was retired.
    SecretRetired,
    /// A signature is good for a secret with white space at its end, which Tidegate removes from entered secrets.
    SecretWithWhiteSpace,
    /// A signature is good for another form of the body, which was rewritten on its way.
    BodyRewritten { signed: SignedForm },
    /// The token or the credentials match none of the secrets.
    TokenMismatch { secrets: usize },
    /// The `Authorization` header is not Basic credentials.
    CredentialsMalformed,
    /// The provider hands over the secret of the source, and has not done so yet.
    SecretAwaited,
    /// The provider's key set is not available, so the signature cannot be verified.
    KeysUnavailable,
    /// The request names the address of its key, and the provider does not publish its keys there.
    KeyLocationRefused { reference: Reference },
    /// The provider's keys do not include the one that the signature names, or none of the needed kind.
    KeyUnknown,
    /// The key that the signature is made with is not valid now.
    KeyExpired,
    /// The value is not a signed JSON Web Token in its compact form, or asks for an extension.
    JwtMalformed { place: Reference },
    /// The token is signed with an algorithm that the scheme does not use, or with none.
    JwtAlgorithm,
    /// The token lacks a claim.
    JwtClaimMissing { name: String },
    /// A claim of the token has another value than it must have.
    JwtClaimMismatch { name: String },
    /// The token has expired.
    JwtExpired { ago_s: u64 },
    /// The token is not valid yet.
    JwtNotYetValid { ahead_s: u64 },
    /// A GET that may be an event but is not one of this source.
    MethodNotAllowed,
    /// The customer of the source is over its rate for this many seconds more. Nothing was verified.
    RateLimited { after_s: u64 },
}

/// The form of a body that turned out to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedForm {
    /// JSON without white space between its tokens.
    CompactJson,
    /// The body without the white space at its end.
    WithoutTrailingSpace,
}

impl Rejection {
    /// A stable name of the cause in snake case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::HeaderMissing { .. } => "header_missing",
            Self::HeaderEmpty { .. } => "header_empty",
            Self::HeaderRepeated { .. } => "header_repeated",
            Self::FieldMissing { .. } => "field_missing",
            Self::FieldRepeated { .. } => "field_repeated",
            Self::SeparatorInside { .. } => "separator_inside",
            Self::SignatureVersionMissing { .. } => "signature_version_missing",
            Self::SignatureMalformed { .. } => "signature_malformed",
            Self::TooManySignatures { .. } => "too_many_signatures",
            Self::TimestampMalformed { .. } => "timestamp_malformed",
            Self::TimestampOld { .. } => "timestamp_old",
            Self::TimestampFuture { .. } => "timestamp_future",
            Self::RequirementFailed { .. } => "requirement_failed",
            Self::SignatureMismatch { .. } => "signature_mismatch",
            Self::SecretRetired => "secret_retired",
            Self::SecretWithWhiteSpace => "secret_with_white_space",
            Self::BodyRewritten { .. } => "body_rewritten",
            Self::TokenMismatch { .. } => "token_mismatch",
            Self::CredentialsMalformed => "credentials_malformed",
            Self::SecretAwaited => "secret_awaited",
            Self::KeysUnavailable => "keys_unavailable",
            Self::KeyLocationRefused { .. } => "key_location_refused",
            Self::KeyUnknown => "key_unknown",
            Self::KeyExpired => "key_expired",
            Self::JwtMalformed { .. } => "jwt_malformed",
            Self::JwtAlgorithm => "jwt_algorithm",
            Self::JwtClaimMissing { .. } => "jwt_claim_missing",
            Self::JwtClaimMismatch { .. } => "jwt_claim_mismatch",
            Self::JwtExpired { .. } => "jwt_expired",
            Self::JwtNotYetValid { .. } => "jwt_not_yet_valid",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RateLimited { .. } => "rate_limited",
        }
    }

    /// The fault, for the source's owner. It contains names and numbers, never a value of the request or a secret.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::HeaderMissing { name } => format!("header {} is missing", written(name)),
            Self::HeaderEmpty { name } => format!("header {} is empty", written(name)),
            Self::HeaderRepeated { name } => format!("header {} appears more than once", written(name)),
            Self::FieldMissing { reference } => format!("{reference} is missing or empty"),
            Self::FieldRepeated { reference } => format!("{reference} appears more than once"),
            Self::SeparatorInside { reference, separator } => {
                format!(
                    "{reference} contains {separator:?}, which is the separator in the signed content, so the \
                     signature would be ambiguous"
                )
            }
            Self::SignatureVersionMissing { place, wanted } => format!("{place} contains no {wanted} signature"),
            Self::SignatureMalformed { place } => {
                format!("{place} contains no signature of the right length and encoding")
            }
            Self::TooManySignatures { limit } => format!("the request has more than {limit} signatures"),
            Self::TimestampMalformed { place, unit } => match unit {
                TimestampUnit::Seconds | TimestampUnit::Milliseconds => {
                    format!("the timestamp in {place} is not a Unix time (digits only)")
                }
                TimestampUnit::Iso8601 => format!("the timestamp in {place} is not in RFC 3339 format"),
            },
            Self::TimestampOld { age_s, tolerance_s } => {
                format!("the timestamp is {age_s} s old; the tolerance is {tolerance_s} s")
            }
            Self::TimestampFuture { ahead_s, tolerance_s } => {
                format!("the timestamp is {ahead_s} s in the future; the tolerance is {tolerance_s} s")
            }
            Self::RequirementFailed { reference } => {
                format!("{reference} differs from the value in the source's config")
            }
            Self::SignatureMismatch { secrets: 1 } => "the signature does not match; check that the source has the \
                                                       provider's current secret"
                .to_owned(),
            Self::SignatureMismatch { secrets } => format!(
                "the signature does not match any of the {secrets} secrets; check that the source has the provider's \
                 current secret"
            ),
            Self::SecretRetired => {
                "the request was signed with a secret that has been removed from the source; add it again, or update \
                 the provider"
                    .to_owned()
            }
            Self::SecretWithWhiteSpace => {
                "the sender signs with the secret plus trailing whitespace, such as a newline; remove it at the sender"
                    .to_owned()
            }
            Self::BodyRewritten { signed } => {
                let signed = match signed {
                    SignedForm::CompactJson => "the same JSON without whitespace",
                    SignedForm::WithoutTrailingSpace => "the body without its trailing whitespace",
                };
                format!("the body was changed on its way, or re-encoded before sending: the signature matches {signed}")
            }
            Self::TokenMismatch { secrets: 1 } => "the token does not match the secret".to_owned(),
            Self::TokenMismatch { secrets } => format!("the token matches none of {secrets} secrets"),
            Self::CredentialsMalformed => "header Authorization contains no Basic credentials".to_owned(),
            Self::SecretAwaited => "the provider has not handed over its secret yet".to_owned(),
            Self::KeysUnavailable => "the provider's public keys could not be fetched".to_owned(),
            Self::KeyLocationRefused { reference } => {
                format!("{reference} does not name an address at which the provider publishes its keys")
            }
            Self::KeyUnknown => {
                "the signature was made with a key that is not among the provider's published keys".to_owned()
            }
            Self::KeyExpired => "the key used for the signature is not valid at this time".to_owned(),
            Self::JwtMalformed { place } => format!("{place} contains no signed JSON Web Token"),
            Self::JwtAlgorithm => "the token is signed with an algorithm that this source does not use".to_owned(),
            Self::JwtClaimMissing { name } => format!("the token has no claim {name}"),
            Self::JwtClaimMismatch { name } => {
                format!("the token's claim {name} is not the value that the source expects")
            }
            Self::JwtExpired { ago_s } => format!("the token expired {ago_s} s ago"),
            Self::JwtNotYetValid { ahead_s } => format!("the token becomes valid in {ahead_s} s"),
            Self::MethodNotAllowed => {
                "a GET with a query is not an event of this source; if its provider sends events by GET, \
                                       set \"methods\": [\"GET\"] in its config"
                    .to_owned()
            }
            Self::RateLimited { after_s } => format!(
                "the customer of the source has sent more events than its max_events_per_minute allows; its events are \
                 refused for {after_s} s more"
            ),
        }
    }

    /// Whether the fault is on this side, so that the sender should try again: the edge answers 503 and not 401.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::KeysUnavailable | Self::SecretAwaited)
    }

    /// Whether a key that was published after the keys were fetched would explain it.
    #[must_use]
    pub fn may_be_new_key(&self) -> bool {
        matches!(self, Self::SignatureMismatch { .. } | Self::KeyUnknown)
    }

    /// Whether a time that was read is out of tolerance.
    pub(super) fn is_of_time(&self) -> bool {
        matches!(self, Self::TimestampOld { .. } | Self::TimestampFuture { .. } | Self::JwtExpired { .. })
    }

    /// Whether a signature or token was compared and found to be another.
    pub(super) fn is_of_secret(&self) -> bool {
        self.is_of_signature() || matches!(self, Self::TokenMismatch { .. })
    }

    /// The same, for a signature alone.
    pub(super) fn is_of_signature(&self) -> bool {
        matches!(self, Self::SignatureMismatch { .. })
    }

    /// How far verification came. If several rules refuse, the one that came furthest is the most useful to the owner.
    pub(super) fn progress(&self) -> u8 {
        match self {
            Self::HeaderMissing { .. } | Self::MethodNotAllowed | Self::RateLimited { .. } => 0,
            Self::HeaderEmpty { .. } | Self::HeaderRepeated { .. } | Self::CredentialsMalformed => 1,
            Self::SignatureVersionMissing { .. } | Self::FieldMissing { .. } | Self::FieldRepeated { .. } => 2,
            Self::TooManySignatures { .. } | Self::SeparatorInside { .. } | Self::TimestampMalformed { .. } => 3,
            Self::TimestampOld { .. } | Self::TimestampFuture { .. } | Self::RequirementFailed { .. } => 4,
            Self::JwtMalformed { .. } | Self::JwtAlgorithm => 3,
            Self::JwtClaimMissing { .. } | Self::JwtClaimMismatch { .. } => 4,
            Self::JwtExpired { .. } | Self::JwtNotYetValid { .. } => 4,
            Self::SignatureMalformed { .. } | Self::KeyLocationRefused { .. } => 5,
            Self::KeyUnknown | Self::KeyExpired => 6,
            Self::SignatureMismatch { .. }
            | Self::TokenMismatch { .. }
            | Self::SecretRetired
            | Self::SecretWithWhiteSpace
            | Self::BodyRewritten { .. } => 6,
            Self::KeysUnavailable | Self::SecretAwaited => 7,
        }
    }
}

/// A header's name as providers write it: `X-Hub-Signature` for `x-hub-signature`.
fn written(name: &str) -> String {
    let mut begins = true;
    let upper = |letter: char| {
        let shown = if begins { letter.to_ascii_uppercase() } else { letter };
        begins = letter == '-';
        shown
    };
    name.chars().map(upper).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_names_the_numbers_that_its_owner_needs() {
        let old = Rejection::TimestampOld { age_s: 412, tolerance_s: 300 };
        assert_eq!(old.detail(), "the timestamp is 412 s old; the tolerance is 300 s");
        let missing = Rejection::HeaderMissing { name: "x-shopify-hmac-sha256".to_owned() };
        assert_eq!(missing.detail(), "header X-Shopify-Hmac-Sha256 is missing");
        assert_eq!(
            Rejection::SecretRetired.detail(),
            "the request was signed with a secret that has been removed from the source; add it again, or update the \
             provider"
        );
        let rewritten = Rejection::BodyRewritten { signed: SignedForm::CompactJson };
        assert!(rewritten.detail().starts_with("the body was changed on its way"));
        assert!(Rejection::SignatureMismatch { secrets: 2 }.detail().contains("any of the 2 secrets"));
    }

    #[test]
    fn only_a_missing_key_set_is_our_fault() {
        assert!(Rejection::KeysUnavailable.is_ours());
        assert!(!Rejection::SignatureMismatch { secrets: 1 }.is_ours());
    }
}
