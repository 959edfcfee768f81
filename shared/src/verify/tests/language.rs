//! Tests of the rule language beyond a plain HMAC, each with a vector of a provider that needs it.

mod digests;
mod items;
mod urls;

use crate::header::HeaderList;
use crate::source::{OnStale, Secret};
use crate::verify::platform::tests::assert_agrees;
use crate::verify::{ConfigError, Rejection, RequestParts, Verified, Verifier, verify};

/// A request to a source with one rule, ready to be changed.
#[derive(Clone)]
struct Case {
    rule: &'static str,
    secrets: &'static [&'static str],
    settings: &'static str,
    method: &'static str,
    url: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: &'static str,
    now_ms: u64,
}

impl Case {
    fn new(rule: &'static str, secret: &'static [&'static str], headers: &[(&'static str, &'static str)]) -> Self {
        let (settings, url) = ("{}", "https://in.example/in/a");
        Self { rule, secrets: secret, settings, method: "POST", url, headers: headers.to_vec(), body: "", now_ms: 0 }
    }

    fn verify(&self) -> Result<Verified, Rejection> {
        self.verify_with(OnStale::Reject, self.body.as_bytes())
    }

    fn verify_with(&self, on_stale: OnStale, body: &[u8]) -> Result<Verified, Rejection> {
        let verifier = Verifier { on_stale, ..self.verifier().expect("a verifier") };
        let headers = HeaderList::new(self.headers.iter().copied());
        let query = self.url.split_once('?').map_or("", |(_, query)| query);
        let request = RequestParts { method: self.method, url: self.url, query, headers: &headers };
        let outcome = verify(&verifier, None, &request, body, self.now_ms);
        assert_agrees(&outcome, &verifier, None, &request, body, self.now_ms);
        outcome
    }

    fn verifier(&self) -> Result<Verifier, ConfigError> {
        let secrets: Vec<_> = self.secrets.iter().map(|secret| Secret::new(secret)).collect();
        Verifier::of(&serde_json::from_str(&self.rule.replace("SETTINGS", self.settings)).expect("parses"), &secrets)
    }

    /// `"verified"` or the code of the rejection.
    fn code(&self) -> &'static str {
        self.verify().map_or_else(|rejection| rejection.code(), |_| "verified")
    }
}

const DOCUSIGN: &str = r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{body}",
    "sig":{"in":"h*:x-docusign-signature-","enc":"base64"}}"#;

#[test]
fn any_header_of_a_series_may_hold_the_signature() {
    const GOOD: &str = "FDyo1Re6GxgQJdcysc8nXZAQT8pXuwKlZVQpeKoYxLY=";
    const OTHER: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let of =
        |headers: &[(&'static str, &'static str)]| Case { body: "{}", ..Case::new(DOCUSIGN, &["s"], headers) }.code();
    assert_eq!(of(&[("X-DocuSign-Signature-1", GOOD)]), "verified");
    assert_eq!(of(&[("x-docusign-signature-1", OTHER), ("x-docusign-signature-12", GOOD)]), "verified");
    assert_eq!(of(&[("x-docusign-signature-1", "short"), ("x-docusign-signature-2", GOOD)]), "verified");
    assert_eq!(of(&[("x-docusign-signature-1", OTHER), ("x-docusign-signature-2", OTHER)]), "signature_mismatch");
    assert_eq!(of(&[("x-docusign-signature-1", "short")]), "signature_malformed");
    assert_eq!(of(&[("x-docusign-signature-1", GOOD), ("x-docusign-signature-1", GOOD)]), "header_repeated");
    assert_eq!(of(&[("x-docusign-signature-1", "")]), "header_empty");
    for name in ["x-docusign-signature-", "x-docusign-signature-a", "x-docusign-signature", "x-docusign-signature-1a"] {
        assert_eq!(of(&[(name, GOOD)]), "header_missing", "{name}");
    }
    let many: Vec<(&str, &str)> =
        (0..17).map(|n| (&*Box::leak(format!("x-docusign-signature-{n}").into_boxed_str()), OTHER)).collect();
    assert_eq!(of(&many), "too_many_signatures");
    assert_eq!(of(&many[..16]), "signature_mismatch");
}

const ZENDESK: &str = r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8",
    "content":"{h:x-zendesk-webhook-signature-timestamp}{body}","sig":{"in":"h:x-zendesk-webhook-signature","enc":"base64"},
    "ts":{"in":"h:x-zendesk-webhook-signature-timestamp","unit":"iso8601","tol":300}}"#;

