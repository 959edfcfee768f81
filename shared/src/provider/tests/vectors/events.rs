//! An event of each provider with the id and the type that are read out of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::extract::extract;
use crate::header::HeaderList;
use crate::provider::{catalogue, find};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    provider: String,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    query: String,
    body: String,
    id: Option<String>,
    r#type: Option<String>,
}

fn events() -> Vec<Event> {
    serde_json::from_str(include_str!("events.json")).expect("events")
}

#[test]
fn every_provider_names_its_events_in_its_own_place() {
    for event in events() {
        let provider = find(&event.provider).expect("in the catalogue");
        let headers = HeaderList::new(event.headers);
        let extracted = extract(provider, &event.config, &event.query, &headers, event.body.as_bytes());
        assert_eq!(extracted.provider_event_id, event.id, "{}: {}", event.provider, event.body);
        assert_eq!(extracted.event_type, event.r#type, "{}: {}", event.provider, event.body);
        assert_eq!(extracted.dedupe_key.is_some(), event.id.is_some(), "{}", event.provider);
    }
}

#[test]
fn no_place_of_an_id_or_a_type_is_untested() {
    let told: BTreeSet<_> = events().into_iter().map(|event| event.provider).collect();
    let silent =
        |provider: &&crate::provider::Provider| !(provider.event_id.is_empty() && provider.event_type.is_empty());
    let missing: Vec<_> =
        catalogue().iter().filter(silent).map(|provider| &provider.id).filter(|id| !told.contains(*id)).collect();
    assert!(missing.is_empty(), "providers without an event: {missing:?}");
}

#[test]
fn an_id_that_no_signature_covers_is_keyed_together_with_the_body() {
    let of_header = |id: &str| find(id).expect("in the catalogue");
    let key = |provider: &str, header: &str, body: &str| {
        let headers = HeaderList::new([(header, "1")]);
        extract(of_header(provider), &Value::Null, "", &headers, body.as_bytes()).dedupe_key.expect("a key").key
    };
    for (provider, header) in [
        ("linear", "linear-delivery"),
        ("pagerduty", "x-webhook-id"),
        ("razorpay", "x-razorpay-event-id"),
        ("twilio", "i-twilio-idempotency-token"),
        ("woocommerce", "x-wc-webhook-delivery-id"),
        ("zendesk", "x-zendesk-webhook-invocation-id"),
    ] {
        assert_ne!(key(provider, header, "{}"), key(provider, header, "{ }"), "{provider}");
    }
    for (provider, header) in
        [("clerk", "svix-id"), ("anthropic", "webhook-id"), ("twitch", "twitch-eventsub-message-id")]
    {
        assert_eq!(key(provider, header, "{}"), key(provider, header, "{ }"), "{provider} signs its id");
    }
}
