use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::event::FORM;
use super::*;
use crate::extract::{Extracted, extract};
use crate::header::HeaderList;
use crate::provider::tests::vectors::{samples, source};
use crate::provider::{Provider, catalogue, find};
use crate::source::SourceConfig;
use crate::verify::{RequestParts, Verified, Verifier, verify};

const NOW_MS: u64 = 1_700_000_000_123;
const URL: &str = "https://in.example/in/src_a";

/// Providers that sign with private keys of their own.
const ASYMMETRIC: [&str; 9] =
    ["fal", "aws-sns", "aws-sns-sha1", "discord", "gcp-pubsub", "paypal", "plaid", "sendgrid", "telnyx"];

fn moment(seed: u8) -> Moment {
    Moment { now_ms: NOW_MS, random: [seed; 32] }
}

/// A source of the provider with a secret in a form that it accepts.
fn any_source(provider: &Provider, config: &Value) -> SourceConfig {
    let standard = format!("whsec_{}", BASE64.encode([5; 24]));
    let secrets = ["user:password", "616263646566", &standard];
    let tried = std::iter::once(Vec::new()).chain(secrets.iter().map(|secret| vec![*secret]));
    let mut found: Vec<_> = tried.filter_map(|secrets| source(&provider.id, &secrets, config).ok()).collect();
    // The last, because those that may be handed over also resolve without.
    found.pop().unwrap_or_else(|| panic!("{} takes none of the secrets", provider.id))
}

/// A value for every required setting.
fn any_config(provider: &Provider) -> Value {
    let required = provider.settings.iter().filter(|setting| setting.required);
    required.map(|setting| (setting.name.clone(), json!("x-own"))).collect::<serde_json::Map<_, _>>().into()
}

fn check(source: &SourceConfig, request: &SampleRequest, now_ms: u64) -> Result<Verified, Rejection> {
    let headers = HeaderList::new(request.headers.clone());
    let parts = RequestParts { method: &request.method, url: &request.url, query: request.query(), headers: &headers };
    let verifier = Verifier::new(source).expect("a verifier");
    verify(&verifier, None, &parts, &request.body, now_ms)
}

fn read(provider: &Provider, config: &Value, request: &SampleRequest) -> Extracted {
    extract(provider, config, request.query(), &HeaderList::new(request.headers.clone()), &request.body)
}

fn composed(provider: &str, config: &Value, wanted: Wanted<'_>, seed: u8) -> Result<SampleRequest, ComposeError> {
    compose(find(provider).expect("in the catalogue"), config, URL, wanted, moment(seed))
}

fn signed(source: &SourceConfig, request: SampleRequest) -> SampleRequest {
    sign(&source.scheme, &source.secrets, request, moment(1)).expect("signs")
}

fn of_type(event_type: &str) -> Wanted<'_> {
    Wanted { event_type: Some(event_type), ..Wanted::default() }
}

#[test]
fn the_sample_of_every_provider_is_accepted_and_read_or_needs_the_providers_private_key() {
    let (mut accepted, mut private) = (0, Vec::new());
    for provider in catalogue() {
        let config = any_config(provider);
        if ASYMMETRIC.contains(&provider.id.as_str()) {
            private.push(provider.id.as_str());
            continue;
        }
        let source = any_source(provider, &config);
        let request = compose(provider, &config, URL, Wanted::default(), moment(1)).expect("composes");
        let request = signed(&source, request);
        let verified = check(&source, &request, NOW_MS);
        assert!(verified.as_ref().is_ok_and(|verified| !verified.stale()), "{}: {verified:?} {request:?}", provider.id);
        let extracted = read(provider, &config, &request);
        assert_eq!(extracted.provider_event_id.is_some(), !provider.event_id.is_empty(), "{}", provider.id);
        assert_eq!(extracted.event_type.is_some(), !provider.event_type.is_empty(), "{}: {request:?}", provider.id);
        accepted += 1;
    }
    println!("{accepted} providers: their samples are accepted; {} sign with private keys", private.len());
    assert_eq!((accepted + private.len(), private.len()), (catalogue().len(), ASYMMETRIC.len()));
}

#[test]
fn examples_are_written_as_tightly_as_providers_write_them() {
    for provider in catalogue() {
        let request = compose(provider, &any_config(provider), URL, Wanted::default(), moment(1)).expect("composes");
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else { continue };
        let text = String::from_utf8(request.body).expect("text");
        assert_eq!(text.len(), body.to_string().len(), "{}: {text}", provider.id);
    }
}

