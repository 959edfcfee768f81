//! The published keys of providers that sign with a key of their own (fal.ai): fetched, kept, and fetched again when a
//! signature matches none of them, because keys rotate.

use std::cell::RefCell;
use std::rc::Rc;

use shared::verify::KeySet;
use worker::Context;

use crate::cache::{Ages, Cache, Lookup};
use crate::host;

/// How long a key set is fresh where its `cache-control` says nothing, and the bounds of what it may say, in seconds.
const DEFAULT_AGE_S: u64 = 3_600;
const MIN_AGE_S: u64 = 300;
const MAX_AGE_S: u64 = 86_400;

/// How often a key set is fetched again because a signature matched none of its keys, in milliseconds.
const REFETCH_AFTER: u64 = 60_000;

/// How long a key set whose fetch failed is not asked for again, in milliseconds.
const FAILED: Ages = Ages { fresh: 5_000, usable: 5_000, refresh: 5_000 };

/// How long a fetch may take, in milliseconds, and how large a key set may be, in bytes.
const TIMEOUT_MS: u32 = 3_000;
const MAX_BYTES: u32 = 65_536;

/// How many key sets and failures an isolate keeps.
const CAPACITY: usize = 64;

thread_local! {
    static KEY_SETS: RefCell<Cache<Rc<KeySet>>> = RefCell::new(Cache::new(CAPACITY));
    static FAILURES: RefCell<Cache<()>> = RefCell::new(Cache::new(CAPACITY));
}

/// The key set at a URL. Only where nothing is cached does the request wait for it; `None` where it cannot be had, which
/// the verifier turns into "cannot say" and never into "refused".
pub(crate) async fn key_set(url: &str, context: &Context, now: u64) -> Option<Rc<KeySet>> {
    match KEY_SETS.with_borrow_mut(|cache| cache.lookup(url, now)) {
        Lookup::Fresh(keys) => Some(keys),
        Lookup::Refresh(keys) => {
            let url = url.to_owned();
            context.wait_until(async move {
                fetch(&url).await;
            });
            Some(keys)
        }
        Lookup::Absent if FAILURES.with_borrow_mut(|cache| cache.lookup(url, now)) != Lookup::Absent => None,
        Lookup::Absent => fetch(url).await,
    }
}

/// The key set after a signature matched none of the cached keys: fetched again, but not for every such request.
pub(crate) async fn refetch(url: &str, now: u64) -> Option<Rc<KeySet>> {
    if !KEY_SETS.with_borrow_mut(|cache| cache.claim(url, REFETCH_AFTER, now)) {
        return None;
    }
    fetch(url).await
}

async fn fetch(url: &str) -> Option<Rc<KeySet>> {
    let outcome = download(url).await;
    let now = host::now_ms();
    match outcome {
        Ok((keys, ages)) => {
            KEY_SETS.with_borrow_mut(|cache| cache.put(url, Rc::clone(&keys), ages, now));
            Some(keys)
        }
        Err(error) => {
            worker::console_error!("the key set {url} could not be fetched: {error}");
            FAILURES.with_borrow_mut(|cache| cache.put(url, (), FAILED, now));
            None
        }
    }
}

async fn download(url: &str) -> Result<(Rc<KeySet>, Ages), String> {
    let document = host::read_document(url, MAX_BYTES, TIMEOUT_MS)
        .await
        .map_err(|error| worker::Error::from(error).to_string())?;
    let content = document.content.ok_or_else(|| format!("status {}, or too large", document.status))?;
    let keys = KeySet::parse_jwks(&content).map_err(|error| error.to_string())?;
    Ok((Rc::new(keys), ages(&document.cache_control)))
}

/// How long a key set with this `cache-control` is used. Beyond its age it stays usable for as long as fetching it anew
/// fails, within a day: a provider's outage must not refuse its webhooks.
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
    fn the_age_of_a_key_set_is_what_it_says_within_bounds() {
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
