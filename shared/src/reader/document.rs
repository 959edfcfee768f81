//! A document as a flat list of its values in their order. It is made, read and dropped without recursion, however deep
//! it is.

use std::borrow::Cow;

/// The kind of a value, and its place in the document's texts. Twelve bytes for each value and each name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// The place of the first byte of a text or number.
    pub(super) start: u32,
    /// The place after the last byte of a text or number; the node after the last one of an array or object.
    pub(super) end: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    False,
    True,
    /// In the text as it is, like [`Kind::Plain`].
    Number,
    Plain,
    /// In the decoded texts, like [`Kind::Made`]: it had escapes.
    MadeNumber,
    Made,
    Array,
    /// Its entries are pairs of nodes: a name and its value.
    Object,
}

/// JSON, or a form that was read like it.
#[derive(Debug, Clone, Default)]
pub struct Document<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) made: String,
    pub(super) nodes: Vec<Node>,
}

/// A value of a document.
#[derive(Debug, Clone, Copy)]
pub struct Json<'d> {
    document: &'d Document<'d>,
    at: usize,
}

/// The value itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'d> {
    Null,
    Bool(bool),
    /// The number as it is written.
    Number(&'d str),
    String(&'d str),
    Array,
    Object,
}

/// A step of a walk through a value and all values inside it.
#[derive(Debug, Clone, PartialEq)]
pub enum Step<'d> {
    /// The name of the value that comes next.
    Name(&'d str),
    /// A value; the entries of an array or an object come next, then [`Step::End`].
    Value(Value<'d>),
    End,
}

impl<'a> Document<'a> {
    /// The whole.
    #[must_use]
    pub fn root(&self) -> Json<'_> {
        Json { document: self, at: 0 }
    }

    pub(super) fn into_owned(self) -> Document<'static> {
        Document { text: Cow::Owned(self.text.into_owned()), made: self.made, nodes: self.nodes }
    }

    fn text_of(&self, node: Node) -> &str {
        let made = matches!(node.kind, Kind::Made | Kind::MadeNumber);
        let text = if made { self.made.as_str() } else { &self.text };
        text.get(node.start as usize..node.end as usize).unwrap_or_default()
    }

    fn value_of(&self, node: Node) -> Value<'_> {
        match node.kind {
            Kind::Null => Value::Null,
            Kind::False => Value::Bool(false),
            Kind::True => Value::Bool(true),
            Kind::Number | Kind::MadeNumber => Value::Number(self.text_of(node)),
            Kind::Plain | Kind::Made => Value::String(self.text_of(node)),
            Kind::Array => Value::Array,
            Kind::Object => Value::Object,
        }
    }

    fn node(&self, at: usize) -> Node {
        self.nodes.get(at).copied().unwrap_or(Node { kind: Kind::Null, start: 0, end: 0 })
    }

    /// The node after this one and everything inside it.
    fn behind(&self, at: usize) -> usize {
        let node = self.node(at);
        if matches!(node.kind, Kind::Array | Kind::Object) { node.end as usize } else { at + 1 }
    }
}

impl<'d> Json<'d> {
    #[must_use]
    pub fn value(&self) -> Value<'d> {
        self.document.value_of(self.document.node(self.at))
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&'d str> {
        match self.value() {
            Value::String(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array | Value::Object => None,
        }
    }

    /// The items of an array; `None` if it is none.
    #[must_use]
    pub fn items(&self) -> Option<impl Iterator<Item = Json<'d>> + use<'d>> {
        let Self { document, at } = *self;
        let node = document.node(at);
        let mut next = at + 1;
        let items = std::iter::from_fn(move || {
            let item = (next < node.end as usize).then_some(Json { document, at: next })?;
            next = document.behind(next);
            Some(item)
        });
        (node.kind == Kind::Array).then_some(items)
    }

    /// The value of a name, the last one if it is repeated.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Json<'d>> {
        let Self { document, at } = *self;
        let node = document.node(at);
        let (mut next, mut found) = (at + 1, None);
        while node.kind == Kind::Object && next < node.end as usize {
            if document.text_of(document.node(next)) == name {
                found = Some(Json { document, at: next + 1 });
            }
            next = document.behind(next + 1);
        }
        found
    }

    /// The value at a JSON pointer (RFC 6901).
    #[must_use]
    pub fn pointer(&self, pointer: &str) -> Option<Json<'d>> {
        if pointer.is_empty() {
            return Some(*self);
        }
        let mut at = *self;
        for name in pointer.strip_prefix('/')?.split('/') {
            at = match at.value() {
                Value::Object if name.contains('~') => at.get(&name.replace("~1", "/").replace("~0", "~"))?,
                Value::Object => at.get(name)?,
                Value::Array => at.items()?.nth(index(name)?)?,
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
            };
        }
        Some(at)
    }

    /// The value and all values inside it, in order.
    pub fn walk(&self) -> impl Iterator<Item = Step<'d>> + use<'d> {
        let Self { document, at } = *self;
        let end = document.behind(at);
        let mut next = at;
        let mut open: Vec<Open> = Vec::new();
        std::iter::from_fn(move || {
            if open.last().is_some_and(|inner| next >= inner.end) {
                open.pop();
                return Some(Step::End);
            }
            if next >= end {
                return None;
            }
            let node = document.node(next);
            next += 1;
            if let Some(inner) = open.last_mut() {
                if inner.name_is_next {
                    inner.name_is_next = false;
                    return Some(Step::Name(document.text_of(node)));
                }
                inner.name_is_next = inner.is_object;
            }
            if matches!(node.kind, Kind::Array | Kind::Object) {
                let is_object = node.kind == Kind::Object;
                open.push(Open { end: node.end as usize, is_object, name_is_next: is_object });
            }
            Some(Step::Value(document.value_of(node)))
        })
    }
}

/// An array or object that a walk is in.
struct Open {
    /// The node after its last one.
    end: usize,
    is_object: bool,
    name_is_next: bool,
}

/// The index in an array for a name of a JSON pointer: digits without a leading zero.
fn index(name: &str) -> Option<usize> {
    let plain = name == "0" || (!name.starts_with('0') && name.bytes().all(|byte| byte.is_ascii_digit()));
    name.parse().ok().filter(|_| plain)
}
