//! The options that every source has, whatever its provider.

use serde_json::Value;

use super::fields::Fields;
use super::handshake::Handshake;
use crate::scheme::reference::function::Function;
use crate::scheme::reference::{Reference, is_header_name};
use crate::scheme::template::Template;
use crate::source::{Acknowledgement, OnFailure, OnStale, QuarantineLimits, SafeMethod};

/// The fields that are read here.
pub(super) const NAMES: [&str; 13] = [
    "methods",
    "handshake",
    "tolerance_s",
    "on_failure",
    "quarantine",
    "on_stale",
    "acknowledgement",
    "max_body_bytes",
    "key",
    "resend_changes_body",
    "type",
    "job_key",
    "expose",
];

/// A week: more would make a timestamp worthless.
const MAX_TOLERANCE_S: u64 = 604_800;
const MAX_ACKNOWLEDGEMENT_BYTES: usize = 16_384;

/// The longest template of a key, in bytes.
const MAX_KEY_BYTES: usize = 1_024;

/// The value that switches deduplication off, and for the job key the awaiting of jobs.
const NO_KEY: &str = "none";

/// The most fields that a source exposes, and the longest JSON pointer to one of them, in bytes.
pub const MAX_EXPOSED: usize = 32;
pub const MAX_POINTER_BYTES: usize = 256;

/// The most that a source may keep of requests that fail.
const MOST_IN_QUARANTINE: QuarantineLimits =
    QuarantineLimits { events_per_hour: 1_000_000, bytes_per_hour: 100_000_000_000, body_bytes: 25_000_000 };

/// The options that an owner may set for any source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// The safe methods whose requests are events.
    pub(crate) methods: Vec<SafeMethod>,
    /// The handshakes that are answered in addition to those of the provider.
    pub(crate) handshake: Option<Handshake>,
    pub(crate) tolerance_s: Option<u32>,
    pub(crate) on_failure: OnFailure,
    pub(crate) quarantine: QuarantineLimits,
    pub(crate) on_stale: OnStale,
    pub(crate) acknowledgement: Option<Acknowledgement>,
    pub(crate) max_body_bytes: u64,
    /// The key of an event.
    pub(crate) key: Option<Key>,
    /// Whether the body of an event may differ when it is sent again.
    pub(crate) resend_changes_body: Option<bool>,
    /// The place of the type of an event.
    pub(crate) event_type: Option<Reference>,
    /// The key of the job that an event is about.
    pub(crate) job_key: Option<Key>,
    /// The JSON pointers of the fields that the holder of an await token sees.
    pub(crate) expose: Vec<String>,
}

/// An owner's choice for the key of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// No event is recognised as a copy.
    None,
    /// A template of parts of the request.
    Template(Template),
}

impl Options {
    pub(super) fn read(fields: &mut Fields<'_>, cap_bytes: u64) -> Self {
        let tolerance_s = fields.integer("tolerance_s", 1..=MAX_TOLERANCE_S).and_then(|number| number.try_into().ok());
        let on_failure = fields.text("on_failure").and_then(|text| {
            let choices = [("reject", OnFailure::Reject), ("quarantine", OnFailure::Quarantine)];
            fields.choice("on_failure", text, &choices)
        });
        let on_stale = fields.text("on_stale").and_then(|text| {
            let choices = [("reject", OnStale::Reject), ("accept_flagged", OnStale::AcceptFlagged)];
            fields.choice("on_stale", text, &choices)
        });
        let handshake = fields
            .text("handshake")
            .and_then(|text| fields.choice("handshake", text, &[("cloudevents", Handshake::CloudEvents)]));
        Self {
            methods: methods(fields),
            handshake,
            tolerance_s,
            on_failure: on_failure.unwrap_or_default(),
            quarantine: fields.inside("quarantine", quarantine).unwrap_or_default(),
            on_stale: on_stale.unwrap_or_default(),
            acknowledgement: fields.inside("acknowledgement", acknowledgement),
            max_body_bytes: fields.integer("max_body_bytes", 1..=cap_bytes).unwrap_or(cap_bytes),
            key: key(fields, "key"),
            resend_changes_body: fields.truth("resend_changes_body"),
            event_type: fields.inside("type", place).flatten(),
            job_key: key(fields, "job_key"),
            expose: expose(fields),
        }
    }
}

fn methods(fields: &mut Fields<'_>) -> Vec<SafeMethod> {
    let Some(value) = fields.value("methods") else { return Vec::new() };
    let Some(names) = value.as_array() else {
        fields.problem("methods", "must be a list; use [\"GET\"] if the provider sends events by GET");
        return Vec::new();
    };
    if let Some(problem) = names.iter().find_map(method_problem) {
        fields.problem("methods", problem);
    }
    if names.iter().any(|name| *name == "GET") { vec![SafeMethod::Get] } else { Vec::new() }
}

fn method_problem(name: &Value) -> Option<&'static str> {
    match name.as_str() {
        Some("GET") => None,
        Some("POST" | "PUT" | "PATCH" | "DELETE") => {
            Some("must not contain POST, PUT, PATCH or DELETE, whose requests are always events; use [\"GET\"]")
        }
        Some("HEAD" | "OPTIONS") => {
            Some("must not contain HEAD or OPTIONS, with which clients only test a URL; use [\"GET\"]")
        }
        Some(_) | None => Some("can contain only \"GET\", in upper case"),
    }
}

