//! What an owner says of a source, checked.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::id::SourceId;
use shared::provider::{self, NewSource};
use shared::source::Secret;
use store::sources::{Content, SourceRow};
use utoipa::ToSchema;

use crate::control::fields::{Problems, read};
use crate::control::patch::{given, merge};
use crate::control::{Control, Error};
use crate::secrets::{self, SourceSecrets};

/// What a source consists of.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// 1 to 64 characters of a to z, 0 to 9, - and _. Needed by POST; PUT takes it from the path.
    #[schema(example = "stripe-live")]
    pub name: Option<String>,
    /// An id of `GET /v1/providers`.
    #[schema(example = "stripe")]
    pub provider: String,
    /// Every one of them is accepted. Where PUT changes a source and none are given, it keeps those it has.
    pub secrets: Option<Vec<String>>,
    /// The provider's settings, and the options that every source has, such as `"methods": ["GET"]` if the provider sends
    /// events by GET, and `"handshake": "cloudevents"` to answer the handshake of `CloudEvents`.
    #[schema(value_type = Option<Object>)]
    pub config: Option<Value>,
}

/// What changes of a source, as a JSON merge patch (RFC 7396): what is left out stays.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourcePatch {
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub provider: Option<Value>,
    /// Put in the place of those that are accepted, as by PUT; `POST …/secrets` adds one. Null is refused.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub secrets: Option<Value>,
    /// Merged with what is there, field by field: `{"max_body_bytes": 5000}` changes that one, a field that is null gets its
    /// default. Null: all of them do.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub config: Option<Value>,
}

impl SourcePatch {
    /// The patch, if nothing in it is refused whatever the source is.
    pub(super) fn into_json(self) -> Result<Value, Error> {
        let mut problems = Problems::default();
        if self.secrets == Some(Value::Null) {
            problems.add("secrets", "cannot be null; give a list, or leave it out to keep those that are there");
        }
        problems.finish()?;
        serde_json::to_value(self).map_err(|error| Error::Internal(error.to_string()))
    }
}

/// What a source consists of once a patch has changed it.
pub(super) fn patched(control: &Control, row: &SourceRow, patch: Value) -> Result<Content, Error> {
    let mut settings = settings_of(row);
    merge(&mut settings, patch);
    content(control, SourceId::from_uuid(row.id), &row.name, read(settings)?, Some(row), Problems::default())
}

/// What a source consists of by these settings. If secrets are left out it keeps those that it had before.
pub(super) fn content(
    control: &Control,
    id: SourceId,
    name: &str,
    settings: SourceSpec,
    before: Option<&SourceRow>,
    problems: Problems,
) -> Result<Content, Error> {
    let kept = before.map_or_else(|| Ok(SourceSecrets::default()), |row| open_secrets(control, row));
    let secrets = match settings.secrets {
        // This is also the way out if those that are stored cannot be opened any more.
        Some(given) => kept.unwrap_or_default().replaced_by(given.iter().map(|text| Secret::new(text)).collect()),
        None => kept?,
    };
    checked(control, id, name, settings.provider, settings.config.unwrap_or_else(empty), &secrets, problems)
}

/// Checks all of it as the edge will, and seals the secrets.
pub(super) fn checked(
    control: &Control,
    id: SourceId,
    name: &str,
    provider: String,
    config: Value,
    secrets: &SourceSecrets,
    mut problems: Problems,
) -> Result<Content, Error> {
    match provider::find(&provider) {
        Some(found) => {
            let max_body_bytes = control.config.max_body_bytes;
            let source = NewSource { id, name, revision: 1, secrets: &secrets.active, config: &config, max_body_bytes };
            for problem in found.resolve(source).err().unwrap_or_default() {
                let field = match problem.field.as_str() {
                    "secrets" | "provider" | "config" => problem.field,
                    setting => format!("config.{setting}"),
                };
                problems.add(field, problem.problem);
            }
        }
        None => {
            let known: Vec<&str> = provider::catalogue().iter().map(|provider| provider.id.as_str()).collect();
            problems.add("provider", format!("\"{provider}\" is not known; known are {}", known.join(", ")));
        }
    }
    problems.finish()?;
    let secrets = secrets::seal_source_secrets(&control.config.master_keys, id, secrets).map_err(Error::Internal)?;
    Ok(Content { provider, config, secrets })
}

/// The settings of a source, without its secrets.
pub(super) fn settings_of(row: &SourceRow) -> Value {
    json!({ "provider": row.provider, "config": row.config })
}

pub(super) fn defaults() -> Value {
    json!({ "config": empty() })
}

pub(super) fn open_secrets(control: &Control, row: &SourceRow) -> Result<SourceSecrets, Error> {
    secrets::open_source_secrets(&control.config.master_keys, row).map_err(Error::Internal)
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}
