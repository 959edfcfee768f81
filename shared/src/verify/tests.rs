//! Tests of whole schemes, and the keys they share.

mod language;
mod tampering;
mod tampering_keys;
pub(crate) mod test_keys;

use super::*;

fn verifier(scheme: &str, secrets: &[&str]) -> Result<Verifier, ConfigError> {
    let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new(secret)).collect();
    Verifier::of(&serde_json::from_str(scheme).expect("parses"), &secrets)
}

fn mac(fields: &str) -> String {
    format!(r#"{{"kind":"mac","alg":"hmac-sha256","key":"utf8","sig":{{"in":"h:a","enc":"hex"}},{fields}}}"#)
}

#[test]
fn a_scheme_without_a_usable_secret_makes_no_verifier() {
    let body = mac(r#""content":"{body}""#);
    for scheme in [body.as_str(), r#"{"kind":"token","in":"h:a"}"#, r#"{"kind":"basic"}"#] {
        assert!(matches!(verifier(scheme, &[]), Err(ConfigError::NoSecret)), "{scheme}");
        let empty = verifier(scheme, &["a:b", "  "]);
        assert!(matches!(empty, Err(ConfigError::Secret { index: 1, .. })), "{scheme}");
        assert!(verifier(scheme, &["a:b"]).is_ok(), "{scheme}");
    }
    assert!(matches!(verifier(r#"{"kind":"basic"}"#, &["user"]), Err(ConfigError::Secret { index: 0, .. })));
    assert!(matches!(verifier(r#"{"kind":"none"}"#, &["a"]), Err(ConfigError::Secret { index: 0, .. })));
}

#[test]
fn a_rule_that_would_verify_too_little_makes_no_verifier() {
    for fields in [
        r#""content":"always""#,
        r#""content":"{body}","ts":{"in":"h:time","unit":"s","tol":300}"#,
        r#""content":"{body}","require":[{"h:user":"cfg:user"}]"#,
        r#""content":"{hmac-sha256-hex:secret,body}""#,
    ] {
        assert!(matches!(verifier(&mac(fields), &["a"]), Err(ConfigError::Rule { .. })), "{fields}");
    }
    let none = format!(r#"{{"kind":"any_of","rules":[{},{{"kind":"none"}}]}}"#, mac(r#""content":"{body}""#));
    assert!(matches!(verifier(&none, &["a"]), Err(ConfigError::Rule { .. })));
    for (algorithm, keys) in [
        ("hmac-sha1", &["whpk", "spki-base64"][..]),
        ("hmac-sha256", &["whpk", "spki-base64", "jwks:https://a.example", "fn:plaid_key"]),
        ("hmac-sha512", &["whpk", "x509url:h:b"]),
        ("sha256", &["base64", "hex", "whsec", "spki-base64"]),
        ("ed25519", &["utf8", "whsec", "fn:plaid_key"]),
        ("ecdsa-p256-sha256-der", &["utf8", "base64", "hex", "whsec", "whpk", "fn:plaid_key"]),
        ("rsa-pkcs1-sha256", &["utf8", "base64", "hex", "whsec", "whpk", "fn:plaid_key"]),
    ] {
        for key in keys {
            let content = if algorithm == "sha256" { "{secret}{body}" } else { "{body}{cfg:c}" };
            let rule = mac(&format!(r#""content":"{content}""#)).replace("hmac-sha256", algorithm);
            let rule = verifier(&rule.replace("utf8", key), &["a"]);
            assert!(matches!(rule, Err(ConfigError::Rule { .. })), "{algorithm} with {key}");
        }
    }
}

#[test]
fn nothing_secret_is_shown() {
    let shown = format!("{:?}", verifier(&mac(r#""content":"{body}""#), &["hush"]).expect("a verifier"));
    assert!(!shown.contains("hush") && shown.contains("Keys(..)"), "{shown}");
}
