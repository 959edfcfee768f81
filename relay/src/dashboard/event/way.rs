//! The way of an event through every stage, as bars of time. It is drawn from the times that are stored; a stage that
//! has no time of its own says so.

use std::fmt::Write as _;

use model::delivery::DeliveryState;
use model::event::Verification;
use model::unix_time;
use time::OffsetDateTime;

use crate::control::deliveries::Delivery;
use crate::control::events::{DecisionOutcome, EventAttempt, EventAttempts, EventDetail};
use crate::dashboard::view::{self, Markup, Tone};

/// The most attempts that are drawn: the newest ones.
const DRAWN_ATTEMPTS: usize = 40;

/// The most next attempts that are drawn.
const DRAWN_NEXT: usize = 10;

/// Up to this length the axis is even. On a longer one the milliseconds of the arrival could not be seen.
const EVEN_MS: f64 = 10_000.0;

/// The width and the height of a drawing.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 12.0;

/// The width of a moment, and the least width of a bar.
const MOMENT: f64 = 4.0;

/// A stage of the way.
#[derive(Debug)]
pub(in crate::dashboard) struct Stage {
    pub(in crate::dashboard) name: String,
    pub(in crate::dashboard) drawing: Markup,
    /// When it was, and how long it took, as far as that is stored.
    pub(in crate::dashboard) at: Option<OffsetDateTime>,
    pub(in crate::dashboard) took: String,
    pub(in crate::dashboard) note: String,
}

/// The way of an event.
#[derive(Debug)]
pub(in crate::dashboard) struct Way {
    pub(in crate::dashboard) stages: Vec<Stage>,
    /// The times at four places of the axis.
    pub(in crate::dashboard) axis: [String; 4],
    /// Whether later times are closer together.
    pub(in crate::dashboard) is_narrowing: bool,
    /// How many attempts are not drawn.
    pub(in crate::dashboard) left_out: usize,
}

/// Where a time is on the axis, which begins when the event was received.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    length_ms: f64,
}

impl Axis {
    const fn is_even(self) -> bool {
        self.length_ms <= EVEN_MS
    }

    /// The place of a time, from 0 to 1.
    fn place(self, ms: f64) -> f64 {
        let (ms, length) = (ms.clamp(0.0, self.length_ms), self.length_ms.max(1.0));
        if self.is_even() { ms / length } else { ms.ln_1p() / length.ln_1p() }
    }

    /// The time at a place.
    fn time(self, place: f64) -> f64 {
        if self.is_even() { place * self.length_ms } else { (place * self.length_ms.ln_1p()).exp_m1() }
    }
}

/// A part of a drawing: from, until, and its tone. The thin part is a wait.
#[derive(Debug, Clone, Copy)]
struct Part {
    from_ms: f64,
    until_ms: f64,
    tone: Tone,
    is_wait: bool,
}

fn moment(at_ms: f64, tone: Tone) -> Part {
    Part { from_ms: at_ms, until_ms: at_ms, tone, is_wait: false }
}

fn draw(axis: Axis, parts: &[Part], label: &str) -> Markup {
    let label = view::escape(label);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH:.0} {HEIGHT:.0}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\">\
         <title>{label}</title><rect class=\"track\" x=\"0\" y=\"4\" width=\"{WIDTH:.0}\" height=\"4\"/>"
    );
    for part in parts {
        let from = (axis.place(part.from_ms) * WIDTH).min(WIDTH - MOMENT);
        let until = axis.place(part.until_ms) * WIDTH;
        let (y, height) = if part.is_wait { (4.0, 4.0) } else { (0.0, HEIGHT) };
        let _ = write!(
            svg,
            "<rect class=\"tone-{}\" x=\"{from:.1}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"{height:.0}\"/>",
            part.tone.name(),
            (until - from).max(MOMENT)
        );
    }
    svg.push_str("</svg>");
    Markup::new(svg)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of days")]
fn ms(duration: time::Duration) -> f64 {
    duration.whole_microseconds() as f64 / 1_000.0
}

/// A duration in milliseconds, as pages write it.
fn span(ms: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and shorter than a year"
    )]
    let ms = ms.max(0.0).round() as u64;
    view::duration(ms)
}

