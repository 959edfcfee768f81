//! `HubSpot`: a decoded URL, and plain digests that hold the secret.

use super::Case;
use crate::source::OnStale;
use crate::verify::Rejection;

const HUBSPOT_V3: &str = r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8",
    "content":"{method}{fn:hubspot_uri}{body}{h:x-hubspot-request-timestamp}",
    "sig":{"in":"h:x-hubspot-signature-v3","enc":"base64"},
    "ts":{"in":"h:x-hubspot-request-timestamp","unit":"ms","tol":300,"past_only":true}}"#;
const HUBSPOT_V2: &str = r#"{"kind":"mac","alg":"sha256","key":"utf8","content":"{secret}{method}{url}{body}",
    "sig":{"in":"h:x-hubspot-signature","enc":"hex"}}"#;
const HUBSPOT_V1: &str = r#"{"kind":"mac","alg":"sha256","key":"utf8","content":"{secret}{body}",
    "sig":{"in":"h:x-hubspot-signature","enc":"hex"}}"#;

#[test]
fn hubspot_signs_its_url_decoded() {
    // Signed by `Signature.getSignature` of the npm package `@hubspot/api-client` over the decoded URL.
    let headers = [
        ("x-hubspot-signature-v3", "2vXhXdK1ZRGJYmOxKYDUbkuhJy+wQyWwexdDl19yfV4="),
        ("x-hubspot-request-timestamp", "1700000000000"),
    ];
    let case = Case {
        url: "https://www.example.com/webhook_uri?a=%3A%2F%3F%40%21%24%27%28%29%2a%2C%3b&b=%20",
        body: r#"{"example_field":"example_value"}"#,
        now_ms: 1_700_000_000_000,
        ..Case::new(HUBSPOT_V3, &["hs_secret"], &headers)
    };
    assert_eq!(case.code(), "verified");
    assert_eq!(Case { method: "PUT", ..case }.code(), "signature_mismatch");
}

#[test]
fn a_plain_digest_holds_the_secret_in_its_content() {
    // developers.hubspot.com, "Validating requests": the examples of version 2.
    const SECRET: &[&str] = &["other", "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"];
    let case = |rule, signature, method, body| {
        let url = "https://www.example.com/webhook_uri";
        Case { url, method, body, ..Case::new(rule, SECRET, &[("x-hubspot-signature", signature)]) }
    };
    let json = r#"{"example_field":"example_value"}"#;
    let get = "eee2dddcc73c94d699f5e395f4b9d454a069a6855fbfa152e91e88823087200e";
    let post = "9569219f8ba981ffa6f6f16aa0f48637d35d728c7e4d93d0d52efaa512af7900";
    assert_eq!(case(HUBSPOT_V2, get, "GET", "").verify().map(|verified| verified.which()), Ok(Some(1)));
    assert_eq!(case(HUBSPOT_V2, post, "POST", json).code(), "verified");
    assert_eq!(case(HUBSPOT_V2, post, "POST", "{}").code(), "signature_mismatch");
    assert_eq!(case(HUBSPOT_V1, post, "POST", json).code(), "signature_mismatch");
}

#[test]
fn an_extended_digest_is_refused() {
    // SHA-256 of the secret, the body, the padding that SHA-256 itself puts after the two, and more.
    use sha2::{Digest as _, Sha256};
    let secret = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy";
    let signed = format!("{secret}{{}}");
    let mut longer = signed.clone().into_bytes();
    longer.push(0x80);
    longer.resize(64 - 8, 0);
    longer.extend((signed.len() as u64 * 8).to_be_bytes());
    longer.extend(b"{\"more\":1}");
    let signature: &'static str = Box::leak(hex::encode(Sha256::digest(&longer)).into_boxed_str());
    let case = Case::new(HUBSPOT_V1, &["yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"], &[("x-hubspot-signature", signature)]);
    let mismatch = Err(Rejection::SignatureMismatch { secrets: 1 });
    assert_eq!(case.verify_with(OnStale::Reject, &longer[secret.len()..]), mismatch);
}
