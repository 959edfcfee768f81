//! Destinations: the endpoints that deliveries go to, with their limits and signing secrets.

use std::collections::BTreeMap;

use model::destination::DestinationState;
use model::signing::SigningSecrets;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use shared::id::DestinationId;
use shared::sign::SigningSecret;
use store::destinations::{self, Changed, DestinationRow};
use store::{Constraint, deleted_destinations};
use utoipa::ToSchema;

use self::plan::{content, defaults, patched, settings_of};
use self::recorded::record;
use super::error::{Conflict, Noun, conflict_of};
use super::fields::Problems;
use super::owners::Owners;
use super::page::{Page, PageRequest};
use super::patch::dropped;
use super::rate::RateLimit;
use super::record::Action;
use super::saved::{Activity, Configured, Outcome, Precondition, Saved};
use super::time::Timestamp;
use super::{Actor, Control, Error, Scope, name, schema};
use crate::{mint, secrets};

pub use settings::{DestinationPatch, DestinationSpec};

pub mod health;
mod plan;
mod recorded;
pub(crate) mod settings;
pub mod signing;

/// A destination.
#[derive(Debug, Serialize, ToSchema)]
pub struct Destination {
    /// The id of the destination.
    #[schema(value_type = schema::DestinationId)]
    pub id: DestinationId,
    /// The name of the customer that owns the destination. Only present in a list of all customers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub customer: Option<String>,
    /// The name, unique among the destinations of a customer.
    pub name: String,
    /// The URL that deliveries are sent to.
    pub url: String,
    /// The current state.
    pub state: DestinationState,
    /// Why the destination was disabled; otherwise absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub state_reason: Option<String>,
    /// When the state last changed.
    pub state_changed_at: Timestamp,
    /// Why this relay cannot send to the destination, for example because no key in `TIDEGATE_MASTER_KEY` decrypts
    /// its secrets. Deliveries are held. Absent if the destination is usable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub unusable: Option<String>,
    /// The rate limit; null if there is none.
    #[schema(required = true)]
    pub rate_limit: Option<RateLimit>,
    /// The maximum number of attempts in flight at the same time.
    pub max_concurrency: i32,
    /// The timeout of an attempt, in milliseconds.
    pub timeout_ms: i32,
    /// The retry policy.
    #[schema(value_type = schema::RetryPolicy)]
    pub retry: Value,
    /// Whether the query string of the provider's request is appended to the URL.
    pub append_query: bool,
    /// The names of the static headers; their values are not shown.
    pub header_names: Vec<String>,
    /// The signing secret, with which the destination verifies deliveries. Only present in the response that creates
    /// the destination; later, use `GET …/signing-secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub signing_secret: Option<String>,
    /// Present and true if this call removed the static headers, because it changed the scheme, host or port of the URL
    /// and did not set `headers`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub headers_cleared: bool,
    /// In responses to PUT and PATCH: the settings that the call reset to their defaults or removed, such as
    /// `["headers.x-team", "rate_limit"]`. Absent if there are none. Never includes the signing secret.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<String>,
    /// When the destination was created.
    pub created_at: Timestamp,
    /// When the destination was last changed.
    pub updated_at: Timestamp,
}

impl Configured for Destination {
    fn changed_at(&self) -> Timestamp {
        self.updated_at
    }
}

/// Creates a destination. The result contains the signing secret.
///
/// # Errors
/// Returns every invalid field, a conflict if the name is taken, or an error if a query fails.
pub async fn create(control: &Control, actor: &Actor, spec: DestinationSpec) -> Result<Saved<Destination>, Error> {
    actor.require(Scope::Write)?;
    let mut problems = Problems::default();
    let name = name::required(spec.name.as_deref(), &mut problems);
    let checked = spec.check(&control.egress, &mut problems);
    let checked = problems.finish_with(checked)?;
    let id = DestinationId::from_uuid(mint::uuid());
    let content = content(control, id, None, checked, mint::now_ms())?;
    let inserted =
        destinations::insert(&control.pool, actor.customer()?, id, &name, shard(id), &content, |before, after| {
            if let Some(Ok(new)) = after.map(|row| created(control, row.clone())) {
                actor.answers_with(control, Outcome::Created, &new);
            }
            record(control, actor, Action::DestinationUpdate)(before, after)
        })
        .await;
    let taken = conflict_of(&[(Constraint::DestinationName, Conflict::NameTaken)]);
    activated(control, inserted.map_err(taken)?, true).await
}

/// A page of destinations, newest first.
///
/// # Errors
/// Returns an error if the limit or the cursor is invalid, or if a query fails.
pub async fn list(control: &Control, actor: &Actor, page: &PageRequest) -> Result<Page<Destination>, Error> {
    actor.require(Scope::Read)?;
    let window = page.window()?;
    let rows = destinations::page(&control.pool, actor.listed(), window.cursor, window.fetch()).await?;
    let owners = Owners::named(control, actor, rows.iter().map(|row| (row.id, row.customer_id))).await?;
    let view = |row: DestinationRow| Destination { customer: owners.of(row.id), ..view(control, row) };
    Ok(window.page(rows, |row| row.id.uuid(), view))
}

