//! The dashboard: pages for operators, rendered by the relay.
//!
//! A page calls the [control layer](crate::control), which contains every rule, and renders what it returns with a
//! template of `templates/dashboard`. Every state of a page is its URL, and a page can be read without script. A form
//! posts and is answered with a redirect. What a browser loads besides pages are the [`assets`].

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate as _, SizeAbove};

use crate::control::Control;

mod alerts;
mod assets;
mod commands;
mod confirmation;
mod curve;
mod destinations;
mod events;
mod failure;
mod filled;
mod flow;
mod frame;
mod link;
mod notice;
mod overview;
mod routes;
mod sign_in;
mod theme;
mod view;
mod viewer;

/// The path of the dashboard's first page; the paths of all pages begin with it.
pub(crate) const ROOT: &str = "/dashboard";

/// What a page may load and do: only what this relay serves, and no script or style in the page itself. No other site
/// may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What pages share.
#[derive(Clone, FromRef)]
struct Dashboard {
    control: Control,
    overviews: Arc<overview::Kept>,
}

/// All pages.
pub fn router(control: Control) -> Router {
    let pages = Router::new()
        .route("/dashboard", get(overview::show))
        .route("/dashboard/events", get(events::list))
        // Destinations, flow and routes.
        .route("/dashboard/destinations", get(destinations::list::show))
        .route("/dashboard/destinations/new", get(destinations::add::show).post(destinations::add::create))
        .route("/dashboard/destinations/{id}", get(destinations::page::show))
        .route("/dashboard/destinations/{id}/edit", get(destinations::edit::show).post(destinations::edit::save))
        .route("/dashboard/destinations/{id}/pause", get(failure::not_found).post(destinations::steer::pause))
        .route(
            "/dashboard/destinations/{id}/resume",
            get(destinations::steer::confirm_resume).post(destinations::steer::resume),
        )
        .route(
            "/dashboard/destinations/{id}/delete",
            get(destinations::steer::confirm_delete).post(destinations::steer::delete),
        )
        .route(
            "/dashboard/destinations/{id}/rotate",
            get(destinations::signing::confirm_rotation).post(destinations::signing::rotate),
        )
        .route(
            "/dashboard/destinations/{id}/secret",
            get(destinations::signing::confirm_reveal).post(destinations::signing::reveal),
        )
        .route("/dashboard/destinations/{id}/test", get(destinations::test::show).post(destinations::test::send))
        .route("/dashboard/flow", get(flow::show))
        .route("/dashboard/routes/new", get(routes::editor::show_new).post(routes::editor::send_new))
        .route("/dashboard/routes/{id}", get(routes::editor::show).post(routes::editor::send))
        .route("/dashboard/routes/{id}/enable", get(failure::not_found).post(routes::steer::enable))
        .route("/dashboard/routes/{id}/disable", get(failure::not_found).post(routes::steer::disable))
        .route("/dashboard/routes/{id}/delete", get(routes::steer::confirm_delete).post(routes::steer::delete))
        .route("/dashboard/theme", get(failure::not_found).post(theme::choose))
        .route("/dashboard/sign-out", get(failure::not_found).post(sign_in::sign_out))
        .route("/dashboard/{*rest}", get(failure::not_found))
        .method_not_allowed_fallback(failure::not_found)
        .route_layer(axum::middleware::from_fn_with_state(control.clone(), viewer::admit));
    let open = Router::new()
        .route("/", get(|| async { Redirect::to(ROOT) }))
        .route("/dashboard/sign-in", get(sign_in::show).post(sign_in::sign_in));
    let compressed =
        CompressionLayer::new().gzip(true).compress_when(SizeAbove::new(512).and(NotForContentType::new("font/")));
    pages
        .merge(open)
        .layer(axum::middleware::map_response(guarded))
        .route("/dashboard/assets/{name}", get(assets::show))
        .layer(compressed)
        .with_state(Dashboard { control, overviews: Arc::default() })
}

/// Adds the headers of every page.
async fn guarded(response: Response) -> Response {
    let mut response = response.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
