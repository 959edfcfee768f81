//! Requests that are signed with a private key, and requests with a JSON Web Token.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL};
use chacha20::ChaCha20Rng;
use ed25519_dalek::{Signer as _, SigningKey};
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use rsa::Pkcs1v15Sign;
use rsa::rand_core::SeedableRng as _;
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::case::{Case, Covers, NOW_S, Place, WORD};
use super::sign::{URL, hmac_sha256, signed, unsigned};

static RSA: LazyLock<rsa::PrivateKey> =
    LazyLock::new(|| rsa::PrivateKey::new(&mut ChaCha20Rng::from_seed([9; 32]), 2_048).expect("a key"));

const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:topic";
const CERTIFICATE_URL: &str = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        discord(),
        telnyx(),
        sendgrid(),
        sns("aws-sns", "2"),
        sns("aws-sns-sha1", "1"),
        messagebird(),
        vonage(),
        livekit(),
        pubsub(),
    ]
}

fn discord() -> Case {
    let time = NOW_S.to_string();
    ed25519("discord", ["x-signature-ed25519", "x-signature-timestamp"], &time, "", |bytes| hex::encode(bytes))
}

fn telnyx() -> Case {
    let time = NOW_S.to_string();
    ed25519("telnyx", ["telnyx-signature-ed25519", "telnyx-timestamp"], &time, "|", |bytes| BASE64.encode(bytes))
}

