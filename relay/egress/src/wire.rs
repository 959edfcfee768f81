//! The bytes on one connection: the transport records them, and the requests that use the connection read the record.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use tokio::time::Instant;

use super::allowance::Allowance;
use super::head::Head;

/// The beginning of every request over HTTP/1. The client writes a request only when the one before is complete, so
/// that its first byte is the first of a write.
const REQUEST: &[u8] = b"POST ";

/// A connection. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Wire(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    opened: Instant,
    is_http1: bool,
    /// Requests that were given this connection so far.
    begun: u64,
    /// Requests that were written so far, at least in part. Counted over HTTP/1 only.
    written: u64,
    allowance: Allowance,
    /// Of the response to the last request that was written, over HTTP/1.
    head: Head,
    /// The server has closed or reset it.
    ended: bool,
}

/// A request on a connection. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct OfRequest {
    wire: Wire,
    /// The connection was open before the request, so that the server may have closed it already.
    is_pooled: bool,
    written_before: u64,
}

/// What has arrived for a request at which the client has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// The status line of a response.
    Status(StatusCode),
    /// More than any head needs.
    TooMuch,
    /// Nothing, and the connection was pooled: it was closed before any byte of a response was sent on it.
    ClosedBefore,
    /// Nothing that decides.
    Nothing,
}

