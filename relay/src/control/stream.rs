//! The stream of changes: what happens to events and deliveries, in the order in which the database has stored it, from
//! a position on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use model::change::ChangeKind;
use model::delivery::DeliveryState;
use serde::Serialize;
use shared::id::{AttemptId, CustomerId, DeliveryId, DestinationId, EventId, ReplayId, RouteId, SourceId};
use store::Pool;
use store::changes::objects::{AttemptObject, DeliveryObject};
use store::changes::{self, Read};
use tokio::time::{Instant, sleep, sleep_until};
use utoipa::ToSchema;

use super::events::{Event, summary};
use super::fields::Problems;
use super::time::Timestamp;
use super::{Actor, Control, Error, Scope, destinations, schema, sources};
use crate::callers::Call;
use crate::streams::{Place, Streams};
use crate::tail::{Batch, Batches, Followed, Item, Subject, items};

pub use store::changes::Position;

/// How often a stream sends its position if nothing else was sent.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);

/// How long a caller who may not open one more stream is asked to wait.
pub const FULL_WAIT: Duration = Duration::from_secs(10);

/// How long a stream that cannot read the database waits before it tries again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A change of an event or a delivery. `kind` says which of `event`, `delivery` and `attempt` it has. They have no
/// bodies of events and of responses.
#[derive(Debug, Serialize, ToSchema)]
pub struct Change {
    /// What has changed.
    pub kind: ChangeKind,
    /// The position after this change: a stream that continues from it begins with the next one.
    #[schema(value_type = schema::Position)]
    pub position: String,
    /// When the transaction began that stored the change.
    pub changed_at: Timestamp,
    /// The name of the customer that owns what has changed.
    pub customer: String,
    /// The new state: that of the delivery if `kind` is `delivery_state_changed`; `released` or `body_erased` if `kind`
    /// is `event_state_changed`. A delivery is `held` here only if it is held individually: a pause of a destination
    /// changes no delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub state: Option<String>,
    /// The event, if it was stored or its state has changed, as it is stored when the change is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub event: Option<Event>,
    /// The delivery, if its state has changed or an attempt was made, as it is stored when the change is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub delivery: Option<ChangedDelivery>,
    /// The attempt, if one was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub attempt: Option<MadeAttempt>,
}

/// A delivery in a stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedDelivery {
    /// The id of the delivery.
    #[schema(value_type = schema::DeliveryId)]
    pub id: DeliveryId,
    /// The event that is delivered.
    #[schema(value_type = schema::EventId)]
    pub event_id: EventId,
    /// The event type; null if the event has none or is no longer kept.
    #[schema(required = true)]
    pub event_type: Option<String>,
    /// The source of the event.
    #[schema(value_type = schema::SourceId)]
    pub source_id: SourceId,
    /// The destination that the event is delivered to.
    #[schema(value_type = schema::DestinationId)]
    pub destination_id: DestinationId,
    /// The name of the destination; null if the destination has been deleted.
    #[schema(required = true)]
    pub destination: Option<String>,
    /// The route that created the delivery; null if a replay created it for a destination without a route from the
    /// source.
    #[schema(value_type = Option<schema::RouteId>, required = true)]
    pub route_id: Option<RouteId>,
    /// The replay that created the delivery; null if it was created when its event was stored or released.
    #[schema(value_type = Option<schema::ReplayId>, required = true)]
    pub replay_id: Option<ReplayId>,
    /// The number of attempts so far.
    pub attempts: i16,
    /// For a dead delivery, the error class of its last attempt; otherwise null.
    #[schema(required = true)]
    pub error: Option<String>,
    /// Why the delivery is dead or was cancelled; otherwise null.
    #[schema(required = true)]
    pub reason: Option<String>,
}

