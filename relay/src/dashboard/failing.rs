//! Pages that say why something was refused or has failed, and what to do next.

use askama::Template;
use axum::response::Response;
use http::StatusCode;

use super::failure::Failure;
use super::frame::{Frame, page};
use super::link::{self, CUSTOMER};
use super::{assets, view};
use crate::api::problem::{ApiError, Problem};

#[derive(Template)]
#[template(path = "dashboard/failure.html")]
struct FailurePage {
    frame: Frame,
    problem: Problem,
    advice: &'static str,
    /// The names of customers and the URL of the page for each, if the page needs one.
    customers: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "dashboard/failure_alone.html")]
struct FailureAlone {
    problem: Problem,
    theme: &'static str,
}

/// The page for what was refused or has failed, inside the frame of the viewer.
pub(super) fn render(failure: &Failure, frame: Frame) -> Response {
    failure.log();
    let problem = failure.problem();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let needs_customer = problem.errors.iter().any(|error| error.field == CUSTOMER);
    let title = if needs_customer { "Choose a customer".to_owned() } else { view::sentence(problem.title) };
    let customers = if needs_customer { customers(&frame) } else { Vec::new() };
    let frame = Frame { title, ..frame };
    let advice = advice(status);
    let mut response = page(&FailurePage { frame, problem, advice, customers });
    *response.status_mut() = status;
    response
}

/// The page of the frame for each customer.
fn customers(frame: &Frame) -> Vec<(String, String)> {
    let href = |name: &String| link::changed(&frame.viewer.uri, &[(CUSTOMER, Some(name.as_str())), ("cursor", None)]);
    frame.viewer.customers.iter().map(|name| (name.clone(), href(name))).collect()
}

/// What to do next.
fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => {
            "Look for it with the search box above: it takes the id of anything, and the provider's own ids. It may belong \
             to another customer, or be older than the retention."
        }
        StatusCode::FORBIDDEN => "Sign in with a token that has the scope, or ask someone who administers this relay.",
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            "Reload in a moment. Webhooks are still accepted: the edge queues them, and nothing is lost. GET /readyz says \
             which part does not work."
        }
        StatusCode::TOO_MANY_REQUESTS => "Reload in a moment.",
        _ if status.is_server_error() => "Reload in a moment. The log of the relay has the cause.",
        _ => "Go back, correct it, and send it again.",
    }
}

/// The page for a browser that has no session.
pub(super) fn without_frame(error: ApiError) -> Response {
    error.log();
    let problem = error.problem();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = page(&FailureAlone { problem, theme: "system" });
    *response.status_mut() = status;
    response
}
