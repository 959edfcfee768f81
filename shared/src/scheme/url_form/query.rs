//! The spelling of the query that was signed.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The character that is escaped as `%EF%BF%BD`. It replaces bytes that are not text, so different queries can contain
/// it in the same place.
const REPLACEMENT: char = '\u{fffd}';

/// How the query of the signed URL follows from that of the requested one.
///
/// No form changes which parameters a query has, their order, or their values: decoded, they are the same. Names, `&`,
/// `=` and `%` are never unescaped, and nothing is unescaped twice. So a signature that holds for two requests holds
/// for two spellings of the same parameters. The sender signed one of them, and a change of spelling on the way changes
/// nothing that a reader of the parameters sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryForm {
    AsIs,
    /// With `'` for `%27`. Of the characters that clients commonly leave unescaped (`encodeURIComponent` does), it is
    /// the only one that the platform escapes. The replacement creates no delimiter, because `'` is not one.
    Apostrophes,
    /// With all characters unescaped that the platform escapes in a query: `"`, `'`, `<`, `>` and those beyond ASCII.
    /// None of them delimits parameters. There is no such form if the escapes are not UTF-8.
    Unescaped,
    /// With the same characters escaped as the platform writes them: the reverse. It changes no existing escape, and
    /// escapes no delimiter.
    Escaped,
    /// With each name and value decoded as in a form and escaped again as Node's `querystring` does: `+` becomes `%20`,
    /// `@` becomes `%40`, `%27` becomes `'`. Parameters stay in order, and none is left out. Decoded by the same rules
    /// they are the same; there is no such form if a name or a value is not text, because then they might differ.
    Rewritten,
}

impl QueryForm {
    /// The URL in this form; `None` if there is none, or if nothing in it would differ.
    pub(super) fn of(self, url: &str) -> Option<Cow<'_, str>> {
        if self == Self::AsIs {
            return Some(Cow::Borrowed(url));
        }
        let from = url.find(['?', '#']).filter(|at| url[*at..].starts_with('?'))? + 1;
        let to = url[from..].find('#').map_or(url.len(), |at| from + at);
        let query = &url[from..to];
        let other = match self {
            Self::AsIs => return None,
            Self::Apostrophes => query.replace("%27", "'"),
            Self::Unescaped => unescaped(query)?,
            Self::Escaped => escaped(query).into_owned(),
            Self::Rewritten => rewritten(query)?,
        };
        (other != query).then(|| Cow::Owned([&url[..from], &other, &url[to..]].concat()))
    }
}

/// The query as the platform writes it: with the escapes of WHATWG's URL standard in a query of `http` and `https`.
pub(crate) fn escaped(query: &str) -> Cow<'_, str> {
    let is_escaped = |byte: u8| matches!(byte, 0..=b' ' | b'"' | b'\'' | b'<' | b'>' | 0x7f..);
    if !query.bytes().any(is_escaped) {
        return Cow::Borrowed(query);
    }
    let mut out = String::with_capacity(query.len() + 16);
    for byte in query.bytes() {
        if is_escaped(byte) {
            push_escape(&mut out, byte);
        } else {
            out.push(char::from(byte));
        }
    }
    Cow::Owned(out)
}

/// Undoes [`escaped`] for characters that can arrive unescaped. Only escapes in upper case are undone, as the platform
/// writes them.
fn unescaped(query: &str) -> Option<String> {
    let mut out = Vec::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let escape = after.first_chunk().filter(|_| *byte == b'%').and_then(|digits| unescape(*digits));
        if let Some(escape) = escape {
            out.push(escape);
            rest = &after[2..];
        } else {
            out.push(*byte);
            rest = after;
        }
    }
    String::from_utf8(out).ok().filter(|text| !text.contains(REPLACEMENT))
}

fn unescape(digits: [u8; 2]) -> Option<u8> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    };
    let byte = (value(digits[0])? << 4) | value(digits[1])?;
    matches!(byte, b'"' | b'\'' | b'<' | b'>' | 0x80..).then_some(byte)
}

