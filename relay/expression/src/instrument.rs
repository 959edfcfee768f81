//! Inserts the calls of the meter into a syntax tree.
//!
//! - Each iteration of a loop begins with `@step(@meter, n)`, which fails once the budget is used up. It is placed
//!   where the macros put the customer's own expression, because the interpreter recognises the shapes of their loops
//!   and runs those without copying the list at every iteration. The shapes are preserved.
//! - Values that are copied or grow (the value of `a + b`, the elements of lists, the entries of maps) pass through
//!   `@charge(@meter, …)`. A value that is not copied costs nothing.
//! - The operands that a function or a comparison reads pass through `@scan`, `@compare` or `@search`, and `matches`
//!   becomes `@match`.
//! - Numbers that could be compared or combined with one of [`super::number`] pass through `@comparable` and
//!   `@nearest`.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::meter::{CHARGE, COMPARE, MATCH, METER, SCAN, SEARCH, STEP};
use super::number::{COMPARABLE, NEAREST};

/// `text.matches(pattern)`, which the meter implements instead of the standard library.
pub(super) const MATCHES: &str = "matches";

/// The functions that read all of a text or of bytes.
const READS_TEXT: [&str; 10] =
    ["bool", "bytes", "contains", "double", "endsWith", "int", "size", "startsWith", "string", "uint"];

/// Inserts the calls of the meter into a syntax tree.
pub(super) fn instrument(node: &mut IdedExpr) {
    match &mut node.expr {
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|target| instrument(target));
            call.args.iter_mut().for_each(instrument);
            instrument_call(call);
            if call.func_name == operators::ADD {
                wrap(node, |inner| metered(CHARGE, inner));
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

/// Charges the operands that an operator or function reads.
fn instrument_call(call: &mut CallExpr) {
    match (call.func_name.as_str(), call.args.as_mut_slice()) {
        // A comparison reads no more bytes than the smaller operand has, and a literal is small.
        (operators::EQUALS | operators::NOT_EQUALS, [left, right]) if !is_literal(right) => {
            instrument_left(left, COMPARE);
        }
        (operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS, [left, right])
            if !is_literal(right) =>
        {
            instrument_left(left, SCAN);
        }
        (
            operators::ADD | operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO,
            operands,
        ) => operands.iter_mut().filter(|operand| may_be_number(operand)).for_each(to_nearest),
        // The elements of a literal list are charged as copies.
        (operators::IN, [_, right]) if !matches!(right.expr, Expr::List(_)) => {
            wrap(right, |inner| metered(SEARCH, inner));
        }
        (MATCHES, _) => {
            call.func_name = MATCH.to_owned();
            let subject = call.target.take().map(|subject| *subject);
            call.args = [ident(METER)].into_iter().chain(subject).chain(std::mem::take(&mut call.args)).collect();
        }
        (name, arguments) if READS_TEXT.contains(&name) => {
            let operands = call.target.iter_mut().map(|target| &mut **target).chain(arguments);
            operands.filter(|operand| !is_literal(operand)).for_each(|operand| {
                wrap(operand, |inner| metered(SCAN, inner));
                if matches!(name, "double" | "int" | "uint") {
                    to_nearest(operand);
                }
            });
        }
        _ => {}
    }
}

/// Instruments the left operand of a comparison whose right one is not a literal.
fn instrument_left(left: &mut IdedExpr, charge: &str) {
    if let Expr::Literal(literal) = &left.expr {
        if !matches!(literal, LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_)) {
            return;
        }
    } else {
        wrap(left, |inner| metered(charge, inner));
    }
    wrap(left, |inner| call(COMPARABLE, vec![inner]));
}

/// Whether the value of an operand could be a number that fits no type: such a number comes from the body, and is never
/// the result of an addition.
fn may_be_number(operand: &IdedExpr) -> bool {
    match &operand.expr {
        Expr::Literal(_) | Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => false,
        Expr::Call(call) => call.func_name != CHARGE,
        Expr::Ident(_) | Expr::Select(_) | Expr::Comprehension(_) | Expr::Unspecified => true,
    }
}

fn to_nearest(operand: &mut IdedExpr) {
    wrap(operand, |inner| call(NEAREST, vec![inner]));
}

fn is_literal(node: &IdedExpr) -> bool {
    matches!(node.expr, Expr::Literal(_))
}

/// The number of nodes of a syntax tree.
pub(super) fn nodes(node: &IdedExpr) -> u64 {
    let all = |parts: &[IdedExpr]| parts.iter().map(nodes).sum::<u64>();
    let parts = match &node.expr {
        Expr::Call(call) => call.target.as_deref().map_or(0, nodes) + all(&call.args),
        Expr::Comprehension(comprehension) => {
            let ComprehensionExpr { iter_range, accu_init, loop_cond, loop_step, result, .. } = &**comprehension;
            [iter_range, accu_init, loop_cond, loop_step, result].into_iter().map(nodes).sum()
        }
        Expr::List(list) => all(&list.elements),
        Expr::Map(map) => map.entries.iter().map(|entry| nodes_of_entry(&entry.expr)).sum(),
        Expr::Struct(structure) => structure.entries.iter().map(|entry| nodes_of_entry(&entry.expr)).sum(),
        Expr::Select(select) => nodes(&select.operand),
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => 0,
    };
    parts + 1
}

fn nodes_of_entry(entry: &EntryExpr) -> u64 {
    match entry {
        EntryExpr::StructField(field) => nodes(&field.value),
        EntryExpr::MapEntry(entry) => nodes(&entry.key) + nodes(&entry.value),
    }
}

fn instrument_copied(node: &mut IdedExpr) {
    instrument(node);
    wrap(node, |inner| metered(CHARGE, inner));
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

/// Instruments the loop step of a standard macro, where `x` is the customer's expression: `@result && x`,
/// `@result || x`, `x ? @result + … : @result`, or `@result + [x]`.
fn instrument_loop(comprehension: &mut ComprehensionExpr) {
    instrument(&mut comprehension.iter_range);
    instrument(&mut comprehension.result);
    let accumulator = comprehension.accu_var.clone();
    // An iteration evaluates the step once. Loops inside it charge their own iterations.
    let turn = nodes(&comprehension.loop_step);
    let stepped = |inner| stepped(inner, turn);
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

fn wrap(node: &mut IdedExpr, with: impl FnOnce(IdedExpr) -> Expr) {
    let id = node.id;
    let inner = std::mem::take(node);
    *node = IdedExpr { id, expr: with(inner) };
}

fn metered(function: &str, inner: IdedExpr) -> Expr {
    call(function, vec![ident(METER), inner])
}

/// `@step(@meter, turn) ? inner : false`: the second branch is never taken, because `@step` returns true or fails.
fn stepped(inner: IdedExpr, turn: u64) -> Expr {
    let turn = LiteralValue::Int(i64::try_from(turn).unwrap_or(i64::MAX).into());
    let turn = IdedExpr { id: 0, expr: Expr::Literal(turn) };
    let step = IdedExpr { id: 0, expr: call(STEP, vec![ident(METER), turn]) };
    let never = IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Boolean(false.into())) };
    call(operators::CONDITIONAL, vec![step, inner, never])
}

fn call(name: &str, args: Vec<IdedExpr>) -> Expr {
    Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args })
}

fn ident(name: &str) -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Ident(name.to_owned()) }
}
