//! Events that a test puts into the queue as the edge would.

use std::collections::HashSet;

use serde_json::json;
use shared::envelope::{EventHeader, Failure, Verification, encode_inline};
use shared::header::HeaderList;
use shared::id::EventId;

use super::RelayOnly;
use crate::api::Source;
use crate::mint;

impl RelayOnly {
    /// Puts `count` different events into the queue. Returns their ids, in the form of
    /// [`crate::receiver::Receiver::ids`].
    ///
    /// # Panics
    /// Same as [`RelayOnly::push_with`].
    pub fn push_many(&self, source: &Source, count: usize) -> HashSet<String> {
        let bodies = (0..count).map(|number| json!({ "number": number }).to_string());
        bodies.map(|body| self.push(source, body.as_bytes()).to_string()).collect()
    }

    /// Puts an event into the queue whose signature the edge refused, as the edge does for a source with a quarantine.
    ///
    /// # Panics
    /// Same as [`RelayOnly::push_with`].
    pub fn push_refused<'a>(
        &self,
        source: &Source,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: &[u8],
    ) -> EventId {
        let (received_at_ms, id) = mint::event();
        let header = EventHeader {
            id,
            source: source.id.parse().unwrap_or_else(|error| panic!("{}: {error}", source.id)),
            received_at_ms,
            method: "POST".to_owned(),
            query: String::new(),
            headers: HeaderList::new(headers),
            verification: Verification::Failed(Failure {
                cause: "signature_mismatch".to_owned(),
                detail: "the signature does not match".to_owned(),
            }),
        };
        let message = encode_inline(&header, body).unwrap_or_else(|| panic!("the body does not fit into a message"));
        self.queue.push(&message);
        header.id
    }
}
