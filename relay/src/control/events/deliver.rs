//! Sends an event again to one destination, or sends an edited copy of it as an event of its own.
//!
//! Neither is a replay: it is one event, chosen by its id, and the deliveries are like those of the intake. They have
//! the limits of their destination and are signed as all others are. A delivery to a destination that the caller names
//! has no route, and so neither a transform nor an order key.

use model::event::{EventMeta, Verification};
use model::unix_time;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::header::HeaderList;
use shared::id::{CustomerId, DeliveryId, DestinationId, EventId};
use store::admit::{self, Admitted, Batch};
use store::events::{self, Delivered, EventRow};
use store::new_event::{NewDelivery, NewEvent};
use store::partitions::with_partitions;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::release::ROUNDS;
use super::{EVALUATE_WITHIN, find};
use crate::configuration::Snapshot;
use crate::control::error::Conflict;
use crate::control::fields::Problems;
use crate::control::given::{self, GivenHeader};
use crate::control::record::{self, Action, Object};
use crate::control::{Actor, Control, Error, Scope, destinations, schema};
use crate::intake::arrival;
use crate::mint;
use crate::route::{self, EventView};

/// The longest type of an edited event, in bytes.
pub(crate) const MAX_TYPE_BYTES: usize = 512;

/// Where an event is sent again, and what is changed in it before.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventDelivery {
    /// The id or name of the destination. No route has to lead to it. Required unless `edit` is set: an edited event
    /// without a destination is routed by the routes of its source.
    #[schema(value_type = Option<schema::DestinationReference>)]
    pub destination: Option<String>,
    /// What is changed. The result is stored as a new event, and the original stays as it is. Needs the scope `bodies`
    /// too.
    pub edit: Option<EventEdit>,
}

/// Changes to an event. What is omitted is that of the original.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventEdit {
    /// The type of the new event.
    #[serde(rename = "type")]
    #[schema(min_length = 1, max_length = 512)]
    pub event_type: Option<String>,
    /// All headers of the new event.
    #[schema(max_items = 200)]
    pub headers: Option<Vec<GivenHeader>>,
    /// The body of the new event as text.
    pub body: Option<String>,
    /// The body of the new event in base64.
    #[schema(content_encoding = "base64", pattern = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$")]
    pub body_base64: Option<String>,
}

/// What was sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventDelivered {
    /// The event that is delivered: the one of the path, or the new one if it was edited.
    #[schema(value_type = schema::EventId)]
    pub event_id: EventId,
    /// The deliveries that were created. An edited event that no route matches has none.
    pub deliveries: Vec<CreatedDelivery>,
}

/// A delivery that was created.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedDelivery {
    /// The id of the delivery.
    #[schema(value_type = schema::DeliveryId)]
    pub id: DeliveryId,
    /// The destination.
    #[schema(value_type = schema::DestinationId)]
    pub destination_id: DestinationId,
}

/// The changes of a request, read.
struct Edit {
    event_type: Option<String>,
    headers: Option<HeaderList>,
    body: Option<Vec<u8>>,
}

/// Sends an event again to a destination, or stores an edited copy of it and sends that.
///
/// # Errors
/// Returns every invalid field, or an error if the event does not exist, if it is in quarantine, if its body is no
/// longer kept and needed, or if a query fails.
pub async fn deliver(
    control: &Control,
    actor: &Actor,
    id: &str,
    request: EventDelivery,
) -> Result<EventDelivered, Error> {
    actor.require(Scope::Replay)?;
    let EventDelivery { destination, edit } = request;
    if edit.is_some() {
        actor.require(Scope::Bodies)?;
    }
    let row = find(control, actor, id).await?;
    let mut problems = Problems::default();
    let destination = match &destination {
        Some(text) => {
            let found = destinations::find(control, actor, text).await;
            problems.named("destination", text, found)?.map(|row| row.id)
        }
        None => {
            if edit.is_none() {
                problems
                    .add("destination", "is required unless edit is set; to send the event by its routes, replay it");
            }
            None
        }
    };
    let edit = edit.map(|edit| read(edit, &mut problems));
    problems.finish()?;
    if row.verification == Verification::Failed {
        return Err(Error::Conflict(Conflict::InQuarantine));
    }
    match (edit, destination) {
        (Some(edit), destination) => store_edited(control, actor, row, edit, destination).await,
        (None, Some(destination)) => send_again(control, actor, &row, destination).await,
        (None, None) => Err(Error::Internal("neither a destination nor an edit was read".to_owned())),
    }
}