/// The way of an event.
pub(in crate::dashboard) fn of(detail: &EventDetail, attempts: &EventAttempts, now: OffsetDateTime) -> Way {
    let received = detail.event.received_at.0;
    let since = |at: OffsetDateTime| ms(at - received);
    let stored = detail.stored_at.0;
    let mut made: Vec<(&Delivery, &EventAttempt, OffsetDateTime)> = Vec::new();
    for delivery in &detail.deliveries {
        let mut ready = unix_time::timestamp(delivery.id.minted_at_ms());
        for attempt in attempts.of.get(&delivery.id).into_iter().flatten() {
            made.push((delivery, attempt, ready));
            ready = ended(attempt);
        }
    }
    made.sort_by_key(|(_, attempt, _)| attempt.started_at);
    let left_out = made.len().saturating_sub(DRAWN_ATTEMPTS);
    let made = &made[left_out..];
    let waiting: Vec<_> = detail
        .deliveries
        .iter()
        .filter(|delivery| delivery.state == DeliveryState::Pending)
        .filter_map(|delivery| Some((delivery, delivery.next_attempt_at?.0)))
        .take(DRAWN_NEXT)
        .collect();
    let last =
        made.iter().map(|(_, attempt, _)| ended(attempt)).chain(waiting.iter().map(|(_, at)| (*at).max(now))).max();
    let axis = Axis { length_ms: since(last.unwrap_or(stored).max(stored)).max(1.0) };
    let mut stages = arrival(detail, axis, since(stored));
    for (delivery, attempt, ready) in made {
        stages.push(of_attempt(delivery, attempt, axis, since(*ready), since(attempt.started_at)));
    }
    for (delivery, at) in waiting {
        let part = Part { from_ms: since(now.min(at)), until_ms: since(at.max(now)), tone: Tone::Quiet, is_wait: true };
        let name = format!("{}: next attempt", name(delivery));
        let took = if at > now { format!("in {}", span(ms(at - now))) } else { "due".to_owned() };
        stages.push(Stage { drawing: draw(axis, &[part], &name), name, at: Some(at), took, note: String::new() });
    }
    let mark = |place: f64| if place == 0.0 { "0".to_owned() } else { span(axis.time(place)) };
    Way { stages, axis: [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0].map(mark), is_narrowing: !axis.is_even(), left_out }
}

fn ended(attempt: &EventAttempt) -> OffsetDateTime {
    attempt.started_at + time::Duration::milliseconds(attempt.latency_ms.max(0).into())
}

fn name(delivery: &Delivery) -> &str {
    delivery.destination.as_deref().unwrap_or("deleted destination")
}

