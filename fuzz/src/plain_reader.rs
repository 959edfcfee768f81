//! A second reading of bodies beside that of `shared::reader`: letter by letter, with recursion and copies, and with no more
//! care than it takes to be seen to be right.

use shared::header::HeaderList;

/// JSON or a form; numbers by their digits.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Plain>),
    Object(Vec<(String, Plain)>),
}

/// A body that is not content-encoded, no multipart form and not in UTF-16; `None` if it is neither JSON nor a form.
pub(super) fn document(headers: &HeaderList, body: &[u8]) -> Option<Plain> {
    let kind = headers.get("content-type").unwrap_or_default().to_ascii_lowercase();
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if let Ok(text) = std::str::from_utf8(body)
        && let Some(json) = json(text)
    {
        return Some(json);
    }
    // Latin-1 alone: enough to see that the name of a charset is looked at.
    let latin = || body.iter().map(|byte| char::from(*byte)).collect::<String>();
    let text = match std::str::from_utf8(body) {
        Ok(text) => text.to_owned(),
        Err(_) if kind.contains("charset=latin1") && !body.iter().any(|byte| (0x80..0xa0).contains(byte)) => latin(),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let is_form = kind.split(';').next().unwrap_or_default().trim() == "application/x-www-form-urlencoded";
    json(&text).or_else(|| is_form.then(|| form(&text)))
}

pub(super) fn json(text: &str) -> Option<Plain> {
    let letters: Vec<char> = text.chars().collect();
    let (value, rest) = value(space(&letters))?;
    space(rest).is_empty().then_some(value)
}

fn space(letters: &[char]) -> &[char] {
    let blanks = letters.iter().take_while(|letter| [' ', '\t', '\n', '\r'].contains(letter)).count();
    &letters[blanks..]
}

fn value(letters: &[char]) -> Option<(Plain, &[char])> {
    for (word, value) in [("null", Plain::Null), ("true", Plain::Bool(true)), ("false", Plain::Bool(false))] {
        if let Some(rest) = behind(letters, word) {
            return Some((value, rest));
        }
    }
    match letters.first()? {
        '"' => string(letters).map(|(text, rest)| (Plain::Text(text), rest)),
        '[' => {
            let mut items = Vec::new();
            let mut rest = space(&letters[1..]);
            while rest.first() != Some(&']') {
                if !items.is_empty() {
                    rest = space(behind(rest, ",")?);
                }
                let (item, behind) = value(rest)?;
                items.push(item);
                rest = space(behind);
            }
            Some((Plain::List(items), &rest[1..]))
        }
        '{' => {
            let mut fields: Vec<(String, Plain)> = Vec::new();
            let mut rest = space(&letters[1..]);
            while rest.first() != Some(&'}') {
                if !fields.is_empty() {
                    rest = space(behind(rest, ",")?);
                }
                let (name, behind_name) = string(rest)?;
                let (field, behind) = value(space(behind(space(behind_name), ":")?))?;
                fields.push((name, field));
                rest = space(behind);
            }
            Some((Plain::Object(fields), &rest[1..]))
        }
        _ => number(letters),
    }
}

fn behind<'a>(letters: &'a [char], word: &str) -> Option<&'a [char]> {
    let word: Vec<char> = word.chars().collect();
    letters.strip_prefix(word.as_slice())
}

fn string(letters: &[char]) -> Option<(String, &[char])> {
    let mut units: Vec<u16> = Vec::new();
    let mut rest = behind(letters, "\"")?;
    loop {
        let (letter, next) = rest.split_first()?;
        rest = next;
        match letter {
            '"' => return Some((String::from_utf16_lossy(&units), rest)),
            '\\' => {
                let (letter, next) = rest.split_first()?;
                rest = next;
                let plain = match letter {
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    '"' | '\\' | '/' => *letter,
                    'u' => {
                        let digits: String = rest.get(..4)?.iter().collect();
                        let is_hex = digits.chars().all(|digit| digit.is_ascii_hexdigit());
                        units.push(u16::from_str_radix(&digits, 16).ok().filter(|_| is_hex)?);
                        rest = &rest[4..];
                        continue;
                    }
                    _ => return None,
                };
                units.push(u16::try_from(u32::from(plain)).ok()?);
            }
            letter => units.extend(letter.encode_utf16(&mut [0; 2]).iter()),
        }
    }
}

fn number(letters: &[char]) -> Option<(Plain, &[char])> {
    let rest = behind(letters, "-").unwrap_or(letters);
    let is_named = |word: &str| behind(rest, word);
    let end = match is_named("Infinity").or_else(|| is_named("NaN").filter(|_| rest.len() == letters.len())) {
        Some(end) => end,
        None => {
            let whole = digits(rest)?;
            let has_leading_zero = rest[0] == '0' && rest.len() - whole.len() > 1;
            let fraction = match behind(whole, ".") {
                Some(fraction) if !has_leading_zero => digits(fraction)?,
                _ => whole,
            };
            let exponent = behind(fraction, "e").or_else(|| behind(fraction, "E"));
            let end = match exponent {
                Some(rest) => digits(behind(rest, "+").or_else(|| behind(rest, "-")).unwrap_or(rest))?,
                None => fraction,
            };
            if has_leading_zero {
                return None;
            }
            end
        }
    };
    let text: String = letters[..letters.len() - end.len()].iter().collect();
    Some((Plain::Number(text), end))
}

fn digits(letters: &[char]) -> Option<&[char]> {
    let count = letters.iter().take_while(|letter| letter.is_ascii_digit()).count();
    (count > 0).then(|| &letters[count..])
}

fn form(text: &str) -> Plain {
    let mut fields: Vec<(String, Vec<Plain>)> = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name), Plain::Text(decoded(value)));
        match fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => fields.push((name, vec![value])),
        }
    }
    if let [(name, values)] = fields.as_slice()
        && name == "payload"
        && let [Plain::Text(text)] = values.as_slice()
        && let Some(json) = json(text)
    {
        return json;
    }
    let fields = fields.into_iter().map(|(name, mut values)| match values.len() {
        1 => (name, values.remove(0)),
        _ => (name, Plain::List(values)),
    });
    Plain::Object(fields.collect())
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, behind @ ..] = rest {
        let code = match rest {
            [b'%', high, low, ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                digit(high).zip(digit(low)).map(|(high, low)| u8::try_from(high * 16 + low).expect("a byte"))
            }
            _ => None,
        };
        match (code, first) {
            (Some(code), _) => bytes.push(code),
            (None, b'+') => bytes.push(b' '),
            (None, other) => bytes.push(*other),
        }
        rest = if code.is_some() { &rest[3..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Plain {
    /// The value at a JSON pointer (RFC 6901).
    pub(super) fn pointer(&self, pointer: &str) -> Option<&Plain> {
        let mut at = self;
        for name in pointer.split('/').skip(1) {
            let name = name.replace("~1", "/").replace("~0", "~");
            at = match at {
                Plain::Object(fields) => {
                    fields.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value)?
                }
                Plain::List(items) => {
                    let plain = name == "0" || (!name.starts_with('0') && name.chars().all(|c| c.is_ascii_digit()));
                    items.get(name.parse::<usize>().ok().filter(|_| plain)?)?
                }
                Plain::Null | Plain::Bool(_) | Plain::Number(_) | Plain::Text(_) => return None,
            };
        }
        Some(at)
    }

    /// The text of a text, a number or a truth value.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Plain::Text(text) | Plain::Number(text) => Some(text.clone()),
            Plain::Bool(truth) => Some(truth.to_string()),
            Plain::Null | Plain::List(_) | Plain::Object(_) => None,
        }
    }
}
