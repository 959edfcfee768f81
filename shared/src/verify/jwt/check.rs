//! Faults of a rule itself, whatever the secrets are.

use crate::scheme::jwt::{Claim, JwtRule};
use crate::scheme::key_encoding::KeyEncoding;
use crate::verify::ConfigError;

/// Refuses a rule that would verify less than it seems to.
pub(super) fn check_rule(rule: &JwtRule) -> Result<(), ConfigError> {
    let wrong = |why: &str| Err(ConfigError::Rule { why: why.to_owned() });
    if rule.algorithms.is_empty() {
        return wrong("the rule names no algorithm, so it would accept no token");
    }
    let symmetric = match &rule.key_encoding {
        KeyEncoding::Utf8 => true,
        KeyEncoding::KeySet { .. } | KeyEncoding::PlaidKey { .. } => false,
        KeyEncoding::Base64
        | KeyEncoding::Hex
        | KeyEncoding::StandardSecret
        | KeyEncoding::StandardPublicKey
        | KeyEncoding::Spki
        | KeyEncoding::Certificate { .. } => return wrong("a token's key is utf8, jwks:<url> or fn:plaid_key"),
    };
    if rule.algorithms.iter().any(|algorithm| algorithm.is_symmetric() != symmetric) {
        return wrong(
            "the HS algorithms need a secret and the others need published keys: if a published key were the \
             secret, anyone could sign",
        );
    }
    if rule.claims.is_empty() && rule.max_age_s.is_none() {
        return wrong("the rule accepts any valid token; list the claims it must have, or set max_age");
    }
    let bound = rule.claims.values().any(|claim| matches!(claim, Claim::Setting(_)));
    // A key of Plaid is fetched with the source's own credentials, and its tokens name no customer.
    let own = symmetric || (matches!(rule.key_encoding, KeyEncoding::PlaidKey { .. }) && rule.covers_body());
    if !own && !bound {
        return wrong("the provider uses these keys for all its customers; bind a claim to a setting of the source");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBSUB: &str = r#"{"token":{"in":"h:authorization","strip":"Bearer "},"alg":["RS256"],
        "key":"jwks:https://keys.example/certs","claims":{"iss":["a","b"],"aud":"cfg:audience","email_verified":true},
        "settings":{"audience":"x"}}"#;
    const NETLIFY: &str = r#"{"token":{"in":"h:x-webhook-signature"},"alg":["HS256"],"key":"utf8",
        "claims":{"iss":"netlify","sha256":"sha256hex:body"}}"#;
    const PLAID: &str = r#"{"token":{"in":"h:plaid-verification"},"alg":["ES256"],"key":"fn:plaid_key",
        "claims":{"request_body_sha256":"sha256hex:body"},"max_age":300}"#;

    fn check(json: &str) -> Result<(), ConfigError> {
        check_rule(&serde_json::from_str(json).expect("parses"))
    }

    #[test]
    fn a_rule_that_would_verify_too_little_is_refused() {
        for (json, from, to) in [
            (NETLIFY, r#"["HS256"]"#, "[]"),
            (NETLIFY, r#"{"iss":"netlify","sha256":"sha256hex:body"}"#, "{}"),
            (NETLIFY, "HS256", "RS256"),
            (NETLIFY, "utf8", "whpk"),
            (PUBSUB, r#"["RS256"]"#, r#"["RS256","HS256"]"#),
            (PUBSUB, "RS256", "HS256"),
            (PUBSUB, "cfg:audience", "everybody"),
            (PUBSUB, "jwks:https://keys.example/certs", "x509url:h:cert"),
            (PLAID, "sha256hex:body", "x"),
            (PLAID, "ES256", "HS512"),
        ] {
            assert_eq!(check(json), Ok(()), "{json}");
            let wrong = json.replace(from, to);
            assert_ne!(wrong, json);
            assert!(matches!(check(&wrong), Err(ConfigError::Rule { .. })), "{from} → {to}");
        }
    }
}