fn read(edit: EventEdit, problems: &mut Problems) -> Edit {
    let EventEdit { event_type, headers, body, body_base64 } = edit;
    if event_type.as_deref().is_some_and(|text| text.is_empty() || text.len() > MAX_TYPE_BYTES) {
        problems.add("edit.type", format!("must be 1 to {MAX_TYPE_BYTES} bytes long"));
    }
    let has_body = body.is_some() || body_base64.is_some();
    let body = given::body("edit.", body, body_base64, problems).filter(|_| has_body);
    if event_type.is_none() && headers.is_none() && !has_body {
        problems.add("edit", "changes nothing; set type, headers or a body, or omit edit");
    }
    let headers = headers.map(|headers| given::headers("edit.headers", headers, problems));
    Edit { event_type, headers, body }
}

/// A delivery to a destination that a caller names.
fn to_destination(snapshot: &Snapshot, destination_id: DestinationId) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::from_uuid(mint::uuid()),
        destination_id,
        route_id: None,
        route_version: 1,
        order_key: None,
        first_wait: snapshot.first_wait(destination_id),
        undecided: None,
    }
}

async fn send_again(
    control: &Control,
    actor: &Actor,
    row: &EventRow,
    destination: DestinationId,
) -> Result<EventDelivered, Error> {
    let meta = &row.meta;
    let object = Object::of(meta.id, row.customer_id);
    let mut snapshot = control.configuration.refresh().await?;
    for _ in 0..ROUNDS {
        exists(&snapshot, destination)?;
        // Read after the configuration: a change of the retention before the delivery is stored changes that too.
        within_retention(control, row.customer_id, meta.id).await?;
        let delivery = to_destination(&snapshot, destination);
        let after = json!({ "destination": destination.to_string(), "delivery": delivery.id.to_string() });
        let entry = record::entry(actor, Action::EventDeliver, object.clone()).with(None, Some(after), []);
        let made = CreatedDelivery { id: delivery.id, destination_id: destination };
        let event = new_event(row.customer_id, meta, Vec::new(), row.verification, vec![delivery]);
        match with_partitions!(&control.pool, events::deliver(&control.pool, &event, snapshot.version, &entry))? {
            Delivered::Done => {
                control.engine.rescan(destination);
                return Ok(EventDelivered { event_id: meta.id, deliveries: vec![made] });
            }
            Delivered::StaleConfiguration => snapshot = control.configuration.refresh().await?,
            Delivered::NoBody => return Err(Error::Conflict(Conflict::BodyGone)),
        }
    }
    Err(Error::Conflict(Conflict::ChangedMeanwhile))
}

/// Checks that a destination was not deleted after the request named it.
fn exists(snapshot: &Snapshot, destination: DestinationId) -> Result<(), Error> {
    let found = snapshot.customer_and_name(destination);
    found.map(drop).ok_or(Error::Conflict(Conflict::DestinationGone))
}

async fn within_retention(control: &Control, customer: CustomerId, event: EventId) -> Result<(), Error> {
    let now_ms = control.clock.now_ms().await?;
    let first = control.config.retention.first_with_body_of(&control.pool, customer, now_ms).await?;
    if event.uuid() < first { Err(Error::Conflict(Conflict::BodyGone)) } else { Ok(()) }
}

