//! Compares the sources at the edge with what the edge has confirmed, some minutes after each confirmation and then
//! once a day.
//!
//! KV has no compare-and-set: a put that hung can take effect after a newer one, or after the deletion of its source. A
//! newly created Worker has no sources at all. A source that differs is put again, or deleted again.

use std::fmt;
use std::time::{Duration, Instant};

use shared::id::SourceId;
use store::edge_checks::{self, Claimed, DeletedRow};
use store::sources::SourceRow;

use super::name;
use super::push::{self, Pusher};
use super::source::{Deletion, Held, HeldSource};
use crate::supervise;

/// The most comparisons of each kind in one round. They run one after the other.
const IN_ONE_ROUND: i64 = 50;

/// How long a round may take. The remaining comparisons are left to a later round.
const ROUND: Duration = Duration::from_secs(20);

/// After this many consecutive failed comparisons, the edge counts as unreachable.
const FAILURES: u32 = 3;

/// How long one call may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4);

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Nothing more was due.
    Done,
    /// It did as much as a round does, so more may be due.
    Full,
    /// The edge or the database failed.
    Failed,
}

/// What to do about a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The edge holds what it has confirmed.
    Keep,
    /// It is put again, with at least this revision.
    PutAgain { least: i64, difference: Difference },
}

/// What to do about a deleted source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeletedAction {
    /// The edge holds nothing of the source.
    Keep,
    /// It is deleted again, at this revision.
    DeleteAgain { revision: i64 },
}

/// How a source at the edge differs from what the edge has confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    Missing,
    Damaged,
    Deleted {
        revision: u64,
    },
    Revision {
        revision: u64,
    },
    Name {
        name: String,
    },
    Content,
    NameLeadsElsewhere,
    /// The edge returned no digest when it confirmed the source, and returns one now.
    NotComparable,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the edge does not have this source"),
            Self::Damaged => {
                f.write_str("the edge cannot decrypt its copy of this source, for example because SEAL_KEY was changed")
            }
            Self::Deleted { revision } => write!(f, "the edge has deleted this source at revision {revision}"),
            Self::Revision { revision } => {
                write!(f, "the edge has revision {revision} of this source instead of the current one")
            }
            Self::Name { name } => write!(f, "the edge has this source under the name {name}"),
            Self::Content => f.write_str("the edge has the same revision of this source with different content"),
            Self::NameLeadsElsewhere => f.write_str("at the edge, the name of this source does not resolve to it"),
            Self::NotComparable => {
                f.write_str("the edge confirmed this source without a digest, so its content cannot be compared")
            }
        }
    }
}

/// Decides what to do about a source whose newest revision the edge has confirmed. The row has the name that the source
/// has at the edge.
#[must_use]
pub fn of_source(row: &SourceRow, held: &Held) -> Action {
    let again = |difference| Action::PutAgain { least: row.revision, difference };
    let above = |revision: u64, difference| Action::PutAgain { least: push::after(revision), difference };
    match held {
        Held::Nothing => again(Difference::Missing),
        Held::Damaged => again(Difference::Damaged),
        Held::Deleted { revision } => above(*revision, Difference::Deleted { revision: *revision }),
        Held::Source(HeldSource { revision, name, digest, name_leads_here }) => {
            let ours = u64::try_from(row.revision).unwrap_or(0);
            if *revision > ours {
                above(*revision, Difference::Revision { revision: *revision })
            } else if *revision < ours {
                again(Difference::Revision { revision: *revision })
            } else if *name != row.name {
                again(Difference::Name { name: name.clone() })
            } else if !name_leads_here {
                again(Difference::NameLeadsElsewhere)
            } else {
                match (&row.edge_digest, digest) {
                    (Some(confirmed), Some(held)) if confirmed != held => again(Difference::Content),
                    (None, Some(_)) => again(Difference::NotComparable),
                    (Some(_) | None, _) => Action::Keep,
                }
            }
        }
    }
}

/// Decides what to do about a deleted source.
#[must_use]
pub fn of_deleted(row: &DeletedRow, held: &Held) -> DeletedAction {
    match held {
        // Even without a tombstone the edge accepts nothing for it; if a late write still lands, a later comparison
        // detects it.
        Held::Nothing | Held::Deleted { .. } => DeletedAction::Keep,
        Held::Damaged => DeletedAction::DeleteAgain { revision: row.revision.saturating_add(1) },
        Held::Source(held) => {
            DeletedAction::DeleteAgain { revision: row.revision.saturating_add(1).max(push::after(held.revision)) }
        }
    }
}

/// Makes due comparisons, and puts or deletes again every source that differs. It ends after [`FAILURES`] consecutive
/// failures: the claims of the rest expire, and they become due again.
pub async fn round(pusher: &Pusher) -> Round {
    let started = Instant::now();
    let claimed = match edge_checks::claim(&pusher.pool, IN_ONE_ROUND).await {
        Ok(claimed) => claimed,
        Err(error) => {
            tracing::warn!(%error, "could not read which sources to compare with the edge; retrying");
            return Round::Failed;
        }
    };
    let is_full = is_full(&claimed);
    let claims = claimed.into_iter().take_while(|_| started.elapsed() < ROUND);
    let compared = compare(claims, |claim| async move {
        match claim {
            Claimed::Source(id) => check_source(pusher, id).await,
            Claimed::Deleted(id) => check_deleted(pusher, id).await,
        }
    });
    match compared.await {
        Compared::All if is_full => Round::Full,
        Compared::All => Round::Done,
        Compared::GaveUp => Round::Failed,
    }
}

