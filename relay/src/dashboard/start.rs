//! The first run: from a provider to the first event that is delivered, on one page. What exists is ticked, so the page
//! can be left and resumed.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;

use super::event_rows::EventRow;
use super::failure::{self, Failure};
use super::field::{self, Field, Input};
use super::frame::{Frame, Section, page};
use super::notice::Notice;
use super::sources::choose::Choice;
use super::sources::create::{self, SourceForm};
use super::sources::one::{self, Refused};
use super::sources::steps::{self, Step};
use super::values::Values;
use super::view::{self, Markup};
use super::viewer::Viewer;
use super::{Dashboard, link, sources as pages};
use crate::control::deliveries::{self, Delivery, DeliveryFilter};
use crate::control::destinations::{self, DestinationSpec};
use crate::control::page::PageRequest;
use crate::control::providers::Provider;
use crate::control::routes::{self, Route, RouteFilter, RouteSpec};
use crate::control::sources::{self, Samples, Source};
use crate::control::{Actor, Control, Error, names, providers};

const PATH: &str = "/start";

/// The name that is suggested for the destination.
const DESTINATION: &str = "my-app";

const EVENTS_SHOWN: u32 = 5;
const REJECTIONS_SHOWN: u32 = 3;
const DELIVERIES_SHOWN: u32 = 5;

/// The pages of the first run.
pub(super) fn routes() -> Router<Dashboard> {
    Router::new().route("/dashboard/start", get(show).post(act))
}

/// How far the set-up is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Source,
    Destination,
    Route,
    Event,
    Done,
}

impl Stage {
    const fn of(has_source: bool, has_destination: bool, has_route: bool, has_event: bool) -> Self {
        match (has_source, has_destination, has_route, has_event) {
            (false, ..) => Self::Source,
            (true, _, true, true) => Self::Done,
            (true, _, true, false) => Self::Event,
            (true, true, false, _) => Self::Route,
            (true, false, false, _) => Self::Destination,
        }
    }
}

/// What was set up, with what is known of it.
struct Chosen {
    source: Source,
    edge: Markup,
    provider: Option<Provider>,
    steps: Vec<Step>,
    route: Option<Route>,
    events: Vec<EventRow>,
    /// The deliveries of the newest event.
    deliveries: Vec<Delivery>,
    rejections: Vec<Refused>,
    samples: Samples,
}

#[derive(Template)]
#[template(path = "dashboard/start.html")]
struct StartPage {
    frame: Frame,
    chosen: Option<Chosen>,
    /// The providers, as long as none is chosen.
    choice: Option<Choice>,
    /// The form of the source, once a provider is chosen.
    form: Option<SourceForm>,
    /// The destinations that a route can lead to.
    existing: Vec<(String, String)>,
    name: Field,
    url: Field,
    errors: Vec<String>,
    stage: Stage,
}

impl StartPage {
    /// Whether a part of the set-up is done.
    fn has(&self, stage: u8) -> bool {
        let reached = [Stage::Source, Stage::Destination, Stage::Route, Stage::Event];
        reached.get(usize::from(stage)).is_some_and(|reached| self.stage > *reached)
    }

    fn is_next(&self, stage: u8) -> bool {
        let of = [Stage::Source, Stage::Destination, Stage::Route, Stage::Event];
        of.get(usize::from(stage)).is_some_and(|of| self.stage == *of)
    }

    /// The URL of the page for a source that the viewer has not begun to set up.
    fn another(&self) -> String {
        link::with(&self.frame.to(PATH), &[("another", Some("1"))])
    }

    /// The page of what is shown: its forms post to it.
    fn here(&self) -> String {
        match (&self.chosen, &self.form) {
            (Some(chosen), _) => at(&self.frame, &chosen.source),
            (None, Some(form)) => link::with(&self.frame.to(PATH), &[("provider", Some(form.provider.id))]),
            (None, None) => self.frame.to(PATH),
        }
    }

    fn everything_is_set(&self) -> bool {
        self.stage >= Stage::Event
    }
}

/// The page of a source.
fn at(frame: &Frame, source: &Source) -> String {
    link::with(&frame.to(PATH), &[("source", Some(&source.id.to_string()))])
}

