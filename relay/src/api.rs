//! The REST API, for the programs of operators and for the command line.
//!
//! Every call under `/v1` needs a bearer token, or the cookie of a session. A handler extracts the parameters, calls
//! the [control layer](crate::control), which contains every rule, and turns the result into a response. Errors are
//! problem documents ([`problem`]). The description at `/openapi.json` is generated from the declarations of the
//! handlers.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use serde_json::Value;
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::auth::AWAIT_TOKEN_PARAMETER;
use self::known::Known;
use self::problem::ApiError;
use self::site::SECURE_COOKIE;
use crate::control::{self, Control};

mod acting;
pub mod audit;
pub(crate) mod auth;
pub mod await_tokens;
pub mod awaits;
pub(crate) mod conditions;
mod cors;
pub mod customers;
pub mod deliveries;
mod description;
pub mod destinations;
pub mod events;
pub mod health;
mod idempotency;
pub(crate) mod input;
mod known;
pub(crate) mod layers;
pub mod operations;
pub mod overview;
pub mod problem;
pub mod providers;
pub mod query;
mod rate;
pub mod rejections;
pub mod replays;
pub mod routes;
pub mod server;
pub mod sessions;
mod sign_in;
pub(crate) mod site;
pub mod sources;
pub mod stats;
pub mod stream;
pub mod tokens;
pub mod unreadable;

/// The largest body of a request, in bytes.
pub const MAX_BODY_BYTES: usize = 1_000_000;

/// The whole API, with the pages of other interfaces beside it.
pub fn router(control: Control, pages: Router) -> Router {
    let description = description();
    let json = description.to_string();
    let known = Known::of(&description);
    let guarded = Router::from(calls())
        .method_not_allowed_fallback(method_not_allowed)
        // The last layer is the outermost one.
        .route_layer(axum::middleware::from_fn_with_state((control.clone(), known.clone()), idempotency::once))
        .route_layer(axum::middleware::from_fn_with_state((control.clone(), known.clone()), acting::act_for))
        .route_layer(axum::middleware::from_fn_with_state(known, known::check))
        .route_layer(axum::middleware::from_fn_with_state(control.clone(), rate::limit))
        .route_layer(axum::middleware::map_response(not_stored))
        .route_layer(axum::middleware::from_fn_with_state(control.clone(), auth::authenticate))
        .route_layer(axum::middleware::from_fn_with_state(control.clone(), cors::share))
        .with_state(control.clone());
    let sign_in = sign_in::pages().route_layer(axum::middleware::map_response(not_stored)).with_state(control.clone());
    let router = Router::from(health::calls())
        .with_state(control)
        .route(
            "/openapi.json",
            get(|| async move { ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], json) }),
        )
        .merge(sign_in)
        .merge(pages)
        .method_not_allowed_fallback(method_not_allowed)
        .merge(guarded)
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    layers::around(router, layers::ANSWERED_WITHIN)
}

