//! Verifies a stored event again, with the present secrets and settings of its source. The release of quarantined
//! events is decided by the result.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::Serialize;
use shared::id::{CustomerId, SourceId};
use shared::verify::{RequestParts, Verifier, verify};
use store::sources::{self, SourceRow};
use utoipa::ToSchema;

use crate::edge::name;
use crate::edge::push::{self, Pusher};
use crate::route::EventView;

/// Whether verification of an event succeeds with the current secrets and settings of its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Recheck {
    /// The result.
    pub outcome: RecheckOutcome,
    /// Why verification fails, or why the result is unknown; absent if it succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reason: Option<String>,
}

/// The result of verifying an event again. `verifies`: verification succeeds with the current secrets and settings of
/// the source, so the event would now be accepted on arrival. `fails`: verification fails. `unknown`: the stored data
/// is not sufficient to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecheckOutcome {
    /// The event would have been accepted on arrival with the current secrets and settings of its source.
    Verifies,
    /// The event fails verification with the current secrets and settings of its source.
    Fails,
    /// The stored data is not enough to tell.
    Unknown,
}

/// Verifies the events of one source.
pub struct Rechecker(Result<Ready, String>);

struct Ready {
    verifier: Verifier,
    /// The URLs that the source has at the edge: some signatures cover the URL that the provider was given.
    urls: [String; 2],
    /// Whether the proof of an event's origin is stored with the event.
    keeps_proof: bool,
}

impl Rechecker {
    /// Prepares the verification of a source's events.
    ///
    /// # Errors
    /// Returns an error if the query fails.
    pub async fn of(pusher: &Pusher, customer: CustomerId, source: SourceId) -> store::Result<Self> {
        let row = sources::find(&pusher.pool, customer, Some(source), None).await?;
        let deleted = || Self(Err("the source of the event has been deleted".to_owned()));
        let Some(row) = row else { return Ok(deleted()) };
        let Some(name) = name::of(&pusher.pool, &row).await? else { return Ok(deleted()) };
        Ok(Self(Ready::of(pusher, &row, &name)))
    }

    /// Verifies an event as of the time at which it was received.
    #[must_use]
    pub fn check(&self, event: &EventView<'_>) -> Recheck {
        self.0.as_ref().map_or_else(|reason| unknown(reason), |ready| ready.check(event))
    }
}

/// Verifies many events, and opens the secrets of each source once.
pub struct Rechecks {
    pusher: Pusher,
    known: HashMap<SourceId, Rechecker>,
}

impl Rechecks {
    /// Creates one for the sources that `pusher` puts to the edge.
    #[must_use]
    pub fn new(pusher: Pusher) -> Self {
        Self { pusher, known: HashMap::new() }
    }

    /// Whether an event verifies. If the result is unknown, it does not.
    ///
    /// # Errors
    /// Returns an error if the query fails.
    pub async fn verifies(&mut self, customer: CustomerId, event: &EventView<'_>) -> store::Result<bool> {
        let rechecker = match self.known.entry(event.source_id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Rechecker::of(&self.pusher, customer, event.source_id).await?),
        };
        Ok(rechecker.check(event).outcome == RecheckOutcome::Verifies)
    }
}

impl Ready {
    fn of(pusher: &Pusher, row: &SourceRow, name: &str) -> Result<Self, String> {
        let config = push::config(pusher, row, name)?;
        Ok(Self {
            verifier: Verifier::new(&config).map_err(|error| error.to_string())?,
            urls: [pusher.edge.ingest_url(row.id), pusher.edge.ingest_url(name)],
            keeps_proof: config.scheme.credentials().is_empty(),
        })
    }

    fn check(&self, event: &EventView<'_>) -> Recheck {
        let outcomes = self.urls.each_ref().map(|url| {
            let url = if event.query.is_empty() { url.clone() } else { format!("{url}?{}", event.query) };
            let request = RequestParts { method: event.method, url: &url, query: event.query, headers: event.headers };
            verify(&self.verifier, None, &request, event.body, event.received_at_ms)
        });
        match outcomes {
            [Ok(_), _] | [_, Ok(_)] => Recheck { outcome: RecheckOutcome::Verifies, reason: None },
            [Err(rejection), _] if rejection.is_ours() => {
                unknown("events of this source are verified with keys that only the edge has")
            }
            [Err(_), _] if !self.keeps_proof => {
                unknown("this source verifies a credential in the request, and credentials are not stored with events")
            }
            [Err(rejection), _] => Recheck { outcome: RecheckOutcome::Fails, reason: Some(rejection.detail()) },
        }
    }
}

fn unknown(reason: &str) -> Recheck {
    Recheck { outcome: RecheckOutcome::Unknown, reason: Some(reason.to_owned()) }
}
