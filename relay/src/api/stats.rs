//! Statistics: counts of events, deliveries and attempts per minute, hour or day.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::input::Params;
use super::problem::ApiError;
use crate::control::stats::{
    self, DestinationsHealth, DestinationsStats, SeveralFilter, SourcesStats, Stats, StatsFilter, Step,
};
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

/// Query parameters of `GET /v1/stats/sources` and `GET /v1/stats/destinations`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SeveralQuery {
    /// The ids, with commas between them: at most 100.
    // Checked by the control layer, after the scope.
    #[serde(default)]
    #[param(required = true, pattern = "^[a-z]{3}_[0-9a-f]{32}(,[a-z]{3}_[0-9a-f]{32}){0,99}$")]
    ids: String,
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

impl From<SeveralQuery> for SeveralFilter {
    fn from(query: SeveralQuery) -> Self {
        let SeveralQuery { ids, from, to, step } = query;
        Self { ids, from, to, step }
    }
}

/// Returns the counts of several sources, for a page of them.
///
/// The range can have at most 200 steps. A source that does not exist has no steps. If the range takes too long to read,
/// the response is 422 with the code `range_too_long`.
#[utoipa::path(get, path = "/v1/stats/sources", tag = "stats", security(("token" = ["read"])), params(SeveralQuery),
    responses((status = 200, body = SourcesStats)))]
pub(super) async fn of_sources(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<SeveralQuery>,
) -> Result<Json<SourcesStats>, ApiError> {
    Ok(Json(stats::of_sources(&control, &actor, query.into()).await?))
}

/// Returns the counts of several destinations, for a page of them.
///
/// The range can have at most 200 steps. A destination that does not exist has no steps. If the range takes too long to
/// read, the response is 422 with the code `range_too_long`.
#[utoipa::path(get, path = "/v1/stats/destinations", tag = "stats", security(("token" = ["read"])),
    params(SeveralQuery), responses((status = 200, body = DestinationsStats)))]
pub(super) async fn of_destinations(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<SeveralQuery>,
) -> Result<Json<DestinationsStats>, ApiError> {
    Ok(Json(stats::of_destinations(&control, &actor, query.into()).await?))
}

/// Query parameters of `GET /v1/destination-health`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HealthQuery {
    /// The ids of the destinations, with commas between them: at most 100.
    // As above.
    #[serde(default)]
    #[param(required = true, pattern = "^dst_[0-9a-f]{32}(,dst_[0-9a-f]{32}){0,99}$")]
    ids: String,
}

/// Returns the health of several destinations, for a page of them.
///
/// Destinations that do not exist are left out. Pending and held deliveries are counted up to 1,000 each.
#[utoipa::path(get, path = "/v1/destination-health", tag = "destinations", security(("token" = ["read"])),
    params(HealthQuery), responses((status = 200, body = DestinationsHealth)))]
pub(super) async fn several_health(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<HealthQuery>,
) -> Result<Json<DestinationsHealth>, ApiError> {
    Ok(Json(stats::health_of(&control, &actor, &query.ids).await?))
}