/// The destination with this id or name, as the API shows it.
///
/// # Errors
/// Returns an error if the destination does not exist, or if a query fails.
pub async fn show(control: &Control, actor: &Actor, id: &str) -> Result<Destination, Error> {
    actor.require(Scope::Read)?;
    Ok(view(control, find(control, actor, id).await?))
}

/// Creates the destination with this name, or replaces its settings. Omitted settings get their defaults, with two
/// exceptions: omitted signing secrets are kept, and omitted static headers are kept as long as the scheme, host and
/// port of the URL stay the same. If calls are concurrent, the last one replaces all settings.
///
/// # Errors
/// Returns every invalid field, [`Error::Changed`] if the precondition is not met, or an error if a query fails.
pub async fn put(
    control: &Control,
    actor: &Actor,
    name: &str,
    spec: DestinationSpec,
    when: &Precondition,
) -> Result<Saved<Destination>, Error> {
    actor.require(Scope::Write)?;
    let mut problems = Problems::default();
    name::check_path(name, spec.name.as_deref(), &mut problems);
    let checked = spec.check(&control.egress, &mut problems);
    let checked = problems.finish_with(checked)?;
    let headers_are_given = checked.headers.is_some();
    let new = DestinationId::from_uuid(mint::uuid());
    let plan = |id, before: Option<&DestinationRow>| {
        when.check(before.map(|row| row.updated_at))?;
        content(control, id, before, checked, mint::now_ms())
    };
    let put = destinations::put(
        &control.pool,
        actor.customer()?,
        name,
        (new, shard(new)),
        plan,
        record(control, actor, Action::DestinationUpdate),
    )
    .await?;
    activated(control, put, headers_are_given).await
}

/// Changes some settings of a destination. Concurrent changes to different fields are all kept.
///
/// # Errors
/// Returns every invalid field, [`Error::Changed`] if the precondition is not met, or an error if the destination does
/// not exist or a query fails.
pub async fn change(
    control: &Control,
    actor: &Actor,
    id: &str,
    patch: DestinationPatch,
    when: &Precondition,
) -> Result<Saved<Destination>, Error> {
    actor.require(Scope::Write)?;
    let headers_are_given = patch.headers.is_some();
    let patch = patch.into_json()?;
    let (id, name) = name::id_or_name(id);
    let plan = |row: &DestinationRow| {
        when.check(Some(row.updated_at))?;
        patched(control, row, patch, mint::now_ms())
    };
    let changed = destinations::change(
        &control.pool,
        actor.customer()?,
        id,
        name,
        plan,
        record(control, actor, Action::DestinationUpdate),
    )
    .await?;
    let changed = changed.ok_or(Error::NotFound(Noun::Destination))?;
    activated(control, changed, headers_are_given).await
}

/// Deletes a destination and its routes. Its pending deliveries are cancelled in the background.
///
/// # Errors
/// Returns an error if the destination does not exist, [`Error::Changed`] if the precondition is not met, or an error if
/// a query fails.
pub async fn delete(control: &Control, actor: &Actor, id: &str, when: &Precondition) -> Result<Activity, Error> {
    actor.require(Scope::Write)?;
    let id = find(control, actor, id).await?.id;
    let record = |row: &DestinationRow| record(control, actor, Action::DestinationUpdate)(Some(row), None);
    let check = |row: &DestinationRow| when.check(Some(row.updated_at));
    let version = deleted_destinations::delete(&control.pool, actor.customer()?, id, check, record).await?;
    let version = version.ok_or(Error::NotFound(Noun::Destination))?;
    control.wakers.deletions.notify_one();
    Ok(control.active(version).await)
}

/// Holds the deliveries of a destination until it is resumed.
///
/// # Errors
/// Returns an error if the destination does not exist, or if a query fails.
pub async fn pause(control: &Control, actor: &Actor, id: &str) -> Result<Saved<Destination>, Error> {
    actor.require(Scope::Write)?;
    set_state(control, actor, id, DestinationState::Paused, Action::DestinationPause).await
}

/// Sends the deliveries of a paused or disabled destination again, at its rate. Its health is reset.
///
/// # Errors
/// Returns an error if the destination does not exist, or if a query fails.
pub async fn resume(control: &Control, actor: &Actor, id: &str) -> Result<Saved<Destination>, Error> {
    actor.require(Scope::Write)?;
    set_state(control, actor, id, DestinationState::Active, Action::DestinationResume).await
}

/// The destination with this id or name.
pub(super) async fn find(control: &Control, actor: &Actor, text: &str) -> Result<DestinationRow, Error> {
    let (id, name) = name::id_or_name(text);
    destinations::find(&control.pool, actor.customer()?, id, name).await?.ok_or(Error::NotFound(Noun::Destination))
}

