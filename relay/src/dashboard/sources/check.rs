//! Checking a pasted request against a source, step by step.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

use super::super::commands::Commands;
use super::super::failure::Failure;
use super::super::field::{self, Field, Input};
use super::super::frame::{Frame, Section, page};
use super::super::values::Values;
use super::super::view::{self, Tone};
use super::super::viewer::Viewer;
use super::Crumb;
use crate::api::input::Segment;
use crate::control::fields::FieldError;
use crate::control::given::GivenHeader;
use crate::control::sources::{
    self, CheckOutcome, CheckRequest, CheckStep, CheckStepKind, CheckStepState, EdgeState, Source, SourceCheck,
};
use crate::control::{Control, Error};

const METHODS: Input =
    Input::Choice(&[("POST", "POST"), ("PUT", "PUT"), ("PATCH", "PATCH"), ("DELETE", "DELETE"), ("GET", "GET")]);
const BODY_AS: Input = Input::Choice(&[
    ("", "Text with LF at the end of lines"),
    ("crlf", "Text with CRLF at the end of lines"),
    ("base64", "Base64"),
]);

/// The names of the fields.
const WHOLE: &str = "whole";
const HEADERS: &str = "headers";

#[derive(Template)]
#[template(path = "dashboard/source_check.html")]
struct CheckPage {
    frame: Frame,
    crumb: Crumb,
    source: Source,
    /// A whole message or a curl command, and the parts of a request.
    whole: Field,
    parts: [Field; 6],
    errors: Vec<String>,
    checked: Option<SourceCheck>,
    commands: Commands,
}

impl CheckPage {
    /// The fields that can be empty: all but one of the two ways to give a request.
    fn fields(&mut self) -> impl Iterator<Item = &mut Field> {
        std::iter::once(&mut self.whole).chain(&mut self.parts)
    }

    /// Whether the parts were used.
    fn shows_parts(&self) -> bool {
        let is_used = |field: &Field| !field.errors.is_empty() || (field.name != "method" && !field.value.is_empty());
        self.parts.iter().any(is_used)
    }
}

async fn read(control: &Control, viewer: &Viewer, id: &str) -> Result<CheckPage, Error> {
    let source = sources::show(control, &viewer.actor, id).await?;
    let frame = Frame::new(viewer, format!("Check a request to {}", source.name), Section::Sources);
    let whole = "The HTTP message with its request line, or a curl command. All headers, and the body byte for byte.";
    let field = |name: &str, label: &str, hint: &str, input| Field::new(name, label, hint, input);
    let call = format!("/v1/sources/{}/check", source.id);
    let command = format!("tidegate source check {} --request request.http", source.name);
    Ok(CheckPage {
        crumb: Crumb::of(&frame, &source),
        whole: field(WHOLE, "The request", whole, Input::Area),
        parts: [
            field("method", "Method", "", METHODS).with("POST"),
            field("url", "URL", "Without it: the URL of this source.", Input::Text),
            field(HEADERS, "Headers", "One a line, such as content-type: application/json.", Input::Area),
            field("body", "Body", "", Input::Area),
            field("body_as", "The body is", "", BODY_AS),
            field(
                "received_at",
                "Received at",
                "Such as 2026-01-31T08:00:00Z. Signed times are compared with it. Without it: now.",
                Input::Text,
            ),
        ],
        errors: Vec::new(),
        checked: None,
        commands: Commands::change(&frame, "POST", &call, "{\"raw\": \"…\"}", command),
        frame,
        source,
    })
}

/// The page.
pub(in crate::dashboard) async fn show(
    State(control): State<Control>,
    viewer: Viewer,
    Segment(id): Segment,
) -> Result<Response, Failure> {
    Ok(page(&read(&control, &viewer, &id).await?))
}

/// Checks the request. Nothing is stored, so the answer is the page.
pub(in crate::dashboard) async fn check(
    State(control): State<Control>,
    viewer: Viewer,
    Segment(id): Segment,
    form: Values,
) -> Result<Response, Failure> {
    let mut shown = read(&control, &viewer, &id).await?;
    shown.fields().for_each(|field| field.typed(&form));
    let checked = match request(&form) {
        Ok(request) => {
            sources::check(&control, &viewer.actor, &id, request).await.map_err(|error| field::shown(error, ""))
        }
        Err(errors) => Err(Ok(errors)),
    };
    match checked {
        Ok(checked) => {
            shown.checked = Some(checked);
            Ok(page(&shown))
        }
        Err(errors) => {
            let named = errors?.into_iter().map(in_the_form).collect();
            shown.errors = field::place(named, shown.fields());
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page(&shown)).into_response())
        }
    }
}

