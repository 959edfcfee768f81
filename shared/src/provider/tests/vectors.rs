//! Requests that each provider of the catalogue has signed: published vectors if there are any.

mod events;
mod made;
mod published;
mod resends;
mod sample;
mod tampered;

use serde_json::{Value, json};

use crate::header::HeaderList;
use crate::id::SourceId;
use crate::provider::{ConfigProblem, NewSource, find};
use crate::source::{Secret, SourceConfig};
use crate::verify::platform::tests::assert_agrees;
use crate::verify::{KeySet, Rejection, RequestParts, Verified, Verifier, verify};

/// A request that verifies at `signed_at_s`.
#[derive(Clone)]
pub(crate) struct Vector {
    pub(crate) provider: &'static str,
    pub(crate) secrets: Vec<String>,
    pub(crate) config: Value,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) signed_at_s: u64,
    /// The header that holds the signature.
    pub(crate) signature: &'static str,
    /// The headers that may appear only once.
    pub(crate) single: &'static [&'static str],
    /// Whether a time is signed.
    pub(crate) timed: bool,
}

impl Vector {
    pub(crate) fn verify(&self) -> Result<Verified, Rejection> {
        self.verify_at(self.signed_at_s * 1_000)
    }

    pub(crate) fn verify_at(&self, now_ms: u64) -> Result<Verified, Rejection> {
        let secrets: Vec<_> = self.secrets.iter().map(String::as_str).collect();
        let config = source(self.provider, &secrets, &self.config).expect("resolves");
        let verifier = Verifier::new(&config).expect("a verifier");
        let headers = HeaderList::new(self.headers.clone());
        let request = RequestParts { method: "POST", url: "https://in.example/in/a", query: "", headers: &headers };
        let keys = verifier.key_location(&request, &self.body)?.map(|_| fal_keys());
        let outcome = verify(&verifier, keys.as_ref(), &request, &self.body, now_ms);
        assert_agrees(&outcome, &verifier, keys.as_ref(), &request, &self.body, now_ms);
        outcome
    }

    pub(crate) fn header_mut(&mut self, name: &str) -> &mut String {
        let header = self.headers.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name));
        &mut header.expect("the vector has the header").1
    }
}

/// A resolved source of a provider.
pub(crate) fn source(provider: &str, secrets: &[&str], config: &Value) -> Result<SourceConfig, Vec<ConfigProblem>> {
    let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new(secret)).collect();
    find(provider).expect("in the catalogue").resolve(NewSource {
        id: SourceId::mint(1, [1; 10]),
        name: "a",
        revision: 1,
        secrets: &secrets,
        config,
        max_body_bytes: 1_000_000,
    })
}