/// Reads what exists: of the source with this id or name, or of the newest one.
async fn read(control: &Control, viewer: &Viewer, named: Option<&str>) -> Result<StartPage, Error> {
    let frame = Frame::new(viewer, "Set up", Section::Sources);
    let (actor, parameter) = (&viewer.actor, |name| link::parameter(&viewer.uri, name));
    let provider = parameter("provider");
    let wants_another =
        named.is_none() && (provider.is_some() || parameter("q").is_some() || parameter("another").is_some());
    let source = match named {
        Some(named) => Some(sources::show(control, actor, named).await?),
        None if wants_another => None,
        None => sources::list(control, actor, &first()).await?.data.into_iter().next(),
    };
    let form = match (&source, provider) {
        (None, Some(provider)) => Some(SourceForm::new(control, actor, &provider)?),
        _ => None,
    };
    let choice = match (&source, &form) {
        (None, None) => Some(Choice::of(viewer, PATH)?),
        _ => None,
    };
    let existing = names::names(control, actor)?.destinations;
    let taken: Vec<&str> = existing.iter().map(|(_, name)| name.as_str()).collect();
    let chosen = match source {
        Some(source) => Some(chosen(control, actor, source).await?),
        None => None,
    };
    let stage = Stage::of(
        chosen.is_some(),
        !existing.is_empty(),
        chosen.as_ref().is_some_and(|chosen| chosen.route.is_some()),
        chosen.as_ref().is_some_and(|chosen| !chosen.events.is_empty()),
    );
    Ok(StartPage {
        name: Field::new("name", "Name", "1 to 64 characters: a–z, 0–9, - and _.", Input::Text)
            .required(true)
            .with(free(DESTINATION, &taken)),
        url: Field::new(
            "url",
            "URL of your application",
            "Such as https://app.example.com/webhooks. Tidegate posts each event to it, with its own signature.",
            Input::Text,
        )
        .required(true),
        existing: existing.into_iter().map(|(id, name)| (id.to_string(), name)).collect(),
        errors: Vec::new(),
        frame,
        chosen,
        choice,
        form,
        stage,
    })
}

/// The newest object alone.
fn first() -> PageRequest {
    PageRequest { limit: Some(1), cursor: None }
}

fn free(name: &str, taken: &[&str]) -> String {
    let is_free = |name: &String| !taken.contains(&name.as_str());
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
}

async fn chosen(control: &Control, actor: &Actor, source: Source) -> Result<Chosen, Error> {
    let of_source = RouteFilter { source: Some(source.id.to_string()), ..RouteFilter::default() };
    let route = routes::list(control, actor, &of_source, &first()).await?.data.into_iter().next();
    let events = one::last_events(control, actor, &source, EVENTS_SHOWN).await?;
    let deliveries = match events.first() {
        Some(row) => {
            let filter = DeliveryFilter { event: Some(row.event.id.to_string()), ..DeliveryFilter::default() };
            let window = PageRequest { limit: Some(DELIVERIES_SHOWN), cursor: None };
            deliveries::list(control, actor, filter, &window).await?.data
        }
        None => Vec::new(),
    };
    let provider = providers::show(actor, &source.provider).ok();
    Ok(Chosen {
        steps: provider.as_ref().map(|provider| steps::of(provider, &source, !events.is_empty())).unwrap_or_default(),
        rejections: one::last_rejections(control, actor, &source, REJECTIONS_SHOWN).await?,
        samples: one::samples(actor, &source)?,
        edge: pages::edge(source.edge),
        source,
        provider,
        route,
        events,
        deliveries,
    })
}

/// The page.
async fn show(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let named = link::parameter(&viewer.uri, "source");
    Ok(page(&read(&control, &viewer, named.as_deref()).await?))
}

fn refused(shown: &StartPage) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, page(shown)).into_response()
}

/// Does what one of the forms of the page asks for.
async fn act(State(control): State<Control>, viewer: Viewer, posted: Values) -> Result<Response, Failure> {
    match posted.text("do") {
        "source" => add_source(&control, &viewer, &posted).await,
        "destination" => add_destination(&control, &viewer, &posted).await,
        "route" => add_route(&control, &viewer, &posted).await,
        _ => Err(failure::not_found().await),
    }
}

