//! Jobs of AI providers: which job an event is about, in which state the job is, and whether it has ended.
//!
//! The catalogue has the rules of each provider as data. A source may read the job key from a place of its own.

pub mod expose;

use serde::Deserialize;

use crate::scheme::template::Template;

/// How the events of a provider name their job and its state.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRule {
    /// The places of the job's id; the first whose parts are all present counts.
    pub id: Vec<Template>,
    /// The places of the job's state; the first whose parts are all present counts. If there is none, the state is
    /// the empty text.
    #[serde(default)]
    pub state: Vec<Template>,
    /// The states in which a job has ended well. `*` at the beginning stands for any text.
    #[serde(default)]
    pub good: Vec<String>,
    /// The states in which a job has ended badly, in the same form. A state of neither list is progress.
    #[serde(default)]
    pub bad: Vec<String>,
    /// Whether the event at the end carries the result. If not, it names only the job, and the result has to be fetched
    /// from the provider.
    #[serde(default = "yes")]
    pub carries_result: bool,
}

fn yes() -> bool {
    true
}

/// The job that an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The provider's id of the job, or what the owner of the source reads instead.
    pub key: String,
    /// The state as the provider writes it; `None` if the event has none.
    pub state: Option<String>,
    /// How the job has ended; `None` if it has not, or if that is not known.
    pub end: Option<End>,
}

/// How a job has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Good,
    Bad,
}

impl JobRule {
    /// Whether any state is known to be an end.
    #[must_use]
    pub fn knows_ends(&self) -> bool {
        !self.good.is_empty() || !self.bad.is_empty()
    }

    /// How a job in this state has ended.
    #[must_use]
    pub fn end(&self, state: &str) -> Option<End> {
        let is_in = |list: &[String]| list.iter().any(|pattern| matches(pattern, state));
        match (is_in(&self.good), is_in(&self.bad)) {
            (true, _) => Some(End::Good),
            (false, true) => Some(End::Bad),
            (false, false) => None,
        }
    }
}

/// Where the job of a source's events is read.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobPlaces {
    /// The places of the key; none if the events of the source have no job.
    pub(crate) keys: Vec<Template>,
    /// The rule of the provider, for the state.
    pub(crate) rule: Option<JobRule>,
}

impl JobPlaces {
    /// Reads the job of an event. `value` is the value of a template in the event.
    pub(crate) fn read(&self, value: impl Fn(&Template) -> Option<String>) -> Option<Job> {
        let key = self.keys.iter().find_map(&value)?;
        let Some(rule) = &self.rule else { return Some(Job { key, state: None, end: None }) };
        let state = rule.state.iter().find_map(&value);
        let end = rule.end(state.as_deref().unwrap_or_default());
        Some(Job { key, state, end })
    }
}

fn matches(pattern: &str, state: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => state.ends_with(end),
        None => state == pattern,
    }
}