fn rewritten(query: &str) -> Option<String> {
    let mut out = String::with_capacity(query.len() + 16);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name.contains(REPLACEMENT) || value.contains(REPLACEMENT) {
            return None;
        }
        if !out.is_empty() {
            out.push('&');
        }
        push_parameter_text(&mut out, &name);
        out.push('=');
        push_parameter_text(&mut out, &value);
    }
    Some(out)
}

fn push_parameter_text(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            out.push(char::from(byte));
        } else {
            push_escape(out, byte);
        }
    }
}

fn push_escape(out: &mut String, byte: u8) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    out.extend(['%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMS: [QueryForm; 4] =
        [QueryForm::Apostrophes, QueryForm::Unescaped, QueryForm::Escaped, QueryForm::Rewritten];

    fn of(form: QueryForm, query: &str) -> Option<String> {
        let url = format!("https://a.example/in/x'%27?{query}#'%27");
        let other = form.of(&url)?.into_owned();
        let inner = other.strip_prefix("https://a.example/in/x'%27?").and_then(|rest| rest.strip_suffix("#'%27"));
        Some(inner.expect("only the query differs").to_owned())
    }

    #[test]
    fn each_form_writes_a_query_in_its_way() {
        for (query, forms) in [
            ("n=O%27Brien", [Some("n=O'Brien"), Some("n=O'Brien"), None, Some("n=O'Brien")]),
            ("n=O'Brien", [None, None, Some("n=O%27Brien"), None]),
            ("n=O%27B&x=%22+%3C", [Some("n=O'B&x=%22+%3C"), Some("n=O'B&x=\"+<"), None, Some("n=O'B&x=%22%20%3C")]),
            ("a=%C3%BC&b=%c3%bc", [None, Some("a=ü&b=%c3%bc"), None, Some("a=%C3%BC&b=%C3%BC")]),
            ("a=ü\"<>", [None, None, Some("a=%C3%BC%22%3C%3E"), Some("a=%C3%BC%22%3C%3E")]),
            ("a=%2527&b=%26%3D%23%25", [None, None, None, None]),
            ("a=%%27&b=%2%27", [Some("a=%'&b=%2'"), Some("a=%'&b=%2'"), None, Some("a=%25'&b=%252'")]),
            ("a[]=1&b|=2&&c", [None, None, None, Some("a%5B%5D=1&b%7C=2&c=")]),
            ("a=%ff&b=%27", [Some("a=%ff&b='"), Some("a=%ff&b='"), None, None]),
            ("a=%FF&b=%27", [Some("a=%FF&b='"), None, None, None]),
            ("a=%EF%BF%BD", [None, None, None, None]),
            ("", [None, None, None, None]),
            ("&&", [None, None, None, Some("")]),
        ] {
            assert_eq!(FORMS.map(|form| of(form, query)), forms.map(|form| form.map(str::to_owned)), "{query}");
        }
        for url in ["https://a.example/in/'%27", "https://a.example/#?'%27", ""] {
            assert_eq!(FORMS.map(|form| form.of(url)), [const { None }; 4], "{url}");
        }
    }

    proptest! {
        #[test]
        fn every_form_has_the_parameters_of_the_query(
            query in "(%[0-9A-F]{2}|%27|%|&|=|[+a';\"<>üx ]|%C3%BC){0,12}"
        ) {
            let read = |query: &str| form_urlencoded::parse(query.as_bytes()).into_owned().collect::<Vec<_>>();
            for form in FORMS {
                if let Some(other) = of(form, &query) {
                    prop_assert_eq!(read(&other), read(&query), "{:?} of {} is {}", form, query, other);
                }
            }
        }

        #[test]
        fn what_the_platform_has_escaped_is_found_again(query in "[a-z=&+'\"<>üé%~]{0,12}") {
            let arrived = escaped(&query);
            prop_assert_eq!(unescaped(&arrived), Some(query.clone()));
            prop_assert_eq!(escaped(&arrived), arrived.as_ref());
        }
    }
}
