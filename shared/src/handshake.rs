//! Handshakes: requests with which a provider tests whether its customer owns a URL. The edge answers them.
//!
//! Like schemes they are data: [`crate::scheme::handshake`] describes them, and this module evaluates them.

use crate::scheme::handshake::{EffectRule, Expected, HandshakeRule, PLAIN_TEXT, ReplyRule};
use crate::scheme::host::path_at;
use crate::scheme::reference::{Reference, is_header_name};
use crate::scheme::template::{Part, Template};
use crate::secret::Secret;
use crate::verify::Rejection;
use crate::verify::request::{Joins, RequestParts, View};

/// The largest body that is searched for a handshake, in bytes. Handshakes are small, and a larger body is an event,
/// which must not be parsed on its way.
pub const MAX_HANDSHAKE_BODY_BYTES: usize = 4_096;

/// The longest value of a header of a reply, in bytes: a reply may return the longest secret in one.
const MAX_REPLY_HEADER_BYTES: usize = MAX_SECRET_BYTES;

/// The lengths of a secret that a provider hands over, in bytes.
const MIN_SECRET_BYTES: usize = 16;
const MAX_SECRET_BYTES: usize = 512;

/// The answer to a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    pub reply: Reply,
    /// Whether the request must pass verification before the reply is sent.
    pub must_verify: bool,
    /// Whether the request is an event too, to be queued before the reply is sent.
    pub forward: bool,
    /// The reply if verification fails; `None` refuses the request like any other.
    pub refusal: Option<Reply>,
    /// The URL to GET, once the request is verified and before the reply is sent.
    pub confirm: Option<String>,
    /// The secret that the provider hands over; `None` once the source has it.
    pub secret: Option<Secret>,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub content_type: String,
    /// The headers in addition to the content type; names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// The reply to a request that is a handshake by one of the rules: the first that holds. `None` for every other
/// request.
///
/// `secrets` are those of the source: some providers want a text signed with one, and a provider may hand over its
/// secret only if the source has none.
#[must_use]
pub fn answer(
    rules: &[HandshakeRule],
    secrets: &[Secret],
    request: &RequestParts<'_>,
    body: &[u8],
) -> Option<Handshake> {
    rules.iter().find_map(|rule| {
        let view = View::new(request, body, &rule.settings).with_secrets(secrets);
        rule.answer(&view, secrets)
    })
}

impl HandshakeRule {
    fn answer(&self, view: &View<'_>, secrets: &[Secret]) -> Option<Handshake> {
        let (own, asked): (Vec<_>, Vec<_>) = self.when.iter().partition(|(_, expected)| expected.is_a_setting());
        let refusal = self.otherwise.map(Reply::empty);
        if !hold(&asked, view) {
            return None;
        }
        if !hold(&own, view) {
            return Some(Handshake::only(refusal?));
        }
        let confirm = match &self.effect {
            Some(effect) => Some(effect.url(view)?),
            None => None,
        };
        let secret = match &self.store_secret {
            Some(place) => handed_over(&view.text(place, Joins::Refused).ok()?, secrets)?,
            None => None,
        };
        let reply = self.reply.render(view)?;
        // A secret that is handed over again is answered, but is not a new event.
        let forward = self.forward && (self.store_secret.is_none() || secret.is_some());
        Some(Handshake { reply, must_verify: self.verify, forward, refusal, confirm, secret })
    }
}

impl Handshake {
    /// A reply and nothing else.
    fn only(reply: Reply) -> Self {
        Self { reply, must_verify: false, forward: false, refusal: None, confirm: None, secret: None }
    }
}

impl Reply {
    fn empty(status: u16) -> Self {
        Self { status, content_type: PLAIN_TEXT.to_owned(), headers: Vec::new(), body: Vec::new() }
    }
}

impl EffectRule {
    /// The URL, if it is at one of these hosts over TLS, else `None`: the sender chooses the URL, and the edge requests
    /// it.
    fn url(&self, view: &View<'_>) -> Option<String> {
        let url = view.text(&self.get, Joins::Refused).ok()?;
        path_at(&url, &self.hosts).is_some().then(|| url.clone().into_owned())
    }
}

