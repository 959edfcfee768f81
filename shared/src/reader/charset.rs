//! Decodes bytes into text: UTF-8, UTF-16, and windows-1252 with the charsets that are read as it (ISO-8859-1,
//! US-ASCII).
//!
//! The other charsets of the web are left out: their tables would make the Worker half as large again.

use std::borrow::Cow;

/// The characters of 0x80 to 0x9f in windows-1252 (encoding.spec.whatwg.org, index windows-1252).
const C1: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The names under which the web knows windows-1252 (encoding.spec.whatwg.org, names and labels).
const LATIN: [&str; 17] = [
    "ansi_x3.4-1968",
    "ascii",
    "cp1252",
    "cp819",
    "csisolatin1",
    "ibm819",
    "iso-8859-1",
    "iso-ir-100",
    "iso8859-1",
    "iso88591",
    "iso_8859-1",
    "iso_8859-1:1987",
    "l1",
    "latin1",
    "us-ascii",
    "windows-1252",
    "x-cp1252",
];

/// The text of a body, and whether it is exact: bytes that are not text become U+FFFD. `label` is the charset that
/// `content-type` names. A byte order mark overrides it, and so does valid UTF-8, except over UTF-16, of which it can
/// be a part.
pub(super) fn text<'a>(bytes: &'a [u8], label: Option<&str>) -> (Cow<'a, str>, bool) {
    match bytes {
        [0xfe, 0xff, rest @ ..] => return (utf16(rest, u16::from_be_bytes), true),
        [0xff, 0xfe, rest @ ..] => return (utf16(rest, u16::from_le_bytes), true),
        _ => {}
    }
    let is = |name: &str| label.is_some_and(|label| label.eq_ignore_ascii_case(name));
    let names_utf16 = is("utf-16") || is("utf-16le") || is("utf-16be");
    if label.is_none() || names_utf16 {
        // Two letters of ASCII: so begins most text.
        match bytes {
            [0, 1..=0x7f, 0, 1..=0x7f, ..] => return (utf16(bytes, u16::from_be_bytes), true),
            [1..=0x7f, 0, 1..=0x7f, 0, ..] => return (utf16(bytes, u16::from_le_bytes), true),
            _ => {}
        }
    }
    if names_utf16 {
        let unit = if is("utf-16be") { u16::from_be_bytes } else { u16::from_le_bytes };
        return (utf16(bytes, unit), true);
    }
    let bytes = without_mark(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), true),
        Err(_) if is_latin(label) => (Cow::Owned(windows_1252(bytes)), true),
        Err(_) => (String::from_utf8_lossy(bytes), false),
    }
}

/// The bytes after the byte order mark of UTF-8, if there is one.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// The text of a field of a form.
pub(super) fn field(bytes: Vec<u8>, label: Option<&str>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        let bytes = error.as_bytes();
        if is_latin(label) { windows_1252(bytes) } else { String::from_utf8_lossy(bytes).into_owned() }
    })
}

fn is_latin(label: Option<&str>) -> bool {
    label.is_some_and(|label| LATIN.iter().any(|name| label.eq_ignore_ascii_case(name)))
}

fn windows_1252(bytes: &[u8]) -> String {
    let letter = |byte: &u8| match byte {
        0x80..=0x9f => C1[usize::from(*byte - 0x80)],
        _ => char::from(*byte),
    };
    bytes.iter().map(letter).collect()
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Cow<'static, str> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| unit(*pair));
    let text = char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER));
    let cut = rest.iter().map(|_| char::REPLACEMENT_CHARACTER);
    Cow::Owned(text.chain(cut).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(bytes: &'a [u8], label: &str) -> (Cow<'a, str>, bool) {
        text(bytes, Some(label).filter(|label| !label.is_empty()))
    }

    #[test]
    fn the_charset_is_known_by_its_mark_its_zeros_or_its_name() {
        let be: Vec<u8> = "{é}".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let le: Vec<u8> = "{é}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let marked = |mark: &[u8], bytes: &[u8]| [mark, bytes].concat();
        for (bytes, label) in [
            (marked(b"\xfe\xff", &be), ""),
            (marked(b"\xff\xfe", &le), "utf-8"),
            (marked(b"\xef\xbb\xbf", "{é}".as_bytes()), "latin1"),
            (be, "UTF-16BE"),
            (le.clone(), "UTF-16"),
            (le, "utf-16le"),
            (b"{\xe9}".to_vec(), "ISO-8859-1"),
            (b"{\xe9}".to_vec(), "windows-1252"),
            ("{é}".as_bytes().to_vec(), "iso-8859-1"),
            ("{é}".as_bytes().to_vec(), "nobody-knows"),
            ("{é}".as_bytes().to_vec(), ""),
        ] {
            assert_eq!(of(&bytes, label), ("{é}".into(), true), "{bytes:?} {label}");
        }
        for (bytes, label) in [(b"\0{\0}".as_slice(), ""), (b"{\0}\0", ""), (b"\0{\0}", "utf-16")] {
            assert_eq!(of(bytes, label), ("{}".into(), true), "{bytes:?} {label}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_become_the_replacement_character() {
        assert_eq!(of(b"a\xffb", ""), ("a\u{fffd}b".into(), false));
        assert_eq!(of(b"a\0\0\xd8b\0c", "utf-16"), ("a\u{fffd}b\u{fffd}".into(), true));
        assert_eq!(of(b"\x80\x81\x9f\xff", "cp1252"), ("€\u{81}Ÿÿ".into(), true));
    }
}
