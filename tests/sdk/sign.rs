//! Requests signed with a shared secret.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use harness::mac;
use serde_json::{Value, json};

use super::case::{Case, Covers, NOW_S, Place, Request, Signer, WORD};

/// A secret that is used as it is written.
const SECRET: &str = "a secret of this test";
const OTHER: &str = "another secret of this test";

/// The bytes of a secret that is written in base64 or hexadecimal.
const KEY: &[u8] = b"thirty-two bytes of a secret key";
const OTHER_KEY: &[u8] = b"thirty-two bytes of another key.";

pub(crate) const URL: &str = "https://in.example/in/a";

pub(crate) fn cases() -> Vec<Case> {
    [signed_by_sdks(), of_the_body(), with_a_time(), standard_webhooks()].into_iter().flatten().collect()
}

/// A case without a signature.
pub(crate) fn unsigned(provider: &'static str, signature: Place) -> Case {
    Case {
        provider,
        signer: Signer::Here,
        secret: SECRET.to_owned(),
        other_secret: OTHER.to_owned(),
        config: Value::Null,
        request: Request { method: "POST", url: URL.to_owned(), headers: BTreeMap::new(), body: body() },
        signature,
        covers: Covers::Body,
        keys: BTreeMap::new(),
        document: Vec::new(),
    }
}

/// A case that is signed with `headers`; the first one contains the signature.
pub(crate) fn signed(provider: &'static str, headers: &[(&'static str, &str)]) -> Case {
    let mut case = unsigned(provider, Place::Header(headers[0].0));
    case.request.headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    case
}

fn body() -> String {
    format!("{{\"id\":\"evt_1\",\"type\":\"invoice.paid\",\"data\":{{\"text\":\"{WORD} ü \\u00e9\"}}}}")
}

/// A form for Twilio's SDK to sign.
pub(crate) fn twilio() -> Case {
    let mut twilio = Case { signer: Signer::Sdk, ..unsigned("twilio", Place::Header("x-twilio-signature")) };
    twilio.request.url = format!("{URL}?foo=1&bar=a%20b");
    twilio.request.body = format!("To=%2B18005551212&Body={WORD}+there%26then&From=%2B14155551212&Empty=");
    twilio
}

fn signed_by_sdks() -> Vec<Case> {
    let of = |provider, header| Case { signer: Signer::Sdk, ..unsigned(provider, Place::Header(header)) };
    let mut cases = vec![
        of("stripe", "stripe-signature"),
        of("github", "x-hub-signature-256"),
        of("notion", "x-notion-signature"),
        of("retell", "x-retell-signature"),
        of("hubspot-v1", "x-hubspot-signature"),
        of("hubspot-v2", "x-hubspot-signature"),
    ];
    let mut hubspot = of("hubspot", "x-hubspot-signature-v3");
    hubspot.request.headers.insert("x-hubspot-request-timestamp".to_owned(), (NOW_S * 1_000).to_string());
    let mut commerce = of("coinbase-commerce", "x-cc-webhook-signature");
    commerce.request.body = json!({"event": {"id": "1", "type": "charge:confirmed", "text": WORD}}).to_string();
    let mut workos = of("workos", "workos-signature");
    // Its SDK parses the body and serialises it again, so the body has to be in the SDK's own form.
    workos.request.body = json!({"id": "evt_1", "event": WORD}).to_string();
    cases.extend([hubspot, twilio(), commerce, workos]);

    let key = |mut case: Case| {
        case.secret = hex::encode(KEY);
        case.other_secret = hex::encode(OTHER_KEY);
        case
    };
    let place = Place::Body("/notificationItems/0/NotificationRequestItem/additionalData/hmacSignature");
    let mut adyen = key(Case { signer: Signer::Sdk, ..unsigned("adyen", place) });
    let item = |reference: &str| {
        json!({"NotificationRequestItem": {
            "pspReference": reference, "merchantAccountCode": "TestMerchant", "merchantReference": WORD,
            "amount": {"value": 1130, "currency": "EUR"}, "eventCode": "AUTHORISATION", "success": "true",
        }})
    };
    adyen.request.body =
        json!({"live": "false", "notificationItems": [item("7914073381342284"), item("2")]}).to_string();
    cases.extend([adyen, key(of("adyen-platform", "hmacsignature"))]);

    for (provider, prefix) in [("standard-webhooks", "webhook"), ("svix", "svix")] {
        let mut case = standard(provider, prefix, KEY);
        case.signer = Signer::Sdk;
        case.request.headers.remove(&format!("{prefix}-signature"));
        cases.push(case);
    }
    cases
}

