//! Tries the types and expressions of a route against events, without storing or sending anything.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use expression::{
    EventFields, ExpressionError, Filter, Input, MAX_BODY_BYTES, Measured, OrderKey, Transform, Transformed, Trial,
    Tried, Turn,
};
use serde::{Deserialize, Serialize};
use shared::id::{EventId, SourceId};
use store::events::{self, EventRow, Selection};
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use super::events::RouteOutcome;
use super::fields::{FieldError, Problems};
use super::given::{self, GivenHeader};
use super::page::{PageRequest, Window, id_range};
use super::patch::given as given_or_null;
use super::record::{self, Action, Object};
use super::{Actor, Control, Error, Scope, event_types, schema, sources};
use crate::configuration::Snapshot;
use crate::{mint, route};

/// The maximum number of events of one trial.
pub(crate) const MAX_EVENTS: usize = 20;

/// How long the evaluations of one trial may take together.
pub(crate) const WITHIN: Duration = Duration::from_secs(10);

/// How much of the result of a transform, and of an order key, is shown, in bytes.
pub(crate) const SHOWN_BYTES: usize = 16 * 1024;

/// The expressions of a route, and the events to try them against. Either `events` or `recent` is required.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTrial {
    /// The id of a route. Its types and expressions are tried, except for those that this request sets itself. Whether
    /// the route is enabled does not matter.
    #[schema(value_type = Option<schema::RouteId>)]
    pub route: Option<String>,
    /// The types of events that the route takes. Null or an empty list takes events of every type.
    #[serde(default, deserialize_with = "given_or_null")]
    #[schema(value_type = Option<schema::EventTypes>)]
    pub types: Option<Option<Vec<String>>>,
    /// The filter. Null means none, so that every event matches.
    #[serde(default, deserialize_with = "given_or_null")]
    #[schema(value_type = Option<schema::FilterExpression>)]
    pub filter: Option<Option<String>>,
    /// The transform. Null means none.
    #[serde(default, deserialize_with = "given_or_null")]
    #[schema(value_type = Option<schema::TransformExpression>)]
    pub transform: Option<Option<String>>,
    /// The order key. Null means none.
    #[serde(default, deserialize_with = "given_or_null")]
    #[schema(value_type = Option<schema::OrderKeyExpression>)]
    pub order_key: Option<Option<String>>,
    /// Events to try against.
    #[schema(min_items = 1, max_items = 20)]
    pub events: Option<Vec<GivenEvent>>,
    /// Stored events to try against: the newest of a source.
    pub recent: Option<RecentEvents>,
}

/// An event that the request gives.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenEvent {
    /// The event type. If omitted and `route` is set, the type is found as the source of the route finds it.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// The provider's id of the event.
    pub key: Option<String>,
    /// The HTTP method. If omitted, the one with which most providers send.
    #[schema(pattern = "^[A-Z]{1,20}$")]
    pub method: Option<String>,
    /// The query string, without `?`.
    pub query: Option<String>,
    /// The headers.
    #[schema(max_items = 200)]
    pub headers: Option<Vec<GivenHeader>>,
    /// The body as text. Omit both this and `body_base64` for an event without a body.
    pub body: Option<String>,
    /// The body in base64.
    #[schema(content_encoding = "base64", pattern = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$")]
    pub body_base64: Option<String>,
}

/// Selects stored events.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecentEvents {
    /// The id or name of a source. If omitted, the source of the route.
    #[schema(value_type = Option<schema::SourceReference>)]
    pub source: Option<String>,
    /// Only events of this type.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// How many of the newest events are tried. Default: 5.
    #[serde(default, deserialize_with = "super::fields::optional_whole")]
    #[schema(minimum = 1, maximum = 20)]
    pub limit: Option<i64>,
}

/// The results of a trial.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrialReport {
    /// A result for each event: of given events in their order, of stored events from the newest.
    pub results: Vec<TrialResult>,
}

