//! Unreadable messages: the list, one, and trying again.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;

use crate::control::page::PageRequest;
use crate::control::time::Timestamp;
use crate::control::unreadable::{self, Reason, ReleaseOfMany, UnreadableFilter, UnreadableMessage, UnreadableState};
use crate::control::{Control, fields};
use crate::dashboard::commands::Commands;
use crate::dashboard::failure::Failure;
use crate::dashboard::filter::{self, Chip};
use crate::dashboard::frame::{Frame, Section, page};
use crate::dashboard::notice::Notice;
use crate::dashboard::operations::known;
use crate::dashboard::values::Values;
use crate::dashboard::viewer::Viewer;
use crate::dashboard::{answer, link, view};

/// The query parameters that are filters.
const FILTERS: [(&str, &str); 2] = [("reason", "Reason"), ("state", "State")];

const STATES: [&str; 2] = ["waiting", "released"];

#[derive(Template)]
#[template(path = "dashboard/messages.html")]
struct MessagesPage {
    frame: Frame,
    given: Values,
    chips: Vec<Chip>,
    messages: Vec<UnreadableMessage>,
    next: Option<String>,
    newest: Option<String>,
    scanned_until: Option<Timestamp>,
    commands: Commands,
}

impl MessagesPage {
    fn value(&self, name: &str) -> &str {
        self.given.get(name).unwrap_or_default()
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.value(name) == value
    }
}

#[derive(Template)]
#[template(path = "dashboard/message.html")]
struct MessagePage {
    frame: Frame,
    message: UnreadableMessage,
    advice: &'static str,
    commands: Commands,
}

fn state(of: &UnreadableState) -> view::Markup {
    match of {
        UnreadableState::Waiting => view::badge(view::Tone::Warn, "Waiting"),
        UnreadableState::Released => view::badge(view::Tone::Ok, "Released"),
    }
}

/// What to do about a message.
const fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::NotDecodable | Reason::AnswerNotReadable | Reason::LeasedTooOften => {
            "Download the message and look at its first line. A message that no edge has written can be left: it is \
             deleted with the retention."
        }
        Reason::UnknownVersion => "Update the relay to the version of the edge, then try it again.",
        Reason::BodyMissing => "Check that the relay can read the bucket of the edge, then try it again.",
        Reason::SecretNotOpenable => "Give the relay the key of the edge, then try it again.",
        Reason::UnknownSource => {
            "If the source was deleted by mistake, create it again with the same id, then try it again."
        }
        Reason::ImplausibleTime => "Check the clocks of the edge and the relay, then try it again.",
        Reason::PastRetention => {
            "Its event is too old to be delivered. Releasing it stores the event without deliveries."
        }
        Reason::RefusedByDatabase => "The detail names the value. Report it: the relay should have stored it.",
    }
}

/// The list.
pub(in crate::dashboard) async fn list(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let given = Values::of(&viewer.uri)?;
    let reasons = Reason::ALL.map(Reason::name).join(", ");
    let state = |name: &str| match name {
        "waiting" => Some(UnreadableState::Waiting),
        "released" => Some(UnreadableState::Released),
        _ => None,
    };
    let wanted = UnreadableFilter {
        reason: known(&given, "reason", Reason::from_name, &reasons)?,
        state: known(&given, "state", state, &STATES.join(", "))?,
    };
    let window = PageRequest { limit: None, cursor: given.get("cursor").map(str::to_owned) };
    let found = unreadable::list(&control, &viewer.actor, &wanted, &window).await?;
    let frame = Frame::new(&viewer, "Unreadable messages", Section::Quarantine);
    let call = link::with("/v1/unreadable-messages", &[("reason", given.get("reason")), ("state", given.get("state"))]);
    Ok(page(&MessagesPage {
        chips: filter::chips(&frame, &given, &FILTERS),
        messages: found.data,
        next: found.next_cursor.map(|cursor| link::changed(&viewer.uri, &[("cursor", Some(&cursor))])),
        newest: given.get("cursor").map(|_| frame.without("cursor")),
        scanned_until: found.scanned_until,
        commands: Commands::read(&frame, &call, ""),
        given,
        frame,
    }))
}

/// One message.
pub(in crate::dashboard) async fn show(
    State(control): State<Control>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let message = unreadable::show(&control, &viewer.actor, &id).await?;
    let frame = Frame::new(&viewer, "Unreadable message", Section::Quarantine);
    Ok(page(&MessagePage {
        advice: advice(message.reason),
        commands: Commands::change(&frame, "POST", &format!("/v1/unreadable-messages/{}/release", message.id), "", ""),
        frame,
        message,
    }))
}

/// Tries a message again.
pub(in crate::dashboard) async fn release(
    State(control): State<Control>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Result<Response, Failure> {
    let released = unreadable::release(&control, &viewer.actor, &id).await;
    let path = format!("/quarantine/messages/{id}");
    answer::on(&viewer, &path, released, |_| Notice::done("The content of the message is stored now."))
}

/// Tries all messages of a reason again, in the background.
pub(in crate::dashboard) async fn release_many(
    State(control): State<Control>,
    viewer: Viewer,
    given: Values,
) -> Result<Response, Failure> {
    let request: ReleaseOfMany = fields::read(serde_json::Value::Object(given.object(&["reason"])))?;
    let reason = request.reason.name();
    let begun = unreadable::release_many(&control, &viewer.actor, &request).await;
    answer::on(&viewer, &format!("/quarantine/messages?reason={reason}"), begun, |begun| match begun.messages {
        0 => Notice::partly("No message with this reason waits."),
        messages => Notice::done(format!(
            "{} tried again in the background. Reload to see what became of them.",
            if messages == 1 { "1 message is".to_owned() } else { format!("{} messages are", view::number(messages)) }
        )),
    })
}
