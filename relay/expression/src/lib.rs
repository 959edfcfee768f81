//! Filters, order keys and transforms: expressions about an event that a customer writes in CEL (Common Expression
//! Language, cel.dev).
//!
//! An expression can use three names:
//!
//! | name | value |
//! |---|---|
//! | `event` | `id`, `source`, `method`, `query`: text. `type`, `provider_event_id`: text or `null`. `received_at`: RFC 3339 text, `received_at_ms`: number |
//! | `headers` | a map from lower-case names to text; the values of a repeated header are joined with `", "` (RFC 9110 section 5.3) |
//! | `body` | the result of [`shared::reader`]: the JSON value, or an object of the fields of a form; otherwise the text, if it is text; otherwise `null`, as for an empty body |
//!
//! Literal header names match in any case. Integers of the body are `int` or `uint`, and other numbers are `double`. A
//! number that fits none of them keeps its digits (see `number`).
//!
//! A **filter** must return a boolean. A filter that fails, most often at a field that this event does not have, does
//! not match; the error is the reason that the operator sees. A filter that is stopped before it can read the event
//! decides nothing ([`ExpressionError::cannot_read_body`]). `has(body.customer.email) && …` or
//! `body.?customer.?email.orValue("")` test for a field without failing. An **order key** returns any value that JSON
//! can represent: events with the same value are delivered one after the other, and `null` or the empty text means no
//! order. A **transform** returns the new body: text is sent as `text/plain`, bytes as `application/octet-stream`, and
//! every other value as JSON.
//!
//! # What an expression may cost
//!
//! The interpreter (crate `cel`) has no limits of its own, and a short expression can cause any amount of work or
//! memory. So a program is rewritten when it is compiled: each iteration of a loop, each copy, and each call and
//! comparison that reads a long text charges a meter first (see `meter`). The meter stops an evaluation from within
//! after [`MAX_STEPS`] or [`MAX_COPIED_BYTES`], and the evaluations of one event after [`MAX_STEPS_OF_EVENT`]. Both
//! depend only on the expressions and the event, so the same event always gets the same result. [`DEADLINE`] is an
//! additional safeguard. Exceeding it is a fault of the relay ([`ExpressionError::is_ours`]) and decides nothing about
//! a delivery. Size, nesting, names and the patterns of `matches` are checked when an expression is saved.
//!
//! Filters and order keys have their own threads, and so do transforms: neither waits for the other. On each pool of
//! threads, sources take turns (see `lines`).

use std::sync::Arc;
use std::time::Duration;

pub mod compile;
mod error;
mod evaluator;
mod input;
mod instrument;
mod lines;
mod meter;
mod never;
pub mod number;
mod pattern;
mod program;
#[cfg(test)]
mod tests;
mod trial;
mod value;

pub use error::{ExpressionError, Position};
pub use evaluator::{Evaluator, Turn};
pub use input::{EventFields, Input};
pub use trial::{Measured, Trial, Tried};

use program::{Evaluated, Limits, Program};

/// The longest expression, in bytes.
pub const MAX_SOURCE_BYTES: usize = 4 * 1024;

/// The maximum nesting of an expression, counted in the nodes of its syntax tree.
pub const MAX_DEPTH: usize = 64;

/// How deeply loops (`all`, `exists`, `exists_one`, `map`, `filter`) may be nested. Chained loops, where one works on
/// the result of another, do not count.
pub const MAX_NESTED_LOOPS: usize = 2;

/// The largest body that expressions can read, in bytes. `event` and `headers` are available for any event.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// The largest result of a transform, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 1024 * 1024;

/// The maximum work of one evaluation, in steps. A step takes about 100 nanoseconds, see `meter`.
pub const MAX_STEPS: u64 = 2_000_000;

/// The maximum work of the filters of one event, and separately of its order keys, in steps, over all routes of its
/// source.
pub const MAX_STEPS_OF_EVENT: u64 = 3 * MAX_STEPS;

/// The maximum number of bytes that one evaluation may copy into new text, lists and maps.
pub const MAX_COPIED_BYTES: u64 = 16 * 1024 * 1024;

/// The largest compiled size of the patterns of `matches` in one expression, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1024 * 1024;

/// The time limit of one evaluation. Only an overloaded machine takes this long for [`MAX_STEPS`].
pub const DEADLINE: Duration = Duration::from_secs(5);

/// The maximum length of the parser's and the interpreter's messages, in characters: some contain a whole value of the
/// event.
const MAX_MESSAGE_CHARS: usize = 300;

/// An expression that decides whether an event is delivered to a route's destination. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Filter(Arc<Program>);

