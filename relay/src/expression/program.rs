//! A compiled expression and its evaluation.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use cel::common::ast::IdedExpr;
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, ExecutionError, Value};

use super::compile;
use super::input::Input;
use super::meter::{METER, Meter};
use super::{ExpressionError, MAX_BODY_BYTES};

/// The longest part of the interpreter's messages that is kept: some hold a whole value of the event.
const MAX_MESSAGE_CHARS: usize = 300;

#[derive(Debug)]
pub(super) struct Program {
    expression: IdedExpr,
    uses_body: bool,
}

impl Program {
    pub(super) fn compile(source: &str) -> Result<Self, ExpressionError> {
        compile::compile(source).map(|(expression, uses_body)| Self { expression, uses_body })
    }

    pub(super) fn uses_body(&self) -> bool {
        self.uses_body
    }

    /// Evaluates and hands the value to `read`.
    pub(super) fn evaluate<T>(
        &self,
        input: &Input,
        deadline: Duration,
        read: fn(&dyn Val) -> Result<T, ExpressionError>,
    ) -> Result<T, ExpressionError> {
        if self.uses_body && input.body_bytes() > MAX_BODY_BYTES {
            return Err(ExpressionError::BodyTooLarge(input.body_bytes()));
        }
        // A caller's mistake, which must decide nothing.
        if self.uses_body && !input.has_body() {
            return Err(ExpressionError::Internal);
        }
        let meter = Meter::new(Instant::now() + deadline);
        let names = Names { input, meter: &meter };
        let mut context = Context::with_env(compile::environment());
        context.set_variable_resolver(&names);
        // The interpreter has panics in places that it holds unreachable. Nothing of ours is half changed by one.
        let result = catch_unwind(AssertUnwindSafe(|| {
            let value = Value::resolve_val(&self.expression, &context).map_err(|error| explain(&error))?;
            read(value.as_ref())
        }));
        meter.verdict()?;
        result.unwrap_or(Err(ExpressionError::Internal))
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
