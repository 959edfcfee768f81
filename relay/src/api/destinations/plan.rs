//! What a call makes of a destination: its columns, from settings or from a patch of those that it has.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use shared::id::DestinationId;
use shared::sign::SigningKey;
use url::Url;

use super::settings::{Checked, DEFAULT_CONCURRENCY, DEFAULT_TIMEOUT_MS, DestinationSettings, same_origin};
use super::{open_headers, open_keys, replaced_keys, seal_keys};
use crate::api::input;
use crate::api::patch::merge;
use crate::api::problem::{ApiError, FieldError, Problems};
use crate::api::rate::{self, RateLimit};
use crate::retry::RetryPolicy;
use crate::signing::{DEFAULT_OVERLAP_S, SigningKeys};
use crate::store::destinations::{Content, DestinationRow};
use crate::{App, mint, secrets};

/// What a destination consists of by these settings. If they are left out it keeps the signing keys that it had before, and
/// the static headers unless the URL leads to another origin.
pub(super) fn content(
    app: &App,
    id: DestinationId,
    before: Option<&DestinationRow>,
    checked: Checked,
    now_ms: u64,
) -> Result<Content, ApiError> {
    let moves = before.is_some_and(|row| !is_origin(row, &checked.url));
    let headers_sealed = match (&checked.headers, before) {
        (Some(headers), _) => seal_headers(app, id, headers)?,
        (None, Some(row)) if !moves => row.headers_sealed.clone(),
        (None, Some(_) | None) => None,
    };
    let keys = match (checked.signing_key, before) {
        (Some(key), Some(row)) => replaced_keys(app, row, key, DEFAULT_OVERLAP_S, now_ms),
        (None, Some(row)) => open_keys(app, row)?,
        (given, None) => SigningKeys::new(given.unwrap_or_else(|| SigningKey::generate_hmac(mint::random()))),
    };
    let (rate_limit, rate_per) = rate::columns(checked.rate);
    Ok(Content {
        url: checked.url.into(),
        signing_keys_sealed: seal_keys(app, id, &keys)?,
        headers_sealed,
        rate_limit,
        rate_per,
        max_concurrency: checked.max_concurrency,
        timeout_ms: checked.timeout_ms,
        retry: to_json(&checked.retry)?,
        append_query: checked.append_query,
        moves,
    })
}

/// What a destination consists of once a patch has changed it: the patch is laid over its settings, which are then checked
/// like those of a PUT.
pub(super) fn patched(app: &App, row: &DestinationRow, mut patch: Value, now_ms: u64) -> Result<Content, ApiError> {
    let headers = patch.as_object_mut().and_then(|patch| patch.remove("headers"));
    let mut settings = settings_of(row, []);
    if let Value::Object(settings) = &mut settings {
        settings.remove("headers");
    }
    merge(&mut settings, patch);
    if let Some(change) = headers {
        let stays =
            settings["url"].as_str().and_then(|url| Url::parse(url).ok()).is_some_and(|url| is_origin(row, &url));
        let mut headers = if stays && change.is_object() { to_json(&opened_headers(app, row)?)? } else { json!({}) };
        // Null takes all of them away.
        if !change.is_null() {
            merge(&mut headers, change);
        }
        merge(&mut settings, json!({ "headers": headers }));
    }
    let settings: DestinationSettings = input::read(settings)?;
    let mut problems = Problems::default();
    let checked = settings.check(&app.egress, &mut problems);
    content(app, DestinationId::from_uuid(row.id), Some(row), problems.finish_with(checked)?, now_ms)
}

/// The settings of a destination that are shown; of its headers the names.
pub(super) fn settings_of(row: &DestinationRow, header_names: impl IntoIterator<Item = String>) -> Value {
    let headers: Map<String, Value> = header_names.into_iter().map(|name| (name, Value::Bool(true))).collect();
    json!({
        "url": row.url,
        "rate_limit": RateLimit::of_columns(row.rate_limit, row.rate_per.as_deref()),
        "max_concurrency": row.max_concurrency,
        "timeout_ms": row.timeout_ms,
        "retry": row.retry,
        "append_query": row.append_query,
        "headers": headers,
    })
}

/// What a destination has that is told nothing else.
pub(super) fn defaults() -> Result<Value, ApiError> {
    Ok(json!({
        "rate_limit": null,
        "max_concurrency": DEFAULT_CONCURRENCY,
        "timeout_ms": DEFAULT_TIMEOUT_MS,
        "retry": to_json(&RetryPolicy::default())?,
        "append_query": false,
        "headers": {},
    }))
}

fn is_origin(row: &DestinationRow, url: &Url) -> bool {
    Url::parse(&row.url).is_ok_and(|old| same_origin(&old, url))
}

fn opened_headers(app: &App, row: &DestinationRow) -> Result<BTreeMap<String, String>, ApiError> {
    open_headers(app, row).map_err(|_| {
        let text = "those that are stored cannot be opened by any key of TIDEGATE_MASTER_KEY; append the key that they were \
                    sealed with, or give all of them with PUT";
        ApiError::Invalid(vec![FieldError::new("headers", text)])
    })
}

fn seal_headers(app: &App, id: DestinationId, headers: &BTreeMap<String, String>) -> Result<Option<String>, ApiError> {
    if headers.is_empty() {
        return Ok(None);
    }
    secrets::seal_headers(&app.config.master_keys, id, headers).map(Some).map_err(ApiError::Internal)
}

fn to_json(value: &impl serde::Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(value).map_err(|error| ApiError::Internal(error.to_string()))
}
