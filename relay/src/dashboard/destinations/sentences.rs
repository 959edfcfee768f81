//! The health of a destination in sentences: what happens now, why, and until when.

use model::destination::DestinationState;
use model::health::BreakerName;
use model::held_by::HeldBy;
use time::OffsetDateTime;

use crate::control::destinations::Destination;
use crate::control::destinations::health::DestinationHealth;
use crate::dashboard::confirmation::deliveries;
use crate::dashboard::view::{self, Markup, Tone};

/// How old a report may be whose "last minute" is still that of the viewer.
const RECENT: time::Duration = time::Duration::minutes(2);

/// A sentence, and how bad it is.
#[derive(Debug)]
pub(super) struct Sentence {
    pub(super) tone: Tone,
    pub(super) text: Markup,
}

fn say(tone: Tone, html: String) -> Sentence {
    Sentence { tone, text: Markup::new(html) }
}

/// The health, the most important first. Everything that comes from outside is escaped.
pub(super) fn of(destination: &Destination, health: &DestinationHealth, now: OffsetDateTime) -> Vec<Sentence> {
    let ago = |at: OffsetDateTime| view::ago(at, now);
    let is_one = health.pending.count <= 1 && !health.pending.and_more;
    let held =
        format!("{} {}", deliveries(health.pending.count, health.pending.and_more), if is_one { "is" } else { "are" });
    let mut said = Vec::new();
    match destination.state {
        DestinationState::Active => {}
        DestinationState::Paused => said.push(say(
            Tone::Held,
            format!("It was paused {}. Until it is resumed, {held} held.", ago(destination.state_changed_at.0)),
        )),
        DestinationState::Disabled => said.push(say(
            Tone::Danger,
            format!(
                "Tidegate disabled it {}: {} Until it is mended and resumed here, {held} held.",
                ago(destination.state_changed_at.0),
                view::escape(&view::sentence(destination.state_reason.as_deref().unwrap_or("it kept failing")))
            ),
        )),
    }
    if let Some(reason) = &health.unusable {
        said.push(say(
            Tone::Danger,
            format!("This relay cannot send to it: {}", view::escape(&view::sentence(reason))),
        ));
    }
    let is_active = destination.state == DestinationState::Active;
    let since = health.breaker.since.map(|since| format!(" since {}", ago(since.0))).unwrap_or_default();
    match health.breaker.state {
        BreakerName::Closed => {}
        BreakerName::Open => {
            let probe = health.breaker.next_probe_at.filter(|at| at.0 > now).map_or_else(
                || "The next delivery is sent as a probe.".to_owned(),
                |at| format!("The next probe is sent {}.", ago(at.0)),
            );
            said.push(say(
                Tone::Danger,
                format!("The circuit breaker is open{since}: only manual retries are sent, and no attempt is used up. {probe}"),
            ));
        }
        BreakerName::HalfOpen => said.push(say(
            Tone::Warn,
            format!("The circuit breaker is half-open{since}: one delivery is sent as a probe, and decides whether it closes."),
        )),
    }
    if let Some(until) = health.back_off_until.filter(|until| until.0 > now) {
        said.push(say(Tone::Warn, format!("It asked for a pause: nothing is sent until it ends {}.", ago(until.0))));
    }
    if let Some(failing) = &health.failing {
        said.push(say(
            Tone::Warn,
            format!(
                "{} failed in a row, the first one {}.",
                view::count(failing.failures, "attempt has", "attempts have"),
                ago(failing.since.0)
            ),
        ));
    }
    if let Some(reduced) = &health.reduced {
        said.push(say(
            Tone::Warn,
            format!(
                "It gets less at a time since {}, because {}. Each success raises the limits again.",
                ago(reduced.since.0),
                view::escape(reduced.why.trim_end_matches('.'))
            ),
        ));
    }
    // A destination to which nothing is sent is not reported again, so its last report may be old.
    let is_recent = health.reported_at.is_none_or(|at| now - at.0 < RECENT);
    if let Some(text) = recent(health).filter(|_| is_recent) {
        let tone = if health.recent.success_share.is_some_and(|share| share < 0.9) { Tone::Warn } else { Tone::Ok };
        said.push(say(tone, text));
    } else if is_active && said.is_empty() {
        said.push(say(Tone::Quiet, "Nothing was sent to it within the last minute.".to_owned()));
    }
    said
}

/// The attempts of the last minute.
fn recent(health: &DestinationHealth) -> Option<String> {
    let share = health.recent.success_share?;
    let latency = health
        .recent
        .latency_ms
        .and_then(|ms| u64::try_from(ms).ok())
        .map(|ms| format!(", and a success takes {} on average", view::duration(ms)))
        .unwrap_or_default();
    Some(format!(
        "In the last minute, {} of {} succeeded{latency}.",
        view::percent(share),
        view::count(health.recent.attempts, "attempt", "attempts")
    ))
}

