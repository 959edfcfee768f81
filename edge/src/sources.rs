//! Finds a source: in the isolate's memory, or in KV if nothing is cached.
//!
//! A configuration is fresh for 30 s, is then refreshed in the background, and is not used beyond five minutes. An
//! unknown name is remembered for 5 s. KV may return values that are up to a minute old, so neither a put nor a
//! deletion can be sure of seeing the newest state: the relay reads back its writes (`GET /admin/sources/{id}`).

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;

use shared::decision;
use shared::id::SourceId;
use shared::seal;
use shared::source::SourceConfig;
use shared::verify::ConfigError;
use worker::Context;

use crate::bindings::{Bindings, Missing};
use crate::cache::{Ages, Cache, Lookup};
use crate::credentials::Credentials;
use crate::stored::Stored;
use crate::{host, log};

const KNOWN: Ages = Ages { fresh: 30_000, usable: 300_000, refresh: 5_000 };
const UNKNOWN: Ages = Ages { fresh: 5_000, usable: 5_000, refresh: 5_000 };

/// How many sources an isolate keeps. Unknown ones are kept separately, so that guessing URLs displaces no source.
const CAPACITY: usize = 1_000;

/// How often a source is read again after a request that did not verify, in milliseconds.
const REREAD_AFTER: u64 = 2_000;

/// The longest name of a source that is looked up: the names of a customer and of a source, with a slash between them.
const MAX_NAME_BYTES: usize = 129;

/// A source, ready to verify, with what is not kept of its requests.
pub(crate) struct Source {
    ready: decision::Source,
    pub(crate) credentials: Credentials,
}

impl Deref for Source {
    type Target = decision::Source;

    fn deref(&self) -> &decision::Source {
        &self.ready
    }
}

impl Source {
    /// Prepares a configuration.
    ///
    /// # Errors
    /// Returns an error if the configuration cannot verify any request.
    pub(crate) fn new(config: SourceConfig) -> Result<Self, ConfigError> {
        let credentials = Credentials::of(&config.scheme);
        Ok(Self { ready: decision::Source::new(config)?, credentials })
    }
}

/// Why a source could not be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SourceError {
    Missing(Missing),
    /// KV did not answer.
    Store(String),
    /// The stored configuration cannot be opened or read. The relay writes it again when it next compares.
    Damaged(String),
}

impl From<Missing> for SourceError {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

impl std::fmt::Display for SourceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(missing) => missing.fmt(f),
            Self::Store(error) => write!(f, "the KV namespace SOURCES could not be read; try again: {error}"),
            Self::Damaged(error) => {
                write!(
                    f,
                    "a stored source cannot be read ({error}), probably because SEAL_KEY was changed; the relay \
                     writes the source again within a day, or as soon as it is changed"
                )
            }
        }
    }
}

type Found = Option<Rc<Source>>;

thread_local! {
    static KNOWN_SOURCES: RefCell<Cache<Rc<Source>>> = RefCell::new(Cache::new(CAPACITY));
    static UNKNOWN_SOURCES: RefCell<Cache<()>> = RefCell::new(Cache::new(CAPACITY));
}

/// Finds a source by the id or name in its URL. If the source is in memory, this awaits nothing.
///
/// # Errors
/// Returns an error if KV fails, or if the stored text cannot be opened or read.
pub(crate) async fn find(
    reference: &str,
    bindings: &Bindings,
    context: &Context,
    now: u64,
) -> Result<Found, SourceError> {
    if !is_plausible(reference) || is_unknown(reference, now) {
        return Ok(None);
    }
    match KNOWN_SOURCES.with_borrow_mut(|cache| cache.lookup(reference, now)) {
        Lookup::Fresh(source) => Ok(Some(source)),
        Lookup::Refresh(source) => {
            refresh(reference.to_owned(), bindings.clone(), context);
            Ok(Some(source))
        }
        Lookup::Absent => load(reference, bindings).await,
    }
}

/// A source that is in memory and not due for a refresh. It awaits nothing and claims nothing.
pub(crate) fn fresh(reference: &str, now: u64) -> Option<Rc<Source>> {
    KNOWN_SOURCES.with_borrow(|cache| cache.peek(reference, now))
}

/// Reads a source again after a request that did not verify with the cached configuration, because a secret may just
/// have been added. `None` if it was read a moment ago, or if KV does not answer: then the refusal is final.
pub(crate) async fn reread(reference: &str, bindings: &Bindings, now: u64) -> Found {
    if !KNOWN_SOURCES.with_borrow_mut(|cache| cache.claim(reference, REREAD_AFTER, now)) {
        return None;
    }
    load(reference, bindings).await.ok().flatten()
}

/// Drops a source from this isolate's memory, after the relay has changed it.
pub(crate) fn forget(references: &[&str]) {
    for reference in references {
        KNOWN_SOURCES.with_borrow_mut(|cache| cache.remove(reference));
        UNKNOWN_SOURCES.with_borrow_mut(|cache| cache.remove(reference));
    }
}

/// The KV key of a source's sealed configuration, to which the configuration is also sealed.
pub(crate) fn source_key(id: SourceId) -> String {
    format!("source/{id}")
}

