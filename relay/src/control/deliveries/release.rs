//! Releases many held deliveries with one call.

use model::held_by::HeldBy;
use model::unix_time;
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::held::{self, Of, Released};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::control::fields::Problems;
use crate::control::record::{self, Action, Object};
use crate::control::time::{Timestamp, read_ms};
use crate::control::{Actor, Control, Error, Scope, destinations, routes, schema, sources};

/// The maximum number of deliveries that one transaction releases.
pub(crate) const AT_ONCE: i64 = 1_000;

/// The maximum number of transactions of one call.
pub(crate) const TRANSACTIONS: usize = 20;

/// Selects the held deliveries to release. Set at most one of `destination`, `route` and `source`. At least one of
/// `destination`, `route`, `source` and `held_by` is required.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseOfHeld {
    /// Releases only deliveries to this destination (id or name).
    #[schema(value_type = Option<schema::DestinationReference>)]
    pub destination: Option<String>,
    /// Releases only deliveries that this route created (id or name).
    #[schema(value_type = Option<schema::RouteReference>)]
    pub route: Option<String>,
    /// Releases only deliveries of events of this source (id or name).
    #[schema(value_type = Option<schema::SourceReference>)]
    pub source: Option<String>,
    /// Releases only deliveries that are held for this reason.
    pub held_by: Option<HeldBy>,
    /// Releases only deliveries that were already held before this time (RFC 3339). Default: now. If `remaining` in the
    /// response is true, call again with the `before` of that response, so that deliveries that have been held again in
    /// the meantime are not released twice.
    #[schema(value_type = Option<Timestamp>)]
    pub before: Option<String>,
}

/// The result of a release.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReleasedOfHeld {
    /// The number of released deliveries, which are due now.
    pub released: usize,
    /// The number of deliveries whose filter or order key is being evaluated again. They are due if the filter matches.
    pub deciding: usize,
    /// Whether more deliveries match. If true, call again with the returned `before`.
    pub remaining: bool,
    /// The time before which a delivery must have been held to be released by this call.
    pub before: Timestamp,
}

/// Releases individually held deliveries, up to 20,000 per call. They are due at once; if their filter or order key
/// could not be evaluated, it is evaluated again first. A delivery that is released twice is sent once.
///
/// # Errors
/// Returns every invalid field, or an error if a query fails.
pub async fn release(control: &Control, actor: &Actor, request: &ReleaseOfHeld) -> Result<ReleasedOfHeld, Error> {
    actor.require(Scope::Replay)?;
    let mut problems = Problems::default();
    let of = of(control, actor, request, &mut problems).await?;
    let before_ms = read_ms("before", request.before.as_deref(), &mut problems);
    let of = problems.finish_with(of)?;
    let now: OffsetDateTime = store::health::now(&control.pool).await?;
    let before = before_ms.map_or(now, |before_ms| unix_time::timestamp(before_ms).min(now));
    // In whole milliseconds, so that the caller can send it again unchanged.
    let before = unix_time::timestamp(unix_time::unix_ms(before));
    let by: Vec<HeldBy> = request.held_by.map_or_else(|| HeldBy::ALL.to_vec(), |by| vec![by]);
    let mut result = ReleasedOfHeld { released: 0, deciding: 0, remaining: true, before: Timestamp(before) };
    let customer = actor.customer()?;
    for _ in 0..TRANSACTIONS {
        let record = |released: &[Released]| {
            let after = json!({
                "destination": request.destination, "route": request.route, "source": request.source,
                "held_by": request.held_by, "before": Timestamp(before), "released": released.len(),
            });
            record::entry(actor, Action::DeliveriesRelease, Object::many(Some(customer))).with(None, Some(after), [])
        };
        let found = held::release(&control.pool, customer, of, &by, before, AT_ONCE, record).await?;
        let due = found.iter().filter(|released| !released.undecided);
        let mut destinations: Vec<_> = due.map(|released| released.destination_id).collect();
        result.released += destinations.len();
        result.deciding += found.len() - destinations.len();
        destinations.sort_unstable();
        destinations.dedup();
        destinations.into_iter().for_each(|id| control.engine.rescan(id));
        if i64::try_from(found.len()).is_ok_and(|found| found < AT_ONCE) {
            result.remaining = false;
            break;
        }
    }
    Ok(result)
}

/// The deliveries that the caller selects; `None` if a problem was noted.
async fn of(
    control: &Control,
    actor: &Actor,
    request: &ReleaseOfHeld,
    problems: &mut Problems,
) -> Result<Option<Of>, Error> {
    let ReleaseOfHeld { destination, route, source, held_by, .. } = request;
    match (destination.as_deref(), route.as_deref(), source.as_deref()) {
        (None, None, None) => {
            if held_by.is_none() {
                problems.add("", "the request selects no deliveries; set destination, route, source or held_by");
            }
            Ok(Some(Of::All))
        }
        (Some(text), None, None) => {
            let id = destinations::id_of(control, actor, "destination", Some(text), problems).await?;
            Ok(id.map(Of::Destination))
        }
        (None, Some(text), None) => {
            let id = routes::id_of(control, actor, "route", Some(text), problems).await?;
            Ok(id.map(Of::Route))
        }
        (None, None, Some(text)) => {
            let id = sources::id_of(control, actor, "source", Some(text), problems).await?;
            Ok(id.map(Of::Source))
        }
        _ => {
            problems.add("", "the request has more than one of destination, route and source; set only one of them");
            Ok(None)
        }
    }
}
