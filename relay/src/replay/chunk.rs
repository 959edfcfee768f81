//! Makes one chunk of a replay: plans it without the contents of its events, reads the contents it needs in small
//! groups, and decides which deliveries are made.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use expression::{EventFields, Input, MAX_BODY_BYTES, Turn};
use model::held_by::HeldBy;
use shared::header::HeaderList;
use shared::id::{CustomerId, DeliveryId, DestinationId, EventId, SourceId};
use store::new_event::{Claim, Undecided};
use store::replays::events::{self, EventRow, NextEvents, PlannedRow};
use store::replays::{Chunk, DeliveryRow, Made, NextDeliveries, ReplayRow};
use store::search::{self, Order, Outcome};
use store::undecided::NOT_APPROVED;
use uuid::Uuid;

use super::cut::{self, CHUNK_BYTES, CHUNK_DELIVERIES, GROUP_BYTES, MAKE_WITHIN};
use super::{Filter, selection};
use crate::configuration::{Route, Snapshot};
use crate::edge::push::Pusher;
use crate::recheck::Rechecks;
use crate::route::{self, Becomes, EventView};
use crate::{App, mint};

/// How long the filters of one event may take, including the time spent waiting for their turn.
pub(crate) const EVALUATE_WITHIN: Duration = Duration::from_secs(20);

/// The rows of a chunk, before any of their contents are read.
pub(super) struct Plan {
    rows: Rows,
    /// The last id that was scanned, if no row between the chunk's last row and that id matches; `None` if the last row
    /// is the end of the chunk.
    end: Option<Uuid>,
}

enum Rows {
    Events(Vec<Planned>),
    Deliveries(Vec<DeliveryRow>),
}

/// An event of a chunk, and which of its contents are read.
pub(super) struct Planned {
    row: PlannedRow,
    /// The routes whose filters decide where it is sent; none if the destination is given.
    routes: Vec<Arc<Route>>,
    reads: Reads,
}

/// The contents of an event that are read to decide where it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// It is sent to the same destinations whatever its contents.
    Nothing,
    Head,
    HeadAndBody,
}

impl Plan {
    /// The first and the last event of the chunk, by id; `None` if it is empty.
    pub(super) fn ends(&self) -> Option<(EventId, EventId)> {
        let ids: Vec<EventId> = match &self.rows {
            Rows::Events(events) => events.iter().map(|event| event.row.id).collect(),
            Rows::Deliveries(deliveries) => deliveries.iter().map(|delivery| delivery.event_id).collect(),
        };
        let (first, last) = (ids.iter().min()?, ids.iter().max()?);
        Some((*first, *last))
    }

    fn len(&self) -> usize {
        match &self.rows {
            Rows::Events(events) => events.len(),
            Rows::Deliveries(deliveries) => deliveries.len(),
        }
    }
}

impl Planned {
    fn new(row: PlannedRow, replay: &ReplayRow, filter: &Filter, snapshot: &Snapshot, is_kept: bool) -> Self {
        let routes = match replay.destination_id {
            Some(_) => Vec::new(),
            None => routes_of(snapshot, row.source_id, filter.destination),
        };
        let releases = filter.verification.is_some();
        let reads = match is_kept {
            true => reads(releases, &routes, row.event_type.as_deref(), body_bytes(&row)),
            false => Reads::Nothing,
        };
        Self { row, routes, reads }
    }

    /// The number of its bytes that are read.
    fn bytes(&self) -> u64 {
        let head = u64::try_from(self.row.head_size).unwrap_or(0);
        match self.reads {
            Reads::Nothing => 0,
            Reads::Head => head,
            Reads::HeadAndBody => head.saturating_add(body_bytes(&self.row) as u64),
        }
    }
}

fn body_bytes(row: &PlannedRow) -> usize {
    usize::try_from(row.body_size).unwrap_or(0)
}

