//! Expressions that compile but can never have a value: fields that no event has, names that no header can have, and
//! values in place of a condition. They are rejected when an expression is saved. Expressions that were saved before
//! this check existed are evaluated unchanged.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use shared::scheme::reference::is_header_name;

/// The fields of `event`, see [`super::input`].
pub(super) const EVENT_FIELDS: [&str; 8] =
    ["id", "type", "source", "provider_event_id", "received_at", "received_at_ms", "method", "query"];

/// A lookup by a literal string: `a.b`, `a[…]`, `a.?b`, `a[?…]` or `… in a`.
pub(super) struct Lookup<'a> {
    /// The node of its position in the expression.
    pub(super) id: u64,
    pub(super) of: &'a IdedExpr,
    pub(super) name: &'a str,
}

impl<'a> Lookup<'a> {
    /// The lookup that a node is, if it is one.
    pub(super) fn of(node: &'a IdedExpr) -> Option<Self> {
        match &node.expr {
            Expr::Select(select) => Some(Self { id: node.id, of: &select.operand, name: &select.field }),
            Expr::Call(call) => {
                let (of, key) = parts(call)?;
                let Expr::Literal(LiteralValue::String(name)) = &key.expr else { return None };
                Some(Self { id: key.id, of, name: name.inner() })
            }
            Expr::Comprehension(_)
            | Expr::Ident(_)
            | Expr::List(_)
            | Expr::Literal(_)
            | Expr::Map(_)
            | Expr::Struct(_)
            | Expr::Unspecified => None,
        }
    }

    /// Whether the lookup can never find anything. `name` is one of the three names that an expression can use.
    pub(super) fn misses(&self, name: &str) -> bool {
        match name {
            "event" => !EVENT_FIELDS.contains(&self.name),
            "headers" => !is_header_name(self.name),
            _ => false,
        }
    }
}

/// The operands of a lookup: the value that is searched, and the key.
fn parts(call: &CallExpr) -> Option<(&IdedExpr, &IdedExpr)> {
    match (call.func_name.as_str(), call.args.as_slice()) {
        (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, [of, key]) | (operators::IN, [key, of]) => {
            Some((of, key))
        }
        _ => None,
    }
}

/// The first literal in place of a boolean, and its kind.
pub(super) fn no_condition(node: &IdedExpr) -> Option<(u64, &'static str)> {
    let kind = match &node.expr {
        Expr::Literal(LiteralValue::String(_)) => "a string",
        Expr::Literal(LiteralValue::Bytes(_)) => "bytes",
        Expr::Literal(LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_)) => "a number",
        Expr::Literal(LiteralValue::Null) => "null",
        Expr::List(_) => "a list",
        Expr::Map(_) => "a map",
        Expr::Call(call) => {
            return match (call.func_name.as_str(), call.args.as_slice()) {
                (operators::CONDITIONAL, [_, yes, no]) => no_condition(yes).or_else(|| no_condition(no)),
                _ => None,
            };
        }
        Expr::Literal(LiteralValue::Boolean(_))
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::Select(_)
        | Expr::Struct(_)
        | Expr::Unspecified => return None,
    };
    Some((node.id, kind))
}

/// The operands of a call that have to be booleans.
pub(super) fn conditions(call: &CallExpr) -> &[IdedExpr] {
    match call.func_name.as_str() {
        operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT => &call.args,
        operators::CONDITIONAL => call.args.get(..1).unwrap_or_default(),
        _ => &[],
    }
}

/// Converts literal header names to lower case, as in `headers`: HTTP compares them without regard to case, and
/// providers write theirs in mixed case.
pub(super) fn lower_header_names(node: &mut IdedExpr) {
    match &mut node.expr {
        Expr::Select(select) => {
            lower_header_names(&mut select.operand);
            if is_headers(&select.operand) {
                select.field.make_ascii_lowercase();
            }
        }
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|target| lower_header_names(target));
            call.args.iter_mut().for_each(lower_header_names);
            let is_in = call.func_name == operators::IN;
            let is_lookup = parts(call).is_some_and(|(of, _)| is_headers(of));
            let key = if is_in { call.args.first_mut() } else { call.args.get_mut(1) };
            if is_lookup && let Some(IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }) = key {
                *name = name.inner().to_ascii_lowercase().into();
            }
        }
        Expr::List(list) => list.elements.iter_mut().for_each(lower_header_names),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| lower_in_entry(&mut entry.expr)),
        Expr::Struct(structure) => structure.entries.iter_mut().for_each(|entry| lower_in_entry(&mut entry.expr)),
        Expr::Comprehension(comprehension) => {
            lower_header_names(&mut comprehension.iter_range);
            // A variable of this name hides the headers.
            let hides = |name: &str| name == "headers";
            if !hides(&comprehension.iter_var) && !comprehension.iter_var2.as_deref().is_some_and(hides) {
                lower_header_names(&mut comprehension.accu_init);
                lower_header_names(&mut comprehension.loop_cond);
                lower_header_names(&mut comprehension.loop_step);
                lower_header_names(&mut comprehension.result);
            }
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}

fn lower_in_entry(entry: &mut EntryExpr) {
    match entry {
        EntryExpr::StructField(field) => lower_header_names(&mut field.value),
        EntryExpr::MapEntry(entry) => {
            lower_header_names(&mut entry.key);
            lower_header_names(&mut entry.value);
        }
    }
}

fn is_headers(node: &IdedExpr) -> bool {
    matches!(&node.expr, Expr::Ident(name) if name.trim_start_matches('.') == "headers")
}
