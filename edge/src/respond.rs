//! Every answer of the Worker, and the one place with status codes but those of a decision ([`shared::decision`]).
//!
//! A provider learns no more than it needs: one code for every bad signature, never 410 (some delete the webhook on it)
//! and never 3xx (some count it as failure).

use std::borrow::Cow;
use std::rc::Rc;

use serde_json::{Value, json};
use shared::decision::{Refusal, acknowledged_status};
use shared::handshake::Reply;
use shared::id::EventId;
use shared::source::Acknowledgement;
use worker::wasm_bindgen::JsValue;
use worker::{ResponseBody, ResponseBuilder, web_sys};

use crate::bindings::Missing;
use crate::body::BodyError;
use crate::host;
use crate::sources::Source;

/// An answer of the Worker.
pub(crate) enum Answer {
    /// The event is in the queue.
    Accepted {
        id: EventId,
        source: Rc<Source>,
    },
    /// A handshake's reply.
    Reply(Reply),
    SignatureRefused,
    UnknownSource,
    BodyTooLarge {
        max_bytes: u64,
    },
    HeadTooLarge,
    BrokenBody,
    /// The body did not arrive in time.
    SlowBody,
    /// This isolate holds as many bodies as it may; the sender should try again.
    TooBusy,
    BrokenHead,
    /// Nothing was accepted; the sender should try again after this many seconds.
    TryAgain {
        after_s: u32,
    },
    /// The customer of the source is over its rate; the sender should try again after this many seconds.
    RateLimited {
        after_s: u64,
    },
    /// A GET that may be an event but is not one of its source.
    NotTaken {
        html: bool,
    },
    /// The page at the URL of a source, for a browser.
    SourcePage {
        html: bool,
    },
    /// The page at the Worker's own URL, for a browser.
    HomePage {
        html: bool,
    },
    Health,
    NotFound,
    MethodNotAllowed {
        allow: &'static str,
    },
    Unauthorized,
    /// The deployment lacks a binding or secret. Only the admin API says so.
    NotConfigured(Missing),
    /// A call of the admin API failed; the text says what to do.
    Unavailable(String),
    /// A source's configuration has been written.
    Written {
        revision: u64,
        /// The digest of the sealed text that was written.
        digest: String,
    },
    /// The state of a source in KV.
    SourceFacts {
        revision: u64,
        name: String,
        /// The digest of the sealed text that was read.
        digest: String,
        /// Whether the name of the source leads to it.
        name_leads_here: bool,
    },
    /// A source was deleted at this revision.
    SourceDeleted {
        revision: u64,
    },
    /// The state of a source in KV cannot be opened or read.
    SourceDamaged(String),
    /// The revision to write or delete is older than the stored one.
    OlderRevision {
        /// The revision that is stored.
        revision: u64,
    },
    NameTaken,
    BadConfiguration(String),
    Done,
    UnknownBody,
    /// A stored body, streamed.
    StoredBody(ResponseBody),
    /// A secret that a provider has handed over.
    Secret(Vec<u8>),
    /// The sealed text was sealed with another key, or for another purpose.
    CannotOpen(String),
    Status(Value),
}

/// When a sender should try again after [`Answer::TooBusy`], in seconds.
const BUSY_RETRY_AFTER_S: u32 = 10;

impl Answer {
    /// The answer to a request whose body, of at most `max_bytes`, could not be read.
    pub(crate) fn of_body(error: BodyError, max_bytes: u64) -> Self {
        match error {
            BodyError::TooLarge => Self::BodyTooLarge { max_bytes },
            BodyError::Broken => Self::BrokenBody,
            BodyError::TooSlow => Self::SlowBody,
            BodyError::TooBusy => Self::TooBusy,
        }
    }
}

type Header = (Cow<'static, str>, Cow<'static, str>);

/// An answer in the form that the host accepts.
struct Parts {
    status: u16,
    headers: Vec<Header>,
    body: Vec<u8>,
}

/// Turns an answer into a response.
///
/// # Errors
/// Returns an error if the host does not accept the response; the host then answers 500 itself.
pub(crate) fn respond(answer: Answer) -> Result<web_sys::Response, JsValue> {
    if let Answer::StoredBody(body) = answer {
        let builder = ResponseBuilder::new().with_header("content-type", "application/octet-stream")?;
        return Ok(builder.body(body).into());
    }
    let Parts { status, headers, body } = parts(answer);
    let text = serde_json::to_string(&headers).unwrap_or_else(|_| "[]".to_owned());
    // A source's configuration may hold a header value that the host refuses. The event is queued by then, so the
    // provider has to get the answer, with or without that header.
    host::respond(status, &text, &body).or_else(|_| host::respond(status, "[]", &body))
}

