//! Numbers that fit neither `int`, `uint` nor `double`.
//!
//! | operation | result |
//! |---|---|
//! | comparison with a number of the body, or with an `int` or `uint` | the digits decide |
//! | comparison with a `double` | the nearest double decides, because a literal `double` has no more digits |
//! | it is passed on by a transform, or is an order key | its digits |
//! | `string(…)` | its digits |
//! | `+ - * / %`, `double(…)`, `int(…)`, `uint(…)` | as for the nearest double |
//!
//! The interpreter calls only the left operand to find out whether it is equal or less, and its own numbers do not
//! support these. So `instrument` puts [`COMPARABLE`] around a left operand whose right one could be such a number, and
//! [`NEAREST`] around the operands of arithmetic.

use std::any::Any;
use std::cmp::Ordering;

use cel::common::traits::{Comparer, Negator};
use cel::common::types::{CelDouble, CelInt, CelString, CelUInt, DYN_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError, Value};

/// `@comparable(value)`: a number in a form that can be compared with every other; any other value unchanged.
pub(super) const COMPARABLE: &str = "@comparable";
/// `@nearest(value)`: the nearest double of a number that fits no type; any other value unchanged.
pub(super) const NEAREST: &str = "@nearest";

/// The longest number whose digits are kept, in characters, so that comparing them costs as little as with other
/// numbers.
pub const MAX_DIGITS: usize = 100;

static DIGITS_TYPE: Type = Type::new_unspecified_type("number");

/// A number that is kept as its digits.
#[derive(Debug, Clone)]
pub(super) struct Digits {
    text: Box<str>,
    nearest: f64,
}

impl Digits {
    /// Takes the digits in JSON notation, at most [`MAX_DIGITS`], and the nearest double.
    pub(super) fn new(text: &str, nearest: f64) -> Self {
        Self { text: text.into(), nearest }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// `None` if the other value is not a number, or is NaN.
    fn compare_with(&self, other: &dyn Val) -> Option<Ordering> {
        let with = |text: &str| Some(shared::reader::compare(&self.text, text));
        if let Some(digits) = other.downcast_ref::<Self>() {
            with(&digits.text)
        } else if let Some(int) = other.downcast_ref::<CelInt>() {
            with(&int.inner().to_string())
        } else if let Some(uint) = other.downcast_ref::<CelUInt>() {
            with(&uint.inner().to_string())
        } else {
            self.nearest.partial_cmp(other.downcast_ref::<CelDouble>()?.inner())
        }
    }
}

impl Val for Digits {
    fn get_type(&self) -> &Type {
        &DIGITS_TYPE
    }

    fn cel_type() -> &'static Type {
        &DIGITS_TYPE
    }

    fn as_comparer(&self) -> Option<&dyn Comparer> {
        Some(self)
    }

    fn as_negator<'b, 'v>(&'b self) -> Option<&'b (dyn Negator + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        self.compare_with(other) == Some(Ordering::Equal)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Digits {}

impl Comparer for Digits {
    fn compare(&self, other: &dyn Val) -> Result<Ordering, ExecutionError> {
        self.compare_with(other).ok_or(ExecutionError::ValuesNotComparable(Value::Null, Value::Null))
    }
}

impl Negator for Digits {
    fn negate<'v>(&self) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(Box::new(CelDouble::from(-self.nearest)))
    }
}

/// A number of the interpreter as the left operand of a comparison.
#[derive(Debug, Clone, Copy)]
struct Comparable<N>(N);

impl<N: Val + Comparer + Copy + 'static> Val for Comparable<N> {
    fn get_type(&self) -> &Type {
        self.0.get_type()
    }

    fn cel_type() -> &'static Type {
        N::cel_type()
    }

    fn as_comparer(&self) -> Option<&dyn Comparer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        match other.downcast_ref::<Digits>() {
            Some(digits) => digits.equals(&self.0),
            None => self.0.equals(other),
        }
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(*self)
    }
}

impl<N: Val + Comparer + Copy + 'static> Comparer for Comparable<N> {
    fn compare(&self, other: &dyn Val) -> Result<Ordering, ExecutionError> {
        match other.downcast_ref::<Digits>() {
            Some(digits) => digits.compare(&self.0).map(Ordering::reverse),
            None => self.0.compare(other),
        }
    }
}

/// Adds the functions to an environment.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload(COMPARABLE, COMPARABLE, vec![DYN_TYPE], comparable)?;
    env.add_overload(NEAREST, NEAREST, vec![DYN_TYPE], nearest)?;
    env.add_overload("string", "number_to_string", vec![DIGITS_TYPE.to_owned()], text)
}

fn only<'b, 'v>(mut arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    arguments.pop().ok_or_else(ExecutionError::missing_argument_or_target)
}

fn comparable<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = only(arguments)?;
    if let Some(int) = value.downcast_ref::<CelInt>() {
        return Ok(CowVal::owned(Comparable(*int)));
    }
    if let Some(uint) = value.downcast_ref::<CelUInt>() {
        return Ok(CowVal::owned(Comparable(*uint)));
    }
    if let Some(double) = value.downcast_ref::<CelDouble>() {
        return Ok(CowVal::owned(Comparable(*double)));
    }
    Ok(value)
}

fn nearest<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = only(arguments)?;
    match value.downcast_ref::<Digits>() {
        Some(digits) => Ok(CowVal::owned(CelDouble::from(digits.nearest))),
        None => Ok(value),
    }
}

fn text<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = only(arguments)?;
    let digits = value.downcast_ref::<Digits>().ok_or_else(ExecutionError::missing_argument_or_target)?;
    Ok(CowVal::owned(CelString::from(digits.text.to_string())))
}
