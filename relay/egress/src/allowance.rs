//! How much a connection may send: bounds what a destination sends before the head of its answer.
//!
//! HTTP lets a server send any number of interim answers (1xx) before the final one, and the client passes over them.
//! Only the bytes can be counted. Each request allows its connection [`BYTES_PER_REQUEST`]; a connection whose allowance
//! is spent fails, and with it the requests on it. What a request has not used does not add up: an idle connection has the
//! allowance of one request.

/// What may be read for one request, in bytes: several times the largest head and the excerpt of the body together.
pub const BYTES_PER_REQUEST: usize = 256 * 1024;

/// The allowance of one connection.
#[derive(Debug)]
pub(super) struct Allowance {
    /// Requests whose answers are awaited or read.
    requests: usize,
    bytes: usize,
    spent: bool,
}

impl Default for Allowance {
    fn default() -> Self {
        // A new connection belongs to a request, and may be read before that request says so.
        Self { requests: 0, bytes: BYTES_PER_REQUEST, spent: false }
    }
}

impl Allowance {
    /// A request begins on this connection.
    pub(super) fn begin(&mut self) {
        self.requests += 1;
        self.bytes = self.bytes.saturating_add(BYTES_PER_REQUEST).min(self.most());
    }

    /// A request has ended.
    pub(super) fn end(&mut self) {
        self.requests = self.requests.saturating_sub(1);
        self.bytes = self.bytes.min(self.most());
    }

    /// Counts bytes that were read. False if they are more than is allowed.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        match self.bytes.checked_sub(bytes) {
            Some(left) => self.bytes = left,
            None => self.spent = true,
        }
        !self.spent
    }

    /// Whether more was read than is allowed.
    pub(super) fn is_spent(&self) -> bool {
        self.spent
    }

    fn most(&self) -> usize {
        BYTES_PER_REQUEST.saturating_mul(self.requests + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_sends_more_than_its_requests_allow_fails_for_good() {
        let mut allowance = Allowance::default();
        allowance.begin();
        assert!(allowance.take(2 * BYTES_PER_REQUEST), "its own, and that of the idle connection");
        assert!(!allowance.is_spent());
        assert!(!allowance.take(1));
        assert!(!allowance.take(0) && allowance.is_spent());
    }

    #[test]
    fn what_requests_did_not_use_does_not_add_up() {
        let mut allowance = Allowance::default();
        for _ in 0..1_000 {
            allowance.begin();
            allowance.end();
        }
        assert!(allowance.take(BYTES_PER_REQUEST) && !allowance.take(1));
    }

    #[test]
    fn requests_that_share_a_connection_have_an_allowance_each() {
        let mut allowance = Allowance::default();
        for _ in 0..10 {
            allowance.begin();
        }
        assert!(allowance.take(10 * BYTES_PER_REQUEST));
        for _ in 0..10 {
            allowance.end();
        }
        assert!(allowance.take(BYTES_PER_REQUEST) && !allowance.take(1));
    }
}
