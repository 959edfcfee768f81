//! The settings of a source, and their checks.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::id::SourceId;
use shared::provider::{self, NewSource};
use shared::source::Secret;
use store::sources::{Content, SourceRow};
use utoipa::ToSchema;

use crate::control::fields::{Problems, read};
use crate::control::patch::{given, merge};
use crate::control::{Control, Error, schema};
use crate::secrets::{self, SourceSecrets};

/// The settings of a source.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// 1 to 64 characters: a–z, 0–9, `-` and `_`. Required when creating with POST; PUT takes the name from the path.
    #[schema(value_type = Option<schema::SourceName>)]
    pub name: Option<String>,
    /// The id of a provider, as listed by `GET /v1/providers`.
    #[schema(value_type = schema::ProviderId)]
    pub provider: String,
    /// The secrets of the source. A request is accepted if it verifies with any of them. If PUT omits `secrets`, the
    /// current ones are kept.
    pub secrets: Option<Vec<String>>,
    /// The settings of the provider and the options that every source has. If omitted, all have their defaults.
    #[schema(value_type = Option<schema::SourceConfig>)]
    pub config: Option<Value>,
}

/// Changes to a source, as a JSON merge patch (RFC 7396). Omitted fields are unchanged.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourcePatch {
    /// The new provider. The `config` and the secrets of the source are checked against it: set those fields of
    /// `config` to null that the new provider does not have, and replace secrets that it cannot use.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::ProviderId, required = false)]
    pub provider: Option<Value>,
    /// Replaces all current secrets. To add one, use `POST /v1/sources/{id}/secrets`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<String>, required = false)]
    pub secrets: Option<Value>,
    /// Merged with the current config, field by field: `{"max_body_bytes": 5000}` changes only that field. Setting a
    /// field to null resets it to its default; setting `config` to null resets all fields.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::SourceConfig>)]
    pub config: Option<Value>,
}

impl SourcePatch {
    /// The patch as JSON. Values that no source accepts are refused here.
    pub(super) fn into_json(self) -> Result<Value, Error> {
        let mut problems = Problems::default();
        if self.secrets == Some(Value::Null) {
            problems
                .add("secrets", "cannot be null; set a list of secrets, or omit the field to keep the current ones");
        }
        problems.finish()?;
        serde_json::to_value(self).map_err(|error| Error::Internal(error.to_string()))
    }
}

/// The content of a source after a patch.
pub(super) fn patched(control: &Control, row: &SourceRow, patch: Value) -> Result<Content, Error> {
    let mut settings = settings_of(row);
    merge(&mut settings, patch);
    content(control, row.id, &row.name, read(settings)?, Some(row), Problems::default())
}

/// The content of a source with these settings. Omitted secrets are kept.
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
        // New secrets also repair a source whose stored secrets no master key opens.
        Some(given) => kept.unwrap_or_default().replaced_by(given.iter().map(|text| Secret::new(text)).collect()),
        None => kept?,
    };
    checked(control, id, name, settings.provider, settings.config.unwrap_or_else(empty), &secrets, problems)
}

/// Checks all settings as the edge will, and seals the secrets.
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
            problems.add(
                "provider",
                format!(
                    "\"{provider}\" is not a known provider; use an id from the list of providers or, if yours is \
                     not listed, custom, standard-webhooks, token or basic"
                ),
            );
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
