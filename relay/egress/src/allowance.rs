//! How many bytes a connection may receive: limits what a destination sends before the head of its response.
//!
//! HTTP lets a server send any number of interim responses (1xx) before the final one, and the client skips them. Only
//! their bytes can be counted. Each request adds [`BYTES_PER_REQUEST`] to the allowance of its connection. A connection
//! whose allowance is used up fails, and with it the requests on it. Unused allowance does not accumulate: an idle
//! connection has the allowance of one request.

/// The bytes that may be read for one request: several times the largest head and the excerpt of the body together.
pub const BYTES_PER_REQUEST: usize = 256 * 1024;

/// The allowance of one connection.
#[derive(Debug)]
pub(super) struct Allowance {
    /// Requests whose responses are awaited or read.
    requests: usize,
    bytes: usize,
    spent: bool,
}

impl Default for Allowance {
    fn default() -> Self {
        // A new connection belongs to a request, and bytes may be read before that request is registered.
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

    /// Counts bytes that were read. Returns false if they exceed the allowance.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        match self.bytes.checked_sub(bytes) {
            Some(left) => self.bytes = left,
            None => self.spent = true,
        }
        !self.spent
    }

    /// Whether the allowance was exceeded.
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
    fn a_connection_that_exceeds_its_allowance_stays_failed() {
        let mut allowance = Allowance::default();
        allowance.begin();
        assert!(allowance.take(2 * BYTES_PER_REQUEST), "its own allowance, and that of the idle connection");
        assert!(!allowance.is_spent());
        assert!(!allowance.take(1));
        assert!(!allowance.take(0) && allowance.is_spent());
    }

    #[test]
    fn unused_allowance_does_not_accumulate() {
        let mut allowance = Allowance::default();
        for _ in 0..1_000 {
            allowance.begin();
            allowance.end();
        }
        assert!(allowance.take(BYTES_PER_REQUEST) && !allowance.take(1));
    }

    #[test]
    fn requests_that_share_a_connection_have_one_allowance_each() {
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
