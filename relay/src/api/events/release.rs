//! Letting an event go whose signature failed.

use axum::Json;
use axum::extract::State;
use shared::id::{CustomerId, DestinationId, SourceId};
use tokio::time::Instant;

use super::{ASK_WITHIN, EventDetail, detail, find, headers, view};
use crate::api::auth::Caller;
use crate::api::input::Segment;
use crate::api::problem::{ApiError, Conflict, Refusals};
use crate::pull::arrival;
use crate::store::admit::NewEvent;
use crate::store::events::{self, EventRow, Released};
use crate::store::partitions::with_partitions;
use crate::{App, route, store};

/// How often the routes are asked again because somebody changes them at the same time.
const ROUNDS: usize = 5;

/// Releases an event from quarantine: it is routed as if it had just arrived. One that has been released before stays as
/// it is. `POST /v1/replays` with `"verification": "failed"` in its filter releases many.
#[utoipa::path(post, path = "/v1/events/{id}/release", tag = "events", params(("id" = String, Path)),
    responses((status = 200, body = EventDetail), Refusals))]
pub(in crate::api) async fn release(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<EventDetail>, ApiError> {
    let row = find(&app, caller.customer, &id).await?;
    match row.verification.as_str() {
        "failed" => {}
        "released" => return Ok(Json(detail(&app, caller.customer, row).await?)),
        _ => return Err(ApiError::Conflict(Conflict::NotFailed)),
    }
    let body = store::pending::body(&app.pool, row.id).await?;
    let first_with_body = app.config.retention.first_with_body(app.clock.now_ms().await?);
    let body = body.filter(|_| row.id >= first_with_body);
    let body = body.ok_or(ApiError::Conflict(Conflict::BodyGone))?;
    route_and_release(&app, &row, &body).await?;
    let row = find(&app, caller.customer, &id).await?;
    Ok(Json(detail(&app, CustomerId::from_uuid(row.customer_id), row).await?))
}

async fn route_and_release(app: &App, row: &EventRow, body: &[u8]) -> Result<(), ApiError> {
    let headers = headers(row);
    let mut snapshot = app.configuration.refresh().await?;
    for _ in 0..ROUNDS {
        let answers =
            route::ask(&app.evaluator, &snapshot, &view(row, &headers, body), Instant::now() + ASK_WITHIN).await;
        let event = NewEvent {
            id: row.id,
            customer_id: row.customer_id,
            source_id: row.source_id,
            received_at: row.received_at,
            event_type: row.event_type.clone(),
            provider_event_id: row.provider_event_id.clone(),
            // It was stored without one, because nothing had verified it. Its owner has now.
            dedupe_key: snapshot
                .sources
                .get(&SourceId::from_uuid(row.source_id))
                .and_then(|source| source.key(&row.query, &headers, body)),
            method: row.method.clone(),
            query: row.query.clone(),
            headers: row.headers.clone(),
            body: Vec::new(),
            verification: "released",
            failure: None,
            quarantine: None,
            deliveries: arrival::deliveries(&snapshot, &answers),
        };
        let days = app.releaser.intake.dedupe_days;
        match with_partitions!(&app.pool, events::release(&app.pool, &event, snapshot.version, days))? {
            Released::Done => {
                if event.parks() {
                    app.releaser.intake.parked.notify_one();
                }
                event.deliveries.iter().for_each(|made| app.engine.look(DestinationId::from_uuid(made.destination_id)));
                return Ok(());
            }
            Released::StaleConfiguration => snapshot = app.configuration.refresh().await?,
            Released::NotWaiting => return Ok(()),
        }
    }
    Err(ApiError::Conflict(Conflict::ChangedMeanwhile))
}
