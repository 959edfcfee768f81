//! verify: providers whose keys the edge has to fetch, and hosts that it calls before it responds.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL};
use harness::api::http_client;
use harness::edge::{EdgeSettings, EdgeSource};
use harness::gateway::{EdgeOnly, Gateway};
use harness::internet::Internet;
use harness::provider::now_s;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize, SigningKey as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shared::envelope::{Body, Verification};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:orders";
const CERTIFICATE_URL: &str =
    "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem";
const SUBSCRIBE_URL: &str =
    "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f37fb687f5d51e6e2425a8a5874";
const PLAID_URL: &str = "https://production.plaid.com/webhook_verification_key/get";

async fn edge_in(internet: &Internet) -> EdgeOnly {
    Gateway::bare_edge_with(EdgeSettings { internet: Some(internet.address()), ..EdgeSettings::default() }).await
}

async fn send(source: &EdgeSource, headers: &[(&str, &str)], body: &str) -> u16 {
    let mut request = http_client().post(&source.url).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("the edge answers").status().as_u16()
}

/// Amazon SNS with a key of its own.
struct Sns(KeyPair);

impl Sns {
    fn new() -> Self {
        Self(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key"))
    }

    fn certificate(&self) -> String {
        let params = CertificateParams::new(vec!["sns.amazonaws.com".to_owned()]).expect("a name");
        params.self_signed(&self.0).expect("a certificate").pem()
    }

    /// A message with a signature of version 2: docs.aws.amazon.com, "Verifying the signatures of Amazon SNS messages".
    fn sign(&self, mut message: Value) -> String {
        let fields = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];
        let signed: String =
            fields.iter().filter_map(|name| Some(format!("{name}\n{}\n", message.get(name)?.as_str()?))).collect();
        message["SignatureVersion"] = "2".into();
        message["SigningCertURL"] = CERTIFICATE_URL.into();
        message["Signature"] = BASE64.encode(self.0.sign(signed.as_bytes()).expect("signs")).into();
        message.to_string()
    }

    fn notification(&self, id: &str) -> String {
        self.sign(json!({
            "Type": "Notification", "MessageId": id, "TopicArn": TOPIC, "Subject": "order.paid",
            "Message": "{\"order\":1}", "Timestamp": now(), "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?u",
        }))
    }