#[test]
fn a_scheme_with_a_private_key_reports_that_it_cannot_be_signed() {
    for id in ASYMMETRIC {
        let vector = samples().into_iter().find(|sample| sample.provider == id).expect("a sample");
        let source = vector.config();
        let request = composed(id, &vector.config, Wanted::default(), 1).expect("composes");
        assert_eq!(sign(&source.scheme, &source.secrets, request, moment(1)), Err(SignError::PrivateKey), "{id}");
    }
}

#[test]
fn two_samples_are_two_events() {
    for provider in catalogue().iter().filter(|provider| !provider.event_id.is_empty()) {
        let config = any_config(provider);
        let key = |seed| {
            let request = compose(provider, &config, URL, Wanted::default(), moment(seed)).expect("composes");
            read(provider, &config, &request).dedupe_key
        };
        assert_ne!(key(1), key(2), "{}", provider.id);
        assert_eq!(key(1), key(1), "{}", provider.id);
    }
}

#[test]
fn every_example_is_of_a_provider_and_has_the_type_that_it_says() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for provider in catalogue() {
        for event_type in example_types(&provider.id) {
            let config = any_config(provider);
            let request = compose(provider, &config, URL, of_type(event_type), moment(1)).expect("composes");
            assert_eq!(read(provider, &config, &request).event_type.as_deref(), Some(event_type), "{}", provider.id);
            let first = compose(provider, &config, URL, Wanted::default(), moment(1)).expect("composes");
            assert!(*counts.entry(&provider.id).or_default() == 0 || first != request, "{} {event_type}", provider.id);
            *counts.entry(&provider.id).or_default() += 1;
        }
    }
    println!("{} examples of {} providers", counts.values().sum::<usize>(), counts.len());
    assert!(counts["stripe"] >= 2 && counts["github"] >= 2);
}

