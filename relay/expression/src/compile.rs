//! Compiles text to a syntax tree that is safe to evaluate.
//!
//! The parser (ANTLR) needs a large stack and, for hostile text, a long time. It therefore runs on separate threads, of
//! which there are only a few.

use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use cel::Env;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo};

use super::error::{ExpressionError, Position};
use super::instrument::{self, MATCHES};
use super::never::{Lookup, conditions, lower_header_names, no_condition};
use super::pattern::{PatternError, Patterns};
use super::{MAX_DEPTH, MAX_MESSAGE_CHARS, MAX_NESTED_LOOPS, MAX_SOURCE_BYTES, meter};

/// Virtual memory, most of it untouched: in an unoptimised build, the parser needs some 170 KiB for each level of
/// nesting.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// The time limit of a compilation. An ordinary expression takes a millisecond.
pub const COMPILE_DEADLINE: Duration = Duration::from_secs(2);

/// How many compilations may run at once, including those that are past their deadline. Others wait for one to end.
pub const MAX_COMPILATIONS: usize = 4;

/// The names that every expression can use.
pub(super) const NAMES: [&str; 3] = ["event", "headers", "body"];

/// The types, which may be named as in `type(body.amount) == int`, and the namespace of `optional.of(…)`.
pub(super) const TYPE_NAMES: [&str; 11] =
    ["bool", "bytes", "double", "int", "list", "map", "null_type", "optional", "string", "type", "uint"];

/// The standard functions, global and member. The interpreter notices that a function does not exist only when it
/// evaluates a call, which is too late for the customer. [`MATCHES`] is checked separately.
pub(super) const FUNCTIONS: [&str; 19] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "hasValue",
    "int",
    "none",
    "of",
    "ofNonZeroValue",
    "or",
    "orValue",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
    "value",
];

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib();
    meter::declare(&mut environment).expect("the standard library has no names that begin with @");
    Arc::new(environment)
});

/// The standard library and the meter's functions.
pub(super) fn environment() -> Arc<Env> {
    Arc::clone(&ENVIRONMENT)
}

/// An expression that can be evaluated.
#[derive(Debug)]
pub(super) struct Compiled {
    /// With the calls of the meter.
    pub(super) expression: IdedExpr,
    pub(super) patterns: Patterns,
    pub(super) uses_body: bool,
    /// The number of nodes of its syntax tree, without those of the meter.
    pub(super) nodes: u64,
    /// Why a part of it can never have a value, if one cannot.
    pub(super) never: Option<ExpressionError>,
    /// Why its value is never a boolean, if it is not.
    pub(super) no_condition: Option<ExpressionError>,
}

/// Parses, checks and instruments an expression.
pub(super) fn compile(source: &str) -> Result<Compiled, ExpressionError> {
    if source.trim().is_empty() {
        return Err(ExpressionError::Empty);
    }
    if source.len() > MAX_SOURCE_BYTES {
        return Err(ExpressionError::SourceTooLong(source.len()));
    }
    let slot = Slot::wait().ok_or(ExpressionError::Busy)?;
    let (sender, receiver) = mpsc::channel();
    let source = source.to_owned();
    let work = move || {
        let _slot = slot;
        // The caller may have stopped waiting.
        let _ = sender.send(compile_here(&source));
    };
    let builder = thread::Builder::new().name("expression-compile".to_owned()).stack_size(STACK_BYTES);
    builder.spawn(work).map_err(|_| ExpressionError::Busy)?;
    receiver.recv_timeout(COMPILE_DEADLINE).unwrap_or_else(|error| {
        Err(match error {
            mpsc::RecvTimeoutError::Timeout => ExpressionError::CompileTooSlow,
            mpsc::RecvTimeoutError::Disconnected => ExpressionError::Internal,
        })
    })
}

static COMPILATIONS: Mutex<usize> = Mutex::new(0);
static COMPILATION_ENDED: Condvar = Condvar::new();

