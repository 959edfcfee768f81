//! Settings: tokens, customers, sessions, the audit log, the sign-in and the retention, each in a tab with a URL.

use axum::Router;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use http::StatusCode;

use super::Dashboard;
use super::commands::{Commands, single_quoted};
use super::failure::{self, Failure};
use super::frame::{Frame, Section};
use super::viewer::Viewer;
use crate::api::problem::ApiError;
use crate::control::field_error::FieldError;
use crate::control::{self, Scope};

pub(crate) mod audit;
mod customers;
mod retention;
mod sessions;
mod sign_in;
mod tokens;

/// The tabs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tab {
    Tokens,
    Customers,
    Sessions,
    Audit,
    SignIn,
    Retention,
}

impl Tab {
    const ALL: [Self; 6] = [Self::Tokens, Self::Customers, Self::Sessions, Self::Audit, Self::SignIn, Self::Retention];

    const fn name(self) -> &'static str {
        match self {
            Self::Tokens => "Tokens",
            Self::Customers => "Customers",
            Self::Sessions => "Sessions",
            Self::Audit => "Audit log",
            Self::SignIn => "Sign-in",
            Self::Retention => "Retention",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Tokens => "/settings/tokens",
            Self::Customers => "/settings/customers",
            Self::Sessions => "/settings/sessions",
            Self::Audit => "/settings/audit",
            Self::SignIn => "/settings/sign-in",
            Self::Retention => "/settings/retention",
        }
    }

    /// Whether the viewer may see it. Sessions are at least those of the viewer.
    fn is_for(self, viewer: &Viewer) -> bool {
        match self {
            Self::Tokens | Self::Customers | Self::SignIn => viewer.may_of_deployment(Scope::Admin),
            Self::Audit => viewer.may_of_deployment(Scope::Read),
            Self::Retention => viewer.may(Scope::Read),
            Self::Sessions => true,
        }
    }
}

/// A tab of the page.
#[derive(Debug)]
struct Link {
    name: &'static str,
    href: String,
    is_current: bool,
}

/// The frame of a tab and the links to the tabs that the viewer may see.
fn tab(viewer: &Viewer, tab: Tab) -> (Frame, Vec<Link>) {
    let frame = Frame::new(viewer, tab.name(), Section::Settings);
    let link = |other: &Tab| Link { name: other.name(), href: frame.to(other.path()), is_current: *other == tab };
    let links = Tab::ALL.iter().filter(|other| other.is_for(viewer)).map(link).collect();
    (frame, links)
}

/// The pages.
pub(super) fn routes() -> Router<Dashboard> {
    Router::new()
        .route("/dashboard/settings", get(first))
        .route("/dashboard/settings/tokens", get(tokens::list))
        .route("/dashboard/settings/tokens/new", get(tokens::new).post(tokens::create))
        .route("/dashboard/settings/tokens/{id}/revoke", get(tokens::confirm).post(tokens::revoke))
        .route("/dashboard/settings/customers", get(customers::list))
        .route("/dashboard/settings/customers/new", get(customers::new).post(customers::create))
        .route("/dashboard/settings/customers/{id}", get(customers::edit).post(customers::change))
        .route("/dashboard/settings/customers/{id}/delete", get(customers::confirm).post(customers::delete))
        .route("/dashboard/settings/sessions", get(sessions::list))
        .route("/dashboard/settings/sessions/end", get(sessions::confirm).post(sessions::end_all))
        .route("/dashboard/settings/sessions/{id}/end", get(failure::not_found).post(sessions::end))
        .route("/dashboard/settings/audit", get(audit::list))
        .route("/dashboard/settings/sign-in", get(sign_in::show))
        .route("/dashboard/settings/retention", get(retention::show))
}

/// Leads to the first tab that the viewer may see.
async fn first(viewer: Viewer) -> Response {
    let first = Tab::ALL.into_iter().find(|tab| tab.is_for(&viewer)).unwrap_or(Tab::Sessions);
    Redirect::to(&viewer.to(first.path())).into_response()
}

/// The errors of the fields of a form.
#[derive(Debug, Default)]
struct Wrong(Vec<FieldError>);

impl Wrong {
    /// Takes the errors of the fields and of what conflicts with what is stored. Other errors are pages of their own.
    fn of(error: control::Error, conflict_field: &str) -> Result<(StatusCode, Self), Failure> {
        if let control::Error::Invalid(errors) = error {
            return Ok((StatusCode::UNPROCESSABLE_ENTITY, Self(errors)));
        }
        if !matches!(error, control::Error::Conflict(_)) {
            return Err(error.into());
        }
        let problem = ApiError::from(error).problem();
        Ok((StatusCode::CONFLICT, Self(vec![FieldError::new(conflict_field, problem.detail)])))
    }

    /// What is wrong with a field; empty if nothing is.
    fn with(&self, field: &str) -> Vec<&str> {
        let found = self.0.iter().filter(|error| error.field == field || error.field.starts_with(&format!("{field}[")));
        found.map(|error| error.message.as_str()).collect()
    }

    fn add(&mut self, field: &str, message: &str) {
        self.0.push(FieldError::new(field, message));
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A call about what belongs to no customer: such calls refuse the parameter that names one. `path` is percent-encoded.
fn of_deployment(method: &str, path: &str, body: &str, command: impl Into<String>) -> Commands {
    let method = if method == "GET" { String::new() } else { format!("-X {method} ") };
    let data = if body.is_empty() { String::new() } else { format!(" -d {}", single_quoted(body)) };
    let curl = format!("curl {method}-H \"Authorization: Bearer $TIDEGATE_ADMIN_TOKEN\" \"$TIDEGATE_URL{path}\"{data}");
    Commands { curl, command: command.into() }
}

/// A page with another status than 200.
fn with_status(mut response: Response, status: StatusCode) -> Response {
    *response.status_mut() = status;
    response
}
