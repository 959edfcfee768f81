//! A page that asks before something that cannot be undone.

use askama::Template;
use axum::response::Response;

use crate::dashboard::frame::{Frame, Section, page};
use crate::dashboard::view;
use crate::dashboard::viewer::Viewer;

/// What the page asks. Paths are below the dashboard.
pub(in crate::dashboard) struct Confirm {
    pub(in crate::dashboard) title: String,
    pub(in crate::dashboard) section: Section,
    /// What will happen.
    pub(in crate::dashboard) texts: Vec<String>,
    /// Where the form is sent to.
    pub(in crate::dashboard) action: String,
    pub(in crate::dashboard) label: &'static str,
    pub(in crate::dashboard) back: String,
    /// The label of the link that leads back.
    pub(in crate::dashboard) keep: &'static str,
}

#[derive(Template)]
#[template(path = "dashboard/operation_confirm.html")]
struct ConfirmPage<'c> {
    frame: Frame,
    confirm: &'c Confirm,
}

impl Confirm {
    pub(in crate::dashboard) fn render(&self, viewer: &Viewer) -> Response {
        page(&ConfirmPage { frame: Frame::new(viewer, self.title.clone(), self.section), confirm: self })
    }
}