/// An answer as two lines of JSON: its status and headers (a list of pairs), which are the same for most answers of a
/// source, and its body. `None` if the body is not text.
pub(crate) fn lines(answer: Answer) -> Option<String> {
    let Parts { status, headers, body } = parts(answer);
    let head = serde_json::to_string(&(status, headers)).ok()?;
    let body = serde_json::to_string(std::str::from_utf8(&body).ok()?).ok()?;
    Some([head, body].join("\n"))
}

fn parts(answer: Answer) -> Parts {
    match answer {
        Answer::Accepted { id, source } => acknowledge(id, &source.config.acknowledgement),
        Answer::Reply(reply) => reply_parts(reply),
        Answer::SignatureRefused => refuse(Refusal::SIGNATURE, None),
        Answer::UnknownSource => error(404, "unknown_source", None),
        Answer::BodyTooLarge { max_bytes } => {
            refuse(Refusal::BODY_TOO_LARGE, Some(format!("the body is larger than {max_bytes} bytes")))
        }
        Answer::HeadTooLarge => refuse(Refusal::HEAD_TOO_LARGE, None),
        Answer::BrokenBody => error(400, "body_incomplete", None),
        Answer::SlowBody => error(408, "body_too_slow", None),
        Answer::TooBusy => {
            error(503, "too_busy", Some("too many requests are in progress; try again later".to_owned()))
                .with("retry-after", BUSY_RETRY_AFTER_S.to_string())
        }
        Answer::BrokenHead => error(400, "headers_unreadable", None),
        Answer::TryAgain { after_s } => refuse(Refusal::TRY_AGAIN, None).with("retry-after", after_s.to_string()),
        Answer::RateLimited { after_s } => {
            refuse(Refusal::RATE_LIMITED, Some("too many events were sent; send again after Retry-After".to_owned()))
                .with("retry-after", after_s.to_string())
        }
        Answer::NotTaken { html: true } => {
            page(Refusal::NOT_TAKEN.status, true, "Method not allowed", NOT_TAKEN).with("allow", EVENT_METHODS)
        }
        Answer::NotTaken { html: false } => {
            refuse(Refusal::NOT_TAKEN, Some(NOT_TAKEN.to_owned())).with("allow", EVENT_METHODS)
        }
        Answer::SourcePage { html } => page(200, html, "A webhook source", SOURCE_PAGE),
        Answer::HomePage { html } => page(200, html, "Tidegate", HOME_PAGE),
        Answer::Health => json_parts(200, &json!({ "ok": true, "version": env!("CARGO_PKG_VERSION") })),
        Answer::NotFound => error(404, "not_found", None),
        Answer::MethodNotAllowed { allow } => error(405, "method_not_allowed", None).with("allow", allow.to_owned()),
        Answer::Unauthorized => {
            let hint =
                "send the header `Authorization: Bearer <token>`, where <token> is this Worker's secret ADMIN_TOKEN";
            error(401, "unauthorized", Some(hint.to_owned())).with("www-authenticate", "Bearer".to_owned())
        }
        Answer::NotConfigured(missing) => error(503, "not_configured", Some(missing.to_string())),
        Answer::Unavailable(reason) => error(503, "try_again", Some(reason)).with("retry-after", "2".to_owned()),
        Answer::Written { revision, digest } => json_parts(200, &json!({ "revision": revision, "digest": digest })),
        Answer::SourceFacts { revision, name, digest, name_leads_here } => {
            let facts =
                json!({ "revision": revision, "name": name, "digest": digest, "name_leads_here": name_leads_here });
            json_parts(200, &facts)
        }
        Answer::SourceDeleted { revision } => {
            json_parts(404, &json!({ "error": "source_deleted", "revision": revision }))
        }
        Answer::SourceDamaged(reason) => error(422, "source_damaged", Some(reason)),
        Answer::OlderRevision { revision } => {
            let message = format!("revision {revision} is already stored; send a larger one");
            json_parts(409, &json!({ "error": "older_revision", "message": message, "revision": revision }))
        }
        Answer::NameTaken => error(
            409,
            "name_taken",
            Some("a different source already has this name; choose a different name".to_owned()),
        ),
        Answer::BadConfiguration(reason) => error(422, "bad_configuration", Some(reason)),
        Answer::Done => Parts { status: 204, headers: Vec::new(), body: Vec::new() },
        Answer::UnknownBody | Answer::StoredBody(_) => error(404, "unknown_body", None),
        Answer::Secret(secret) => {
            let headers = vec![("content-type".into(), "application/octet-stream".into()), NO_STORE, NO_SNIFF];
            Parts { status: 200, headers, body: secret }
        }
        Answer::CannotOpen(reason) => error(422, "cannot_open", Some(reason)),
        Answer::Status(status) => json_parts(200, &status),
    }
}

