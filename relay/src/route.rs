//! Decides to which destinations an event is sent. Every route of its source gives a result: it matched, or why not.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use expression::{Evaluator, EventFields, ExpressionError, Filter, Input, OrderKey, Turn};
use model::event::EventMeta;
use model::held_by::HeldBy;
use model::unix_time;
use sha2::{Digest as _, Sha256};
use shared::header::HeaderList;
use shared::id::{EventId, RouteId, SourceId};
use store::new_event::Undecided;
use tokio::time::Instant;

use crate::configuration::{Route, Snapshot};

/// The result of one route.
#[derive(Debug, Clone)]
pub struct Answer {
    pub route: Arc<Route>,
    pub verdict: Verdict,
    /// If the delivery has an order: a hash of its route and its key.
    pub order_key: Option<i64>,
}

/// The decision of a route about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Matched,
    /// The route is disabled.
    Off,
    /// The route takes only events of other types. The filter is not evaluated.
    OtherType,
    /// The filter is false.
    NotMatched,
    /// The filter fails on this event, which counts as not matched.
    FilterFailed {
        reason: String,
    },
    /// The filter could not be evaluated, so nothing is decided: a delivery is made, and held until it can be.
    Undecided {
        reason: String,
        /// Whether the relay is the cause and evaluates again automatically. Otherwise only a change of the route
        /// helps.
        again: bool,
    },
    /// The filter matches and the order key fails on this event: a delivery is made and held, because it must not
    /// overtake others.
    Unordered {
        reason: String,
        /// As for [`Verdict::Undecided`].
        again: bool,
    },
}

/// What an event becomes at a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Becomes {
    /// A due delivery, in the order of its key if it has one.
    Due { order_key: Option<i64> },
    /// A held delivery: it is not known whether, or in which order, it is to be sent.
    Held(Undecided),
    /// No delivery, for this reason. If one was held until now, it is cancelled with this reason.
    Nothing(Cow<'static, str>),
}

impl Answer {
    /// What the event becomes. All code that makes or releases deliveries uses this: the intake, the release of an
    /// event, replays, and the repeated evaluation of held deliveries.
    #[must_use]
    pub fn becomes(&self) -> Becomes {
        let held = |by, what: &str, reason: &str, again| {
            let reason = storable(format!("{what} could not be evaluated: {reason}"));
            Becomes::Held(Undecided { by, reason, again })
        };
        match &self.verdict {
            Verdict::Matched => Becomes::Due { order_key: self.order_key },
            Verdict::Undecided { reason, again } => held(HeldBy::Filter, "the filter", reason, *again),
            Verdict::Unordered { reason, again } => held(HeldBy::OrderKey, "the order key", reason, *again),
            Verdict::Off => Becomes::Nothing("the route was disabled before its filter could be evaluated".into()),
            Verdict::OtherType => Becomes::Nothing("the event's type is not one of the route's types".into()),
            Verdict::NotMatched => Becomes::Nothing("the filter is false for this event".into()),
            Verdict::FilterFailed { reason } => {
                Becomes::Nothing(storable(format!("the filter fails on this event: {reason}")).into())
            }
        }
    }
}

/// A text that PostgreSQL can store: every character is allowed but NUL.
pub(crate) fn storable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// The input of an expression for a stored event that was read only for it. If the body was not read, the input has
/// only its size, `body_bytes`.
#[must_use]
pub fn input_of(meta: EventMeta, source_name: &str, body: Option<Vec<u8>>, body_bytes: usize) -> Input {
    let fields = EventFields {
        id: meta.id.to_string(),
        event_type: meta.event_type,
        source: source_name.to_owned(),
        provider_event_id: meta.provider_event_id,
        received_at_ms: unix_time::unix_ms(meta.received_at),
        method: meta.method,
        query: meta.query,
    };
    match body {
        Some(body) => Input::new(fields, meta.headers, body),
        None => Input::without_body(fields, meta.headers, body_bytes),
    }
}