/// Which contents of an event of this type have to be read to evaluate the filters of these routes. All of them if it
/// is released from quarantine, to verify it again and to extract the provider's id.
fn reads(releases: bool, routes: &[Arc<Route>], event_type: Option<&str>, body_bytes: usize) -> Reads {
    let filters: Vec<_> = routes.iter().filter_map(|route| route::evaluated_for(route, event_type)).collect();
    // A filter that uses the body cannot read a larger one: its size is enough.
    let body = body_bytes <= MAX_BODY_BYTES && filters.iter().any(|filter| filter.uses_body());
    match (releases || body, filters.is_empty()) {
        (true, _) => Reads::HeadAndBody,
        (false, false) => Reads::Head,
        (false, true) => Reads::Nothing,
    }
}

/// Whether the contents of any event may have to be read.
fn reads_any(replay: &ReplayRow, filter: &Filter, snapshot: &Snapshot) -> bool {
    let mut routes = snapshot.routes.values();
    let by_route = |route: &Arc<Route>| {
        filter.source.is_none_or(|source| route.source_id == source) && route::evaluated(route).is_some()
    };
    filter.verification.is_some() || replay.destination_id.is_none() && routes.any(by_route)
}

/// The routes of a source, or only those to one destination.
fn routes_of(snapshot: &Snapshot, source: SourceId, only: Option<DestinationId>) -> Vec<Arc<Route>> {
    let routes = snapshot.routes_of_source.get(&source).into_iter().flatten();
    routes.filter(|route| only.is_none_or(|only| route.destination_id == only)).cloned().collect()
}

/// Plans the next chunk of at most `rows` rows.
///
/// # Errors
/// Returns an error if a statement fails.
pub(super) async fn plan(
    app: &App,
    replay: &ReplayRow,
    filter: &Filter,
    rows: usize,
    snapshot: &Snapshot,
) -> store::Result<Plan> {
    let selection = selection(filter, replay.customer_id, replay.until_id, replay.created_at);
    let range = selection.ids.behind(replay.cursor_id);
    let (limit, limits) = (i64::try_from(rows).unwrap_or(i64::MAX), cut::RANGE_LIMITS);
    if filter.state.is_some() {
        let mut next = NextDeliveries { selection: &selection, limit, found: Vec::new() };
        let outcome = search::run(&app.pool, &mut next, Order::OldestFirst, range, limits).await?;
        return Ok(Plan { rows: Rows::Deliveries(next.found), end: end(outcome) });
    }
    let first_with_body = first_with_body(app, replay.customer_id).await?;
    let with_head_size = reads_any(replay, filter, snapshot);
    let mut next = NextEvents { selection: &selection, with_head_size, limit, found: Vec::new() };
    let outcome = search::run(&app.pool, &mut next, Order::OldestFirst, range, limits).await?;
    let mut planned: Vec<Planned> = next
        .found
        .into_iter()
        .map(|row| {
            let is_kept = row.has_body && row.id.uuid() >= first_with_body;
            let row = PlannedRow { has_body: is_kept, ..row };
            Planned::new(row, replay, filter, snapshot, is_kept)
        })
        .collect();
    let found = planned.len();
    planned.truncate(cut::first(planned.iter().map(Planned::bytes), CHUNK_BYTES));
    planned.truncate(cut::first(planned.iter().map(|event| event.routes.len() as u64), CHUNK_DELIVERIES));
    let end = if planned.len() == found { end(outcome) } else { None };
    Ok(Plan { rows: Rows::Events(planned), end })
}

fn end(outcome: Outcome) -> Option<Uuid> {
    match outcome {
        Outcome::Stopped(rest) => Some(rest.start()),
        Outcome::Full | Outcome::End => None,
    }
}

/// The first id of an event of the customer that is entitled to its body. It is read after the configuration: if the
/// retention changes before the chunk is stored, the configuration has changed too, and the chunk is made again.
async fn first_with_body(app: &App, customer: CustomerId) -> store::Result<Uuid> {
    app.config.retention.first_with_body_of(&app.pool, customer, app.clock.now_ms().await?).await
}

