//! Alerts: what is wrong now, and the page on which it is mended.

use time::OffsetDateTime;

use super::view::{self, Tone};
use crate::control::overview::{Finding, FindingKind, Found, Next};

/// Something that is wrong now.
#[derive(Debug)]
pub(super) struct Alert {
    pub(super) tone: Tone,
    pub(super) title: &'static str,
    /// What is wrong, in a sentence.
    pub(super) text: String,
    pub(super) since: Option<OffsetDateTime>,
    /// What helps, and the path of the page where that is done, below the dashboard.
    pub(super) action: &'static str,
    pub(super) path: String,
}

/// The alert of a finding.
pub(super) fn of(Found { finding, next }: Found) -> Alert {
    let (action, path) = match next {
        Next::Resume(id) => ("Resume it", format!("/destinations/{id}")),
        Next::Health(id) => ("See its health", format!("/destinations/{id}")),
        Next::Rejections(id) => ("See the rejections", format!("/sources/{id}")),
        Next::Source(id) => ("See the source", format!("/sources/{id}")),
        Next::Dead => ("Retry them", "/deliveries?state=dead".to_owned()),
        Next::Held => ("See what they wait for", "/deliveries?state=held".to_owned()),
        Next::Quarantine => ("Check them again", "/quarantine".to_owned()),
    };
    let Finding { kind, since, detail, .. } = finding;
    let (tone, title) = kind_of(kind);
    Alert { tone, title, text: view::sentence(&detail), since: since.map(|since| since.0), action, path }
}

const fn kind_of(kind: FindingKind) -> (Tone, &'static str) {
    match kind {
        FindingKind::DestinationDisabled => (Tone::Danger, "Destination disabled"),
        FindingKind::DestinationPaused => (Tone::Held, "Destination paused"),
        FindingKind::DestinationFailing => (Tone::Danger, "Destination failing"),
        FindingKind::DestinationBackingOff => (Tone::Warn, "Destination backing off"),
        FindingKind::Backlog => (Tone::Warn, "Backlog"),
        FindingKind::SourceRejecting => (Tone::Danger, "Source rejecting"),
        FindingKind::SourceNotActive => (Tone::Warn, "Source not active"),
        FindingKind::DeliveriesDead => (Tone::Danger, "Dead deliveries"),
        FindingKind::DeliveriesHeld => (Tone::Held, "Held deliveries"),
        FindingKind::EventsQuarantined => (Tone::Warn, "Events in quarantine"),
    }
}
