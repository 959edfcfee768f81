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

use crate::config;
use crate::control::Control;

mod admission;
mod alert_list;
pub(crate) mod alerts;
mod answer;
mod assets;
mod changes;
mod commands;
mod confirmation;
mod curve;
pub(crate) mod deliveries;
mod delivery;
mod design;
mod destinations;
mod event;
mod event_rows;
mod events;
mod failing;
mod failure;
mod field;
mod filter;
mod find;
mod flow;
mod frame;
pub(crate) mod kept;
mod link;
mod notice;
mod operations;
pub(crate) mod overview;
mod quarantine;
mod routes;
pub(crate) mod settings;
mod sign_in;
mod sources;
mod start;
pub(crate) mod switcher;
pub(crate) mod system;
mod theme;
mod theme_choice;
pub(crate) mod values;
mod view;
mod viewer;
mod wrong;

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
    overviews: Arc<overview::Overviews>,
    alerts: Arc<alerts::Alerts>,
    customers: Arc<switcher::Customers>,
    system: Arc<system::Systems>,
}

/// The pages that are served.
pub fn router(control: Control, served: config::Dashboard) -> Router {
    let dashboard = Dashboard {
        control,
        overviews: Arc::default(),
        alerts: Arc::default(),
        customers: Arc::default(),
        system: Arc::default(),
    };
    let pages = Router::new()
        .route("/dashboard", get(overview::show))
        .route("/dashboard/events", get(events::list))
        .route("/dashboard/changes", get(changes::follow))
        // Alerts, system and settings.
        .route("/dashboard/alerts", get(alert_list::show))
        .route("/dashboard/system", get(system::show))
        .merge(settings::routes())
        .merge(if served == config::Dashboard::Design { design::routes() } else { Router::new() })
        // Deliveries, operations, replays and the quarantine.
        .route("/dashboard/deliveries", get(deliveries::list))
        .route("/dashboard/deliveries/plan", get(deliveries::plan::show).post(deliveries::plan::start))
        .route("/dashboard/deliveries/{id}", get(delivery::show))
        .route("/dashboard/deliveries/{id}/retry", get(failure::not_found).post(delivery::retry))
        .route("/dashboard/deliveries/{id}/cancel", get(delivery::confirm_cancel).post(delivery::cancel))
        .route("/dashboard/operations", get(operations::list))
        .route("/dashboard/operations/{id}", get(operations::one::show))
        .route("/dashboard/operations/{id}/cancel", get(operations::one::confirm_cancel).post(operations::one::cancel))
        .route("/dashboard/replays", get(operations::replays))
        .route("/dashboard/replays/new", get(operations::new_replay::show).post(operations::new_replay::start))
        .route("/dashboard/replays/{id}", get(operations::replay::show))
        .route("/dashboard/replays/{id}/pause", get(failure::not_found).post(operations::replay::pause))
        .route("/dashboard/replays/{id}/resume", get(failure::not_found).post(operations::replay::resume))
        .route("/dashboard/replays/{id}/rate", get(failure::not_found).post(operations::replay::change_rate))
        .route(
            "/dashboard/replays/{id}/cancel",
            get(operations::replay::confirm_cancel).post(operations::replay::cancel),
        )
        .route("/dashboard/quarantine", get(quarantine::show))
        .route("/dashboard/quarantine/plan", get(quarantine::plan::show).post(quarantine::plan::start))
        .route("/dashboard/quarantine/messages", get(quarantine::messages::list))
        .route(
            "/dashboard/quarantine/messages/release",
            get(failure::not_found).post(quarantine::messages::release_many),
        )
        .route("/dashboard/quarantine/messages/{id}", get(quarantine::messages::show))
        .route(
            "/dashboard/quarantine/messages/{id}/release",
            get(failure::not_found).post(quarantine::messages::release),
        )
        .route("/dashboard/quarantine/{id}/release", get(failure::not_found).post(quarantine::release))
        // Event, its actions, the replay of events, and Find.
        .route("/dashboard/events/export", get(events::export))
        .route("/dashboard/events/replay", get(events::replay::plan).post(events::replay::begin))
        .route("/dashboard/events/{id}", get(event::show))
        .route("/dashboard/events/{id}/deliver", get(event::actions::deliver_page).post(event::actions::deliver))
        .route("/dashboard/events/{id}/edit", get(event::edit::show).post(event::edit::send))
        .route("/dashboard/events/{id}/release", get(failure::not_found).post(event::actions::release))
        .route("/dashboard/events/{id}/erase", get(event::actions::erase_page).post(event::actions::erase))
        .route("/dashboard/find", get(find::show))
        // Sources, the page of one, adding one, and the first run.
        .merge(sources::routes())
        .merge(start::routes())
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
        .route("/dashboard/theme", get(failure::not_found).post(theme_choice::choose))
        .route("/dashboard/sign-out", get(failure::not_found).post(sign_in::sign_out))
        .route("/dashboard/{*rest}", get(failure::not_found))
        .method_not_allowed_fallback(failure::not_found)
        .route_layer(axum::middleware::from_fn_with_state(dashboard.clone(), admission::admit));
    let open = Router::new()
        .route("/", get(|| async { Redirect::to(ROOT) }))
        .route("/dashboard/sign-in", get(sign_in::show).post(sign_in::sign_in));
    let compressed = CompressionLayer::new()
        .gzip(true)
        .compress_when(SizeAbove::new(512).and(NotForContentType::const_new("font/")).and(NotForContentType::SSE));
    pages
        .merge(open)
        .layer(axum::middleware::map_response(guarded))
        .route("/dashboard/assets/{name}", get(assets::show))
        .layer(compressed)
        .with_state(dashboard)
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