/// The secret to keep: `Some(None)` if the source has it already, and `None` if the source has another one, so that no
/// sender can plant one.
fn handed_over(text: &str, secrets: &[Secret]) -> Option<Option<Secret>> {
    let secret = Secret::new(text);
    let usable =
        (MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    match secrets {
        [] => usable.then_some(Some(secret)),
        known => known.contains(&secret).then_some(None),
    }
}

/// Cheap conditions come first: the body is parsed only if all others hold and it could be a handshake.
fn hold(conditions: &[(&Reference, &Expected)], view: &View<'_>) -> bool {
    let (in_json, elsewhere): (Vec<_>, Vec<_>) = conditions.iter().partition(|(place, _)| place.reads_json());
    elsewhere.iter().all(|(place, expected)| expected.is(place, view))
        && in_json.iter().all(|(place, expected)| expected.may_be_in(place, view.body()))
        && in_json.iter().all(|(place, expected)| expected.is(place, view))
}

impl Expected {
    /// Whether it is compared with a setting, which only the source's owner knows.
    fn is_a_setting(&self) -> bool {
        matches!(self, Self::Text(text) if text.starts_with("cfg:"))
    }

    fn is(&self, place: &Reference, view: &View<'_>) -> bool {
        if *place == Reference::Body && view.body().len() > MAX_HANDSHAKE_BODY_BYTES {
            return false;
        }
        let found = match view.text(place, Joins::Refused) {
            Ok(found) => found,
            Err(why) => {
                let missing = matches!(why, Rejection::HeaderMissing { .. } | Rejection::FieldMissing { .. });
                return *self == Self::Absent && missing;
            }
        };
        match self {
            Self::Number(number) => found == number.to_string(),
            Self::Absent => false,
            Self::Text(text) => match (text.strip_suffix('*'), text.parse()) {
                (Some(begin), _) => !found.is_empty() && found.starts_with(begin),
                (None, Ok(setting @ Reference::Setting(_))) => {
                    view.text(&setting, Joins::Refused).is_ok_and(|own| own == found)
                }
                (None, Ok(_) | Err(_)) => found == *text,
            },
        }
    }

    /// Whether a body could contain this value, by its length and without parsing: the value, or else the name of its
    /// field, has to appear in it literally.
    fn may_be_in(&self, place: &Reference, body: &[u8]) -> bool {
        let mut field = "";
        if let Reference::Json { pointer, .. } = place {
            field = pointer.rsplit('/').next().unwrap_or_default();
        }
        let trace = match self {
            Self::Text(text) if !text.ends_with('*') && !text.starts_with("cfg:") => text,
            Self::Text(_) | Self::Number(_) => field,
            Self::Absent => "",
        };
        body.len() <= MAX_HANDSHAKE_BODY_BYTES
            && (trace.is_empty() || body.windows(trace.len()).any(|window| window == trace.as_bytes()))
    }
}

impl ReplyRule {
    /// `None` if the request lacks a value that the reply refers to.
    fn render(&self, view: &View<'_>) -> Option<Reply> {
        let json = self.content_type.starts_with("application/json");
        let body = render(&self.body, view, if json { escape_json } else { str::to_owned })?.into_bytes();
        let mut headers = Vec::with_capacity(self.headers.len() + 1);
        for (name, value) in &self.headers {
            let value = render(value, view, str::to_owned)?;
            // A value from the sender must not end the header, and the host must not refuse it: it would then leave out
            // all headers.
            let visible = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
            let harmless = is_header_name(name) && visible && value.len() <= MAX_REPLY_HEADER_BYTES;
            headers.push(harmless.then(|| (name.to_ascii_lowercase(), value))?);
        }
        // A reply repeats text of its sender, and no browser may read it as a page.
        if !headers.iter().any(|(name, _)| name == "x-content-type-options") {
            headers.push(("x-content-type-options".to_owned(), "nosniff".to_owned()));
        }
        Some(Reply { status: self.status, content_type: self.content_type.clone(), headers, body })
    }
}

fn render(template: &Template, view: &View<'_>, escape: fn(&str) -> String) -> Option<String> {
    let mut out = String::new();
    for part in template.parts() {
        match part {
            Part::Literal(text) => out.push_str(text),
            Part::Reference(reference) => out.push_str(&escape(&view.text(reference, Joins::Refused).ok()?)),
        }
    }
    Some(out)
}

fn escape_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).map(str::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::HeaderList;

    const SLACK: &str = r#"{"when":{"method":"POST","json:type":"url_verification"},"verify":true,
        "reply":{"status":200,"type":"text/plain","body":"{json:challenge}"}}"#;
    const ZOOM: &str = r#"{"when":{"json:event":"endpoint.url_validation"},"verify":true,"reply":{"status":200,
        "type":"application/json","body":"{\"plainToken\":\"{json:payload.plainToken}\",\"encryptedToken\":\"{hmac-sha256-hex:secret,json:payload.plainToken}\"}"}}"#;
    const META: &str = r#"{"when":{"method":"GET","query:hub.mode":"subscribe","query:hub.verify_token":"cfg:verify_token"},
        "verify":false,"reply":{"status":200,"type":"text/plain","body":"{query:hub.challenge}"},"settings":{"verify_token":"mine"}}"#;
    const MONDAY: &str = r#"{"when":{"json:challenge":"*"},"verify":false,"reply":{"status":200,"type":"application/json",
        "body":"{\"challenge\":\"{json:challenge}\"}","headers":{"X-Seen":"{json:challenge}"}}}"#;
    const DISCORD: &str = r#"{"when":{"json:type":1},"verify":true,"reply":{"status":200,"type":"application/json","body":"{\"type\":1}"}}"#;

    fn ask(rule: &str, method: &str, query: &str, body: &str) -> Option<Handshake> {
        let rules = [serde_json::from_str(rule).expect("parses")];
        let headers = HeaderList::default();
        let request = RequestParts { method, url: "", query, headers: &headers };
        answer(&rules, &[Secret::new("secret"), Secret::new("old")], &request, body.as_bytes())
    }

    fn body(handshake: Option<Handshake>) -> Option<String> {
        handshake.map(|handshake| String::from_utf8(handshake.reply.body).expect("text"))
    }

    #[test]
    fn slack_gets_its_challenge_back_as_plain_text_once_the_request_is_verified() {
        let asked = r#"{"token":"x","challenge":"3eZbrw1aB","type":"url_verification"}"#;
        let handshake = ask(SLACK, "POST", "", asked).expect("a handshake");
        assert_eq!(handshake.reply.body, b"3eZbrw1aB");
        assert_eq!(handshake.reply.content_type, "text/plain");
        assert!(handshake.must_verify && !handshake.forward);
        assert_eq!(ask(SLACK, "GET", "", asked), None);
    }

    #[test]
    fn an_event_is_no_handshake() {
        assert_eq!(ask(SLACK, "POST", "", r#"{"type":"event_callback","challenge":"x"}"#), None);
        assert_eq!(ask(SLACK, "POST", "", r#"{"type":"event_callback","text":"url_verification"}"#), None);
        assert_eq!(ask(SLACK, "POST", "", "type=url_verification"), None);
        assert_eq!(ask(SLACK, "POST", "", r#"{"type":"url_verification"}"#), None, "nothing to answer with");
        let padding = " ".repeat(MAX_HANDSHAKE_BODY_BYTES);
        assert_eq!(ask(SLACK, "POST", "", &format!(r#"{{"type":"url_verification","challenge":"x"}}{padding}"#)), None);
    }

    #[test]
    fn zoom_gets_its_token_signed_and_nothing_that_could_be_a_body() {
        let asked =
            |token: &str| format!(r#"{{"event":"endpoint.url_validation","payload":{{"plainToken":"{token}"}}}}"#);
        let signed = "{\"plainToken\":\"qgg8vlvZRS6UYooatFL8Aw\",\"encryptedToken\":\
                      \"72cef096bfd47c0b8664df30d07721641e4abd7e885ba432204260db477a9a3e\"}";
        let got = body(ask(ZOOM, "POST", "", &asked("qgg8vlvZRS6UYooatFL8Aw"))).expect("a handshake");
        assert_eq!(got, signed);
        assert_eq!(ask(ZOOM, "POST", "", &asked("{\\\"event\\\":1}")), None);
        assert_eq!(ask(ZOOM, "POST", "", &asked(&"a".repeat(300))), None);
    }

    #[test]
    fn meta_is_answered_only_with_the_token_of_the_source() {
        let ask = |token: &str| {
            body(ask(META, "GET", &format!("hub.mode=subscribe&hub.verify_token={token}&hub.challenge=11%3C22"), ""))
        };
        assert_eq!(ask("mine").as_deref(), Some("11<22"));
        assert_eq!(ask("other"), None);
        assert_eq!(ask("cfg:verify_token"), None);
    }

    #[test]
    fn a_value_of_the_sender_stays_inside_its_string_and_its_header() {
        let asked = r#"{"challenge":"a\"},{\\"}"#;
        let handshake = ask(MONDAY, "POST", "", asked).expect("a handshake");
        assert_eq!(handshake.reply.body, br#"{"challenge":"a\"},{\\"}"#);
        assert!(handshake.reply.headers.contains(&("x-content-type-options".to_owned(), "nosniff".to_owned())));
        assert_eq!(ask(MONDAY, "POST", "", r#"{"challenge":"a\r\nset-cookie: b"}"#), None, "a header would be split");
    }

    #[test]
    fn a_number_is_compared_with_a_number() {
        assert_eq!(body(ask(DISCORD, "POST", "", r#"{"type":1}"#)).as_deref(), Some("{\"type\":1}"));
        assert_eq!(ask(DISCORD, "POST", "", r#"{"type":2}"#), None);
    }
}