/// An attempt in a stream: one HTTP request of a delivery, with its outcome.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeAttempt {
    /// The id of the attempt.
    #[schema(value_type = schema::AttemptId)]
    pub id: AttemptId,
    /// The number of the attempt, starting at 1.
    pub number: i16,
    /// When the attempt started.
    pub started_at: Timestamp,
    /// How long the attempt took, in milliseconds.
    pub latency_ms: i32,
    /// The status of the response; null if there was none.
    #[schema(required = true)]
    pub status: Option<i16>,
    /// The error class, such as `http_status`, `timeout` or `connection_refused`; null if the attempt succeeded.
    #[schema(required = true)]
    pub error: Option<String>,
    /// What went wrong, in words; null if the attempt succeeded.
    #[schema(required = true)]
    pub detail: Option<String>,
    /// If the response was a redirect, the scheme, host, port and path that it points to; otherwise null.
    #[schema(required = true)]
    pub location: Option<String>,
}

/// Selects changes, and where to begin.
#[derive(Debug, Default)]
pub struct StreamRequest {
    pub kind: Option<ChangeKind>,
    /// The id or name of a source.
    pub source: Option<String>,
    /// The id or name of a destination.
    pub destination: Option<String>,
    pub event_type: Option<String>,
    /// The id of a route.
    pub route: Option<String>,
    /// The new state of deliveries.
    pub state: Option<DeliveryState>,
    /// The position after which to begin; now, if there is none.
    pub after: Option<String>,
    /// The last position that the client has received. It is newer than `after`.
    pub last_event_id: Option<String>,
}

/// Which changes a stream sends.
#[derive(Debug, Default)]
struct Selection {
    /// `None` for all customers.
    customer: Option<CustomerId>,
    kind: Option<ChangeKind>,
    source: Option<SourceId>,
    destination: Option<DestinationId>,
    event_type: Option<String>,
    route: Option<RouteId>,
    state: Option<DeliveryState>,
}

impl Selection {
    fn has(&self, item: &Item) -> bool {
        let (source, destination, route, event_type) = match &item.subject {
            Subject::Event(object) => (object.event.source_id, None, None, &object.event.event_type),
            Subject::Delivery { delivery, event_type } | Subject::Attempt { delivery, event_type, .. } => {
                (delivery.source_id, Some(delivery.destination_id), delivery.route_id, event_type)
            }
        };
        self.customer.is_none_or(|customer| customer == item.customer())
            && self.kind.is_none_or(|kind| kind == item.kind)
            && self.source.is_none_or(|wanted| wanted == source)
            && self.destination.is_none_or(|wanted| Some(wanted) == destination)
            && self.route.is_none_or(|wanted| Some(wanted) == route)
            && self.event_type.as_ref().is_none_or(|wanted| Some(wanted) == event_type.as_ref())
            && self.state.is_none_or(|wanted| {
                item.kind == ChangeKind::DeliveryStateChanged && item.state.as_deref() == Some(wanted.name())
            })
    }
}

/// What a stream sends next.
#[derive(Debug, Clone)]
pub enum Sent {
    /// The stream has begun after this position.
    Begin(Position),
    /// A change.
    Change(Arc<Item>),
    /// Nothing up to this position is selected.
    Heartbeat(Position),
    /// The stream ends. Another one can continue from this position.
    End(Position),
}

/// An open stream.
#[derive(Debug)]
pub struct Stream {
    pool: Pool,
    call: Call,
    place: Place,
    selection: Selection,
    following: Batches,
    /// How far the changes have been sent or are not selected.
    position: Position,
    stage: Stage,
    /// Selected changes that have not been sent.
    ready: VecDeque<Arc<Item>>,
    heartbeat_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begins,
    /// Reads the database up to now.
    CatchesUp,
    /// Takes what the tail reads.
    Follows,
    Ended,
}

