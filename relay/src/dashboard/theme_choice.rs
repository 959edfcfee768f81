//! The form with which a viewer chooses the colours.

use axum::extract::Form;
use axum::response::Response;
use http::header::SET_COOKIE;
use serde::Deserialize;

use super::link::own_page;
use super::notice::Notice;
use super::theme::{self, Theme};
use super::viewer::Viewer;

#[derive(Debug, Deserialize)]
pub(super) struct Chosen {
    theme: Theme,
    #[serde(default)]
    return_to: String,
}

/// Keeps the choice of a theme.
pub(super) async fn choose(_: Viewer, Form(chosen): Form<Chosen>) -> Response {
    let mut response = Notice::done("The colours are changed.").on(own_page(&chosen.return_to));
    response.headers_mut().append(SET_COOKIE, theme::kept(chosen.theme));
    response
}
