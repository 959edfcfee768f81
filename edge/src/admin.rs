//! The admin API, for the relay alone: it writes and deletes source configurations, fetches and deletes stored bodies,
//! and opens the secrets that providers hand over.

mod source;

use serde_json::json;
use shared::id::{EventId, SourceId};
use shared::{seal, secret};
use worker::web_sys;

use crate::bindings::{Bindings, Missing};
use crate::body::read_body;
use crate::respond::Answer;
use crate::route::AdminRoute;
use crate::{log, sources};
use shared::decision::Head;

/// The largest secret as it is sealed, in bytes.
const MAX_SEALED_SECRET_BYTES: u64 = 4_096;

/// Answers a request below `/admin`.
pub(crate) async fn admin(
    route: AdminRoute<'_>,
    request: &web_sys::Request,
    head: &Head,
    bindings: &Bindings,
) -> Answer {
    match try_admin(route, request, head, bindings).await {
        Ok(answer) | Err(answer) => answer,
    }
}

async fn try_admin(
    route: AdminRoute<'_>,
    request: &web_sys::Request,
    head: &Head,
    bindings: &Bindings,
) -> Result<Answer, Answer> {
    authorize(head, &bindings.admin_token().map_err(Answer::NotConfigured)?)?;
    match (route, head.method.as_str()) {
        (AdminRoute::Status, "GET") => Ok(status(bindings)),
        (AdminRoute::Status, _) => Err(Answer::MethodNotAllowed { allow: "GET" }),
        (AdminRoute::Source(id), method) => {
            let id: SourceId = id.parse().map_err(|_| Answer::UnknownSource)?;
            match method {
                "PUT" => source::put(id, request, head, bindings).await,
                "GET" => source::get(id, bindings).await,
                "DELETE" => source::delete(id, head, bindings).await,
                _ => Err(Answer::MethodNotAllowed { allow: "GET, PUT, DELETE" }),
            }
        }
        (AdminRoute::Body(key), method) => {
            let key: EventId = key.parse().map_err(|_| Answer::UnknownBody)?;
            match method {
                "GET" => get_body(key, bindings).await,
                "DELETE" => delete_body(key, bindings).await,
                _ => Err(Answer::MethodNotAllowed { allow: "GET, DELETE" }),
            }
        }
        (AdminRoute::HandedOver(id), "POST") => {
            let id: SourceId = id.parse().map_err(|_| Answer::UnknownSource)?;
            open_secret(id, request, head, bindings).await
        }
        (AdminRoute::HandedOver(_), _) => Err(Answer::MethodNotAllowed { allow: "POST" }),
        (AdminRoute::Nothing, _) => Err(Answer::NotFound),
    }
}

/// Requires the admin token.
fn authorize(head: &Head, token: &str) -> Result<(), Answer> {
    let given = head.headers.get("authorization").and_then(|value| value.split_once(' '));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map_or("", |(_, token)| token.trim());
    if secret::are_same(given, token) { Ok(()) } else { Err(Answer::Unauthorized) }
}

fn status(bindings: &Bindings) -> Answer {
    let missing: Vec<String> = bindings.missing().iter().map(Missing::to_string).collect();
    Answer::Status(json!({
        "ready": missing.is_empty(),
        "missing": missing,
        "wanted": {
            "bindings": ["QUEUE", "SOURCES", "BODIES"],
            "secrets": ["ADMIN_TOKEN", "SEAL_KEY"],
            "variables": ["MAX_BODY_BYTES"],
        },
        "max_body_bytes": bindings.max_body_bytes(),
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

async fn get_body(key: EventId, bindings: &Bindings) -> Result<Answer, Answer> {
    let bucket = bindings.bodies().map_err(Answer::NotConfigured)?;
    let object = bucket.get(key.to_string()).execute().await.map_err(unavailable)?.ok_or(Answer::UnknownBody)?;
    let body = object.body().ok_or(Answer::UnknownBody)?;
    Ok(Answer::StoredBody(body.response_body().map_err(unavailable)?))
}

async fn delete_body(key: EventId, bindings: &Bindings) -> Result<Answer, Answer> {
    let bucket = bindings.bodies().map_err(Answer::NotConfigured)?;
    bucket.delete(key.to_string()).await.map_err(unavailable)?;
    Ok(Answer::Done)
}

/// Opens a secret that [`crate::ingest`] has sealed for this source, and nothing else.
async fn open_secret(
    id: SourceId,
    request: &web_sys::Request,
    head: &Head,
    bindings: &Bindings,
) -> Result<Answer, Answer> {
    let keys = bindings.seal_keys().map_err(Answer::NotConfigured)?;
    let body = read_body(request, head, MAX_SEALED_SECRET_BYTES).await;
    let body = body.map_err(|error| Answer::of_body(error, MAX_SEALED_SECRET_BYTES))?;
    let sealed = body.with(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    match seal::open(&keys, &sources::handed_over_key(id), sealed.trim()) {
        Ok(secret) => Ok(Answer::Secret(secret)),
        Err(error) => Err(Answer::CannotOpen(error.to_string())),
    }
}

fn unavailable(error: impl std::fmt::Display) -> Answer {
    log::error("a request of the relay to the admin API failed", &[("error", &error)]);
    Answer::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::header::HeaderList;

    fn with_authorization(value: &str) -> Head {
        Head { method: "GET".to_owned(), url: String::new(), headers: HeaderList::new([("authorization", value)]) }
    }

    #[test]
    fn only_the_exact_token_is_let_in() {
        for value in ["Bearer s3cret", "bearer s3cret", "Bearer  s3cret "] {
            assert!(authorize(&with_authorization(value), "s3cret").is_ok(), "{value}");
        }
        for value in ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret2", "Basic s3cret", "s3cret"] {
            assert!(authorize(&with_authorization(value), "s3cret").is_err(), "{value}");
        }
    }
}
