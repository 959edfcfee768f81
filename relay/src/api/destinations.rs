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
use utoipa::ToSchema;

use super::auth::Caller;
use super::in_force;
use super::input::{Body, Params, Segment};
use super::name;
use super::page::{Page, PageQuery};
use super::patch::dropped;
use super::problem::{ApiError, Conflict, Problems, Refusals, conflict_of};
use super::rate::RateLimit;
use super::time::Timestamp;
use crate::configuration::DestinationState;
use crate::signing::SigningKeys;
use crate::store::deleted_destinations;
use crate::store::destinations::{self, Changed, DestinationRow};
use crate::{App, mint, secrets};
use plan::{content, defaults, patched, settings_of};
use settings::{DestinationChange, DestinationSettings};

pub(crate) mod headers;
pub mod health;
mod plan;
pub(crate) mod settings;
pub(crate) mod signing;

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
    /// Whether the query of the provider's request is appended to the URL.
    pub append_query: bool,
    /// The names of the static headers; their values are not shown.
    pub header_names: Vec<String>,
    /// What the destination verifies deliveries with. Only shown when it is made; later by `/signing-secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_secret: Option<String>,
    /// The change led to another scheme, host or port, and the static headers were not given again: they are gone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub headers_cleared: bool,
    /// In the answer to PUT and PATCH: what this call has reset to its default or removed, such as
    /// `["headers.x-team", "rate_limit"]`. Left out if there is nothing. Signing keys are not among it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<String>,
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
    let checked = problems.finish_with(checked)?;
    let id = DestinationId::from_uuid(mint::uuid());
    let content = content(&app, id, None, checked, mint::now_ms())?;
    let inserted = destinations::insert(&app.pool, caller.customer, id, &name, shard(id), &content).await;
    let taken = conflict_of("destination_name_is_unique_for_its_customer", Conflict::NameTaken);
    answer(&app, inserted.map_err(taken)?, true).await
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
/// are kept, and the static headers, which are kept as long as the URL's scheme, host and port stay the same; `dropped` names
/// what is gone. Of calls at the same time the last one wins as a whole.
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
    let headers_are_given = checked.headers.is_some();
    let new = DestinationId::from_uuid(mint::uuid());
    let plan = |id, before: Option<&DestinationRow>| content(&app, id, before, checked, mint::now_ms());
    let put = destinations::put(&app.pool, caller.customer, &name, (new, shard(new)), plan).await?;
    answer(&app, put, headers_are_given).await
}

/// Changes a part of a destination. Changes of different fields at the same time are all kept.
#[utoipa::path(patch, path = "/v1/destinations/{id}", tag = "destinations",
    params(("id" = String, Path, description = "id or name")), request_body = DestinationChange,
    responses((status = 200, body = Destination), Refusals))]
pub(super) async fn change(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
    Body(change): Body<DestinationChange>,
) -> Result<Response, ApiError> {
    let headers_are_given = change.headers.is_some();
    let patch = change.into_patch()?;
    let (id, name) = name::id_or_name(&id);
    let plan = |row: &DestinationRow| patched(&app, row, patch, mint::now_ms());
    let changed = destinations::change(&app.pool, caller.customer, id, name, plan).await?;
    answer(&app, changed.ok_or(ApiError::NotFound("destination"))?, headers_are_given).await
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

/// Waits until a change is in force, and answers with the destination as it left it.
async fn answer(app: &App, changed: Changed, headers_are_given: bool) -> Result<Response, ApiError> {
    let Changed { before, row, version } = changed;
    in_force(app, version).await?;
    let id = DestinationId::from_uuid(row.id);
    let Some(before) = before else {
        let keys = open_keys(app, &row)?;
        let signing_secret = keys.signing(mint::now_ms()).first().map(SigningKey::to_text);
        return Ok((StatusCode::CREATED, Json(Destination { signing_secret, ..view(app, row) })).into_response());
    };
    app.engine.look(id);
    let settings = |row: &DestinationRow| settings_of(row, header_names(app, row));
    let dropped = dropped(&settings(&before), &settings(&row), &defaults()?);
    let headers_cleared = !headers_are_given && before.headers_sealed.is_some() && row.headers_sealed.is_none();
    Ok(Json(Destination { headers_cleared, dropped, ..view(app, row) }).into_response())
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

fn open_headers(app: &App, row: &DestinationRow) -> Result<BTreeMap<String, String>, String> {
    match &row.headers_sealed {
        Some(sealed) => secrets::open_headers(&app.config.master_keys, DestinationId::from_uuid(row.id), sealed),
        None => Ok(BTreeMap::new()),
    }
}

/// A state from its column.
fn state_of(name: &str) -> DestinationState {
    match name {
        "active" => DestinationState::Active,
        "paused" => DestinationState::Paused,
        _ => DestinationState::Disabled,
    }
}

/// The names of the static headers; none if they cannot be opened.
fn header_names(app: &App, row: &DestinationRow) -> Vec<String> {
    let id = DestinationId::from_uuid(row.id);
    let headers = open_headers(app, row).unwrap_or_else(|problem| {
        tracing::error!(destination = %id, problem, "the static headers of this destination cannot be opened");
        BTreeMap::new()
    });
    headers.into_keys().collect()
}

fn view(app: &App, row: DestinationRow) -> Destination {
    let id = DestinationId::from_uuid(row.id);
    let header_names = header_names(app, &row);
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
        append_query: row.append_query,
        header_names,
        signing_secret: None,
        headers_cleared: false,
        dropped: Vec::new(),
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
