//! Forms, read as if they were JSON: the same references and expressions then name their fields.

use std::borrow::Cow;

use super::document::{Document, Kind, Node};
use super::{Content, charset, parse};

/// The field that holds the whole event as JSON if it is the only text: Slack sends interactions so, and GitHub events
/// if it is configured to send forms.
const PAYLOAD: &str = "payload";

/// The most fields of a form that are read.
pub(super) const MAX_FIELDS: usize = 10_000;

/// A field of a form: its name and its value.
pub(super) type Field<'a> = (Cow<'a, str>, Entry<'a>);

/// The value of a field of a form.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    Text(Cow<'a, str>),
    File { filename: &'a str, media_type: &'a str, size: usize },
}

/// The fields of a body of the type `application/x-www-form-urlencoded`.
pub(super) fn fields<'a>(text: &'a str, label: Option<&str>) -> impl Iterator<Item = Field<'a>> {
    let decode = move |text: &'a str| match text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        false => Cow::Borrowed(text),
        true => Cow::Owned(charset::field(unescaped(text.as_bytes()), label)),
    };
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(move |(name, value)| (decode(name), Entry::Text(decode(value))))
}

/// Blanks for `+`, and bytes for `%` and two hexadecimal digits; other `%` stay.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let digit = |at: usize| text.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let code = digit(at + 1).zip(digit(at + 2)).filter(|_| *byte == b'%');
        if let Some(code) = code.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            out.push(code);
            at += 3;
        } else {
            out.push(if *byte == b'+' { b' ' } else { *byte });
            at += 1;
        }
    }
    out
}

/// The object of the fields, or the JSON of `payload`.
pub(super) fn document<'a>(fields: impl Iterator<Item = Field<'a>>) -> Content<'static> {
    let mut fields: Vec<_> = fields.take(MAX_FIELDS + 1).collect();
    if fields.len() > MAX_FIELDS {
        return Content::TooLarge;
    }
    let mut texts = fields.iter().filter_map(|(name, entry)| match entry {
        Entry::Text(text) => Some((name, text)),
        Entry::File { .. } => None,
    });
    if let (Some((name, text)), None) = (texts.next(), texts.next())
        && name == PAYLOAD
        && let Ok(document) = parse::json(text)
    {
        return Content::Document(document.into_owned());
    }
    // The values of a name stay in their order.
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut out = Builder::default();
    out.open(Kind::Object);
    for same in fields.chunk_by(|(one, _), (other, _)| one == other) {
        let Some((name, first)) = same.first() else { continue };
        out.text(name);
        if same.len() == 1 {
            out.entry(name, first);
        } else {
            out.open(Kind::Array);
            same.iter().for_each(|(name, entry)| out.entry(name, entry));
            out.close();
        }
    }
    out.close();
    out.content()
}

/// A document that is made and not read.
#[derive(Default)]
struct Builder {
    document: Document<'static>,
    open: Vec<usize>,
    too_large: bool,
}

impl Builder {
    fn open(&mut self, kind: Kind) {
        self.open.push(self.document.nodes.len());
        self.document.nodes.push(Node { kind, start: 0, end: 0 });
    }

    fn close(&mut self) {
        let end = self.place(self.document.nodes.len());
        if let Some(node) = self.open.pop().and_then(|at| self.document.nodes.get_mut(at)) {
            node.end = end;
        }
    }

    fn text(&mut self, text: &str) {
        self.push(Kind::Made, text);
    }

    fn push(&mut self, kind: Kind, text: &str) {
        let start = self.place(self.document.made.len());
        self.document.made.push_str(text);
        let end = self.place(self.document.made.len());
        self.document.nodes.push(Node { kind, start, end });
    }

    fn entry(&mut self, name: &str, entry: &Entry<'_>) {
        match entry {
            Entry::Text(text) => self.text(text),
            Entry::File { filename, media_type, size } => {
                self.open(Kind::Object);
                for (key, value) in [("name", name), ("filename", filename), ("type", media_type)] {
                    self.text(key);
                    self.text(value);
                }
                self.text("size");
                self.push(Kind::MadeNumber, &size.to_string());
                self.close();
            }
        }
    }

    fn place(&mut self, at: usize) -> u32 {
        u32::try_from(at).unwrap_or_else(|_| {
            self.too_large = true;
            u32::MAX
        })
    }

    fn content(self) -> Content<'static> {
        if self.too_large { Content::TooLarge } else { Content::Document(self.document) }
    }
}
