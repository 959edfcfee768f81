//! Senders in the role of providers. Each signs its requests as its documentation says, with code that shares nothing
//! with the crate that verifies them.

mod key_set;
mod sign;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::SigningKey;
use http::Method;
use p256::ecdsa::SigningKey as EcdsaKey;
use p256::pkcs8::EncodePublicKey as _;
use serde_json::{Value, json};

pub use key_set::KeySetServer;

/// A provider with the secret of one source.
#[derive(Debug, Clone)]
pub struct Provider {
    /// The id in the catalogue of `shared`.
    pub id: &'static str,
    /// Distinguishes two providers with one id, such as the two signature versions of Standard Webhooks.
    pub label: &'static str,
    /// The secrets that the operator enters for the source.
    pub secrets: Vec<String>,
    /// The settings that the operator enters for the source.
    pub config: Value,
    scheme: Scheme,
}

#[derive(Debug, Clone)]
enum Scheme {
    Stripe {
        secret: String,
    },
    Github {
        secret: String,
    },
    Shopify {
        secret: String,
    },
    /// `prefix` is the prefix of the header names: `webhook` or `svix`.
    StandardHmac {
        prefix: &'static str,
        key: Vec<u8>,
    },
    StandardEd25519 {
        key: SigningKey,
    },
    Fal {
        key: SigningKey,
        user_id: String,
    },
    Slack {
        secret: String,
    },
    SendGrid {
        key: EcdsaKey,
    },
    /// `X-Signature: sha512=<base64>` over `{X-Timestamp}.{body}`.
    Custom {
        secret: String,
    },
    Token {
        secret: String,
    },
    Basic {
        credentials: String,
    },
}

/// A request as a provider sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRequest {
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The name of the header that proves the origin of the request.
    pub signature_header: &'static str,
    /// The name of the header with the time of signing, if it is a different one.
    pub timestamp_header: Option<&'static str>,
}

impl Provider {
    /// Stripe with a fresh secret.
    #[must_use]
    pub fn stripe() -> Self {
        Self::stripe_with(&format!("whsec_{}", crate::random::text()))
    }

    /// Stripe with a given secret.
    #[must_use]
    pub fn stripe_with(secret: &str) -> Self {
        Self::new("stripe", "stripe", secret, Scheme::Stripe { secret: secret.to_owned() })
    }

    /// GitHub with a fresh secret.
    #[must_use]
    pub fn github() -> Self {
        let secret = crate::random::text();
        Self::new("github", "github", &secret, Scheme::Github { secret: secret.clone() })
    }

    /// Shopify with a fresh secret.
    #[must_use]
    pub fn shopify() -> Self {
        let secret = crate::random::text();
        Self::new("shopify", "shopify", &secret, Scheme::Shopify { secret: secret.clone() })
    }

    /// Standard Webhooks with an HMAC key (`v1`).
    #[must_use]
    pub fn standard_webhooks() -> Self {
        Self::standard("standard-webhooks", "webhook")
    }

    /// Standard Webhooks with an Ed25519 key (`v1a`); the secret that is entered is the public key.
    #[must_use]
    pub fn standard_webhooks_ed25519() -> Self {
        let key = SigningKey::from_bytes(&rand::random());
        let public = format!("whpk_{}", BASE64.encode(key.verifying_key().as_bytes()));
        Self::new("standard-webhooks", "standard-webhooks v1a", &public, Scheme::StandardEd25519 { key })
    }

    /// Svix, with its own header names.
    #[must_use]
    pub fn svix() -> Self {
        Self::standard("svix", "svix")
    }

    /// Replicate.
    #[must_use]
    pub fn replicate() -> Self {
        Self::standard("replicate", "webhook")
    }

    /// `OpenAI`.
    #[must_use]
    pub fn openai() -> Self {
        Self::standard("openai", "webhook")
    }

