//! The signing secrets of a destination, and their rotation.

use model::signing::{DEFAULT_OVERLAP_S, SigningSecrets};
use model::unix_time;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::sign;
use store::audit::{self, Selection};
use store::destinations::{self, DestinationRow};
use utoipa::ToSchema;

use super::recorded::object;
use super::{find, open_secrets, seal_secrets, with_replaced};
use crate::control::error::Noun;
use crate::control::fields::{Problems, optional_whole};
use crate::control::page::{PageRequest, Window, id_range};
use crate::control::record::{self, Action};
use crate::control::time::Timestamp;
use crate::control::{Actor, Control, Error, Outcome, Saved, Scope, name, schema};
use crate::mint;

/// The maximum overlap: 30 days, in seconds.
pub(crate) const MAX_OVERLAP_S: i32 = 30 * 86_400;

/// The signing secrets of a destination.
#[derive(Debug, Serialize, ToSchema)]
pub struct SigningSecret {
    /// `whsec_…`, or `whsk_…` if the destination has an Ed25519 key.
    #[schema(value_type = schema::SigningSecretText)]
    pub signing_secret: String,
    /// The public key (`whpk_…`) with which receivers verify. Only present for an Ed25519 key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub public_key: Option<String>,
    /// Previous signing secrets with which deliveries are still signed too, newest first.
    pub also_signing: Vec<ReplacedSecret>,
}

/// A previous signing secret that is still used.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplacedSecret {
    /// The previous signing secret.
    pub signing_secret: String,
    /// The public key (`whpk_…`) of the secret. Only present for an Ed25519 key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub public_key: Option<String>,
    /// When this secret is no longer used.
    pub until: Timestamp,
}

/// A rotation of the signing secret.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// A signing secret of your choice. If omitted, one is generated.
    #[schema(value_type = Option<schema::SigningSecretText>)]
    pub signing_secret: Option<String>,
    /// How long deliveries are also signed with the previous secrets, in seconds. At most two previous secrets are
    /// used: a third one stops signing at once. Set it to 0 if a secret has leaked. Default: 86,400 (one day).
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0, maximum = 2_592_000)]
    pub overlap_s: Option<i64>,
}

/// The secret with which a destination verifies deliveries.
///
/// # Errors
/// Returns an error if the destination does not exist, if no master key opens its signing secrets, or if a query fails.
pub async fn show(control: &Control, actor: &Actor, id: &str) -> Result<SigningSecret, Error> {
    actor.require(Scope::Secrets)?;
    let row = find(control, actor, id).await?;
    let secret = view(&open_secrets(control, &row)?, mint::now_ms())?;
    record::revealed(control, actor, Action::DestinationRevealSecret, object(&row)).await?;
    Ok(secret)
}

/// What is known of the signing secrets of a destination without showing them.
#[derive(Debug)]
pub struct SigningKeys {
    /// The secrets that sign, newest first.
    pub keys: Vec<SigningKey>,
    /// When the newest one was set; `None` if that is longer ago than the audit log keeps.
    pub since: Option<Timestamp>,
}

/// What is known of a signing secret without showing it.
#[derive(Debug)]
pub struct SigningKey {
    /// The public key (`whpk_…`). Only an Ed25519 key has one.
    pub public_key: Option<String>,
    /// When it stops signing; `None` for the newest one.
    pub until: Option<Timestamp>,
}

/// How many of the newest audit entries of a destination are searched for the last change of its signing secret.
pub(crate) const ENTRIES_SEARCHED: u32 = 100;

/// The signing secrets of a destination without their values, and when the newest one was set.
///
/// # Errors
/// Returns an error if the destination does not exist, if no master key opens its signing secrets, or if a query fails.
pub async fn keys(control: &Control, actor: &Actor, id: &str) -> Result<SigningKeys, Error> {
    actor.require(Scope::Read)?;
    let row = find(control, actor, id).await?;
    let opened = open_secrets(control, &row)?;
    let now_ms = mint::now_ms();
    let newest = opened.signing(now_ms).first().map(|key| SigningKey { public_key: key.public_text(), until: None });
    let replaced = |(key, until_ms): (&sign::SigningSecret, u64)| SigningKey {
        public_key: key.public_text(),
        until: Some(Timestamp(unix_time::timestamp(until_ms))),
    };
    let keys = newest.into_iter().chain(opened.ending(now_ms).map(replaced)).collect();
    let mut problems = Problems::default();
    let page = PageRequest { limit: Some(ENTRIES_SEARCHED), cursor: None };
    let window = Window::read(&page, &mut problems);
    let range = id_range(None, None, window, &mut problems);
    let selection = Selection { object_id: Some(row.id.to_string()), ..Selection::default() };
    let mut search = audit::Page { selection, limit: i64::from(ENTRIES_SEARCHED), found: Vec::new() };
    window.search(&control.pool, &mut search, range).await?;
    let since = search.found.iter().find(|entry| sets_secret(&entry.action, entry.after.as_ref()));
    Ok(SigningKeys { keys, since: since.map(|entry| Timestamp(entry.at)) })
}

