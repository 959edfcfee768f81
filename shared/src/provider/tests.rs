//! Tests of the catalogue with the settings of an owner.

mod handshakes;
mod jobs;
mod page;
pub(crate) mod vectors;

use serde_json::json;

use super::*;
use crate::header::HeaderList;
use crate::scheme::reference::Reference;
use crate::source::{OnFailure, OnStale, QuarantineLimits, SafeMethod};
use vectors::{samples, source};

fn problems(provider: &str, secrets: &[&str], config: &Value) -> Vec<String> {
    let problems = source(provider, secrets, config).expect_err("refused");
    problems.into_iter().map(|problem| problem.field).collect()
}

#[test]
fn the_catalogue_parses_and_its_ids_are_unique() {
    let mut ids: Vec<_> = catalogue().iter().map(|provider| provider.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), catalogue().len());
    for id in ["stripe", "github", "shopify", "standard-webhooks", "svix", "replicate", "openai", "fal", "slack"] {
        assert!(find(id).is_some(), "{id}");
    }
    assert!(find("nobody").is_none());
}

#[test]
fn every_provider_resolves_to_a_configuration_that_survives_its_json() {
    for sample in samples() {
        let resolved = sample.config();
        let text = serde_json::to_string(&resolved).expect("serialises");
        assert_eq!(serde_json::from_str::<SourceConfig>(&text).expect("parses"), resolved, "{}", resolved.provider);
        assert!(!text.contains("\"in\":\"h:cfg:"), "every setting of {} is filled in", resolved.provider);
    }
}

#[test]
fn the_essential_providers_come_first_and_the_others_by_their_ids() {
    let ids: Vec<_> = catalogue().iter().map(|provider| provider.id.as_str()).collect();
    let essential = [
        "stripe",
        "github",
        "shopify",
        "replicate",
        "fal",
        "openai",
        "anthropic",
        "gemini",
        "elevenlabs",
        "assemblyai",
        "deepgram",
        "runpod",
        "modal",
        "huggingface",
        "together",
    ];
    let general = ["standard-webhooks", "tidegate", "custom", "token", "basic", "none"];
    assert!(ids.starts_with(&essential) && ids.ends_with(&general));
    assert!(ids[essential.len()..ids.len() - general.len()].is_sorted());
}

#[test]
fn requests_with_unsigned_parts_are_documented() {
    let whole = |provider: &Provider| {
        let mut fields = Fields::new(&Value::Null);
        let settings = provider.read_settings(&mut fields);
        let scheme = provider.scheme(&mut fields, &settings);
        let of_the_body = [Reference::Body, Reference::BodySha256Hex, Reference::BodySha256Raw];
        scheme.is_none_or(|scheme| of_the_body.iter().any(|reference| scheme.covers(reference)))
    };
    for provider in catalogue().iter().filter(|provider| !whole(provider)) {
        assert!(provider.unauthenticated.is_some(), "{} does not sign the whole body", provider.id);
    }
    assert!(catalogue().iter().filter(|provider| provider.certain).count() >= 80);
}

#[test]
fn keys_that_sign_for_all_customers_need_a_binding() {
    for (provider, setting) in
        [("fal", "user_id"), ("aws-sns", "topic_arn"), ("aws-sns-sha1", "topic_arn"), ("paypal", "webhook_id")]
    {
        assert_eq!(problems(provider, &[], &json!({})), [setting]);
    }
    assert_eq!(problems("gcp-pubsub", &[], &json!({})), ["audience", "service_account"]);
    assert_eq!(problems("microsoft-graph", &[], &json!({})), ["secrets"], "its clientState is the binding");
}

#[test]
fn a_source_whose_provider_hands_over_the_secret_begins_without_one() {
    for provider in ["asana", "notion"] {
        let resolved = source(provider, &[], &json!({})).expect("resolves");
        assert!(resolved.secrets.is_empty() && Verifier::new(&resolved).is_ok(), "{provider}");
        assert!(source(provider, &["a secret"], &json!({})).is_ok(), "{provider}");
    }
}

