//! Sources: the URLs that providers post to.
//!
//! A source is active at the edge once the edge has confirmed it. Each change waits a few seconds for the confirmation.
//! If the edge does not respond or refuses the change, the source shows `"edge": "pending"`, and [`crate::sync`] keeps
//! writing it to the edge.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::id::SourceId;
use shared::provider;
use shared::source::Secret;
use store::Constraint;
use store::audit::NewEntry;
use store::configuration::Version;
use store::sources::{self, Changed, SourceRow};
use utoipa::ToSchema;

use self::recorded::record;
use self::settings::{checked, content, defaults, open_secrets, patched, settings_of};
use super::error::{Conflict, Noun, conflict_of};
use super::fields::Problems;
use super::owners::Owners;
use super::page::{Page, PageRequest};
use super::patch::dropped;
use super::record::Action;
use super::saved::{Activity, Configured, Outcome, Precondition, Saved};
use super::time::Timestamp;
use super::{Actor, Control, Error, Scope, name, schema};
use crate::edge::push;
use crate::edge::source::Deletion;
use crate::mint;
use crate::secrets::{self, SourceSecrets};

pub use check::{CheckOutcome, CheckStep, CheckStepKind, CheckStepState, SourceCheck, check};
pub use pasted::CheckRequest;
pub use sample::{SampleAnswer, Samples, samples, send_sample};
pub use settings::{SourcePatch, SourceSpec};

mod check;
mod pasted;
mod recorded;
mod sample;
mod settings;

/// The hint of a shorter secret shows none of its characters.
const LEAST_LENGTH_FOR_A_HINT: usize = 12;

/// The number of times that a deletion is tried. It is tried again if another call has changed the source, or if the
/// edge has a newer revision.
const DELETION_TRIES: usize = 20;

/// A secret to add to a source.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSecret {
    /// The secret, as the provider shows it.
    #[schema(min_length = 1)]
    pub secret: String,
}

/// A source.
#[derive(Debug, Serialize, ToSchema)]
pub struct Source {
    /// The id of the source.
    #[schema(value_type = schema::SourceId)]
    pub id: SourceId,
    /// The name of the customer that owns the source. Only present in a list of all customers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub customer: Option<String>,
    /// The name, unique among the sources of a customer.
    pub name: String,
    /// The id of the provider.
    pub provider: String,
    /// The URL to enter at the provider. The provider sends its webhooks to it.
    pub ingest_url: String,
    /// The settings.
    #[schema(value_type = schema::SourceConfig)]
    pub config: Value,
    /// Whether the latest change is active at the edge.
    pub edge: EdgeState,
    /// Why the edge has not confirmed the latest change; absent once it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub edge_error: Option<String>,
    /// Hints to the current secrets.
    pub secrets: Vec<SecretHint>,
    /// The limits and current usage of the quarantine. Only present in `GET /v1/sources/{id}`, if `on_failure` is
    /// `quarantine`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub quarantine: Option<Quarantine>,
    /// In responses to PUT and PATCH: the settings that the call reset to their defaults or removed, such as
    /// `["config.on_failure"]`. Absent if there are none. Never includes secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<String>,
    /// When the source was created.
    pub created_at: Timestamp,
    /// When the source was last changed.
    pub updated_at: Timestamp,
}

impl Configured for Source {
    fn changed_at(&self) -> Timestamp {
        self.updated_at
    }
}

/// The limits of a source's quarantine, as set by `quarantine` in its `config`, and its usage in the current hour
/// (UTC). Requests beyond the limits are not stored; they are counted as rejections with the cause `quarantine_full`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Quarantine {
    /// The maximum number of events per hour.
    pub events_per_hour: u64,
    /// The maximum total size of their bodies per hour, in bytes.
    pub bytes_per_hour: u64,
    /// The maximum body size in bytes. The edge rejects larger bodies.
    pub body_bytes: u64,
    /// The number of events quarantined in this hour.
    pub events: i64,
    /// The total size of their bodies, in bytes.
    pub bytes: i64,
    /// The number of requests beyond the limits in this hour.
    pub rejected: i64,
}

/// Whether the latest change to a source is active at the edge. `active`: the edge has confirmed it, and the last
/// comparison found no difference (the relay compares a few minutes after each change and once a day). `pending`: not
/// confirmed yet; the relay retries, and `edge_error` gives the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EdgeState {
    Active,
    Pending,
}