pub(crate) fn fal_keys() -> KeySet {
    KeySet::parse_jwks(br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw"}]}"#)
        .expect("a key set")
}

/// At least one signed request of every provider of the catalogue.
pub(crate) fn samples() -> Vec<sample::Sample> {
    made::made().into_iter().chain(published::published()).chain(sample::asymmetric()).collect()
}

const STANDARD: &[&str] = &["webhook-id", "webhook-timestamp", "webhook-signature"];
const SVIX: &[&str] = &["svix-id", "svix-timestamp", "svix-signature"];

/// At least one vector for each provider that signs. A comment gives its origin.
pub(crate) fn vectors() -> Vec<Vector> {
    let standard = |provider, secret: &str, names: &'static [&'static str], values: [&str; 3], body: &str| Vector {
        provider,
        secrets: vec![secret.to_owned()],
        config: Value::Null,
        headers: names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect(),
        body: body.as_bytes().to_vec(),
        signed_at_s: values[1].parse().expect("digits"),
        signature: names[2],
        single: names,
        timed: true,
    };
    let of_body = |provider, secret: &str, header: &'static str, value: &str, body: &str| Vector {
        provider,
        secrets: vec![secret.to_owned()],
        config: Value::Null,
        headers: vec![(header.to_owned(), value.to_owned())],
        body: body.as_bytes().to_vec(),
        signed_at_s: 1_700_000_000,
        signature: header,
        single: &[],
        timed: false,
    };
    // standard-webhooks: libraries/javascript/src/webhook.test.ts
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SIGNED: [&str; 3] =
        ["msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="];
    const BODY: &str = "{\"test\": 2432232314}";
    let slack_body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
                      channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
                      response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F\
                      96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    // docs.slack.dev, verifying requests from Slack
    let slack = Vector {
        provider: "slack",
        secrets: vec!["8f742231b10e8888abcd99yyyzzz85a5".to_owned()],
        config: Value::Null,
        headers: vec![
            (
                "X-Slack-Signature".to_owned(),
                "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503".to_owned(),
            ),
            ("X-Slack-Request-Timestamp".to_owned(), "1531420618".to_owned()),
        ],
        body: slack_body.as_bytes().to_vec(),
        signed_at_s: 1_531_420_618,
        signature: "x-slack-signature",
        single: &["x-slack-signature", "x-slack-request-timestamp"],
        timed: true,
    };
    vec![
        standard("standard-webhooks", SECRET, STANDARD, SIGNED, BODY),
        // standard-webhooks: libraries/rust/src/lib.rs
        standard(
            "standard-webhooks",
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            STANDARD,
            ["msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", "1649367553", "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="],
            "{\"email\":\"test@example.com\",\"username\":\"test_user\"}",
        ),
        // svix-webhooks: server/svix-server/src/worker.rs, test_asymmetric_key_signing
        standard(
            "standard-webhooks",
            "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
            STANDARD,
            [
                SIGNED[0],
                SIGNED[1],
                "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
            ],
            BODY,
        ),
        // svix-webhooks: rust/src/webhooks.rs
        standard("svix", SECRET, SVIX, SIGNED, BODY),
        // replicate-javascript: index.test.ts
        standard("replicate", SECRET, STANDARD, SIGNED, BODY),
        // openai-node: tests/lib/webhooks.test.ts
        standard(
            "openai",
            "whsec_RdvaYFYUXuIFuEbvZHwMfYFhUf7aMYjYcmM24+Aj40c=",
            STANDARD,
            ["wh_685c059ae39c8190af8c71ed1022a24d", "1750861210", "v1,gUAg4R2hWouRZqRQG4uJypNS8YK885G838+EHb4nKBY="],
            "{\"id\": \"evt_685c059ae3a481909bdc86819b066fb6\", \"object\": \"event\", \"created_at\": 1750861210, \
             \"type\": \"response.completed\", \"data\": {\"id\": \"resp_123\"}}",
        ),
        // Made with the algorithm of stripe-node src/Webhooks.ts
        Vector {
            single: &["stripe-signature"],
            timed: true,
            ..of_body(
                "stripe",
                "whsec_test_secret",
                "stripe-signature",
                "t=1700000000,v1=0d196e3df9b9cad0e904fe0b11e2bb446ec74e54a0cb22fa2ac9b39d85f08274",
                "{\"id\":\"evt_test\",\"type\":\"example.event\"}",
            )
        },
        // docs.github.com, validating webhook deliveries
        Vector {
            single: &["x-hub-signature-256"],
            ..of_body(
                "github",
                "It's a Secret to Everybody",
                "x-hub-signature-256",
                "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
                "Hello, World!",
            )
        },
        // octokit/webhooks-methods.js: test/sign.test.ts, by way of a custom source
        Vector {
            config: json!({"header": "X-Hub-Signature-256", "prefix": "sha256="}),
            single: &["x-hub-signature-256"],
            ..of_body(
                "custom",
                "mysecret",
                "x-hub-signature-256",
                "sha256=4864d2759938a15468b5df9ade20bf161da9b4f737ea61794142f3484236bda3",
                "{\"foo\":\"bar\"}",
            )
        },
        // Made with openssl dgst -sha256 -hmac
        Vector {
            single: &["x-shopify-hmac-sha256"],
            ..of_body(
                "shopify",
                "hush",
                "x-shopify-hmac-sha256",
                "qBvrsZF7RfB1iS6BX6IHqJTp5L911P7intnPeTPsH0I=",
                "{\"id\":820982911946154508}",
            )
        },
        slack.clone(),
        Vector {
            provider: "custom",
            config: json!({
                "header": "x-slack-signature", "prefix": "v0=", "content": "v0:{h:x-slack-request-timestamp}:{body}",
                "timestamp_header": "x-slack-request-timestamp",
            }),
            ..slack
        },
        // Made with the seed of 32 times 0x07
        Vector {
            provider: "fal",
            secrets: Vec::new(),
            config: json!({"user_id": "user_456"}),
            headers: [
                ("X-Fal-Webhook-Request-Id", "req_123"),
                ("X-Fal-Webhook-User-Id", "user_456"),
                ("X-Fal-Webhook-Timestamp", "1700000000"),
                (
                    "X-Fal-Webhook-Signature",
                    "c724c64a306f3affd04f52603e8174175cf27ad6487b34d0b650dcd37d550f9a\
                     ee8f4f931c364c294d459e178fa55c0b1c3570df967f5d02a0e5fcd657e2a402",
                ),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
            body: b"{\"request_id\":\"req_123\",\"status\":\"OK\"}".to_vec(),
            signed_at_s: 1_700_000_000,
            signature: "x-fal-webhook-signature",
            single: &[
                "x-fal-webhook-request-id",
                "x-fal-webhook-user-id",
                "x-fal-webhook-timestamp",
                "x-fal-webhook-signature",
            ],
            timed: true,
        },
    ]
}

#[test]
fn every_vector_verifies_with_its_secret() {
    for vector in vectors() {
        let verified = vector.verify();
        assert_eq!(verified.map(|verified| verified.which()), Ok(Some(0)), "{}", vector.provider);
    }
}
