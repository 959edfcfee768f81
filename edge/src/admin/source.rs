//! The admin routes of one source: the relay puts, reads back and deletes its configuration.

use shared::id::SourceId;
use shared::seal::{self, SealingKey};
use shared::source::SourceConfig;
use shared::verify::Verifier;
use worker::{KvStore, web_sys};

use super::unavailable;
use crate::bindings::{Bindings, Missing};
use crate::body::read_body;
use crate::host;
use crate::respond::Answer;
use crate::sources::{self, SourceError};
use crate::stored::{self, Older, Stored};
use shared::decision::Head;

/// The largest source configuration, in bytes.
const MAX_CONFIGURATION_BYTES: u64 = 262_144;

/// How long a tombstone is kept, in seconds: 30 days. A write that was in flight during the deletion arrives earlier
/// than that.
const TOMBSTONE_S: u64 = 2_592_000;

/// Writes a configuration and makes its name lead to it.
pub(super) async fn put(
    id: SourceId,
    request: &web_sys::Request,
    head: &Head,
    bindings: &Bindings,
) -> Result<Answer, Answer> {
    let body = read_body(request, head, MAX_CONFIGURATION_BYTES).await;
    let body = body.map_err(|error| Answer::of_body(error, MAX_CONFIGURATION_BYTES))?;
    let config = body.with(|bytes| read_configuration(id, bytes)).unwrap_or(Err(Answer::TooBusy))?;
    drop(body);
    let stored = look(id, bindings).await?;
    stored::may_put(config.revision, stored.as_ref()).map_err(older)?;
    if is_taken(&config.name, id, bindings).await? {
        return Err(Answer::NameTaken);
    }

    let store = bindings.sources().map_err(Answer::NotConfigured)?;
    let plain = serde_json::to_vec(&config).map_err(|error| Answer::BadConfiguration(error.to_string()))?;
    let sealed = seal(&sealing_key(bindings)?, id, &plain);
    store.put(&sources::source_key(id), &sealed).map_err(unavailable)?.execute().await.map_err(unavailable)?;
    let name_key = sources::name_key(&config.name);
    store.put(&name_key, id.to_string()).map_err(unavailable)?.execute().await.map_err(unavailable)?;
    if let Some(old) = stored.and_then(Stored::source).filter(|old| old.name != config.name) {
        release_name(&store, &old.name, id, bindings).await?;
        sources::forget(&[&old.name]);
    }
    sources::forget(&[&id.to_string(), &config.name]);
    Ok(Answer::Written { revision: config.revision, digest: seal::digest(&sealed) })
}

/// The state of a source in KV: the relay compares it with what it has put.
pub(super) async fn get(id: SourceId, bindings: &Bindings) -> Result<Answer, Answer> {
    let held = match sources::look(id, bindings).await {
        Err(error @ SourceError::Damaged(_)) => return Err(Answer::SourceDamaged(error.to_string())),
        outcome => outcome.map_err(unavailable)?.ok_or(Answer::UnknownSource)?,
    };
    match held.stored {
        Stored::Tombstone(tombstone) => Err(Answer::SourceDeleted { revision: tombstone.deleted_at_revision }),
        Stored::Source(config) => {
            let name_leads_here = sources::read_name(&config.name, bindings).await.map_err(unavailable)? == Some(id);
            let (revision, name) = (config.revision, config.name);
            Ok(Answer::SourceFacts { revision, name, digest: held.digest, name_leads_here })
        }
    }
}

/// Writes a tombstone over a source and releases its name.
pub(super) async fn delete(id: SourceId, head: &Head, bindings: &Bindings) -> Result<Answer, Answer> {
    let revision = revision_of(head.query())?;
    let store = bindings.sources().map_err(Answer::NotConfigured)?;
    let stored = look(id, bindings).await?;
    let tombstone = stored::bury(revision, stored.as_ref()).map_err(older)?;
    let plain = serde_json::to_vec(&tombstone).map_err(unavailable)?;
    let sealed = seal(&sealing_key(bindings)?, id, &plain);
    let put = store.put(&sources::source_key(id), sealed).map_err(unavailable)?;
    put.expiration_ttl(TOMBSTONE_S).execute().await.map_err(unavailable)?;
    if let Some(config) = stored.and_then(Stored::source) {
        release_name(&store, &config.name, id, bindings).await?;
        sources::forget(&[&config.name]);
    }
    sources::forget(&[&id.to_string()]);
    Ok(Answer::Done)
}

