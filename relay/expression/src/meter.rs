//! Limits an evaluation: a meter that the program itself calls.
//!
//! Work is counted in steps. A step is an amount of work that takes about 100 nanoseconds: one evaluation of a node of
//! the syntax tree, reading [`SCANNED_PER_STEP`] bytes of a text, and so on. The count depends only on the expression
//! and the event, so the same event always gets the same result, however busy the machine is. Each operation is charged
//! before it runs, so none costs more than the rest of the budget.
//!
//! `instrument` rewrites a syntax tree so that it calls the functions that are declared here. An expression cannot
//! contain their names, because `@` is not allowed in CEL names. An error inside `&&`, `||`, `all` or `exists` can be
//! absorbed by the other operand, so the meter's verdict after the evaluation counts, and not only its error.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::time::Instant;

use cel::common::types::{CelBool, CelInt, CelMap, CelString, DYN_TYPE, INT_TYPE, STRING_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use super::pattern::{Patterns, steps};
use super::value::{text_bytes, weight};
use super::{ExpressionError, MAX_COPIED_BYTES, number};

/// The name of the meter of the evaluation.
pub(super) const METER: &str = "@meter";
/// `@step(@meter, n)`: returns true; charges an iteration of a loop with `n` steps.
pub(super) const STEP: &str = "@step";
/// `@charge(@meter, value)`: returns the value, which is about to be copied.
pub(super) const CHARGE: &str = "@charge";
/// `@scan(@meter, value)`: returns the value, which a function is about to read if it is text.
pub(super) const SCAN: &str = "@scan";
/// `@compare(@meter, value)`: returns the value, which is about to be compared in all its parts.
pub(super) const COMPARE: &str = "@compare";
/// `@search(@meter, value)`: returns the value, in which another one is about to be searched for.
pub(super) const SEARCH: &str = "@search";
/// `@match(@meter, text, pattern)`: whether the text matches.
pub(super) const MATCH: &str = "@match";

/// How many bytes of a text are read in a step.
const SCANNED_PER_STEP: u64 = 256;

/// How many bytes of values are compared or copied in a step. A value counts at least 32 bytes in addition to its text.
const COMPARED_PER_STEP: u64 = 64;

static METER_TYPE: Type = Type::new_unspecified_type(METER);

/// The rest of the budget of one evaluation. Only one thread uses it; it has atomics because the interpreter passes
/// values by shared reference.
#[derive(Debug)]
pub(super) struct Meter {
    steps: AtomicU64,
    bytes: AtomicU64,
    deadline: Instant,
    spent: AtomicU8,
    patterns: Arc<Patterns>,
}

const WITHIN: u8 = 0;
const OVER_BUDGET: u8 = 1;
const OVER_TIME: u8 = 2;

impl Meter {
    pub(super) fn new(steps: u64, deadline: Instant, patterns: Arc<Patterns>) -> Self {
        Self {
            steps: AtomicU64::new(steps),
            bytes: AtomicU64::new(MAX_COPIED_BYTES),
            deadline,
            spent: AtomicU8::new(WITHIN),
            patterns,
        }
    }

    /// Why the evaluation was stopped, if it was.
    pub(super) fn verdict(&self) -> Result<(), ExpressionError> {
        match self.spent.load(Relaxed) {
            WITHIN => Ok(()),
            OVER_TIME => Err(ExpressionError::TooSlow),
            _ => Err(ExpressionError::TooExpensive),
        }
    }

    /// The steps that are left; none if the evaluation was stopped because of its cost.
    pub(super) fn left(&self) -> u64 {
        if self.spent.load(Relaxed) == OVER_BUDGET { 0 } else { self.steps.load(Relaxed) }
    }

    /// Charges work that is about to be done.
    pub(super) fn work(&self, steps: u64) -> Result<(), ExecutionError> {
        self.take(&self.steps, steps)
    }

    fn copy(&self, value: &dyn Val) -> Result<(), ExecutionError> {
        let bytes = weight(value, MAX_COPIED_BYTES);
        self.take(&self.bytes, bytes)?;
        // Copying a value of a few bytes is part of the step that made it.
        self.work(bytes / COMPARED_PER_STEP)
    }

    fn compare(&self, value: &dyn Val) -> Result<(), ExecutionError> {
        let enough = self.steps.load(Relaxed).saturating_mul(COMPARED_PER_STEP);
        self.work(weight(value, enough) / COMPARED_PER_STEP)
    }

    fn take(&self, budget: &AtomicU64, amount: u64) -> Result<(), ExecutionError> {
        if self.spent.load(Relaxed) == WITHIN {
            match budget.load(Relaxed).checked_sub(amount) {
                None => self.spent.store(OVER_BUDGET, Relaxed),
                Some(_) if Instant::now() > self.deadline => self.spent.store(OVER_TIME, Relaxed),
                Some(left) => {
                    budget.store(left, Relaxed);
                    return Ok(());
                }
            }
        }
        Err(ExecutionError::function_error(METER, "spent"))
    }
}

impl Val for Meter {
    fn get_type(&self) -> &Type {
        &METER_TYPE
    }

    fn cel_type() -> &'static Type {
        &METER_TYPE
    }

    /// Only required by the trait: nothing that is instrumented copies the meter.
    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(Self {
            steps: AtomicU64::new(self.steps.load(Relaxed)),
            bytes: AtomicU64::new(self.bytes.load(Relaxed)),
            deadline: self.deadline,
            spent: AtomicU8::new(self.spent.load(Relaxed)),
            patterns: Arc::clone(&self.patterns),
        })
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Meter {}

/// Adds the meter's functions, and those of [`number`], to an environment.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    number::declare(env)?;
    let of_value = || vec![METER_TYPE.to_owned(), DYN_TYPE];
    env.add_overload(STEP, STEP, vec![METER_TYPE.to_owned(), INT_TYPE], step)?;
    env.add_overload(CHARGE, CHARGE, of_value(), |arguments| pass(arguments, Meter::copy))?;
    env.add_overload(SCAN, SCAN, of_value(), |arguments| {
        pass(arguments, |meter, value| meter.work(steps(text_bytes(value), SCANNED_PER_STEP)))
    })?;
    env.add_overload(COMPARE, COMPARE, of_value(), |arguments| pass(arguments, Meter::compare))?;
    env.add_overload(SEARCH, SEARCH, of_value(), |arguments| {
        pass(arguments, |meter, value| {
            // A map is searched by the hash of the key.
            if value.downcast_ref::<CelMap<'_>>().is_some() { meter.work(1) } else { meter.compare(value) }
        })
    })?;
    env.add_overload(MATCH, MATCH, vec![METER_TYPE.to_owned(), STRING_TYPE, STRING_TYPE], is_match)
}

