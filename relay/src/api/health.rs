//! Whether the relay lives, and whether it can work. Both calls need no token and say nothing else.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::ApiError;
use crate::control::Error;
use crate::{App, store};

/// How long the database is given to answer.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(2);

/// The relay answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    pub ok: bool,
    pub version: &'static str,
}

/// The relay can do all of its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    #[serde(flatten)]
    pub health: Health,
    /// How many destinations this relay cannot send to, for example because no master key opens their secrets.
    /// `GET /v1/destinations` lists them with the reason.
    pub unusable_destinations: usize,
    /// How many routes have an expression that this relay cannot evaluate. `GET /v1/routes` lists them with the reason.
    pub unusable_routes: usize,
    /// How far the relay's clock is ahead of the database's, in milliseconds; negative if it is behind. The relay is not ready
    /// if the difference is a minute or more.
    pub clock_ahead_ms: i64,
}

const HEALTHY: Health = Health { ok: true, version: env!("CARGO_PKG_VERSION") };

pub(super) fn calls() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
}

/// Returns 200 while the process answers.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), responses((status = 200, body = Health)))]
pub(super) async fn live() -> Json<Health> {
    Json(HEALTHY)
}

/// Returns 200 while the relay can do all of its work, and 503 with the reasons while it cannot.
///
/// The relay is ready if all of these hold:
///
/// - no task of the relay has failed, and it is not shutting down (`not_ready`)
/// - the delivery engine has taken a turn in the last 15 seconds (`not_ready`)
/// - the lease of the relay was renewed in the last 8 seconds: otherwise it sends nothing (`not_ready`)
/// - no queue's pulls have all failed for 15 seconds or longer (`not_ready`)
/// - the database answers within 2 seconds (`unavailable`)
/// - the relay's clock and the database's differ by less than a minute: otherwise nothing is pulled (`wrong_clock`)
///
/// Destinations and routes that the relay cannot use are counted; they do not delay others.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses((status = 200, body = Ready)))]
pub(super) async fn ready(State(app): State<App>) -> Result<Json<Ready>, ApiError> {
    let ready = async {
        store::configuration::version(&app.pool).await?;
        let wrong = app.clock.is_wrong().await?;
        Ok::<_, sqlx::Error>((wrong, app.clock.ahead_ms().await?))
    };
    match tokio::time::timeout(READY_WITHIN, ready).await {
        Ok(Ok((None, clock_ahead_ms))) => {
            let problems = app.readiness.problems();
            if !problems.is_empty() {
                return Err(ApiError::NotReady(problems));
            }
            let snapshot = app.configuration.current();
            Ok(Json(Ready {
                health: HEALTHY,
                unusable_destinations: snapshot.unusable.len(),
                unusable_routes: snapshot.routes.values().filter(|route| route.problem().is_some()).count(),
                clock_ahead_ms,
            }))
        }
        Ok(Ok((Some(wrong), _))) => Err(Error::WrongClock(wrong).into()),
        Ok(Err(error)) => Err(Error::Unavailable(error.to_string()).into()),
        Err(_) => Err(Error::Unavailable(format!("no answer within {} s", READY_WITHIN.as_secs())).into()),
    }
}
