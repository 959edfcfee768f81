//! Alerts: what is wrong now, and the page on which it is mended.

use time::OffsetDateTime;

use super::view::{self, Tone};
use crate::control::overview::{Finding, FindingKind, Found, Next};

pub(super) use kept::Alerts;

pub(crate) mod kept;

/// Something that is wrong now.
#[derive(Debug, Clone)]
pub(super) struct Alert {
    pub(super) tone: Tone,
    pub(super) title: &'static str,
    /// What is wrong, in a sentence.
    pub(super) text: String,
    /// The source or destination that is concerned, and the path of its page.
    pub(super) subject: Option<(String, String)>,
    /// How many deliveries, events or requests are concerned.
    pub(super) count: Option<String>,
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
    let Finding { kind, subject, since, count, and_more, detail } = finding;
    let (tone, title) = kind_of(kind);
    Alert {
        tone,
        title,
        text: view::sentence(&detail),
        subject: subject.map(|subject| {
            let list = if is_of_a_source(kind) { "sources" } else { "destinations" };
            (subject.name, format!("/{list}/{}", subject.id))
        }),
        count: count.filter(|count| *count > 0).map(|count| counted(kind, count, and_more)),
        since: since.map(|since| since.0),
        action,
        path,
    }
}

const fn is_of_a_source(kind: FindingKind) -> bool {
    matches!(kind, FindingKind::SourceRejecting | FindingKind::SourceNotActive)
}

/// What is concerned, with its number.
fn counted(kind: FindingKind, count: i64, and_more: bool) -> String {
    let (one, several) = match kind {
        FindingKind::SourceRejecting => ("request", "requests"),
        FindingKind::EventsQuarantined => ("event", "events"),
        FindingKind::DestinationDisabled
        | FindingKind::DestinationPaused
        | FindingKind::DestinationFailing
        | FindingKind::DestinationBackingOff
        | FindingKind::Backlog
        | FindingKind::SourceNotActive
        | FindingKind::DeliveriesDead
        | FindingKind::DeliveriesHeld => ("delivery", "deliveries"),
    };
    let text = view::count(count, one, several);
    if and_more { format!("at least {text}") } else { text }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::overview::FindingSubject;

    fn finding(kind: FindingKind, count: Option<i64>, and_more: bool) -> Found {
        let subject = Some(FindingSubject { id: "x_1".to_owned(), name: "billing".to_owned() });
        let finding = Finding { kind, subject, since: None, count, and_more, detail: "it fails".to_owned() };
        Found { finding, next: Next::Dead }
    }

    #[test]
    fn an_alert_names_what_it_is_about_and_how_much_is_concerned() {
        let alert = of(finding(FindingKind::DestinationFailing, Some(1_000), true));
        assert_eq!(alert.count.as_deref(), Some("at least 1,000 deliveries"));
        assert_eq!(alert.subject, Some(("billing".to_owned(), "/destinations/x_1".to_owned())));
        let alert = of(finding(FindingKind::SourceRejecting, Some(1), false));
        assert_eq!((alert.count.as_deref(), alert.text.as_str()), (Some("1 request"), "It fails."));
        assert_eq!(alert.subject, Some(("billing".to_owned(), "/sources/x_1".to_owned())));
        assert_eq!(of(finding(FindingKind::DestinationFailing, Some(0), false)).count, None);
    }
}
