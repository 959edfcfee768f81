//! How people sign in, without any secret.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::failure::Failure;
use super::super::frame::{Frame, page};
use super::super::view;
use super::super::viewer::Viewer;
use super::{Link, Tab, tab};
use crate::control::Control;
use crate::control::system::{self, SignIn};

#[derive(Template)]
#[template(path = "dashboard/settings_sign_in.html")]
struct SignInPage {
    frame: Frame,
    tabs: Vec<Link>,
    sign_in: SignIn,
}

/// The page.
pub(super) async fn show(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let sign_in = system::sign_in(&control, &viewer.actor)?;
    let (frame, tabs) = tab(&viewer, Tab::SignIn);
    Ok(page(&SignInPage { frame, tabs, sign_in }))
}