/// The result of a trial for one event.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrialResult {
    /// The id of the event. Absent if the request gave the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::EventId, required = false)]
    pub event_id: Option<EventId>,
    /// The type of the event; null if it has none.
    #[serde(rename = "type")]
    #[schema(required = true)]
    pub event_type: Option<String>,
    /// Whether the route would match.
    pub outcome: RouteOutcome,
    /// Why the outcome is not `matched`. Absent if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reason: Option<String>,
    /// The evaluation of the filter. Absent if there is no filter or it was not evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub filter: Option<TriedFilter>,
    /// The evaluation of the order key. Absent if there is none or the event does not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub order_key: Option<TriedOrderKey>,
    /// The evaluation of the transform. Absent if there is none or the event does not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub transform: Option<TriedTransform>,
}

/// The evaluation of a filter.
#[derive(Debug, Serialize, ToSchema)]
pub struct TriedFilter {
    /// Whether the filter returned true. Absent if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub matched: Option<bool>,
    /// Why the evaluation failed. Absent if it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<TrialError>,
    /// What the evaluation cost.
    pub cost: TrialCost,
}

/// The evaluation of an order key.
#[derive(Debug, Serialize, ToSchema)]
pub struct TriedOrderKey {
    /// The value as JSON, up to 16 KiB of it. Absent if it failed, or if the delivery has no order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub value: Option<String>,
    /// Why the evaluation failed. Absent if it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<TrialError>,
    /// What the evaluation cost.
    pub cost: TrialCost,
}

/// The evaluation of a transform.
#[derive(Debug, Serialize, ToSchema)]
pub struct TriedTransform {
    /// The body that would be sent. Absent if the transform failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub result: Option<TransformedBody>,
    /// Why the evaluation failed; the delivery would be held. Absent if it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<TrialError>,
    /// What the evaluation cost.
    pub cost: TrialCost,
}

/// A body that a transform returned.
#[derive(Debug, Serialize, ToSchema)]
pub struct TransformedBody {
    /// The content type with which the body would be sent.
    pub content_type: String,
    /// The size of the whole body in bytes.
    pub size: usize,
    /// Whether only the beginning is shown: 16 KiB.
    pub truncated: bool,
    /// The body, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub body: Option<String>,
    /// The body in base64, if it is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub body_base64: Option<String>,
}

/// Why an evaluation failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrialError {
    /// A machine-readable code that does not change between versions, such as `expression_missing_field`.
    #[schema(example = "expression_missing_field")]
    pub code: String,
    /// What is wrong, with the place.
    pub detail: String,
}

/// What an evaluation cost.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrialCost {
    /// The steps that it took. One evaluation may take 2,000,000.
    pub steps: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// An event to try against.
struct Tryable {
    id: Option<EventId>,
    event_type: Option<String>,
    input: Arc<Input>,
}

/// The types of a trial and its expressions, compiled.
struct Prepared {
    types: Vec<String>,
    trial: Trial,
}

/// Tries the types and expressions of a route against events: events that the caller gives, or the newest stored events
/// of a source, which also needs the scope `bodies`.
///
/// # Errors
/// Returns every invalid field, or an error if the route does not exist, if the scope is missing, or if a query fails.
pub async fn try_out(control: &Control, actor: &Actor, request: RouteTrial) -> Result<TrialReport, Error> {
    actor.require(Scope::Read)?;
    let RouteTrial { route, types, filter, transform, order_key, events, recent } = request;
    if recent.is_some() {
        actor.require(Scope::Bodies)?;
    }
    let mut problems = Problems::default();
    let saved = match &route {
        Some(id) => {
            let found = super::routes::find(control, actor, id).await;
            problems.named("route", id, found)?
        }
        None => None,
    };
    match (&events, &recent) {
        (Some(_), Some(_)) => problems.add("recent", "cannot be combined with events; omit one of them"),
        (None, None) => problems.add("events", "is required, unless recent is set"),
        (Some(_), None) | (None, Some(_)) => {}
    }
    // What the request sets itself has to be an expression that could be saved.
    let checked = [filter.is_some(), transform.is_some(), order_key.is_some()];
    let (saved_types, saved_texts) = saved.as_ref().map_or((Vec::new(), [None, None, None]), |row| {
        (row.types.clone(), [row.filter.clone(), row.transform.clone(), row.order_key.clone()])
    });
    let types = types.map_or(saved_types, Option::unwrap_or_default);
    event_types::check(&types, &mut problems);
    let [saved_filter, saved_transform, saved_key] = saved_texts;
    let texts = [filter.unwrap_or(saved_filter), transform.unwrap_or(saved_transform), order_key.unwrap_or(saved_key)];
    let trial = compile(texts, checked, &mut problems).await?;
    let source = saved.map(|row| row.source_id);
    let snapshot = control.configuration.current();
    let given = events.map(|events| read_given(events, source, &snapshot, &mut problems));
    let stored = match &recent {
        Some(recent) => find_recent(control, actor, recent, source, &mut problems).await?,
        None => Vec::new(),
    };
    problems.finish()?;
    let prepared = Prepared { types, trial };
    let until = Instant::now() + WITHIN;
    let mut results = Vec::new();
    for event in given.unwrap_or_default() {
        results.push(evaluate(control, &prepared, event, until).await);
    }
    for id in stored {
        results.extend(evaluate_stored(control, actor, &prepared, id, until).await?);
    }
    Ok(TrialReport { results })
}