/// Decides which deliveries a planned chunk makes.
///
/// # Errors
/// Returns an error if a statement fails.
pub(super) async fn make(
    app: &App,
    replay: &ReplayRow,
    filter: &Filter,
    plan: &Plan,
    snapshot: &Snapshot,
) -> store::Result<Chunk> {
    let mut chunk = match &plan.rows {
        Rows::Deliveries(deliveries) => {
            let first_with_body = first_with_body(app, replay.customer_id).await?;
            of_deliveries(deliveries, replay.destination_id, first_with_body, snapshot)
        }
        Rows::Events(planned) => of_events(app, replay, filter, planned, snapshot).await?,
    };
    if chunk.processed == plan.len() {
        chunk.cursor = plan.end.or(chunk.cursor);
    }
    Ok(chunk)
}

async fn of_events(
    app: &App,
    replay: &ReplayRow,
    filter: &Filter,
    planned: &[Planned],
    snapshot: &Snapshot,
) -> store::Result<Chunk> {
    let mut chunk = Chunk::default();
    let mut rechecks = Rechecks::new(Pusher::of(app));
    let mut rest = planned;
    let begun = Instant::now();
    // Slow filters must not keep other replays from their turn, and must not prevent a chunk from being stored at all.
    while !rest.is_empty() && (chunk.processed == 0 || begun.elapsed() < MAKE_WITHIN) {
        let (group, after) = rest.split_at(cut::first(rest.iter().map(Planned::bytes), GROUP_BYTES));
        let whole = add_group(&mut chunk, app, replay, filter, group, snapshot, &mut rechecks, begun).await?;
        if !whole {
            break;
        }
        rest = after;
    }
    Ok(chunk)
}

fn of_deliveries(
    deliveries: &[DeliveryRow],
    destination: Option<DestinationId>,
    first_with_body: Uuid,
    snapshot: &Snapshot,
) -> Chunk {
    let whole = deliveries.iter().filter(|delivery| delivery.body && delivery.event_id.uuid() >= first_with_body);
    Chunk {
        cursor: deliveries.last().map(|delivery| delivery.id.uuid()),
        processed: deliveries.len(),
        skipped: deliveries.len() - whole.clone().count(),
        made: whole.filter_map(|delivery| again(delivery, destination, snapshot)).collect(),
        released: Vec::new(),
        claims: Vec::new(),
    }
}

/// Adds the deliveries of a group of events to the chunk. Returns whether it reached the end of the group in time. The
/// contents of the group are in memory until it returns.
#[expect(clippy::too_many_arguments, reason = "the parts of one chunk")]
async fn add_group(
    chunk: &mut Chunk,
    app: &App,
    replay: &ReplayRow,
    filter: &Filter,
    group: &[Planned],
    snapshot: &Snapshot,
    rechecks: &mut Rechecks,
    begun: Instant,
) -> store::Result<bool> {
    let mut contents = read(app, group).await?;
    for event in group {
        if chunk.processed > 0 && begun.elapsed() >= MAKE_WITHIN {
            return Ok(false);
        }
        chunk.processed += 1;
        chunk.cursor = Some(event.row.id.uuid());
        // Each content is dropped at the end of its iteration.
        let content = contents.remove(&event.row.id);
        let is_gone = match (event.reads, &content) {
            (Reads::Nothing, _) => false,
            (Reads::Head, content) => content.is_none(),
            (Reads::HeadAndBody, content) => content.as_ref().is_none_or(|content| content.body.is_none()),
        };
        // The partition of its day may have been dropped since the chunk was planned.
        if !event.row.has_body || is_gone {
            chunk.skipped += 1;
            continue;
        }
        if filter.verifies_now && !verifies(replay, event, content.as_ref(), snapshot, rechecks).await? {
            continue;
        }
        if filter.verification.is_some() {
            chunk.released.push(event.row.id);
            chunk.claims.extend(content.as_ref().and_then(|content| claim(snapshot, event, content)));
        }
        let targets = match replay.destination_id {
            Some(destination) => {
                let route = route_between(snapshot, event.row.source_id, destination);
                vec![Target { destination_id: destination, route, undecided: None }]
            }
            None => routed(app, snapshot, event, content).await,
        };
        chunk.made.extend(targets.into_iter().map(|target| Made {
            id: DeliveryId::from_uuid(mint::uuid()),
            destination_id: target.destination_id,
            event_id: event.row.id,
            source_id: event.row.source_id,
            route_id: target.route.as_ref().map(|route| route.id),
            route_version: target.route.as_ref().map(|route| route.version),
            first_wait: snapshot.first_wait(target.destination_id),
            undecided: target.undecided,
        }));
    }
    Ok(true)
}