/// The input of an expression for an event.
#[must_use]
pub fn input(event: &EventView<'_>) -> Input {
    let fields = EventFields {
        id: event.id.to_string(),
        event_type: event.event_type.map(str::to_owned),
        source: event.source_name.to_owned(),
        provider_event_id: event.provider_event_id.map(str::to_owned),
        received_at_ms: event.received_at_ms,
        method: event.method.to_owned(),
        query: event.query.to_owned(),
    };
    Input::new(fields, event.headers.clone(), event.body.to_vec())
}

/// An event, wherever its parts are stored.
#[derive(Debug, Clone, Copy)]
pub struct EventView<'a> {
    pub id: EventId,
    pub source_id: SourceId,
    pub source_name: &'a str,
    pub event_type: Option<&'a str>,
    pub provider_event_id: Option<&'a str>,
    pub received_at_ms: u64,
    pub method: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderList,
    pub body: &'a [u8],
}

impl<'a> EventView<'a> {
    /// The view of a stored event.
    #[must_use]
    pub fn of(meta: &'a EventMeta, source_name: &'a str, body: &'a [u8]) -> Self {
        Self {
            id: meta.id,
            source_id: meta.source_id,
            source_name,
            event_type: meta.event_type.as_deref(),
            provider_event_id: meta.provider_event_id.as_deref(),
            received_at_ms: unix_time::unix_ms(meta.received_at),
            method: &meta.method,
            query: &meta.query,
            headers: &meta.headers,
            body,
        }
    }
}

/// Evaluates every route of the event's source, and waits for the results until `until`.
pub async fn evaluate(
    evaluator: &Evaluator,
    snapshot: &Snapshot,
    event: &EventView<'_>,
    until: Instant,
) -> Vec<Answer> {
    let turn = Turn { source: event.source_id, until };
    let Some(routes) = snapshot.routes_of_source.get(&event.source_id) else { return Vec::new() };
    evaluate_routes(evaluator, turn, routes, event.event_type, || Arc::new(input(event))).await
}

/// Tests the types of these routes, and evaluates their filters and order keys. `input` is called at most once.
pub async fn evaluate_routes(
    evaluator: &Evaluator,
    turn: Turn,
    routes: &[Arc<Route>],
    event_type: Option<&str>,
    input: impl Fn() -> Arc<Input>,
) -> Vec<Answer> {
    let asked = OnceLock::new();
    let asked = || Arc::clone(asked.get_or_init(&input));
    let mut answers = evaluate_filters(evaluator, turn, routes, event_type, asked).await;
    let ordered = |answer: &&mut Answer| answer.verdict == Verdict::Matched && answer.route.order_key.is_some();
    let keys: Vec<OrderKey> =
        answers.iter_mut().filter(ordered).filter_map(|answer| order_key(&answer.route)).collect();
    let mut keys =
        if keys.is_empty() { Vec::new() } else { evaluator.order_keys(turn, keys, asked()).await }.into_iter();
    for answer in answers.iter_mut().filter(ordered) {
        order(answer, &mut keys);
    }
    answers
}

/// Tests the types of these routes, and evaluates only their filters. `input` is called only if one of them has to be
/// evaluated, see [`evaluated_for`].
pub async fn evaluate_filters(
    evaluator: &Evaluator,
    turn: Turn,
    routes: &[Arc<Route>],
    event_type: Option<&str>,
    input: impl FnOnce() -> Arc<Input>,
) -> Vec<Answer> {
    let filters: Vec<Filter> = routes.iter().filter_map(|route| evaluated_for(route, event_type)).cloned().collect();
    let mut results =
        if filters.is_empty() { Vec::new() } else { evaluator.matches_all(turn, filters, input()).await }.into_iter();
    routes
        .iter()
        .map(|route| Answer {
            route: Arc::clone(route),
            verdict: verdict(route, event_type, &mut results),
            order_key: None,
        })
        .collect()
}

