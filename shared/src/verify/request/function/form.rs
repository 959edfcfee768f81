//! The content that Twilio signs of a form: `twilio-node`, `src/webhooks/webhooks.ts`.

use std::cmp::Ordering;

/// The decoded parameters sorted by name, each as its name and its value with nothing in between. If a name is
/// repeated, each distinct value once, sorted.
///
/// `None` if the URL contains `bodySHA256`: then Twilio has signed the hash of the body with the URL, and the body is
/// not a form. Reading it as a form without parameters would accept any URL that was ever signed.
pub(super) fn sorted_concat(url: &str, body: &[u8]) -> Option<String> {
    if url.contains("bodySHA256") {
        return None;
    }
    let mut parameters: Vec<_> = form_urlencoded::parse(body).collect();
    parameters.sort_by(|(a, a_value), (b, b_value)| by_utf16(a, b).then_with(|| by_utf16(a_value, b_value)));
    parameters.dedup();
    let mut out = String::new();
    for (name, value) in parameters {
        out.push_str(&name);
        out.push_str(&value);
    }
    Some(out)
}

/// The order of JavaScript's `sort`, which differs from that of UTF-8 beyond U+FFFF.
fn by_utf16(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> String {
        sorted_concat("https://a.example/x", body.as_bytes()).expect("a form")
    }

    #[test]
    fn parameters_are_decoded_sorted_and_put_together() {
        assert_eq!(of("To=%2B1800&Body=a+b%26c&From=%2B1415&Empty="), "Bodya b&cEmptyFrom+1415To+1800");
        assert_eq!(of("b=1&B=2&_=3&a=4"), "B2_3a4b1");
        assert_eq!(of(""), "");
    }

    #[test]
    fn a_repeated_name_counts_with_each_of_its_values_once() {
        assert_eq!(of("a=2&b=x&a=10&a=2&a="), "aa10a2bx");
    }

    #[test]
    fn names_are_in_the_order_of_utf_16() {
        // U+10000 is D800 DC00 in UTF-16, and so before U+FF5E.
        assert_eq!(of("%EF%BD%9E=1&%F0%90%80%80=2"), "\u{10000}2\u{ff5e}1");
    }

    #[test]
    fn a_body_whose_hash_is_in_the_url_is_no_form() {
        assert_eq!(sorted_concat("https://a.example/x?bodySHA256=00", b""), None);
    }
}