/// Reads the contents that a group needs, by the id of the event.
async fn read(app: &App, group: &[Planned]) -> store::Result<HashMap<EventId, EventRow>> {
    let ids: Vec<EventId> =
        group.iter().filter(|event| event.reads != Reads::Nothing).map(|event| event.row.id).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let with_body: Vec<EventId> =
        group.iter().filter(|event| event.reads == Reads::HeadAndBody).map(|event| event.row.id).collect();
    let rows = events::read(&app.pool, ids, with_body).await?;
    Ok(rows.into_iter().map(|row| (row.meta.id, row)).collect())
}

/// Whether a quarantined event verifies with the present secrets of its source.
async fn verifies(
    replay: &ReplayRow,
    event: &Planned,
    content: Option<&EventRow>,
    snapshot: &Snapshot,
    rechecks: &mut Rechecks,
) -> store::Result<bool> {
    let Some((content, body)) = content.and_then(|content| Some((content, content.body.as_deref()?))) else {
        return Ok(false);
    };
    let view = EventView::of(&content.meta, snapshot.source_name(event.row.source_id), body);
    rechecks.verifies(replay.customer_id, &view).await
}

/// The claim of a released event to the key that its copies share.
fn claim(snapshot: &Snapshot, event: &Planned, content: &EventRow) -> Option<Claim> {
    let source = snapshot.sources.get(&event.row.source_id)?;
    let key = source.key(&content.meta.query, &content.meta.headers, content.body.as_deref()?)?;
    Some(Claim { source_id: event.row.source_id, event_id: event.row.id, key })
}

/// A destination of an event, and the route between the source and that destination, whose transform applies. There is
/// no route only if the replay has a destination of its own. Then the event is sent as the provider sent it.
struct Target {
    destination_id: DestinationId,
    route: Option<Arc<Route>>,
    undecided: Option<Undecided>,
}

/// Returns the destinations to which the routes of an event send it. A replay has no order, so order keys are not
/// evaluated.
async fn routed(app: &App, snapshot: &Snapshot, event: &Planned, content: Option<EventRow>) -> Vec<Target> {
    let turn = Turn::within(event.row.source_id, EVALUATE_WITHIN);
    let input = || Arc::new(input(event, content, snapshot));
    let event_type = event.row.event_type.as_deref();
    let answers = route::evaluate_filters(&app.evaluator, turn, &event.routes, event_type, input).await;
    answers
        .into_iter()
        .filter_map(|answer| {
            let undecided = match answer.becomes() {
                Becomes::Due { .. } => None,
                Becomes::Held(undecided) => Some(undecided),
                Becomes::Nothing(_) => return None,
            };
            Some(Target { destination_id: answer.route.destination_id, route: Some(answer.route), undecided })
        })
        .collect()
}

/// The input of the filters for an event.
fn input(event: &Planned, content: Option<EventRow>, snapshot: &Snapshot) -> Input {
    let Some(content) = content else {
        // This happens only if no filter is evaluated, see `reads`.
        return Input::without_body(EventFields::default(), HeaderList::default(), body_bytes(&event.row));
    };
    let source_name = snapshot.source_name(event.row.source_id);
    route::input_of(content.meta, source_name, content.body, body_bytes(&event.row))
}

