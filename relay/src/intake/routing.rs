//! Evaluates the routes of a batch's events concurrently, and keeps the results that a change of the configuration
//! leaves valid.

use std::sync::Arc;

use expression::Evaluator;
use shared::envelope::{EventHeader, Verification};
use shared::extract::Extracted;
use shared::job::Job;
use tokio::time::Instant;

use super::message::{Arrival, Content, without_nul};
use crate::configuration::{Route, Snapshot, Source};
use crate::route::{self, Answer, EventView};
use crate::side_by_side;

/// The longest provider's id and event type that are stored, in bytes.
pub(crate) const LONGEST_NAME_BYTES: usize = 512;

/// The results of the routes of a batch's events, by the index of the arrival.
pub struct Routing(Vec<Option<Routed>>);

/// The results of the routes of one event.
pub struct Routed {
    /// The source and its routes at the time of the evaluation.
    source: Arc<Source>,
    routes: Vec<Arc<Route>>,
    /// What the source's extractor found, in the form in which it is stored.
    pub names: Extracted,
    pub answers: Vec<Answer>,
}

impl Routing {
    /// For a batch of `arrivals` arrivals, none of which has been evaluated.
    #[must_use]
    pub fn of(arrivals: usize) -> Self {
        Self((0..arrivals).map(|_| None).collect())
    }

    /// Evaluates the routes of each event, unless its source and the source's routes are those of the last time. A
    /// route without a result at `until` is undecided. Rejections and events of unknown sources are not evaluated.
    pub async fn evaluate(&mut self, arrivals: &[Arrival], snapshot: &Snapshot, evaluator: &Evaluator, until: Instant) {
        let mut open = Vec::new();
        for (arrival, routed) in arrivals.iter().zip(&mut self.0) {
            if routed.as_ref().is_some_and(|routed| routed.is_valid(snapshot)) {
                continue;
            }
            *routed = None;
            if let Content::Event { header, body, .. } = &arrival.content
                && let Some(source) = snapshot.sources.get(&header.source)
            {
                open.push((routed, evaluate(header, body, source, snapshot, evaluator, until)));
            }
        }
        let (places, asked): (Vec<_>, Vec<_>) = open.into_iter().unzip();
        for (place, routed) in places.into_iter().zip(side_by_side::all(asked).await) {
            *place = Some(routed);
        }
    }

    /// The results for the event at this index.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&Routed> {
        self.0.get(at)?.as_ref()
    }
}

impl Routed {
    /// A snapshot shares with the previous one the parts that have not changed.
    fn is_valid(&self, snapshot: &Snapshot) -> bool {
        let routes = snapshot.routes_of_source.get(&self.source.id).map_or(&[][..], Vec::as_slice);
        snapshot.sources.get(&self.source.id).is_some_and(|source| Arc::ptr_eq(source, &self.source))
            && routes.len() == self.routes.len()
            && routes.iter().zip(&self.routes).all(|(now, then)| Arc::ptr_eq(now, then))
    }
}

async fn evaluate(
    header: &EventHeader,
    body: &[u8],
    source: &Arc<Source>,
    snapshot: &Snapshot,
    evaluator: &Evaluator,
    until: Instant,
) -> Routed {
    let names = names(header, body, source);
    let view = EventView {
        id: header.id,
        source_id: header.source,
        source_name: &source.name,
        event_type: names.event_type.as_deref(),
        provider_event_id: names.provider_event_id.as_deref(),
        received_at_ms: header.received_at_ms,
        method: &header.method,
        query: &header.query,
        headers: &header.headers,
        body,
    };
    let answers = match &header.verification {
        // Never forwarded until it is released.
        Verification::Failed(_) => Vec::new(),
        Verification::Verified | Verification::Stale | Verification::Unsigned => {
            route::evaluate(evaluator, snapshot, &view, until).await
        }
    };
    let routes = snapshot.routes_of_source.get(&source.id).cloned().unwrap_or_default();
    Routed { source: Arc::clone(source), routes, names, answers }
}

fn names(header: &EventHeader, body: &[u8], source: &Source) -> Extracted {
    let Extracted { provider_event_id, event_type, dedupe_key, job } = match &source.extractor {
        Some(extractor) => extractor.extract(&header.query, &header.headers, body),
        None => Extracted::default(),
    };
    // An index entry has a size limit. A value longer than any id or type is not worth searching for; the dedupe key is
    // a hash of it.
    let kept = |name: Option<String>| name.map(without_nul).filter(|name| name.len() <= LONGEST_NAME_BYTES);
    let dedupe_key = match &header.verification {
        // A forged request must not take the key of the genuine one.
        Verification::Failed(_) => None,
        Verification::Verified | Verification::Stale | Verification::Unsigned => dedupe_key,
    };
    let job = job.and_then(|job| Some(Job { key: kept(Some(job.key))?, state: kept(job.state), end: job.end }));
    Extracted { provider_event_id: kept(provider_event_id), event_type: kept(event_type), dedupe_key, job }
}