async fn store_edited(
    control: &Control,
    actor: &Actor,
    row: EventRow,
    edit: Edit,
    destination: Option<DestinationId>,
) -> Result<EventDelivered, Error> {
    let Edit { event_type, headers, body } = edit;
    let original = row.meta.id;
    let held = match body {
        Some(_) => None,
        None => {
            let held = control.bodies.hold(row.body_size, store::pending::body(&control.pool, original)).await?;
            Some(held.ok_or(Error::Conflict(Conflict::BodyGone))?)
        }
    };
    let body = body.or_else(|| held.as_ref().map(|held| held.as_ref().to_vec())).unwrap_or_default();
    let source_name = row.source_name.clone().unwrap_or_default();
    let mut snapshot = control.configuration.refresh().await?;
    for _ in 0..ROUNDS {
        if !snapshot.sources.contains_key(&row.meta.source_id) {
            return Err(Error::Conflict(Conflict::SourceGone));
        }
        let now_ms = control.clock.now_ms().await?;
        let meta = EventMeta {
            id: EventId::mint(now_ms, mint::random()),
            received_at: unix_time::timestamp(now_ms),
            event_type: event_type.clone().or_else(|| row.meta.event_type.clone()),
            headers: headers.clone().unwrap_or_else(|| row.meta.headers.clone()),
            ..row.meta.clone()
        };
        let deliveries = match destination {
            Some(destination) => {
                exists(&snapshot, destination)?;
                vec![to_destination(&snapshot, destination)]
            }
            None => {
                let view = EventView::of(&meta, &source_name, &body);
                let until = Instant::now() + EVALUATE_WITHIN;
                let answers = route::evaluate(&control.evaluator, &snapshot, &view, until).await;
                arrival::deliveries(&snapshot, &answers)
            }
        };
        let made: Vec<_> = deliveries
            .iter()
            .map(|delivery| CreatedDelivery { id: delivery.id, destination_id: delivery.destination_id })
            .collect();
        let after = json!({
            "event": meta.id.to_string(),
            "destination": destination.map(|destination| destination.to_string()),
            "changed": changed(event_type.is_some(), headers.is_some(), held.is_none()),
        });
        let object = Object::of(original, row.customer_id);
        let entry = record::entry(actor, Action::EventDeliver, object).with(None, Some(after), []);
        let event = NewEvent {
            edited_of: Some(original),
            ..new_event(row.customer_id, &meta, body.clone(), Verification::Edited, deliveries)
        };
        let has_held = event.has_held_delivery();
        let batch = Batch { events: vec![event], entry: Some(entry), ..Batch::default() };
        let days = control.releaser.intake.dedupe_days;
        match with_partitions!(&control.pool, admit::admit(&control.pool, &batch, snapshot.version, days))? {
            Admitted::Stored { .. } => {
                if has_held {
                    control.releaser.intake.held.notify_one();
                }
                made.iter().for_each(|made| control.engine.rescan(made.destination_id));
                return Ok(EventDelivered { event_id: meta.id, deliveries: made });
            }
            Admitted::StaleConfiguration => snapshot = control.configuration.refresh().await?,
        }
    }
    Err(Error::Conflict(Conflict::ChangedMeanwhile))
}

/// The names of the parts that an edit changes, for the audit log.
fn changed(event_type: bool, headers: bool, body: bool) -> Vec<&'static str> {
    [("type", event_type), ("headers", headers), ("body", body)]
        .into_iter()
        .filter_map(|(name, is_changed)| is_changed.then_some(name))
        .collect()
}

/// The rows of an event without a key: a caller sends it on purpose, so it is never a copy.
fn new_event(
    customer_id: CustomerId,
    meta: &EventMeta,
    body: Vec<u8>,
    verification: Verification,
    deliveries: Vec<NewDelivery>,
) -> NewEvent {
    NewEvent {
        id: meta.id,
        customer_id,
        source_id: meta.source_id,
        received_at: meta.received_at,
        event_type: meta.event_type.clone(),
        provider_event_id: meta.provider_event_id.clone(),
        dedupe_key: None,
        // What is sent by hand reports on no job.
        job: None,
        edited_of: None,
        method: meta.method.clone(),
        query: meta.query.clone(),
        headers: meta.headers.clone(),
        body,
        verification,
        failure: None,
        quarantine: None,
        deliveries,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fields::wrong_fields;
    use super::*;

    #[test]
    fn an_edit_changes_something_and_each_fault_is_named() {
        let text = |text: &str| Some(text.to_owned());
        let of = |edit: EventEdit| {
            let mut problems = Problems::default();
            let edit = read(edit, &mut problems);
            (edit, wrong_fields(problems.finish()).into_iter().map(|error| error.field).collect::<Vec<_>>())
        };
        let (edit, wrong) = of(EventEdit { body: text(""), ..EventEdit::default() });
        assert_eq!((edit.body, wrong.len()), (Some(Vec::new()), 0), "an empty body is a change");
        assert_eq!(of(EventEdit::default()).1, ["edit"]);
        let (_, wrong) = of(EventEdit { event_type: text(""), body_base64: text("?"), ..EventEdit::default() });
        assert_eq!(wrong, ["edit.type", "edit.body_base64"]);
        assert_eq!(changed(true, false, true), ["type", "body"]);
    }
}
