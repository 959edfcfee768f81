//! Faults and counters by HTTP, for scripts: `GET|PUT|DELETE /admin/faults` ([`Faults`] as JSON), `GET /admin/counters`.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

use super::{Counters, Faults, Shared, now_ms};

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/admin/faults", get(show).put(replace).delete(clear)).route("/admin/counters", get(counters))
}

async fn show(State(shared): State<Arc<Shared>>) -> Json<Faults> {
    Json(shared.faults().clone())
}

async fn replace(State(shared): State<Arc<Shared>>, Json(faults): Json<Faults>) -> Json<Faults> {
    *shared.faults() = faults.clone();
    Json(faults)
}

async fn clear(State(shared): State<Arc<Shared>>) -> Json<Faults> {
    replace(State(shared), Json(Faults::default())).await
}

async fn counters(State(shared): State<Arc<Shared>>) -> Json<Counters> {
    Json(shared.state().counters(now_ms()))
}