/// Compiles a filter, a transform and an order key. What the request sets itself is checked as if it were saved. Errors
/// are noted as problems. Compiling blocks until another thread has finished it.
async fn compile(texts: [Option<String>; 3], checked: [bool; 3], problems: &mut Problems) -> Result<Trial, Error> {
    let compile = move || {
        let [filter, transform, order_key] = texts;
        let [check_filter, check_transform, check_key] = checked;
        let filter = filter.map(|text| {
            if check_filter {
                Filter::check(&text)?
            }
            Filter::compile(&text)
        });
        let transform = transform.map(|text| {
            if check_transform {
                Transform::check(&text)?
            }
            Transform::compile(&text)
        });
        let order_key = order_key.map(|text| {
            if check_key {
                OrderKey::check(&text)?
            }
            OrderKey::compile(&text)
        });
        (filter.transpose(), transform.transpose(), order_key.transpose())
    };
    let done = tokio::task::spawn_blocking(compile).await;
    let (filter, transform, order_key) = done.map_err(|error| Error::Internal(error.to_string()))?;
    Ok(Trial {
        filter: compiled("filter", filter, problems),
        transform: compiled("transform", transform, problems),
        order_key: compiled("order_key", order_key, problems),
    })
}

fn compiled<T>(field: &str, made: Result<Option<T>, ExpressionError>, problems: &mut Problems) -> Option<T> {
    made.unwrap_or_else(|error| {
        problems.push(FieldError::with_code(field, error.code(), error.to_string()));
        None
    })
}

/// The events that the caller gives. `source` is that of the route, if the trial names one.
fn read_given(
    events: Vec<GivenEvent>,
    source: Option<SourceId>,
    snapshot: &Snapshot,
    problems: &mut Problems,
) -> Vec<Tryable> {
    if !(1..=MAX_EVENTS).contains(&events.len()) {
        problems.add("events", format!("must have 1 to {MAX_EVENTS} entries, but has {}", events.len()));
    }
    let source = source.and_then(|id| snapshot.sources.get(&id));
    let mut read = Vec::new();
    for (at, event) in events.into_iter().enumerate() {
        let GivenEvent { event_type, key, method, query, headers, body, body_base64 } = event;
        let headers = given::headers(&format!("events[{at}].headers"), headers.unwrap_or_default(), problems);
        let body = given::body(&format!("events[{at}]."), body, body_base64, problems).unwrap_or_default();
        let query = query.unwrap_or_default();
        let names = source.and_then(|source| source.extractor.as_ref());
        let names = names.map(|extractor| extractor.extract(&query, &headers, &body));
        let (found_type, found_key) = names.map_or((None, None), |names| (names.event_type, names.provider_event_id));
        let event_type = event_type.or(found_type);
        let fields = EventFields {
            id: EventId::from_uuid(Uuid::nil()).to_string(),
            event_type: event_type.clone(),
            source: source.map(|source| source.name.clone()).unwrap_or_default(),
            provider_event_id: key.or(found_key),
            received_at_ms: mint::now_ms(),
            method: given::method(&format!("events[{at}].method"), method, problems),
            query,
        };
        read.push(Tryable { id: None, event_type, input: Arc::new(Input::new(fields, headers, body)) });
    }
    read
}

