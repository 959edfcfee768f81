//! Sending a sample event to a source.

use axum::extract::State;
use axum::response::Response;

use super::super::failure::Failure;
use super::super::link;
use super::super::notice::Notice;
use super::super::values::Values;
use super::super::viewer::Viewer;
use super::super::{ROOT, view};
use crate::api::input::Segment;
use crate::control::sources::{self, SampleAnswer};
use crate::control::{Control, Error};

/// Sends a sample and returns to the page that asked for it, where the event appears.
pub(in crate::dashboard) async fn send(
    State(control): State<Control>,
    viewer: Viewer,
    Segment(id): Segment,
    form: Values,
) -> Result<Response, Failure> {
    let back = form.text("return_to");
    let back = match link::is_own_page(back) {
        true => back.to_owned(),
        false => {
            link::with(&format!("{ROOT}/sources/{id}"), &[(super::super::viewer::CUSTOMER, viewer.customer.as_deref())])
        }
    };
    let notice = match sources::send_sample(&control, &viewer.actor, &id, form.get("type")).await {
        Ok(answer) => said(&answer),
        Err(Error::Edge(why)) => Notice::refused(view::sentence(&why)),
        Err(Error::Invalid(errors)) => {
            let texts: Vec<_> = errors.iter().map(|error| view::sentence(&error.message)).collect();
            Notice::refused(texts.join(" "))
        }
        Err(error) => return Err(error.into()),
    };
    Ok(notice.on(&back))
}

/// What the edge has answered, and what follows.
fn said(answer: &SampleAnswer) -> Notice {
    match (answer.status, &answer.event) {
        (200..=299, Some(_)) => Notice::done("The edge has accepted the sample. It appears here within seconds."),
        (200..=299, None) => {
            Notice::done("The edge has answered the sample. If it is an event, it appears here within seconds.")
        }
        (401, _) => {
            Notice::refused("The edge has rejected the sample. The cause appears under Rejections within seconds.")
        }
        (404, _) => {
            Notice::refused("The edge does not know this source yet. Wait until it is active there, and send it again.")
        }
        (429, _) => Notice::refused("The customer has sent more events than its limit allows. Send the sample later."),
        (status, _) => Notice::refused(format!("The edge has answered the sample with {status}.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_of_the_edge_says_what_follows() {
        let said = |status, event: Option<&str>| said(&SampleAnswer { status, event: event.map(str::to_owned) }).tone;
        assert_eq!((said(200, Some("evt_1")), said(204, None)), ("ok", "ok"));
        assert_eq!([401, 404, 429, 503].map(|status| said(status, None)), ["danger"; 4]);
    }
}
