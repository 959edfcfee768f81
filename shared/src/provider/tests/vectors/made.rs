//! Requests as each provider signs them, computed here by its documentation. Nothing of the interpreter is used, so
//! that a wrong entry of the catalogue does not agree with itself.

mod bearer;
mod public_key;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use super::sample::{Encoding, Sample};
use Encoding::{Base64, Hex};

const BODY: &str = "{\"id\":\"evt_test\",\"type\":\"example.event\"}";
const SECRET: &str = "a secret of this test";
const NOW_S: u64 = 1_700_000_000;
const NOW: &str = "1700000000";
const NEXT: &str = "1700000001";
const NOW_MS: &str = "1700000000000";
const NEXT_MS: &str = "1700000001000";
const NOW_ISO: &str = "2023-11-14T22:13:20Z";
const NEXT_ISO: &str = "2023-11-14T22:13:21Z";
const URL: &str = "https://in.example/in/a";

/// At least one sample of each provider that neither `published` nor `asymmetric` has one of.
pub(crate) fn made() -> Vec<Sample> {
    [
        of_the_body(),
        time_in_the_signature(),
        time_in_a_header(),
        standard_webhooks(),
        of_the_url(),
        of_fields(),
        public_key::public_keys(),
    ]
    .into_iter()
    .chain([bearer::tokens(), bearer::web_tokens(), bearer::unsigned()])
    .flatten()
    .collect()
}

fn of_the_body() -> Vec<Sample> {
    let sha256 = [
        ("github", "x-hub-signature-256", "sha256=", Hex),
        ("meta", "x-hub-signature-256", "sha256=", Hex),
        ("jira", "x-hub-signature", "sha256=", Hex),
        ("notion", "x-notion-signature", "sha256=", Hex),
        ("firecrawl", "x-firecrawl-signature", "sha256=", Hex),
        ("pagerduty", "x-pagerduty-signature", "v1=", Hex),
        ("razorpay", "x-razorpay-signature", "", Hex),
        ("dropbox", "x-dropbox-signature", "", Hex),
        ("coinbase-commerce", "x-cc-webhook-signature", "", Hex),
        ("sentry", "sentry-hook-signature", "", Hex),
        ("lemonsqueezy", "x-signature", "", Hex),
        ("fastly", "x-sigsci-signature", "", Hex),
        ("gocardless", "webhook-signature", "", Hex),
        ("asana", "x-hook-signature", "", Hex),
        ("shopify", "x-shopify-hmac-sha256", "", Base64),
        ("xero", "x-xero-signature", "", Base64),
        ("woocommerce", "x-wc-webhook-signature", "", Base64),
        ("docusign", "x-docusign-signature-1", "", Base64),
        ("typeform", "typeform-signature", "sha256=", Base64),
        ("x", "x-twitter-webhooks-signature", "sha256=", Base64),
        ("bfl", "x-bfl-signature", "sha256=", Hex),
        ("heygen", "heygen-signature", "", Hex),
        ("heygen", "signature", "", Hex),
        ("custom", "x-signature", "", Hex),
    ];
    let mut samples: Vec<_> = sha256
        .map(|(provider, header, prefix, encoding)| {
            hmac_of(provider, &hmac::<Hmac<Sha256>>(SECRET, &[BODY]), header, prefix, encoding)
        })
        .into();
    for (provider, header, prefix) in
        [("vercel", "x-vercel-signature", ""), ("segment", "x-signature", ""), ("intercom", "x-hub-signature", "sha1=")]
    {
        samples.push(hmac_of(provider, &hmac::<Hmac<Sha1>>(SECRET, &[BODY]), header, prefix, Hex));
    }
    samples.push(hmac_of("paystack", &hmac::<Hmac<Sha512>>(SECRET, &[BODY]), "x-paystack-signature", "", Hex));

    // segment-docs: connections/destinations/catalog/actions-webhook: of a batch the first event is signed.
    let mut batch = hmac_of("segment", &hmac::<Hmac<Sha1>>(SECRET, &[BODY]), "x-signature", "", Hex);
    batch.body = format!("[{BODY},{{\"messageId\":\"2\"}}]");
    batch.fields_only = true;
    samples.push(batch);

    let mut airtable =
        hmac_of("airtable", &hmac::<Hmac<Sha256>>("key bytes", &[BODY]), "x-airtable-content-mac", "hmac-sha256=", Hex);
    airtable.secrets = vec![BASE64.encode("key bytes")];
    airtable.wrong = Some(BASE64.encode("other bytes"));
    let mut adyen = hmac_of("adyen-platform", &hmac::<Hmac<Sha256>>("key bytes", &[BODY]), "hmacsignature", "", Base64);
    adyen.secrets = vec![hex::encode("key bytes")];
    adyen.wrong = Some(hex::encode("other bytes"));
    samples.extend([airtable, adyen]);

    let body = format!("{{\"action\":\"create\",\"type\":\"Issue\",\"webhookTimestamp\":{NOW_MS}}}");
    let mut linear = hmac_of("linear", &hmac::<Hmac<Sha256>>(SECRET, &[&body]), "linear-signature", "", Hex);
    linear.body = body;
    samples.push(timed(linear, NOW_MS, NEXT_MS, 60));
    for sample in &mut samples {
        match sample.provider.as_str() {
            "custom" => sample.config = json!({"header": "X-Signature"}),
            "meta" => sample.config = json!({"verify_token": "t"}),
            _ => {}
        }
    }
    samples
}