/// Makes the source.
async fn add_source(control: &Control, viewer: &Viewer, posted: &Values) -> Result<Response, Failure> {
    let mut form = SourceForm::new(control, &viewer.actor, posted.text("provider"))?;
    if let Some(saved) = form.create(control, &viewer.actor, posted).await? {
        let frame = Frame::new(viewer, "", None);
        return Ok(create::created(&saved).on(&at(&frame, &saved.value)));
    }
    let mut shown = read(control, viewer, None).await?;
    (shown.chosen, shown.choice, shown.form, shown.stage) = (None, None, Some(form), Stage::Source);
    Ok(refused(&shown))
}

/// Makes the destination, and the route to it.
async fn add_destination(control: &Control, viewer: &Viewer, posted: &Values) -> Result<Response, Failure> {
    let mut shown = read(control, viewer, Some(posted.text("source"))).await?;
    let Some(chosen) = &shown.chosen else { return Ok(refused(&shown)) };
    let back = at(&shown.frame, &chosen.source);
    for field in [&mut shown.name, &mut shown.url] {
        field.typed(posted);
    }
    let spec = DestinationSpec {
        name: Some(shown.name.value.clone()).filter(|name| !name.is_empty()),
        url: shown.url.value.clone(),
        rate_limit: None,
        max_concurrency: None,
        timeout_ms: None,
        retry: None,
        append_query: None,
        headers: None,
        signing_secret: None,
    };
    match destinations::create(control, &viewer.actor, spec).await {
        Ok(saved) => {
            let source = chosen.source.id.to_string();
            let joined = join(control, &viewer.actor, &source, &saved.value.id.to_string()).await;
            let name = saved.value.name;
            Ok(match joined {
                Ok(()) => Notice::done(format!("Events now go to {name}.")),
                Err(why) => {
                    Notice::partly(format!("The destination {name} is saved, and the route to it is not: {why}"))
                }
            }
            .on(&back))
        }
        Err(error) => {
            let errors = field::shown(error, "name")?;
            shown.errors = field::place(errors, [&mut shown.name, &mut shown.url]);
            Ok(refused(&shown))
        }
    }
}

/// Makes the route to a destination that exists.
async fn add_route(control: &Control, viewer: &Viewer, posted: &Values) -> Result<Response, Failure> {
    let frame = Frame::new(viewer, "", None);
    let source = sources::show(control, &viewer.actor, posted.text("source")).await?;
    let joined = join(control, &viewer.actor, &source.id.to_string(), posted.text("destination")).await;
    Ok(match joined {
        Ok(()) => Notice::done("The route is made: events of this source now go there."),
        Err(why) => Notice::refused(why),
    }
    .on(&at(&frame, &source)))
}

/// Makes a route that every event takes. Returns why it could not be made.
async fn join(control: &Control, actor: &Actor, source: &str, destination: &str) -> Result<(), String> {
    let spec = RouteSpec {
        name: None,
        source: Some(source.to_owned()),
        destination: Some(destination.to_owned()),
        types: None,
        filter: None,
        transform: None,
        order_key: None,
        poison: None,
        enabled: None,
    };
    match routes::create(control, actor, spec).await {
        Ok(_) => Ok(()),
        Err(Error::Invalid(errors)) => {
            Err(errors.iter().map(|error| view::sentence(&error.message)).collect::<Vec<_>>().join(" "))
        }
        Err(error) => Err(view::sentence(&error.detail())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_step_is_the_first_that_is_missing() {
        for (exists, stage) in [
            ((false, true, true, true), Stage::Source),
            ((true, false, false, false), Stage::Destination),
            ((true, true, false, true), Stage::Route),
            ((true, true, true, false), Stage::Event),
            ((true, true, true, true), Stage::Done),
        ] {
            let (source, destination, route, event) = exists;
            assert_eq!(Stage::of(source, destination, route, event), stage, "{exists:?}");
        }
        assert_eq!(free("my-app", &["my-app", "my-app-2"]), "my-app-3");
    }
}