/// The stages up to the deliveries.
fn arrival(detail: &EventDetail, axis: Axis, stored_ms: f64) -> Vec<Stage> {
    let is_edited = detail.event.verification == Verification::Edited;
    let stage = |name: &str, parts: &[Part], at, took: String, note: String| Stage {
        drawing: draw(axis, parts, name),
        name: name.to_owned(),
        at,
        took,
        note,
    };
    let start = moment(0.0, Tone::Ok);
    let received = Some(detail.event.received_at.0);
    let stored = Some(detail.stored_at.0);
    let lag = span(stored_ms);
    let mut stages = if is_edited {
        let text = "Made by a caller as an edited copy of another event: it was not received, verified or queued.";
        vec![stage("Made", &[start], received, String::new(), text.to_owned())]
    } else {
        let tone = match detail.event.verification {
            Verification::Verified => Tone::Ok,
            Verification::Stale => Tone::Warn,
            Verification::Failed | Verification::Released => Tone::Danger,
            Verification::Unsigned | Verification::Edited => Tone::Quiet,
        };
        let wait = Part { from_ms: 0.0, until_ms: stored_ms, tone: Tone::Quiet, is_wait: false };
        let together = format!(
            "{lag} from the receipt until it was stored. The edge queued it before it answered the provider; that moment \
             is not stored."
        );
        vec![
            stage("Received", &[start], received, String::new(), "At the edge, by its clock.".to_owned()),
            stage(
                "Verified",
                &[moment(0.0, tone)],
                None,
                detail.event.verification.name().to_owned(),
                "In the same request. It has no time of its own: the clock of a Worker stands still while it computes."
                    .to_owned(),
            ),
            stage("Queued", &[wait], None, lag.clone(), together),
            stage(
                "Pulled",
                &[],
                None,
                "no time".to_owned(),
                "By the relay, before it was stored. The moment is not stored.".to_owned(),
            ),
        ]
    };
    let clocks = if stored_ms < 0.0 {
        " This is before the time of receipt: the clocks of the edge and the database differ."
    } else {
        ""
    };
    stages.push(stage(
        "Stored",
        &[moment(stored_ms, Tone::Ok)],
        stored,
        format!("+{lag}"),
        format!("By the clock of the database.{clocks}"),
    ));
    let (tone, took, note) = match detail.decision.outcome {
        DecisionOutcome::Routed => (
            Tone::Ok,
            view::count(detail.decision.deliveries.len(), "delivery", "deliveries"),
            "In the same transaction, so it has no time of its own.",
        ),
        DecisionOutcome::NoRouteMatched => {
            (Tone::Quiet, "no route".to_owned(), "In the same transaction. No route matched.")
        }
        DecisionOutcome::Quarantined => {
            (Tone::Warn, "not routed".to_owned(), "The event is in quarantine, and waits for its release.")
        }
        DecisionOutcome::Released => (
            Tone::Ok,
            view::count(detail.decision.deliveries.len(), "delivery", "deliveries"),
            "Not when it was stored, but when it was released from quarantine.",
        ),
    };
    stages.push(stage("Routed", &[moment(stored_ms, tone)], None, took, note.to_owned()));
    stages
}

fn of_attempt(delivery: &Delivery, attempt: &EventAttempt, axis: Axis, ready_ms: f64, from_ms: f64) -> Stage {
    let took_ms = f64::from(attempt.latency_ms.max(0));
    let tone = if attempt.error.is_none() { Tone::Ok } else { Tone::Danger };
    let wait = Part { from_ms: ready_ms, until_ms: from_ms, tone: Tone::Quiet, is_wait: true };
    let sent = Part { from_ms, until_ms: from_ms + took_ms, tone, is_wait: false };
    let name = format!("{}: attempt {}", name(delivery), attempt.number);
    let result = match (attempt.status, attempt.error.as_deref()) {
        (Some(status), _) => format!("answered {status}"),
        (None, Some(error)) => view::capital(error).to_lowercase(),
        (None, None) => "succeeded".to_owned(),
    };
    let label = format!("{name}, {result} after {}", span(took_ms));
    let waited = from_ms - ready_ms;
    let waited = if waited >= 1.0 { format!("Waited {}, then ", span(waited)) } else { String::new() };
    Stage {
        drawing: draw(axis, &[wait, sent], &label),
        name,
        at: Some(attempt.started_at),
        took: span(took_ms),
        note: view::sentence(&format!("{waited}{result}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_way_is_even_and_a_long_one_shows_its_first_milliseconds_too() {
        let short = Axis { length_ms: 1_000.0 };
        assert!((short.place(250.0) - 0.25).abs() < 1e-9);
        let long = Axis { length_ms: 86_400_000.0 };
        assert!(!long.is_even());
        assert!(long.place(50.0) > 0.2 && long.place(50.0) < long.place(5_000.0), "{}", long.place(50.0));
        for axis in [short, long] {
            assert_eq!((axis.place(-5.0), axis.place(axis.length_ms * 2.0)), (0.0, 1.0));
            assert!((axis.time(axis.place(700.0)) - 700.0).abs() < 0.01);
        }
    }

    #[test]
    fn every_bar_can_be_seen_and_is_within_the_drawing() {
        let axis = Axis { length_ms: 1_000.0 };
        let bar = Part { from_ms: 1_000.0, until_ms: 1_000.0, tone: Tone::Ok, is_wait: false };
        let svg = draw(axis, &[bar], "a \"<b>\"").to_string();
        assert!(svg.contains("x=\"996.0\"") && svg.contains("width=\"4.0\""), "{svg}");
        assert!(svg.contains("aria-label=\"a &quot;&lt;b&gt;&quot;\""), "{svg}");
    }
}
