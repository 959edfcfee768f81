//! The settings of a source as fields of a form, and the form as a change of the settings.

use serde_json::{Map, Value};

use super::super::field::{Field, Input};
use super::super::values::Values;
use super::{create, places};
use crate::control::providers::Provider;

/// The fields of a part of the settings.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) fields: Vec<Field>,
}

const ON_FAILURE: Input = Input::Choice(&[
    ("", "Reject it, so that the provider sees an error and may send it again"),
    ("quarantine", "Quarantine: acknowledge it, keep it, and deliver nothing"),
]);
const ON_STALE: Input = Input::Choice(&[("", "Reject it"), ("accept_flagged", "Accept it, marked as stale")]);
const RESENDS: Input = Input::Choice(&[
    ("", "As the provider does"),
    ("true", "Yes: an event with the same id is a copy, also if its body differs"),
    ("false", "No: the same id with another body is a new event"),
]);
const METHODS: Input = Input::Choice(&[("", "No: GET shows a page that says what this URL is"), ("GET", "Yes")]);
const HANDSHAKE: Input = Input::Choice(&[("", "Only those of the provider"), ("cloudevents", "Also CloudEvents")]);

const PLACE: &str = "As header x-id, pointer /data/id or query id";

/// All settings of a source, with their values.
pub(super) fn parts(provider: &Provider, config: &Value) -> Vec<Part> {
    let tolerance = match provider.scheme.tolerance_s {
        Some(seconds) => {
            format!("How far the signed time may be from the time of receipt. Usual for {}: {seconds}.", provider.name)
        }
        None => "How far a signed time may be from the time of receipt. This provider signs none.".to_owned(),
    };
    let field = |name: &str, label: &str, hint: &str, input| Field::new(format!("config.{name}"), label, hint, input);
    let mut verification: Vec<Field> = create::settings(provider).collect();
    verification.extend([
        field("tolerance_s", "Tolerance in seconds", &tolerance, Input::Number),
        field("on_failure", "If a request fails verification", "", ON_FAILURE),
        field("on_stale", "If the signature is right and its time too old", "", ON_STALE),
        field(
            "quarantine.events_per_hour",
            "Quarantine: events per hour",
            "Usual: 50,000. What comes beyond is only counted.",
            Input::Number,
        ),
        field("quarantine.bytes_per_hour", "Quarantine: bytes per hour", "Usual: 250,000,000.", Input::Number),
        field("quarantine.body_bytes", "Quarantine: largest body in bytes", "Usual: 1,000,000.", Input::Number),
    ]);
    let events = vec![
        field(
            "key",
            "What recognises copies",
            &format!(
                "{PLACE}, or a template such as {{json:id}}-{{h:x-part}}; none: every request is a new event. Usual: the provider's id."
            ),
            Input::Text,
        ),
        field("resend_changes_body", "May the body differ when an event is sent again?", "", RESENDS),
        field(
            "type",
            "Where the type of an event is",
            &format!("{PLACE}. Usual: where the provider writes it."),
            Input::Text,
        ),
        field(
            "job_key",
            "What names the job of an event",
            &format!("For awaiting jobs. {PLACE}, or a template; none switches it off."),
            Input::Text,
        ),
        field(
            "expose",
            "What an await token may see of a body",
            "One JSON pointer a line, such as /status. Usual: nothing.",
            Input::Area,
        ),
    ];
    let requests = vec![
        field("methods", "Are requests by GET events?", "", METHODS),
        field("handshake", "Which handshakes are answered?", "", HANDSHAKE),
        field(
            "max_body_bytes",
            "Largest body in bytes",
            "A larger one is refused with 413. Usual: what the relay allows.",
            Input::Number,
        ),
        field(
            "acknowledgement.status",
            "Status of the acknowledgement",
            "200 to 299. Usual: as the provider wants it.",
            Input::Number,
        ),
        field("acknowledgement.body", "Body of the acknowledgement", "Usual: the id of the event.", Input::Area),
        field(
            "acknowledgement.content_type",
            "Content type of the acknowledgement",
            "Such as text/plain.",
            Input::Text,
        ),
    ];
    let mut parts = vec![
        Part { name: "Verification", about: "Which requests are accepted.", fields: verification },
        Part { name: "Events", about: "How the copies of an event are recognised.", fields: events },
        Part { name: "Requests and responses", about: "What the edge takes and answers.", fields: requests },
    ];
    for field in parts.iter_mut().flat_map(|part| &mut part.fields) {
        field.value = value(&field.name, config);
    }
    parts
}