/// What mends deliveries that are held for this cause.
pub(super) const fn cause(held_by: HeldBy) -> &'static str {
    match held_by {
        HeldBy::Filter => "The filter of their route could not be evaluated",
        HeldBy::OrderKey => "The order key of their route could not be evaluated",
        HeldBy::Transform => "The transform of their route fails",
        HeldBy::Url => "The URL cannot be requested",
        HeldBy::Body => "The body of the event is no longer available",
        HeldBy::Attempt => "The outcome of the last attempt could not be stored",
        HeldBy::Route => "Their route was deleted or changed",
    }
}

#[cfg(test)]
mod tests {
    use model::destination::DestinationState;
    use shared::id::DestinationId;
    use time::macros::datetime;

    use super::*;
    use crate::control::destinations::health::{Breaker, Concurrency, Failing, InMemory, Pending, Recent, Reduced};
    use crate::control::time::Timestamp;

    const NOW: OffsetDateTime = datetime!(2026-01-31 08:00 UTC);

    fn at(minutes: i64) -> Timestamp {
        Timestamp(NOW + time::Duration::minutes(minutes))
    }

    fn destination(state: DestinationState) -> Destination {
        Destination {
            id: DestinationId::mint(1, [1; 10]),
            customer: None,
            name: "billing".to_owned(),
            url: "https://example.com".to_owned(),
            state,
            state_reason: (state == DestinationState::Disabled).then(|| "it returned <410>".to_owned()),
            state_changed_at: at(-5),
            unusable: None,
            rate_limit: None,
            max_concurrency: 10,
            timeout_ms: 15_000,
            retry: serde_json::Value::Null,
            append_query: false,
            header_names: Vec::new(),
            signing_secret: None,
            headers_cleared: false,
            dropped: Vec::new(),
            created_at: at(-50),
            updated_at: at(-5),
        }
    }

    fn health() -> DestinationHealth {
        DestinationHealth {
            destination_id: DestinationId::mint(1, [1; 10]),
            state: DestinationState::Active,
            state_reason: None,
            state_changed_at: at(-5),
            breaker: Breaker { state: BreakerName::Closed, since: None, next_probe_at: None },
            back_off_until: None,
            concurrency: Concurrency { limit: 10, now: 10, in_flight: 0 },
            rate: None,
            reduced: None,
            in_memory: InMemory { fresh: 0, retry: 0, replay: 0 },
            recent: Recent { attempts: 0, success_share: None, latency_ms: None },
            failing: None,
            pending: Pending { count: 0, and_more: false, oldest_due_at: None },
            unusable: None,
            held: Vec::new(),
            reported_at: None,
        }
    }

    fn texts(destination: &Destination, health: &DestinationHealth) -> Vec<String> {
        let said = of(destination, health, NOW);
        // Without the elements of times.
        let plain = |html: &str| html.split('<').map(|part| part.rsplit('>').next().unwrap_or_default()).collect();
        said.iter().map(|sentence| plain(&sentence.text.to_string())).collect()
    }

    #[test]
    fn a_healthy_destination_says_what_it_did_or_that_it_did_nothing() {
        let active = destination(DestinationState::Active);
        assert_eq!(texts(&active, &health()), ["Nothing was sent to it within the last minute."]);
        let recent = Recent { attempts: 200, success_share: Some(0.995), latency_ms: Some(120) };
        let busy = DestinationHealth { recent, ..health() };
        assert_eq!(
            texts(&active, &busy),
            ["In the last minute, 99.50 % of 200 attempts succeeded, and a success takes 120 ms on average."]
        );
    }

    #[test]
    fn each_trouble_has_its_sentence_with_its_end() {
        let troubled = DestinationHealth {
            breaker: Breaker { state: BreakerName::Open, since: Some(at(-3)), next_probe_at: Some(at(2)) },
            back_off_until: Some(at(10)),
            reduced: Some(Reduced { why: "the destination <b>returned 429".to_owned(), since: at(-4) }),
            failing: Some(Failing { since: at(-4), failures: 12 }),
            ..health()
        };
        let said = of(&destination(DestinationState::Active), &troubled, NOW);
        let all: Vec<String> = said.iter().map(|sentence| sentence.text.to_string()).collect();
        assert_eq!(all.len(), 4, "{all:?}");
        assert!(all[0].contains("breaker is open") && all[0].contains(">in 2 min<"), "{all:?}");
        assert!(all[1].contains(">in 10 min<") && all[2].contains("12 attempts have failed"), "{all:?}");
        assert!(all[3].contains("&lt;b&gt;returned 429"), "{all:?}");
        let over = DestinationHealth { back_off_until: Some(at(-1)), ..health() };
        assert!(!texts(&destination(DestinationState::Active), &over)[0].contains("pause"));
    }

    #[test]
    fn what_is_held_is_named_with_its_number() {
        let pending = |count, and_more| DestinationHealth {
            pending: Pending { count, and_more, oldest_due_at: None },
            ..health()
        };
        let paused = texts(&destination(DestinationState::Paused), &pending(1, false));
        assert_eq!(paused, ["It was paused 5 min ago. Until it is resumed, 1 delivery is held."]);
        let said = of(&destination(DestinationState::Disabled), &pending(10_000, true), NOW);
        let text = said[0].text.to_string();
        assert!(
            text.contains("It returned &lt;410&gt;.") && text.contains("more than 10,000 deliveries are held"),
            "{text}"
        );
    }
}