impl Wire {
    /// A connection that has just been opened.
    pub(super) fn open(is_http1: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            opened: Instant::now(),
            is_http1,
            begun: 0,
            written: 0,
            allowance: Allowance::default(),
            head: Head::default(),
            ended: false,
        })))
    }

    /// Gives this connection to a request that has wanted one since `asked`.
    pub(super) fn begin(&self, asked: Instant) -> OfRequest {
        let mut state = self.state();
        state.allowance.begin();
        let is_first = state.begun == 0;
        state.begun += 1;
        OfRequest {
            wire: self.clone(),
            is_pooled: !is_first || state.opened < asked,
            // The connection may already have written a part of the request. If the request is its first, all written
            // bytes are its own.
            written_before: if is_first { 0 } else { state.written },
        }
    }

    /// Whether both are the same connection.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Records bytes that were read. Returns false if they exceed the allowance.
    pub(super) fn read(&self, bytes: &[u8]) -> bool {
        let mut state = self.state();
        if state.is_http1 {
            state.head.read(bytes);
        }
        state.allowance.take(bytes.len())
    }

    /// Records bytes that are about to be written. Returns false if they begin a request that must not be sent on this
    /// connection, because the response before was malformed.
    pub(super) fn write(&self, bytes: &[u8]) -> bool {
        if !bytes.starts_with(REQUEST) {
            return true;
        }
        let mut state = self.state();
        if !state.is_http1 {
            return true;
        }
        if !state.head.is_clean() {
            return false;
        }
        state.head = Head::default();
        state.written += 1;
        true
    }

    /// The server has closed or reset it.
    pub(super) fn end(&self) {
        self.state().ended = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfRequest {
    /// Whether it is a request on this connection.
    pub(super) fn is_on(&self, wire: &Wire) -> bool {
        self.wire.is(wire)
    }

    /// Whether another request may follow on its connection.
    pub(super) fn is_clean(&self) -> bool {
        self.wire.state().head.is_clean()
    }

    /// What has arrived for it. This is called after the client has failed at the request and before this is dropped,
    /// so that no other request has its connection. `unread`: the server has said that it did not process the request.
    pub(super) fn passed(&self, unread: bool) -> Passed {
        let state = self.wire.state();
        // A head from before the request was written belongs to another request.
        let is_written = state.written > self.written_before;
        if let Some(status) = state.head.status().filter(|_| is_written) {
            return Passed::Status(status);
        }
        if state.allowance.is_spent() {
            return Passed::TooMuch;
        }
        let is_unheard = if state.is_http1 { !is_written || !state.head.is_heard() } else { state.ended || unread };
        if self.is_pooled && is_unheard { Passed::ClosedBefore } else { Passed::Nothing }
    }
}

impl Drop for OfRequest {
    fn drop(&mut self) {
        self.wire.state().allowance.end();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const POST: &[u8] = b"POST /hook HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}";
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

    /// A connection that is opened for a request, and that request.
    fn fresh() -> (Wire, OfRequest) {
        let asked = Instant::now();
        let wire = Wire::open(true);
        let request = wire.begin(asked);
        (wire, request)
    }

    #[test]
    fn a_new_connection_that_is_closed_without_a_response_is_not_retried_at_once() {
        let (wire, request) = fresh();
        assert_eq!(request.passed(false), Passed::Nothing);
        assert!(wire.write(POST));
        wire.end();
        assert_eq!(request.passed(false), Passed::Nothing);
    }

    #[test]
    fn a_closed_pooled_connection_counts_as_closed_before_whether_or_not_the_request_was_written() {
        let (wire, first) = fresh();
        assert!(wire.write(POST) && wire.read(OK));
        assert_eq!(first.passed(false), Passed::Status(StatusCode::OK));
        drop(first);
        let second = wire.begin(Instant::now());
        assert_eq!(second.passed(false), Passed::ClosedBefore, "the earlier response belongs to another request");
        assert!(wire.write(POST));
        assert_eq!(second.passed(false), Passed::ClosedBefore);
        assert!(wire.read(b"H"));
        assert_eq!(second.passed(false), Passed::Nothing, "a byte of a response has arrived");
        assert!(wire.read(b"TTP/1.1 503 No\r\nx"));
        assert_eq!(second.passed(false), Passed::Status(StatusCode::SERVICE_UNAVAILABLE));
    }

    #[test]
    fn a_connection_that_was_opened_for_another_request_counts_as_pooled() {
        let wire = Wire::open(true);
        let request = wire.begin(Instant::now() + Duration::from_millis(1));
        assert!(wire.write(POST));
        assert_eq!(request.passed(false), Passed::ClosedBefore);
    }

    #[test]
    fn bytes_written_before_a_request_was_registered_are_its_own_if_it_is_the_first() {
        let asked = Instant::now();
        let wire = Wire::open(true);
        assert!(wire.write(POST) && wire.read(OK));
        assert_eq!(wire.begin(asked).passed(false), Passed::Status(StatusCode::OK));
    }

    #[test]
    fn no_request_follows_a_malformed_response() {
        for odd in [b"HTTP/1.1 200 OK\r\nx : y\r\n\r\n".as_slice(), b"HTTP/1.1 200 OK\r\nx: cut"] {
            let (wire, first) = fresh();
            assert!(wire.write(POST) && wire.read(odd) && !first.is_clean());
            assert!(wire.write(b"the rest of a body"));
            drop(first);
            let second = wire.begin(Instant::now());
            assert!(!wire.write(POST));
            assert_eq!(second.passed(false), Passed::ClosedBefore);
        }
    }

    #[test]
    fn requests_that_share_a_connection_only_see_its_end() {
        let asked = Instant::now();
        let wire = Wire::open(false);
        let first = wire.begin(asked);
        let second = wire.begin(asked);
        assert!(wire.write(b"POST ") && wire.read(OK), "bytes that look like HTTP/1 are not parsed");
        assert_eq!((first.passed(false), second.passed(false)), (Passed::Nothing, Passed::Nothing));
        assert_eq!((first.passed(true), second.passed(true)), (Passed::Nothing, Passed::ClosedBefore));
        wire.end();
        assert_eq!((first.passed(false), second.passed(false)), (Passed::Nothing, Passed::ClosedBefore));
    }

    #[test]
    fn exceeding_the_allowance_is_too_much_unless_a_status_line_has_arrived() {
        let (wire, request) = fresh();
        assert!(wire.write(POST));
        let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10_000);
        while wire.read(&interim) {}
        assert_eq!(request.passed(false), Passed::TooMuch);

        let (wire, request) = fresh();
        assert!(wire.write(POST) && wire.read(b"HTTP/1.1 200 OK\r\nx: "));
        while wire.read(&interim) {}
        assert_eq!(request.passed(false), Passed::Status(StatusCode::OK));
    }
}
