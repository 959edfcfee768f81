//! Events: what was received, byte for byte, and what became of it.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use serde::{Deserialize, Serialize};
use shared::header::HeaderList;
use shared::id::{CustomerId, DestinationId, EventId, RouteId, SourceId, uuid_v7_ms};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::deliveries::{self, Delivery};
use super::input::{Params, Segment};
use super::page::{Page, Window};
use super::problem::{ApiError, Problems, Refusals};
use super::sources;
use super::time::{Timestamp, id_range};
use crate::configuration::Snapshot;
use crate::recheck::{Recheck, Rechecker};
use crate::route::{self, Answer, EventView, Verdict};
use crate::store::events::{self, EventRow, Selection, SummaryRow};
use crate::{App, mint, store};

pub(crate) mod release;

/// How long a caller waits for what the routes say of an event.
pub(crate) const ASK_WITHIN: Duration = Duration::from_secs(10);

/// The most deliveries that are shown with their event; `GET /v1/deliveries?event=` has all.
pub(crate) const DELIVERIES_SHOWN: i64 = 200;

/// Headers of the provider that are credentials. Their names are shown.
const HIDDEN: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// An event, without its headers and body.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    #[schema(value_type = String, example = "evt_0197f3c8d2a17c3e9b5d0a4c6f7e8b91")]
    pub id: EventId,
    #[schema(value_type = String)]
    pub source_id: SourceId,
    /// The source's name; null where it has been deleted.
    pub source: Option<String>,
    pub received_at: Timestamp,
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// The id that the provider gave it.
    pub key: Option<String>,
    /// The size of its body in bytes.
    pub body_size: i32,
    #[schema(value_type = Verification)]
    pub verification: String,
    /// Why it was refused, where it is or was in quarantine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<EventFailure>,
    /// How many more times the provider sent it.
    pub duplicates: i32,
    /// The event that holds the same key with another body. Both are stored and delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "evt_0197f3c8d2a17c3e9b5d0a4c6f7e8b91")]
    pub same_key_as: Option<EventId>,
}

/// Why the edge refused a request that is kept all the same.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventFailure {
    /// A stable code.
    #[schema(example = "signature_mismatch")]
    pub cause: String,
    /// What is known, for the source's owner; the sender was told nothing of it.
    #[schema(example = "no signature matches the secret")]
    pub detail: String,
}

/// A copy of an event whose body is another one, of a provider that changes the body when it sends an event again.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedCopy {
    /// The id that the copy was answered with.
    #[schema(value_type = String, example = "evt_0197f3c8d2a17c3e9b5d0a4c6f7e8b91")]
    pub id: EventId,
    pub received_at: Timestamp,
    /// The size of its body in bytes.
    pub body_size: i32,
}

/// An event with everything that is known of it but its body.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventDetail {
    #[serde(flatten)]
    pub event: Event,
    /// The id that was asked for, if it is the one that a copy of this event was answered with. The first hundred or so
    /// copies of an event can be asked for like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub duplicate_id: Option<EventId>,
    /// The first copy whose body is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_copy: Option<ChangedCopy>,
    pub stored_at: Timestamp,
    pub method: String,
    pub query: String,
    /// In the order they arrived. Values of credentials are not shown.
    pub headers: Vec<Header>,
    /// The newest 200 of its deliveries.
    pub deliveries: Vec<Delivery>,
    /// What every route of its source says of it, by the filters of now.
    pub routes: Vec<RouteAnswer>,
    /// Of an event that is or was in quarantine: whether it verifies by what its source has now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification_now: Option<Recheck>,
}

/// A header of the provider's request.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// How the signature of an event was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    Verified,
    /// The signature is good and its time was out of tolerance, which the source asked to accept.
    Stale,
    /// The source asks for none.
    Unsigned,
    /// It failed, and the source asked to keep such events; it is not delivered until it is released.
    Failed,
    /// It failed, and a person has released it.
    Released,
}

impl Verification {
    fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Stale => "stale",
            Self::Unsigned => "unsigned",
            Self::Failed => "failed",
            Self::Released => "released",
        }
    }
}