#[test]
fn every_source_takes_the_options() {
    let config = json!({
        "tolerance_s": 60, "on_failure": "quarantine", "on_stale": "accept_flagged", "max_body_bytes": 10,
        "acknowledgement": {"status": 202, "body": "ok", "content_type": "text/plain"},
        "quarantine": {"events_per_hour": 7, "body_bytes": 9},
    });
    let resolved = source("stripe", &["a"], &config).expect("resolves");
    let usual = QuarantineLimits::default();
    assert_eq!(resolved.max_unverified_body_bytes, 9);
    assert_eq!(quarantine_limits(&config), QuarantineLimits { events_per_hour: 7, body_bytes: 9, ..usual });
    assert_eq!(quarantine_limits(&json!({"quarantine": {"bytes_per_hour": -1}})), usual);
    assert_eq!((resolved.on_failure, resolved.on_stale), (OnFailure::Quarantine, OnStale::AcceptFlagged));
    assert_eq!((resolved.max_body_bytes, resolved.acknowledgement.status), (10, 202));
    let mut scheme = resolved.scheme;
    let rule = scheme.mac_rules_mut().pop().expect("a rule");
    assert_eq!(rule.timestamp.as_ref().and_then(|timestamp| timestamp.tolerance_s), Some(60));
}

#[test]
fn an_owner_lists_get_alone_if_events_come_by_it() {
    let methods = |names: Value| source("none", &[], &json!({ "methods": names })).map(|source| source.methods);
    assert_eq!(methods(json!(["GET"])), Ok(vec![SafeMethod::Get]));
    assert_eq!(methods(json!(["GET", "GET"])), Ok(vec![SafeMethod::Get]));
    for nothing in [json!([]), Value::Null] {
        let source = source("none", &[], &json!({ "methods": nothing })).expect("resolves");
        assert!(
            !serde_json::to_string(&source).expect("JSON").contains("methods"),
            "an older edge has not heard of it"
        );
    }
    for (names, told) in [
        (json!("GET"), "must be a list; use [\"GET\"]"),
        (json!(["GET", "POST"]), "must not contain POST"),
        (json!(["HEAD"]), "only test a URL"),
        (json!(["GET", "OPTIONS"]), "only test a URL"),
        (json!(["get"]), "can contain only \"GET\", in upper case"),
        (json!([7]), "can contain only \"GET\""),
    ] {
        let problems = methods(names.clone()).expect_err("refused");
        assert!(problems.len() == 1 && problems[0].field == "methods", "{names}: {problems:?}");
        assert!(problems[0].problem.contains(told), "{names}: {}", problems[0]);
    }
}

#[test]
fn the_id_and_the_type_of_an_event_may_stand_in_the_query() {
    let config = json!({ "key": {"query": "id"}, "type": {"query": "status"} });
    let provider = super::find("none").expect("in the catalogue");
    let extracted = crate::extract::extract(provider, &config, "id=7&status=delivered", &HeaderList::default(), b"");
    assert_eq!(extracted.provider_event_id.as_deref(), Some("7"));
    assert_eq!(extracted.event_type.as_deref(), Some("delivered"));
    assert_eq!(problems("none", &[], &json!({ "type": {"query": ""} })), ["type.query"]);
    assert_eq!(problems("none", &[], &json!({ "type": {"query": "a", "header": "b"} })), ["type.header"]);
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let config = json!({
        "tolerance_s": 0, "on_failure": "ignore", "on_stale": "ignore", "max_body_bytes": 1_000_001, "colour": "blue",
        "acknowledgement": {"status": 302, "colour": 1}, "key": {"pointer": "id"}, "type": {},
        "quarantine": {"events_per_hour": -1, "colour": 1},
    });
    let mut fields = problems("stripe", &[""], &config);
    fields.sort();
    let expected = [
        "acknowledgement.colour",
        "acknowledgement.status",
        "colour",
        "key.pointer",
        "max_body_bytes",
        "on_failure",
        "on_stale",
        "quarantine.colour",
        "quarantine.events_per_hour",
        "secrets",
        "tolerance_s",
        "type.header",
    ];
    assert_eq!(fields, expected);
    assert_eq!(problems("github", &["a"], &json!([])), ["config"]);
    assert_eq!(problems("github", &["a"], &json!({"tolerance_s": 60})), ["tolerance_s"], "it signs no time");
}