/// Computed for the research; the secret is the one that Zendesk documents for tests. Signed at 1,616,648,967.
fn zendesk(now_s: u64) -> Case {
    let headers = [
        ("x-zendesk-webhook-signature", "OSFSHVSNZ2+nUhWlTfmw0Gi/r1IddBeIi9Tq1o2Zzs0="),
        ("x-zendesk-webhook-signature-timestamp", "2021-03-25T05:09:27Z"),
    ];
    let case = Case::new(ZENDESK, &["dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ=="], &headers);
    Case { body: r#"{"id":"evt_test","type":"example.event"}"#, now_ms: now_s * 1_000, ..case }
}

#[test]
fn a_written_date_is_near_to_now() {
    let signed_at = 1_616_648_967;
    for (now_s, code) in [
        (signed_at, "verified"),
        (signed_at + 300, "verified"),
        (signed_at - 300, "verified"),
        (signed_at + 301, "timestamp_old"),
        (signed_at - 301, "timestamp_future"),
    ] {
        assert_eq!(zendesk(now_s).code(), code, "{now_s}");
    }
}

#[test]
fn a_stale_request_is_accepted_only_if_its_signature_is_good() {
    let case = zendesk(1_616_648_967);
    let of = |case: &Case, body: &str| {
        case.verify_with(OnStale::AcceptFlagged, body.as_bytes())
            .map_or_else(|rejection| rejection.code(), |verified| if verified.stale() { "stale" } else { "verified" })
    };
    assert_eq!(of(&case, case.body), "verified");
    for now_s in [1_616_649_968, 1_616_647_968] {
        assert_eq!(of(&zendesk(now_s), case.body), "stale");
        assert_eq!(of(&zendesk(now_s), "{}"), "signature_mismatch");
    }
    let mut malformed = zendesk(1_616_649_968);
    malformed.headers[1].1 = "yesterday";
    assert_eq!(of(&malformed, case.body), "timestamp_malformed");
}

#[test]
fn of_rules_that_must_all_hold_one_that_is_stale_makes_the_request_stale() {
    const SECRET: &str = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==";
    let token = r#"{"kind":"token","in":"h:x-token"}"#;
    for rules in [format!("{ZENDESK},{token}"), format!("{token},{ZENDESK}")] {
        let rule = &*Box::leak(format!(r#"{{"kind":"all_of","rules":[{rules}]}}"#).into_boxed_str());
        for (now_s, stale) in [(1_616_648_967, false), (1_616_649_968, true)] {
            let mut case = Case { rule, ..zendesk(now_s) };
            case.headers.push(("x-token", SECRET));
            let verified = case.verify_with(OnStale::AcceptFlagged, case.body.as_bytes()).expect("accepted");
            assert_eq!(verified.stale(), stale, "{rule}");
        }
    }
}

#[test]
fn of_rules_that_all_refuse_the_furthest_one_is_reported_and_else_the_first() {
    let rule = r#"{"kind":"any_of","rules":[
        {"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{body}","sig":{"in":"h:x-a","enc":"hex"}},
        {"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{body}","sig":{"in":"h:x-b","enc":"hex"}}]}"#;
    const OTHER: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    let of = |headers: &[(&'static str, &'static str)]| Case::new(rule, &["s"], headers).verify().expect_err("refused");
    let missing = |name: &str| Rejection::HeaderMissing { name: name.to_owned() };
    assert_eq!(of(&[("x-a", OTHER)]), Rejection::SignatureMismatch { secrets: 1 });
    assert_eq!(of(&[("x-b", OTHER)]), Rejection::SignatureMismatch { secrets: 1 });
    assert_eq!(of(&[]), missing("x-a"));
}

const HOOK0: &str = r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8",
    "content":"{sig:t}.{sig:h}.{fn:signed_headers(sig:h)}.{body}",
    "sig":{"in":"h:x-hook0-signature","enc":"hex","list":",","kv":"=","key":"v1"},
    "ts":{"in":"sig:t","unit":"s","tol":300}}"#;

