//! The changes that each provider makes when it sends an event again, and the differences between two events of one
//! object.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::extract::{DedupeKey, extract};
use crate::header::HeaderList;
use crate::provider::{catalogue, find};

/// An event, and texts in its query, headers and body that are replaced.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    provider: String,
    /// The source of the claim.
    source: String,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    query: String,
    body: String,
    /// The changes when it is sent again.
    again: Vec<[String; 2]>,
    /// The changes that make it another event.
    other: Vec<[String; 2]>,
}

impl Event {
    fn key_with(&self, changes: &[[String; 2]]) -> DedupeKey {
        let changed = |text: &str| changes.iter().fold(text.to_owned(), |text, [from, to]| text.replace(from, to));
        let headers = HeaderList::new(self.headers.iter().map(|(name, value)| (name.clone(), changed(value))));
        let provider = find(&self.provider).expect("in the catalogue");
        let body = changed(&self.body);
        let extracted = extract(provider, &self.config, &changed(&self.query), &headers, body.as_bytes());
        extracted.dedupe_key.unwrap_or_else(|| panic!("{} has no key: {body}", self.provider))
    }
}

fn events() -> Vec<Event> {
    serde_json::from_str(include_str!("resends.json")).expect("events")
}

#[test]
fn an_event_that_is_sent_again_has_its_key_and_another_event_has_another() {
    for event in events() {
        let Event { provider, source, again, other, .. } = &event;
        let (first, copy, second) = (event.key_with(&[]), event.key_with(again), event.key_with(other));
        assert_eq!(first.key, copy.key, "{provider}: {source}");
        assert!(first.body == copy.body || copy.any_body, "{provider} is not said to change the body: {source}");
        assert_ne!(first.key, second.key, "{provider}: {source}");
        let said = find(provider).expect("in the catalogue").resend_changes_body;
        assert_eq!(said, !again.is_empty(), "{provider}: what it changes is shown here if it is said to change it");
    }
}

#[test]
fn every_entry_that_names_events_is_among_them() {
    let told: BTreeSet<_> = events().into_iter().map(|event| event.provider).collect();
    let named = catalogue().iter().filter(|provider| !provider.event_id.is_empty());
    let missing: Vec<_> = named.map(|provider| &provider.id).filter(|id| !told.contains(*id)).collect();
    assert!(missing.is_empty(), "providers without a pair of events: {missing:?}");
}

#[test]
fn an_event_without_an_id_is_never_a_copy() {
    for (provider, body) in [
        ("microsoft-graph", r#"{"value":[{"subscriptionId":"s","clientState":"c","changeType":"updated"}]}"#),
        ("microsoft-graph", r#"{"value":[{"id":"n1"},{"subscriptionId":"s","lifecycleEvent":"missed"}]}"#),
        ("airtable", "{}"),
        ("dropbox", "{}"),
    ] {
        let provider = find(provider).expect("in the catalogue");
        let extracted = extract(provider, &Value::Null, "", &HeaderList::default(), body.as_bytes());
        assert_eq!(extracted.dedupe_key, None, "{}: {body}", provider.id);
    }
}