/// `t=<time>,v1=<signature>` and the like, over the time, a separator and the body.
fn time_in_the_signature() -> Vec<Sample> {
    let of = |provider, header: &str, form: [&str; 2], separator: &str, time: [&str; 2], tolerance_s| {
        let tag = hex::encode(hmac::<Hmac<Sha256>>(SECRET, &[time[0], separator, BODY]));
        let value = format!("{}{}{}{tag}", form[0], time[0], form[1]);
        timed(signed(provider, [(header, value.as_str())], &tag, Hex), time[0], time[1], tolerance_s)
    };
    let s = [NOW, NEXT];
    let ms = [NOW_MS, NEXT_MS];
    let mut samples = vec![
        of("stripe", "stripe-signature", ["t=", ",v1="], ".", s, 300),
        of("mux", "mux-signature", ["t=", ",v1="], ".", s, 300),
        of("calendly", "calendly-webhook-signature", ["t=", ",v1="], ".", s, 180),
        of("elevenlabs", "elevenlabs-signature", ["t=", ",v0="], ".", s, 1_800),
        of("paddle", "paddle-signature", ["ts=", ";h1="], ":", s, 300),
        of("cloudflare-stream", "webhook-signature", ["time=", ",sig1="], ".", s, 300),
        of("courier", "courier-signature", ["t=", ",signature="], ".", ms, 300),
        of("zoho-payments", "x-zoho-webhook-signature", ["t=", ",v="], ".", ms, 300),
        of("workos", "workos-signature", ["t=", ", v1="], ".", ms, 180),
        of("recurly", "recurly-signature", ["", ","], ".", ms, 300),
        of("langfuse", "x-langfuse-signature", ["t=", ",v1="], ".", s, 300),
        of("openrouter", "x-openrouter-signature", ["t=", ",v1="], ",", s, 300),
    ];
    let tag = BASE64.encode(hmac::<Hmac<Sha256>>(SECRET, &[NOW_MS, ".", BODY]));
    let value = format!("t={NOW_MS},s={tag}");
    samples.push(timed(signed("knock", [("x-knock-signature", value.as_str())], &tag, Base64), NOW_MS, NEXT_MS, 300));
    let tag = hex::encode(hmac::<Hmac<Sha256>>(SECRET, &[BODY, NOW_MS]));
    let value = format!("v={NOW_MS},d={tag}");
    samples.push(timed(signed("retell", [("x-retell-signature", value.as_str())], &tag, Hex), NOW_MS, NEXT_MS, 300));
    let tag = hex::encode(hmac::<Hmac<Sha256>>(SECRET, &[NOW, ".x-event-id x-event-type.", "e1.a.b", ".", BODY]));
    let value = format!("t={NOW},h=x-event-id x-event-type,v1={tag}");
    let headers = [("x-hook0-signature", value.as_str()), ("x-event-id", "e1"), ("x-event-type", "a.b")];
    samples.push(timed(signed("coinbase-cdp", headers, &tag, Hex), NOW, NEXT, 300));
    samples
}

