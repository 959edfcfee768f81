//! A look into the database: is there an event that ends the wait?

use std::sync::Arc;
use std::time::Duration;

use expression::{Filter, Input, Turn};
use shared::id::{EventId, SourceId, uuid_v7_floor};
use store::jobs::{self, ContentRow};
use store::search::Range;

use super::until::Until;
use super::{Mode, Wait};
use crate::control::{Control, Error};
use crate::mint;
use crate::route::input_of;

/// How old an event may be, by its id.
pub const LOOKS_BACK: Duration = Duration::from_secs(7 * 86_400);

/// How far the id of an event may lie in the future, to allow for clocks that differ.
const AHEAD: Duration = Duration::from_secs(86_400);

/// For how many of the newest events of a job an expression is evaluated.
pub const MAX_EVALUATED: i64 = 32;

/// How long the evaluation of an expression for one event may take.
const EVALUATE_WITHIN: Duration = Duration::from_secs(10);

impl Wait {
    /// Looks for events of the jobs that have none yet, the newest first. Returns whether the wait is over.
    ///
    /// # Errors
    /// Returns an error if a query fails, or if the expression cannot be evaluated because the relay is too busy.
    pub async fn look(&mut self, control: &Control) -> Result<bool, Error> {
        let _turn = control.looks.acquire().await.map_err(|_| Error::Busy)?;
        let open: Vec<usize> = (0..self.jobs.len()).filter(|at| self.jobs[*at].found.is_none()).collect();
        match self.until.clone() {
            Until::Any | Until::Terminal => {
                for (at, event) in self.newest(control, &open, self.until == Until::Terminal, 1).await? {
                    self.jobs[at].found = Some(event);
                }
            }
            Until::Matches(filter) => {
                for (at, event) in self.newest(control, &open, false, MAX_EVALUATED).await? {
                    if self.jobs[at].found.is_none() && self.matches(control, at, event, &filter).await? {
                        self.jobs[at].found = Some(event);
                    }
                }
            }
        }
        Ok(self.is_over())
    }

    /// The newest event of the only job, which need not end the wait.
    ///
    /// # Errors
    /// Returns an error if the query fails.
    pub async fn progress(&self, control: &Control) -> Result<Option<EventId>, Error> {
        let _turn = control.looks.acquire().await.map_err(|_| Error::Busy)?;
        Ok(self.newest(control, &[0], false, 1).await?.pop().map(|(_, event)| event))
    }

    fn is_over(&self) -> bool {
        let mut found = self.jobs.iter().map(|job| job.found.is_some());
        match self.mode {
            Mode::One | Mode::Any => found.any(|found| found),
            Mode::All => found.all(|found| found),
        }
    }

    async fn newest(
        &self,
        control: &Control,
        open: &[usize],
        ends_only: bool,
        each: i64,
    ) -> Result<Vec<(usize, EventId)>, Error> {
        let wanted: Vec<(SourceId, &str)> =
            open.iter().map(|at| (self.jobs[*at].source.id, &*self.jobs[*at].key)).collect();
        let found = jobs::newest(&control.pool, &wanted, recent(mint::now_ms()), ends_only, each).await?;
        Ok(found.into_iter().filter_map(|(number, event)| Some((*open.get(number)?, event))).collect())
    }

    /// Whether the expression is true for an event. An expression that fails on it is not true.
    async fn matches(&mut self, control: &Control, at: usize, event: EventId, filter: &Filter) -> Result<bool, Error> {
        if self.refused.contains(&event) {
            return Ok(false);
        }
        let source = &self.jobs[at].source;
        let most = i32::try_from(expression::MAX_BODY_BYTES).unwrap_or(i32::MAX);
        let content = jobs::content(&control.pool, event, most).await?;
        let input = content.and_then(|content| input(content, &source.name, filter.uses_body()));
        let Some(input) = input else {
            self.refused.insert(event);
            return Ok(false);
        };
        let turn = Turn::within(source.id, EVALUATE_WITHIN);
        let evaluated = control.evaluator.matches_all(turn, vec![filter.clone()], Arc::new(input)).await.pop();
        match evaluated {
            Some(Ok(true)) => Ok(true),
            // The same evaluation may succeed later.
            Some(Err(error)) if error.is_ours() => Err(Error::Busy),
            Some(Ok(false) | Err(_)) | None => {
                tracing::debug!(%event, "the expression of a waiting call is not true for an event");
                self.refused.insert(event);
                Ok(false)
            }
        }
    }
}

/// The input of the expression; `None` if it reads a body that is no longer kept.
fn input(content: ContentRow, source: &str, reads_body: bool) -> Option<Input> {
    let ContentRow { meta, body, body_size } = content;
    let bytes = usize::try_from(body_size).unwrap_or(usize::MAX);
    (body.is_some() || !reads_body || bytes > expression::MAX_BODY_BYTES).then(|| input_of(meta, source, body, bytes))
}

/// The ids of the events among which a wait looks.
fn recent(now_ms: u64) -> Range {
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Range {
        from: uuid_v7_floor(now_ms.saturating_sub(ms(LOOKS_BACK))),
        until: uuid_v7_floor(now_ms.saturating_add(ms(AHEAD))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_looks_back_for_seven_days() {
        let now_ms = 1_764_000_000_000;
        let range = recent(now_ms);
        let minted = |ms: u64| EventId::mint(ms, [7; 10]).uuid();
        let has = |ms: u64| range.from <= minted(ms) && minted(ms) < range.until;
        assert!(has(now_ms) && has(now_ms + 60_000) && has(now_ms - 7 * 86_400_000));
        assert!(!has(now_ms - 7 * 86_400_000 - 1) && !has(now_ms + 86_400_001));
    }
}