/// Whether a round has claimed as many comparisons of a kind as it makes.
fn is_full(claimed: &[Claimed]) -> bool {
    let sources = claimed.iter().filter(|claim| matches!(claim, Claimed::Source(_))).count();
    let most = usize::try_from(IN_ONE_ROUND).unwrap_or(usize::MAX);
    sources.max(claimed.len() - sources) >= most
}

/// Whether all comparisons were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compared {
    All,
    /// Too many of them failed one after the other.
    GaveUp,
}

/// Makes comparisons until [`FAILURES`] in a row have failed. One that panics does not count, because it says nothing
/// about the edge.
async fn compare<C: Future<Output = Result<(), String>>>(
    claims: impl Iterator<Item = Claimed>,
    check: impl Fn(Claimed) -> C,
) -> Compared {
    let mut failures = 0;
    for claim in claims {
        let (Claimed::Source(source) | Claimed::Deleted(source)) = claim;
        match supervise::row(check(claim)).await {
            Ok(Ok(())) => failures = 0,
            Ok(Err(error)) => {
                tracing::warn!(error, %source, "could not compare a source with the edge; retrying");
                failures += 1;
                if failures >= FAILURES {
                    return Compared::GaveUp;
                }
            }
            Err(panic) => {
                tracing::error!(
                    error = %panic,
                    %source,
                    "the relay panicked while comparing a source with the edge; retrying"
                );
            }
        }
    }
    Compared::All
}

async fn check_source(pusher: &Pusher, id: SourceId) -> Result<(), String> {
    let Some(row) = edge_checks::confirmed_source(&pusher.pool, id).await.map_err(query_failed)? else { return Ok(()) };
    let Some(row) = name::row(&pusher.pool, row).await.map_err(query_failed)? else { return Ok(()) };
    match of_source(&row, &held(pusher, id).await?) {
        Action::Keep => edge_checks::source_is_held(&pusher.pool, &row).await.map_err(query_failed),
        Action::PutAgain { least, difference } => {
            let text = difference.to_string();
            let differs = edge_checks::source_differs(&pusher.pool, &row, least, &text).await.map_err(query_failed)?;
            let Some(behind) = differs else { return Ok(()) };
            if difference == Difference::NotComparable {
                tracing::info!(
                    source = %id,
                    name = row.name,
                    difference = text,
                    "the content of a source at the edge cannot be compared; writing it again"
                );
            } else {
                tracing::warn!(
                    source = %id,
                    name = row.name,
                    revision = row.revision,
                    difference = text,
                    "a source at the edge differs from the relay's; writing it again"
                );
            }
            push::push_or_retry(pusher, &behind).await;
            Ok(())
        }
    }
}

async fn check_deleted(pusher: &Pusher, id: SourceId) -> Result<(), String> {
    let Some(row) = edge_checks::deleted_source(&pusher.pool, id).await.map_err(query_failed)? else { return Ok(()) };
    match of_deleted(&row, &held(pusher, id).await?) {
        DeletedAction::Keep => edge_checks::deleted_is_gone(&pusher.pool, id).await.map_err(query_failed),
        DeletedAction::DeleteAgain { revision } => {
            tracing::warn!(source = %id, name = row.name, "the edge still has a deleted source; deleting it again");
            edge_checks::raise_deleted(&pusher.pool, id, revision).await.map_err(query_failed)?;
            let _turn = pusher.edge.turn(id).await;
            match in_time(pusher.edge.delete_source(id, u64::try_from(revision).unwrap_or(0))).await? {
                Deletion::Done => Ok(()),
                // The next comparison detects it.
                Deletion::OlderRevision { held } => {
                    Err(format!("the edge already has the newer revision {held} of source {id}"))
                }
            }
        }
    }
}

async fn held(pusher: &Pusher, id: SourceId) -> Result<Held, String> {
    in_time(pusher.edge.held_source(id)).await
}

async fn in_time<T>(call: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let answered = tokio::time::timeout(CHECK_TIMEOUT, call).await;
    answered.unwrap_or_else(|_| Err(format!("the edge did not respond within {} s", CHECK_TIMEOUT.as_secs())))
}

