//! A page that says what a dangerous action will do, before it is done.

use askama::Template;

use super::super::frame::Frame;
use super::super::view;

#[derive(Template)]
#[template(path = "dashboard/settings_confirm.html")]
pub(super) struct Confirmation {
    pub(super) frame: Frame,
    /// What will happen, one sentence each.
    pub(super) effects: Vec<String>,
    /// The path of the form, and of the page to go back to, with their customer.
    pub(super) action: String,
    pub(super) back: String,
    /// What the button says.
    pub(super) button: &'static str,
    /// A name that must be typed; empty if nothing has to be.
    pub(super) typed: String,
    /// What is wrong with what was typed.
    pub(super) error: Option<String>,
    /// The version of the object that is shown; empty if it has none.
    pub(super) version: String,
}
