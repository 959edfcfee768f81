//! The content of a destination's row, from settings or from a patch of the current settings.

use std::collections::BTreeMap;

use model::retry_policy::RetryPolicy;
use model::signing::{DEFAULT_OVERLAP_S, SigningSecrets};
use serde_json::{Map, Value, json};
use shared::id::DestinationId;
use shared::sign::SigningSecret;
use store::destinations::{Content, DestinationRow};
use url::Url;

use super::settings::{Checked, DEFAULT_CONCURRENCY, DEFAULT_TIMEOUT_MS, DestinationSpec, same_origin};
use super::{open_headers, open_secrets, seal_secrets, with_replaced};
use crate::control::fields::{FieldError, Problems, read};
use crate::control::patch::merge;
use crate::control::rate::{self, RateLimit};
use crate::control::{Control, Error};
use crate::{mint, secrets};

/// The content of a destination with these settings. Omitted signing secrets are kept, and so are omitted static
/// headers unless the URL has another origin.
pub(super) fn content(
    control: &Control,
    id: DestinationId,
    before: Option<&DestinationRow>,
    checked: Checked,
    now_ms: u64,
) -> Result<Content, Error> {
    let moves = before.is_some_and(|row| !is_origin(row, &checked.url));
    let headers_sealed = match (&checked.headers, before) {
        (Some(headers), _) => seal_headers(control, id, headers)?,
        (None, Some(row)) if !moves => row.headers_sealed.clone(),
        (None, Some(_) | None) => None,
    };
    let keys = match (checked.signing_secret, before) {
        (Some(key), Some(row)) => with_replaced(control, row, key, DEFAULT_OVERLAP_S, now_ms),
        (None, Some(row)) => open_secrets(control, row)?,
        (given, None) => SigningSecrets::new(given.unwrap_or_else(|| SigningSecret::generate_hmac(mint::random()))),
    };
    let (rate_limit, rate_per) = rate::columns(checked.rate);
    Ok(Content {
        url: checked.url.into(),
        signing_secrets_sealed: seal_secrets(control, id, &keys)?,
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

/// The content of a destination after a patch. The patch is merged with the current settings, which are then checked
/// like those of a PUT.
pub(super) fn patched(
    control: &Control,
    row: &DestinationRow,
    mut patch: Value,
    now_ms: u64,
) -> Result<Content, Error> {
    let headers = patch.as_object_mut().and_then(|patch| patch.remove("headers"));
    let mut settings = settings_of(row, []);
    if let Value::Object(settings) = &mut settings {
        settings.remove("headers");
    }
    merge(&mut settings, patch);
    if let Some(change) = headers {
        let stays =
            settings["url"].as_str().and_then(|url| Url::parse(url).ok()).is_some_and(|url| is_origin(row, &url));
        let mut headers =
            if stays && change.is_object() { to_json(&opened_headers(control, row)?)? } else { json!({}) };
        // Null removes all headers.
        if !change.is_null() {
            merge(&mut headers, change);
        }
        merge(&mut settings, json!({ "headers": headers }));
    }
    let settings: DestinationSpec = read(settings)?;
    let mut problems = Problems::default();
    let checked = settings.check(&control.egress, &mut problems);
    content(control, row.id, Some(row), problems.finish_with(checked)?, now_ms)
}

/// The settings of a destination as they are shown: of its headers, only the names.
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

/// The defaults of the settings of a destination.
pub(super) fn defaults() -> Result<Value, Error> {
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

fn opened_headers(control: &Control, row: &DestinationRow) -> Result<BTreeMap<String, String>, Error> {
    open_headers(control, row).map_err(|_| {
        let text = "no key in TIDEGATE_MASTER_KEY decrypts the stored headers; append the key with which they were \
                    encrypted, or replace the destination and set all of its headers";
        Error::Invalid(vec![FieldError::new("headers", text)])
    })
}

fn seal_headers(
    control: &Control,
    id: DestinationId,
    headers: &BTreeMap<String, String>,
) -> Result<Option<String>, Error> {
    if headers.is_empty() {
        return Ok(None);
    }
    secrets::seal_headers(&control.config.master_keys, id, headers).map(Some).map_err(Error::Internal)
}

fn to_json(value: &impl serde::Serialize) -> Result<Value, Error> {
    serde_json::to_value(value).map_err(|error| Error::Internal(error.to_string()))
}