/// The right to compile. It is returned when the thread ends, not when its caller stops waiting.
struct Slot;

impl Slot {
    /// `None` if no slot became free within the time limit of a compilation.
    fn wait() -> Option<Self> {
        let running = COMPILATIONS.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut running, _) = COMPILATION_ENDED
            .wait_timeout_while(running, COMPILE_DEADLINE, |running| *running >= MAX_COMPILATIONS)
            .unwrap_or_else(PoisonError::into_inner);
        (*running < MAX_COMPILATIONS).then(|| {
            *running += 1;
            Self
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *COMPILATIONS.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        COMPILATION_ENDED.notify_one();
    }
}

fn compile_here(source: &str) -> Result<Compiled, ExpressionError> {
    let program = environment().compile(source).map_err(|errors| syntax_error(&errors))?;
    let (info, bound, patterns) = (program.source_info(), vec![], Patterns::default());
    let mut check = Check { source, info, bound, uses_body: false, patterns, never: None };
    check.node(program.expression(), 0, 0)?;
    let no_condition = check.no_condition(program.expression());
    let Check { uses_body, patterns, never, .. } = check;
    let mut expression = program.expression().clone();
    lower_header_names(&mut expression);
    let nodes = instrument::nodes(&expression);
    instrument::instrument(&mut expression);
    Ok(Compiled { expression, patterns, uses_body, nodes, never, no_condition })
}

fn syntax_error(errors: &cel::ParseErrors) -> ExpressionError {
    let counted = |number: isize| usize::try_from(number).unwrap_or(1).max(1);
    let first = errors.errors.first();
    ExpressionError::Syntax {
        position: Position {
            line: first.map_or(1, |error| counted(error.pos.0)),
            column: first.map_or(1, |error| counted(error.pos.1)),
        },
        message: first.map_or_else(|| "not a CEL expression".to_owned(), |error| short(&error.msg)),
    }
}

fn short(message: &str) -> String {
    message.chars().take(MAX_MESSAGE_CHARS).collect()
}

/// A traversal of a syntax tree that finds errors early which an evaluation would find late or not survive.
struct Check<'a> {
    source: &'a str,
    info: &'a SourceInfo,
    /// The variables of the loops around the node.
    bound: Vec<&'a str>,
    uses_body: bool,
    patterns: Patterns,
    /// Why the first part that can never have a value has none.
    never: Option<ExpressionError>,
}

