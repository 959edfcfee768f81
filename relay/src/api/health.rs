//! Whether the relay lives, and whether it can work. Both calls need no token and say nothing else.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::ApiError;
use crate::control::Control;
use crate::control::ready::{self, Ready};

/// The relay answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    pub ok: bool,
    pub version: &'static str,
}

const HEALTHY: Health = Health { ok: true, version: env!("CARGO_PKG_VERSION") };

pub(super) fn calls() -> OpenApiRouter<Control> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
}

/// Returns 200 while the process answers.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), responses((status = 200, body = Health)))]
pub(super) async fn live() -> Json<Health> {
    Json(HEALTHY)
}

/// Returns 200 while this relay can do its part of the work, and 503 with the reasons while it cannot.
///
/// The relay is ready if all of these hold:
///
/// - no task of the relay has failed, and it is not shutting down (`not_ready`)
/// - the delivery engine has taken a turn in the last 15 seconds (`not_ready`)
/// - the lease of the relay was renewed in the last 8 seconds: otherwise it sends nothing (`not_ready`)
/// - each puller has taken a turn in the last 10 minutes (`not_ready`)
/// - the database answers within 2 seconds (`unavailable`)
/// - the relay's clock and the database's differ by less than a minute: otherwise nothing is pulled (`wrong_clock`)
///
/// The API of the queues and the edge are the same for all relays, so a relay stays ready while they fail. `queue` and `edge`
/// say whether they fail, and since when. Destinations and routes that the relay cannot use are counted; they do not delay
/// others.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses((status = 200, body = Ready)))]
pub(super) async fn ready(State(control): State<Control>) -> Result<Json<Ready>, ApiError> {
    Ok(Json(ready::ready(&control).await?))
}
