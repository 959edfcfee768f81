//! The errors of an expression, when it is saved and when it is evaluated.

use std::fmt;

use super::{
    MAX_BODY_BYTES, MAX_COPIED_BYTES, MAX_DEPTH, MAX_NESTED_LOOPS, MAX_OUTPUT_BYTES, MAX_PATTERN_BYTES,
    MAX_SOURCE_BYTES, MAX_STEPS, MAX_STEPS_OF_EVENT,
};

/// A place in an expression: line and column, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why an expression cannot be saved, or has no value for an event. The text is for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Only white space.
    #[error("the expression is empty; omit it if you do not need one")]
    Empty,
    /// Longer than [`MAX_SOURCE_BYTES`].
    #[error("the expression is {0} bytes long; the limit is {MAX_SOURCE_BYTES} bytes")]
    SourceTooLong(usize),
    /// Not CEL.
    #[error("{position}: {message}")]
    Syntax { position: Position, message: String },
    /// A name that is neither predefined nor bound by a loop.
    #[error("{position}: \"{name}\" is not defined; an expression can use event, headers and body")]
    UnknownName { position: Position, name: String },
    /// A field that no event has.
    #[error(
        "{position}: event has no field \"{name}\"; its fields are id, type, source, provider_event_id, received_at, \
         received_at_ms, method and query. The provider's data is in body and headers"
    )]
    UnknownField { position: Position, name: String },
    /// A text in place of a header name, which no header name can be.
    #[error("{position}: \"{name}\" is not a valid header name; use one such as x-github-event")]
    NotHeaderName { position: Position, name: String },
    /// A literal in a place where only a boolean is meaningful.
    #[error("{position}: expected a boolean, but found {kind}; use a comparison such as event.type == 'push'")]
    LiteralNotBoolean { position: Position, kind: &'static str },
    /// A function that does not exist, or a macro with the wrong number of arguments.
    #[error("{position}: there is no function \"{name}\" with these arguments")]
    UnknownFunction { position: Position, name: String },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("the expression is nested more than {MAX_DEPTH} levels deep; simplify it, or split it into several routes")]
    TooDeep,
    /// Loops nested deeper than [`MAX_NESTED_LOOPS`].
    #[error("more than {MAX_NESTED_LOOPS} loops (all, exists, map, filter …) are nested; chain them instead")]
    TooManyNestedLoops,
    /// The pattern of `matches` is not a literal, so it cannot be compiled when the expression is saved.
    #[error("{position}: the pattern of matches() must be a string literal, such as matches('^a+$')")]
    PatternNotLiteral { position: Position },
    /// The pattern of `matches` is not a regular expression.
    #[error("{position}: the pattern of matches() is not a valid regular expression: {message}")]
    PatternSyntax { position: Position, message: String },
    /// The patterns of `matches` together are larger than [`MAX_PATTERN_BYTES`].
    #[error(
        "{position}: the patterns of all matches() calls exceed {MAX_PATTERN_BYTES} bytes when compiled; use shorter \
         repetitions, or [A-Za-z0-9_] instead of \\w and [0-9] instead of \\d"
    )]
    PatternTooLarge { position: Position },
    /// Compiling took too long.
    #[error("the expression takes too long to compile; simplify it")]
    CompileTooSlow,
    /// The expression reads a body that is larger than [`MAX_BODY_BYTES`].
    #[error("the body is {0} bytes long; expressions can read bodies of up to {MAX_BODY_BYTES} bytes")]
    BodyTooLarge(usize),
    /// The expression reads a body that becomes too large when it is decoded: larger than [`MAX_BODY_BYTES`] or than
    /// [`shared::reader::decoded_limit`] allows, or a form with too many fields.
    #[error(
        "the decoded body is too large for an expression: more than {MAX_BODY_BYTES} bytes, more than 32 times the \
         compressed size, or a form with more than 10000 fields"
    )]
    DecodedBodyTooLarge,
    /// The expression reads a body whose JSON is nested too deeply.
    #[error("the JSON of the body is nested too deeply for an expression")]
    BodyTooDeep,
    /// A field, key or index that the event does not have.
    #[error("the event has no \"{0}\"; test for it with has(…), or use .?name.orValue(…)")]
    MissingField(String),
    /// Another error of the evaluation, such as comparing text with a number.
    #[error("{0}")]
    Evaluation(String),
    /// A filter's value is not a boolean.
    #[error("the filter returned a value of type {0}, but must return true or false")]
    NotBoolean(String),
    /// A transform's value, or a part of it, cannot be written as JSON.
    #[error("the transform returned {0}, which JSON cannot represent")]
    NotJson(String),
    /// A transform's value is larger than [`MAX_OUTPUT_BYTES`].
    #[error("the transform returned more than {MAX_OUTPUT_BYTES} bytes; reduce its output")]
    OutputTooLarge,
    /// More work than [`MAX_STEPS`], or more bytes copied than [`MAX_COPIED_BYTES`].
    #[error(
        "the expression needs too much work for this event (more than {MAX_STEPS} steps or {MAX_COPIED_BYTES} bytes \
         copied); simplify it"
    )]
    TooExpensive,
    /// The filters, or the order keys, of the routes before this one have used up [`MAX_STEPS_OF_EVENT`].
    #[error(
        "together, the expressions of all routes of this source need too much work for this event (more than \
         {MAX_STEPS_OF_EVENT} steps); simplify them"
    )]
    TooExpensiveTogether,
    /// The relay was too busy to evaluate it in time.
    #[error("the relay was too busy to evaluate the expression in time")]
    TooSlow,
    /// The queue of evaluations or compilations is full.
    #[error(
        "too many expressions are being compiled or evaluated; the relay retries stored events automatically, and a \
         route can be saved again in a moment"
    )]
    Busy,
    /// An internal error: a panic of the interpreter, or a bug.
    #[error("the expression could not be evaluated because of an internal error")]
    Internal,
}