/// The delivery that is made for an ended one; none if its destination is gone. It uses the present route between its
/// source and its destination, or else the last version of the route that made the ended delivery. If no filter has
/// approved it, its filter is evaluated before it is sent.
fn again(delivery: &DeliveryRow, other: Option<DestinationId>, snapshot: &Snapshot) -> Option<Made> {
    let destination_id = other.unwrap_or(delivery.destination_id);
    snapshot.destinations.get(&destination_id)?;
    let own = delivery.route_id.and_then(|id| snapshot.routes.get(&id));
    let route = route_between(snapshot, delivery.source_id, destination_id).or_else(|| own.cloned());
    Some(Made {
        id: DeliveryId::from_uuid(mint::uuid()),
        destination_id,
        event_id: delivery.event_id,
        source_id: delivery.source_id,
        route_id: route.as_ref().map(|route| route.id).or(delivery.route_id),
        route_version: route.as_ref().map(|route| route.version),
        first_wait: snapshot.first_wait(destination_id),
        undecided: delivery.undecided.then(|| Undecided {
            by: HeldBy::Filter,
            reason: NOT_APPROVED.to_owned(),
            again: true,
        }),
    })
}

fn route_between(snapshot: &Snapshot, source: SourceId, destination: DestinationId) -> Option<Arc<Route>> {
    let routes = snapshot.routes_of_source.get(&source)?;
    routes.iter().find(|route| route.destination_id == destination).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Expression;
    use expression::Filter as RouteFilter;
    use model::poison::Poison;
    use shared::id::RouteId;

    fn route(filter: Option<&str>, enabled: bool) -> Arc<Route> {
        typed(&[], filter, enabled)
    }

    fn typed(types: &[&str], filter: Option<&str>, enabled: bool) -> Arc<Route> {
        Arc::new(Route {
            id: RouteId::mint(1, [1; 10]),
            source_id: SourceId::mint(1, [2; 10]),
            destination_id: DestinationId::mint(1, [3; 10]),
            types: types.iter().map(|&name| name.to_owned()).collect(),
            filter: filter
                .map(|source| Expression { source: source.to_owned(), compiled: RouteFilter::compile(source) }),
            transform: None,
            order_key: None,
            poison: Poison::default(),
            enabled,
            version: 1,
        })
    }

    #[test]
    fn only_the_contents_that_decide_where_an_event_is_sent_are_read() {
        let plain = route(None, true);
        let by_header = route(Some("headers['x-kind'] == 'a'"), true);
        let by_body = route(Some("has(body.amount)"), true);
        let off = route(Some("has(body.amount)"), false);
        let broken = route(Some("no expression ("), true);
        let of = |routes: &[&Arc<Route>], size| {
            reads(false, &routes.iter().map(|route| Arc::clone(route)).collect::<Vec<_>>(), Some("a"), size)
        };
        assert_eq!(of(&[], 10), Reads::Nothing);
        assert_eq!(of(&[&plain, &off, &broken], 10), Reads::Nothing);
        assert_eq!(of(&[&plain, &by_header], 10), Reads::Head);
        assert_eq!(of(&[&by_header, &by_body], MAX_BODY_BYTES), Reads::HeadAndBody);
        assert_eq!(of(&[&by_header, &by_body], MAX_BODY_BYTES + 1), Reads::Head, "no filter can read a larger body");
        let typed = |types: &[&str]| typed(types, Some("has(body.amount)"), true);
        assert_eq!(of(&[&typed(&["b"])], 10), Reads::Nothing, "the filter of a route for other types is not evaluated");
        assert_eq!(of(&[&typed(&["b", "a"])], 10), Reads::HeadAndBody);
        assert_eq!(
            reads(true, &[plain], Some("a"), MAX_BODY_BYTES + 1),
            Reads::HeadAndBody,
            "the signature covers all of it"
        );
    }
}