#[test]
fn hook0_signs_the_headers_that_it_names() {
    // The repository of Hook0, clients/rust/tests.
    let headers = [
        (
            "x-hook0-signature",
            "t=1636936200,h=x-test x-test2,v1=493c35f05443fdb74cb99fd4f00e0e7653c2ab6b24fbc97f4a7bd4d56b31758a",
        ),
        ("x-test", "val1"),
        ("x-test2", "val2"),
    ];
    let case = Case { body: "hello !", now_ms: 1_636_936_200_000, ..Case::new(HOOK0, &["secret"], &headers) };
    assert_eq!(case.code(), "verified");
    for (index, value, code) in [(1, "val3", "signature_mismatch"), (2, "", "header_empty")] {
        let mut changed = case.clone();
        changed.headers[index].1 = value;
        assert_eq!(changed.code(), code);
    }
    let mut without = case.clone();
    without.headers.pop();
    assert_eq!(without.verify(), Err(Rejection::HeaderMissing { name: "x-test2".to_owned() }));
    let mut v0 = case;
    v0.headers[0].1 = "t=1636936200,v0=1b3d69df55f1e52f05224ba94a5162abeb17ef52cd7f4948c390f810d6a87e98";
    assert_eq!(v0.code(), "signature_version_missing", "v0 is a downgrade");
}

#[test]
fn a_rule_that_only_seems_to_verify_makes_no_verifier() {
    let hmac = r#""kind":"mac","alg":"hmac-sha256","key":"utf8","sig":{"in":"h:a","enc":"hex"}"#;
    let digest = hmac.replace("hmac-", "");
    for rule in [
        format!(r#"{{{hmac},"content":"{{cfg:a}}{{method}}{{lit:x}}"}}"#),
        format!(r#"{{{hmac},"content":"{{secret}}{{body}}"}}"#),
        format!(r#"{{{hmac},"content":"{{body}}","require":[{{"lit:a":"secret"}}]}}"#),
        format!(r#"{{{hmac},"content":"{{body}}","urls":["as_is"]}}"#),
        format!(r#"{{{hmac},"content":"{{h*:x-a-}}{{body}}"}}"#),
        format!(r#"{{{hmac},"content":"{{sha256hex:body+url}}"}}"#),
        format!(r#"{{{hmac},"content":"{{fn:items(a[]:id)}}{{body}}"}}"#),
        format!(r#"{{{digest},"content":"{{body}}"}}"#),
        format!(r#"{{{digest},"content":"{{secret}}"}}"#),
        format!(r#"{{{},"content":"{{secret}}{{body}}"}}"#, digest.replace("utf8", "hex")),
        format!(
            r#"{{"kind":"any_of","rules":[{{{hmac},"content":"{{body}}"}},{{{digest},"content":"{{secret}}{{body}}"}}]}}"#
        ),
    ] {
        let verifier = Verifier::of(&serde_json::from_str(&rule).expect("parses"), &[Secret::new("aa")]);
        assert!(matches!(verifier, Err(ConfigError::Rule { .. })), "{rule}");
    }
}

#[test]
fn a_value_can_be_required_to_be_a_certain_one() {
    let rule = r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{h:x-kind}{body}",
        "sig":{"in":"h:x-sign","enc":"base64"},"require":[{"h:x-kind":"lit:live"}]}"#;
    let of = |kind, sign| Case { body: "{}", ..Case::new(rule, &["s"], &[("x-kind", kind), ("x-sign", sign)]) }.code();
    assert_eq!(of("live", "pzwXgZ0DbQSI37dg0x0O30CI1qBedTxFF3l/vbes91g="), "verified");
    assert_eq!(of("test", "vuKqVtCH/CleNMk7hbdoKgYH+N52irJZssImvUhPy1c="), "requirement_failed");
}

#[test]
fn a_checksum_of_the_body_is_signed_as_paypal_does() {
    let rule = r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{h:id}|{cfg:webhook_id}|{crc32dec:body}",
        "sig":{"in":"h:x-sign","enc":"base64"},"settings":{"webhook_id":"4JH86294D6297924G"}}"#;
    let body = r#"{"id":"evt_test","type":"example.event"}"#;
    let case = Case {
        body,
        ..Case::new(rule, &["s"], &[("id", "dfb3be50"), ("x-sign", "nbMujaVAK/Gep4JrnfLp8EF7USFbzXBAml6Oc6IjrH8=")])
    };
    assert_eq!(case.code(), "verified");
    assert_eq!(Case { body: "{}", ..case }.code(), "signature_mismatch");
}
