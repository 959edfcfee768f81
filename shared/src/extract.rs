//! Reads the provider's own id, the type and the key of duplicates from an event.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::header::HeaderList;
use crate::job::Job;
use crate::provider::{Places, Provider};
use crate::scheme::reference::Reference;
use crate::scheme::reference::function::Function;
use crate::scheme::template::{Part, Template};
use crate::verify::request::{Joins, RequestParts, View};

/// The facts that are read from an event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extracted {
    pub provider_event_id: Option<String>,
    pub event_type: Option<String>,
    /// The key of the event's copies; `None` if the provider gives no id, so that copies cannot be recognised.
    pub dedupe_key: Option<DedupeKey>,
    /// The job that the event is about; `None` if the source has no job key, or the event has none.
    pub job: Option<Job>,
}

/// The key that the copies of an event share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupeKey {
    /// The same for every copy of an event of one source.
    pub key: [u8; 32],
    /// The first 16 bytes of the SHA-256 of the body, or of the query if the body is empty.
    pub body: [u8; 16],
    /// Whether an event with the same key and another body is a copy too. If not, it is an event of its own.
    pub any_body: bool,
}

impl DedupeKey {
    /// The key of an event whose `key` belongs to an event with another body. Copies of this event are recognised by
    /// it.
    #[must_use]
    pub fn with_body(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"another body:");
        hash.update(self.key);
        hash.update(self.body);
        hash.finalize().into()
    }
}

/// The places of the id and the type in a source's events, ready to be used many times.
#[derive(Debug, Clone)]
pub struct Extractor {
    places: Places,
}

impl Extractor {
    /// Prepares extraction for a source of `provider` with the owner's `config`.
    #[must_use]
    pub fn new(provider: &Provider, config: &Value) -> Self {
        Self { places: provider.places(config) }
    }

    /// Whether events of the source may be about a job.
    #[must_use]
    pub fn reads_jobs(&self) -> bool {
        !self.places.job.keys.is_empty()
    }

    /// Reads an event: the query of its URL, its headers and its raw body.
    #[must_use]
    pub fn extract(&self, query: &str, headers: &HeaderList, body: &[u8]) -> Extracted {
        let request = RequestParts { method: "POST", url: "", query, headers };
        let settings = BTreeMap::new();
        let view = View::new(&request, body, &settings);
        let Places { ids, types, resend_changes_body, job } = &self.places;
        let id = ids.iter().find_map(|(template, alone)| Some((render(template, &view)?, *alone)));
        Extracted {
            event_type: types.iter().find_map(|template| render(template, &view)),
            dedupe_key: id
                .as_ref()
                .map(|(id, alone)| dedupe_key(id, *alone, content(query, body), *resend_changes_body)),
            job: job.read(|template| render(template, &view)),
            provider_event_id: id.map(|(id, _)| id),
        }
    }
}

/// Reads one event of a source. [`Extractor`] does the same for many, without reading the config for each.
#[must_use]
pub fn extract(provider: &Provider, config: &Value, query: &str, headers: &HeaderList, body: &[u8]) -> Extracted {
    Extractor::new(provider, config).extract(query, headers, body)
}

/// The bytes that distinguish an event from others with its id: its body or, if that is empty, the query. An event that
/// comes by GET is in its query as a whole.
fn content<'e>(query: &'e str, body: &'e [u8]) -> &'e [u8] {
    if body.is_empty() { query.as_bytes() } else { body }
}

/// An unsigned id with a signed body is not enough: an attacker could copy a request, change its id to that of a coming
/// event, and so have that event taken for a copy. The body is then part of the key.
fn dedupe_key(id: &str, alone: bool, body: &[u8], any_body: bool) -> DedupeKey {
    let body: [u8; 32] = Sha256::digest(body).into();
    let mut key = Sha256::new();
    if alone {
        key.update(b"signed:");
    } else {
        key.update(b"unsigned:");
        key.update(body);
    }
    key.update(id);
    let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = body;
    DedupeKey { key: key.finalize().into(), body: first, any_body }
}

/// The value of a reference in an event; it may be empty.
pub(crate) fn text<'v>(reference: &Reference, view: &'v View<'_>, joins: Joins) -> Option<Cow<'v, str>> {
    if let Reference::Function(Function::Items(items)) = reference {
        return items.value(view).map(Cow::Owned);
    }
    view.text(reference, joins).ok()
}

