//! Rules for every item of a list, and rules that must all hold.

use super::Case;
use crate::verify::ConfigError;

const ADYEN: &str = r#"{"kind":"mac","alg":"hmac-sha256","key":"hex",
    "content":"{json?:pspReference}:{json?:originalReference}:{json?:merchantAccountCode}:{json?:merchantReference}:{json?:amount.value}:{json?:amount.currency}:{json?:eventCode}:{json?:success}",
    "sig":{"in":"json:additionalData.hmacSignature","enc":"base64"},"each":"notificationItems[].NotificationRequestItem",
    "require":[{"json:merchantAccountCode":"cfg:merchant"}],"settings":{"merchant":"TestMerchant"}}"#;
const ADYEN_SECRET: &[&str] = &["44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"];
// adyen-node-api-library, src/__tests__/hmacValidator.spec.ts
const ADYEN_ITEM: &str = r#"{"NotificationRequestItem":{"pspReference":"7914073381342284","merchantAccountCode":"TestMerchant",
    "merchantReference":"TestPayment-1407325143704","amount":{"value":1130,"currency":"EUR"},"eventCode":"AUTHORISATION",
    "success":"true","additionalData":{"hmacSignature":"coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="}}}"#;

fn adyen(items: &[&str]) -> Case {
    let body = format!(r#"{{"live":"false","notificationItems":[{}]}}"#, items.join(","));
    Case { body: Box::leak(body.into_boxed_str()), ..Case::new(ADYEN, ADYEN_SECRET, &[]) }
}

#[test]
fn every_item_of_adyen_carries_its_own_signature() {
    let forged = ADYEN_ITEM.replace("1130", "9930");
    let unsigned = ADYEN_ITEM.replace("hmacSignature", "other");
    let elsewhere = ADYEN_ITEM.replace("TestMerchant", "Other");
    for (items, code) in [
        (&[ADYEN_ITEM][..], "verified"),
        (&[ADYEN_ITEM, ADYEN_ITEM], "verified"),
        (&[ADYEN_ITEM, &forged], "signature_mismatch"),
        (&[&forged, ADYEN_ITEM], "signature_mismatch"),
        (&[ADYEN_ITEM, &unsigned], "field_missing"),
        (&[ADYEN_ITEM, &elsewhere], "requirement_failed"),
        (&[ADYEN_ITEM, "{}"], "field_missing"),
        (&[ADYEN_ITEM, "null"], "field_missing"),
        (&[], "field_missing"),
    ] {
        assert_eq!(adyen(items).code(), code, "{items:?}");
    }
    for body in ["", "{}", r#"{"notificationItems":{}}"#, "[]"] {
        assert_eq!(Case { body, ..adyen(&[]) }.code(), "field_missing", "{body}");
    }
}

#[test]
fn every_rule_of_all_has_to_hold_and_gets_its_own_secret() {
    let rule: &'static str = Box::leak(format!(r#"{{"kind":"all_of","rules":[{{"kind":"basic"}},{ADYEN}]}}"#).into());
    const SECRETS: &[&str] = &[ADYEN_SECRET[0], "user:password"];
    let case = Case {
        rule,
        secrets: SECRETS,
        headers: vec![("authorization", "Basic dXNlcjpwYXNzd29yZA==")],
        ..adyen(&[ADYEN_ITEM])
    };
    assert_eq!(case.verify().map(|verified| verified.which()), Ok(Some(1)), "the secret of the first rule");
    assert_eq!(Case { headers: vec![], ..case }.code(), "header_missing");
    assert_eq!(Case { headers: vec![("authorization", "Basic eDp5")], ..case }.code(), "token_mismatch");
    assert_eq!(
        Case { body: adyen(&[&ADYEN_ITEM.replace("1130", "1")]).body, ..case.clone() }.code(),
        "signature_mismatch"
    );
    for secrets in [&SECRETS[..1], &SECRETS[1..], &[]] {
        let verifier = Case { secrets, ..case.clone() }.verifier();
        assert!(matches!(verifier, Err(ConfigError::NoSecret)), "{secrets:?}");
    }
    const MORE: &[&str] = &[ADYEN_SECRET[0], "user:password", "zz"];
    let verifier = Case { secrets: MORE, ..case }.verifier();
    assert!(matches!(verifier, Err(ConfigError::Secret { index: 2, .. })));
}

#[test]
fn basic_credentials_are_not_a_key_of_another_rule() {
    let hmac = r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{body}","sig":{"in":"h:a","enc":"hex"}}"#;
    let rule: &'static str = Box::leak(format!(r#"{{"kind":"all_of","rules":[{hmac},{{"kind":"basic"}}]}}"#).into());
    assert!(matches!(Case::new(rule, &["u:p"], &[]).verifier(), Err(ConfigError::NoSecret)));
    assert!(Case::new(rule, &["u:p", "s"], &[]).verifier().is_ok());
}

#[test]
fn the_first_item_is_signed_only_if_the_body_is_json() {
    let rule =
        r#"{"kind":"mac","alg":"hmac-sha1","key":"utf8","content":"{fn:first_item}","sig":{"in":"h:a","enc":"hex"}}"#;
    // printf '{"id":"signed"}' | openssl dgst -sha1 -hmac s
    let of =
        |body| Case { body, ..Case::new(rule, &["s"], &[("a", "9a4886bd49d14d04b54d48710d255f2219656eab")]) }.code();
    assert_eq!(of(r#"[{"id":"signed"}]"#), "verified");
    assert_eq!(of(r#" [ {"id":"signed"} , 1 ] "#), "verified");
    // With the right content-type a form reader would find a payload with another first item.
    let form = "--b\r\nContent-Disposition: form-data; name=\"payload\"\r\n\r\n[{\"id\":\"other\"}]\r\n--b--";
    for rest in ["", ",]", "]]", "] x", &format!("]\r\n{form}")] {
        let body = &*Box::leak(format!(r#"[{{"id":"signed"}}{rest}"#).into_boxed_str());
        assert_eq!(of(body), "field_missing", "{body}");
    }
}

#[test]
fn a_list_of_rules_that_all_must_hold_is_not_empty_and_holds_no_other() {
    for rule in [
        r#"{"kind":"all_of","rules":[]}"#,
        r#"{"kind":"all_of","rules":[{"kind":"basic"},{"kind":"none"}]}"#,
        r#"{"kind":"all_of","rules":[{"kind":"any_of","rules":[{"kind":"basic"}]}]}"#,
        r#"{"kind":"any_of","rules":[{"kind":"all_of","rules":[{"kind":"basic"}]}]}"#,
    ] {
        assert!(matches!(Case::new(rule, &["u:p"], &[]).verifier(), Err(ConfigError::Rule { .. })), "{rule}");
    }
}
