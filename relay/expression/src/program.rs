//! A compiled expression and its evaluation.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cel::common::ast::IdedExpr;
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, ExecutionError, Value};

use super::compile::{self, Compiled};
use super::input::Input;
use super::meter::{METER, Meter};
use super::pattern::Patterns;
use super::{DEADLINE, ExpressionError, MAX_MESSAGE_CHARS, MAX_STEPS};

#[derive(Debug)]
pub(super) struct Program {
    expression: IdedExpr,
    patterns: Arc<Patterns>,
    uses_body: bool,
    nodes: u64,
}

/// The limits of an evaluation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) steps: u64,
    pub(super) deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: MAX_STEPS, deadline: DEADLINE }
    }
}

/// The result of an evaluation and the steps that it took. If it needed more steps than it was given, all of them count
/// as taken.
pub(super) struct Evaluated<T> {
    pub(super) result: Result<T, ExpressionError>,
    pub(super) steps: u64,
}

impl Program {
    pub(super) fn compile(source: &str) -> Result<Self, ExpressionError> {
        let Compiled { expression, patterns, uses_body, nodes, .. } = compile::compile(source)?;
        Ok(Self { expression, patterns: Arc::new(patterns), uses_body, nodes })
    }

    /// Compiles an expression that is to be saved, and rejects one that can never have a value.
    pub(super) fn check(source: &str, is_condition: bool) -> Result<(), ExpressionError> {
        let Compiled { never, no_condition, .. } = compile::compile(source)?;
        never.or(no_condition.filter(|_| is_condition)).map_or(Ok(()), Err)
    }

    pub(super) fn uses_body(&self) -> bool {
        self.uses_body
    }

    /// Evaluates the expression and passes its value to `read`.
    pub(super) fn evaluate<T>(
        &self,
        input: &Input,
        limits: Limits,
        read: fn(&dyn Val) -> Result<T, ExpressionError>,
    ) -> Evaluated<T> {
        if let Some(error) = self.uses_body.then(|| input.body_problem()).flatten() {
            return Evaluated { result: Err(error), steps: 0 };
        }
        let meter = Meter::new(limits.steps, Instant::now() + limits.deadline, Arc::clone(&self.patterns));
        let names = Names { input, meter: &meter };
        let mut context = Context::with_env(compile::environment());
        context.set_variable_resolver(&names);
        // The interpreter panics in places that it considers unreachable. A panic leaves no state of the relay half
        // changed.
        let result = catch_unwind(AssertUnwindSafe(|| {
            meter.work(self.nodes).map_err(|error| explain(&error))?;
            let value = Value::resolve_val(&self.expression, &context).map_err(|error| explain(&error))?;
            read(value.as_ref())
        }));
        let result = meter.verdict().and_then(|()| result.unwrap_or(Err(ExpressionError::Internal)));
        Evaluated { result, steps: limits.steps - meter.left() }
    }
}

struct Names<'a> {
    input: &'a Input,
    meter: &'a Meter,
}

impl VariableResolver for Names<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let value = if name == METER { Some(self.meter as &dyn Val) } else { self.input.get(name) };
        value.map(CowVal::Borrowed)
    }
}

fn explain(error: &ExecutionError) -> ExpressionError {
    if let ExecutionError::NoSuchKey(name) = error {
        return ExpressionError::MissingField(name.to_string());
    }
    ExpressionError::Evaluation(error.to_string().chars().take(MAX_MESSAGE_CHARS).collect())
}