/// What a route says of an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct RouteAnswer {
    #[schema(value_type = String)]
    pub route_id: RouteId,
    #[schema(value_type = String)]
    pub destination_id: DestinationId,
    /// The destination's name.
    pub destination: Option<String>,
    pub outcome: RouteOutcome,
    /// Why not, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a route matches an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteOutcome {
    Matched,
    /// The route is switched off.
    Off,
    /// The filter is false.
    NotMatched,
    /// The filter fails on this event.
    FilterFailed,
    /// The filter could not be evaluated; a delivery is made and held until it can be.
    Undecided,
    /// The filter matches and the order key fails on this event: its delivery is held until the route is changed.
    Unordered,
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// Id or name.
    source: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// The id that the provider gave it.
    key: Option<String>,
    verification: Option<Verification>,
    /// Received at or after this time, RFC 3339.
    after: Option<String>,
    /// Received before this time, RFC 3339.
    before: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A page of events, newest first.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(EventQuery),
    responses((status = 200, body = Page<Event>), Refusals))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(query): Params<EventQuery>,
) -> Result<Json<Page<Event>>, ApiError> {
    let mut problems = Problems::default();
    let window = Window::read(query.limit, query.cursor.as_deref(), &mut problems);
    let range = id_range(query.after.as_deref(), query.before.as_deref(), window, &mut problems);
    let source = sources::id_of(&app, caller.customer, "source", query.source.as_deref(), &mut problems).await?;
    problems.finish()?;
    let selection = Selection {
        source,
        event_type: query.event_type,
        provider_event_id: query.key,
        verification: query.verification.map(Verification::as_str),
    };
    let mut search = events::Page { customer: caller.customer, selection, limit: window.fetch(), found: Vec::new() };
    let ended = window.search(&app, &mut search, range).await?;
    Ok(Json(window.found(ended, search.found, |row| row.id, summary)))
}

/// One event: its headers, its deliveries, and what every route says of it. The id that a copy was answered with gives the
/// event that it is a copy of.
#[utoipa::path(get, path = "/v1/events/{id}", tag = "events", params(("id" = String, Path)),
    responses((status = 200, body = EventDetail), Refusals))]
pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<EventDetail>, ApiError> {
    let id: EventId = id.parse().map_err(|_| ApiError::NotFound("event"))?;
    if let Some(row) = events::find(&app.pool, caller.customer, id).await? {
        return Ok(Json(detail(&app, caller.customer, row).await?));
    }
    let event = events::of_duplicate(&app.pool, id).await?.ok_or(ApiError::NotFound("event"))?;
    let row = events::find(&app.pool, caller.customer, event).await?.ok_or(ApiError::NotFound("event"))?;
    let detail = detail(&app, caller.customer, row).await?;
    Ok(Json(EventDetail { duplicate_id: Some(id), ..detail }))
}

/// The body of an event, byte for byte. It is a stranger's text: always an attachment, never shown by a browser.
#[utoipa::path(get, path = "/v1/events/{id}/body", tag = "events", params(("id" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream", description = "with the original content type"), Refusals))]
pub(super) async fn body(State(app): State<App>, caller: Caller, Segment(id): Segment) -> Result<Response, ApiError> {
    let row = find(&app, caller.customer, &id).await?;
    let body = store::pending::body(&app.pool, row.id).await?;
    let body = body.ok_or(ApiError::PastRetention(app.config.retention))?;
    Ok(attachment(&row, EventId::from_uuid(row.id), body))
}

/// The body of the first copy whose body is another one, byte for byte, as an attachment.
#[utoipa::path(get, path = "/v1/events/{id}/changed-copy/body", tag = "events", params(("id" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream", description = "with the content type of the event"), Refusals))]
pub(super) async fn changed_copy_body(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let row = find(&app, caller.customer, &id).await?;
    let copy = events::changed_copy(&app.pool, row.id).await?.ok_or(ApiError::NotFound("changed copy"))?;
    let body = events::changed_copy_body(&app.pool, row.id).await?.ok_or(ApiError::NotFound("changed copy"))?;
    Ok(attachment(&row, EventId::from_uuid(copy.id), body))
}

fn attachment(row: &EventRow, id: EventId, body: Vec<u8>) -> Response {
    let content_type = headers(row).get("content-type").and_then(|value| HeaderValue::from_str(value).ok());
    let disposition = format!("attachment; filename=\"{id}\"");
    let mut response = body.into_response();
    let answered = response.headers_mut();
    answered.insert(CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    answered.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        answered.insert(CONTENT_DISPOSITION, disposition);
    }
    response
}

async fn find(app: &App, customer: CustomerId, id: &str) -> Result<EventRow, ApiError> {
    let id: EventId = id.parse().map_err(|_| ApiError::NotFound("event"))?;
    events::find(&app.pool, customer, id).await?.ok_or(ApiError::NotFound("event"))
}

