//! Edits an event and sends the result as a new event.
//!
//! The form has the headers and the body as text. What is not changed in it is not part of the edit, so that the bytes
//! of the original are kept. A browser sends the lines of a text with CRLF; the form remembers what the body had.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use sha2::{Digest as _, Sha256};

use super::actions::to_event;
use super::body::HIDDEN;
use crate::control::events::{self, EventDelivery, EventDetail, EventEdit, Header};
use crate::control::fields::FieldError;
use crate::control::given::GivenHeader;
use crate::control::{Control, Error, Scope, names};
use crate::dashboard::failure::Failure;
use crate::dashboard::frame::{Frame, Section, page};
use crate::dashboard::notice::Notice;
use crate::dashboard::values::Values;
use crate::dashboard::view;
use crate::dashboard::viewer::Viewer;

/// The largest body that the form shows, in bytes. A larger one can be replaced, and not edited.
const EDITED_BYTES: usize = 256 << 10;

#[derive(Template)]
#[template(path = "dashboard/event_edit.html")]
struct EditPage {
    frame: Frame,
    detail: EventDetail,
    form: EditForm,
    destinations: Vec<String>,
    /// Why the body is not in the form.
    without_body: Option<String>,
    errors: Vec<FieldError>,
}

/// The fields of the form.
#[derive(Debug, Default, Clone)]
struct EditForm {
    event_type: String,
    headers: String,
    body: String,
    /// `text` or `base64`.
    encoding: String,
    /// The hash of the body that the form showed. Empty if it showed none.
    shown: String,
    /// `crlf` if the lines of the body end so.
    newlines: String,
    destination: String,
}

impl EditForm {
    fn of(values: &Values) -> Self {
        let raw = |name: &str| values.raw(name).to_owned();
        Self {
            event_type: raw("type"),
            headers: values.lines("headers"),
            body: values.lines("body"),
            encoding: raw("encoding"),
            shown: raw("shown"),
            newlines: raw("newlines"),
            destination: raw("destination"),
        }
    }
}

impl EditPage {
    fn path(&self, rest: &str) -> String {
        self.frame.to(&format!("/events/{}{rest}", self.detail.event.id))
    }

    /// What is wrong with the fields whose names begin like this.
    fn errors_of(&self, field: &str) -> Vec<String> {
        let of_field = |error: &&FieldError| error.field.starts_with(field);
        self.errors.iter().filter(of_field).map(|error| view::sentence(&error.message)).collect()
    }

    /// What is wrong with the form as a whole.
    fn other_errors(&self) -> Vec<String> {
        let known = ["edit.type", "edit.headers", "edit.body", "destination"];
        let is_other = |error: &&FieldError| !known.iter().any(|field| error.field.starts_with(field));
        self.errors.iter().filter(is_other).map(|error| view::sentence(&error.message)).collect()
    }
}

/// The form.
pub(in crate::dashboard) async fn show(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    viewer.actor.require(Scope::Replay)?;
    let detail = events::explain(&control, &viewer.actor, &id).await?;
    let mut form = EditForm {
        event_type: detail.event.event_type.clone().unwrap_or_default(),
        headers: lines(&detail.headers),
        encoding: "text".to_owned(),
        ..EditForm::default()
    };
    let without_body = match events::body(&control, &viewer.actor, &id).await {
        Ok(content) => fill(&mut form, content.body.as_ref()),
        Err(error @ (Error::BodyErased | Error::PastRetention(_))) => Some(format!(
            "{} Write a new one to send the event.",
            view::sentence(&Failure::from(error).problem().detail)
        )),
        Err(error) => return Err(error.into()),
    };
    render(&control, &viewer, detail, form, without_body, Vec::new())
}

/// Puts a body into the form; otherwise says why not.
fn fill(form: &mut EditForm, body: &[u8]) -> Option<String> {
    if body.len() > EDITED_BYTES {
        let (size, limit) = (view::bytes(body.len()), view::bytes(EDITED_BYTES));
        return Some(format!(
            "The body has {size}, and the form shows up to {limit}. It is sent unchanged if you leave this empty."
        ));
    }
    match std::str::from_utf8(body) {
        Ok(text) if !text.contains('\0') => {
            form.body = text.replace("\r\n", "\n");
            form.newlines = if text.contains("\r\n") { "crlf".to_owned() } else { String::new() };
        }
        Ok(_) | Err(_) => {
            use base64::Engine as _;
            form.body = base64::engine::general_purpose::STANDARD.encode(body);
            form.encoding = "base64".to_owned();
        }
    }
    form.shown = hash(&form.body);
    None
}

fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn lines(headers: &[Header]) -> String {
    headers.iter().map(|header| format!("{}: {}\n", header.name, header.value)).collect()
}

