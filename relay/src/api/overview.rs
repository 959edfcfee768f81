//! The overview: what happens now, and what is wrong now.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::ApiError;
use crate::control::overview::{self, Finding, Found, Next, OverviewFigures};
use crate::control::{Actor, Control};

/// What happens now, and what is wrong now.
#[derive(Debug, Serialize, ToSchema)]
pub struct Overview {
    #[serde(flatten)]
    pub figures: OverviewFigures,
    /// What is wrong now, the worst first. Empty if nothing is known to be wrong.
    pub findings: Vec<FindingWithNext>,
}

/// Something that is wrong now, with the call that helps.
#[derive(Debug, Serialize, ToSchema)]
pub struct FindingWithNext {
    #[serde(flatten)]
    pub finding: Finding,
    /// The call that helps, or that shows more.
    pub next: FindingCall,
}

/// A call of this API.
#[derive(Debug, Serialize, ToSchema)]
pub struct FindingCall {
    /// The HTTP method.
    #[schema(example = "POST")]
    pub method: &'static str,
    /// The path with its query.
    #[schema(example = "/v1/destinations/dst_0197f3c8d2a17c3e9b5d0a4c6f7e8b91/resume")]
    pub path: String,
}

/// Returns what happens now, and what is wrong now with the next step for each.
///
/// Rates are those of the last minutes, and findings those that the newest rows show, so the call costs the same
/// however much history there is.
#[utoipa::path(get, path = "/v1/overview", tag = "overview", security(("token" = ["read"])),
    responses((status = 200, body = Overview)))]
pub(super) async fn show(State(control): State<Control>, actor: Actor) -> Result<Json<Overview>, ApiError> {
    let overview::Overview { figures, findings } = overview::show(&control, &actor).await?;
    Ok(Json(Overview { figures, findings: findings.into_iter().map(view).collect() }))
}

fn view(Found { finding, next }: Found) -> FindingWithNext {
    let (method, path) = match next {
        Next::Resume(id) => ("POST", format!("/v1/destinations/{id}/resume")),
        Next::Health(id) => ("GET", format!("/v1/destinations/{id}/health")),
        Next::Rejections(id) => ("GET", format!("/v1/rejections?source={id}")),
        Next::Source(id) => ("GET", format!("/v1/sources/{id}")),
        Next::Dead => ("GET", "/v1/deliveries?state=dead".to_owned()),
        Next::Held => ("GET", "/v1/deliveries?state=held".to_owned()),
        Next::Quarantine => ("GET", "/v1/events?verification=failed".to_owned()),
    };
    FindingWithNext { finding, next: FindingCall { method, path } }
}