fn quarantine(fields: &mut Fields<'_>) -> QuarantineLimits {
    fields.only(["events_per_hour", "bytes_per_hour", "body_bytes"]);
    let (most, usual) = (MOST_IN_QUARANTINE, QuarantineLimits::default());
    QuarantineLimits {
        events_per_hour: fields.integer("events_per_hour", 0..=most.events_per_hour).unwrap_or(usual.events_per_hour),
        bytes_per_hour: fields.integer("bytes_per_hour", 0..=most.bytes_per_hour).unwrap_or(usual.bytes_per_hour),
        body_bytes: fields.integer("body_bytes", 0..=most.body_bytes).unwrap_or(usual.body_bytes),
    }
}

fn acknowledgement(fields: &mut Fields<'_>) -> Acknowledgement {
    fields.only(["status", "body", "content_type"]);
    let status = fields.integer("status", 200..=299).and_then(|number| number.try_into().ok()).unwrap_or(200);
    let body = fields.text("body").map(str::to_owned);
    if body.as_ref().is_some_and(|body| body.len() > MAX_ACKNOWLEDGEMENT_BYTES) {
        fields.problem("body", format!("must be at most {MAX_ACKNOWLEDGEMENT_BYTES} bytes long"));
    }
    if matches!(status, 204 | 205) && body.as_ref().is_some_and(|body| !body.is_empty()) {
        fields.problem(
            "body",
            format!("cannot be combined with status {status}, which has no body; remove it or use 200"),
        );
    }
    let content_type = fields.text("content_type").map(str::to_owned);
    let is_media_type = |text: &String| text.contains('/') && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if content_type.as_ref().is_some_and(|text| !is_media_type(text)) {
        fields.problem("content_type", "must be a media type such as application/json");
    }
    Acknowledgement { status, body, content_type }
}

fn expose(fields: &mut Fields<'_>) -> Vec<String> {
    let Some(value) = fields.value("expose") else { return Vec::new() };
    let is_pointer = |text: &&str| text.starts_with('/') && text.len() <= MAX_POINTER_BYTES;
    let pointers = value.as_array().filter(|list| list.len() <= MAX_EXPOSED).and_then(|list| {
        list.iter().map(|item| item.as_str().filter(is_pointer).map(str::to_owned)).collect::<Option<Vec<_>>>()
    });
    pointers.unwrap_or_else(|| {
        fields.problem(
            "expose",
            format!(
                "must be a list of at most {MAX_EXPOSED} JSON pointers of at most {MAX_POINTER_BYTES} bytes, such as \
                 [\"/status\", \"/output\"]"
            ),
        );
        Vec::new()
    })
}

fn key(fields: &mut Fields<'_>, name: &str) -> Option<Key> {
    let Some(text) = fields.value(name).and_then(Value::as_str) else {
        return fields.inside(name, place).flatten().map(|reference| Key::Template(Template::of(reference)));
    };
    if text == NO_KEY {
        return Some(Key::None);
    }
    match key_template(text) {
        Ok(template) => Some(Key::Template(template)),
        Err(problem) => {
            fields.problem(name, problem);
            None
        }
    }
}

/// A template whose parts can be read from every request, and which is not the same for all of them.
fn key_template(text: &str) -> Result<Template, String> {
    if text.len() > MAX_KEY_BYTES {
        return Err(format!("must be at most {MAX_KEY_BYTES} bytes long"));
    }
    let template: Template = text.parse().map_err(|error| format!("{error}"))?;
    if let Some(reference) = template.references().find(|reference| !is_for_keys(reference)) {
        let hint = if *reference == Reference::Body { "; use {sha256hex:body}" } else { "" };
        return Err(format!(
            "{{{reference}}} cannot be a part of a key{hint}; use {{json:<path>}}, {{json?:<path>}}, {{h:<header>}}, \
             {{query:<name>}}, {{sha256hex:body}} or {{fn:items(<list>[]:<field>)}}"
        ));
    }
    let is_needed = |reference: &Reference| !matches!(reference, Reference::Json { optional: true, .. });
    if !template.references().any(is_needed) {
        return Err(format!(
            "is the same for many events; add a value that is unique to each event, such as {{json:id}}, or use \
             \"{NO_KEY}\" to treat every request as a new event"
        ));
    }
    Ok(template)
}

fn is_for_keys(reference: &Reference) -> bool {
    matches!(
        reference,
        Reference::Json { .. }
            | Reference::Header(_)
            | Reference::Query(_)
            | Reference::BodySha256Hex
            | Reference::Function(Function::Items(_))
    )
}

fn place(fields: &mut Fields<'_>) -> Option<Reference> {
    fields.only(["header", "pointer", "query"]);
    match (fields.text("header"), fields.text("pointer"), fields.text("query")) {
        (Some(name), None, None) if is_header_name(name) => Some(Reference::Header(name.to_ascii_lowercase())),
        (None, Some(pointer), None) if pointer.starts_with('/') => {
            Some(Reference::Json { pointer: pointer.to_owned(), optional: false })
        }
        (None, None, Some(name)) if !name.is_empty() => Some(Reference::Query(name.to_owned())),
        (Some(name), None, None) => {
            fields.problem("header", format!("\"{name}\" is not a valid header name"));
            None
        }
        (None, Some(pointer), None) => {
            fields.problem("pointer", format!("\"{pointer}\" is not a JSON pointer; use one such as /data/id"));
            None
        }
        (None, None, Some(_)) => {
            fields.problem("query", "must not be empty; set it to the name of a query parameter");
            None
        }
        _ => {
            fields.problem(
                "header",
                "exactly one of header, pointer and query must be set, such as {\"header\": \"x-event-id\"}",
            );
            None
        }
    }
}
