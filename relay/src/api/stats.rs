//! Statistics: counts of events, deliveries and attempts per minute, hour or day.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::input::Params;
use super::problem::ApiError;
use crate::control::stats::{self, Stats, StatsFilter, Step};
use crate::control::time::Timestamp;
use crate::control::{Actor, Control, schema};

/// Query parameters of `GET /v1/stats`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatsQuery {
    /// The id or name of a source. Only its events are counted, and `deliveries` is empty.
    #[param(value_type = Option<schema::SourceReference>)]
    source: Option<String>,
    /// The id or name of a destination. Only its deliveries are counted, and `events` is empty.
    #[param(value_type = Option<schema::DestinationReference>)]
    destination: Option<String>,
    /// The start of the range (RFC 3339), rounded down to a full step. Default: 24 hours before `to`.
    #[param(value_type = Option<Timestamp>)]
    from: Option<String>,
    /// The end of the range (RFC 3339), exclusive. Default: now.
    #[param(value_type = Option<Timestamp>)]
    to: Option<String>,
    /// The length of a step. Default: `hour`.
    #[serde(default)]
    step: Step,
}

/// Returns counts of events, deliveries and attempts per minute, hour or day.
///
/// Counts are kept for `TIDEGATE_METADATA_RETENTION_DAYS`. `from` must be earlier than `to`, and the range can have at
/// most 1,500 steps. `source` and `destination` cannot be combined.
#[utoipa::path(get, path = "/v1/stats", tag = "stats", security(("token" = ["read"])), params(StatsQuery),
    responses((status = 200, body = Stats)))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<StatsQuery>,
) -> Result<Json<Stats>, ApiError> {
    let StatsQuery { source, destination, from, to, step } = query;
    Ok(Json(stats::show(&control, &actor, &StatsFilter { source, destination, from, to, step }).await?))
}
