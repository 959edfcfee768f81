//! The regular expressions of `matches`: compiled with the expression that contains them, and limited in size.
//!
//! A search takes time in proportion to the length of the text times the size of the compiled pattern. Both are known
//! before the search, so the meter is charged before it.

use std::collections::HashMap;

use regex_automata::meta;
use regex_automata::nfa::thompson::{self, WhichCaptures};

use super::MAX_PATTERN_BYTES;

/// How many steps an amount of work costs, rounded up.
pub(super) fn steps(amount: u64, per_step: u64) -> u64 {
    amount.div_ceil(per_step)
}

/// The maximum size of the cache of a search, in bytes. Beyond it the cache is cleared.
const SEARCH_CACHE_BYTES: usize = 256 * 1024;

/// How many states of a pattern a search visits in one step. A byte of the text may visit all of them.
const STATES_PER_STEP: u64 = 32;

/// Why a pattern is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PatternError {
    /// Not a regular expression; the text says why.
    Syntax(String),
    /// The patterns of the expression together are larger than [`MAX_PATTERN_BYTES`].
    TooLarge,
}

/// The patterns of one expression, by their text.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    by_text: HashMap<String, Pattern>,
    /// Their compiled size, in bytes.
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct Pattern {
    regex: meta::Regex,
    states: u64,
}

impl Patterns {
    /// Compiles a pattern, unless it has been compiled already.
    pub(super) fn add(&mut self, text: &str) -> Result<(), PatternError> {
        if self.by_text.contains_key(text) {
            return Ok(());
        }
        let room = MAX_PATTERN_BYTES.saturating_sub(self.bytes);
        let config = thompson::Config::new().nfa_size_limit(Some(room)).which_captures(WhichCaptures::None);
        let nfa = thompson::Compiler::new().configure(config).build(text).map_err(|error| {
            if error.size_limit().is_some() {
                PatternError::TooLarge
            } else {
                // The cause says what is wrong; the error itself says only that something is.
                let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                PatternError::Syntax(cause)
            }
        })?;
        let config = meta::Config::new()
            .nfa_size_limit(Some(MAX_PATTERN_BYTES))
            .hybrid_cache_capacity(SEARCH_CACHE_BYTES)
            .which_captures(WhichCaptures::Implicit);
        let regex = meta::Regex::builder().configure(config).build(text).map_err(|_| PatternError::TooLarge)?;
        self.bytes += nfa.memory_usage();
        let states = u64::try_from(nfa.states().len()).unwrap_or(u64::MAX);
        self.by_text.insert(text.to_owned(), Pattern { regex, states });
        Ok(())
    }

    pub(super) fn get(&self, text: &str) -> Option<&Pattern> {
        self.by_text.get(text)
    }
}

impl Pattern {
    /// The maximum cost of a search in a text of `text_bytes` bytes, in steps.
    pub(super) fn cost(&self, text_bytes: usize) -> u64 {
        let bytes = u64::try_from(text_bytes).unwrap_or(u64::MAX);
        // A search in an empty text also prepares an entry for every state.
        steps(bytes.saturating_add(1).saturating_mul(self.states), STATES_PER_STEP)
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}
