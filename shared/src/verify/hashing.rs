//! Large bodies, hashed by somebody who does it faster.
//!
//! SHA-256 in WebAssembly takes five times what the platform's own takes, and the body has to be copied in. Where nothing
//! of a rule but an HMAC-SHA256 needs the body, [`Verifier::hashing`] says what is to be hashed round it, and
//! [`verify_hashed`] does the rest with the digests: the same checks in the same order as [`super::verify`].

use super::{Check, Incoming, RequestParts, Verified, Verifier};

/// What is to be hashed with SHA-256: for each key `before`, the body, `after`.
#[derive(Clone, PartialEq, Eq)]
pub struct Hashing {
    /// One for each key, all of the same length. They hold the keys: not to be shown.
    pub before: Vec<Vec<u8>>,
    pub after: Vec<u8>,
}

impl std::fmt::Debug for Hashing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashing(..)")
    }
}

impl Verifier {
    /// What is to be hashed of this request; `None` where the rule needs the body itself, or refuses the request anyway.
    #[must_use]
    pub fn hashing(&self, request: &RequestParts<'_>) -> Option<Hashing> {
        let Check::Mac(mac) = &self.first else { return None };
        if self.others.is_empty() { mac.hashing(request) } else { None }
    }
}

/// Verifies a request by the digests of what [`Verifier::hashing`] asked for, in its order. `None` where it is not
/// accepted, or was never to be verified so: [`super::verify`] says why.
#[must_use]
pub fn verify_hashed(
    verifier: &Verifier,
    request: &RequestParts<'_>,
    digests: &[[u8; 32]],
    now_ms: u64,
) -> Option<Verified> {
    verifier.hashing(request)?;
    let incoming =
        Incoming { keys: None, request, body: &[], hashed: Some(digests), now_ms, on_stale: verifier.on_stale };
    verifier.first.verify(&incoming).ok()
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::header::HeaderList;
    use crate::source::Secret;
    use crate::verify::verify;

    const NOW_MS: u64 = 1_700_000_000_000;
    const BODY: &[u8] = br#"{"id":"evt_test","type":"example.event"}"#;
    const STRIPE: &str = r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{sig:t}.{body}",
        "sig":{"in":"h:stripe-signature","enc":"hex","list":",","kv":"=","key":"v1"},
        "ts":{"in":"sig:t","unit":"s","tol":300}}"#;

    fn verifier(scheme: &str, secrets: &[&str]) -> Verifier {
        let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new(secret)).collect();
        Verifier::of(&serde_json::from_str(scheme).expect("parses"), &secrets).expect("a verifier")
    }

    fn digests(hashing: &Hashing, body: &[u8]) -> Vec<[u8; 32]> {
        hashing.before.iter().map(|before| Sha256::digest([before, body, &hashing.after].concat()).into()).collect()
    }

    /// What both ways say of a body that is signed with Stripe's vector.
    fn both(secrets: &[&str], signature: &str, body: &[u8], now_ms: u64) -> [Option<Verified>; 2] {
        let headers = HeaderList::new([("stripe-signature", signature)]);
        let request = RequestParts { method: "POST", url: "", query: "", headers: &headers };
        let verifier = verifier(STRIPE, secrets);
        let hashed = verifier.hashing(&request).and_then(|hashing| {
            assert_eq!(hashing.before.len(), secrets.len());
            verify_hashed(&verifier, &request, &digests(&hashing, body), now_ms)
        });
        [hashed, verify(&verifier, None, &request, body, now_ms).ok()]
    }

    #[test]
    fn digests_made_elsewhere_verify_what_the_body_itself_verifies() {
        let signed = "t=1700000000,v1=0d196e3df9b9cad0e904fe0b11e2bb446ec74e54a0cb22fa2ac9b39d85f08274";
        let long = "k".repeat(100);
        for (secrets, signature, body, now_ms, accepted) in [
            (vec!["whsec_test_secret"], signed, BODY, NOW_MS, true),
            (vec![&long, "whsec_test_secret"], signed, BODY, NOW_MS, true),
            (vec!["whsec_other"], signed, BODY, NOW_MS, false),
            (vec!["whsec_test_secret"], signed, b"{}".as_slice(), NOW_MS, false),
            (vec!["whsec_test_secret"], signed, BODY, NOW_MS + 301_000, false),
            (vec!["whsec_test_secret"], &signed.replace("0d19", "0d18"), BODY, NOW_MS, false),
            (vec!["whsec_test_secret"], &signed.replace("v1", "v0"), BODY, NOW_MS, false),
            (vec!["whsec_test_secret"], "", BODY, NOW_MS, false),
        ] {
            let [hashed, whole] = both(&secrets, signature, body, now_ms);
            assert_eq!(hashed, whole, "{signature}");
            assert_eq!(hashed.is_some(), accepted, "{signature}");
        }
    }

    #[test]
    fn a_long_key_is_hashed_into_its_block_as_the_hmac_does() {
        let long = "k".repeat(65);
        let rule =
            r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{body}","sig":{"in":"h:a","enc":"hex"}}"#;
        let verifier = verifier(rule, &[&long]);
        let tag = {
            use hmac::{Hmac, KeyInit as _, Mac as _};
            let mac = Hmac::<Sha256>::new_from_slice(long.as_bytes()).expect("a key").chain_update(BODY);
            hex::encode(mac.finalize().into_bytes())
        };
        let headers = HeaderList::new([("a", tag)]);
        let request = RequestParts { method: "POST", url: "", query: "", headers: &headers };
        let hashing = verifier.hashing(&request).expect("eligible");
        assert!(verify_hashed(&verifier, &request, &digests(&hashing, BODY), NOW_MS).is_some());
        assert!(verify_hashed(&verifier, &request, &[], NOW_MS).is_none(), "no digest verifies nothing");
    }

    #[test]
    fn a_rule_that_needs_the_body_itself_is_never_verified_so() {
        let headers = HeaderList::new([("a", "00")]);
        let request = RequestParts { method: "POST", url: "", query: "", headers: &headers };
        let mac = |alg: &str, content: &str| {
            format!(
                r#"{{"kind":"mac","alg":"{alg}","key":"utf8","content":"{content}","sig":{{"in":"h:a","enc":"hex"}}}}"#
            )
        };
        for scheme in [
            mac("hmac-sha512", "{body}"),
            mac("hmac-sha256", "{body}{body}"),
            mac("hmac-sha256", "{json:id}{body}"),
            mac("hmac-sha256", "{sha256hex:body}"),
            mac("hmac-sha256", "{json?:id}{body}"),
            mac("hmac-sha256", "{crc32dec:body}.{body}"),
            mac("hmac-sha256", "{body}").replace("h:a", "body"),
            mac("hmac-sha256", "{body}").replacen('{', r#"{"each":"value[]","#, 1),
            mac("hmac-sha256", "{url}{body}").replacen('{', r#"{"urls":["without_port"],"#, 1),
            r#"{"kind":"token","in":"h:a"}"#.to_owned(),
        ] {
            let verifier = verifier(&scheme, &["secret"]);
            assert_eq!(verifier.hashing(&request), None, "{scheme}");
            assert_eq!(verify_hashed(&verifier, &request, &[[0; 32]], NOW_MS), None, "{scheme}");
        }
    }
}