    /// fal.ai, whose keys `keys` publishes.
    #[must_use]
    pub fn fal(keys: &KeySetServer) -> Self {
        let user_id = format!("user_{}", crate::random::text());
        let config = json!({ "user_id": user_id, "key_set_url": keys.url() });
        let scheme = Scheme::Fal { key: keys.signing_key(), user_id };
        Self { id: "fal", label: "fal", secrets: Vec::new(), config, scheme }
    }

    /// Slack's Events API.
    #[must_use]
    pub fn slack() -> Self {
        let secret = crate::random::text();
        Self::new("slack", "slack", &secret, Scheme::Slack { secret: secret.clone() })
    }

    /// Twilio `SendGrid`, with ECDSA; the secret that is entered is the public key.
    #[must_use]
    pub fn sendgrid() -> Self {
        let key = std::iter::repeat_with(rand::random::<[u8; 32]>)
            .find_map(|bytes| EcdsaKey::from_slice(&bytes).ok())
            .expect("all but one in 2^32 numbers are keys");
        let public = key.verifying_key().to_public_key_der().expect("a public key can be encoded");
        Self::new("sendgrid", "sendgrid", &BASE64.encode(public.as_bytes()), Scheme::SendGrid { key })
    }

    /// A custom sender: HMAC-SHA512 in base64 after `sha512=`, over `{x-timestamp}.{body}`.
    #[must_use]
    pub fn custom() -> Self {
        let secret = crate::random::text();
        let config = json!({
            "header": "x-signature",
            "hash": "sha512",
            "encoding": "base64",
            "prefix": "sha512=",
            "content": "{h:x-timestamp}.{body}",
            "timestamp_header": "x-timestamp",
        });
        Self { config, ..Self::new("custom", "custom", &secret, Scheme::Custom { secret: secret.clone() }) }
    }

    /// A sender that puts a token into a header.
    #[must_use]
    pub fn token() -> Self {
        let secret = crate::random::text();
        let config = json!({ "header": "x-token", "prefix": "Token " });
        Self { config, ..Self::new("token", "token", &secret, Scheme::Token { secret: secret.clone() }) }
    }

    /// A sender with HTTP Basic credentials.
    #[must_use]
    pub fn basic() -> Self {
        let credentials = format!("tidegate:{}", crate::random::text());
        Self::new("basic", "basic", &credentials, Scheme::Basic { credentials: credentials.clone() })
    }

    /// One of each provider.
    #[must_use]
    pub fn all(keys: &KeySetServer) -> Vec<Self> {
        vec![
            Self::stripe(),
            Self::github(),
            Self::shopify(),
            Self::standard_webhooks(),
            Self::standard_webhooks_ed25519(),
            Self::svix(),
            Self::replicate(),
            Self::openai(),
            Self::fal(keys),
            Self::slack(),
            Self::sendgrid(),
            Self::custom(),
            Self::token(),
            Self::basic(),
        ]
    }

    /// The same provider with another secret, which the source does not have. `None` if it signs with keys that it
    /// publishes.
    #[must_use]
    pub fn with_another_secret(&self) -> Option<Self> {
        match &self.scheme {
            Scheme::Stripe { .. } => Some(Self::stripe()),
            Scheme::Github { .. } => Some(Self::github()),
            Scheme::Shopify { .. } => Some(Self::shopify()),
            Scheme::StandardHmac { prefix, .. } => Some(Self::standard(self.id, prefix)),
            Scheme::StandardEd25519 { .. } => Some(Self::standard_webhooks_ed25519()),
            Scheme::Fal { .. } => None,
            Scheme::Slack { .. } => Some(Self::slack()),
            Scheme::SendGrid { .. } => Some(Self::sendgrid()),
            Scheme::Custom { .. } => Some(Self::custom()),
            Scheme::Token { .. } => Some(Self::token()),
            Scheme::Basic { .. } => Some(Self::basic()),
        }
    }