/// Opens a stream.
///
/// # Errors
/// Returns an error if a filter or the position is invalid, if the position is too old or belongs to another history of
/// the database, if there are too many streams, or if a query fails.
pub async fn open(control: &Control, actor: &Actor, request: StreamRequest) -> Result<Stream, Error> {
    actor.require(Scope::Read)?;
    let mut problems = Problems::default();
    let after = match (&request.last_event_id, &request.after) {
        (Some(text), _) => read_position("Last-Event-ID", text, &mut problems),
        (None, Some(text)) => read_position("after", text, &mut problems),
        (None, None) => None,
    };
    let selection = select(control, actor, &request, &mut problems).await?;
    problems.finish()?;
    let caller = actor.lasting();
    let place = control.streams.enter(caller).map_err(Error::TooManyStreams)?;
    let call = control.callers.begin(caller);
    // Before the position is checked, so that nothing can be dropped unnoticed in between.
    let following = control.tail.batches();
    let now = changes::begin(&control.pool).await?;
    if let Some(after) = after {
        match changes::read(&control.pool, after, 1).await? {
            Read::Changes(_) => {}
            Read::Foreign => return Err(Error::ForeignPosition),
            Read::TooOld => return Err(Error::PositionTooOld),
        }
    }
    Ok(Stream {
        pool: control.pool.clone(),
        call,
        place,
        selection,
        following,
        position: after.unwrap_or(now),
        stage: Stage::Begins,
        ready: VecDeque::new(),
        heartbeat_at: Instant::now() + HEARTBEAT_EVERY,
    })
}

fn read_position(field: &str, text: &str, problems: &mut Problems) -> Option<Position> {
    text.parse().map_err(|problem: changes::NoPosition| problems.add(field, problem.to_string())).ok()
}

async fn select(
    control: &Control,
    actor: &Actor,
    request: &StreamRequest,
    problems: &mut Problems,
) -> Result<Selection, Error> {
    if let (Some(kind), Some(_)) = (request.kind, request.state)
        && kind != ChangeKind::DeliveryStateChanged
    {
        problems
            .add("state", "selects deliveries by their new state; use it with kind delivery_state_changed or alone");
    }
    for (field, filter) in [("destination", &request.destination), ("route", &request.route)] {
        if filter.is_some() && request.kind.is_some_and(ChangeKind::is_of_event) {
            problems.add(field, "selects deliveries and attempts; omit it, or use another kind");
        }
    }
    let route = request.route.as_deref().and_then(|text| {
        text.parse()
            .map_err(|_| problems.add("route", format!("\"{text}\" is not a route id; route ids begin with rte_")))
            .ok()
    });
    Ok(Selection {
        customer: actor.listed(),
        kind: request.kind,
        source: sources::id_of(control, actor, "source", request.source.as_deref(), problems).await?,
        destination: destinations::id_of(control, actor, "destination", request.destination.as_deref(), problems)
            .await?,
        event_type: request.event_type.clone(),
        route,
        state: request.state,
    })
}

/// What happens first while a stream waits.
enum Next {
    Followed(Followed),
    Read(store::Result<Read>),
    Rejected,
    Heartbeat,
}

