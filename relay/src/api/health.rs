//! Health checks: whether the relay is running, and whether it is ready. Neither call needs a token.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::ApiError;
use crate::control::Control;
use crate::control::ready::{self, Ready};

/// The process is running.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Always true.
    pub ok: bool,
    /// The version of the relay.
    pub version: &'static str,
}

const HEALTHY: Health = Health { ok: true, version: env!("CARGO_PKG_VERSION") };

pub(super) fn calls() -> OpenApiRouter<Control> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
}

/// Returns 200 if the process is running.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), responses((status = 200, body = Health)))]
pub(super) async fn live() -> Json<Health> {
    Json(HEALTHY)
}

/// Returns 200 if this relay is ready, and 503 with the reasons if it is not.
///
/// The relay is ready if all of these hold:
///
/// - no task of the relay has failed, and the relay is not shutting down (`not_ready`)
/// - the delivery engine has made progress in the last 15 seconds (`not_ready`)
/// - the lease of the relay was renewed in the last 8 seconds; otherwise the relay sends nothing (`not_ready`)
/// - the puller of each queue has made progress in the last 10 minutes (`not_ready`)
/// - the database responds within 2 seconds (`unavailable`)
/// - the clocks of the relay and the database differ by at most a minute; otherwise the relay stops pulling
///   (`wrong_clock`)
///
/// The queue API and the edge are shared by all relays, so a relay stays ready while they fail. `queue` and `edge`
/// report such failures and when they began. Destinations and routes that the relay cannot use are counted, but do not
/// delay others.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses((status = 200, body = Ready)))]
pub(super) async fn ready(State(control): State<Control>) -> Result<Json<Ready>, ApiError> {
    Ok(Json(ready::ready(&control).await?))
}