/// The request that was pasted.
fn request(form: &Values) -> Result<CheckRequest, Vec<FieldError>> {
    let received_at = form.get("received_at").map(str::to_owned);
    let whole = form.lines(WHOLE);
    if !whole.trim().is_empty() {
        let is_curl = whole.trim_start().starts_with("curl ");
        let (raw, curl) = if is_curl { (None, Some(whole)) } else { (Some(whole.trim_start().to_owned()), None) };
        return Ok(CheckRequest { raw, curl, received_at, ..CheckRequest::default() });
    }
    let headers = headers(&form.lines(HEADERS))?;
    let body = form.lines("body");
    if headers.is_empty() && body.is_empty() {
        return Err(vec![FieldError::new(WHOLE, "is empty; paste a request, or fill in its parts")]);
    }
    let (body, body_base64) = match form.text("body_as") {
        "base64" => (None, Some(body.split_whitespace().collect())),
        "crlf" => (Some(body.replace('\n', "\r\n")), None),
        _ => (Some(body), None),
    };
    Ok(CheckRequest {
        method: form.get("method").map(str::to_owned),
        url: form.get("url").map(str::to_owned),
        headers: Some(headers),
        body,
        body_base64,
        raw: None,
        curl: None,
        received_at,
    })
}

/// The headers of the lines. Blank lines are left out.
fn headers(lines: &str) -> Result<Vec<GivenHeader>, Vec<FieldError>> {
    let mut headers = Vec::new();
    for (at, line) in lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let Some((name, value)) = line.split_once(':') else {
            let message = format!("line {} has no colon; write a name, a colon and the value", at + 1);
            return Err(vec![FieldError::new(HEADERS, message)]);
        };
        headers.push(GivenHeader { name: name.trim().to_owned(), value: value.trim().to_owned() });
    }
    Ok(headers)
}

/// An error with the name that its field has in this form.
fn in_the_form(error: FieldError) -> FieldError {
    let message = match error.field.as_str() {
        // The field is a list here, so its place is part of the text.
        inner if inner.starts_with("headers[") => {
            let number = inner.strip_prefix("headers[").and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
            format!("header {} {}", number.map_or(0, |number| number + 1), error.message)
        }
        _ => error.message.clone(),
    };
    let field = match error.field.as_str() {
        "raw" | "curl" => WHOLE.to_owned(),
        "body_base64" => "body".to_owned(),
        other => other.split('[').next().unwrap_or_default().to_owned(),
    };
    FieldError { field, message, ..error }
}

/// What the edge would do, as a badge and a sentence.
pub(super) fn verdict(checked: &SourceCheck) -> (Tone, &'static str, &'static str) {
    match checked.outcome {
        CheckOutcome::Accepted => {
            (Tone::Ok, "Accepted", "The edge would accept this request, and it would be an event.")
        }
        CheckOutcome::Quarantined => (
            Tone::Warn,
            "Quarantined",
            "Verification fails. The source keeps such requests, and delivers nothing of them.",
        ),
        CheckOutcome::Refused => (Tone::Danger, "Rejected", "The edge would reject this request."),
        CheckOutcome::Handshake => (Tone::Ok, "Handshake", "The edge would answer this handshake. It is not an event."),
        CheckOutcome::Page => {
            (Tone::Quiet, "Page", "This request only reads. It would get the page that says what the URL is.")
        }
        CheckOutcome::TryAgain => (
            Tone::Warn,
            "Try again",
            "The edge could not verify this request now, and would ask the provider to try again.",
        ),
        CheckOutcome::Unknown => (
            Tone::Quiet,
            "Unknown",
            "Only the edge has the keys of the provider, so the signature cannot be checked here.",
        ),
    }
}

