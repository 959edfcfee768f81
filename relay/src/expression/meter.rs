//! What makes an evaluation end: a meter that the program itself asks.
//!
//! [`instrument`] rewrites a syntax tree so that
//!
//! - each turn of a loop begins with `@step(@meter)`, which fails once the meter has run out. It stands where the
//!   macros put the customer's own expression, because the interpreter recognises the shapes of their loops and runs
//!   those without copying the list at every turn; the shapes are kept;
//! - what is copied or grows (the value of `a + b`, the elements of lists, the entries of maps) passes through
//!   `@charge(@meter, …)`, which takes its weight off the meter. A value that is not copied costs nothing.
//!
//! No customer can write these names: `@` is no letter of CEL. An error inside `&&`, `||`, `all` or `exists` can be
//! absorbed by the other operand, so what the meter says after the evaluation counts and not only its error.

use std::any::Any;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::common::types::{CelBool, DYN_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use super::value::weight;
use super::{ExpressionError, MAX_COPIED_BYTES, MAX_STEPS};

pub(super) const METER: &str = "@meter";
const STEP: &str = "@step";
const CHARGE: &str = "@charge";

static METER_TYPE: Type = Type::new_unspecified_type(METER);

/// What is left for one evaluation. It is used by one thread; the atomics are there because the interpreter hands
/// values out by shared reference.
#[derive(Debug)]
pub(super) struct Meter {
    steps: AtomicU64,
    bytes: AtomicU64,
    deadline: Instant,
    spent: AtomicU8,
}

const WITHIN: u8 = 0;
const OVER_BUDGET: u8 = 1;
const OVER_TIME: u8 = 2;

impl Meter {
    pub(super) fn new(deadline: Instant) -> Self {
        Self {
            steps: AtomicU64::new(MAX_STEPS),
            bytes: AtomicU64::new(MAX_COPIED_BYTES),
            deadline,
            spent: AtomicU8::new(WITHIN),
        }
    }

    /// Why the evaluation was ended, if it was.
    pub(super) fn verdict(&self) -> Result<(), ExpressionError> {
        match self.spent.load(Relaxed) {
            WITHIN => Ok(()),
            OVER_TIME => Err(ExpressionError::TooSlow),
            _ => Err(ExpressionError::TooExpensive),
        }
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

    /// Only there because the trait asks for it: nothing that is instrumented copies the meter.
    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(Self {
            steps: AtomicU64::new(self.steps.load(Relaxed)),
            bytes: AtomicU64::new(self.bytes.load(Relaxed)),
            deadline: self.deadline,
            spent: AtomicU8::new(self.spent.load(Relaxed)),
        })
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Meter {}

/// Adds the meter's functions to an environment.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload(STEP, STEP, vec![METER_TYPE.to_owned()], step)?;
    env.add_overload(CHARGE, CHARGE, vec![METER_TYPE.to_owned(), DYN_TYPE], charge)
}

fn step<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let meter = arguments.first().and_then(|meter| meter.downcast_ref::<Meter>());
    let meter = meter.ok_or_else(ExecutionError::missing_argument_or_target)?;
    meter.take(&meter.steps, 1)?;
    Ok(CowVal::owned(CelBool::from(true)))
}

fn charge<'b, 'v>(mut arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = arguments.pop().ok_or_else(ExecutionError::missing_argument_or_target)?;
    let meter = arguments.first().and_then(|meter| meter.downcast_ref::<Meter>());
    let meter = meter.ok_or_else(ExecutionError::missing_argument_or_target)?;
    meter.take(&meter.bytes, weight(value.as_ref(), MAX_COPIED_BYTES))?;
    Ok(value)
}

/// Puts the meter into a syntax tree.
pub(super) fn instrument(node: &mut IdedExpr) {
    match &mut node.expr {
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|target| instrument(target));
            call.args.iter_mut().for_each(instrument);
            if call.func_name == operators::ADD {
                wrap(node, charged);
            }
        }
        Expr::Comprehension(comprehension) => instrument_loop(comprehension),
        Expr::List(list) => list.elements.iter_mut().for_each(instrument_copied),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| instrument_entry(&mut entry.expr)),
        Expr::Struct(structure) => structure.entries.iter_mut().for_each(|entry| instrument_entry(&mut entry.expr)),
        Expr::Select(select) => instrument(&mut select.operand),
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}

fn instrument_copied(node: &mut IdedExpr) {
    instrument(node);
    wrap(node, charged);
}

fn instrument_entry(entry: &mut EntryExpr) {
    match entry {
        EntryExpr::StructField(field) => instrument_copied(&mut field.value),
        EntryExpr::MapEntry(entry) => {
            instrument_copied(&mut entry.key);
            instrument_copied(&mut entry.value);
        }
    }
}

/// The steps of the standard macros, where `x` is the customer's: `@result && x`, `@result || x`,
/// `x ? @result + … : @result`, `@result + [x]`.
fn instrument_loop(comprehension: &mut ComprehensionExpr) {
    instrument(&mut comprehension.iter_range);
    instrument(&mut comprehension.result);
    let accumulator = comprehension.accu_var.clone();
    let Expr::Call(call) = &mut comprehension.loop_step.expr else {
        return wrap(&mut comprehension.loop_step, stepped);
    };
    let customers = match (call.func_name.as_str(), call.args.as_mut_slice()) {
        (operators::LOGICAL_AND | operators::LOGICAL_OR, [_, condition]) => condition,
        (operators::CONDITIONAL, [condition, step, _]) => {
            if let Some(element) = appended(step, &accumulator) {
                instrument_copied(element);
            }
            condition
        }
        _ => match appended(&mut comprehension.loop_step, &accumulator) {
            Some(element) => {
                instrument_copied(element);
                return wrap(element, stepped);
            }
            None => &mut comprehension.loop_step,
        },
    };
    instrument(customers);
    wrap(customers, stepped);
}

/// The `x` of `@result + [x]`.
fn appended<'a>(step: &'a mut IdedExpr, accumulator: &str) -> Option<&'a mut IdedExpr> {
    let Expr::Call(call) = &mut step.expr else { return None };
    match (call.func_name.as_str(), call.args.as_mut_slice()) {
        (operators::ADD, [IdedExpr { expr: Expr::Ident(name), .. }, IdedExpr { expr: Expr::List(list), .. }])
            if name == accumulator =>
        {
            list.elements.first_mut()
        }
        _ => None,
    }
}

fn wrap(node: &mut IdedExpr, with: fn(IdedExpr) -> Expr) {
    let id = node.id;
    let inner = std::mem::take(node);
    *node = IdedExpr { id, expr: with(inner) };
}

fn charged(inner: IdedExpr) -> Expr {
    call(CHARGE, vec![ident(METER), inner])
}

/// `@step(@meter) ? inner : false`: the second branch is never taken, for `@step` is true or fails.
fn stepped(inner: IdedExpr) -> Expr {
    let step = IdedExpr { id: 0, expr: call(STEP, vec![ident(METER)]) };
    let never = IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Boolean(false.into())) };
    call(operators::CONDITIONAL, vec![step, inner, never])
}

fn call(name: &str, args: Vec<IdedExpr>) -> Expr {
    Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args })
}

fn ident(name: &str) -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Ident(name.to_owned()) }
}