#[test]
fn a_key_that_cannot_be_read_or_is_constant_is_refused_with_a_hint() {
    let problem = |key: Value| {
        let mut problems = source("stripe", &["a"], &json!({"key": key})).expect_err("refused");
        let problem = problems.remove(0);
        assert!(problems.is_empty() && problem.field.starts_with("key"), "{problem}");
        problem.problem
    };
    for (key, told) in [
        (json!("{json:id"), "no closing brace"),
        (json!("{jsn:id}"), "is not a part of a request"),
        (json!("{body}"), "use {sha256hex:body}"),
        (json!("{secret}"), "cannot be a part of a key"),
        (json!("{sig:t}"), "cannot be a part of a key"),
        (json!("{cfg:header}"), "cannot be a part of a key"),
        (json!("{fn:hubspot_uri}"), "cannot be a part of a key"),
        (json!(""), "the same for many events"),
        (json!("id"), "the same for many events"),
        (json!("{json?:id}"), "the same for many events"),
        (json!("x".repeat(1_025)), "at most 1024 bytes"),
        (json!(7), "must be an object"),
        (json!({"pointer": "id"}), "is not a JSON pointer"),
    ] {
        let problem = problem(key.clone());
        assert!(problem.contains(told), "{key}: {problem}");
    }
    for key in [json!("none"), json!("{json:id}.{json?:at}"), json!("{fn:items(a[]:id)}"), json!({"header": "x-id"})] {
        assert!(source("stripe", &["a"], &json!({"key": key})).is_ok(), "{key}");
    }
    assert_eq!(problems("stripe", &["a"], &json!({"resend_changes_body": "yes"})), ["resend_changes_body"]);
}

#[test]
fn if_a_copy_may_have_another_body_no_id_is_keyed_with_the_body() {
    for provider in catalogue().iter().filter(|provider| provider.resend_changes_body) {
        let required = provider.settings.iter().filter(|setting| setting.required);
        let config: serde_json::Map<_, _> = required.map(|setting| (setting.name.clone(), json!("x-own"))).collect();
        let places = provider.places(&config.into());
        let (first, alone) = places.ids.first().expect("an id");
        assert!(alone, "{}: {first} is not signed", provider.id);
    }
}

#[test]
fn an_unknown_field_is_answered_with_the_known_ones() {
    let problems = source("fal", &[], &json!({"user_id": "u", "fal_user": "u"})).expect_err("refused");
    assert_eq!(problems[0].field, "fal_user");
    for known in ["user_id", "key_set_url", "tolerance_s", "acknowledgement"] {
        assert!(problems[0].problem.contains(known), "{}", problems[0]);
    }
}

#[test]
fn fal_needs_the_user_and_takes_another_key_set() {
    assert_eq!(problems("fal", &[], &json!({})), ["user_id"]);
    assert_eq!(problems("fal", &["a"], &json!({"user_id": "u"})), ["secrets"]);
    let url = |url: &str| json!({"user_id": "u", "key_set_url": url});
    let resolved = source("fal", &[], &url("http://127.0.0.1:8/keys")).expect("resolves");
    let headers = crate::header::HeaderList::default();
    let request = crate::verify::RequestParts { method: "POST", url: "", query: "", headers: &headers };
    let location = Verifier::new(&resolved).expect("a verifier").key_location(&request, b"").expect("a location");
    assert_eq!(location.map(|location| location.url).as_deref(), Some("http://127.0.0.1:8/keys"));
    for bad in ["http://fal.ai/keys", "ftp://a", "https://", "https://127.0.0.1@evil.example/", "keys", "https://a/{b"]
    {
        assert_eq!(problems("fal", &[], &url(bad)), ["key_set_url"], "{bad}");
    }
}