/// The ids of the newest stored events of a source.
async fn find_recent(
    control: &Control,
    actor: &Actor,
    recent: &RecentEvents,
    of_route: Option<SourceId>,
    problems: &mut Problems,
) -> Result<Vec<EventId>, Error> {
    let limit = recent.limit.unwrap_or(5);
    let limit = problems.range("recent.limit", limit, 1, i32::try_from(MAX_EVENTS).unwrap_or(i32::MAX));
    let named = sources::id_of(control, actor, "recent.source", recent.source.as_deref(), problems).await?;
    let source = named.or(of_route);
    if source.is_none() && recent.source.is_none() {
        problems.add("recent.source", "is required, unless route is set; set it to an id or a name");
    }
    let (Some(source), Some(limit)) = (source, limit) else { return Ok(Vec::new()) };
    let selection = Selection { source: Some(source), event_type: recent.event_type.clone(), ..Selection::default() };
    let page = PageRequest { limit: u32::try_from(limit).ok(), cursor: None };
    let window = Window::read(&page, problems);
    let range = id_range(None, None, window, problems);
    let mut search = events::Page::begin(&control.pool, Some(actor.customer()?), selection, i64::from(limit)).await?;
    window.search(&control.pool, &mut search, range).await?;
    Ok(search.found.into_iter().map(|row| row.id).collect())
}

/// Tries a stored event, and drops its body before the next one is read. `None` if the event was dropped meanwhile.
async fn evaluate_stored(
    control: &Control,
    actor: &Actor,
    prepared: &Prepared,
    id: EventId,
    until: Instant,
) -> Result<Option<TrialResult>, Error> {
    let Some(row) = events::find(&control.pool, actor.customer()?, id).await? else { return Ok(None) };
    record::read(control, actor, Action::EventReadBody, Object::of(id, row.customer_id)).await?;
    let EventRow { meta, source_name, body_size, .. } = row;
    let event_type = meta.event_type.clone();
    let source_name = source_name.unwrap_or_default();
    let size = usize::try_from(body_size).unwrap_or_default();
    if size > MAX_BODY_BYTES {
        let input = Arc::new(route::input_of(meta, &source_name, None, size));
        return Ok(Some(evaluate(control, prepared, Tryable { id: Some(id), event_type, input }, until).await));
    }
    let Some(body) = control.bodies.hold(body_size, store::pending::body(&control.pool, id)).await? else {
        return Ok(Some(TrialResult {
            event_id: Some(id),
            event_type,
            outcome: RouteOutcome::Undecided,
            reason: Some("the body of this event is no longer kept".to_owned()),
            filter: None,
            order_key: None,
            transform: None,
        }));
    };
    let input = Arc::new(route::input_of(meta, &source_name, Some(body.as_ref().to_vec()), size));
    let result = evaluate(control, prepared, Tryable { id: Some(id), event_type, input }, until).await;
    drop(body);
    Ok(Some(result))
}

async fn evaluate(control: &Control, prepared: &Prepared, event: Tryable, until: Instant) -> TrialResult {
    let Tryable { id, event_type, input } = event;
    let tried = if route::takes(&prepared.types, event_type.as_deref()) {
        // All trials take the turns of one source, so that they never delay routing by more than one source does.
        let turn = Turn { source: SourceId::from_uuid(Uuid::nil()), until };
        Some(control.evaluator.try_out(turn, &prepared.trial, &input).await)
    } else {
        None
    };
    let (outcome, reason) = outcome(tried.as_ref());
    let Tried { filter, order_key, transform } = tried.unwrap_or_default();
    TrialResult {
        event_id: id,
        event_type,
        outcome,
        reason,
        filter: filter.map(|measured| {
            let (cost, matched, error) = split(measured);
            TriedFilter { matched, error, cost }
        }),
        order_key: order_key.map(|measured| {
            let (cost, value, error) = split(measured);
            TriedOrderKey { value: value.flatten().map(|value| cut(value, SHOWN_BYTES)), error, cost }
        }),
        transform: transform.map(|measured| {
            let (cost, result, error) = split(measured);
            TriedTransform { result: result.map(shown), error, cost }
        }),
    }
}

