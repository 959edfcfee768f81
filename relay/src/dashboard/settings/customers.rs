//! Customers: listed, created, edited, deleted, and chosen for the other pages.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;

use super::super::commands::{Commands, single_quoted};
use super::super::confirmation::{Asks, ConfirmPage};
use super::super::failure::Failure;
use super::super::frame::{Frame, page};
use super::super::link;
use super::super::notice::Notice;
use super::super::switcher;
use super::super::values::Values;
use super::super::view;
use super::super::viewer::Viewer;
use super::{Link, Tab, Wrong, of_deployment, tab, with_status};
use crate::control::customers::{self, Customer, CustomerPatch, CustomerSpec};
use crate::control::page::PageRequest;
use crate::control::saved::version;
use crate::control::{Control, Error, Outcome, Scope, system};

/// The fields that are numbers.
const NUMBERS: [&str; 4] = ["max_sources", "max_destinations", "max_events_per_minute", "body_retention_days"];

#[derive(Template)]
#[template(path = "dashboard/settings_customers.html")]
struct CustomersPage {
    frame: Frame,
    tabs: Vec<Link>,
    customers: Vec<Customer>,
    next: Option<String>,
    newest: Option<String>,
    commands: Commands,
}

/// The list.
pub(super) async fn list(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let cursor = link::parameter(&viewer.uri, "cursor");
    let newest_first = PageRequest { limit: None, cursor: cursor.clone() };
    let found = customers::list(&control, &viewer.actor, &newest_first).await?;
    let (frame, tabs) = tab(&viewer, Tab::Customers);
    let next = found.next_cursor.map(|cursor| link::changed(&viewer.uri, &[("cursor", Some(&cursor))]));
    let newest = cursor.map(|_| frame.without("cursor"));
    let commands = of_deployment("GET", "/v1/customers", "", "tidegate customer list");
    Ok(page(&CustomersPage { tabs, customers: found.data, next, newest, commands, frame }))
}

/// What was typed into the form of a customer.
#[derive(Debug, Default)]
struct Typed {
    name: String,
    /// In the order of [`NUMBERS`].
    numbers: [String; 4],
}

impl Typed {
    fn of(given: &Values) -> Self {
        let text = |name: &str| given.get(name).unwrap_or_default().to_owned();
        Self { name: text("name"), numbers: NUMBERS.map(text) }
    }

    fn of_customer(customer: &Customer) -> Self {
        let text = |value: Option<i64>| value.map_or_else(String::new, |value| value.to_string());
        Self {
            name: customer.name.clone(),
            numbers: [
                text(customer.max_sources.map(i64::from)),
                text(customer.max_destinations.map(i64::from)),
                text(customer.max_events_per_minute.map(i64::from)),
                text(customer.body_retention_days.map(i64::from)),
            ],
        }
    }

    /// The numbers; `None` where a field is empty.
    fn numbers(&self, wrong: &mut Wrong) -> [Option<i64>; 4] {
        let mut numbers = [None; 4];
        for ((number, text), field) in numbers.iter_mut().zip(&self.numbers).zip(NUMBERS) {
            match text.replace(',', "").parse() {
                _ if text.is_empty() => {}
                Ok(value) => *number = Some(value),
                Err(_) => wrong.add(field, "must be a whole number; leave it empty for no limit of its own"),
            }
        }
        numbers
    }
}

/// A field of the form that is a number.
struct Field<'p> {
    name: &'static str,
    label: &'static str,
    hint: String,
    value: &'p str,
    errors: Vec<&'p str>,
}

#[derive(Template)]
#[template(path = "dashboard/settings_customer.html")]
struct CustomerPage {
    frame: Frame,
    tabs: Vec<Link>,
    /// The customer as it is stored; `None` for a new one.
    stored: Option<Customer>,
    version: String,
    typed: Typed,
    wrong: Wrong,
    /// Whether the customer was changed after the form was opened.
    changed_meanwhile: bool,
    /// For how long bodies of the deployment are kept, in days.
    body_days: u16,
    action: String,
    commands: Commands,
}

impl CustomerPage {
    fn is_default(&self) -> bool {
        self.stored.as_ref().is_some_and(|customer| customer.name == customers::DEFAULT_NAME)
    }

    fn fields(&self) -> Vec<Field<'_>> {
        let labels =
            ["Sources at most", "Destinations at most", "Events a minute at most", "Days for which bodies are kept"];
        let hints = [
            "Empty: no limit.".to_owned(),
            "Empty: no limit.".to_owned(),
            "Empty: no limit. Over it the edge answers 429 until the excess is made up for.".to_owned(),
            format!("From 1 to {}. Empty: {}, as for the deployment.", self.body_days, self.body_days),
        ];
        let fields = NUMBERS.into_iter().zip(labels).zip(hints).zip(&self.typed.numbers);
        fields
            .map(|(((name, label), hint), value)| Field { name, label, hint, value, errors: self.wrong.with(name) })
            .collect()
    }

    /// The settings as they are stored, for someone whose form is older.
    fn stored_settings(&self) -> Vec<(&'static str, String)> {
        let Some(customer) = &self.stored else { return Vec::new() };
        let Typed { name, numbers } = Typed::of_customer(customer);
        let shown = |text: String| if text.is_empty() { "none".to_owned() } else { text };
        let numbers = NUMBERS.into_iter().zip(numbers).map(|(name, value)| (name, shown(value)));
        std::iter::once(("name", name)).chain(numbers).collect()
    }
}

