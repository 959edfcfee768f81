//! Faults, counters and the clock over HTTP, for scripts: `GET|PUT|DELETE /admin/faults` ([`Faults`] as JSON), `GET
//! /admin/counters` (of the first queue), `POST /admin/clock` (`{"advance_s": 432000}` moves it forward).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::{Counters, FIRST, Faults, Shared, State as Queue};

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/admin/faults", get(show).put(replace).delete(clear))
        .route("/admin/counters", get(counters))
        .route("/admin/clock", post(clock))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_s: u64,
}

#[derive(Serialize)]
struct Clock {
    now_ms: u64,
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
    Json(shared.on(FIRST, Queue::counters))
}

async fn clock(State(shared): State<Arc<Shared>>, Json(request): Json<Advance>) -> Json<Clock> {
    shared.advance(Duration::from_secs(request.advance_s));
    Json(Clock { now_ms: shared.now_ms() })
}
