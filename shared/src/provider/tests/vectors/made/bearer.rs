//! Requests that carry a token: a shared one, a JSON Web Token, or none at all.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use hmac::Hmac;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::super::sample::Sample;
use super::{BODY, NOW_S, SECRET, bearing, hmac};

pub(super) fn tokens() -> Vec<Sample> {
    let mut samples: Vec<_> = [
        ("assemblyai", "x-own-header", "", json!({"header": "X-Own-Header"})),
        ("azure-event-grid", "authorization", "", Value::Null),
        ("azure-event-grid", "x-own", "Bearer ", json!({"header": "X-Own", "prefix": "Bearer"})),
        ("deepgram", "dg-token", "", Value::Null),
        ("huggingface", "x-webhook-secret", "", Value::Null),
        ("okta", "authorization", "", Value::Null),
        ("gitlab-token", "x-gitlab-token", "", Value::Null),
        ("telegram", "x-telegram-bot-api-secret-token", "", Value::Null),
        ("cloudflare-notifications", "cf-webhook-auth", "", Value::Null),
        ("token", "authorization", "Bearer ", json!({"prefix": "Bearer"})),
        ("cartesia", "x-webhook-secret", "", Value::Null),
        ("vapi", "x-vapi-secret", "", Value::Null),
        ("rev-ai", "authorization", "Bearer ", json!({"prefix": "Bearer"})),
        ("speechmatics", "x-own", "", json!({"header": "X-Own"})),
    ]
    .into_iter()
    .map(|(provider, header, prefix, config)| {
        let token = "0123456789-token";
        let mut sample = bearing(provider, &[(header, &format!("{prefix}{token}"))], token);
        sample.secrets = vec![token.to_owned()];
        sample.config = config;
        sample
    })
    .collect();
    for provider in ["basic", "postmark", "chargebee", "pipedrive", "deepgram"] {
        let credentials = BASE64.encode("user:a password");
        let mut sample = bearing(provider, &[("authorization", &format!("Basic {credentials}"))], &credentials);
        sample.secrets = vec!["user:a password".to_owned()];
        sample.wrong = Some("user:another password".to_owned());
        samples.push(sample);
    }
    let mut graph = bearing("microsoft-graph", &[], "0123456789-state");
    graph.secrets = vec!["0123456789-state".to_owned()];
    let item = |id: &str| json!({"changeType": "updated", "clientState": "0123456789-state", "subscriptionId": id});
    graph.body = json!({"value": [item("1"), item("2")]}).to_string();
    samples.push(graph);
    samples
}

pub(super) fn web_tokens() -> Vec<Sample> {
    let hash = hex::encode(Sha256::digest(BODY));
    let of = |provider, header: &str, prefix: &str, claims: Value, expires_s: Option<u64>| {
        let text = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", text(&json!({"alg": "HS256", "typ": "JWT"})), text(&claims));
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hmac::<Hmac<Sha256>>(SECRET, &[&signed])));
        let mut sample = bearing(provider, &[(header, &format!("{prefix}{token}"))], &token);
        sample.fields_only = false;
        sample.expires_s = expires_s;
        sample
    };
    let mut monday =
        of("monday", "authorization", "", json!({"accountId": 1, "iat": NOW_S, "exp": NOW_S + 300}), Some(300));
    monday.fields_only = true;
    let body = BASE64.encode(Sha256::digest(BODY));
    let mut livekit = of("livekit", "authorization", "", json!({"iss": "key", "sha256": body}), None);
    livekit.config = json!({"api_key": "key"});
    vec![
        livekit,
        of("netlify", "x-webhook-signature", "", json!({"iss": "netlify", "sha256": hash}), None),
        of(
            "vonage",
            "authorization",
            "Bearer ",
            json!({"iss": "Vonage", "iat": NOW_S, "payload_hash": hash}),
            Some(300),
        ),
        monday,
    ]
}

pub(super) fn unsigned() -> Vec<Sample> {
    ["none", "runpod", "modal", "together", "d-id", "gladia", "higgsfield", "kling", "luma", "runware"]
        .map(|provider| {
            let mut sample = bearing(provider, &[], "");
            sample.secrets.clear();
            sample.wrong = None;
            sample
        })
        .into()
}