/// The stored state of a source that is about to be written. A state that cannot be opened counts as absent, so that
/// the relay can write the source again after `SEAL_KEY` was changed.
async fn look(id: SourceId, bindings: &Bindings) -> Result<Option<Stored>, Answer> {
    match sources::look(id, bindings).await {
        Err(SourceError::Damaged(_)) => Ok(None),
        outcome => Ok(outcome.map_err(unavailable)?.map(|held| held.stored)),
    }
}

fn sealing_key(bindings: &Bindings) -> Result<SealingKey, Answer> {
    let keys = bindings.seal_keys().map_err(Answer::NotConfigured)?;
    keys.first().cloned().ok_or(Answer::NotConfigured(Missing::SealKey))
}

fn seal(key: &SealingKey, id: SourceId, plain: &[u8]) -> String {
    seal::seal(key, &sources::source_key(id), host::random(), plain)
}

fn older(Older { stored }: Older) -> Answer {
    Answer::OlderRevision { revision: stored }
}

/// The revision of a deletion: `revision=7`, or nothing.
fn revision_of(query: &str) -> Result<Option<u64>, Answer> {
    let Some(text) = query.split('&').find_map(|pair| pair.strip_prefix("revision=")) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Answer::BadConfiguration("the revision is not a number".to_owned()))
}

/// Accepts only a configuration that can verify requests.
fn read_configuration(id: SourceId, body: &[u8]) -> Result<SourceConfig, Answer> {
    let config: SourceConfig =
        serde_json::from_slice(body).map_err(|error| Answer::BadConfiguration(error.to_string()))?;
    if config.id != id {
        return Err(Answer::BadConfiguration("the id in the body is not the one in the path".to_owned()));
    }
    Verifier::new(&config).map_err(|error| Answer::BadConfiguration(error.to_string()))?;
    Ok(config)
}

/// Whether another existing source has this name. A name that a deleted source has left behind is free.
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

async fn release_name(store: &KvStore, name: &str, id: SourceId, bindings: &Bindings) -> Result<(), Answer> {
    if sources::read_name(name, bindings).await.map_err(unavailable)? == Some(id) {
        store.delete(&sources::name_key(name)).await.map_err(unavailable)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> SourceId {
        SourceId::mint(1_764_000_000_000, [n; 10])
    }

    fn configuration(scheme: &str, secrets: &str) -> Vec<u8> {
        format!(
            r#"{{"id":"{}","name":"orders","revision":1,"provider":"test","scheme":{scheme},"secrets":{secrets},
                "max_body_bytes":1000}}"#,
            id(1)
        )
        .into_bytes()
    }

    #[test]
    fn a_configuration_that_cannot_verify_or_is_for_another_source_is_refused() {
        let token = r#"{"kind":"token","in":"h:x-token"}"#;
        assert!(read_configuration(id(1), &configuration(token, r#"["s"]"#)).is_ok());
        assert!(read_configuration(id(1), &configuration(token, "[]")).is_err(), "no secret");
        assert!(read_configuration(id(2), &configuration(token, r#"["s"]"#)).is_err(), "another id");
        assert!(read_configuration(id(1), b"{}").is_err());
    }

    #[test]
    fn the_revision_of_a_deletion_is_a_number_or_left_out() {
        assert!(matches!(revision_of("revision=7"), Ok(Some(7))));
        assert!(matches!(revision_of("a=b&revision=7"), Ok(Some(7))));
        assert!(matches!(revision_of(""), Ok(None)));
        assert!(revision_of("revision=").is_err());
        assert!(revision_of("revision=-1").is_err());
    }
}