fn form(
    control: &Control,
    viewer: &Viewer,
    stored: Option<Customer>,
    typed: Typed,
    wrong: Wrong,
    changed_meanwhile: bool,
) -> Result<Response, Failure> {
    let body_days = system::retention(control, &viewer.actor).map_or(0, |retention| retention.body_days);
    let (mut frame, tabs) = tab(viewer, Tab::Customers);
    let (title, path, commands) = match &stored {
        None => {
            let body = "{\"name\": \"acme\"}";
            let commands = of_deployment("POST", "/v1/customers", body, "tidegate customer create acme");
            ("New customer".to_owned(), "/settings/customers/new".to_owned(), commands)
        }
        Some(customer) => {
            let call = format!("/v1/customers/{}", customer.id);
            let body = "{\"max_sources\": 10}";
            let command = format!("tidegate customer set {} --max-sources 10", single_quoted(&customer.name));
            let commands = of_deployment("PATCH", &call, body, command);
            (format!("Customer {}", customer.name), format!("/settings/customers/{}", customer.id), commands)
        }
    };
    frame.title = title;
    let version = stored.as_ref().map_or_else(String::new, |customer| version(customer.updated_at.0));
    let action = frame.to(&path);
    Ok(page(&CustomerPage {
        frame,
        tabs,
        stored,
        version,
        typed,
        wrong,
        changed_meanwhile,
        body_days,
        action,
        commands,
    }))
}

/// The form of a new customer.
pub(super) async fn new(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    viewer.actor.require(Scope::Admin)?;
    viewer.actor.require_unbound()?;
    form(&control, &viewer, None, Typed::default(), Wrong::default(), false)
}

/// Creates a customer.
pub(super) async fn create(
    State(control): State<Control>,
    State(names): State<Arc<switcher::Customers>>,
    viewer: Viewer,
    given: Values,
) -> Result<Response, Failure> {
    viewer.actor.require(Scope::Admin)?;
    let typed = Typed::of(&given);
    let mut wrong = Wrong::default();
    let [max_sources, max_destinations, max_events_per_minute, body_retention_days] = typed.numbers(&mut wrong);
    if !wrong.is_empty() {
        let response = form(&control, &viewer, None, typed, wrong, false)?;
        return Ok(with_status(response, StatusCode::UNPROCESSABLE_ENTITY));
    }
    let name = Some(typed.name.clone());
    let spec = CustomerSpec { name, max_sources, max_destinations, max_events_per_minute, body_retention_days };
    match customers::create(&control, &viewer.actor, spec).await {
        Ok(saved) => {
            names.forget();
            let (frame, _) = tab(&viewer, Tab::Customers);
            let text =
                format!("The customer {} is created. Choose it in the navigation to work for it.", saved.value.name);
            Ok(Notice::done(text).on(&frame.to(Tab::Customers.path())))
        }
        Err(error) => {
            let (status, wrong) = Wrong::of(error, "name")?;
            Ok(with_status(form(&control, &viewer, None, typed, wrong, false)?, status))
        }
    }
}

/// The form of a customer.
pub(super) async fn edit(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let customer = customers::show(&control, &viewer.actor, &id).await?;
    let typed = Typed::of_customer(&customer);
    form(&control, &viewer, Some(customer), typed, Wrong::default(), false)
}

/// Changes a customer.
pub(super) async fn change(
    State(control): State<Control>,
    State(names): State<Arc<switcher::Customers>>,
    viewer: Viewer,
    Path(id): Path<String>,
    given: Values,
) -> Result<Response, Failure> {
    let stored = customers::show(&control, &viewer.actor, &id).await?;
    let typed = Typed::of(&given);
    let mut wrong = Wrong::default();
    let [max_sources, max_destinations, max_events_per_minute, body_retention_days] = typed.numbers(&mut wrong);
    if !wrong.is_empty() {
        let response = form(&control, &viewer, Some(stored), typed, wrong, false)?;
        return Ok(with_status(response, StatusCode::UNPROCESSABLE_ENTITY));
    }
    let patch = CustomerPatch {
        name: Some(typed.name.clone()).filter(|_| stored.name != customers::DEFAULT_NAME),
        max_sources: Some(max_sources),
        max_destinations: Some(max_destinations),
        max_events_per_minute: Some(max_events_per_minute),
        body_retention_days: Some(body_retention_days),
    };
    match customers::change(&control, &viewer.actor, &id, patch, &given.precondition()).await {
        Ok(saved) => {
            names.forget();
            let frame = Frame::new(&viewer, "Customers", None);
            // The page may be shown for the customer by the name that it had.
            let renamed = viewer.customer.as_deref() == Some(stored.name.as_str());
            let page = match renamed {
                true => {
                    view::of_customer(&format!("{}{}", super::super::ROOT, Tab::Customers.path()), &saved.value.name)
                }
                false => frame.to(Tab::Customers.path()),
            };
            let name = &saved.value.name;
            let notice = match saved.outcome {
                Outcome::Later => Notice::partly(format!(
                    "The customer {name} is saved, and not active everywhere yet. The relay makes it active by itself."
                )),
                Outcome::Updated | Outcome::Created => Notice::done(format!("The customer {name} is saved.")),
            };
            Ok(notice.on(&page))
        }
        Err(Error::Changed { exists: true }) => {
            let stored = customers::show(&control, &viewer.actor, &id).await?;
            let response = form(&control, &viewer, Some(stored), typed, Wrong::default(), true)?;
            Ok(with_status(response, StatusCode::PRECONDITION_FAILED))
        }
        Err(error) => {
            let (status, wrong) = Wrong::of(error, "name")?;
            Ok(with_status(form(&control, &viewer, Some(stored), typed, wrong, false)?, status))
        }
    }
}