/// What the route would decide about an event. `None` if the event has another type.
fn outcome(tried: Option<&Tried>) -> (RouteOutcome, Option<String>) {
    let Some(tried) = tried else {
        return (RouteOutcome::TypeNotMatched, Some("the event's type is not one of the given types".to_owned()));
    };
    match tried.filter.as_ref().map(|filter| &filter.result) {
        Some(Ok(false)) => return (RouteOutcome::NotMatched, Some("the filter is false for this event".to_owned())),
        Some(Err(error)) => {
            let undecided = error.is_ours() || error.cannot_read_body();
            let outcome = if undecided { RouteOutcome::Undecided } else { RouteOutcome::FilterFailed };
            return (outcome, Some(error.to_string()));
        }
        Some(Ok(true)) | None => {}
    }
    match tried.order_key.as_ref().map(|key| &key.result) {
        Some(Err(error)) => (RouteOutcome::Unordered, Some(error.to_string())),
        Some(Ok(_)) | None => (RouteOutcome::Matched, None),
    }
}

fn split<T>(measured: Measured<T>) -> (TrialCost, Option<T>, Option<TrialError>) {
    let Measured { result, steps, took } = measured;
    let cost = TrialCost { steps, took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX) };
    match result {
        Ok(value) => (cost, Some(value), None),
        Err(error) => (cost, None, Some(TrialError { code: error.code().to_owned(), detail: error.to_string() })),
    }
}

fn shown(transformed: Transformed) -> TransformedBody {
    let Transformed { body, content_type } = transformed;
    let size = body.len();
    let (body, body_base64) = match String::from_utf8(body) {
        Ok(text) => (Some(cut(text, SHOWN_BYTES)), None),
        Err(error) => {
            let bytes = error.into_bytes();
            (None, Some(BASE64.encode(bytes.get(..SHOWN_BYTES).unwrap_or(&bytes))))
        }
    };
    TransformedBody { content_type: content_type.to_owned(), size, truncated: size > SHOWN_BYTES, body, body_base64 }
}

/// The first bytes of a text, at the boundary of a character.
fn cut(mut text: String, bytes: usize) -> String {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(filter: Result<bool, ExpressionError>, key: Option<Result<Option<String>, ExpressionError>>) -> Tried {
        Tried {
            filter: Some(Measured { result: filter, steps: 1, took: Duration::ZERO }),
            order_key: key.map(|result| Measured { result, steps: 1, took: Duration::ZERO }),
            transform: None,
        }
    }

    #[test]
    fn the_outcome_is_that_of_routing() {
        let of = |filter, key| outcome(Some(&tried(filter, key))).0;
        assert_eq!(outcome(None).0, RouteOutcome::TypeNotMatched);
        assert_eq!(outcome(Some(&Tried::default())), (RouteOutcome::Matched, None));
        assert_eq!(of(Ok(true), None), RouteOutcome::Matched);
        assert_eq!(of(Ok(false), None), RouteOutcome::NotMatched);
        assert_eq!(of(Err(ExpressionError::MissingField("a".to_owned())), None), RouteOutcome::FilterFailed);
        assert_eq!(of(Err(ExpressionError::TooExpensive), None), RouteOutcome::Undecided);
        assert_eq!(of(Err(ExpressionError::TooSlow), None), RouteOutcome::Undecided);
        let key = Some(Err(ExpressionError::MissingField("a".to_owned())));
        assert_eq!(of(Ok(true), key), RouteOutcome::Unordered);
    }

    #[test]
    fn a_large_result_is_shown_from_its_beginning() {
        let of = |body: Vec<u8>| shown(Transformed { body, content_type: "text/plain" });
        let text = of("é".repeat(SHOWN_BYTES).into_bytes());
        assert_eq!((text.size, text.truncated), (2 * SHOWN_BYTES, true));
        assert_eq!(text.body.expect("text").len(), SHOWN_BYTES);
        let bytes = of(vec![0xff; 3]);
        assert_eq!((bytes.truncated, bytes.body, bytes.body_base64.as_deref()), (false, None, Some("////")));
        assert_eq!(cut("aé".to_owned(), 2), "a");
    }
}
