//! The stream of changes, as server-sent events.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::unfold;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use model::change::ChangeKind;
use model::delivery::DeliveryState;
use serde::Deserialize;
use utoipa::IntoParams;

use super::input::Params;
use super::problem::{ApiError, PositionGone};
use crate::control::fields::FieldError;
use crate::control::stream::{self, Position, Sent, StreamRequest};
use crate::control::{Actor, Control, Error, schema};

/// How long a client waits before it continues a stream that has ended, in milliseconds. The client's library reads it.
pub const RETRY_MS: u64 = 1_000;

/// The header with which a client names the last position that it has received.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Has nginx pass each event on at once.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Query parameters of `GET /v1/stream`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// Only changes of this kind.
    kind: Option<ChangeKind>,
    /// Only changes of events of the source with this id or name, and of their deliveries.
    #[param(value_type = Option<schema::SourceReference>)]
    source: Option<String>,
    /// Only changes of deliveries to the destination with this id or name, and their attempts.
    #[param(value_type = Option<schema::DestinationReference>)]
    destination: Option<String>,
    /// Only changes of events of this type, and of their deliveries.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Only changes of deliveries that the route with this id created, and their attempts.
    #[param(value_type = Option<schema::RouteId>)]
    route: Option<String>,
    /// Only changes of deliveries to this state.
    state: Option<DeliveryState>,
    /// Begin with the first change after this position. Without it, and without the header `Last-Event-ID`, the stream
    /// begins with the next change from now on.
    #[param(value_type = Option<schema::Position>)]
    after: Option<String>,
}

/// Streams changes of events and deliveries as they are stored.
///
/// The response is a stream of server-sent events. The `data` of each is a JSON object in one line with the schema
/// `Change`, its `event` is the `kind` of the change, and its `id` is the position after the change. Changes come in the
/// order in which they were stored, each exactly once. At the beginning and after 15 seconds without a change, an event
/// without data has the position that was reached.
///
/// A client whose connection ends continues without a gap or a repetition on any replica: it repeats the request with
/// the last `id` in the header `Last-Event-ID`, as the `EventSource` of a browser does, or in `after`. Changes are kept
/// for at least a day. The response to an older position is 410; list the events since then, and begin a stream without
/// a position. It is 410 too after the database was restored or another server of it has taken over.
///
/// A stream ends when its token is revoked or expires, when the relay shuts down, and when the client does not read for
/// 30 seconds. A token may have 100 streams on one replica.
#[utoipa::path(get, path = "/v1/stream", tag = "stream", security(("token" = ["read"])),
    params(
        StreamQuery,
        ("Last-Event-ID" = Option<schema::Position>, Header,
            description = "The last `id` that the client has received. It replaces `after`."),
    ),
    responses((
        status = 200, content_type = "text/event-stream", body = String,
        description = "Server-sent events. The `data` of each has the schema `Change`.",
    ), PositionGone))]
pub(super) async fn follow(
    State(control): State<Control>,
    actor: Actor,
    headers: HeaderMap,
    Params(query): Params<StreamQuery>,
) -> Result<Response, ApiError> {
    let StreamQuery { kind, source, destination, event_type, route, state, after } = query;
    let last_event_id = last_event_id(&headers)?;
    let request = StreamRequest { kind, source, destination, event_type, route, state, after, last_event_id };
    let stream = stream::open(&control, &actor, request).await?;
    let events = unfold(stream, |mut stream| async {
        let sent = stream.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(event(&sent))), stream))
    });
    let mut response = Body::from_stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// The header `Last-Event-ID`; `None` if it is missing or empty.
fn last_event_id(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let text = value.to_str().map_err(|_| {
        ApiError::from(Error::Invalid(vec![FieldError::new("Last-Event-ID", "is not a position; omit it")]))
    })?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// The text of a server-sent event.
fn event(sent: &Sent) -> String {
    let position = |position: &Position| format!("id: {position}\n\n");
    match sent {
        Sent::Begin(at) => format!("retry: {RETRY_MS}\n{}", position(at)),
        Sent::Change(item) => {
            let data = item.text(stream::json);
            format!("event: {}\nid: {}\ndata: {data}\n\n", item.kind.name(), item.position)
        }
        Sent::Heartbeat(at) => format!(": heartbeat\n{}", position(at)),
        Sent::End(at) => format!(": end\nretry: {RETRY_MS}\n{}", position(at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_without_data_have_only_a_position() {
        let at = Position::before(1, 2);
        assert_eq!(event(&Sent::Begin(at)), format!("retry: 1000\nid: {at}\n\n"));
        assert_eq!(event(&Sent::Heartbeat(at)), format!(": heartbeat\nid: {at}\n\n"));
        assert_eq!(event(&Sent::End(at)), format!(": end\nretry: 1000\nid: {at}\n\n"));
    }

    #[test]
    fn an_empty_last_event_id_is_none() {
        let read = |text: &str| {
            let value = HeaderValue::from_str(text).expect("a value");
            last_event_id(&HeaderMap::from_iter([(LAST_EVENT_ID, value)])).expect("reads")
        };
        assert_eq!((read(""), read("pos_1").as_deref()), (None, Some("pos_1")));
    }
}