/// The name to which a secret that a provider hands over is sealed. It differs from that of the configuration, so that
/// the right to open one is not the right to open the other.
pub(crate) fn handed_over_key(id: SourceId) -> String {
    format!("handed-over/{id}")
}

/// The KV key that holds the id of the source with this name.
pub(crate) fn name_key(name: &str) -> String {
    format!("name/{name}")
}

/// The value of a source's key in KV.
pub(crate) struct Held {
    pub(crate) stored: Stored,
    /// The digest of the sealed text, see [`seal::digest`].
    pub(crate) digest: String,
}

/// Reads the value of a source's key in KV; `None` if there is none.
///
/// # Errors
/// Returns an error if KV fails, or if the stored text cannot be opened or read.
pub(crate) async fn look(id: SourceId, bindings: &Bindings) -> Result<Option<Held>, SourceError> {
    let Some(sealed) = read_sealed(id, bindings).await? else { return Ok(None) };
    let stored = open(id, &sealed, bindings)?;
    Ok(Some(Held { stored, digest: seal::digest(&sealed) }))
}

/// Reads the configuration of a source from KV; `None` if there is none, or the source was deleted.
///
/// # Errors
/// Returns an error if KV fails, or if the stored text cannot be opened or read.
pub(crate) async fn read(id: SourceId, bindings: &Bindings) -> Result<Option<SourceConfig>, SourceError> {
    let Some(sealed) = read_sealed(id, bindings).await? else { return Ok(None) };
    Ok(open(id, &sealed, bindings)?.source())
}

async fn read_sealed(id: SourceId, bindings: &Bindings) -> Result<Option<String>, SourceError> {
    let read = bindings.sources()?.get(&source_key(id)).text().await;
    read.map_err(|error| SourceError::Store(error.to_string()))
}

fn open(id: SourceId, sealed: &str, bindings: &Bindings) -> Result<Stored, SourceError> {
    Stored::open(&bindings.seal_keys()?, &source_key(id), sealed).map_err(SourceError::Damaged)
}

/// Reads the id of a name.
///
/// # Errors
/// Returns an error if KV fails, or if the stored text cannot be opened or read.
pub(crate) async fn read_name(name: &str, bindings: &Bindings) -> Result<Option<SourceId>, SourceError> {
    let text = bindings.sources()?.get(&name_key(name)).text().await;
    let text = text.map_err(|error| SourceError::Store(error.to_string()))?;
    Ok(text.and_then(|text| text.parse().ok()))
}

fn refresh(reference: String, bindings: Bindings, context: &Context) {
    context.wait_until(async move {
        if let Err(error) = load(&reference, &bindings).await {
            log::error(
                "a cached source could not be refreshed; the cached version is used",
                &[("source", &reference), ("error", &error)],
            );
        }
    });
}

async fn load(reference: &str, bindings: &Bindings) -> Result<Found, SourceError> {
    let source = fetch(reference, bindings).await?;
    let now = host::now_ms();
    match &source {
        Some(source) => KNOWN_SOURCES.with_borrow_mut(|cache| cache.put(reference, Rc::clone(source), KNOWN, now)),
        None => {
            KNOWN_SOURCES.with_borrow_mut(|cache| cache.remove(reference));
            UNKNOWN_SOURCES.with_borrow_mut(|cache| cache.put(reference, (), UNKNOWN, now));
        }
    }
    Ok(source)
}

async fn fetch(reference: &str, bindings: &Bindings) -> Result<Found, SourceError> {
    let id = match reference.parse() {
        Ok(id) => Some(id),
        Err(_) => read_name(reference, bindings).await?,
    };
    let Some(id) = id else { return Ok(None) };
    let Some(config) = read(id, bindings).await? else { return Ok(None) };
    // KV may hold a released name for a while.
    if reference != config.name && reference.parse() != Ok(config.id) {
        return Ok(None);
    }
    let source = Source::new(config).map_err(|error| SourceError::Damaged(error.to_string()))?;
    Ok(Some(Rc::new(source)))
}

fn is_unknown(reference: &str, now: u64) -> bool {
    UNKNOWN_SOURCES.with_borrow_mut(|cache| cache.lookup(reference, now)) != Lookup::Absent
}

/// Whether a text can be an id or a name. Other texts are not looked up.
fn is_plausible(reference: &str) -> bool {
    !reference.is_empty()
        && reference.len() <= MAX_NAME_BYTES
        && reference.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/'))
        && reference.split('/').count() <= 2
        && reference.split('/').all(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_cannot_name_a_source_is_not_looked_up() {
        let longest = format!("{0}/{0}", "x".repeat(64));
        for reference in ["stripe", "acme-orders.v2", "acme/orders", &longest, "src_0197f3c8d2a17c3e9b5d0a4c6f7e8b91"] {
            assert!(is_plausible(reference), "{reference}");
        }
        for reference in ["", "a/b/c", "/a", "a/", "a b", "%2e%2e", "wp-login.php?", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert!(!is_plausible(reference), "{reference}");
        }
    }
}
