//! For how long what is stored is kept.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::failure::Failure;
use super::super::frame::{Frame, page};
use super::super::view;
use super::super::viewer::Viewer;
use super::{Link, Tab, tab};
use crate::control::Control;
use crate::control::system;

/// What is kept, for how long, and what decides that.
struct Kept {
    what: &'static str,
    days: u64,
    setting: &'static str,
    then: &'static str,
}

#[derive(Template)]
#[template(path = "dashboard/settings_retention.html")]
struct RetentionPage {
    frame: Frame,
    tabs: Vec<Link>,
    kept: Vec<Kept>,
}

/// The page.
pub(super) async fn show(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let retention = system::retention(&control, &viewer.actor)?;
    let (frame, tabs) = tab(&viewer, Tab::Retention);
    let row = |what, days: u16, setting, then| Kept { what, days: u64::from(days), setting, then };
    let kept = vec![
        row(
            "Bodies of events",
            retention.body_days,
            "TIDEGATE_BODY_RETENTION_DAYS",
            "The event can be seen and no longer be replayed. A customer may have a shorter time.",
        ),
        row(
            "Events, deliveries, attempts, rejections, counts, the audit log",
            retention.metadata_days,
            "TIDEGATE_METADATA_RETENTION_DAYS",
            "They are gone. A delivery that is still pending becomes dead.",
        ),
        row(
            "Ids of providers, by which copies are recognised",
            retention.dedupe_days,
            "TIDEGATE_DEDUPE_DAYS",
            "The same webhook counts as a new event.",
        ),
        row(
            "Changes, which streams continue",
            system::CHANGES_KEPT_DAYS,
            "",
            "A stream begins anew, without a position.",
        ),
    ];
    Ok(page(&RetentionPage { frame, tabs, kept }))
}