#[test]
fn a_type_is_written_to_the_place_of_the_provider() {
    for (provider, event_type, holds) in [
        ("stripe", "charge.refunded", r#""type":"charge.refunded""#),
        ("github", "release.published", r#""action":"published""#),
        ("slack", "reaction_added", r#""type":"reaction_added""#),
        ("shopify", "products/update", "x"),
        ("twilio", "message.delivered", "MessageStatus=delivered"),
        ("xero", "CONTACT.CREATE", r#""eventCategory":"CONTACT""#),
        ("huggingface", "repo.content.delete", r#""scope":"repo.content""#),
        ("custom", "any", "x"),
    ] {
        let config = json!({"header": "x-own", "type": {"pointer": "/data/kind"}});
        let config = if provider == "custom" { config } else { json!({}) };
        let request = composed(provider, &config, of_type(event_type), 1).expect("composes");
        let extracted = read(find(provider).expect("there"), &config, &request);
        assert_eq!(extracted.event_type.as_deref(), Some(event_type), "{provider}");
        assert!(String::from_utf8_lossy(&request.body).contains(holds), "{provider}");
    }
    let twitch = composed("twitch", &json!({}), of_type("channel.follow"), 1).expect("composes");
    assert_eq!(twitch.header("twitch-eventsub-subscription-type"), Some("channel.follow"), "and beside it");
    for (provider, event_type) in [("telegram", "message"), ("xero", "no-category")] {
        let outcome = composed(provider, &json!({}), of_type(event_type), 1);
        assert!(matches!(outcome, Err(ComposeError::Type { .. })), "{provider}");
    }
}

#[test]
fn an_id_is_written_to_the_place_of_the_provider() {
    let with_id = Wanted { id: Some("my-id"), ..Wanted::default() };
    for (provider, id) in
        [("stripe", "my-id"), ("github", "my-id"), ("replicate", "my-id"), ("adyen", "my-id.AUTHORISATION.true")]
    {
        let request = composed(provider, &json!({}), with_id, 1).expect("composes");
        let extracted = read(find(provider).expect("there"), &json!({}), &request);
        assert_eq!(extracted.provider_event_id.as_deref(), Some(id));
    }
    for (provider, begin) in [("elevenlabs", "post_call_transcription.my-id."), ("line", "my-id"), ("hubspot", "")] {
        let request = composed(provider, &json!({}), with_id, 1).expect("composes");
        let id = read(find(provider).expect("there"), &json!({}), &request).provider_event_id.expect("an id");
        assert!(id.starts_with(begin) && id.contains("my-id"), "{provider}: {id}");
    }
    for provider in ["sendgrid", "airtable"] {
        assert!(matches!(composed(provider, &json!({}), with_id, 1), Err(ComposeError::Id { .. })), "{provider}");
    }
}

#[test]
fn a_body_that_is_given_is_sent_byte_for_byte() {
    let body = b"{ \"id\":\"evt_mine\",  \"type\": \"a.b\" }";
    let wanted = Wanted { body: Some(body), ..Wanted::default() };
    for provider in ["stripe", "github", "slack", "square", "twilio", "netlify", "standard-webhooks"] {
        let source = any_source(find(provider).expect("there"), &json!({}));
        let request = signed(&source, composed(provider, &json!({}), wanted, 1).expect("composes"));
        assert_eq!(request.body, body, "{provider}");
        assert_eq!(request.header("content-type"), Some("application/json"), "{provider}");
        assert!(check(&source, &request, NOW_MS).is_ok(), "{provider}");
    }
    for (body, kind) in [(&b"a=b&c=d"[..], FORM), (b"\xff\x00", "application/octet-stream")] {
        let wanted = Wanted { body: Some(body), ..Wanted::default() };
        let request = composed("github", &json!({}), wanted, 1).expect("composes");
        assert_eq!((request.header("content-type"), request.body.as_slice()), (Some(kind), body));
    }
}

#[test]
fn twilio_signs_the_parameters_of_a_form_and_the_hash_of_anything_else() {
    let source = any_source(find("twilio").expect("there"), &json!({}));
    let form = signed(&source, composed("twilio", &json!({}), Wanted::default(), 1).expect("composes"));
    assert_eq!(form.url, URL);
    let wanted = Wanted { body: Some(b"{}"), ..Wanted::default() };
    let json = signed(&source, composed("twilio", &json!({}), wanted, 1).expect("composes"));
    assert!(json.url.starts_with(&format!("{URL}?bodySHA256=")), "{}", json.url);
    assert!(check(&source, &json, NOW_MS).is_ok());
}

#[test]
fn the_url_that_the_owner_entered_at_the_provider_is_signed() {
    let config = json!({"public_url": "https://hooks.example/square?tenant=1"});
    let source = any_source(find("square").expect("there"), &config);
    let request = signed(&source, composed("square", &config, Wanted::default(), 1).expect("composes"));
    assert!(check(&source, &request, NOW_MS).is_ok());
    let other = any_source(find("square").expect("there"), &json!({}));
    assert!(check(&other, &request, NOW_MS).is_err());
}

#[test]
fn another_secret_another_body_and_another_time_are_refused() {
    let source = any_source(find("stripe").expect("there"), &json!({}));
    let request = signed(&source, composed("stripe", &json!({}), Wanted::default(), 1).expect("composes"));
    assert!(check(&source, &request, NOW_MS + 301_000).is_err());
    assert!(check(&source, &SampleRequest { body: b"{}".to_vec(), ..request.clone() }, NOW_MS).is_err());
    let other = [Secret::new("another")];
    let request = sign(&source.scheme, &other, request, moment(1)).expect("signs");
    assert!(matches!(check(&source, &request, NOW_MS), Err(Rejection::SignatureMismatch { .. })));
}

#[test]
fn rules_that_must_all_hold_are_all_signed() {
    let scheme: Scheme = serde_json::from_value(json!({"kind": "all_of", "rules": [{"kind": "basic"},
        {"kind": "mac", "alg": "hmac-sha256", "key": "utf8", "content": "{body}", "sig": {"in": "h:x-a", "enc": "hex"}}]}))
    .expect("parses");
    let secrets = [Secret::new("user:password"), Secret::new("key")];
    let base = any_source(find("stripe").expect("there"), &json!({}));
    let source = SourceConfig { scheme, secrets: secrets.to_vec(), ..base };
    let request = composed("stripe", &json!({}), Wanted::default(), 1).expect("composes");
    assert!(check(&source, &signed(&source, request.clone()), NOW_MS).is_ok());
    let outcome = sign(&source.scheme, &secrets[..1], request, moment(1));
    assert_eq!(outcome, Err(SignError::NoSecret));
}

#[test]
fn an_unusable_secret_is_reported_with_its_fault() {
    let request = composed("openai", &json!({}), Wanted::default(), 1).expect("composes");
    let openai = any_source(find("openai").expect("there"), &json!({}));
    let outcome = sign(&openai.scheme, &[Secret::new("whsec_!")], request.clone(), moment(1));
    assert!(matches!(outcome, Err(SignError::Secret(_))), "{outcome:?}");
    assert_eq!(sign(&openai.scheme, &[], request, moment(1)), Err(SignError::NoSecret));
}
