//! Destinations: the endpoints that deliveries go to, with their limits and their signing keys.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use shared::id::{CustomerId, DestinationId};
use shared::sign::SigningKey;
use url::Url;
use utoipa::ToSchema;

use super::auth::Caller;
use super::in_force;
use super::input::{Body, Params, Segment};
use super::name;
use super::page::{Page, PageQuery};
use super::problem::{ApiError, Conflict, Problems, Refusals, conflict_of};
use super::rate::{self, RateLimit};
use super::time::Timestamp;
use super::upsert::upsert;
use crate::configuration::DestinationState;
use crate::signing::{DEFAULT_OVERLAP_S, SigningKeys};
use crate::store::deleted_destinations;
use crate::store::destinations::{self, Content, DestinationRow};
use crate::{App, mint, secrets};
use settings::{Checked, DestinationSettings, same_origin};

mod headers;
pub mod health;
mod settings;
pub(super) mod signing;

/// A destination.
#[derive(Debug, Serialize, ToSchema)]
pub struct Destination {
    #[schema(value_type = String, example = "dst_0197f3c8d2a17c3e9b5d0a4c6f7e8b91")]
    pub id: DestinationId,
    pub name: String,
    pub url: String,
    pub state: DestinationState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_reason: Option<String>,
    pub state_changed_at: Timestamp,
    /// Why this relay cannot send to it, for instance because no master key opens its secrets; its deliveries are held. Left
    /// out if it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unusable: Option<String>,
    pub rate_limit: Option<RateLimit>,
    pub max_concurrency: i32,
    pub timeout_ms: i32,
    #[schema(value_type = Object)]
    pub retry: Value,
    /// The names of the static headers; their values are not shown.
    pub header_names: Vec<String>,
    /// What the destination verifies deliveries with. Only shown when it is made; later by `/signing-secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_secret: Option<String>,
    /// The change led to another scheme, host or port, and the static headers were not given again: they are gone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub headers_cleared: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Makes a destination. The answer holds the signing secret.
#[utoipa::path(post, path = "/v1/destinations", tag = "destinations", request_body = DestinationSettings,
    responses((status = 201, body = Destination), Refusals))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(settings): Body<DestinationSettings>,
) -> Result<Response, ApiError> {
    let mut problems = Problems::default();
    let name = name::required(settings.name.as_deref(), &mut problems);
    let checked = settings.check(&app.egress, &mut problems);
    insert(&app, caller.customer, &name, problems.finish_with(checked)?).await
}

/// A page of destinations, newest first.
#[utoipa::path(get, path = "/v1/destinations", tag = "destinations", params(PageQuery),
    responses((status = 200, body = Page<Destination>), Refusals))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<Destination>>, ApiError> {
    let window = query.window()?;
    let rows = destinations::page(&app.pool, caller.customer, window.cursor, window.fetch()).await?;
    Ok(Json(window.page(rows, |row| row.id, |row| view(&app, row))))
}

/// One destination.
#[utoipa::path(get, path = "/v1/destinations/{id}", tag = "destinations",
    params(("id" = String, Path, description = "id or name")), responses((status = 200, body = Destination), Refusals))]
pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Destination>, ApiError> {
    Ok(Json(view(&app, find(&app, caller.customer, &id).await?)))
}

/// Makes the destination with this name, or changes it. What is left out gets its default, except the signing keys, which
/// are kept, and the static headers, which are kept as long as the URL's scheme, host and port stay the same.
#[utoipa::path(put, path = "/v1/destinations/by-name/{name}", tag = "destinations", params(("name" = String, Path)),
    request_body = DestinationSettings,
    responses((status = 200, body = Destination, description = "changed"), (status = 201, body = Destination, description = "made"), Refusals))]
pub(super) async fn put(
    State(app): State<App>,
    caller: Caller,
    Segment(name): Segment,
    Body(settings): Body<DestinationSettings>,
) -> Result<Response, ApiError> {
    let mut problems = Problems::default();
    name::check_path(&name, settings.name.as_deref(), &mut problems);
    let checked = settings.check(&app.egress, &mut problems);
    let checked = problems.finish_with(checked)?;
    upsert(|| insert_or_update(&app, caller.customer, &name, checked.clone())).await
}