fn query_failed(error: store::Error) -> String {
    format!("the database query failed: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::OffsetDateTime;

    #[tokio::test]
    async fn a_round_goes_on_after_a_panic_and_ends_if_the_edge_is_unreachable() {
        let compared = async |check: fn() -> Result<(), String>| {
            let count = std::cell::RefCell::new(0);
            let claims = (0..9).map(|number| Claimed::Source(SourceId::mint(1, [number; 10])));
            let compared = compare(claims, |_| async {
                *count.borrow_mut() += 1;
                check()
            });
            (compared.await, count.into_inner())
        };
        assert_eq!(compared(|| panic!("its name")).await, (Compared::All, 9));
        assert_eq!(compared(|| Ok(())).await, (Compared::All, 9));
        assert_eq!(compared(|| Err("away".to_owned())).await, (Compared::GaveUp, FAILURES));
    }

    #[test]
    fn a_round_is_full_if_it_has_claimed_as_many_comparisons_of_one_kind_as_it_makes() {
        let most = usize::try_from(IN_ONE_ROUND).expect("fits");
        let claims = |sources: usize, deleted: usize| {
            let id = SourceId::mint(1, [1; 10]);
            let mut claims = vec![Claimed::Source(id); sources];
            claims.extend(vec![Claimed::Deleted(id); deleted]);
            claims
        };
        assert!(!is_full(&claims(most - 1, most - 1)) && !is_full(&[]));
        assert!(is_full(&claims(most, 0)) && is_full(&claims(1, most)));
    }

    fn row(revision: i64, digest: Option<&str>) -> SourceRow {
        SourceRow {
            id: SourceId::mint(1, [1; 10]),
            customer_id: store::DEFAULT_CUSTOMER,
            name: "shop".to_owned(),
            provider: "github".to_owned(),
            config: serde_json::json!({}),
            secrets_sealed: String::new(),
            retired_secrets_sealed: None,
            revision,
            edge_revision: revision,
            edge_error: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
            edge_digest: digest.map(str::to_owned),
            edge_check_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn held(revision: u64, digest: Option<&str>) -> HeldSource {
        let digest = digest.map(str::to_owned);
        HeldSource { revision, name: "shop".to_owned(), digest, name_leads_here: true }
    }

    fn least(action: Action) -> Option<i64> {
        match action {
            Action::Keep => None,
            Action::PutAgain { least, .. } => Some(least),
        }
    }

    #[test]
    fn a_source_that_the_edge_holds_as_confirmed_is_kept() {
        assert_eq!(of_source(&row(3, Some("d")), &Held::Source(held(3, Some("d")))), Action::Keep);
        assert_eq!(
            of_source(&row(3, Some("d")), &Held::Source(held(3, None))),
            Action::Keep,
            "an edge without digests"
        );
        assert_eq!(of_source(&row(3, None), &Held::Source(held(3, None))), Action::Keep);
    }

    #[test]
    fn a_missing_damaged_older_or_different_source_is_put_again_at_its_revision() {
        let of = |held: Held| of_source(&row(3, Some("d")), &held);
        let again = |difference| Action::PutAgain { least: 3, difference };
        assert_eq!(of(Held::Nothing), again(Difference::Missing));
        assert_eq!(of(Held::Damaged), again(Difference::Damaged));
        assert_eq!(of(Held::Source(held(2, Some("d")))), again(Difference::Revision { revision: 2 }));
        assert_eq!(of(Held::Source(held(3, Some("e")))), again(Difference::Content));
        let other = HeldSource { name: "old".to_owned(), ..held(3, Some("d")) };
        assert_eq!(of(Held::Source(other)), again(Difference::Name { name: "old".to_owned() }));
        let elsewhere = HeldSource { name_leads_here: false, ..held(3, Some("d")) };
        assert_eq!(of(Held::Source(elsewhere)), again(Difference::NameLeadsElsewhere));
        assert_eq!(
            of_source(&row(3, None), &Held::Source(held(3, Some("d")))),
            again(Difference::NotComparable),
            "confirmed by an edge without digests"
        );
    }

    #[test]
    fn a_source_that_is_newer_or_deleted_at_the_edge_is_put_again_above_that_revision() {
        assert_eq!(least(of_source(&row(3, Some("d")), &Held::Source(held(7, Some("d"))))), Some(8));
        assert_eq!(least(of_source(&row(3, Some("d")), &Held::Deleted { revision: 3 })), Some(4));
        assert_eq!(least(of_source(&row(3, Some("d")), &Held::Deleted { revision: 7 })), Some(8));
        assert_eq!(push::after(u64::MAX), i64::MAX, "the update then fails or has no effect, and nothing wraps");
    }

    #[test]
    fn a_deleted_source_that_the_edge_holds_again_is_deleted_above_it() {
        let row = DeletedRow { id: SourceId::mint(1, [1; 10]), name: "shop".to_owned(), revision: 3 };
        assert_eq!(of_deleted(&row, &Held::Nothing), DeletedAction::Keep);
        assert_eq!(of_deleted(&row, &Held::Deleted { revision: 3 }), DeletedAction::Keep);
        let of = |held| of_deleted(&row, &held);
        assert_eq!(of(Held::Source(held(2, None))), DeletedAction::DeleteAgain { revision: 4 });
        assert_eq!(of(Held::Source(held(7, None))), DeletedAction::DeleteAgain { revision: 8 });
        assert_eq!(of(Held::Damaged), DeletedAction::DeleteAgain { revision: 4 });
    }
}
