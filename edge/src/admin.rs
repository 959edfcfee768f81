//! What only the relay may do: write and delete source configurations, fetch and delete stored bodies, and open the secrets
//! that providers hand over.

use serde_json::json;
use sha2::{Digest, Sha256};
use shared::id::{EventId, SourceId};
use shared::seal;
use shared::source::SourceConfig;
use shared::verify::Verifier;
use subtle::ConstantTimeEq;
use worker::web_sys;

use crate::bindings::{Bindings, Missing};
use crate::host;
use crate::request::{Head, read_body};
use crate::respond::Answer;
use crate::route::AdminRoute;
use crate::sources::{self, SourceError};

/// The largest source configuration, in bytes.
const MAX_CONFIGURATION_BYTES: u64 = 262_144;

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
                "PUT" => put_source(id, request, head, bindings).await,
                "GET" => get_source(id, bindings).await,
                "DELETE" => delete_source(id, bindings).await,
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

/// Compares hashes, so that neither the content nor the length of the token shows in the time it takes.
fn authorize(head: &Head, token: &str) -> Result<(), Answer> {
    let given = head.headers.get("authorization").and_then(|value| value.split_once(' '));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map_or("", |(_, token)| token.trim());
    let same = Sha256::digest(given).ct_eq(&Sha256::digest(token));
    if bool::from(same) { Ok(()) } else { Err(Answer::Unauthorized) }
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

async fn put_source(
    id: SourceId,
    request: &web_sys::Request,
    head: &Head,
    bindings: &Bindings,
) -> Result<Answer, Answer> {
    let body = read_body(request, head, MAX_CONFIGURATION_BYTES)
        .await
        .map_err(|_| Answer::BodyTooLarge { max_bytes: MAX_CONFIGURATION_BYTES })?;
    let config = read_configuration(id, &body.bytes)?;
    let stored = match sources::read(id, bindings).await {
        // What cannot be opened any more is written anew: that is the way out after SEAL_KEY was changed.
        Err(SourceError::Damaged(_)) => None,
        outcome => outcome.map_err(unavailable)?,
    };
    refuse_older(&config, stored.as_ref())?;
    if is_taken(&config.name, id, bindings).await? {
        return Err(Answer::NameTaken);
    }

    let store = bindings.sources().map_err(Answer::NotConfigured)?;
    let keys = bindings.seal_keys().map_err(Answer::NotConfigured)?;
    let key = keys.first().ok_or(Answer::NotConfigured(Missing::SealKey))?;
    let name = sources::source_key(id);
    let plain = serde_json::to_vec(&config).map_err(|error| Answer::BadConfiguration(error.to_string()))?;
    write(&store, &name, &seal::seal(key, &name, host::random(), &plain)).await?;
    write(&store, &sources::name_key(&config.name), &id.to_string()).await?;
    if let Some(old) = stored.filter(|stored| stored.name != config.name) {
        release_name(&store, &old.name, id, bindings).await?;
        sources::forget(&[&old.name]);
    }
    sources::forget(&[&id.to_string(), &config.name]);
    Ok(Answer::Revision { revision: config.revision })
}

async fn get_source(id: SourceId, bindings: &Bindings) -> Result<Answer, Answer> {
    let config = sources::read(id, bindings).await.map_err(unavailable)?.ok_or(Answer::UnknownSource)?;
    Ok(Answer::SourceFacts { revision: config.revision, name: config.name })
}

async fn delete_source(id: SourceId, bindings: &Bindings) -> Result<Answer, Answer> {
    let store = bindings.sources().map_err(Answer::NotConfigured)?;
    let stored = match sources::read(id, bindings).await {
        Err(SourceError::Damaged(_)) => None,
        outcome => outcome.map_err(unavailable)?,
    };
    if let Some(config) = stored {
        release_name(&store, &config.name, id, bindings).await?;
        sources::forget(&[&config.name]);
    }
    store.delete(&sources::source_key(id)).await.map_err(unavailable)?;
    sources::forget(&[&id.to_string()]);
    Ok(Answer::Done)
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

/// Opens what [`crate::ingest`] has sealed for this source, and nothing else.
async fn open_secret(
    id: SourceId,
    request: &web_sys::Request,
    head: &Head,
    bindings: &Bindings,
) -> Result<Answer, Answer> {
    let keys = bindings.seal_keys().map_err(Answer::NotConfigured)?;
    let body = read_body(request, head, MAX_SEALED_SECRET_BYTES)
        .await
        .map_err(|_| Answer::BodyTooLarge { max_bytes: MAX_SEALED_SECRET_BYTES })?;
    let sealed = String::from_utf8_lossy(&body.bytes);
    match seal::open(&keys, &sources::handed_over_key(id), sealed.trim()) {
        Ok(secret) => Ok(Answer::Secret(secret)),
        Err(error) => Err(Answer::CannotOpen(error.to_string())),
    }
}

/// Takes only what a request could be verified with.
fn read_configuration(id: SourceId, body: &[u8]) -> Result<SourceConfig, Answer> {
    let config: SourceConfig =
        serde_json::from_slice(body).map_err(|error| Answer::BadConfiguration(error.to_string()))?;
    if config.id != id {
        return Err(Answer::BadConfiguration("the id in the body is not the one in the path".to_owned()));
    }
    Verifier::new(&config).map_err(|error| Answer::BadConfiguration(error.to_string()))?;
    Ok(config)
}

/// The same revision may be written again: the relay repeats what it is not sure of.
fn refuse_older(config: &SourceConfig, stored: Option<&SourceConfig>) -> Result<(), Answer> {
    match stored {
        Some(stored) if stored.revision > config.revision => Err(Answer::OlderRevision { revision: stored.revision }),
        Some(_) | None => Ok(()),
    }
}

/// Whether another source that still exists goes by this name: a name left behind by one that was deleted is free.
async fn is_taken(name: &str, id: SourceId, bindings: &Bindings) -> Result<bool, Answer> {
    let Some(owner) = sources::read_name(name, bindings).await.map_err(unavailable)? else { return Ok(false) };
    if owner == id {
        return Ok(false);
    }
    match sources::read(owner, bindings).await {
        Ok(config) => Ok(config.is_some_and(|config| config.name == name)),
        Err(SourceError::Damaged(_)) => Ok(true),
        Err(error) => Err(unavailable(error)),
    }
}

async fn release_name(store: &worker::KvStore, name: &str, id: SourceId, bindings: &Bindings) -> Result<(), Answer> {
    if sources::read_name(name, bindings).await.map_err(unavailable)? == Some(id) {
        store.delete(&sources::name_key(name)).await.map_err(unavailable)?;
    }
    Ok(())
}

async fn write(store: &worker::KvStore, key: &str, value: &str) -> Result<(), Answer> {
    store.put(key, value).map_err(unavailable)?.execute().await.map_err(unavailable)
}

fn unavailable(error: impl std::fmt::Display) -> Answer {
    worker::console_error!("{error}");
    Answer::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::header::HeaderList;

    fn id(n: u8) -> SourceId {
        SourceId::mint(1_764_000_000_000, [n; 10])
    }

    fn configuration(revision: u64, scheme: &str, secrets: &str) -> Vec<u8> {
        format!(
            r#"{{"id":"{}","name":"orders","revision":{revision},"provider":"test","scheme":{scheme},"secrets":{secrets},
                "max_body_bytes":1000}}"#,
            id(1)
        )
        .into_bytes()
    }

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

    #[test]
    fn a_configuration_that_cannot_verify_or_is_for_another_source_is_refused() {
        let token = r#"{"kind":"token","in":"h:x-token"}"#;
        assert!(read_configuration(id(1), &configuration(1, token, r#"["s"]"#)).is_ok());
        assert!(read_configuration(id(1), &configuration(1, token, "[]")).is_err(), "no secret");
        assert!(read_configuration(id(2), &configuration(1, token, r#"["s"]"#)).is_err(), "another id");
        assert!(read_configuration(id(1), b"{}").is_err());
    }

    #[test]
    fn an_older_revision_never_replaces_a_newer_one() {
        let of = |revision| {
            read_configuration(id(1), &configuration(revision, r#"{"kind":"none"}"#, "[]")).ok().expect("is good")
        };
        assert!(refuse_older(&of(1), None).is_ok());
        assert!(refuse_older(&of(2), Some(&of(1))).is_ok());
        assert!(refuse_older(&of(2), Some(&of(2))).is_ok(), "a repetition");
        assert!(matches!(refuse_older(&of(1), Some(&of(2))), Err(Answer::OlderRevision { revision: 2 })));
    }
}