impl<'a> Check<'a> {
    fn node(&mut self, node: &'a IdedExpr, depth: usize, loops: usize) -> Result<(), ExpressionError> {
        if depth > MAX_DEPTH {
            return Err(ExpressionError::TooDeep);
        }
        if self.never.is_none() {
            self.never = Lookup::of(node).and_then(|lookup| self.misses(&lookup));
        }
        match &node.expr {
            Expr::Ident(name) => self.name(node.id, name),
            Expr::Call(call) => self.call(node.id, call, depth, loops),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth, loops),
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.node(element, depth + 1, loops)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.node(&entry.key, depth + 1, loops)?;
                    self.node(&entry.value, depth + 1, loops)
                }
                EntryExpr::StructField(field) => self.node(&field.value, depth + 1, loops),
            }),
            // No message types are declared.
            Expr::Struct(structure) => Err(ExpressionError::UnknownName {
                position: self.position(node.id),
                name: structure.type_name.clone(),
            }),
            Expr::Select(select) => self.node(&select.operand, depth + 1, loops),
            Expr::Literal(_) => Ok(()),
            Expr::Unspecified => Err(ExpressionError::Internal),
        }
    }

    fn misses(&self, lookup: &Lookup<'_>) -> Option<ExpressionError> {
        let Expr::Ident(of) = &lookup.of.expr else { return None };
        let of = of.trim_start_matches('.');
        if self.bound.contains(&of) || !lookup.misses(of) {
            return None;
        }
        let (position, name) = (self.position(lookup.id), lookup.name.to_owned());
        Some(match of {
            "event" => ExpressionError::UnknownField { position, name },
            _ => ExpressionError::NotHeaderName { position, name },
        })
    }

    fn no_condition(&self, node: &IdedExpr) -> Option<ExpressionError> {
        let (id, kind) = no_condition(node)?;
        Some(ExpressionError::LiteralNotBoolean { position: self.position(id), kind })
    }

    fn name(&mut self, id: u64, name: &str) -> Result<(), ExpressionError> {
        let plain = name.trim_start_matches('.');
        self.uses_body |= plain == "body";
        if NAMES.contains(&plain) || TYPE_NAMES.contains(&plain) || self.bound.contains(&plain) {
            return Ok(());
        }
        Err(ExpressionError::UnknownName { position: self.position(id), name: name.to_owned() })
    }

    fn call(&mut self, id: u64, call: &'a CallExpr, depth: usize, loops: usize) -> Result<(), ExpressionError> {
        // Operators have names that no expression can contain, such as `_+_`, `!_` and `@in`.
        let operator = call.func_name.contains(['_', '@']);
        if call.func_name == MATCHES {
            return self.matches(id, call, depth, loops);
        }
        if !operator && !FUNCTIONS.contains(&call.func_name.as_str()) {
            return Err(ExpressionError::UnknownFunction { position: self.position(id), name: call.func_name.clone() });
        }
        if self.never.is_none() {
            self.never = conditions(call).iter().find_map(|operand| self.no_condition(operand));
        }
        call.target.iter().map(AsRef::as_ref).chain(&call.args).try_for_each(|part| self.node(part, depth + 1, loops))
    }

    /// `subject.matches('…')` or `matches(subject, '…')`. The pattern is compiled here, so it has to be a literal.
    fn matches(&mut self, id: u64, call: &'a CallExpr, depth: usize, loops: usize) -> Result<(), ExpressionError> {
        let (subject, pattern) = match (&call.target, call.args.as_slice()) {
            (Some(subject), [pattern]) => (subject.as_ref(), pattern),
            (None, [subject, pattern]) => (subject, pattern),
            _ => {
                let name = MATCHES.to_owned();
                return Err(ExpressionError::UnknownFunction { position: self.position(id), name });
            }
        };
        let position = self.position(pattern.id);
        let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else {
            return Err(ExpressionError::PatternNotLiteral { position });
        };
        self.patterns.add(text.inner()).map_err(|error| match error {
            PatternError::Syntax(message) => ExpressionError::PatternSyntax { position, message: short(&message) },
            PatternError::TooLarge => ExpressionError::PatternTooLarge { position },
        })?;
        self.node(subject, depth + 1, loops)
    }

    fn comprehension(
        &mut self,
        comprehension: &'a ComprehensionExpr,
        depth: usize,
        loops: usize,
    ) -> Result<(), ExpressionError> {
        self.node(&comprehension.iter_range, depth + 1, loops)?;
        if loops == MAX_NESTED_LOOPS {
            return Err(ExpressionError::TooManyNestedLoops);
        }
        let before = self.bound.len();
        self.bound.extend([comprehension.accu_var.as_str(), comprehension.iter_var.as_str()]);
        self.bound.extend(comprehension.iter_var2.as_deref());
        self.node(&comprehension.accu_init, depth + 1, loops + 1)?;
        self.node(&comprehension.loop_cond, depth + 1, loops + 1)?;
        self.node(&comprehension.loop_step, depth + 1, loops + 1)?;
        self.node(&comprehension.result, depth + 1, loops + 1)?;
        self.bound.truncate(before);
        Ok(())
    }

    fn position(&self, id: u64) -> Position {
        // The parser counts in bytes.
        let offset = self.info.offset_for(id).and_then(|(start, _)| usize::try_from(start).ok());
        let before = offset.and_then(|offset| self.source.get(..offset)).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }
}