/// The value of a field in the config, as the form shows it.
fn value(name: &str, config: &Value) -> String {
    let name = name.strip_prefix("config.").unwrap_or(name);
    match name {
        "key" | "type" | "job_key" => places::line(&config[name]),
        "expose" => {
            let pointers = config["expose"].as_array().into_iter().flatten().filter_map(Value::as_str);
            pointers.collect::<Vec<_>>().join("\n")
        }
        "methods" => {
            config["methods"].as_array().filter(|list| !list.is_empty()).map_or_else(String::new, |_| "GET".to_owned())
        }
        "on_failure" | "on_stale" => text(&config[name]).replace("reject", ""),
        _ => {
            let place = name.split('.').fold(config, |value, part| &value[part]);
            text(place)
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

/// The change of the config that the form asks for: what is empty gets its default.
pub(super) fn patch(parts: &mut [Part], form: &Values) -> Value {
    let mut config = Map::new();
    for field in parts.iter_mut().flat_map(|part| &mut part.fields) {
        field.typed(form);
        let name = field.name.strip_prefix("config.").unwrap_or(&field.name);
        let value = patched(name, field);
        match name.split_once('.') {
            None => drop(config.insert(name.to_owned(), value)),
            Some((object, inner)) => {
                let object = config.entry(object.to_owned()).or_insert_with(|| Value::Object(Map::new()));
                object[inner] = value;
            }
        }
    }
    // An object without any value is its default, which differs from an empty object.
    for value in config.values_mut() {
        if value.as_object().is_some_and(|fields| fields.values().all(Value::is_null)) {
            *value = Value::Null;
        }
    }
    Value::Object(config)
}

fn patched(name: &str, field: &Field) -> Value {
    let typed = field.value.as_str();
    if typed.trim().is_empty() {
        return Value::Null;
    }
    match (name, field.input) {
        ("key" | "type" | "job_key", _) => places::patch(typed),
        ("expose", _) => typed.lines().map(str::trim).filter(|line| !line.is_empty()).map(Value::from).collect(),
        ("methods", _) => Value::from(vec![typed]),
        ("resend_changes_body", _) => typed.parse::<bool>().map_or_else(|_| Value::from(typed), Value::from),
        // What is no number is refused by the control layer, which says what is expected.
        (_, Input::Number) => {
            typed.replace([',', ' ', '_'], "").parse::<u64>().map_or_else(|_| Value::from(typed), Value::from)
        }
        _ => Value::from(typed),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::providers;

    fn provider() -> Provider {
        providers::of_catalogue("custom").expect("in the catalogue")
    }

    /// What a browser would send of the form of this config.
    fn sent(config: &Value) -> Values {
        let fields = parts(&provider(), config).into_iter().flat_map(|part| part.fields);
        fields.map(|field| (field.name.clone(), field.value)).collect()
    }

    #[test]
    fn a_form_that_is_sent_unchanged_changes_nothing() {
        let config = json!({
            "header": "x-signature", "hash": "sha512", "tolerance_s": 60, "on_failure": "quarantine", "on_stale": "accept_flagged",
            "quarantine": { "events_per_hour": 10 }, "key": { "header": "x-id" }, "resend_changes_body": true,
            "type": { "pointer": "/type" }, "job_key": "none", "expose": ["/a", "/b"], "methods": ["GET"],
            "handshake": "cloudevents", "max_body_bytes": 5000, "acknowledgement": { "status": 202, "body": "ok\nnow" }
        });
        let mut patched = patch(&mut parts(&provider(), &json!({})), &sent(&config));
        without_nulls(&mut patched);
        assert_eq!(patched, config);
        let empty = patch(&mut parts(&provider(), &config), &sent(&json!({})));
        assert!(empty.as_object().expect("an object").values().all(Value::is_null), "{empty}");
    }

    fn without_nulls(value: &mut Value) {
        if let Value::Object(fields) = value {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
    }

    #[test]
    fn numbers_may_have_commas_and_what_is_no_number_is_passed_on() {
        let form: Values = [("config.max_body_bytes", "5,000"), ("config.tolerance_s", "soon")]
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .into_iter()
            .collect();
        let patched = patch(&mut parts(&provider(), &json!({})), &form);
        assert_eq!((&patched["max_body_bytes"], &patched["tolerance_s"]), (&json!(5000), &json!("soon")));
    }
}