    /// Whether the proof covers the body: a token and credentials do not.
    #[must_use]
    pub fn signs_the_body(&self) -> bool {
        !matches!(self.scheme, Scheme::Token { .. } | Scheme::Basic { .. })
    }

    /// The maximum difference between the time of signing and the clock, in seconds, in both directions; `None` if a
    /// request does not contain the time.
    #[must_use]
    pub fn tolerance_s(&self) -> Option<u64> {
        match self.scheme {
            Scheme::Github { .. } | Scheme::Shopify { .. } | Scheme::Token { .. } | Scheme::Basic { .. } => None,
            // It signs once and retries for a day.
            Scheme::SendGrid { .. } => Some(90_000),
            Scheme::Stripe { .. }
            | Scheme::StandardHmac { .. }
            | Scheme::StandardEd25519 { .. }
            | Scheme::Fal { .. }
            | Scheme::Slack { .. }
            | Scheme::Custom { .. } => Some(300),
        }
    }

    /// The body of an event with this id, in this provider's form.
    #[must_use]
    pub fn sample_body(&self, event_id: &str) -> Vec<u8> {
        let body = match self.id {
            "slack" => json!({ "type": "event_callback", "event_id": event_id, "event": { "type": "message" } }),
            "sendgrid" => json!([{ "sg_event_id": event_id, "event": "delivered", "email": "a@example.com" }]),
            "fal" => json!({ "request_id": event_id, "status": "OK", "payload": {} }),
            "replicate" => json!({ "id": event_id, "status": "succeeded", "output": "a picture" }),
            _ => json!({ "id": event_id, "object": "event", "type": "invoice.paid", "data": { "amount": 4_200 } }),
        };
        body.to_string().into_bytes()
    }

    /// The request that delivers `body`, signed at `at_s` (Unix time in seconds). `event_id` is used by providers that
    /// send the id in a header.
    #[must_use]
    pub fn sign(&self, event_id: &str, body: &[u8], at_s: u64) -> SignedRequest {
        sign::sign(&self.scheme, event_id, body, at_s)
    }

    /// The request that delivers [`Provider::sample_body`], signed now.
    #[must_use]
    pub fn sample(&self, event_id: &str) -> SignedRequest {
        self.sign(event_id, &self.sample_body(event_id), now_s())
    }

    fn new(id: &'static str, label: &'static str, secret: &str, scheme: Scheme) -> Self {
        Self { id, label, secrets: vec![secret.to_owned()], config: json!({}), scheme }
    }

    fn standard(id: &'static str, prefix: &'static str) -> Self {
        let key: [u8; 24] = rand::random();
        let secret = format!("whsec_{}", BASE64.encode(key));
        Self::new(id, id, &secret, Scheme::StandardHmac { prefix, key: key.to_vec() })
    }
}

impl SignedRequest {
    /// The value of a header; empty if it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    /// Replaces the value of a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self.and_header(name, value)
    }

    /// Adds a header.
    #[must_use]
    pub fn and_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes a header.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self
    }

    /// Replaces the body and keeps the signature.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends the request.
    ///
    /// # Errors
    /// Returns an error if there is no response.
    pub async fn send(&self, client: &reqwest::Client, url: &str) -> reqwest::Result<reqwest::Response> {
        let mut request = client.request(Method::POST, url).body(self.body.clone());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.send().await
    }

    /// The curl command that sends the request. Its body has to be text.
    #[must_use]
    pub fn curl(&self, url: &str) -> String {
        let quote = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let mut command = format!("curl -i {}", quote(url));
        for (name, value) in &self.headers {
            command += &format!(" \\\n  -H {}", quote(&format!("{name}: {value}")));
        }
        command + &format!(" \\\n  --data-binary {}", quote(&String::from_utf8_lossy(&self.body)))
    }
}

/// The present Unix time in seconds.
#[must_use]
pub fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests;
