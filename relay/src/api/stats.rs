//! What happened when: events, deliveries and attempts per minute, hour or day.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::input::Params;
use super::problem::{ApiError, Refusals};
use crate::control::stats::{self, Stats, StatsFilter, Step};
use crate::control::{Actor, Control};

/// Which counters, and of when.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatsQuery {
    /// Id or name: only what came in by this source.
    source: Option<String>,
    /// Id or name: only what went out to this destination.
    destination: Option<String>,
    /// The first time, RFC 3339, rounded down to a step; left out: 24 hours before the last one.
    from: Option<String>,
    /// The time before which it ends, RFC 3339; left out: now.
    to: Option<String>,
    #[serde(default)]
    step: Step,
}

/// Events, deliveries and attempts per minute, hour or day, as long as what is known of events is kept.
#[utoipa::path(get, path = "/v1/stats", tag = "stats", params(StatsQuery),
    responses((status = 200, body = Stats), Refusals))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<StatsQuery>,
) -> Result<Json<Stats>, ApiError> {
    let StatsQuery { source, destination, from, to, step } = query;
    Ok(Json(stats::show(&control, actor, &StatsFilter { source, destination, from, to, step }).await?))
}