/// Deletes a destination with its routes. Its name is free at once, and nothing is sent to it any more; an attempt that is
/// under way is not called back.
///
/// What is pending for it is cancelled in the background, which takes a while if it is much: some thousands a second. Until
/// then such a delivery is shown as held, with that as its reason, counts as pending in the replay that made it, cannot be
/// retried, and is not taken by a replay of what is cancelled. Replays that deliver to it are cancelled.
#[utoipa::path(delete, path = "/v1/destinations/{id}", tag = "destinations",
    params(("id" = String, Path, description = "id or name")), responses((status = 204), Refusals))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<StatusCode, ApiError> {
    let id = DestinationId::from_uuid(find(&app, caller.customer, &id).await?.id);
    let version = deleted_destinations::delete(&app.pool, caller.customer, id).await?;
    let version = version.ok_or(ApiError::NotFound("destination"))?;
    app.wakers.deletions.notify_one();
    in_force(&app, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Holds the deliveries of a destination until it is resumed.
#[utoipa::path(post, path = "/v1/destinations/{id}/pause", tag = "destinations",
    params(("id" = String, Path, description = "id or name")), responses((status = 200, body = Destination), Refusals))]
pub(super) async fn pause(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Destination>, ApiError> {
    set_state(&app, caller.customer, &id, "paused").await
}

/// Lets the deliveries of a paused or disabled destination go, at the rate of the destination. What was learned of it before is
/// forgotten: Retry-After, pauses, breaker, reduction and run of failures.
#[utoipa::path(post, path = "/v1/destinations/{id}/resume", tag = "destinations",
    params(("id" = String, Path, description = "id or name")), responses((status = 200, body = Destination), Refusals))]
pub(super) async fn resume(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Destination>, ApiError> {
    set_state(&app, caller.customer, &id, "active").await
}

/// The destination with this id or name.
pub(super) async fn find(app: &App, customer: CustomerId, text: &str) -> Result<DestinationRow, ApiError> {
    let (id, name) = name::id_or_name(text);
    destinations::find(&app.pool, customer, id, name).await?.ok_or(ApiError::NotFound("destination"))
}

/// The id of a destination that a filter names. An id is taken as it is, because deliveries outlive their destination.
pub(super) async fn id_of(
    app: &App,
    customer: CustomerId,
    field: &str,
    text: Option<&str>,
    problems: &mut Problems,
) -> Result<Option<DestinationId>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    if let (Some(id), _) = name::id_or_name(text) {
        return Ok(Some(id));
    }
    let found = find(app, customer, text).await;
    problems.named(field, text, found.map(|row| DestinationId::from_uuid(row.id)))
}

async fn insert_or_update(app: &App, customer: CustomerId, name: &str, checked: Checked) -> Result<Response, ApiError> {
    match destinations::find(&app.pool, customer, None, Some(name)).await? {
        None => insert(app, customer, name, checked).await,
        Some(row) => Ok(Json(update(app, &row, checked).await?).into_response()),
    }
}

async fn insert(app: &App, customer: CustomerId, name: &str, checked: Checked) -> Result<Response, ApiError> {
    let id = DestinationId::from_uuid(mint::uuid());
    let key = checked.signing_key.clone().unwrap_or_else(|| SigningKey::generate_hmac(mint::random()));
    let headers = checked.headers.clone().unwrap_or_default();
    let content = content(app, id, checked, &SigningKeys::new(key.clone()), seal_headers(app, id, &headers)?)?;
    let inserted = destinations::insert(&app.pool, customer, id, name, shard(id), &content).await;
    let taken = conflict_of("destination_name_is_unique_for_its_customer", Conflict::NameTaken);
    let (row, version) = inserted.map_err(taken)?;
    in_force(app, version).await?;
    let destination = Destination { signing_secret: Some(key.to_text()), ..view(app, row) };
    Ok((StatusCode::CREATED, Json(destination)).into_response())
}

async fn update(app: &App, row: &DestinationRow, checked: Checked) -> Result<Destination, ApiError> {
    let id = DestinationId::from_uuid(row.id);
    let moved = !Url::parse(&row.url).is_ok_and(|old| same_origin(&old, &checked.url));
    let (headers_sealed, headers_cleared) = match &checked.headers {
        Some(headers) => (seal_headers(app, id, headers)?, false),
        None if moved => (None, row.headers_sealed.is_some()),
        None => (row.headers_sealed.clone(), false),
    };
    let keys = match checked.signing_key.clone() {
        Some(key) => replaced_keys(app, row, key, DEFAULT_OVERLAP_S, mint::now_ms()),
        None => open_keys(app, row)?,
    };
    let content = content(app, id, checked, &keys, headers_sealed)?;
    let updated = destinations::update(&app.pool, row, &content).await?;
    let (row, version) = updated.ok_or(ApiError::Conflict(Conflict::ChangedMeanwhile))?;
    in_force(app, version).await?;
    app.engine.look(id);
    Ok(Destination { headers_cleared, ..view(app, row) })
}