/// The last four characters of a secret, to tell secrets apart. Secrets shorter than 12 characters are shown as `…`.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SecretHint {
    /// `…` followed by the last four characters of the secret.
    #[schema(example = "…9f3a")]
    pub hint: String,
}

/// Creates a source and writes it to the edge.
///
/// # Errors
/// Returns every invalid field, a conflict if the name is taken, or an error if a query fails.
pub async fn create(control: &Control, actor: &Actor, spec: SourceSpec) -> Result<Saved<Source>, Error> {
    actor.require(Scope::Write)?;
    let mut problems = Problems::default();
    let name = name::required(spec.name.as_deref(), &mut problems);
    let id = SourceId::from_uuid(mint::uuid());
    let content = content(control, id, &name, spec, None, problems)?;
    let recorded = record(control, actor, Action::SourceUpdate);
    let inserted = sources::insert(&control.pool, actor.customer()?, id, &name, &content, |before, after| {
        answering(control, actor, before, after, recorded)
    })
    .await;
    let taken = conflict_of(&[(Constraint::SourceName, Conflict::NameTaken)]);
    activated(control, inserted.map_err(taken)?).await
}

/// A page of sources, newest first.
///
/// # Errors
/// Returns an error if the limit or the cursor is invalid, or if a query fails.
pub async fn list(control: &Control, actor: &Actor, page: &PageRequest) -> Result<Page<Source>, Error> {
    actor.require(Scope::Read)?;
    let window = page.window()?;
    let rows = sources::page(&control.pool, actor.listed(), window.cursor, window.fetch()).await?;
    let owners = Owners::named(control, actor, rows.iter().map(|row| (row.id, row.customer_id))).await?;
    let view = |row: SourceRow| Source { customer: owners.of(row.id), ..view(control, row) };
    Ok(window.page(rows, |row| row.id.uuid(), view))
}

/// The source with this id or name, as the API shows it.
///
/// # Errors
/// Returns an error if the source does not exist, or if a query fails.
pub async fn show(control: &Control, actor: &Actor, id: &str) -> Result<Source, Error> {
    actor.require(Scope::Read)?;
    let row = find(control, actor, id).await?;
    let quarantine =
        if row.config["on_failure"] == "quarantine" { Some(quarantine(control, &row).await?) } else { None };
    Ok(Source { quarantine, ..view(control, row) })
}

async fn quarantine(control: &Control, row: &SourceRow) -> Result<Quarantine, Error> {
    let limits = provider::quarantine_limits(&row.config);
    let usage = store::quarantine::usage(&control.pool, row.id).await?;
    Ok(Quarantine {
        events_per_hour: limits.events_per_hour,
        bytes_per_hour: limits.bytes_per_hour,
        body_bytes: limits.body_bytes,
        events: usage.map_or(0, |usage| usage.events),
        bytes: usage.map_or(0, |usage| usage.bytes),
        rejected: usage.map_or(0, |usage| usage.rejected),
    })
}

/// Creates the source with this name, or replaces its settings. Omitted secrets are kept, and all other omitted
/// settings get their defaults. If calls are concurrent, the last one replaces all settings.
///
/// # Errors
/// Returns every invalid field, [`Error::Changed`] if the precondition is not met, or an error if a query fails.
pub async fn put(
    control: &Control,
    actor: &Actor,
    name: &str,
    spec: SourceSpec,
    when: &Precondition,
) -> Result<Saved<Source>, Error> {
    actor.require(Scope::Write)?;
    let mut problems = Problems::default();
    name::check_path(name, spec.name.as_deref(), &mut problems);
    problems.finish()?;
    let new = SourceId::from_uuid(mint::uuid());
    let plan = |id, before: Option<&SourceRow>| {
        when.check(before.map(|row| row.updated_at))?;
        content(control, id, name, spec, before, Problems::default())
    };
    let put =
        sources::put(&control.pool, actor.customer()?, name, new, plan, record(control, actor, Action::SourceUpdate))
            .await?;
    activated(control, put).await
}

