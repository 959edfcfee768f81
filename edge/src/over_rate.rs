//! Refuses the events of a customer that is over its rate, until the time that the relay has written into the
//! configuration of its sources.
//!
//! The relay counts and decides. The edge compares a time, which costs nothing, and the fast path leaves a request that
//! is refused to the slow path.

use std::rc::Rc;

use shared::decision;
use shared::verify::Rejection;

use crate::bindings::Bindings;
use crate::sources::{self, Source};

/// Why the events of a source are refused whatever they are, by the newest configuration, because the limit may just
/// have been raised. `None` if the customer of the source is not over its rate.
pub(crate) async fn of(
    reference: &str,
    source: Rc<Source>,
    bindings: &Bindings,
    now: u64,
) -> (Rc<Source>, Option<Rejection>) {
    let Some(refused) = decision::over_rate(&source, now) else { return (source, None) };
    match sources::reread(reference, bindings, now).await {
        Some(newer) => {
            let refused = decision::over_rate(&newer, now);
            (newer, refused)
        }
        None => (source, Some(refused)),
    }
}
