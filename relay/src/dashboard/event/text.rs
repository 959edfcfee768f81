//! Contents from outside as text that can be shown: pretty, raw, or as bytes. Each is cut at a limit and says so.

use std::fmt::Write as _;

use serde::de::IgnoredAny;
use url::form_urlencoded;

use crate::dashboard::view;

/// The most bytes of a content that are shown as text.
pub(in crate::dashboard) const SHOWN_BYTES: usize = 64 << 10;

/// The most bytes of a content that are shown as bytes.
const HEX_BYTES: usize = 4 << 10;

/// The most bytes of a content that are formatted.
pub(in crate::dashboard) const FORMATTED_BYTES: usize = 1 << 20;

/// The bytes in a line of bytes.
const LINE_BYTES: usize = 16;

/// How deep a formatted content is indented at most.
const DEEPEST: usize = 40;

/// A content as text, and what is left out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dashboard) struct Shown {
    pub(in crate::dashboard) text: String,
    /// What the text is: "JSON", "text", "bytes".
    pub(in crate::dashboard) kind: &'static str,
    /// What is left out, in a sentence.
    pub(in crate::dashboard) cut: Option<String>,
}

/// A text in which every character can be seen and none changes the direction or the place of others.
pub(in crate::dashboard) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            '\r' => shown.push('␍'),
            '\u{7f}' => shown.push('␡'),
            '\0'..='\u{1f}' => shown.push(char::from_u32(0x2400 + u32::from(character)).unwrap_or('\u{fffd}')),
            '\u{80}'..='\u{9f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => {
                let _ = write!(shown, "⟨U+{:04X}⟩", u32::from(character));
            }
            other => shown.push(other),
        }
    }
    shown
}

/// The content as it is.
pub(in crate::dashboard) fn raw(content: &[u8]) -> Shown {
    let is_text = std::str::from_utf8(content).is_ok();
    let beginning = &content[..content.len().min(SHOWN_BYTES)];
    // A character that the limit cuts apart is left out.
    let whole = match std::str::from_utf8(beginning) {
        Err(error) if is_text => &beginning[..error.valid_up_to()],
        Ok(_) | Err(_) => beginning,
    };
    Shown {
        text: visible(&String::from_utf8_lossy(whole)),
        kind: if is_text { "text" } else { "not text: bytes that are no UTF-8 are shown as �" },
        cut: cut(content.len(), whole.len()),
    }
}

fn cut(all: usize, shown: usize) -> Option<String> {
    let left = all.checked_sub(shown).filter(|left| *left > 0)?;
    Some(format!(
        "The first {} of {} are shown; {} are left out. Download the body to see all of it.",
        view::bytes(shown),
        view::bytes(all),
        view::bytes(left)
    ))
}

/// The content as lines of bytes.
pub(in crate::dashboard) fn hex(content: &[u8]) -> Shown {
    let beginning = &content[..content.len().min(HEX_BYTES)];
    let mut text = String::new();
    for (line, bytes) in beginning.chunks(LINE_BYTES).enumerate() {
        let _ = write!(text, "{:08x} ", line * LINE_BYTES);
        for at in 0..LINE_BYTES {
            let gap = if at == LINE_BYTES / 2 { " " } else { "" };
            match bytes.get(at) {
                Some(byte) => {
                    let _ = write!(text, "{gap} {byte:02x}");
                }
                None => {
                    let _ = write!(text, "{gap}   ");
                }
            }
        }
        text.push_str("  ");
        text.extend(bytes.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' }));
        text.push('\n');
    }
    Shown { text, kind: "bytes", cut: cut(content.len(), beginning.len()) }
}

/// The content in a form that is easy to read, if it is JSON or a form.
pub(in crate::dashboard) fn pretty(content: &[u8], content_type: Option<&str>) -> Shown {
    if content.len() > FORMATTED_BYTES {
        let shown = raw(content);
        let limit = view::bytes(FORMATTED_BYTES);
        return Shown {
            cut: Some(format!("Contents over {limit} are not formatted. {}", shown.cut.unwrap_or_default())),
            ..shown
        };
    }
    if serde_json::from_slice::<IgnoredAny>(content).is_ok() {
        return formatted(&indented(content), "JSON");
    }
    if content_type.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
        let pairs = form_urlencoded::parse(content).map(|(name, value)| format!("{name} = {value}\n"));
        return formatted(pairs.collect::<String>().as_bytes(), "a form");
    }
    raw(content)
}

