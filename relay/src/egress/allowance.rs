//! How much a connection may send: bounds what a destination sends before the head of its answer.
//!
//! HTTP lets a server send any number of interim answers (1xx) before the final one, and the client passes over them.
//! Only the bytes can be counted. Each request allows its connection [`BYTES_PER_REQUEST`]; a connection whose allowance
//! is spent fails, and with it the requests on it. What a request has not used does not add up: an idle connection has the
//! allowance of one request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What may be read for one request, in bytes: several times the largest head and the excerpt of the body together.
pub(super) const BYTES_PER_REQUEST: usize = 256 * 1024;

/// The allowance of one connection. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Allowance(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Requests whose answers are awaited or read.
    requests: usize,
    bytes: usize,
    spent: bool,
}

/// A request on a connection; it has ended when this is dropped.
#[derive(Debug)]
pub(super) struct OfRequest(Allowance);

impl Default for Allowance {
    fn default() -> Self {
        // A new connection belongs to a request, and may be read before that request says so.
        Self(Arc::new(Mutex::new(State { requests: 0, bytes: BYTES_PER_REQUEST, spent: false })))
    }
}

impl Allowance {
    /// A request begins on this connection.
    pub(super) fn begin(&self) -> OfRequest {
        let mut state = self.state();
        state.requests += 1;
        state.bytes = state.bytes.saturating_add(BYTES_PER_REQUEST).min(state.most());
        OfRequest(self.clone())
    }

    /// Counts bytes that were read. False if they are more than is allowed.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let mut state = self.state();
        match state.bytes.checked_sub(bytes) {
            Some(left) => state.bytes = left,
            None => state.spent = true,
        }
        !state.spent
    }

    /// Whether more was read than is allowed.
    pub(super) fn is_spent(&self) -> bool {
        self.state().spent
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn most(&self) -> usize {
        BYTES_PER_REQUEST.saturating_mul(self.requests + 1)
    }
}

impl OfRequest {
    pub(super) fn is_spent(&self) -> bool {
        self.0.is_spent()
    }
}

impl Drop for OfRequest {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests = state.requests.saturating_sub(1);
        state.bytes = state.bytes.min(state.most());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_sends_more_than_its_requests_allow_fails_for_good() {
        let allowance = Allowance::default();
        let request = allowance.begin();
        assert!(allowance.take(2 * BYTES_PER_REQUEST), "its own, and that of the idle connection");
        assert!(!request.is_spent());
        assert!(!allowance.take(1));
        assert!(!allowance.take(0) && request.is_spent());
    }

    #[test]
    fn what_requests_did_not_use_does_not_add_up() {
        let allowance = Allowance::default();
        for _ in 0..1_000 {
            drop(allowance.begin());
        }
        assert!(allowance.take(BYTES_PER_REQUEST) && !allowance.take(1));
    }

    #[test]
    fn requests_that_share_a_connection_have_an_allowance_each() {
        let allowance = Allowance::default();
        let requests: Vec<OfRequest> = (0..10).map(|_| allowance.begin()).collect();
        assert!(allowance.take(10 * BYTES_PER_REQUEST));
        drop(requests);
        assert!(allowance.take(BYTES_PER_REQUEST) && !allowance.take(1));
    }
}