fn time_in_a_header() -> Vec<Sample> {
    let of = |provider, parts: &[&str], names: [&str; 2], form: (&str, Encoding), time: [&str; 2], tolerance_s| {
        let tag = write(&hmac::<Hmac<Sha256>>(SECRET, parts), form.1);
        let value = format!("{}{tag}", form.0);
        timed(
            signed(provider, [(names[0], value.as_str()), (names[1], time[0])], &tag, form.1),
            time[0],
            time[1],
            tolerance_s,
        )
    };
    let s = [NOW, NEXT];
    let ms = [NOW_MS, NEXT_MS];
    let iso = [NOW_ISO, NEXT_ISO];
    let zendesk = ["x-zendesk-webhook-signature", "x-zendesk-webhook-signature-timestamp"];
    let twitch = ["twitch-eventsub-message-signature", "twitch-eventsub-message-timestamp"];
    let mut samples = vec![
        of("slack", &["v0:", NOW, ":", BODY], ["x-slack-signature", "x-slack-request-timestamp"], ("v0=", Hex), s, 300),
        of("zoom", &["v0:", NOW, ":", BODY], ["x-zm-signature", "x-zm-request-timestamp"], ("v0=", Hex), s, 300),
        of("customerio", &["v0:", NOW, ":", BODY], ["x-cio-signature", "x-cio-timestamp"], ("", Hex), s, 300),
        of("webflow", &[NOW_MS, ":", BODY], ["x-webflow-signature", "x-webflow-timestamp"], ("", Hex), ms, 300),
        of(
            "revolut",
            &["v1.", NOW_MS, ".", BODY],
            ["revolut-signature", "revolut-request-timestamp"],
            ("v1=", Hex),
            ms,
            300,
        ),
        of("zendesk", &[NOW_ISO, BODY], zendesk, ("", Base64), iso, 300),
        of("twitch", &["m1", NOW_ISO, BODY], twitch, ("sha256=", Hex), iso, 600),
    ];
    if let Some(twitch) = samples.last_mut() {
        twitch.headers.insert("twitch-eventsub-message-id".to_owned(), "m1".to_owned());
    }
    let tag = BASE64.encode(hmac::<Hmac<Sha256>>("key bytes", &["w1.", NOW, ".", BODY]));
    let headers = [("x-webhook-id", "w1"), ("x-webhook-timestamp", NOW), ("x-webhook-signature", tag.as_str())];
    let mut pollo = signed("pollo", headers, &tag, Base64);
    pollo.secrets = vec![BASE64.encode("key bytes")];
    pollo.wrong = Some(BASE64.encode("other bytes"));
    samples.push(pollo);
    samples
}