/// Whether a route takes events of a type, before its filter is evaluated. `types` are those of the route: without any
/// it takes every event, and otherwise only events whose type is exactly one of them. An event without a type has none
/// of them.
#[must_use]
pub fn takes(types: &[String], event_type: Option<&str>) -> bool {
    types.is_empty() || event_type.is_some_and(|found| types.iter().any(|taken| taken == found))
}

/// The filter that has to be evaluated to decide about an event of this type; `None` if the route decides without it.
#[must_use]
pub fn evaluated_for<'a>(route: &'a Route, event_type: Option<&str>) -> Option<&'a Filter> {
    evaluated(route).filter(|_| takes(&route.types, event_type))
}

/// The filter that may have to be evaluated to decide about an event whose type is not known yet; `None` if the route
/// never evaluates one.
#[must_use]
pub fn evaluated(route: &Route) -> Option<&Filter> {
    let filter = route.filter.as_ref().filter(|_| route.enabled)?;
    filter.compiled.as_ref().ok()
}

fn order_key(route: &Route) -> Option<OrderKey> {
    route.order_key.as_ref().and_then(|key| key.compiled.as_ref().ok()).cloned()
}

/// Gives a match its key. Takes the next of `keys` if the key was evaluated.
fn order(answer: &mut Answer, keys: &mut impl Iterator<Item = Result<Option<i64>, ExpressionError>>) {
    let broken = answer.route.order_key.as_ref().and_then(|key| key.compiled.as_ref().err());
    let (reason, again) = match broken {
        // Another relay may be able to compile it.
        Some(error) => (error.to_string(), true),
        None => match keys.next() {
            Some(Ok(key)) => {
                answer.order_key = key.map(|key| of_route(answer.route.id, key));
                return;
            }
            Some(Err(error)) => (error.to_string(), error.is_ours()),
            None => ("the evaluation returned no result yet".to_owned(), true),
        },
    };
    answer.verdict = Verdict::Unordered { reason, again };
}

/// The hash of an order key of a route: the same key of another route to the same destination is a different order.
fn of_route(route: RouteId, key: i64) -> i64 {
    let hash = Sha256::new().chain_update(route.uuid().as_bytes()).chain_update(key.to_be_bytes()).finalize();
    hash.first_chunk().copied().map_or(key, i64::from_be_bytes)
}

/// The decision of a route. Takes the next of `results` if its filter was evaluated.
fn verdict(
    route: &Route,
    event_type: Option<&str>,
    results: &mut impl Iterator<Item = Result<bool, ExpressionError>>,
) -> Verdict {
    if !route.enabled {
        return Verdict::Off;
    }
    if !takes(&route.types, event_type) {
        return Verdict::OtherType;
    }
    match &route.filter {
        None => return Verdict::Matched,
        Some(filter) => {
            if let Err(error) = &filter.compiled {
                // Another relay may be able to compile it.
                return Verdict::Undecided { reason: error.to_string(), again: true };
            }
        }
    }
    match results.next() {
        Some(Ok(true)) => Verdict::Matched,
        Some(Ok(false)) => Verdict::NotMatched,
        Some(Err(error)) => undecided(&error),
        None => Verdict::Undecided { reason: "the evaluation returned no result yet".to_owned(), again: true },
    }
}

fn undecided(error: &ExpressionError) -> Verdict {
    let (reason, again) = (error.to_string(), error.is_ours());
    if again || error.cannot_read_body() {
        Verdict::Undecided { reason, again }
    } else {
        Verdict::FilterFailed { reason }
    }
}

#[cfg(test)]
mod tests {
    use shared::id::{DestinationId, RouteId};

    use super::*;
    use crate::configuration::Expression;
    use model::poison::Poison;