/// What a step looks at.
pub(super) const fn title(kind: CheckStepKind) -> &'static str {
    match kind {
        CheckStepKind::SignatureForm => "The signature can be read",
        CheckStepKind::Timestamp => "The signed time is near to the time of receipt",
        CheckStepKind::Requirement => "A signed value equals a setting",
        CheckStepKind::SignedContent => "The signed content is there",
        CheckStepKind::Signature => "The signature matches",
        CheckStepKind::Credential => "The request carries a secret of the source",
        CheckStepKind::Token => "The token is valid",
        CheckStepKind::Nothing => "The source does not verify",
    }
}

pub(super) const fn state(state: CheckStepState) -> (Tone, &'static str) {
    match state {
        CheckStepState::Passed => (Tone::Ok, "Holds"),
        CheckStepState::Failed => (Tone::Danger, "Fails"),
        CheckStepState::Unknown => (Tone::Quiet, "Not known"),
    }
}

impl CheckPage {
    #[expect(clippy::unused_self, reason = "templates call it on the page")]
    fn verdict(&self, checked: &SourceCheck) -> (Tone, &'static str, &'static str) {
        verdict(checked)
    }

    #[expect(clippy::unused_self, reason = "templates call it on the page")]
    fn title(&self, step: &CheckStep) -> &'static str {
        title(step.kind)
    }

    #[expect(clippy::unused_self, reason = "templates call it on the page")]
    fn state(&self, step: &CheckStep) -> view::Markup {
        let (tone, word) = state(step.state);
        view::badge(tone, word)
    }

    #[expect(clippy::unused_self, reason = "templates call it on the page")]
    fn skew(&self, seconds: &i64) -> String {
        skew(*seconds)
    }

    #[expect(clippy::unused_self, reason = "templates call it on the page")]
    fn is_pending(&self, checked: &SourceCheck) -> bool {
        checked.edge == EdgeState::Pending
    }
}

/// The skew of a signed time in words.
pub(super) fn skew(seconds: i64) -> String {
    let span = view::duration(seconds.unsigned_abs().saturating_mul(1_000));
    match seconds {
        0 => "at the time of receipt".to_owned(),
        1.. => format!("{span} before the time of receipt"),
        _ => format!("{span} after the time of receipt"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: &[(&str, &str)]) -> Values {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_whole_request_is_a_message_or_a_command_and_parts_are_read_one_by_one() {
        let read = |fields: &[(&str, &str)]| request(&form(fields)).expect("a request");
        assert_eq!(
            read(&[("whole", "\r\nPOST / HTTP/1.1\r\na: b\r\n\r\nx")]).raw.as_deref(),
            Some("POST / HTTP/1.1\na: b\n\nx")
        );
        assert!(read(&[("whole", " curl -d 1 http://a/")]).curl.is_some());
        let parts =
            read(&[("headers", "A: b:c\r\n\r\nd:\r\n"), ("body", "1\r\n2"), ("body_as", "crlf"), ("method", "PUT")]);
        let headers: Vec<_> =
            parts.headers.expect("headers").into_iter().map(|header| (header.name, header.value)).collect();
        assert_eq!(headers, [("A".to_owned(), "b:c".to_owned()), ("d".to_owned(), String::new())]);
        assert_eq!((parts.body.as_deref(), parts.method.as_deref()), (Some("1\r\n2"), Some("PUT")));
        assert_eq!(read(&[("body", "YQ\r\n=="), ("body_as", "base64")]).body_base64.as_deref(), Some("YQ=="));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_at_its_field() {
        let wrong = |fields: &[(&str, &str)]| request(&form(fields)).expect_err("wrong").remove(0);
        assert_eq!(wrong(&[]).field, "whole");
        assert!(wrong(&[("headers", "a: b\nc")]).message.contains("line 2"));
        let error = in_the_form(FieldError::new("headers[1].value", "is not a valid header value"));
        assert_eq!((error.field.as_str(), error.message.as_str()), ("headers", "header 2 is not a valid header value"));
        assert_eq!(in_the_form(FieldError::new("curl", "x")).field, "whole");
    }

    #[test]
    fn a_skew_is_said_in_words() {
        assert_eq!(
            [skew(0), skew(7_200), skew(-5)],
            ["at the time of receipt", "2 h before the time of receipt", "5 s after the time of receipt"]
        );
    }
}