fn content(
    app: &App,
    id: DestinationId,
    checked: Checked,
    keys: &SigningKeys,
    headers_sealed: Option<String>,
) -> Result<Content, ApiError> {
    let (rate_limit, rate_per) = rate::columns(checked.rate);
    Ok(Content {
        url: checked.url.into(),
        signing_keys_sealed: seal_keys(app, id, keys)?,
        headers_sealed,
        rate_limit,
        rate_per,
        max_concurrency: checked.max_concurrency,
        timeout_ms: checked.timeout_ms,
        retry: serde_json::to_value(&checked.retry).map_err(|error| ApiError::Internal(error.to_string()))?,
    })
}

async fn set_state(
    app: &App,
    customer: CustomerId,
    id: &str,
    state: &'static str,
) -> Result<Json<Destination>, ApiError> {
    let id = DestinationId::from_uuid(find(app, customer, id).await?.id);
    if let Some(version) = destinations::set_state(&app.pool, customer, id, state).await? {
        in_force(app, version).await?;
        app.engine.look(id);
    }
    let row = destinations::find(&app.pool, customer, Some(id), None).await?;
    Ok(Json(view(app, row.ok_or(ApiError::NotFound("destination"))?)))
}

/// Spread evenly, whatever the ids have in common.
fn shard(id: DestinationId) -> i16 {
    Sha256::digest(id.uuid().as_bytes()).first().copied().map_or(0, i16::from)
}

fn seal_keys(app: &App, id: DestinationId, keys: &SigningKeys) -> Result<String, ApiError> {
    secrets::seal_signing_keys(&app.config.master_keys, id, keys).map_err(ApiError::Internal)
}

fn open_keys(app: &App, row: &DestinationRow) -> Result<SigningKeys, ApiError> {
    secrets::open_signing_keys(&app.config.master_keys, DestinationId::from_uuid(row.id), &row.signing_keys_sealed)
        .map_err(|_| ApiError::Conflict(Conflict::SecretClosed))
}

/// The signing keys with a new one in front. Those that do not open any more sign no more.
fn replaced_keys(app: &App, row: &DestinationRow, new: SigningKey, overlap_s: u32, now_ms: u64) -> SigningKeys {
    let id = DestinationId::from_uuid(row.id);
    match secrets::open_signing_keys(&app.config.master_keys, id, &row.signing_keys_sealed) {
        Ok(keys) => keys.rotated(new, overlap_s, now_ms),
        Err(_) => SigningKeys::new(new),
    }
}

fn seal_headers(app: &App, id: DestinationId, headers: &BTreeMap<String, String>) -> Result<Option<String>, ApiError> {
    if headers.is_empty() {
        return Ok(None);
    }
    secrets::seal_headers(&app.config.master_keys, id, headers).map(Some).map_err(ApiError::Internal)
}

/// A state from its column.
fn state_of(name: &str) -> DestinationState {
    match name {
        "active" => DestinationState::Active,
        "paused" => DestinationState::Paused,
        _ => DestinationState::Disabled,
    }
}

fn view(app: &App, row: DestinationRow) -> Destination {
    let id = DestinationId::from_uuid(row.id);
    let headers = row.headers_sealed.as_ref().map(|sealed| secrets::open_headers(&app.config.master_keys, id, sealed));
    let headers = headers.unwrap_or_else(|| Ok(BTreeMap::new())).unwrap_or_else(|problem| {
        tracing::error!(destination = %id, problem, "the static headers of this destination cannot be opened");
        BTreeMap::new()
    });
    Destination {
        id,
        name: row.name,
        url: row.url,
        state: state_of(&row.state),
        state_reason: row.state_reason,
        state_changed_at: Timestamp(row.state_changed_at),
        unusable: app.configuration.current().unusable.get(&id).map(|unusable| unusable.reason.clone()),
        rate_limit: RateLimit::of_columns(row.rate_limit, row.rate_per.as_deref()),
        max_concurrency: row.max_concurrency,
        timeout_ms: row.timeout_ms,
        retry: row.retry,
        header_names: headers.into_keys().collect(),
        signing_secret: None,
        headers_cleared: false,
        created_at: Timestamp(row.created_at),
        updated_at: Timestamp(row.updated_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_spread_over_the_shards() {
        let shards: std::collections::HashSet<i16> =
            (0..2_000).map(|at_ms| shard(DestinationId::mint(at_ms, [0; 10]))).collect();
        assert!(shards.iter().all(|shard| (0..256).contains(shard)));
        assert!(shards.len() > 250, "{}", shards.len());
    }
}