impl Filter {
    /// Compiles an expression. This takes about a millisecond, or longer for a hostile expression: keep the result, and
    /// do not call it on a thread that serves other callers.
    ///
    /// # Errors
    /// Returns an error if the expression is invalid, with the position.
    pub fn compile(source: &str) -> Result<Self, ExpressionError> {
        Program::compile(source).map(|program| Self(Arc::new(program)))
    }

    /// Checks whether an expression may be saved: it has to compile, and no part of it may be one that can never have a
    /// value, such as a field that `event` does not have, or a text in place of a condition.
    ///
    /// # Errors
    /// Returns an error if the expression is invalid, with the position.
    pub fn check(source: &str) -> Result<(), ExpressionError> {
        Program::check(source, true)
    }

    /// Whether the event matches. Needs a stack of some hundred kilobytes and up to [`DEADLINE`]: on threads that serve
    /// other callers use [`Evaluator::matches`].
    ///
    /// # Errors
    /// Returns why the expression has no boolean value for this event. That means "not matched" unless
    /// [`ExpressionError::is_ours`] or [`ExpressionError::cannot_read_body`].
    pub fn matches(&self, input: &Input) -> Result<bool, ExpressionError> {
        self.evaluate(input, MAX_STEPS).result
    }

    fn evaluate(&self, input: &Input, steps: u64) -> Evaluated<bool> {
        self.0.evaluate(input, Limits { steps, ..Limits::default() }, value::boolean)
    }

    /// Whether the filter reads `body`; false only if it cannot. A filter that reads it has the same result for a body
    /// of more than [`MAX_BODY_BYTES`] without that body: see [`Input::without_body`].
    #[must_use]
    pub fn uses_body(&self) -> bool {
        self.0.uses_body()
    }
}

/// An expression whose value is sent instead of an event's body. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Transform(Arc<Program>);

/// An expression whose value determines which events are delivered one after the other. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OrderKey(Arc<Program>);

impl OrderKey {
    /// Compiles an expression, as [`Filter::compile`].
    ///
    /// # Errors
    /// Returns an error if the expression is invalid, with the position.
    pub fn compile(source: &str) -> Result<Self, ExpressionError> {
        Program::compile(source).map(|program| Self(Arc::new(program)))
    }

    /// Checks whether an expression may be saved: it has to compile, and no part of it may be one that can never have a
    /// value, such as a field that `event` does not have.
    ///
    /// # Errors
    /// Returns an error if the expression is invalid, with the position.
    pub fn check(source: &str) -> Result<(), ExpressionError> {
        Program::check(source, false)
    }

    /// A hash of the event's key; `None` if the value is `null` or the empty text. As for [`Filter::matches`], use
    /// [`Evaluator::order_keys`] on threads that serve other callers.
    ///
    /// # Errors
    /// Returns why the expression has no value for this event.
    pub fn hash(&self, input: &Input) -> Result<Option<i64>, ExpressionError> {
        self.evaluate(input, MAX_STEPS).result
    }

    fn evaluate(&self, input: &Input, steps: u64) -> Evaluated<Option<i64>> {
        self.0.evaluate(input, Limits { steps, ..Limits::default() }, value::key_hash)
    }

    fn program(&self) -> &Program {
        &self.0
    }
}

/// The result of a transform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transformed {
    /// At most [`MAX_OUTPUT_BYTES`].
    pub body: Vec<u8>,
    pub content_type: &'static str,
}

impl Transform {
    /// Compiles an expression, as [`Filter::compile`].
    ///
    /// # Errors
    /// Returns an error if the expression is invalid, with the position.
    pub fn compile(source: &str) -> Result<Self, ExpressionError> {
        Program::compile(source).map(|program| Self(Arc::new(program)))
    }

    /// Checks whether an expression may be saved: it has to compile, and no part of it may be one that can never have a
    /// value, such as a field that `event` does not have.
    ///
    /// # Errors
    /// Returns an error if the expression is invalid, with the position.
    pub fn check(source: &str) -> Result<(), ExpressionError> {
        Program::check(source, false)
    }

    /// The new body. The names of JSON objects are in alphabetical order, so that the same event always results in the
    /// same bytes. As for [`Filter::matches`], use [`Evaluator::apply`] on threads that serve other callers.
    ///
    /// # Errors
    /// Returns why the expression has no value for this event, or none that can be sent.
    pub fn apply(&self, input: &Input) -> Result<Transformed, ExpressionError> {
        self.evaluate(input).result
    }

    fn evaluate(&self, input: &Input) -> Evaluated<Transformed> {
        self.0.evaluate(input, Limits::default(), value::body)
    }
}