    fn confirmation(&self) -> String {
        self.sign(json!({
            "Type": "SubscriptionConfirmation", "MessageId": "c1", "TopicArn": TOPIC, "Token": "2336412f37fb687f5d51e6e2425a8a5874",
            "Message": "You have chosen to subscribe to the topic.", "SubscribeURL": SUBSCRIBE_URL, "Timestamp": now(),
        }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_to_a_topic_is_confirmed_once_it_is_verified_and_its_messages_become_events() {
    let internet = Internet::start().await.expect("starts");
    let edge = edge_in(&internet).await;
    let source = edge.edge.put_source_of("sns", "aws-sns", &[], &json!({ "topic_arn": TOPIC })).await;
    let (sns, stranger) = (Sns::new(), Sns::new());
    internet.publish(CERTIFICATE_URL, sns.certificate());

    assert_eq!(send(&source, &[], &stranger.confirmation()).await, 401);
    assert_eq!(
        internet.asked(SUBSCRIBE_URL),
        [],
        "a stranger's request makes the edge fetch only the provider's certificate"
    );
    assert_eq!(
        send(&source, &[], &sns.confirmation()).await,
        503,
        "the confirmation fails, and SNS sends its request again"
    );
    internet.publish(SUBSCRIBE_URL, "<ConfirmSubscriptionResponse/>");
    assert_eq!(send(&source, &[], &sns.confirmation()).await, 200);
    let asked: Vec<String> = internet.asked(SUBSCRIBE_URL).into_iter().map(|asked| asked.method).collect();
    assert_eq!(asked, ["GET", "GET"]);
    assert!(edge.events(&source).is_empty(), "a confirmation is not an event");

    let notification = sns.notification("m1");
    assert_eq!(send(&source, &[], &notification).await, 200);
    let (header, body) = edge.wait_for_events(&source, 1).await.remove(0);
    assert_eq!(header.verification, Verification::Verified);
    assert_eq!(body, Body::Inline(notification.clone().into_bytes()));
    assert_eq!(send(&source, &[], &notification.replace("order.paid", "order.lost")).await, 401);
    assert_eq!(send(&source, &[], &notification.replace(TOPIC, "arn:aws:sns:eu-west-1:1:mine")).await, 401);
    assert_eq!(send(&source, &[], &stranger.notification("m2")).await, 401);
    assert_eq!(internet.asked(CERTIFICATE_URL).len(), 1, "the certificate is cached");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_on_another_host_is_not_fetched_and_one_that_cannot_be_fetched_gives_503() {
    let internet = Internet::start().await.expect("starts");
    let edge = edge_in(&internet).await;
    let source = edge.edge.put_source_of("sns", "aws-sns", &[], &json!({ "topic_arn": TOPIC })).await;
    let sns = Sns::new();
    assert_eq!(send(&source, &[], &sns.notification("m1")).await, 503);
    let elsewhere = "https://sns.eu-west-1.amazonaws.com.evil.example/a.pem";
    internet.publish(elsewhere, sns.certificate());
    assert_eq!(send(&source, &[], &sns.notification("m1").replace(CERTIFICATE_URL, elsewhere)).await, 401);
    assert_eq!(internet.asked(elsewhere), []);
    assert!(edge.events(&source).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_that_a_webhook_of_plaid_names_is_fetched_from_plaid_and_cached() {
    let internet = Internet::start().await.expect("starts");
    let edge = edge_in(&internet).await;
    let source = edge.edge.put_source_of("plaid", "plaid", &["client-1:secret-1".to_owned()], &json!({})).await;
    let key = p256::ecdsa::SigningKey::from_slice(&[7; 32]).expect("a key");
    let point = key.verifying_key().to_sec1_point(false);
    let (x, y) = (BASE64URL.encode(point.x().expect("a point")), BASE64URL.encode(point.y().expect("a point")));
    let jwk = json!({
        "alg": "ES256", "created_at": 1_560_466_143, "crv": "P-256", "expired_at": null, "kid": "key-1", "kty": "EC",
        "use": "sig", "x": x, "y": y,
    });
    internet.publish(PLAID_URL, json!({ "key": jwk, "request_id": "r1" }).to_string());

    let body = r#"{"webhook_type":"TRANSACTIONS","webhook_code":"SYNC_UPDATES_AVAILABLE","item_id":"i1"}"#;
    let token = |issued_at_s: u64| {
        let header = json!({ "alg": "ES256", "kid": "key-1", "typ": "JWT" });
        let claims = json!({ "iat": issued_at_s, "request_body_sha256": hex::encode(Sha256::digest(body)) });
        let signed = format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
        let signature: p256::ecdsa::Signature = key.sign_prehash(&Sha256::digest(&signed)).expect("signs");
        format!("{signed}.{}", BASE64URL.encode(signature.to_bytes()))
    };
    let post = async |token: &str, body: &str| send(&source, &[("plaid-verification", token)], body).await;
    assert_eq!(post(&token(now_s()), body).await, 200);
    assert_eq!(post(&token(now_s() - 1), body).await, 200);
    assert_eq!(post(&token(now_s()), &body.replace("i1", "i2")).await, 401);
    assert_eq!(post(&token(now_s() - 400), body).await, 401, "too old");
    let events = edge.wait_for_events(&source, 2).await;
    assert!(events.iter().all(|(header, _)| header.verification == Verification::Verified));

    let asked = internet.asked(PLAID_URL);
    assert_eq!(asked.len(), 1, "the key is cached");
    let request_for_key: Value = serde_json::from_slice(&asked[0].body).expect("JSON");
    assert_eq!(request_for_key, json!({ "client_id": "client-1", "secret": "secret-1", "key_id": "key-1" }));
}

/// The current time as SNS writes it.
fn now() -> String {
    let now = OffsetDateTime::now_utc().replace_nanosecond(719_000_000).expect("in range");
    now.format(&Rfc3339).expect("can be written")
}