async fn detail(app: &App, customer: CustomerId, row: EventRow) -> Result<EventDetail, ApiError> {
    let snapshot = app.configuration.current();
    let event = EventId::from_uuid(row.id);
    let unusable = snapshot.unusable_ids();
    let rows = store::deliveries::of_event(&app.pool, customer, event, unusable, DELIVERIES_SHOWN).await?;
    let headers = headers(&row);
    let (routes, verification_now) = match store::pending::body(&app.pool, row.id).await? {
        Some(body) => {
            let event = view(&row, &headers, &body);
            let recheck = match row.failure_cause {
                Some(_) => Some(Rechecker::of(app, customer, event.source_id).await?.check(&event)),
                None => None,
            };
            (route::ask(&app.evaluator, &snapshot, &event, Instant::now() + ASK_WITHIN).await, recheck)
        }
        // No filter can be asked; what the routes said then shows in the deliveries.
        None => (Vec::new(), None),
    };
    let changed_copy = events::changed_copy(&app.pool, row.id).await?;
    Ok(EventDetail {
        duplicate_id: None,
        changed_copy: changed_copy.map(|copy| ChangedCopy {
            id: EventId::from_uuid(copy.id),
            received_at: Timestamp(mint::timestamp(uuid_v7_ms(copy.id))),
            body_size: copy.body_size,
        }),
        stored_at: Timestamp(row.stored_at),
        method: row.method.clone(),
        query: row.query.clone(),
        headers: shown(&headers),
        deliveries: rows.into_iter().map(|row| deliveries::view(row, &snapshot)).collect(),
        routes: routes.into_iter().map(|answer| route_view(answer, &snapshot)).collect(),
        verification_now,
        event: summary(SummaryRow {
            id: row.id,
            source_id: row.source_id,
            source_name: row.source_name,
            received_at: row.received_at,
            event_type: row.event_type,
            provider_event_id: row.provider_event_id,
            body_size: row.body_size,
            verification: row.verification,
            failure_cause: row.failure_cause,
            failure_detail: row.failure_detail,
            duplicates: row.duplicates,
            same_key_as: row.same_key_as,
        }),
    })
}

fn view<'a>(row: &'a EventRow, headers: &'a HeaderList, body: &'a [u8]) -> EventView<'a> {
    EventView {
        id: EventId::from_uuid(row.id),
        source_id: SourceId::from_uuid(row.source_id),
        source_name: row.source_name.as_deref().unwrap_or_default(),
        event_type: row.event_type.as_deref(),
        provider_event_id: row.provider_event_id.as_deref(),
        received_at_ms: mint::unix_ms(row.received_at),
        method: &row.method,
        query: &row.query,
        headers,
        body,
    }
}

fn headers(row: &EventRow) -> HeaderList {
    serde_json::from_value(row.headers.clone()).unwrap_or_default()
}

fn shown(headers: &HeaderList) -> Vec<Header> {
    let value =
        |name: &str, value: &str| if HIDDEN.contains(&name) { "(not shown)".to_owned() } else { value.to_owned() };
    headers.iter().map(|(name, text)| Header { name: name.to_owned(), value: value(name, text) }).collect()
}

fn summary(row: SummaryRow) -> Event {
    Event {
        id: EventId::from_uuid(row.id),
        source_id: SourceId::from_uuid(row.source_id),
        source: row.source_name,
        received_at: Timestamp(row.received_at),
        event_type: row.event_type,
        key: row.provider_event_id,
        body_size: row.body_size,
        verification: row.verification,
        failure: row.failure_cause.zip(row.failure_detail).map(|(cause, detail)| EventFailure { cause, detail }),
        duplicates: row.duplicates,
        same_key_as: row.same_key_as.map(EventId::from_uuid),
    }
}

fn route_view(answer: Answer, snapshot: &Snapshot) -> RouteAnswer {
    let (outcome, reason) = match answer.verdict {
        Verdict::Matched => (RouteOutcome::Matched, None),
        Verdict::Off => (RouteOutcome::Off, Some("the route is switched off".to_owned())),
        Verdict::NotMatched => (RouteOutcome::NotMatched, Some("the filter is false for this event".to_owned())),
        Verdict::FilterFailed { reason } => (RouteOutcome::FilterFailed, Some(reason)),
        Verdict::Undecided { reason, .. } => (RouteOutcome::Undecided, Some(reason)),
        Verdict::Unordered { reason, .. } => (RouteOutcome::Unordered, Some(reason)),
    };
    let destination = snapshot.destinations.get(&answer.route.destination_id);
    RouteAnswer {
        route_id: answer.route.id,
        destination_id: answer.route.destination_id,
        destination: destination.map(|destination| destination.name.clone()),
        outcome,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_among_the_headers_are_not_shown() {
        let headers = HeaderList::new([("Authorization", "Basic secret"), ("X-Event", "paid"), ("cookie", "secret")]);
        let shown = serde_json::to_string(&shown(&headers)).expect("json");
        assert!(shown.contains("paid") && shown.contains("authorization") && !shown.contains("secret"), "{shown}");
    }
}