/// Changes some settings of a source and writes it to the edge. Concurrent changes to different fields are all kept.
///
/// # Errors
/// Returns every invalid field, [`Error::Changed`] if the precondition is not met, or an error if the source does not
/// exist or a query fails.
pub async fn change(
    control: &Control,
    actor: &Actor,
    id: &str,
    patch: SourcePatch,
    when: &Precondition,
) -> Result<Saved<Source>, Error> {
    actor.require(Scope::Write)?;
    let patch = patch.into_json()?;
    let (id, name) = name::id_or_name(id);
    let changed = sources::change(
        &control.pool,
        actor.customer()?,
        id,
        name,
        |row| {
            when.check(Some(row.updated_at))?;
            patched(control, row, patch)
        },
        record(control, actor, Action::SourceUpdate),
    )
    .await?;
    activated(control, changed.ok_or(Error::NotFound(Noun::Source))?).await
}

/// Deletes a source and its routes. It is deleted at the edge first, so that the edge accepts no event for a source
/// that no longer exists. Its events are kept, and their pending deliveries are still sent.
///
/// # Errors
/// Returns an error if the source does not exist, [`Error::Changed`] if the precondition is not met, an error if the
/// edge does not confirm the deletion (then nothing is deleted), or if a query fails.
pub async fn delete(control: &Control, actor: &Actor, id: &str, when: &Precondition) -> Result<Activity, Error> {
    actor.require(Scope::Write)?;
    let row = find(control, actor, id).await?;
    when.check(Some(row.updated_at))?;
    let version = delete_everywhere(control, actor, &row, when).await?;
    Ok(control.active(version).await)
}

/// Deletes a source at the edge and then its row. Returns the new version of the configuration.
///
/// The revision of the source is raised first, so that a write to the edge that is still in flight is older than the
/// deletion. If the row is not deleted in the end, the edge has not confirmed its newest revision, and [`crate::sync`]
/// writes the source again. Concurrent deletions of the same source share a revision, so that none of them keeps the
/// others from deleting the row.
async fn delete_everywhere(
    control: &Control,
    actor: &Actor,
    row: &SourceRow,
    when: &Precondition,
) -> Result<Version, Error> {
    let (id, customer) = (row.id, row.customer_id);
    let mut least = row.revision.saturating_add(1);
    for _ in 0..DELETION_TRIES {
        let row = sources::raise_to(&control.pool, id, least).await?.ok_or(Error::NotFound(Noun::Source))?;
        // The row is deleted at this revision only, so the check holds for what is deleted.
        when.check(Some(row.updated_at))?;
        if row.edge_revision == row.revision {
            // Another call has changed the source, and the edge has confirmed that change.
            least = row.revision.saturating_add(1);
            continue;
        }
        let deletion = {
            let _turn = control.pusher.edge.turn(id).await;
            control.pusher.edge.delete_source(id, u64::try_from(row.revision).unwrap_or(0)).await
        };
        match deletion {
            Ok(Deletion::Done) => {}
            Ok(Deletion::OlderRevision { held }) => {
                least = push::after(held);
                continue;
            }
            Err(problem) => {
                control.pusher.pending.notify_one();
                return Err(Error::Edge(format!(
                    "the edge did not confirm the deletion ({problem}), so the source was not deleted; try again"
                )));
            }
        }
        match sources::delete(
            &control.pool,
            customer,
            id,
            row.revision,
            &record(control, actor, Action::SourceUpdate)(Some(&row), None),
        )
        .await
        {
            Ok(Some(version)) => return Ok(version),
            // Another call has changed the source since, and it may be at the edge again.
            Ok(None) => {}
            Err(error) => {
                control.pusher.pending.notify_one();
                return Err(error.into());
            }
        }
    }
    control.pusher.pending.notify_one();
    Err(Error::Conflict(Conflict::ChangedMeanwhile))
}

/// Adds a secret to those that a source has. The source accepts all of them, so that a provider's secret can be rotated
/// without refusing a request. [`put`] with only the new one ends the rotation.
///
/// # Errors
/// Returns every invalid field, or an error if the source does not exist or a query fails.
pub async fn add_secret(control: &Control, actor: &Actor, id: &str, new: NewSecret) -> Result<Saved<Source>, Error> {
    actor.require(Scope::Write)?;
    let NewSecret { secret } = new;
    let plan = |row: &SourceRow| {
        let before = open_secrets(control, row)?;
        let mut active = vec![Secret::new(&secret)];
        active.extend(before.active.iter().filter(|old| **old != Secret::new(&secret)).cloned());
        let secrets = before.replaced_by(active);
        let (provider, config) = (row.provider.clone(), row.config.clone());
        checked(control, row.id, &row.name, provider, config, &secrets, Problems::default())
    };
    let (id, name) = name::id_or_name(id);
    let changed = sources::change(&control.pool, actor.customer()?, id, name, plan, |before, after| {
        answering(control, actor, before, after, record(control, actor, Action::SourceAddSecret))
    })
    .await?;
    activated(control, changed.ok_or(Error::NotFound(Noun::Source))?).await
}