/// `None` if a part is missing, or if the whole is empty.
fn render(template: &Template, view: &View<'_>) -> Option<String> {
    let mut out = String::new();
    for part in template.parts() {
        match part {
            Part::Literal(text) => out.push_str(text),
            Part::Reference(reference) => out.push_str(&text(reference, view, Joins::Refused)?),
        }
    }
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::provider::find;

    type Headers<'a> = &'a [(&'a str, &'a str)];

    fn read(provider: &str, config: &Value, headers: Headers<'_>, body: &str) -> Extracted {
        let headers = HeaderList::new(headers.iter().copied());
        extract(find(provider).expect("in the catalogue"), config, "", &headers, body.as_bytes())
    }

    fn names(extracted: &Extracted) -> (Option<&str>, Option<&str>) {
        (extracted.provider_event_id.as_deref(), extracted.event_type.as_deref())
    }

    #[test]
    fn every_provider_names_its_events_in_its_own_place() {
        let webhook_id: Headers<'_> = &[("Webhook-Id", "msg_1")];
        let cases: [(&str, Headers<'_>, &str, &str, &str); 10] = [
            ("stripe", &[], r#"{"id":"evt_1","type":"invoice.paid"}"#, "evt_1", "invoice.paid"),
            ("openai", webhook_id, r#"{"id":"evt_1","type":"response.completed"}"#, "msg_1", "response.completed"),
            ("replicate", webhook_id, r#"{"id":"p1","status":"succeeded"}"#, "msg_1", "succeeded"),
            ("standard-webhooks", webhook_id, r#"{"type":"a.b"}"#, "msg_1", "a.b"),
            ("svix", &[("Svix-Id", "msg_2")], r#"{"type":"a.b"}"#, "msg_2", "a.b"),
            ("fal", &[("X-Fal-Webhook-Request-Id", "r1")], r#"{"status":"ERROR"}"#, "r1", "ERROR"),
            (
                "slack",
                &[],
                r#"{"type":"event_callback","event_id":"Ev1","event":{"type":"message"}}"#,
                "Ev1",
                "message",
            ),
            (
                "shopify",
                &[("X-Shopify-Webhook-Id", "w1"), ("X-Shopify-Topic", "orders/create")],
                "{}",
                "w1",
                "orders/create",
            ),
            (
                "github",
                &[("X-GitHub-Delivery", "d1"), ("X-GitHub-Event", "issues")],
                r#"{"action":"opened"}"#,
                "d1",
                "issues.opened",
            ),
            ("github", &[("X-GitHub-Delivery", "d1"), ("X-GitHub-Event", "push")], "payload=%7B%7D", "d1", "push"),
        ];
        for (provider, headers, body, id, event_type) in cases {
            let extracted = read(provider, &Value::Null, headers, body);
            assert_eq!(names(&extracted), (Some(id), Some(event_type)), "{provider}");
            assert!(extracted.dedupe_key.is_some(), "{provider}");
        }
    }

    #[test]
    fn the_fields_of_a_form_are_read_like_those_of_json() {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let of = |provider: &str, body: &str| read(provider, &Value::Null, &form, body).event_type;
        assert_eq!(of("slack", "token=t&command=%2Fdeploy&text=now&type=").as_deref(), Some("/deploy"));
        assert_eq!(of("slack", "payload=%7B%22type%22%3A%22block_actions%22%7D").as_deref(), Some("block_actions"));
        let own = json!({"header": "x-signature", "key": {"pointer": "/id"}});
        assert_eq!(read("custom", &own, &form, "id=7&kind=a").provider_event_id.as_deref(), Some("7"));
        let stripe = r#"{"id":"evt_1","type":"invoice.paid"}"#;
        assert_eq!(read("stripe", &Value::Null, &form, stripe), read("stripe", &Value::Null, &[], stripe));
    }

    #[test]
    fn ids_and_types_are_read_from_real_requests_of_providers() {
        let extracted = |headers: Headers<'_>, body: &[u8]| {
            let headers = HeaderList::new(headers.iter().copied());
            extract(find("stripe").expect("in the catalogue"), &Value::Null, "", &headers, body)
        };
        let plain = extracted(&[], br#"{"id":"evt_1","type":"a.b"}"#);
        assert_eq!(names(&plain), (Some("evt_1"), Some("a.b")));
        let utf16: Vec<u8> = r#"{"id":"evt_1","type":"a.b"}"#.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let deep = format!(r#"{{"id":"evt_1","type":"a.b","x":{}{}}}"#, "[".repeat(4_000), "]".repeat(4_000));
        let cases: [(Headers<'_>, &[u8]); 8] = [
            (&[], br#"{"id":"evt_1","type":"a.b","title":"ship it \ud83d"}"#),
            (&[], b"\xef\xbb\xbf{\"id\":\"evt_1\",\"type\":\"a.b\"}"),
            (
                &[("content-type", "application/json; charset=iso-8859-1")],
                b"{\"id\":\"evt_1\",\"type\":\"a.b\",\"n\":\"\xe9\"}",
            ),
            (&[], b"{\"id\":\"evt_1\",\"type\":\"a.b\",\"n\":\"\xe9\"}"),
            (&[], br#"{"id":"evt_1","type":"a.b","ratio":1e400}"#),
            (&[], &utf16),
            (&[], deep.as_bytes()),
            (&[("content-encoding", "gzip")], &crate::reader::gzip(br#"{"id":"evt_1","type":"a.b"}"#)),
        ];
        for (headers, body) in cases {
            let odd = extracted(headers, body);
            let key = |extracted: &Extracted| extracted.dedupe_key.map(|key| key.key);
            let seen = String::from_utf8_lossy(body);
            assert_eq!((names(&odd), key(&odd)), (names(&plain), key(&plain)), "{headers:?} {seen:?}");
        }
    }

    #[test]
    fn ids_that_are_numbers_differ_if_their_digits_do() {
        let own = json!({"header": "x-signature", "key": {"pointer": "/id"}});
        let id = |id: &str| read("custom", &own, &[], &format!(r#"{{"id":{id}}}"#));
        let (one, other) = (id("36893488147419103233"), id("36893488147419103234"));
        assert_eq!(one.provider_event_id.as_deref(), Some("36893488147419103233"));
        assert_ne!(one.dedupe_key, other.dedupe_key);
    }

    #[test]
    fn without_an_id_nothing_is_a_duplicate() {
        for provider in ["none", "token", "basic", "custom", "stripe", "github"] {
            let extracted = read(provider, &json!({"header": "x-signature"}), &[], "no json");
            assert_eq!(extracted, Extracted::default(), "{provider}");
        }
    }

    #[test]
    fn an_unsigned_id_is_keyed_together_with_the_body() {
        let of = |provider: &str, header: &str, id: &str, body: &str| {
            read(provider, &Value::Null, &[(header, id)], body).dedupe_key.expect("a key")
        };
        let key = |provider: &str, header: &str, id: &str, body: &str| of(provider, header, id, body).key;
        for (provider, header) in [("github", "x-github-delivery"), ("shopify", "x-shopify-webhook-id")] {
            assert_eq!(key(provider, header, "1", "{}"), key(provider, header, "1", "{}"));
            assert_ne!(key(provider, header, "1", "{}"), key(provider, header, "1", "{ }"), "{provider}");
            assert_ne!(key(provider, header, "1", "{}"), key(provider, header, "2", "{}"), "{provider}");
        }
        let signed = |id, body| key("openai", "webhook-id", id, body);
        assert_eq!(signed("1", "{}"), signed("1", "{ }"), "a signed id is enough");
        assert_ne!(signed("1", "{}"), signed("2", "{}"));
        let token = |id, body| of("gitlab-token", "idempotency-key", id, body);
        assert_eq!(token("1", "{}").key, token("1", "{ }").key, "who can change the body has the token");
        assert_ne!(token("1", "{}").body, token("1", "{ }").body);
    }

    #[test]
    fn events_without_a_body_are_distinguished_by_their_queries() {
        let of = |provider: &str, query: &str, body: &str| {
            let headers = HeaderList::new([("i-twilio-idempotency-token", "1")]);
            let config = if provider == "twilio" { Value::Null } else { json!({"key": {"query": "id"}}) };
            let provider = find(provider).expect("in the catalogue");
            extract(provider, &config, query, &headers, body.as_bytes()).dedupe_key.expect("a key")
        };
        let (sent, delivered) = (of("none", "id=1&status=sent", ""), of("none", "id=1&status=delivered", ""));
        assert_eq!(sent.key, delivered.key);
        assert_ne!(sent.body, delivered.body, "the second is an event of its own");
        assert_eq!(sent, of("none", "id=1&status=sent", ""), "and this is a copy");
        assert_eq!(of("none", "id=1&a=1", "{}"), of("none", "id=1&a=2", "{}"), "a body says it alone");
        assert_ne!(of("twilio", "a=1", "").key, of("twilio", "a=2", "").key, "the id is not signed, the query is");
    }

    #[test]
    fn an_event_with_the_key_of_another_is_known_by_its_key_and_its_body() {
        let of = |id: &str, body: &str| {
            read("gitlab-token", &Value::Null, &[("idempotency-key", id)], body).dedupe_key.expect("a key").with_body()
        };
        assert_eq!(of("1", "{}"), of("1", "{}"));
        assert_ne!(of("1", "{}"), of("1", "{ }"));
        assert_ne!(of("1", "{}"), of("2", "{}"));
    }

    #[test]
    fn whether_a_copy_may_have_another_body_is_said_by_the_catalogue_or_the_owner() {
        let any_body = |provider: &str, config: Value, body: &str| {
            read(provider, &config, &[], body).dedupe_key.expect("a key").any_body
        };
        assert!(any_body("gocardless", Value::Null, r#"{"events":[{"id":"EV1"}]}"#));
        assert!(!any_body("paddle", Value::Null, r#"{"event_id":"e1"}"#));
        assert!(any_body("paddle", json!({"resend_changes_body": true}), r#"{"event_id":"e1"}"#));
        assert!(!any_body("gocardless", json!({"resend_changes_body": false}), r#"{"events":[{"id":"EV1"}]}"#));
    }

    #[test]
    fn the_owner_may_give_a_template_of_the_key_or_none() {
        let own = |key: &str| json!({"header": "x-signature", "key": key});
        let body = r#"{"id":7,"at":"now","items":[{"id":"a"},{"id":"b"}]}"#;
        let of = |key: &str| read("custom", &own(key), &[("x-id", "8")], body);
        assert_eq!(of("{json:id}.{json:at}").provider_event_id.as_deref(), Some("7.now"));
        assert_eq!(of("{h:x-id}-{json?:nowhere}").provider_event_id.as_deref(), Some("8-"));
        assert!(of("{fn:items(items[]:id)}").provider_event_id.is_some_and(|id| id.starts_with("a+1.")));
        assert_eq!(of("{json:nowhere}"), Extracted::default());
        assert_eq!(read("stripe", &json!({"key": "none"}), &[], r#"{"id":"evt_1"}"#), Extracted::default());
    }

    #[test]
    fn the_owner_may_set_the_places_of_the_id_and_the_type() {
        let config = |key: Value| json!({"header": "x-signature", "key": key, "type": {"pointer": "/data/kind"}});
        let body = r#"{"data":{"id":7,"kind":"a"}}"#;
        let of_body = config(json!({"pointer": "/data/id"}));
        assert_eq!(names(&read("custom", &of_body, &[], body)), (Some("7"), Some("a")));
        let of_header = config(json!({"header": "X-Id"}));
        let extracted = read("custom", &of_header, &[("x-id", "8")], body);
        assert_eq!(names(&extracted), (Some("8"), Some("a")));
        let other = read("custom", &of_header, &[("x-id", "8")], r#"{"data":{"id":9,"kind":"a"}}"#);
        let key = |extracted: Extracted| extracted.dedupe_key.expect("a key").key;
        assert_ne!(key(extracted), key(other), "the header is not signed");
        let mut signed = of_header;
        signed["content"] = json!("{h:x-id}.{body}");
        let with = |body| read("custom", &signed, &[("x-id", "8")], body).dedupe_key.map(|key| key.key);
        assert_eq!(with("{}"), with("[]"), "the header is signed");
    }

    #[test]
    fn a_repeated_id_is_no_id() {
        let twice = [("X-GitHub-Delivery", "1"), ("x-github-delivery", "2")];
        assert_eq!(read("github", &Value::Null, &twice, "{}"), Extracted::default());
    }
}
