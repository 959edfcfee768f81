//! What is read out of an event: its id and its type.

use serde_json::{Value, json};
use shared::extract::Extractor;
use shared::provider::{catalogue, find};

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
    let document: Option<Value> = serde_json::from_slice(&wire.body).ok();
    let plainly = |path| document.as_ref().and_then(|document| text_at(document, path));
    assert_eq!(extracted.provider_event_id, plainly(&id), "{id}");
    assert_eq!(extracted.event_type, plainly(&kind), "{kind}");
    extracted.provider_event_id.is_some() && extracted.event_type.is_some()
}

/// The text at a JSON pointer (RFC 6901), where it is a text, a number or a truth value and not empty.
fn text_at(document: &Value, path: &str) -> Option<String> {
    let mut at = document;
    for name in path.split('/').skip(1) {
        let name = name.replace("~1", "/").replace("~0", "~");
        at = match at {
            Value::Object(map) => map.get(&name)?,
            Value::Array(list) => {
                let plain = name == "0" || (!name.starts_with('0') && name.chars().all(|c| c.is_ascii_digit()));
                list.get(name.parse::<usize>().ok().filter(|_| plain)?)?
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
        };
    }
    let text = match at {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}