fn of_the_body() -> Vec<Case> {
    let body = body();
    let tag = hmac_sha256(SECRET.as_bytes(), &[&body]);
    let (hex, base64) = (hex::encode(&tag), BASE64.encode(&tag));
    let shopify = [
        ("x-shopify-hmac-sha256", base64.as_str()),
        ("x-shopify-topic", "orders/create"),
        ("x-shopify-shop-domain", "shop.example.myshopify.com"),
        ("x-shopify-api-version", "2025-01"),
        ("x-shopify-webhook-id", "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"),
    ];
    let mut cases = vec![
        signed("shopify", &shopify),
        signed("razorpay", &[("x-razorpay-signature", &hex)]),
        signed("line", &[("x-line-signature", &base64)]),
    ];
    let of_own_body = |provider, header: &'static str, body: String| {
        let tag = hex::encode(hmac_sha256(SECRET.as_bytes(), &[&body]));
        let mut case = signed(provider, &[(header, tag.as_str())]);
        case.request.body = body;
        case
    };
    let gocardless = json!({"events": [{"id": "EV1", "action": WORD}]}).to_string();
    cases.push(of_own_body("gocardless", "webhook-signature", gocardless));
    let linear = json!({"action": WORD, "type": "Issue", "webhookTimestamp": NOW_S * 1_000}).to_string();
    cases.push(of_own_body("linear", "linear-signature", linear));

    let tag = BASE64.encode(hmac_sha256(SECRET.as_bytes(), &[URL, &body]));
    cases.push(signed("square", &[("x-square-hmacsha256-signature", &tag)]));
    cases
}

fn with_a_time() -> Vec<Case> {
    let body = body();
    let (s, ms) = (NOW_S.to_string(), (NOW_S * 1_000).to_string());
    let tag = |parts: &[&str]| hex::encode(hmac_sha256(SECRET.as_bytes(), parts));
    let dotted = tag(&[&s, ".", &body]);
    vec![
        signed("mux", &[("mux-signature", &format!("t={s},v1={dotted}"))]),
        signed("elevenlabs", &[("elevenlabs-signature", &format!("t={s},v0={dotted}"))]),
        signed("paddle", &[("paddle-signature", &format!("ts={s};h1={}", tag(&[&s, ":", &body])))]),
        signed(
            "slack",
            &[
                ("x-slack-signature", &format!("v0={}", tag(&["v0:", &s, ":", &body]))),
                ("x-slack-request-timestamp", &s),
            ],
        ),
        signed("webflow", &[("x-webflow-signature", &tag(&[&ms, ":", &body])), ("x-webflow-timestamp", &ms)]),
    ]
}

fn standard_webhooks() -> Vec<Case> {
    let providers = [
        ("replicate", "webhook"),
        ("openai", "webhook"),
        ("anthropic", "webhook"),
        ("resend", "svix"),
        ("clerk", "svix"),
    ];
    let mut cases: Vec<_> = providers.map(|(provider, prefix)| standard(provider, prefix, KEY)).into();
    // Polar uses the secret itself as the key, without decoding it.
    let mut polar = standard("polar", "webhook", SECRET.as_bytes());
    (polar.secret, polar.other_secret) = (SECRET.to_owned(), OTHER.to_owned());
    cases.push(polar);
    cases
}

fn standard(provider: &'static str, prefix: &str, key: &[u8]) -> Case {
    let time = NOW_S.to_string();
    let tag = BASE64.encode(hmac_sha256(key, &["msg_1.", &time, ".", &body()]));
    let place = if prefix == "svix" { "svix-signature" } else { "webhook-signature" };
    let mut case = unsigned(provider, Place::Header(place));
    let headers = [("id", "msg_1".to_owned()), ("timestamp", time), ("signature", format!("v1,{tag}"))];
    case.request.headers = headers.into_iter().map(|(name, value)| (format!("{prefix}-{name}"), value)).collect();
    case.secret = format!("whsec_{}", BASE64.encode(KEY));
    case.other_secret = format!("whsec_{}", BASE64.encode(OTHER_KEY));
    case
}

/// HMAC-SHA256 of the concatenated parts.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&str]) -> Vec<u8> {
    mac::hmac_sha256(key, &parts.iter().map(|part| part.as_bytes()).collect::<Vec<_>>())
}