/// Responses to authenticated calls are for that caller alone, and some contain secrets, so no cache may store them.
async fn not_stored(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The description of the whole API (`OpenAPI` 3.1), generated from the handlers.
pub(crate) fn description() -> Value {
    let mut description = Description::openapi();
    description.merge(health::calls().into_openapi());
    description.merge(calls().into_openapi());
    description::complete(serde_json::to_value(description).unwrap_or_default())
}

/// The parts of the API's description that all calls share.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate",
        description = "Tidegate receives webhooks at the edge, delivers them no faster than each destination allows, \
                       and lets you inspect and replay them.\n\nLists are paginated: pass `next_cursor` as `cursor` \
                       to get the next page. Timestamps use the RFC 3339 format. Request bodies are JSON; the \
                       `Content-Type` header is ignored.\n\nPATCH takes a JSON merge patch (RFC 7396): omitted fields \
                       are unchanged, objects are merged field by field, `null` resets a field to its default, and \
                       arrays are replaced.\n\nAn operation acts for the customer that its token is bound to. A token \
                       that is bound to none acts for the customer that the `Tidegate-Customer` header or the \
                       `customer` parameter names, and otherwise for the default customer; objects of other customers \
                       return 404.\n\nA change that is saved and not yet active everywhere returns 202 with the object; the \
                       relay makes it active by itself. Objects that can be configured have the header `ETag`. With \
                       `If-Match`, PUT, PATCH and DELETE change an object only if it still has that ETag, and with \
                       `If-None-Match: *`, PUT only creates; otherwise they return 412.\n\nA POST that changes something \
                       takes the header `Idempotency-Key`: for 24 hours, the same token or session that repeats the \
                       request with the same key gets the first response again, and nothing is changed a second time. \
                       The same key with another request returns 422, and 409 while the first request is running. If a \
                       request fails before it has changed anything, its key can be used again.\n\nEach token and each session may make a \
                       limited number of requests a minute on each relay; the headers `RateLimit-Policy` and `RateLimit` \
                       of every response say how many are left, and a request beyond the limit returns 429 with \
                       `Retry-After`.\n\nErrors are problem \
                       documents (RFC 9457). A request that cannot be \
                       parsed returns 400: its body is empty or not JSON, or a string in its body, path or query \
                       contains a NUL character. A request that can be parsed but is invalid returns 422, and \
                       `errors` lists the fields and parameters that were found to be missing, unknown or \
                       invalid.\n\nUnknown fields and query parameters are never ignored. A POST endpoint that takes \
                       no body rejects any body other than `{}`; a body sent with GET or DELETE is ignored. An \
                       unknown path returns 404, and a method that the path does not support returns 405.\n\nEvery \
                       response has an `x-request-id` header, whose value also appears in the relay's log. If the \
                       request has an `x-request-id` of 1 to 64 letters, digits, dots, hyphens and underscores, the \
                       response repeats it; otherwise the relay generates one."
    ),
    tags(
        (name = "providers", description = "The catalogue of providers."),
        (name = "sources", description = "URLs that providers send webhooks to."),
        (name = "destinations", description = "HTTP endpoints that deliveries are sent to."),
        (name = "routes", description = "Connections from sources to destinations."),
        (name = "events", description = "Accepted webhooks."),
        (name = "deliveries", description = "Events on their way to destinations."),
        (name = "replays", description = "Work in the background that makes deliveries of stored events again."),
        (name = "rejections", description = "Counts of requests that were not stored as events."),
        (name = "unreadable-messages", description = "Queue messages that could not be stored as events."),
        (name = "stats", description = "Counts per minute, hour or day."),
        (name = "stream", description = "Changes of events and deliveries, as they are stored."),
        (name = "overview", description = "What happens now, and what is wrong now."),
        (name = "customers", description = "Owners of sources, destinations, routes and what belongs to them."),
        (name = "tokens", description = "What callers authenticate with."),
        (name = "audit", description = "Who changed what."),
        (name = "operations", description = "Bulk work in the background."),
        (name = "sessions", description = "What browsers authenticate with after a sign-in."),
        (name = "await", description = "Calls that wait for an event of a job of an AI provider."),
        (name = "await-tokens", description = "What a browser awaits one job with."),
        (name = "health", description = "Whether the relay is running and ready."),
    ),
    components(schemas(
        problem::Problem,
        control::audit::Action,
        control::deliveries::StatusClass,
        control::events::EventDeliveries,
        control::stream::Change
    )),
    modifiers(&Credentials),
    security(("token" = []))
)]
struct Description;

struct Credentials;

impl utoipa::Modify for Credentials {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "A token, sent as `Authorization: Bearer <token>`. The token needs the scope that the operation lists, if \
                 it lists one. The value of the relay's `TIDEGATE_ADMIN_TOKEN` setting has every scope.",
            ))
            .build();
        let session = ApiKey::Cookie(ApiKeyValue::with_description(
            SECURE_COOKIE,
            "The cookie of a session, which `POST /v1/sessions` sets. Its name is `tidegate` if the relay is reached by plain \
             HTTP. A request with an `Authorization` header is authenticated by that header alone. A request with the \
             cookie that changes something needs the header `Origin` with the relay's own origin; browsers send it.",
        ));
        let components = description.components.get_or_insert_default();
        let await_token = ApiKey::Query(ApiKeyValue::with_description(
            AWAIT_TOKEN_PARAMETER,
            "An await token, which `POST /v1/await-tokens` makes. It counts only without an `Authorization` header, and may \
             also be sent in that header, as a bearer token.",
        ));
        components.add_security_scheme("await_token", SecurityScheme::ApiKey(await_token));
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
        components.add_security_scheme("session", SecurityScheme::ApiKey(session));
    }
}