fn ed25519(
    provider: &'static str,
    [signature, timestamp]: [&'static str; 2],
    time: &str,
    between: &str,
    write: impl Fn(&[u8]) -> String,
) -> Case {
    let key = SigningKey::from_bytes(&[7; 32]);
    let mut case = signed(provider, &[(signature, ""), (timestamp, time)]);
    if provider == "telnyx" {
        case.request.body =
            json!({"data": {"id": "1", "event_type": "message.finalized", "payload": {"text": WORD}}}).to_string();
    }
    let tag = key.sign(format!("{time}{between}{}", case.request.body).as_bytes()).to_bytes();
    case.request.headers.insert(signature.to_owned(), write(&tag));
    case.secret = write(key.verifying_key().as_bytes());
    case.other_secret = write(SigningKey::from_bytes(&[8; 32]).verifying_key().as_bytes());
    case
}

fn sendgrid() -> Case {
    let key = |seed| p256::ecdsa::SigningKey::from_slice(&[seed; 32]).expect("a key");
    let public = |key: &p256::ecdsa::SigningKey| {
        // RFC 5480: id-ecPublicKey on prime256v1, and the point.
        let algorithm = hex::decode("301306072a8648ce3d020106082a8648ce3d030107").expect("hexadecimal");
        let point = key.verifying_key().to_sec1_point(false);
        BASE64.encode(element(0x30, &[algorithm, element(0x03, &[&[0][..], point.as_bytes()].concat())].concat()))
    };
    let (time, name) = (NOW_S.to_string(), "x-twilio-email-event-webhook-signature");
    let mut case = signed("sendgrid", &[(name, ""), ("x-twilio-email-event-webhook-timestamp", &time)]);
    let digest = Sha256::digest(format!("{time}{}", case.request.body));
    let signature: p256::ecdsa::Signature = key(7).sign_prehash(&digest).expect("signs");
    case.request.headers.insert(name.to_owned(), BASE64.encode(signature.to_der().as_bytes()));
    (case.secret, case.other_secret) = (public(&key(7)), public(&key(8)));
    case
}

/// A message of Amazon SNS, in one of the two versions of its signature.
fn sns(provider: &'static str, version: &str) -> Case {
    let (time, message) = ("2023-11-14T22:13:20.000Z", format!("{WORD}\nin two lines"));
    let canonical =
        format!("Message\n{message}\nMessageId\nm-1\nTimestamp\n{time}\nTopicArn\n{TOPIC}\nType\nNotification\n");
    let signature = match version {
        "1" => RSA.sign(Pkcs1v15Sign::new::<Sha1>(), &Sha1::digest(&canonical)),
        _ => RSA.sign(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(&canonical)),
    };
    let mut case = by_published_key(provider, Place::Body("/Signature"));
    case.request.body = json!({
        "Type": "Notification", "MessageId": "m-1", "TopicArn": TOPIC, "Message": message, "Timestamp": time,
        "SignatureVersion": version, "Signature": BASE64.encode(signature.expect("signs")),
        "SigningCertURL": CERTIFICATE_URL,
    })
    .to_string();
    case.config = json!({ "topic_arn": TOPIC });
    let certificate = certificate();
    case.keys.insert(CERTIFICATE_URL.to_owned(), certificate.clone());
    case.document = certificate.into_bytes();
    case
}

fn messagebird() -> Case {
    let mut case = unsigned("messagebird", Place::Header("messagebird-signature-jwt"));
    let claims = json!({
        "iss": "MessageBird", "nbf": NOW_S, "exp": NOW_S + 60, "jti": "1",
        "url_hash": hex::encode(Sha256::digest(URL)), "payload_hash": hex::encode(Sha256::digest(&case.request.body)),
    });
    let token = token(&json!({"alg": "HS256"}), &claims, |text| hmac_sha256(case.secret.as_bytes(), &[text]));
    case.request.headers.insert("messagebird-signature-jwt".to_owned(), token);
    case
}

fn vonage() -> Case {
    let mut case = unsigned("vonage", Place::Header("authorization"));
    case.covers = Covers::BodyForUs;
    let hash = hex::encode(Sha256::digest(&case.request.body));
    let claims = json!({"iss": "Vonage", "iat": NOW_S, "jti": "1", "payload_hash": hash});
    let token = token(&json!({"alg": "HS256"}), &claims, |text| hmac_sha256(case.secret.as_bytes(), &[text]));
    case.request.headers.insert("authorization".to_owned(), format!("Bearer {token}"));
    case
}

fn livekit() -> Case {
    let mut case = unsigned("livekit", Place::Header("authorization"));
    case.config = json!({"api_key": "devkey"});
    let hash = BASE64.encode(Sha256::digest(&case.request.body));
    let claims = json!({"iss": "devkey", "nbf": NOW_S, "exp": NOW_S + 300, "sha256": hash});
    let token = token(&json!({"alg": "HS256"}), &claims, |text| hmac_sha256(case.secret.as_bytes(), &[text]));
    case.request.headers.insert("authorization".to_owned(), token);
    case
}

/// A push request of Google Cloud Pub/Sub, whose audience is the URL.
fn pubsub() -> Case {
    let mut case = by_published_key("gcp-pubsub", Place::Header("authorization"));
    case.covers = Covers::Nothing;
    let account = "push@project.iam.gserviceaccount.com";
    let claims = json!({
        "iss": "https://accounts.google.com", "aud": URL, "email": account, "email_verified": true, "sub": "1",
        "iat": NOW_S, "exp": NOW_S + 3_600,
    });
    let token = token(&json!({"alg": "RS256", "kid": "k1", "typ": "JWT"}), &claims, |text| {
        RSA.sign(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(text)).expect("signs")
    });
    case.request.headers.insert("authorization".to_owned(), format!("Bearer {token}"));
    case.config = json!({"audience": URL, "service_account": account});
    let (n, e) = (RSA.n().to_be_bytes_trimmed_vartime(), RSA.e().to_be_bytes_trimmed_vartime());
    let key = json!({"kty": "RSA", "use": "sig", "kid": "k1", "n": BASE64URL.encode(n), "e": BASE64URL.encode(e)});
    case.document = json!({ "keys": [key] }).to_string().into_bytes();
    case.keys.insert("k1".to_owned(), certificate());
    case
}

/// A case of a provider that publishes its keys.
fn by_published_key(provider: &'static str, signature: Place) -> Case {
    Case { secret: String::new(), other_secret: String::new(), ..unsigned(provider, signature) }
}

fn token(header: &Value, claims: &Value, sign: impl Fn(&str) -> Vec<u8>) -> String {
    let [header, claims] = [header, claims].map(|part| BASE64URL.encode(part.to_string()));
    let signed = format!("{header}.{claims}");
    let signature = BASE64URL.encode(sign(&signed));
    format!("{signed}.{signature}")
}

/// A self-signed PEM certificate of the RSA key (RFC 5280), valid from 2020 to 2040.
fn certificate() -> String {
    let integer = |bytes: &[u8]| element(0x02, &[&[0][..], bytes].concat());
    let (n, e) = (RSA.n().to_be_bytes_trimmed_vartime(), RSA.e().to_be_bytes_trimmed_vartime());
    let key = element(0x30, &[integer(&n), element(0x02, &e)].concat());
    // 1.2.840.113549.1.1, then 1 for a key and 11 for SHA-256 with RSA, without parameters.
    let algorithm = |last| {
        let parts = [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, last, 0x05, 0];
        element(0x30, &parts)
    };
    let spki = element(0x30, &[algorithm(1), element(0x03, &[&[0][..], &key].concat())].concat());
    let common_name = element(0x30, &[&[0x06, 3, 0x55, 4, 3][..], &element(0x0c, b"sns.amazonaws.com")].concat());
    let name = element(0x30, &element(0x31, &common_name));
    let time = |text: &str| element(0x17, text.as_bytes());
    let validity = element(0x30, &[time("200101000000Z"), time("400101000000Z")].concat());
    let parts =
        [element(0xa0, &element(0x02, &[2])), element(0x02, &[1]), algorithm(11), name.clone(), validity, name, spki];
    let certified = element(0x30, &parts.concat());
    let signature = RSA.sign(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(&certified)).expect("signs");
    let signature = element(0x03, &[&[0][..], &signature].concat());
    let text = BASE64.encode(element(0x30, &[certified, algorithm(11), signature].concat()));
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// A value in DER (X.690).
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("is short").to_be_bytes();
    let header = match length {
        [0, short] if short < 0x80 => vec![tag, short],
        [0, long] => vec![tag, 0x81, long],
        [high, low] => vec![tag, 0x82, high, low],
    };
    [&header, content].concat()
}
