//! How each provider signs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::Signer as _;
use sha2::{Digest as _, Sha256};

use super::{Scheme, SignedRequest};
use crate::mac::{hmac_sha256, hmac_sha512};

pub(super) fn sign(scheme: &Scheme, event_id: &str, body: &[u8], at_s: u64) -> SignedRequest {
    let at = at_s.to_string();
    let mut timestamp_header = None;
    let (signature_header, headers): (_, Vec<(&str, String)>) = match scheme {
        Scheme::Stripe { secret } => {
            let signature = hex::encode(hmac_sha256(secret.as_bytes(), &[at.as_bytes(), b".", body]));
            ("Stripe-Signature", vec![("Stripe-Signature", format!("t={at},v1={signature}"))])
        }
        Scheme::Github { secret } => {
            let signature = format!("sha256={}", hex::encode(hmac_sha256(secret.as_bytes(), &[body])));
            let headers = vec![
                ("X-GitHub-Event", "push".to_owned()),
                ("X-GitHub-Delivery", event_id.to_owned()),
                ("X-Hub-Signature-256", signature),
            ];
            ("X-Hub-Signature-256", headers)
        }
        Scheme::Shopify { secret } => {
            let headers = vec![
                ("X-Shopify-Topic", "orders/create".to_owned()),
                ("X-Shopify-Webhook-Id", event_id.to_owned()),
                ("X-Shopify-Hmac-Sha256", BASE64.encode(hmac_sha256(secret.as_bytes(), &[body]))),
            ];
            ("X-Shopify-Hmac-Sha256", headers)
        }
        Scheme::StandardHmac { prefix, key } => {
            let signature = BASE64.encode(hmac_sha256(key, &[event_id.as_bytes(), b".", at.as_bytes(), b".", body]));
            let (id, timestamp, name) = match *prefix {
                "svix" => ("svix-id", "svix-timestamp", "svix-signature"),
                _ => ("webhook-id", "webhook-timestamp", "webhook-signature"),
            };
            timestamp_header = Some(timestamp);
            let signature = format!("v1,{signature}");
            (name, vec![(id, event_id.to_owned()), (timestamp, at), (name, signature)])
        }
        Scheme::StandardEd25519 { key } => {
            let content = [event_id.as_bytes(), b".", at.as_bytes(), b".", body].concat();
            let signature = format!("v1a,{}", BASE64.encode(key.sign(&content).to_bytes()));
            timestamp_header = Some("webhook-timestamp");
            let headers =
                vec![("webhook-id", event_id.to_owned()), ("webhook-timestamp", at), ("webhook-signature", signature)];
            ("webhook-signature", headers)
        }
        Scheme::Fal { key, user_id } => {
            let body_hash = hex::encode(Sha256::digest(body));
            let content = format!("{event_id}\n{user_id}\n{at}\n{body_hash}");
            timestamp_header = Some("X-Fal-Webhook-Timestamp");
            let headers = vec![
                ("X-Fal-Webhook-Request-Id", event_id.to_owned()),
                ("X-Fal-Webhook-User-Id", user_id.clone()),
                ("X-Fal-Webhook-Timestamp", at),
                ("X-Fal-Webhook-Signature", hex::encode(key.sign(content.as_bytes()).to_bytes())),
            ];
            ("X-Fal-Webhook-Signature", headers)
        }
        Scheme::Slack { secret } => {
            let signature = hex::encode(hmac_sha256(secret.as_bytes(), &[b"v0:", at.as_bytes(), b":", body]));
            timestamp_header = Some("X-Slack-Request-Timestamp");
            let headers = vec![("X-Slack-Request-Timestamp", at), ("X-Slack-Signature", format!("v0={signature}"))];
            ("X-Slack-Signature", headers)
        }
        Scheme::SendGrid { key } => {
            let (signature, timestamp) =
                ("X-Twilio-Email-Event-Webhook-Signature", "X-Twilio-Email-Event-Webhook-Timestamp");
            let signed: p256::ecdsa::Signature = key.sign(&[at.as_bytes(), body].concat());
            timestamp_header = Some(timestamp);
            (signature, vec![(timestamp, at), (signature, BASE64.encode(signed.to_der()))])
        }
        Scheme::Custom { secret } => {
            let signature = BASE64.encode(hmac_sha512(secret.as_bytes(), &[at.as_bytes(), b".", body]));
            timestamp_header = Some("X-Timestamp");
            ("X-Signature", vec![("X-Timestamp", at), ("X-Signature", format!("sha512={signature}"))])
        }
        Scheme::Token { secret } => ("X-Token", vec![("X-Token", format!("Token {secret}"))]),
        Scheme::Basic { credentials } => {
            ("Authorization", vec![("Authorization", format!("Basic {}", BASE64.encode(credentials)))])
        }
    };
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value));
    let content_type = ("Content-Type".to_owned(), "application/json".to_owned());
    SignedRequest {
        headers: std::iter::once(content_type).chain(headers).collect(),
        body: body.to_vec(),
        signature_header,
        timestamp_header,
    }
}
