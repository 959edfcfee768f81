//! The places of a request that hold credentials. They are not kept with an event, which therefore cannot be verified
//! again. A signature is valid for one body only, and is kept.

use super::reference::Reference;
use super::rule::Scheme;

impl Scheme {
    /// The places of a request that hold credentials. They are not kept with an event, which therefore cannot be
    /// verified again. A signature is valid for one body only, and is kept.
    #[must_use]
    pub fn credentials(&self) -> Vec<Reference> {
        match self {
            Self::Token(rule) => vec![rule.place.clone()],
            // A token that does not cover the body could be sent again with another one.
            Self::Jwt(rule) if !rule.covers_body() => vec![rule.token.place.clone()],
            Self::Basic => vec![Reference::Header("authorization".to_owned())],
            Self::AnyOf { rules } | Self::AllOf { rules } => rules.iter().flat_map(Self::credentials).collect(),
            Self::Mac(_) | Self::Jwt(_) | Self::None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Vec<String> {
        let scheme: Scheme = serde_json::from_str(json).expect("a scheme");
        scheme.credentials().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_token_and_basic_credentials_are_credentials_and_a_signature_is_none() {
        assert_eq!(of(r#"{"kind":"token","in":"query:token"}"#).len(), 1);
        let both = r#"{"kind":"any_of","rules":[{"kind":"basic"},{"kind":"token","in":"h:x-token"}]}"#;
        assert_eq!(of(both).len(), 2);
        let jwt = r#"{"kind":"jwt","token":{"in":"h:x-jwt"},"alg":["HS256"],"key":"utf8","claims":{"a":"b"}}"#;
        assert_eq!(of(jwt).len(), 1);
        assert!(of(&jwt.replace("\"b\"", "\"sha256hex:body\"")).is_empty(), "it is of use for one body only");
        let mac =
            r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{body}","sig":{"in":"h:x-sign","enc":"hex"}}"#;
        assert!(of(mac).is_empty());
        assert!(of(r#"{"kind":"none"}"#).is_empty());
    }
}