/// Whether an entry records that the destination got a signing secret.
fn sets_secret(action: &str, after: Option<&Value>) -> bool {
    let changed = after.and_then(|after| after["secrets_changed"].as_array());
    action == Action::DestinationCreate.name()
        || changed.is_some_and(|names| names.iter().any(|name| name == "signing_secret"))
}

/// Puts a new signing secret in front. Until the overlap ends, deliveries are also signed with the old ones.
///
/// # Errors
/// Returns every invalid field, or an error if the destination does not exist or a query fails.
pub async fn rotate(
    control: &Control,
    actor: &Actor,
    id: &str,
    rotation: Rotation,
) -> Result<Saved<SigningSecret>, Error> {
    actor.require(Scope::Secrets)?;
    let mut problems = Problems::default();
    let overlap_s = rotation.overlap_s.unwrap_or_else(|| i64::from(DEFAULT_OVERLAP_S));
    let overlap_s =
        problems.range("overlap_s", overlap_s, 0, MAX_OVERLAP_S).and_then(|seconds| seconds.try_into().ok());
    let new = match rotation.signing_secret {
        None => Some(sign::SigningSecret::generate_hmac(mint::random())),
        Some(text) => {
            sign::SigningSecret::parse(&text).map_err(|error| problems.add("signing_secret", error.to_string())).ok()
        }
    };
    let (new, overlap_s) = problems.finish_with(new.zip(overlap_s))?;
    let now_ms = mint::now_ms();
    let plan = |row: &DestinationRow| {
        let keys = with_replaced(control, row, new, overlap_s, now_ms);
        let sealed = seal_secrets(control, row.id, &keys)?;
        actor.answers(control, Outcome::Updated, &view(&keys, now_ms)?);
        Ok::<_, Error>((keys, sealed))
    };
    let (id, name) = name::id_or_name(id);
    let record = |row: &DestinationRow| {
        let entry = record::entry(actor, Action::DestinationRotateSecret, object(row));
        entry.with(None, Some(json!({ "overlap_s": overlap_s })), ["signing_secret".to_owned()])
    };
    let rotated =
        destinations::change_signing_secrets(&control.pool, actor.customer()?, id, name, plan, record).await?;
    let (keys, version) = rotated.ok_or(Error::NotFound(Noun::Destination))?;
    let activity = control.active(version).await;
    Ok(Saved::new(view(&keys, now_ms)?, false, activity))
}

fn view(keys: &SigningSecrets, now_ms: u64) -> Result<SigningSecret, Error> {
    let newest = keys.signing(now_ms).first();
    let newest = newest.ok_or_else(|| Error::Internal("a destination has no signing secret".to_owned()))?;
    let replaced = |(key, until_ms): (&sign::SigningSecret, u64)| ReplacedSecret {
        signing_secret: key.to_text(),
        public_key: key.public_text(),
        until: Timestamp(unix_time::timestamp(until_ms)),
    };
    Ok(SigningSecret {
        signing_secret: newest.to_text(),
        public_key: newest.public_text(),
        also_signing: keys.ending(now_ms).map(replaced).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_creation_and_a_changed_secret_set_the_signing_secret() {
        let changed = json!({ "secrets_changed": ["headers.x", "signing_secret"] });
        assert!(sets_secret("destination.create", None) && sets_secret("destination.rotate_secret", Some(&changed)));
        assert!(sets_secret("destination.update", Some(&changed)));
        assert!(!sets_secret("destination.update", Some(&json!({ "secrets_changed": ["headers.x"] }))));
        assert!(!sets_secret("destination.pause", Some(&json!({}))) && !sets_secret("destination.pause", None));
    }
}
