//! Human-readable facts of a provider's scheme, read from its rule.

use serde_json::Value;

use super::Provider;
use crate::scheme::handshake::hands_over_secret;

/// A scheme in words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SchemeFacts {
    /// Such as `HMAC-SHA256`; several if any of them is enough. Empty if the source's settings decide.
    pub methods: Vec<String>,
    /// The place of the signature or token, such as `header stripe-signature` or `body /signature/signature`.
    pub places: Vec<String>,
    /// How far the signed time may be from now, in seconds; `None` if no time is signed.
    pub tolerance_s: Option<u64>,
    /// The URL of the keys that the provider publishes.
    pub keys: Option<String>,
}

/// Whether a source needs a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretNeed {
    Required,
    /// The provider hands it over with its first request; the owner may also enter it.
    HandedOver,
    /// The scheme has none.
    None,
}

impl Provider {
    /// The facts of its scheme.
    #[must_use]
    pub fn scheme_facts(&self) -> SchemeFacts {
        let mut facts = SchemeFacts::default();
        if let Some(rule) = &self.rule {
            collect(rule, &mut facts);
        }
        facts.methods.dedup();
        facts.places.dedup();
        facts
    }

    /// Whether it sends the secret of a source with its first request.
    #[must_use]
    pub fn hands_over_secret(&self) -> bool {
        hands_over_secret(&self.handshakes)
    }

    /// Whether its sources need a secret.
    #[must_use]
    pub fn secret_need(&self) -> SecretNeed {
        match &self.secret_help {
            None => SecretNeed::None,
            Some(_) if self.hands_over_secret() => SecretNeed::HandedOver,
            Some(_) => SecretNeed::Required,
        }
    }
}

fn collect(rule: &Value, facts: &mut SchemeFacts) {
    for rule in rule["rules"].as_array().into_iter().flatten() {
        collect(rule, facts);
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (method, place) = match rule["kind"].as_str() {
        Some("mac") => (algorithm(&rule["alg"]), text(&rule["sig"]["in"])),
        Some("jwt") => (Some(format!("JWT {}", list(&rule["alg"]))), text(&rule["token"]["in"])),
        Some("token") => (Some("shared token".to_owned()), text(&rule["in"])),
        Some("basic") => (Some("HTTP Basic".to_owned()), Some("h:authorization".to_owned())),
        Some("none") => (Some("none".to_owned()), None),
        Some(_) | None => (None, None),
    };
    facts.methods.extend(method);
    facts.places.extend(place.as_deref().map(in_words));
    facts.tolerance_s = facts.tolerance_s.or(rule["ts"]["tol"].as_u64()).or(rule["max_age"].as_u64());
    let key = rule["key"].as_str().unwrap_or_default();
    let fetched = key.strip_prefix("jwks:").or(key.strip_prefix("x509url:")).or(key.strip_prefix("fn:"));
    facts.keys = facts.keys.take().or(fetched.map(|place| match place {
        "plaid_key" => "https://production.plaid.com/webhook_verification_key/get".to_owned(),
        _ => in_words(place),
    }));
}

fn algorithm(name: &Value) -> Option<String> {
    Some(match name.as_str()? {
        "sha256" => "SHA-256 of secret and content".to_owned(),
        "ecdsa-p256-sha256-der" => "ECDSA P-256".to_owned(),
        "ed25519" => "Ed25519".to_owned(),
        other => match other.strip_prefix("rsa-pkcs1-") {
            Some(hash) => format!("RSA with {}", hash.to_uppercase()),
            None => other.to_uppercase(),
        },
    })
}

fn list(names: &Value) -> String {
    let names: Vec<_> = names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    names.join(", ")
}

/// A reference in words.
fn in_words(reference: &str) -> String {
    match reference.split_once(':') {
        Some(("h", name)) => match name.strip_prefix("cfg:") {
            Some(setting) => format!("header (setting {setting})"),
            None => format!("header {name}"),
        },
        Some(("h*", prefix)) => format!("headers {prefix}1, 2, …"),
        Some(("json", path)) => format!("body field {path}"),
        Some(("query", name)) => format!("query parameter {name}"),
        Some(("cfg", setting)) => format!("the URL in the setting {setting}"),
        Some(_) | None => reference.to_owned(),
    }
}