fn standard_webhooks() -> Vec<Sample> {
    const KEY: &str = "twenty-four bytes or so..";
    let of = |provider, prefix: &str, key: &str, secret: String, wrong: &str| {
        let tag = BASE64.encode(hmac::<Hmac<Sha256>>(key, &["msg_1.", NOW, ".", BODY]));
        let [id, time, signature] = ["id", "timestamp", "signature"].map(|name| format!("{prefix}-{name}"));
        let value = format!("v1,{tag}");
        let headers = [(id.as_str(), "msg_1"), (time.as_str(), NOW), (signature.as_str(), value.as_str())];
        let mut sample = timed(signed(provider, headers, &tag, Base64), NOW, NEXT, 300);
        sample.secrets = vec![secret];
        sample.wrong = Some(wrong.to_owned());
        sample
    };
    let decoded = [
        ("standard-webhooks", "webhook"),
        ("replicate", "webhook"),
        ("openai", "webhook"),
        ("anthropic", "webhook"),
        ("gemini", "webhook"),
        ("gitlab", "webhook"),
        ("tidegate", "webhook"),
        ("svix", "svix"),
        ("clerk", "svix"),
        ("resend", "svix"),
    ];
    let wrong = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let secret = format!("whsec_{}", BASE64.encode(KEY));
    let mut samples: Vec<_> =
        decoded.map(|(provider, prefix)| of(provider, prefix, KEY, secret.clone(), wrong)).into_iter().collect();
    for provider in ["polar", "bigcommerce"] {
        samples.push(of(provider, "webhook", &secret, secret.clone(), wrong));
    }
    samples
}

fn of_the_url() -> Vec<Sample> {
    let form = "To=%2B18005551212&Body=hello+there&From=%2B14155551212";
    let listed = "Bodyhello thereFrom+14155551212To+18005551212";
    let sha1 = |parts: &[&str]| BASE64.encode(hmac::<Hmac<Sha1>>(SECRET, parts));
    let sha256 = |parts: &[&str]| BASE64.encode(hmac::<Hmac<Sha256>>(SECRET, parts));
    let at = |mut sample: Sample, url: &str| {
        sample.url = url.to_owned();
        sample
    };
    let mut samples = Vec::new();
    for signed_url in [URL, "https://in.example:443/in/a"] {
        let tag = sha1(&[signed_url, listed]);
        let mut twilio = signed("twilio", [("x-twilio-signature", tag.as_str())], &tag, Base64);
        twilio.body = form.to_owned();
        // The parameters are signed and not how they are written: `%2B` and `%2b` are one.
        twilio.fields_only = true;
        samples.push(twilio);
    }
    let by_hash = format!("{URL}?bodySHA256={}", hex::encode(Sha256::digest(BODY)));
    let tag = sha1(&[&by_hash]);
    samples.push(at(signed("twilio", [("x-twilio-signature", tag.as_str())], &tag, Base64), &by_hash));
    let tag = sha256(&[URL, BODY]);
    samples.push(signed("square", [("x-square-hmacsha256-signature", tag.as_str())], &tag, Base64));
    // The URL that was entered at the provider is another than the one that was asked for.
    let tag = sha256(&["https://hooks.example/square", BODY]);
    let mut square = signed("square", [("x-square-hmacsha256-signature", tag.as_str())], &tag, Base64);
    square.config = json!({"public_url": "https://hooks.example/square"});
    samples.push(square);
    let tag = sha1(&[BODY, URL]);
    samples.push(signed("trello", [("x-trello-webhook", tag.as_str())], &tag, Base64));

    let tag = sha256(&["POST", "https://in.example/in/a?b=x:y", BODY, NOW_MS]);
    let headers = [("x-hubspot-signature-v3", tag.as_str()), ("x-hubspot-request-timestamp", NOW_MS)];
    let hubspot = timed(signed("hubspot", headers, &tag, Base64), NOW_MS, NEXT_MS, 300);
    samples.push(at(hubspot, "https://in.example/in/a?b=x%3Ay"));
    for (provider, parts) in [("hubspot-v1", vec![SECRET, BODY]), ("hubspot-v2", vec![SECRET, "POST", URL, BODY])] {
        let tag = hex::encode(Sha256::digest(parts.concat()));
        samples.push(signed(provider, [("x-hubspot-signature", tag.as_str())], &tag, Hex));
    }

    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
    mac.update(format!("{NOW}\n{URL}\n").as_bytes());
    mac.update(&Sha256::digest(BODY));
    let tag = BASE64.encode(mac.finalize().into_bytes());
    let headers = [("messagebird-signature", tag.as_str()), ("messagebird-request-timestamp", NOW)];
    samples.push(timed(signed("bird", headers, &tag, Base64), NOW, NEXT, 90_000));
    samples
}