/// Every call that needs a token, in the order of the data flow.
fn calls() -> OpenApiRouter<Control> {
    OpenApiRouter::new()
        .routes(routes!(providers::list))
        .routes(routes!(providers::show))
        .routes(routes!(sources::create, sources::list))
        .routes(routes!(sources::show, sources::change, sources::delete))
        .routes(routes!(sources::put))
        .routes(routes!(sources::add_secret))
        .routes(routes!(sources::check))
        .routes(routes!(destinations::create, destinations::list))
        .routes(routes!(destinations::show, destinations::change, destinations::delete))
        .routes(routes!(destinations::put))
        .routes(routes!(destinations::pause))
        .routes(routes!(destinations::resume))
        .routes(routes!(destinations::health))
        .routes(routes!(destinations::signing_secret))
        .routes(routes!(destinations::rotate_signing_secret))
        .routes(routes!(routes::create, routes::list))
        .routes(routes!(routes::try_out))
        .routes(routes!(routes::show, routes::replace, routes::change, routes::delete))
        .routes(routes!(routes::put))
        .routes(routes!(events::list))
        .routes(routes!(events::search))
        .routes(routes!(events::show))
        .routes(routes!(events::body, events::erase_body))
        .routes(routes!(events::changed_copy_body))
        .routes(routes!(events::release))
        .routes(routes!(events::deliver))
        .routes(routes!(deliveries::release))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::show))
        .routes(routes!(deliveries::attempts))
        .routes(routes!(deliveries::retry))
        .routes(routes!(deliveries::cancel))
        .routes(routes!(replays::create, replays::list))
        .routes(routes!(replays::show, replays::change))
        .routes(routes!(replays::cancel))
        .routes(routes!(replays::pause))
        .routes(routes!(replays::resume))
        .routes(routes!(rejections::list))
        .routes(routes!(unreadable::list))
        .routes(routes!(unreadable::release_many))
        .routes(routes!(unreadable::show))
        .routes(routes!(unreadable::message))
        .routes(routes!(unreadable::release))
        .routes(routes!(stats::show))
        .routes(routes!(stream::follow))
        .routes(routes!(stats::of_sources))
        .routes(routes!(stats::of_destinations))
        .routes(routes!(stats::several_health))
        .routes(routes!(overview::show))
        .routes(routes!(customers::create, customers::list))
        .routes(routes!(customers::show, customers::change, customers::delete))
        .routes(routes!(customers::put))
        .routes(routes!(tokens::create, tokens::list))
        .routes(routes!(tokens::show))
        .routes(routes!(tokens::revoke))
        .routes(routes!(tokens::whoami))
        .routes(routes!(audit::list))
        .routes(routes!(operations::create, operations::list))
        .routes(routes!(operations::show))
        .routes(routes!(operations::cancel))
        .routes(routes!(sessions::create, sessions::list, sessions::end_all))
        .routes(routes!(sessions::end_current))
        .routes(routes!(sessions::end))
        .routes(routes!(awaits::one))
        .routes(routes!(awaits::many))
        .routes(routes!(await_tokens::create))
}

/// Untrusted bytes: always an attachment, and never of a type that a browser renders.
fn attachment(name: &str, bytes: impl AsRef<[u8]> + Send + 'static) -> Response {
    let mut response = Body::from(Bytes::from_owner(bytes)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    response
}

async fn not_found() -> axum::response::Response {
    ApiError::NoSuchCall.into_response()
}

async fn method_not_allowed() -> axum::response::Response {
    ApiError::MethodNotAllowed.into_response()
}

#[cfg(test)]
mod tests;
