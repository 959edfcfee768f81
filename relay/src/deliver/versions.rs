//! The versions of routes that are not in the snapshot, for the deliveries that were routed by them.
//!
//! A version never changes. It is read and compiled once, when the first delivery needs it, even if several request it
//! at the same time. It is kept for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use expression::{ExpressionError, Transform};
use shared::id::RouteId;
use store::Pool;
use store::route_versions::{self, VersionRow};
use tokio::sync::OnceCell;

use crate::configuration::Expression;

/// The most versions that are kept in memory. A program may take about a megabyte.
pub(crate) const MOST: usize = 64;

/// How long a version is kept in memory. It is not kept forever, because after a restore of the database the same
/// version number can have another content.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(60);

/// How long an attempt waits for a version.
pub(crate) const READ_WITHIN: Duration = Duration::from_secs(20);

/// A version of a route.
#[derive(Debug)]
pub(super) struct RouteVersion {
    /// `None`: the raw bytes are sent.
    pub transform: Option<Expression<Transform>>,
    /// The name of the source as the transform saw it.
    pub source_name: String,
}

/// Why a version could not be looked up.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotRead {
    #[error(transparent)]
    Failed(#[from] store::Error),
    #[error("compiling the route's transform was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
    #[error("the route's transform was not read within {} s", READ_WITHIN.as_secs())]
    TookTooLong,
}

type Cell = Arc<OnceCell<Option<Arc<RouteVersion>>>>;

/// Reads versions of routes and keeps the newest ones in memory.
#[derive(Debug)]
pub(super) struct Versions {
    pool: Pool,
    cells: Mutex<Recent<(RouteId, i32), Cell>>,
}

impl Versions {
    /// Starts with no versions in memory.
    #[must_use]
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool, cells: Mutex::new(Recent::new(MOST, KEPT_FOR)) }
    }

    /// A version of a route, current or earlier; `None` if it is not known.
    ///
    /// # Errors
    /// Returns an error if the query fails or takes too long.
    pub(super) async fn get(&self, route: RouteId, version: i32) -> Result<Option<Arc<RouteVersion>>, NotRead> {
        let cell = {
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.get_or_insert((route, version), Instant::now(), Cell::default))
        };
        let read = cell.get_or_try_init(|| self.read(route, version));
        let found = tokio::time::timeout(READ_WITHIN, read).await.map_err(|_| NotRead::TookTooLong)?;
        Ok(found?.clone())
    }

    async fn read(&self, route: RouteId, version: i32) -> Result<Option<Arc<RouteVersion>>, NotRead> {
        let Some(row) = route_versions::find(&self.pool, route, version).await? else { return Ok(None) };
        let VersionRow { transform, source_name } = row;
        let transform = match transform {
            None => None,
            // Compiling may take longer than other tasks on this thread should wait.
            Some(source) => Some(tokio::task::spawn_blocking(move || compiled(source)).await?),
        };
        Ok(Some(Arc::new(RouteVersion { transform, source_name })))
    }
}

fn compiled(source: String) -> Expression<Transform> {
    let compiled: Result<Transform, ExpressionError> = Transform::compile(&source);
    Expression { source, compiled }
}

/// A map that keeps a number of values for a time. If it is full, the oldest value is evicted.
#[derive(Debug)]
struct Recent<K, V> {
    most: usize,
    kept_for: Duration,
    values: HashMap<K, (Instant, V)>,
}

impl<K: Eq + Hash + Copy, V> Recent<K, V> {
    fn new(most: usize, kept_for: Duration) -> Self {
        Self { most, kept_for, values: HashMap::new() }
    }

    fn get_or_insert(&mut self, key: K, now: Instant, make: impl FnOnce() -> V) -> &V {
        let is_kept = |since: Instant| now.saturating_duration_since(since) < self.kept_for;
        if !self.values.get(&key).is_some_and(|(since, _)| is_kept(*since)) {
            self.values.remove(&key);
            if self.values.len() >= self.most
                && let Some(oldest) = self.values.iter().min_by_key(|(_, (since, _))| *since).map(|(key, _)| *key)
            {
                self.values.remove(&oldest);
            }
        }
        &self.values.entry(key).or_insert_with(|| (now, make())).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_for_a_time_and_the_oldest_one_is_evicted() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut recent = Recent::new(2, Duration::from_secs(10));
        assert_eq!(*recent.get_or_insert('a', at(0), || 1), 1);
        assert_eq!(*recent.get_or_insert('b', at(1), || 2), 2);
        assert_eq!(*recent.get_or_insert('a', at(2), || 3), 1, "the value is kept");
        assert_eq!(*recent.get_or_insert('c', at(3), || 4), 4);
        assert_eq!(*recent.get_or_insert('b', at(4), || 5), 2, "the oldest value was evicted, not this one");
        assert_eq!(*recent.get_or_insert('a', at(5), || 6), 6);
        assert_eq!(*recent.get_or_insert('c', at(13), || 7), 7, "the value has expired");
        assert!(recent.values.len() <= 2);
    }
}
