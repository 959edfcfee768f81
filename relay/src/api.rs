//! The REST API: what an operator's programs and the command line see of the gateway.
//!
//! Every call under `/v1` needs the bearer token. Errors are problem documents ([`problem`]), lists are pages by key
//! ([`page`]), and wherever a source or a destination is named its id and its name are both accepted ([`name`]). The
//! description at `/openapi.json` is made of the same declarations that the calls are served by.
//!
//! What changes sources, destinations and routes is in force in this replica when it is answered: each of these calls
//! ends with [`in_force`].

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::store::configuration::Version;
use problem::ApiError;

mod auth;
pub mod deliveries;
pub mod destinations;
pub mod events;
pub mod health;
mod input;
pub(crate) mod name;
pub mod page;
mod patch;
pub mod problem;
pub mod providers;
pub mod rate;
pub mod rejections;
pub mod replays;
pub mod routes;
pub mod server;
pub mod sources;
pub mod stats;
pub mod time;
pub mod unreadable;

/// The largest body of a request, in bytes.
pub const MAX_BODY_BYTES: usize = 1_000_000;

/// The whole API.
pub fn router(app: App) -> Router {
    let json = description().to_json().unwrap_or_default();
    let guarded = Router::from(calls())
        .method_not_allowed_fallback(method_not_allowed)
        .route_layer(axum::middleware::map_response(not_stored))
        .route_layer(axum::middleware::from_fn_with_state(app.clone(), auth::authenticate));
    Router::from(health::calls())
        .route(
            "/openapi.json",
            get(|| async move { ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], json) }),
        )
        .method_not_allowed_fallback(method_not_allowed)
        .merge(guarded)
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(app)
}

/// Answers to calls with the token are for that caller alone, and some hold secrets: nothing on the way keeps them.
async fn not_stored(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The description of the whole API (`OpenAPI` 3.1), made of the calls themselves.
pub(crate) fn description() -> utoipa::openapi::OpenApi {
    let mut description = Description::openapi();
    description.merge(health::calls().into_openapi());
    description.merge(calls().into_openapi());
    // An operation's id is the name of its function, which is only unique within its module.
    for path in description.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.delete, &mut path.patch];
        for operation in operations.into_iter().flatten() {
            let tag = operation.tags.iter().flatten().next();
            operation.operation_id = operation.operation_id.take().zip(tag).map(|(id, tag)| format!("{tag}_{id}"));
        }
    }
    description
}

/// What every call has in common, for the API's description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate",
        description = "Receives webhooks at the edge, delivers them at the pace of each destination, shows and replays \
                       everything. Lists are pages: pass next_cursor as cursor for the next one. Times are RFC 3339. \
                       PATCH takes a JSON merge patch (RFC 7396): what is left out stays, objects are merged field by \
                       field, null takes a field away so that it has its default, and lists are replaced. Texts must not \
                       hold the character NUL."
    ),
    components(schemas(problem::Problem)),
    modifiers(&BearerToken),
    security(("token" = []))
)]
struct Description;

struct BearerToken;

impl utoipa::Modify for BearerToken {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("the relay's TIDEGATE_ADMIN_TOKEN"))
            .build();
        description.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Every call that needs the token, in the order of the data.
fn calls() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(providers::list))
        .routes(routes!(providers::show))
        .routes(routes!(sources::create, sources::list))
        .routes(routes!(sources::show, sources::change, sources::delete))
        .routes(routes!(sources::put))
        .routes(routes!(sources::add_secret))
        .routes(routes!(destinations::create, destinations::list))
        .routes(routes!(destinations::show, destinations::change, destinations::delete))
        .routes(routes!(destinations::put))
        .routes(routes!(destinations::pause))
        .routes(routes!(destinations::resume))
        .routes(routes!(destinations::health::health))
        .routes(routes!(destinations::signing::signing_secret))
        .routes(routes!(destinations::signing::rotate_signing_secret))
        .routes(routes!(routes::create, routes::list))
        .routes(routes!(routes::show, routes::replace, routes::change, routes::delete))
        .routes(routes!(events::list))
        .routes(routes!(events::show))
        .routes(routes!(events::body))
        .routes(routes!(events::changed_copy_body))
        .routes(routes!(events::release::release))
        .routes(routes!(deliveries::release::release))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::show))
        .routes(routes!(deliveries::attempts))
        .routes(routes!(deliveries::retry))
        .routes(routes!(deliveries::cancel))
        .routes(routes!(replays::create, replays::list))
        .routes(routes!(replays::show))
        .routes(routes!(replays::cancel))
        .routes(routes!(rejections::list))
        .routes(routes!(unreadable::list))
        .routes(routes!(unreadable::release_many))
        .routes(routes!(unreadable::show))
        .routes(routes!(unreadable::message))
        .routes(routes!(unreadable::release))
        .routes(routes!(stats::show))
}

/// Waits until this replica routes and delivers by a change.
///
/// # Errors
/// Where the change cannot be read back in time. It is stored and not undone: the other replicas and this one look for
/// changes by themselves.
async fn in_force(app: &App, version: Version) -> Result<(), ApiError> {
    let read = app.configuration.after(version).await;
    read.map(drop).map_err(|error| ApiError::NotInForce(error.to_string()))
}

async fn not_found() -> axum::response::Response {
    ApiError::NoSuchCall.into_response()
}

async fn method_not_allowed() -> axum::response::Response {
    ApiError::MethodNotAllowed.into_response()
}

#[cfg(test)]
mod tests;