fn formatted(text: &[u8], kind: &'static str) -> Shown {
    let shown = raw(text);
    let cut = shown.cut.is_some().then(|| {
        format!(
            "The first {} of {} of formatted text are shown. Download the body to see all of it.",
            view::bytes(text.len().min(SHOWN_BYTES)),
            view::bytes(text.len())
        )
    });
    Shown { kind, cut, ..shown }
}

/// JSON with one value on a line. The order of fields, numbers and escapes are unchanged, because only white space
/// between tokens is. It ends some way behind the limit of what is shown.
fn indented(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() + json.len() / 2);
    let mut depth = 0_usize;
    let mut bytes = json.iter().copied().filter(|byte| *byte != b'\r').peekable();
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', 2 * depth.min(DEEPEST)));
    };
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                out.push(byte);
                let mut is_escaped = false;
                for byte in bytes.by_ref() {
                    out.push(byte);
                    match byte {
                        b'"' if !is_escaped => break,
                        b'\\' => is_escaped = !is_escaped,
                        _ => is_escaped = false,
                    }
                }
            }
            b'{' | b'[' => {
                out.push(byte);
                while bytes.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if bytes.peek().is_some_and(|next| matches!(next, b'}' | b']')) {
                    out.extend(bytes.next());
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(&mut out, depth);
            }
            b':' => out.extend(b": "),
            white if white.is_ascii_whitespace() => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_without_a_change_of_its_order_numbers_or_escapes() {
        let shown = pretty(br#"{"b":1.50,"a":[{},[],"x\"{,:\\"],  "n":{"e":1e400}}"#, None);
        let wanted = "{\n  \"b\": 1.50,\n  \"a\": [\n    {},\n    [],\n    \"x\\\"{,:\\\\\"\n  ],\n  \"n\": {\n    \"e\": 1e400\n  }\n}";
        assert_eq!((shown.text.as_str(), shown.kind, shown.cut), (wanted, "JSON", None));
    }

    #[test]
    fn what_is_no_json_is_shown_as_it_is_and_a_form_by_its_fields() {
        assert_eq!(pretty(b"{not json", None).text, "{not json");
        assert_eq!(
            pretty(b"a=1+2&b=%3Cx%3E", Some("application/x-www-form-urlencoded; charset=utf-8")).text,
            "a = 1 2\nb = <x>\n"
        );
        assert_eq!(pretty(b"", None).text, "");
    }

    #[test]
    fn characters_that_hide_or_turn_text_are_made_visible() {
        assert_eq!(visible("a\0\u{202e}b\u{200b}\tc\r\n\u{1b}[1m"), "a␀⟨U+202E⟩b⟨U+200B⟩\tc␍\n␛[1m");
    }

    #[test]
    fn a_long_content_is_cut_between_characters_and_says_by_how_much() {
        let shown = raw("é".repeat(SHOWN_BYTES).as_bytes());
        assert_eq!(shown.text.len(), SHOWN_BYTES);
        let cut = shown.cut.expect("is cut");
        assert!(cut.contains("65.5 KB of 131.0 KB") && cut.contains("65.5 KB are left out"), "{cut}");
        let shown = raw(&[0xff, b'a']);
        assert_eq!(shown.text, "\u{fffd}a");
        assert!(shown.kind.starts_with("not text"));
        let large = vec![b'1'; FORMATTED_BYTES + 1];
        assert!(pretty(&large, None).cut.is_some_and(|cut| cut.contains("are not formatted")));
    }

    #[test]
    fn bytes_are_shown_in_lines_with_their_places() {
        let shown = hex(b"0123456789abcdef\x00\xff");
        let lines: Vec<_> = shown.text.lines().collect();
        assert_eq!(lines[0], "00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  0123456789abcdef");
        assert!(lines[1].starts_with("00000010  00 ff") && lines[1].ends_with("  .."), "{}", lines[1]);
        assert!(hex(&vec![0; HEX_BYTES + 1]).cut.is_some());
    }
}