async fn confirmation(control: &Control, viewer: &Viewer, id: &str) -> Result<(Customer, ConfirmPage), Failure> {
    let customer = customers::show(control, &viewer.actor, id).await?;
    let owned = customers::owned(control, &viewer.actor, customer.id)?;
    let (mut frame, _) = tab(viewer, Tab::Customers);
    frame.title = format!("Delete the customer {}", customer.name);
    let effects = vec![
        format!(
            "{}, {} and {} stop at once: the edge refuses its webhooks, and nothing is sent any more.",
            view::count(owned.sources, "source", "sources"),
            view::count(owned.destinations, "destination", "destinations"),
            view::count(owned.routes, "route", "routes")
        ),
        "Its tokens and sessions are not accepted any more.".to_owned(),
        "An operation in the background cancels its pending deliveries and deletes its events, bodies and counts. The \
         audit log keeps who did it."
            .to_owned(),
        "This cannot be undone.".to_owned(),
    ];
    let action = format!("/settings/customers/{}/delete", customer.id);
    let confirmation = ConfirmPage {
        asks: Asks::Name(customer.name.clone()),
        is_dangerous: true,
        keep: "Keep it",
        version: Some(version(customer.updated_at.0)),
        ..ConfirmPage::new(frame, &action, Tab::Customers.path(), "Delete the customer", effects)
    };
    Ok((customer, confirmation))
}

/// Says what the deletion of a customer does.
pub(super) async fn confirm(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let (_, confirmation) = confirmation(&control, &viewer, &id).await?;
    Ok(confirmation.render_page())
}

/// Deletes a customer, if its name was typed.
pub(super) async fn delete(
    State(control): State<Control>,
    State(names): State<Arc<switcher::Customers>>,
    viewer: Viewer,
    Path(id): Path<String>,
    given: Values,
) -> Result<Response, Failure> {
    let (customer, mut confirmation) = confirmation(&control, &viewer, &id).await?;
    let mut refused = |field: &str, error: &str, status| {
        confirmation.wrong.add(field, error);
        Ok(with_status(confirmation.render_page(), status))
    };
    if given.get("typed") != Some(customer.name.as_str()) {
        return refused("typed", &format!("Type {} to confirm.", customer.name), StatusCode::UNPROCESSABLE_ENTITY);
    }
    match customers::delete(&control, &viewer.actor, &id, &given.precondition()).await {
        Ok(operation) => {
            names.forget();
            let frame = Frame::new(&viewer, "Customers", None);
            let is_shown =
                [customer.name.as_str(), &customer.id.to_string()].contains(&frame.customer().unwrap_or_default());
            let page = match is_shown {
                true => format!("{}{}", super::super::ROOT, Tab::Customers.path()),
                false => frame.to(Tab::Customers.path()),
            };
            let text = format!(
                "The customer {} is deleted. The operation {} deletes what it owned.",
                customer.name, operation.id
            );
            Ok(Notice::partly(text).on(&page))
        }
        Err(Error::Changed { exists: true }) => {
            let text = "The customer was changed after this page was opened. Read it again, then confirm.";
            refused("", text, StatusCode::PRECONDITION_FAILED)
        }
        Err(error @ Error::Conflict(_)) => {
            let (status, wrong) = Wrong::of(error, "typed")?;
            refused("typed", &wrong.with("typed").join("; "), status)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_number_is_no_limit_and_a_text_is_refused_where_it_was_typed() {
        let numbers = ["", "1,000", "many", "7"].map(str::to_owned);
        let typed = Typed { name: "acme".to_owned(), numbers };
        let mut wrong = Wrong::default();
        assert_eq!(typed.numbers(&mut wrong), [None, Some(1_000), None, Some(7)]);
        assert_eq!(wrong.with("max_events_per_minute").len(), 1);
        assert!(wrong.with("max_sources").is_empty());
    }
}