/// The source with this id or name.
pub(super) async fn find(control: &Control, actor: &Actor, text: &str) -> Result<SourceRow, Error> {
    let (id, name) = name::id_or_name(text);
    sources::find(&control.pool, actor.customer()?, id, name).await?.ok_or(Error::NotFound(Noun::Source))
}

/// The id of a source that a filter names. An id is not looked up, because events outlive their source.
pub(super) async fn id_of(
    control: &Control,
    actor: &Actor,
    field: &str,
    text: Option<&str>,
    problems: &mut Problems,
) -> Result<Option<SourceId>, Error> {
    let found = async |text: &str| Ok(find(control, actor, text).await?.id);
    name::id_in_filter(actor, field, text, problems, found).await
}

/// Waits until the change is active on this replica, writes the source to the edge, and returns it as this change left
/// it.
async fn activated(control: &Control, changed: Changed) -> Result<Saved<Source>, Error> {
    let Changed { before, row, version } = changed;
    // The source is written even if the change is not active here yet: the transaction that stores events checks the
    // version of the configuration.
    let active = control.active(version).await;
    push::push_or_retry(&control.pusher, &row).await;
    let dropped = before.as_ref().map(|before| dropped(&settings_of(before), &settings_of(&row), &defaults()));
    let (id, customer) = (row.id, row.customer_id);
    let row = match sources::find(&control.pool, customer, Some(id), None).await? {
        // The edge may have a later change already, which contains this one.
        Some(now) => {
            SourceRow { edge_revision: now.edge_revision.min(row.revision), edge_error: now.edge_error, ..row }
        }
        // The source has been deleted in the meantime.
        None => row,
    };
    let source = Source { dropped: dropped.unwrap_or_default(), ..view(control, row) };
    let at_edge = if source.edge == EdgeState::Active { Activity::Active } else { Activity::Later };
    Ok(Saved::new(source, before.is_none(), active.and(at_edge)))
}

/// Sets the answer that a call has if the relay ends after the change, and makes the entry of the change.
fn answering(
    control: &Control,
    actor: &Actor,
    before: Option<&SourceRow>,
    after: Option<&SourceRow>,
    record: impl FnOnce(Option<&SourceRow>, Option<&SourceRow>) -> NewEntry,
) -> NewEntry {
    if let Some(row) = after {
        actor.answers_with(control, Outcome::Later, &view(control, row.clone()));
    }
    record(before, after)
}

fn view(control: &Control, row: SourceRow) -> Source {
    let id = row.id;
    let secrets = secrets::open_source_secrets(&control.config.master_keys, &row).unwrap_or_else(|error| {
        tracing::error!(
            source = %id,
            error,
            "the secrets of a source cannot be decrypted; append the key with which they were encrypted to \
             TIDEGATE_MASTER_KEY"
        );
        SourceSecrets::default()
    });
    let edge = if row.edge_revision == row.revision { EdgeState::Active } else { EdgeState::Pending };
    Source {
        id,
        customer: None,
        name: row.name,
        provider: row.provider,
        ingest_url: control.pusher.edge.ingest_url(id),
        config: row.config,
        edge,
        edge_error: row.edge_error.filter(|_| edge == EdgeState::Pending),
        secrets: secrets.active.iter().map(|secret| hint(secret.reveal())).collect(),
        quarantine: None,
        dropped: Vec::new(),
        created_at: Timestamp(row.created_at),
        updated_at: Timestamp(row.updated_at),
    }
}

fn hint(secret: &str) -> SecretHint {
    let length = secret.chars().count();
    let shown = if length < LEAST_LENGTH_FOR_A_HINT { 0 } else { 4 };
    SecretHint { hint: std::iter::once('…').chain(secret.chars().skip(length - shown)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_shows_the_end_of_a_long_secret_and_nothing_of_a_short_one() {
        assert_eq!(hint("whsec_MfKQ9r8GKYqrTw9f3a").hint, "…9f3a");
        assert_eq!(hint("elevenchars").hint, "…");
        assert_eq!(hint("").hint, "…");
        assert_eq!(hint("geheimnisäöüß").hint, "…äöüß");
    }
}
