//! A second implementation of `shared::reader`: letter by letter, with recursion and copies, and as simple as possible.

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

/// A body that is written in a way which this reader does not know.
#[derive(Debug)]
pub(super) struct Unsure;

/// A body that is not content-encoded; `None` if it is neither JSON nor a form.
pub(super) fn document(headers: &HeaderList, body: &[u8]) -> Result<Option<Plain>, Unsure> {
    let kind = headers.get("content-type").unwrap_or_default().to_ascii_lowercase();
    let has_charset = kind.contains("charset");
    let is_latin = kind.ends_with("; charset=latin1") && kind.matches("charset").count() == 1 && !kind.contains('"');
    let unmarked = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if let Ok(text) = std::str::from_utf8(unmarked)
        && let Some(json) = json(text)
    {
        return Ok(Some(json));
    }
    let text = match body {
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        _ if body.iter().take(4).any(|byte| *byte == 0) && has_charset => return Err(Unsure),
        [0, 1..=0x7f, 0, 1..=0x7f, ..] => utf16(body, u16::from_be_bytes),
        [1..=0x7f, 0, 1..=0x7f, 0, ..] => utf16(body, u16::from_le_bytes),
        _ if kind.contains("utf-16") => return Err(Unsure),
        _ => match std::str::from_utf8(unmarked) {
            Ok(text) => text.to_owned(),
            // Latin-1 alone: enough to see that the name of a charset is looked at.
            Err(_) if is_latin && !body.iter().any(|byte| (0x80..0xa0).contains(byte)) => {
                body.iter().map(|byte| char::from(*byte)).collect()
            }
            Err(_) if has_charset => return Err(Unsure),
            Err(_) => String::from_utf8_lossy(unmarked).into_owned(),
        },
    };
    if let Some(json) = json(&text) {
        return Ok(Some(json));
    }
    match kind.split(';').next().unwrap_or_default().trim() {
        "application/x-www-form-urlencoded" if has_charset && text.contains('%') => Err(Unsure),
        "application/x-www-form-urlencoded" => Ok(Some(form(&text))),
        "multipart/form-data" => multipart(headers.get("content-type").unwrap_or_default(), body),
        _ => Ok(None),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let pairs: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
    let cut = if bytes.len() % 2 == 1 { "\u{fffd}" } else { "" };
    String::from_utf16_lossy(&pairs) + cut
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
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    fields(pairs.map(|(name, value)| (decoded(name), Plain::Text(decoded(value)))).collect())
}

/// The object of the fields of a form.
fn fields(pairs: Vec<(String, Plain)>) -> Plain {
    let texts: Vec<_> = pairs.iter().filter(|(_, value)| matches!(value, Plain::Text(_))).collect();
    if let [(name, Plain::Text(text))] = texts.as_slice()
        && name == "payload"
        && let Some(json) = json(text)
    {
        return json;
    }
    let mut fields: Vec<(String, Vec<Plain>)> = Vec::new();
    for (name, value) in pairs {
        match fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => fields.push((name, vec![value])),
        }
    }
    let fields = fields.into_iter().map(|(name, mut values)| match values.len() {
        1 => (name, values.remove(0)),
        _ => (name, Plain::List(values)),
    });
    Plain::Object(fields.collect())
}

/// A form in parts, line by line. It knows one way to write each header.
fn multipart(kind: &str, body: &[u8]) -> Result<Option<Plain>, Unsure> {
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").ok_or(Unsure)?;
    if boundary.is_empty() || !boundary.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Unsure);
    }
    let delimiter = format!("--{boundary}");
    let (mut parts, mut part): (Vec<Vec<u8>>, Option<Vec<u8>>) = (Vec::new(), None);
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        if let Some(behind) = line.strip_prefix(delimiter.as_bytes()) {
            parts.extend(part.take().map(|part| without_line_end(&part).to_vec()));
            if behind.starts_with(b"--") || !behind.ends_with(b"\n") {
                break;
            }
            part = Some(Vec::new());
        } else if let Some(part) = &mut part {
            part.extend(line);
        }
    }
    parts.extend(part);
    let pairs: Result<Vec<_>, _> = parts.iter().map(|part| part_field(part)).collect();
    Ok(Some(fields(pairs?.into_iter().flatten().collect())))
}

fn without_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// The field that a part holds; `None` if it has no name, or no end of its headers.
fn part_field(part: &[u8]) -> Result<Option<(String, Plain)>, Unsure> {
    let (mut name, mut filename) = (String::new(), String::new());
    let mut kind = "application/octet-stream".to_owned();
    let mut rest = part;
    loop {
        let Some(at) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line = without_line_end(&rest[..=at]);
        rest = &rest[at + 1..];
        if line.is_empty() {
            break;
        }
        let line = std::str::from_utf8(line).map_err(|_| Unsure)?;
        match line.split_once(": ").ok_or(Unsure)? {
            ("content-disposition", value) => {
                let value = value.strip_prefix("form-data; name=\"").and_then(|value| value.strip_suffix('"'));
                let value = value.ok_or(Unsure)?;
                let (first, second) = value.split_once("\"; filename=\"").unwrap_or((value, ""));
                if [first, second].iter().any(|text| text.contains('"')) {
                    return Err(Unsure);
                }
                (name, filename) = (first.trim().to_owned(), second.trim().to_owned());
            }
            ("content-type", value) if !value.contains("charset") => value.trim().clone_into(&mut kind),
            ("x-other", _) => {}
            _ => return Err(Unsure),
        }
    }
    if name.is_empty() {
        return Ok(None);
    }
    let text = |text: &str| Plain::Text(text.to_owned());
    let value = match filename.as_str() {
        "" => text(&String::from_utf8_lossy(rest)),
        filename => Plain::Object(vec![
            ("name".to_owned(), text(&name)),
            ("filename".to_owned(), text(filename)),
            ("type".to_owned(), text(&kind)),
            ("size".to_owned(), Plain::Number(rest.len().to_string())),
        ]),
    };
    Ok(Some((name, value)))
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