impl ExpressionError {
    /// A stable code of the kind of error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "expression_empty",
            Self::SourceTooLong(_) => "expression_too_long",
            Self::Syntax { .. } => "expression_syntax",
            Self::UnknownName { .. } => "expression_unknown_name",
            Self::UnknownField { .. } => "expression_unknown_field",
            Self::NotHeaderName { .. } => "expression_not_header_name",
            Self::LiteralNotBoolean { .. } => "expression_not_boolean",
            Self::UnknownFunction { .. } => "expression_unknown_function",
            Self::TooDeep => "expression_too_deep",
            Self::TooManyNestedLoops => "expression_too_many_nested_loops",
            Self::PatternNotLiteral { .. } => "expression_pattern_not_literal",
            Self::PatternSyntax { .. } => "expression_pattern_syntax",
            Self::PatternTooLarge { .. } => "expression_pattern_too_large",
            Self::CompileTooSlow => "expression_compile_too_slow",
            Self::BodyTooLarge(_) | Self::DecodedBodyTooLarge => "expression_body_too_large",
            Self::BodyTooDeep => "expression_body_too_deep",
            Self::MissingField(_) => "expression_missing_field",
            Self::Evaluation(_) => "expression_failed",
            Self::NotBoolean(_) => "expression_not_boolean",
            Self::NotJson(_) => "expression_not_json",
            Self::OutputTooLarge => "expression_output_too_large",
            Self::TooExpensive => "expression_too_expensive",
            Self::TooExpensiveTogether => "expression_too_expensive_together",
            Self::TooSlow => "expression_too_slow",
            Self::Busy => "expression_busy",
            Self::Internal => "expression_internal",
        }
    }

    /// Whether the relay and not the expression is the cause: the same evaluation may succeed later, so this one should
    /// decide nothing.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        match self {
            Self::TooSlow | Self::Busy | Self::Internal => true,
            Self::Empty
            | Self::SourceTooLong(_)
            | Self::Syntax { .. }
            | Self::UnknownName { .. }
            | Self::UnknownField { .. }
            | Self::NotHeaderName { .. }
            | Self::LiteralNotBoolean { .. }
            | Self::UnknownFunction { .. }
            | Self::TooDeep
            | Self::TooManyNestedLoops
            | Self::PatternNotLiteral { .. }
            | Self::PatternSyntax { .. }
            | Self::PatternTooLarge { .. }
            | Self::CompileTooSlow
            | Self::BodyTooLarge(_)
            | Self::DecodedBodyTooLarge
            | Self::BodyTooDeep
            | Self::MissingField(_)
            | Self::Evaluation(_)
            | Self::NotBoolean(_)
            | Self::NotJson(_)
            | Self::OutputTooLarge
            | Self::TooExpensive
            | Self::TooExpensiveTogether => false,
        }
    }

    /// Whether the expression was stopped before it could read the event: it says nothing about the event, and fails in
    /// the same way each time until the expression is changed.
    #[must_use]
    pub fn cannot_read_body(&self) -> bool {
        matches!(
            self,
            Self::BodyTooLarge(_)
                | Self::DecodedBodyTooLarge
                | Self::BodyTooDeep
                | Self::TooExpensive
                | Self::TooExpensiveTogether
        )
    }
}
