//! Parses JSON without recursion and in one pass.

use std::borrow::Cow;

use super::MAX_LEVELS;
use super::document::{Document, Kind, Node};

/// How many bytes of a text are examined together.
const PIECE_BYTES: usize = 16;

/// Why a text is not read as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotJson {
    /// It may be JSON, of more than [`MAX_LEVELS`] levels.
    TooDeep,
    Other,
}

/// Reads a text that is one JSON value, with nothing but white space around it.
pub(super) fn json(text: &str) -> Result<Document<'_>, NotJson> {
    // Places are counted in 32 bits.
    if u32::try_from(text.len()).is_err() {
        return Err(NotJson::Other);
    }
    let mut parser = Parser { text, at: 0, made: String::new(), nodes: Vec::new(), open: Vec::new() };
    parser.whole()?;
    Ok(Document { text: Cow::Borrowed(text), made: parser.made, nodes: parser.nodes })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    made: String,
    nodes: Vec<Node>,
    /// The nodes of the arrays and objects around the current place.
    open: Vec<usize>,
}

type Read<T> = Result<T, NotJson>;

impl Parser<'_> {
    fn whole(&mut self) -> Read<()> {
        loop {
            let opened = self.value()?;
            if opened {
                continue;
            }
            // After a value: the end of any number of arrays and objects, or the next entry of one.
            loop {
                let Some(&container) = self.open.last() else {
                    return if self.peek_behind_space().is_none() { Ok(()) } else { Err(NotJson::Other) };
                };
                match (self.peek_behind_space(), self.is_object(container)) {
                    (Some(b','), is_object) => {
                        self.at += 1;
                        if is_object {
                            self.name()?;
                        }
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => self.close(container),
                    _ => return Err(NotJson::Other),
                }
            }
        }
    }

    /// Reads a value, or the beginning of an array or object that is not empty; returns whether it was such a
    /// beginning.
    fn value(&mut self) -> Read<bool> {
        match self.peek_behind_space().ok_or(NotJson::Other)? {
            b'"' => self.string()?,
            b'{' => {
                self.open(Kind::Object)?;
                if self.peek_behind_space() != Some(b'}') {
                    self.name()?;
                    return Ok(true);
                }
                self.close(self.nodes.len() - 1);
            }
            b'[' => {
                self.open(Kind::Array)?;
                if self.peek_behind_space() != Some(b']') {
                    return Ok(true);
                }
                self.close(self.nodes.len() - 1);
            }
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.literal("true", Kind::True)?,
            b'f' => self.literal("false", Kind::False)?,
            b'n' => self.literal("null", Kind::Null)?,
            b'N' => self.literal("NaN", Kind::Number)?,
            b'I' => self.literal("Infinity", Kind::Number)?,
            _ => return Err(NotJson::Other),
        }
        Ok(false)
    }

    fn open(&mut self, kind: Kind) -> Read<()> {
        if self.open.len() == MAX_LEVELS {
            return Err(NotJson::TooDeep);
        }
        self.at += 1;
        self.open.push(self.nodes.len());
        self.nodes.push(Node { kind, start: 0, end: 0 });
        Ok(())
    }

    fn close(&mut self, container: usize) {
        self.at += 1;
        self.open.pop();
        let end = place(self.nodes.len());
        if let Some(node) = self.nodes.get_mut(container) {
            node.end = end;
        }
    }

    fn is_object(&self, container: usize) -> bool {
        self.nodes.get(container).is_some_and(|node| node.kind == Kind::Object)
    }

    fn name(&mut self) -> Read<()> {
        if self.peek_behind_space() != Some(b'"') {
            return Err(NotJson::Other);
        }
        self.string()?;
        if self.peek_behind_space() != Some(b':') {
            return Err(NotJson::Other);
        }
        self.at += 1;
        Ok(())
    }

    fn literal(&mut self, text: &str, kind: Kind) -> Read<()> {
        if !self.rest().starts_with(text) {
            return Err(NotJson::Other);
        }
        let start = self.at;
        self.at += text.len();
        self.push(kind, start, self.at);
        Ok(())
    }

    fn number(&mut self) -> Read<()> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let digits = |from: usize| from + bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
        let mut at = start + usize::from(bytes.get(start) == Some(&b'-'));
        if at > start && self.text.get(at..).is_some_and(|rest| rest.starts_with("Infinity")) {
            self.at = at;
            self.literal("Infinity", Kind::Number)?;
            // With its sign.
            self.nodes.pop();
            self.push(Kind::Number, start, self.at);
            return Ok(());
        }
        let whole = digits(at);
        if whole == at || (bytes.get(at) == Some(&b'0') && whole > at + 1) {
            return Err(NotJson::Other);
        }
        at = whole;
        if bytes.get(at) == Some(&b'.') {
            let fraction = digits(at + 1);
            if fraction == at + 1 {
                return Err(NotJson::Other);
            }
            at = fraction;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let exponent = digits(at + 1 + sign);
            if exponent == at + 1 + sign {
                return Err(NotJson::Other);
            }
            at = exponent;
        }
        self.at = at;
        self.push(Kind::Number, start, at);
        Ok(())
    }

    fn string(&mut self) -> Read<()> {
        self.at += 1;
        let start = self.at;
        let (mut end, mut byte) = self.run_end()?;
        if byte == b'"' {
            self.at = end + 1;
            self.push(Kind::Plain, start, end);
            return Ok(());
        }
        let made = self.made.len();
        while byte == b'\\' {
            self.made.push_str(self.text.get(self.at..end).unwrap_or_default());
            self.at = end + 1;
            self.escape()?;
            (end, byte) = self.run_end()?;
        }
        self.made.push_str(self.text.get(self.at..end).unwrap_or_default());
        self.at = end + 1;
        let behind = self.made.len();
        self.push(Kind::Made, made, behind);
        Ok(())
    }

    /// The next quote or backslash, and which of the two it is.
    fn run_end(&self) -> Read<(usize, u8)> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let ends = |byte: u8| byte == b'"' || byte == b'\\';
        // Without a branch for each byte, so that the compiler can vectorise the loop.
        let (pieces, _) = rest.as_chunks::<PIECE_BYTES>();
        let is_plain = |piece: &&[u8; PIECE_BYTES]| !piece.iter().fold(false, |any, byte| any | ends(*byte));
        let from = PIECE_BYTES * pieces.iter().take_while(is_plain).count();
        let last = rest.get(from..).unwrap_or_default();
        let length = from + last.iter().position(|byte| ends(*byte)).ok_or(NotJson::Other)?;
        Ok((self.at + length, rest.get(length).copied().unwrap_or_default()))
    }

    /// The character after a backslash.
    fn escape(&mut self) -> Read<()> {
        let byte = self.text.as_bytes().get(self.at).copied().ok_or(NotJson::Other)?;
        self.at += 1;
        let made = match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.unicode()?,
            _ => return Err(NotJson::Other),
        };
        self.made.push(made);
        Ok(())
    }

    /// Four hexadecimal digits, and four more if the two are a surrogate pair. Half of a pair is U+FFFD.
    fn unicode(&mut self) -> Read<char> {
        let unit = self.hex4(self.at).ok_or(NotJson::Other)?;
        self.at += 4;
        let low = || {
            let escaped = self.rest().starts_with("\\u");
            self.hex4(self.at + 2).filter(|low| escaped && (0xdc00..0xe000).contains(low))
        };
        let code = match unit {
            0xd800..0xdc00 => match low() {
                Some(low) => {
                    self.at += 6;
                    0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                }
                None => unit,
            },
            _ => unit,
        };
        Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&self, at: usize) -> Option<u32> {
        let digits = self.text.as_bytes().get(at..at + 4)?;
        digits.iter().try_fold(0, |code, digit| Some(code * 16 + char::from(*digit).to_digit(16)?))
    }

    fn peek_behind_space(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize) {
        self.nodes.push(Node { kind, start: place(start), end: place(end) });
    }
}

/// The text was found to be short enough, and its decoded form is no longer than it.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