const JSON: Header = (Cow::Borrowed("content-type"), Cow::Borrowed("application/json"));

/// An answer may echo text of an unknown sender, and no browser may read it as another content type.
const NO_SNIFF: Header = (Cow::Borrowed("x-content-type-options"), Cow::Borrowed("nosniff"));

/// A secret must not be cached on its way.
const NO_STORE: Header = (Cow::Borrowed("cache-control"), Cow::Borrowed("no-store"));

/// The methods that every source accepts (RFC 9110, section 10.2.1).
const EVENT_METHODS: &str = "POST, PUT, PATCH, DELETE";

const NOT_TAKEN: &str = "This request was not accepted as an event: it is a GET request with a query string, \
    and this source accepts events by POST. If the provider sends its events with GET, set `methods` to [\"GET\"] in \
    the `config` of the source.";

const SOURCE_PAGE: &str = "This URL receives webhooks. Enter it at the provider that sends them. Received \
    events are not shown here; use the relay's API to view them.";

const HOME_PAGE: &str = "This is the edge of Tidegate, a webhook gateway. Webhooks are sent to \
    /in/ followed by the id or name of a source; create sources with the relay's API. /healthz reports whether this \
    Worker is running.";

fn acknowledge(id: EventId, acknowledgement: &Acknowledgement) -> Parts {
    let Acknowledgement { status: _, body, content_type } = acknowledgement;
    let status = acknowledged_status(acknowledgement);
    match body {
        // These two have no body by definition, and the host refuses one.
        _ if status == 204 || status == 205 => Parts { status, headers: Vec::new(), body: Vec::new() },
        None => Parts { status, headers: vec![JSON], body: format!("{{\"id\":\"{id}\"}}").into_bytes() },
        Some(body) => {
            let content_type = content_type.clone().unwrap_or_else(|| "text/plain; charset=utf-8".to_owned());
            Parts {
                status,
                headers: vec![("content-type".into(), content_type.into())],
                body: body.clone().into_bytes(),
            }
        }
    }
}

fn reply_parts(reply: Reply) -> Parts {
    let mut headers: Vec<Header> = vec![("content-type".into(), reply.content_type.into())];
    headers.extend(reply.headers.into_iter().map(|(name, value)| (name.into(), value.into())));
    Parts { status: reply.status, headers, body: reply.body }
}

fn json_parts(status: u16, value: &Value) -> Parts {
    Parts { status, headers: vec![JSON, NO_SNIFF], body: value.to_string().into_bytes() }
}

fn refuse(refusal: Refusal, message: Option<String>) -> Parts {
    error(refusal.status, refusal.code, message)
}

fn error(status: u16, code: &str, message: Option<String>) -> Parts {
    let value = match message {
        Some(message) => json!({ "error": code, "message": message }),
        None => json!({ "error": code }),
    };
    json_parts(status, &value)
}

fn page(status: u16, html: bool, title: &str, text: &str) -> Parts {
    if !html {
        let headers = vec![("content-type".into(), "text/plain; charset=utf-8".into()), NO_SNIFF];
        return Parts { status, headers, body: format!("{text}\n").into_bytes() };
    }
    let body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><h1>{title}</h1><p>{text}</p></html>\n"
    );
    let headers = vec![
        ("content-type".into(), "text/html; charset=utf-8".into()),
        ("content-security-policy".into(), "default-src 'none'".into()),
        NO_SNIFF,
    ];
    Parts { status, headers, body: body.into_bytes() }
}

impl Parts {
    fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> EventId {
        EventId::mint(1_764_000_000_123, [7; 10])
    }