/// The id of a destination that a filter names. An id is not looked up, because deliveries outlive their destination.
pub(super) async fn id_of(
    control: &Control,
    actor: &Actor,
    field: &str,
    text: Option<&str>,
    problems: &mut Problems,
) -> Result<Option<DestinationId>, Error> {
    let found = async |text: &str| Ok(find(control, actor, text).await?.id);
    name::id_in_filter(actor, field, text, problems, found).await
}

/// Waits until a change is active, and returns the destination as the change left it.
async fn activated(control: &Control, changed: Changed, headers_are_given: bool) -> Result<Saved<Destination>, Error> {
    let Changed { before, row, version } = changed;
    let activity = control.active(version).await;
    let id = row.id;
    let Some(before) = before else {
        return Ok(Saved::new(created(control, row)?, true, activity));
    };
    control.engine.rescan(id);
    let settings = |row: &DestinationRow| settings_of(row, header_names(control, row));
    let dropped = dropped(&settings(&before), &settings(&row), &defaults()?);
    let headers_cleared = !headers_are_given && before.headers_sealed.is_some() && row.headers_sealed.is_none();
    Ok(Saved::new(Destination { headers_cleared, dropped, ..view(control, row) }, false, activity))
}

/// A new destination, with its signing secret.
fn created(control: &Control, row: DestinationRow) -> Result<Destination, Error> {
    let keys = open_secrets(control, &row)?;
    let signing_secret = keys.signing(mint::now_ms()).first().map(SigningSecret::to_text);
    Ok(Destination { signing_secret, ..view(control, row) })
}

async fn set_state(
    control: &Control,
    actor: &Actor,
    id: &str,
    state: DestinationState,
    action: Action,
) -> Result<Saved<Destination>, Error> {
    let id = find(control, actor, id).await?.id;
    let mut activity = Activity::Active;
    let record = |before: Option<&DestinationRow>, after: Option<&DestinationRow>| {
        if let Some(row) = after {
            actor.answers_with(control, Outcome::Updated, &view(control, row.clone()));
        }
        record(control, actor, action)(before, after)
    };
    if let Some(version) = destinations::set_state(&control.pool, actor.customer()?, id, state, record).await? {
        activity = control.active(version).await;
        control.engine.rescan(id);
    }
    let row = destinations::find(&control.pool, actor.customer()?, Some(id), None).await?;
    Ok(Saved::new(view(control, row.ok_or(Error::NotFound(Noun::Destination))?), false, activity))
}

/// The hash spreads destinations evenly over the shards, whatever their ids have in common.
fn shard(id: DestinationId) -> i16 {
    Sha256::digest(id.uuid().as_bytes()).first().copied().map_or(0, i16::from)
}

fn seal_secrets(control: &Control, id: DestinationId, keys: &SigningSecrets) -> Result<String, Error> {
    secrets::seal_signing_secrets(&control.config.master_keys, id, keys).map_err(Error::Internal)
}

fn open_secrets(control: &Control, row: &DestinationRow) -> Result<SigningSecrets, Error> {
    secrets::open_signing_secrets(&control.config.master_keys, row.id, &row.signing_secrets_sealed)
        .map_err(|_| Error::Conflict(Conflict::SecretClosed))
}

/// The signing secrets with a new one in front. If no master key opens the old ones, they no longer sign.
fn with_replaced(
    control: &Control,
    row: &DestinationRow,
    new: SigningSecret,
    overlap_s: u32,
    now_ms: u64,
) -> SigningSecrets {
    let id = row.id;
    match secrets::open_signing_secrets(&control.config.master_keys, id, &row.signing_secrets_sealed) {
        Ok(keys) => keys.rotated(new, overlap_s, now_ms),
        Err(_) => SigningSecrets::new(new),
    }
}

fn open_headers(control: &Control, row: &DestinationRow) -> Result<BTreeMap<String, String>, String> {
    match &row.headers_sealed {
        Some(sealed) => secrets::open_headers(&control.config.master_keys, row.id, sealed),
        None => Ok(BTreeMap::new()),
    }
}

/// The names of the static headers; none if no master key opens them.
fn header_names(control: &Control, row: &DestinationRow) -> Vec<String> {
    let id = row.id;
    let headers = open_headers(control, row).unwrap_or_else(|error| {
        tracing::error!(
            destination = %id,
            error,
            "the static headers of a destination cannot be decrypted; append the key with which they were encrypted \
             to TIDEGATE_MASTER_KEY"
        );
        BTreeMap::new()
    });
    headers.into_keys().collect()
}

fn view(control: &Control, row: DestinationRow) -> Destination {
    let id = row.id;
    let header_names = header_names(control, &row);
    Destination {
        id,
        customer: None,
        name: row.name,
        url: row.url,
        state: row.state,
        state_reason: row.state_reason,
        state_changed_at: Timestamp(row.state_changed_at),
        unusable: control.configuration.current().unusable.get(&id).map(|unusable| unusable.reason.clone()),
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