fn meter_of<'a>(arguments: &'a [CowVal<'_, '_>]) -> Result<&'a Meter, ExecutionError> {
    let meter = arguments.first().and_then(|meter| meter.downcast_ref::<Meter>());
    meter.ok_or_else(ExecutionError::missing_argument_or_target)
}

fn step<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let steps = arguments.get(1).and_then(|steps| steps.downcast_ref::<CelInt>());
    let steps = steps.and_then(|steps| u64::try_from(*steps.inner()).ok());
    meter_of(&arguments)?.work(steps.ok_or_else(ExecutionError::missing_argument_or_target)?)?;
    Ok(CowVal::owned(CelBool::from(true)))
}

/// Charges a value and returns it.
fn pass<'b, 'v>(
    mut arguments: Vec<CowVal<'b, 'v>>,
    charge: fn(&Meter, &dyn Val) -> Result<(), ExecutionError>,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = arguments.pop().ok_or_else(ExecutionError::missing_argument_or_target)?;
    charge(meter_of(&arguments)?, value.as_ref())?;
    Ok(value)
}

fn is_match<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let meter = meter_of(&arguments)?;
    let text = |at: usize| arguments.get(at).and_then(|value| value.downcast_ref::<CelString<'_>>());
    let (Some(text), Some(pattern)) = (text(1), text(2)) else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    let pattern = meter.patterns.get(pattern.inner());
    let pattern = pattern.ok_or_else(|| ExecutionError::function_error(MATCH, "the pattern was not compiled"))?;
    meter.work(pattern.cost(text.inner().len()))?;
    Ok(CowVal::owned(CelBool::from(pattern.is_match(text.inner()))))
}