    fn route(types: &[&str], filter: Option<&str>) -> Route {
        Route {
            id: RouteId::mint(1, [1; 10]),
            source_id: SourceId::mint(1, [2; 10]),
            destination_id: DestinationId::mint(1, [3; 10]),
            types: types.iter().map(|&name| name.to_owned()).collect(),
            filter: filter.map(|text| Expression { source: text.to_owned(), compiled: Filter::compile(text) }),
            transform: None,
            order_key: None,
            poison: Poison::default(),
            enabled: true,
            version: 1,
        }
    }

    fn becomes(verdict: Verdict) -> Becomes {
        Answer { route: Arc::new(route(&[], None)), verdict, order_key: Some(7) }.becomes()
    }

    #[test]
    fn a_route_without_types_takes_every_event_and_otherwise_exactly_its_types() {
        let types = ["invoice.paid".to_owned(), "charge".to_owned()];
        for (event_type, taken) in [
            (Some("invoice.paid"), true),
            (Some("charge"), true),
            (Some("invoice.paid.late"), false),
            (Some("invoice"), false),
            (Some("Charge"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(takes(&types, event_type), taken, "{event_type:?}");
            assert!(takes(&[], event_type), "{event_type:?}");
        }
    }

    #[test]
    fn the_type_is_tested_before_the_filter_and_after_the_switch() {
        let none = || std::iter::empty::<Result<bool, ExpressionError>>();
        let typed = route(&["a"], Some("body.x == 1"));
        assert!(evaluated_for(&typed, Some("a")).is_some());
        assert!(evaluated_for(&typed, Some("b")).is_none(), "the filter is not evaluated");
        assert!(evaluated_for(&typed, None).is_none());
        assert_eq!(verdict(&typed, Some("b"), &mut none()), Verdict::OtherType);
        let mut results = [Ok(false)].into_iter();
        assert_eq!(verdict(&typed, None, &mut results), Verdict::OtherType);
        assert_eq!(verdict(&typed, Some("a"), &mut results), Verdict::NotMatched, "the result is that of this route");
        assert_eq!(verdict(&route(&["a"], None), Some("a"), &mut none()), Verdict::Matched);
        let broken = route(&["a"], Some("no expression ("));
        assert_eq!(verdict(&broken, Some("b"), &mut none()), Verdict::OtherType, "nothing is held");
        assert!(matches!(verdict(&broken, Some("a"), &mut none()), Verdict::Undecided { .. }));
        let off = Route { enabled: false, ..route(&["a"], None) };
        assert_eq!(verdict(&off, Some("b"), &mut none()), Verdict::Off);
    }

    #[test]
    fn only_a_delivery_that_a_route_approves_is_due() {
        assert_eq!(becomes(Verdict::Matched), Becomes::Due { order_key: Some(7) });
        let reason = || "no\0time".to_owned();
        for (verdict, by) in [
            (Verdict::Undecided { reason: reason(), again: true }, HeldBy::Filter),
            (Verdict::Unordered { reason: reason(), again: true }, HeldBy::OrderKey),
        ] {
            let Becomes::Held(held) = becomes(verdict.clone()) else { panic!("{verdict:?}") };
            assert_eq!((held.by, held.again), (by, true));
            assert!(held.reason.ends_with("could not be evaluated: no\u{fffd}time"), "{}", held.reason);
        }
        for verdict in
            [Verdict::Off, Verdict::OtherType, Verdict::NotMatched, Verdict::FilterFailed { reason: reason() }]
        {
            assert!(matches!(becomes(verdict.clone()), Becomes::Nothing(why) if !why.contains('\0')), "{verdict:?}");
        }
    }

    #[test]
    fn the_same_key_of_two_routes_is_two_orders() {
        let (one, other) = (RouteId::mint(1, [1; 10]), RouteId::mint(1, [2; 10]));
        assert_eq!(of_route(one, 7), of_route(one, 7));
        assert_ne!(of_route(one, 7), of_route(other, 7));
        assert_ne!(of_route(one, 7), of_route(one, 8));
    }
}
