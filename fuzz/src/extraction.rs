//! The id and the type that are read from an event.

use serde_json::{Value, json};
use shared::extract::Extractor;
use shared::provider::{catalogue, find};

use super::plain_reader;
use super::wire::Wire;

/// Two JSON pointers, to the id and to the type of an event, and a request.
pub fn extraction(data: &[u8]) -> bool {
    let Some(([id, kind], wire)) = Wire::read(data) else { return false };
    // Every provider has a turn, each with the same input.
    let turn = data.iter().fold(data.len(), |sum, byte| sum + usize::from(*byte)) % catalogue().len();
    let theirs = Extractor::new(&catalogue()[turn], &Value::Null).extract(wire.query(), &wire.headers, &wire.body);
    assert_eq!(theirs.dedupe_key.is_some(), theirs.provider_event_id.is_some(), "{}", catalogue()[turn].id);
    let provider = find("standard-webhooks").expect("in the catalogue");
    if !id.starts_with('/') || !kind.starts_with('/') {
        return false;
    }
    let config = json!({"key": {"pointer": id}, "type": {"pointer": kind}});
    let extracted = Extractor::new(provider, &config).extract(wire.query(), &wire.headers, &wire.body);
    // Other bodies are those of the target `reader`.
    if wire.headers.get("content-encoding").is_some() || serde_json::from_slice::<Value>(&wire.body).is_err() {
        return extracted.provider_event_id.is_some() && extracted.event_type.is_some();
    }
    let document = plain_reader::document(&wire.headers, &wire.body).expect("JSON is known");
    let plainly = |path: &str| {
        document.as_ref().and_then(|document| document.pointer(path)?.text()).filter(|text| !text.is_empty())
    };
    assert_eq!(extracted.provider_event_id, plainly(&id), "{id}");
    assert_eq!(extracted.event_type, plainly(&kind), "{kind}");
    extracted.provider_event_id.is_some() && extracted.event_type.is_some()
}
