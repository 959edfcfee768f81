//! Releasing many held deliveries at a time.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use shared::id::{DestinationId, RouteId};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::api::auth::Caller;
use crate::api::input::Body;
use crate::api::problem::{ApiError, Problems, Refusals};
use crate::api::time::{Timestamp, read_ms};
use crate::api::{destinations, sources};
use crate::held::HeldBy;
use crate::store::held::{self, Of};
use crate::{App, mint, store};

/// How many deliveries one transaction releases.
pub(crate) const AT_ONCE: i64 = 1_000;

/// How many transactions one call makes at most.
pub(crate) const TRANSACTIONS: usize = 20;

/// Which held deliveries are to be released: all that match what is given. At most one of `destination`, `route` and
/// `source` is given, and at least one of these and `held_by`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ReleaseOfHeld {
    /// Id or name.
    destination: Option<String>,
    /// An id.
    route: Option<String>,
    /// Id or name.
    source: Option<String>,
    held_by: Option<HeldBy>,
    /// Only what was held before this time, RFC 3339. Left out: before this call. A call that goes on after one that left some
    /// gives the time that was answered then, so that it takes nothing that has been held again since.
    before: Option<String>,
}

/// What was released.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ReleasedOfHeld {
    /// How many deliveries are due now.
    pub released: usize,
    /// How many are decided again now, because it was not known whether they are to be sent.
    pub deciding: usize,
    /// There are more: call again, with the same `before`.
    pub remaining: bool,
    /// What was held at this time or later is left as it is.
    pub before: Timestamp,
}

/// Releases deliveries that are held by something of their own (`held_by`), up to 20,000 at a call. They are due now, with the
/// transform that their route has now, or had last if it is deleted, and
/// those whose filter or order key could not be evaluated are decided again first. A delivery whose destination is paused,
/// disabled or unusable waits for that. What is released twice is sent once.
#[utoipa::path(post, path = "/v1/deliveries/release", tag = "deliveries", request_body = ReleaseOfHeld,
    responses((status = 200, body = ReleasedOfHeld), Refusals))]
pub(in crate::api) async fn release(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<ReleaseOfHeld>,
) -> Result<Json<ReleasedOfHeld>, ApiError> {
    let mut problems = Problems::default();
    let of = of(&app, &caller, &request, &mut problems).await?;
    let before_ms = read_ms("before", request.before.as_deref(), &mut problems);
    let of = problems.finish_with(of)?;
    let now: OffsetDateTime = store::health::now(&app.pool).await?;
    let before = before_ms.map_or(now, |before_ms| mint::timestamp(before_ms).min(now));
    // As it can be given again.
    let before = mint::timestamp(mint::unix_ms(before));
    let by: Vec<HeldBy> = request.held_by.map_or_else(|| HeldBy::ALL.to_vec(), |by| vec![by]);
    let mut answer = ReleasedOfHeld { released: 0, deciding: 0, remaining: true, before: Timestamp(before) };
    for _ in 0..TRANSACTIONS {
        let found = held::release(&app.pool, caller.customer.uuid(), of, &by, before, AT_ONCE).await?;
        let due = found.iter().filter(|released| !released.undecided);
        let mut destinations: Vec<_> = due.map(|released| released.destination_id).collect();
        answer.released += destinations.len();
        answer.deciding += found.len() - destinations.len();
        destinations.sort_unstable();
        destinations.dedup();
        destinations.into_iter().for_each(|id| app.engine.look(DestinationId::from_uuid(id)));
        if i64::try_from(found.len()).is_ok_and(|found| found < AT_ONCE) {
            answer.remaining = false;
            break;
        }
    }
    Ok(Json(answer))
}

/// Which deliveries the caller asks for; `None` if a problem was noted.
async fn of(
    app: &App,
    caller: &Caller,
    request: &ReleaseOfHeld,
    problems: &mut Problems,
) -> Result<Option<Of>, ApiError> {
    let ReleaseOfHeld { destination, route, source, held_by, .. } = request;
    let customer = caller.customer;
    match (destination.as_deref(), route.as_deref(), source.as_deref()) {
        (None, None, None) => {
            if held_by.is_none() {
                problems.add("", "says nothing; give a destination, a route, a source or held_by");
            }
            Ok(Some(Of::All))
        }
        (Some(text), None, None) => {
            let id = destinations::id_of(app, customer, "destination", Some(text), problems).await?;
            Ok(id.map(|id| Of::Destination(id.uuid())))
        }
        (None, Some(text), None) => {
            let id = text.parse::<RouteId>();
            let id = id.map_err(|_| problems.add("route", format!("\"{text}\" is not the id of a route, rte_…")));
            Ok(id.ok().map(|id| Of::Route(id.uuid())))
        }
        (None, None, Some(text)) => {
            let id = sources::id_of(app, customer, "source", Some(text), problems).await?;
            Ok(id.map(|id| Of::Source(id.uuid())))
        }
        _ => {
            problems.add("", "gives more than one of destination, route and source; give one of them");
            Ok(None)
        }
    }
}
