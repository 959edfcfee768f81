//! The keys that providers publish. They are fetched, cached, and fetched again if a signature matches none of them,
//! because keys rotate.
//!
//! For most providers the source's configuration names the location of the keys. For some the request itself names its
//! key, so the sender decides what is fetched: those keys are cached separately, and the number of their fetches in a
//! minute is limited.

mod budget;

use std::cell::RefCell;
use std::rc::Rc;

use shared::verify::{KeyForm, KeyLocation, KeySet};
use worker::Context;

use crate::cache::{Ages, Cache, Lookup};
use crate::{host, log};
use budget::Budget;

/// How long keys are fresh if `cache-control` gives no age, and the bounds of the age that it may give, in seconds.
const DEFAULT_AGE_S: u64 = 3_600;
const MIN_AGE_S: u64 = 300;
const MAX_AGE_S: u64 = 86_400;

/// How often keys are fetched again because a signature matched none of them, in milliseconds.
const REFETCH_AFTER: u64 = 60_000;

/// How long a failed fetch is not repeated, in milliseconds.
const FAILED: Ages = Ages { fresh: 5_000, usable: 5_000, refresh: 5_000 };

/// How long a fetch may take, in milliseconds, and how large a document may be, in bytes.
const TIMEOUT_MS: u32 = 3_000;
const MAX_BYTES: u32 = 65_536;

/// The number of locations, and of failures, that an isolate keeps of each kind.
const CAPACITY: usize = 64;

/// How many different keys named by requests an isolate fetches in a minute, and how often each. A provider signs with
/// one or two keys for months, so only a sender of invented names reaches this limit.
const NAMES_PER_MINUTE: usize = 20;
const FETCHES_PER_NAME: u32 = 50;

thread_local! {
    static CONFIGURED: RefCell<FetchedKeys> = RefCell::new(FetchedKeys::new(None));
    static NAMED: RefCell<FetchedKeys> =
        RefCell::new(FetchedKeys::new(Some(Budget::new(NAMES_PER_MINUTE, FETCHES_PER_NAME))));
}

/// The keys and failures of one kind of locations.
struct FetchedKeys {
    keys: Cache<Rc<KeySet>>,
    failures: Cache<()>,
    /// `None` if the configuration alone decides what is fetched.
    budget: Option<Budget>,
}

impl FetchedKeys {
    fn new(budget: Option<Budget>) -> Self {
        Self { keys: Cache::new(CAPACITY), failures: Cache::new(CAPACITY), budget }
    }

    /// Whether a fetch may begin now.
    fn may_fetch(&mut self, key: &str, now: u64) -> bool {
        self.budget.as_mut().is_none_or(|budget| budget.take(key, now))
    }

    fn has_failed(&mut self, key: &str, now: u64) -> bool {
        self.failures.lookup(key, now) != Lookup::Absent
    }
}

/// The keys at a location. The request waits for a fetch only if nothing is cached. `None` if the fetch fails: then the
/// verifier cannot decide, and does not refuse.
pub(crate) async fn keys(location: &KeyLocation, context: &Context, now: u64) -> Option<Rc<KeySet>> {
    let key = location.cache_key();
    match with_fetched(location, |fetched| fetched.keys.lookup(&key, now)) {
        Lookup::Fresh(keys) => Some(keys),
        Lookup::Refresh(keys) => {
            if with_fetched(location, |fetched| fetched.may_fetch(&key, now)) {
                let location = location.clone();
                context.wait_until(async move {
                    fetch(&location).await;
                });
            }
            Some(keys)
        }
        Lookup::Absent
            if with_fetched(location, |fetched| fetched.has_failed(&key, now) || !fetched.may_fetch(&key, now)) =>
        {
            None
        }
        Lookup::Absent => fetch(location).await,
    }
}

/// The keys at a location, if they are in memory and not due for a refresh. It awaits nothing and claims nothing.
pub(crate) fn fresh(location: &KeyLocation, now: u64) -> Option<Rc<KeySet>> {
    with_fetched(location, |fetched| fetched.keys.peek(&location.cache_key(), now))
}

/// Fetches the keys again after a signature matched none of the cached ones. This is not done for every such request,
/// and never if the request names its key, because such a key does not change.
pub(crate) async fn refetch(location: &KeyLocation, now: u64) -> Option<Rc<KeySet>> {
    if location.is_named_by_request()
        || !with_fetched(location, |fetched| fetched.keys.claim(&location.cache_key(), REFETCH_AFTER, now))
    {
        return None;
    }
    fetch(location).await
}

async fn fetch(location: &KeyLocation) -> Option<Rc<KeySet>> {
    let outcome = download(location).await;
    let (key, now) = (location.cache_key(), host::now_ms());
    match outcome {
        Ok((keys, ages)) => {
            with_fetched(location, |fetched| fetched.keys.put(&key, Rc::clone(&keys), ages, now));
            Some(keys)
        }
        Err(error) => {
            log::error(
                "the provider's published keys could not be fetched; cached keys are used while they are valid",
                &[("url", &location.url), ("error", &error)],
            );
            with_fetched(location, |fetched| fetched.failures.put(&key, (), FAILED, now));
            None
        }
    }
}

async fn download(location: &KeyLocation) -> Result<(Rc<KeySet>, Ages), String> {
    let question = match &location.form {
        KeyForm::JwkSet | KeyForm::Certificate => None,
        KeyForm::Plaid { body, .. } => Some(body.as_str()),
    };
    let document = host::read_document(&location.url, question, MAX_BYTES, TIMEOUT_MS)
        .await
        .map_err(|error| worker::Error::from(error).to_string())?;
    let content =
        document.content.ok_or_else(|| format!("the response has status {} or is too large", document.status))?;
    let keys = KeySet::parse(&location.form, &content).map_err(|error| error.to_string())?;
    Ok((Rc::new(keys), ages(&document.cache_control)))
}

fn with_fetched<T>(location: &KeyLocation, work: impl FnOnce(&mut FetchedKeys) -> T) -> T {
    let fetched = if location.is_named_by_request() { &NAMED } else { &CONFIGURED };
    fetched.with_borrow_mut(work)
}

/// How long keys with this `cache-control` are used. If they cannot be fetched again, they stay usable for up to a day
/// more: a provider's outage must not refuse its webhooks.
fn ages(cache_control: &str) -> Ages {
    let max_age = cache_control.split(',').find_map(|directive| {
        let (name, value) = directive.trim().split_once('=')?;
        name.trim().eq_ignore_ascii_case("max-age").then(|| value.trim().trim_matches('"').parse::<u64>().ok())?
    });
    let fresh_s = max_age.unwrap_or(DEFAULT_AGE_S).clamp(MIN_AGE_S, MAX_AGE_S);
    Ages { fresh: fresh_s * 1_000, usable: 2 * MAX_AGE_S * 1_000, refresh: 10_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_keys_follows_their_header_within_bounds() {
        for (header, seconds) in [
            ("", DEFAULT_AGE_S),
            ("no-store", DEFAULT_AGE_S),
            ("max-age=nonsense", DEFAULT_AGE_S),
            ("public, max-age=600", 600),
            ("Max-Age = \"900\"", 900),
            ("max-age=0", MIN_AGE_S),
            ("max-age=99999999", MAX_AGE_S),
        ] {
            assert_eq!(ages(header).fresh, seconds * 1_000, "{header}");
        }
    }
}
