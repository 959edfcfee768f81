//! Requests that are signed with Ed25519.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::super::sample::{
    Document,
    Encoding::{Base64, Hex},
    Sample,
};
use super::{BODY, NEXT, NOW, signed, timed};

pub(super) fn public_keys() -> Vec<Sample> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
    let sign = |parts: &[&str]| key.sign(parts.concat().as_bytes()).to_bytes();

    let tag = hex::encode(sign(&[NOW, BODY]));
    let headers = [("x-signature-ed25519", tag.as_str()), ("x-signature-timestamp", NOW)];
    let mut discord = timed(signed("discord", headers, &tag, Hex), NOW, NEXT, 300);
    discord.secrets = vec![hex::encode(key.verifying_key())];
    discord.wrong = Some(hex::encode(other));

    let tag = BASE64.encode(sign(&[NOW, "|", BODY]));
    let headers = [("telnyx-signature-ed25519", tag.as_str()), ("telnyx-timestamp", NOW)];
    let mut telnyx = timed(signed("telnyx", headers, &tag, Base64), NOW, NEXT, 300);
    telnyx.secrets = vec![BASE64.encode(key.verifying_key())];
    telnyx.wrong = Some(BASE64.encode(other));

    let mut samples = vec![discord, telnyx];
    for (provider, prefix) in [("standard-webhooks", "webhook"), ("tidegate", "webhook"), ("svix", "svix")] {
        let tag = BASE64.encode(sign(&["msg_1.", NOW, ".", BODY]));
        let [id, time, signature] = ["id", "timestamp", "signature"].map(|name| format!("{prefix}-{name}"));
        let value = format!("v1a,{tag}");
        let headers = [(id.as_str(), "msg_1"), (time.as_str(), NOW), (signature.as_str(), value.as_str())];
        let mut sample = timed(signed(provider, headers, &tag, Base64), NOW, NEXT, 300);
        sample.secrets = vec![format!("whpk_{}", BASE64.encode(key.verifying_key()))];
        sample.wrong = Some(format!("whpk_{}", BASE64.encode(other)));
        samples.push(sample);
    }

    let tag = hex::encode(sign(&["req_1\nuser_1\n", NOW, "\n", &hex::encode(Sha256::digest(BODY))]));
    let headers = [
        ("x-fal-webhook-request-id", "req_1"),
        ("x-fal-webhook-user-id", "user_1"),
        ("x-fal-webhook-timestamp", NOW),
        ("x-fal-webhook-signature", tag.as_str()),
    ];
    let mut fal = timed(signed("fal", headers, &tag, Hex), NOW, NEXT, 300);
    fal.secrets.clear();
    fal.wrong = None;
    fal.config = json!({"user_id": "user_1"});
    let x = URL_SAFE_NO_PAD.encode(key.verifying_key());
    fal.keys = Some(Document::JwkSet {
        document: format!("{{\"keys\":[{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"{x}\"}}]}}"),
    });
    samples.push(fal);
    samples
}
