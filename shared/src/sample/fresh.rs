//! The new values of every sample: ids and times.

use std::cell::Cell;

use sha2::{Digest as _, Sha256};

use super::Moment;
use crate::verify::timestamp_text;

const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A source of ids and times. It gives the same values for the same moment, purpose and order of draws.
pub(super) struct Fresh {
    moment: Moment,
    purpose: &'static str,
    drawn: Cell<u32>,
}

impl Fresh {
    pub(super) fn new(moment: Moment, purpose: &'static str) -> Self {
        Self { moment, purpose, drawn: Cell::new(0) }
    }

    /// Unix time in milliseconds.
    pub(super) fn now_ms(&self) -> u64 {
        self.moment.now_ms
    }

    /// 24 digits and lower-case letters.
    pub(super) fn id(&self) -> String {
        self.draw().iter().take(24).map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
    }

    /// Replaces `{id}`, `{uuid}`, `{sha1}` (40 hexadecimal digits), `{digits}` or `{now}` (RFC 3339) in a text by ids
    /// and times, and `"{number}"`, `"{now_s}"` or `"{now_ms}"` with the quotes by bare numbers.
    pub(super) fn fill(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let end = rest.find('}').map_or(rest.len(), |end| end + 1);
            match self.value(&rest[..end]) {
                Some(Value::Text(value)) => out.push_str(&value),
                Some(Value::Number(value)) => {
                    if out.ends_with('"') && rest[end..].starts_with('"') {
                        out.pop();
                        rest = &rest[1..];
                    }
                    out.push_str(&value.to_string());
                }
                None => {
                    out.push('{');
                    rest = &rest[1..];
                    continue;
                }
            }
            rest = &rest[end..];
        }
        out + rest
    }

    fn value(&self, placeholder: &str) -> Option<Value> {
        Some(match placeholder {
            "{id}" => Value::Text(self.id()),
            "{uuid}" => Value::Text(self.uuid()),
            "{sha1}" => Value::Text(hex::encode(&self.draw()[..20])),
            "{digits}" => Value::Text(self.number().to_string()),
            "{number}" => Value::Number(self.number()),
            "{now}" => Value::Text(timestamp_text(self.now_ms())),
            "{now_s}" => Value::Number(self.now_ms() / 1_000),
            "{now_ms}" => Value::Number(self.now_ms()),
            _ => return None,
        })
    }

    /// A random UUID (RFC 9562, version 4).
    pub(super) fn uuid(&self) -> String {
        let drawn = self.draw();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&drawn[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// A number of 13 digits, which every reader of JSON holds exactly.
    fn number(&self) -> u64 {
        let drawn = self.draw();
        let number = drawn.iter().take(8).fold(0, |number: u64, byte| (number << 8) | u64::from(*byte));
        1_000_000_000_000 + number % 9_000_000_000_000
    }

    fn draw(&self) -> [u8; 32] {
        let drawn = self.drawn.get();
        self.drawn.set(drawn.wrapping_add(1));
        Sha256::new()
            .chain_update(self.moment.random)
            .chain_update(self.purpose)
            .chain_update(drawn.to_be_bytes())
            .finalize()
            .into()
    }
}

enum Value {
    Text(String),
    Number(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_values_and_other_braces_stay() {
        let fresh = Fresh::new(Moment { now_ms: 1_700_000_000_123, random: [7; 32] }, "test");
        assert_eq!(fresh.fill(r#"{"a":"{now_s}","b":"x{now_ms}"}"#), r#"{"a":1700000000,"b":"x1700000000123"}"#);
        assert_eq!(fresh.fill("{now} {} {other} {"), "2023-11-14T22:13:20Z {} {other} {");
        let filled = fresh.fill("{id}|{uuid}|{sha1}|{digits}");
        let lengths: Vec<_> = filled.split('|').map(str::len).collect();
        assert_eq!(lengths, [24, 36, 40, 13]);
        assert_ne!(fresh.fill("{id}"), fresh.fill("{id}"), "each is another one");
    }
}