fn of_fields() -> Vec<Sample> {
    let tag = hex::encode(hmac::<Hmac<Sha256>>(SECRET, &[NOW, "a token"]));
    let mut mailgun = signed("mailgun", [], &tag, Hex);
    mailgun.body =
        json!({"event-data": {"id": "e1"}, "signature": {"timestamp": NOW, "token": "a token", "signature": tag}})
            .to_string();
    mailgun.fields_only = true;

    let key = "key bytes";
    let tag = BASE64
        .encode(hmac::<Hmac<Sha256>>(key, &["7914073381342284::TestMerchant:order-1:1130:EUR:AUTHORISATION:true"]));
    let item = json!({
        "pspReference": "7914073381342284", "merchantAccountCode": "TestMerchant", "merchantReference": "order-1",
        "amount": {"value": 1130, "currency": "EUR"}, "eventCode": "AUTHORISATION", "success": "true",
        "additionalData": {"hmacSignature": tag},
    });
    let mut adyen = signed("adyen", [], &tag, Base64);
    adyen.body = json!({"live": "false", "notificationItems": [{"NotificationRequestItem": item}]}).to_string();
    adyen.secrets = vec![hex::encode(key)];
    adyen.wrong = Some(hex::encode("other bytes"));
    adyen.fields_only = true;
    let mut samples = vec![timed(mailgun, NOW, NEXT, 32_400), adyen];
    for field in ["task_id", "taskId"] {
        let tag = BASE64.encode(hmac::<Hmac<Sha256>>(SECRET, &["t1.", NOW]));
        let headers = [("x-webhook-timestamp", NOW), ("x-webhook-signature", tag.as_str())];
        let mut kie = signed("kie", headers, &tag, Base64);
        kie.body = format!("{{\"code\":200,\"data\":{{\"{field}\":\"t1\",\"callbackType\":\"complete\"}}}}");
        kie.fields_only = true;
        samples.push(timed(kie, NOW, NEXT, 300));
    }
    samples
}

fn hmac_of(provider: &str, tag: &[u8], header: &str, prefix: &str, encoding: Encoding) -> Sample {
    let tag = write(tag, encoding);
    let value = format!("{prefix}{tag}");
    signed(provider, [(header, value.as_str())], &tag, encoding)
}

fn signed<const N: usize>(provider: &str, headers: [(&str, &str); N], tag: &str, encoding: Encoding) -> Sample {
    let mut sample = bearing(provider, &headers, tag);
    sample.encoding = Some(encoding);
    sample.fields_only = false;
    sample
}

fn bearing(provider: &str, headers: &[(&str, &str)], signature: &str) -> Sample {
    let mut sample = Sample::bearing(provider, SECRET, headers, BODY, NOW_S);
    sample.signature = signature.to_owned();
    sample
}

fn timed(mut sample: Sample, time: &str, next: &str, tolerance_s: u64) -> Sample {
    sample.time = Some([time.to_owned(), next.to_owned()]);
    sample.tolerance_s = Some(tolerance_s);
    sample
}

fn write(tag: &[u8], encoding: Encoding) -> String {
    match encoding {
        Hex => hex::encode(tag),
        Base64 => BASE64.encode(tag),
    }
}

fn hmac<M: KeyInit + Mac>(key: &str, parts: &[&str]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key.as_bytes()).expect("a key");
    parts.iter().for_each(|part| mac.update(part.as_bytes()));
    mac.finalize().into_bytes().to_vec()
}