fn render(
    control: &Control,
    viewer: &Viewer,
    detail: EventDetail,
    form: EditForm,
    without_body: Option<String>,
    errors: Vec<FieldError>,
) -> Result<Response, Failure> {
    let frame = Frame::new(viewer, "Edit and send", Section::Events);
    let destinations = names::names(control, &viewer.actor)?.destinations.into_iter().map(|(_, name)| name).collect();
    let is_refused = !errors.is_empty();
    let mut response = page(&EditPage { frame, detail, form, destinations, without_body, errors });
    if is_refused {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

/// Sends the edited event.
pub(in crate::dashboard) async fn send(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
    values: Values,
) -> Result<Response, Failure> {
    let detail = events::explain(&control, &viewer.actor, &id).await?;
    let form = EditForm::of(&values);
    let edit = match edit_of(&detail, &form) {
        Ok(edit) => edit,
        Err(error) => return render(&control, &viewer, detail, form, None, vec![error]),
    };
    let destination = Some(form.destination.clone()).filter(|name| !name.is_empty());
    match events::deliver(&control, &viewer.actor, &id, EventDelivery { destination, edit: Some(edit) }).await {
        Ok(made) => {
            let number = made.deliveries.len();
            let notice = match number {
                0 => Notice::partly("The edited event was stored, and no route matched it."),
                _ => Notice::done(format!(
                    "The edited event was stored: {}.",
                    view::count(number, "delivery", "deliveries")
                )),
            };
            Ok(notice.on(&to_event(&viewer, &made.event_id.to_string())))
        }
        Err(Error::Invalid(errors)) => render(&control, &viewer, detail, form, None, errors),
        Err(error) => Err(error.into()),
    }
}

/// What the form changes.
fn edit_of(detail: &EventDetail, form: &EditForm) -> Result<EventEdit, FieldError> {
    let was_type = detail.event.event_type.as_deref().unwrap_or_default();
    let event_type = Some(form.event_type.clone()).filter(|kind| kind != was_type);
    let was_headers = lines(&detail.headers);
    let headers = match form.headers.trim_end() == was_headers.trim_end() {
        true => None,
        false => Some(read_headers(&form.headers)?),
    };
    let is_unchanged = match form.shown.as_str() {
        "" => form.body.is_empty(),
        shown => hash(&form.body) == shown,
    };
    let (mut body, mut body_base64) = (None, None);
    if !is_unchanged {
        if form.encoding == "base64" {
            body_base64 = Some(form.body.split_whitespace().collect());
        } else if form.newlines == "crlf" {
            body = Some(form.body.replace('\n', "\r\n"));
        } else {
            body = Some(form.body.clone());
        }
    }
    Ok(EventEdit { event_type, headers, body, body_base64 })
}

/// The headers of a text with one on each line.
fn read_headers(text: &str) -> Result<Vec<GivenHeader>, FieldError> {
    let mut headers = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let Some((name, value)) = line.split_once(':') else {
            return Err(FieldError::new(
                "edit.headers",
                format!("the line \"{line}\" has no colon; write name: value"),
            ));
        };
        if value.trim() == HIDDEN {
            let text = format!(
                "the value of {name} is hidden and cannot be kept once the headers are changed; write a value, or remove \
                 the line"
            );
            return Err(FieldError::new("edit.headers", text));
        }
        headers.push(GivenHeader { name: name.trim().to_owned(), value: value.trim().to_owned() });
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_line_by_line_and_hidden_values_are_refused() {
        let read = read_headers("a: 1\n\nX-B:  2:3 \n").expect("headers");
        let pairs: Vec<_> = read.iter().map(|header| (header.name.as_str(), header.value.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("X-B", "2:3")]);
        assert!(read_headers("no colon").expect_err("refused").message.contains("no colon"));
        assert!(read_headers("authorization: (not shown)").expect_err("refused").message.contains("hidden"));
    }

    #[test]
    fn a_body_that_is_no_text_is_shown_in_base64_and_a_large_one_is_not_shown() {
        let mut form = EditForm::default();
        assert_eq!(fill(&mut form, b"a\r\nb"), None);
        assert_eq!((form.body.as_str(), form.newlines.as_str()), ("a\nb", "crlf"));
        let mut form = EditForm::default();
        assert_eq!(fill(&mut form, &[0xff, 0]), None);
        assert_eq!((form.body.as_str(), form.encoding.as_str()), ("/wA=", "base64"));
        let mut form = EditForm::default();
        assert!(fill(&mut form, &vec![b'a'; EDITED_BYTES + 1]).is_some());
        assert!(form.body.is_empty() && form.shown.is_empty());
    }
}
