//! The form of a new destination, and what its receiver needs once it is created.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::form::{SHOWN, Typed, written};
use crate::control::destinations::{self, Destination};
use crate::control::{Control, Outcome, Scope};
use crate::dashboard::commands::{Commands, single_quoted};
use crate::dashboard::failure::Failure;
use crate::dashboard::frame::{Frame, Section, page};
use crate::dashboard::link;
use crate::dashboard::notice::LATER;
use crate::dashboard::values::Values;
use crate::dashboard::view;
use crate::dashboard::viewer::Viewer;
use crate::dashboard::wrong::Wrong;
use model::retry_policy::STANDARD_SCHEDULE_S;

/// The form, for a new destination or for one that exists.
#[derive(Template)]
#[template(path = "dashboard/destination_form.html")]
pub(super) struct FormPage {
    pub(super) frame: Frame,
    pub(super) typed: Typed,
    pub(super) wrong: Wrong,
    /// The id, the name and the version of the destination that is edited; `None` for a new one.
    pub(super) edited: Option<Edited>,
    pub(super) commands: Commands,
}

pub(super) struct Edited {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: String,
}

impl FormPage {
    /// The page of the form where it posts to.
    fn action(&self) -> String {
        match &self.edited {
            Some(edited) => self.frame.to(&format!("/destinations/{}/edit", edited.id)),
            None => self.frame.to("/destinations/new"),
        }
    }

    /// What is wrong and has no field of its own.
    fn elsewhere(&self) -> Vec<String> {
        self.wrong.elsewhere(&SHOWN)
    }

    #[expect(clippy::unused_self, reason = "templates call it on the page")]
    fn standard(&self) -> String {
        written(STANDARD_SCHEDULE_S.map(u64::from))
    }

    /// Renders the page, with the status that says whether something is wrong.
    pub(super) fn render_page(&self) -> Response {
        let mut response = page(self);
        *response.status_mut() = self.wrong.status();
        response
    }
}

#[derive(Template)]
#[template(path = "dashboard/destination_created.html")]
struct CreatedPage {
    frame: Frame,
    destination: Destination,
    secret: String,
    is_later: bool,
}

/// The form.
pub(in crate::dashboard) async fn show(viewer: Viewer) -> Result<Response, Failure> {
    viewer.actor.require(Scope::Write)?;
    let parameter = |name| link::parameter(&viewer.uri, name);
    let typed = Typed::new(parameter("name"), parameter("url"));
    Ok(form(&viewer, typed, Wrong::default()).render_page())
}

fn form(viewer: &Viewer, typed: Typed, wrong: Wrong) -> FormPage {
    let frame = Frame::new(viewer, "Add a destination", Section::Destinations);
    let of = |text: &str, example: &str| if text.is_empty() { example.to_owned() } else { text.to_owned() };
    let (name, url) = (of(&typed.name, "billing"), of(&typed.url, "https://example.com/webhooks"));
    let body = serde_json::json!({ "name": name, "url": url }).to_string();
    let tidegate = format!("tidegate destination create {} --url {}", single_quoted(&name), single_quoted(&url));
    let commands = Commands::change(&frame, "POST", "/v1/destinations", &body, tidegate);
    FormPage { frame, typed, wrong, edited: None, commands }
}

/// Creates the destination, and shows its signing secret, which no later page shows without being asked.
pub(in crate::dashboard) async fn create(
    State(control): State<Control>,
    viewer: Viewer,
    filled: Values,
) -> Result<Response, Failure> {
    let typed = Typed::read(&filled);
    let mut wrong = Wrong::default();
    if filled.has("more_headers") {
        return Ok(form(&viewer, typed, wrong).render_page());
    }
    let Some(spec) = typed.spec(&mut wrong) else { return Ok(form(&viewer, typed, wrong).render_page()) };
    match destinations::create(&control, &viewer.actor, spec).await {
        Ok(saved) => {
            let is_later = matches!(saved.outcome, Outcome::Later);
            let mut destination = saved.value;
            let secret = destination.signing_secret.take().unwrap_or_default();
            let frame = Frame::new(&viewer, format!("{} is created", destination.name), Section::Destinations);
            let mut response = page(&CreatedPage { frame, destination, secret, is_later });
            *response.status_mut() = StatusCode::CREATED;
            Ok(response)
        }
        Err(error) => Ok(form(&viewer, typed, Wrong::of(error)?).render_page()),
    }
}
