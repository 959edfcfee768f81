//! Whether the relay lives, and whether it can work. Both calls are open to everybody and say nothing else.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{ApiError, Refusals};
use crate::{App, store};

/// How long the database is given to answer.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// The relay lives.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    pub ok: bool,
    pub version: &'static str,
}

const HEALTHY: Health = Health { ok: true, version: env!("CARGO_PKG_VERSION") };

pub(super) fn calls() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
}

/// Whether the process answers.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), responses((status = 200, body = Health)))]
pub(super) async fn live() -> Json<Health> {
    Json(HEALTHY)
}

/// Whether the relay can work: the database answers, and the relay's clock agrees with the database's. 503 if not.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses((status = 200, body = Health), Refusals))]
pub(super) async fn ready(State(app): State<App>) -> Result<Json<Health>, ApiError> {
    let ready = async {
        store::configuration::version(&app.pool).await?;
        app.clock.is_wrong().await
    };
    match tokio::time::timeout(READY_WITHIN, ready).await {
        Ok(Ok(None)) => Ok(Json(HEALTHY)),
        Ok(Ok(Some(wrong))) => Err(ApiError::WrongClock(wrong)),
        Ok(Err(error)) => Err(ApiError::Unavailable(error.to_string())),
        Err(_) => Err(ApiError::Unavailable(format!("no answer within {} s", READY_WITHIN.as_secs()))),
    }
}