#[test]
fn secrets_are_checked_when_the_source_is_saved() {
    for (provider, secret) in
        [("openai", "whsec_!"), ("svix", "whpk_AAAA"), ("basic", "user"), ("stripe", "whsk_AAAA"), ("none", "a")]
    {
        assert_eq!(problems(provider, &[secret], &json!({})), ["secrets"], "{provider}");
    }
    assert_eq!(problems("stripe", &[], &json!({})), ["secrets"]);
    assert_eq!(problems("stripe", &["a"; MAX_SECRETS + 1], &json!({})), ["secrets"]);
}

#[test]
fn a_custom_scheme_is_described_by_its_owner() {
    let bad = json!({
        "hash": "md5", "encoding": "octal", "timestamp_unit": "h", "key_encoding": "whpk", "content": "{bdy}",
    });
    let mut fields = problems("custom", &["a"], &bad);
    fields.sort();
    assert_eq!(fields, ["content", "encoding", "hash", "header", "key_encoding", "timestamp_unit"]);
    let with = |name: &str, value: &str| json!({"header": "x-signature", name: value});
    assert_eq!(problems("custom", &["a"], &with("content", "{h:x-id}")), ["content"], "the body is not covered");
    assert_eq!(problems("custom", &["a"], &with("content", "{cfg:a}{body}")), ["content"]);
    assert!(problems("custom", &["a"], &with("timestamp_header", "x-time")).contains(&"timestamp_header".to_owned()));
    assert_eq!(problems("custom", &["a"], &with("header", "x signature")), ["header"]);
}

#[test]
fn a_custom_source_may_verify_the_decoded_body() {
    use hmac::{Hmac, KeyInit as _, Mac as _};

    use crate::header::HeaderList;
    use crate::reader::gzip;
    use crate::verify::{RequestParts, Verifier, verify};

    let sign = |body: &[u8]| {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"s").expect("a key");
        mac.update(body);
        hex::encode(mac.finalize().into_bytes())
    };
    let accepts = |signed_body: &str, signed: &[u8], sent: &[u8], encoding: &str| {
        let config = json!({"header": "x-sign", "signed_body": signed_body});
        let scheme = find("custom").expect("in the catalogue").scheme_of(&config).expect("a scheme");
        let verifier = Verifier::of(&scheme, &[Secret::new("s")]).expect("a verifier");
        let headers = HeaderList::new([("x-sign", sign(signed).as_str()), ("content-encoding", encoding)]);
        let request = RequestParts { method: "POST", url: "https://in.example/a", query: "", headers: &headers };
        verify(&verifier, None, &request, sent, 0).is_ok()
    };
    let (plain, packed) = (b"{\"a\":1}".as_slice(), gzip(b"{\"a\":1}"));
    assert!(accepts("decoded", plain, &packed, "gzip"));
    assert!(accepts("decoded", plain, plain, "gzip"), "a proxy has decoded it");
    assert!(!accepts("decoded", b"{\"a\":2}", &packed, "gzip"));
    assert!(!accepts("decoded", &packed, &packed, "gzip"));
    assert!(accepts("as_sent", &packed, &packed, "gzip"));
    assert!(!accepts("as_sent", plain, &packed, "gzip"));
    let bomb = gzip(&vec![b' '; 2_000_000]);
    assert!(!accepts("decoded", &vec![b' '; 2_000_000], &bomb, "gzip"), "beyond the limit");
    assert_eq!(problems("custom", &["a"], &json!({"header": "x-sign", "signed_body": "both"})), ["signed_body"]);
}