    fn acknowledged(status: u16, body: Option<&str>, content_type: Option<&str>) -> Parts {
        let acknowledgement =
            Acknowledgement { status, body: body.map(str::to_owned), content_type: content_type.map(str::to_owned) };
        acknowledge(id(), &acknowledgement)
    }

    #[test]
    fn an_accepted_event_is_answered_with_its_id_unless_the_source_says_otherwise() {
        let usual = acknowledged(200, None, None);
        assert_eq!(usual.body, format!("{{\"id\":\"{}\"}}", id()).into_bytes());
        assert_eq!(usual.headers, [JSON]);
        let canned = acknowledged(202, Some("<Response/>"), Some("text/xml"));
        assert_eq!((canned.status, canned.body.as_slice()), (202, b"<Response/>".as_slice()));
        assert_eq!(canned.headers, [("content-type".into(), "text/xml".into())]);
    }

    #[test]
    fn an_acknowledgement_is_never_anything_but_success_and_204_has_no_body() {
        for status in [0, 100, 301, 410, 500] {
            assert_eq!(acknowledged(status, None, None).status, 200, "{status}");
        }
        assert_eq!(acknowledged(204, Some("x"), None).body, b"");
    }

    #[test]
    fn no_answer_to_a_provider_says_gone_or_moved() {
        for answer in [
            Answer::SignatureRefused,
            Answer::UnknownSource,
            Answer::BodyTooLarge { max_bytes: 1 },
            Answer::HeadTooLarge,
            Answer::BrokenBody,
            Answer::SlowBody,
            Answer::TooBusy,
            Answer::BrokenHead,
            Answer::TryAgain { after_s: 5 },
            Answer::RateLimited { after_s: 60 },
            Answer::NotFound,
            Answer::NotTaken { html: false },
            Answer::NotTaken { html: true },
        ] {
            let status = parts(answer).status;
            assert!((400..600).contains(&status) && status != 410, "{status}");
        }
    }

    #[test]
    fn the_relay_is_answered_with_a_code_for_each_refusal_and_the_revision_that_is_held() {
        for (answer, status, code, revision) in [
            (Answer::OlderRevision { revision: 7 }, 409, "older_revision", Some(7)),
            (Answer::NameTaken, 409, "name_taken", None),
            (Answer::SourceDeleted { revision: 7 }, 404, "source_deleted", Some(7)),
            (Answer::UnknownSource, 404, "unknown_source", None),
            (Answer::SourceDamaged("sealed with another key".to_owned()), 422, "source_damaged", None),
        ] {
            let parts = parts(answer);
            let body: Value = serde_json::from_slice(&parts.body).expect("JSON");
            assert_eq!((parts.status, body["error"].as_str()), (status, Some(code)));
            assert_eq!(body["revision"].as_u64(), revision, "{code}");
        }
    }

    #[test]
    fn every_bad_signature_gets_the_same_answer_and_an_outage_names_a_time() {
        let refused = parts(Answer::SignatureRefused);
        assert_eq!((refused.status, refused.body.as_slice()), (401, b"{\"error\":\"signature_refused\"}".as_slice()));
        let later = parts(Answer::TryAgain { after_s: 60 });
        assert_eq!(later.status, 503);
        assert!(later.headers.contains(&("retry-after".into(), "60".into())));
        let limited = parts(Answer::RateLimited { after_s: 61 });
        assert_eq!(limited.status, 429);
        assert!(limited.headers.contains(&("retry-after".into(), "61".into())));
    }

    #[test]
    fn a_get_that_is_not_accepted_is_answered_with_the_accepted_method_and_a_hint() {
        for html in [false, true] {
            let refused = parts(Answer::NotTaken { html });
            assert_eq!(refused.status, 405);
            assert!(refused.headers.contains(&("allow".into(), EVENT_METHODS.into())), "{:?}", refused.headers);
            let body = String::from_utf8(refused.body).expect("text");
            assert!(body.contains("This request was not accepted") && body.contains("methods"), "{body}");
            assert_eq!(body.starts_with("<!doctype html>"), html, "{body}");
        }
    }

    #[test]
    fn a_browser_gets_a_page_and_other_clients_get_text() {
        let html = String::from_utf8(parts(Answer::SourcePage { html: true }).body).expect("text");
        assert!(html.starts_with("<!doctype html>") && html.contains("receives webhooks"), "{html}");
        let text = String::from_utf8(parts(Answer::SourcePage { html: false }).body).expect("text");
        assert!(!text.contains('<') && text.contains("receives webhooks"), "{text}");
    }
}