impl Stream {
    /// What to send next; `None` after the end.
    pub async fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                self.sent();
                return Some(Sent::Change(item));
            }
            match self.stage {
                Stage::Begins => {
                    self.stage = Stage::CatchesUp;
                    return Some(Sent::Begin(self.position));
                }
                Stage::Ended => return None,
                Stage::CatchesUp | Stage::Follows if Instant::now() >= self.heartbeat_at => {
                    self.sent();
                    return Some(Sent::Heartbeat(self.position));
                }
                Stage::CatchesUp | Stage::Follows => {}
            }
            let next = self.wait().await;
            match next {
                Next::Rejected | Next::Followed(Followed::Ended) => self.stage = Stage::Ended,
                Next::Heartbeat => {}
                Next::Followed(Followed::Behind) => self.stage = Stage::CatchesUp,
                Next::Followed(Followed::Batch(batch)) => self.take(&batch),
                Next::Read(Ok(Read::Changes(read))) => {
                    if !read.is_full {
                        self.stage = Stage::Follows;
                    }
                    let mut chunks = items::chunks(self.position, &read);
                    let chunk = chunks.next();
                    if chunks.next().is_some() {
                        self.stage = Stage::CatchesUp;
                    }
                    drop(chunks);
                    let Some(chunk) = chunk else { continue };
                    match items::batch(&self.pool, chunk).await {
                        Ok(batch) => self.take(&batch),
                        Err(error) => self.fail(&error).await,
                    }
                }
                // The response to the next stream from this position says why.
                Next::Read(Ok(Read::Foreign | Read::TooOld)) => self.stage = Stage::Ended,
                Next::Read(Err(error)) => self.fail(&error).await,
            }
            if self.stage == Stage::Ended {
                return Some(Sent::End(self.position));
            }
        }
    }

    async fn wait(&mut self) -> Next {
        let Self { pool, call, place, following, position, stage, heartbeat_at, .. } = self;
        tokio::select! {
            biased;
            () = call.ended() => Next::Rejected,
            next = async {
                match stage {
                    Stage::CatchesUp => tokio::select! {
                        read = read(pool, place.streams(), *position) => read,
                        () = following.ended() => Next::Followed(Followed::Ended),
                    },
                    Stage::Begins | Stage::Follows | Stage::Ended => Next::Followed(following.next().await),
                }
            } => next,
            () = sleep_until(*heartbeat_at) => Next::Heartbeat,
        }
    }

    /// Takes the selected changes of a batch that follow the position.
    fn take(&mut self, batch: &Batch) {
        if batch.to <= self.position {
            // A new history begins with other positions.
            if batch.to.history != self.position.history {
                self.stage = Stage::Ended;
            }
            return;
        }
        if batch.from > self.position {
            self.stage = Stage::CatchesUp;
            return;
        }
        let from = self.position;
        let selected = batch.items.iter().filter(|item| item.position > from && self.selection.has(item));
        self.ready.extend(selected.cloned());
        self.position = batch.to;
    }

    /// Puts the next heartbeat off, because a position was sent.
    fn sent(&mut self) {
        self.heartbeat_at = Instant::now() + HEARTBEAT_EVERY;
    }

    async fn fail(&mut self, error: &store::Error) {
        tracing::warn!(%error, "a stream could not read changes; retrying");
        self.stage = Stage::CatchesUp;
        sleep(AGAIN_AFTER).await;
    }
}

/// Reads from a position on, when it is the stream's turn.
async fn read(pool: &Pool, streams: &Streams, from: Position) -> Next {
    let _turn = streams.reading.acquire().await;
    Next::Read(changes::read(pool, from, crate::tail::ROWS_AT_ONCE).await)
}

/// The change as JSON, in one line.
#[must_use]
pub fn json(item: &Item) -> String {
    serde_json::to_string(&change(item)).unwrap_or_default()
}

fn change(item: &Item) -> Change {
    let (customer, event, delivery, attempt) = match &item.subject {
        Subject::Event(object) => (&object.customer_name, Some(summary(object.event.clone())), None, None),
        Subject::Delivery { delivery, event_type } => {
            (&delivery.customer_name, None, Some(changed_delivery(delivery, event_type)), None)
        }
        Subject::Attempt { attempt, delivery, event_type } => {
            (&delivery.customer_name, None, Some(changed_delivery(delivery, event_type)), Some(made_attempt(attempt)))
        }
    };
    Change {
        kind: item.kind,
        position: item.position.to_string(),
        changed_at: Timestamp(item.changed_at),
        customer: customer.clone(),
        state: item.state.clone(),
        event,
        delivery,
        attempt,
    }
}

fn changed_delivery(delivery: &DeliveryObject, event_type: &Option<String>) -> ChangedDelivery {
    ChangedDelivery {
        id: delivery.id,
        event_id: delivery.event_id,
        event_type: event_type.clone(),
        source_id: delivery.source_id,
        destination_id: delivery.destination_id,
        destination: delivery.destination_name.clone(),
        route_id: delivery.route_id,
        replay_id: delivery.replay_id,
        attempts: delivery.attempts,
        error: delivery.error.clone(),
        reason: delivery.reason.clone(),
    }
}

fn made_attempt(attempt: &AttemptObject) -> MadeAttempt {
    MadeAttempt {
        id: attempt.id,
        number: attempt.number,
        started_at: Timestamp(attempt.started_at),
        latency_ms: attempt.latency_ms,
        status: attempt.status,
        error: attempt.error.clone(),
        detail: attempt.detail.clone(),
        location: attempt.location.clone(),
    }
}
