//! The target of a redirect, as it is shown to operators. It is never followed.

use http::HeaderValue;
use url::Url;

/// The longest text that is shown, in bytes.
const MAX_BYTES: usize = 500;

/// The target of the `location` of a response from `from`: scheme, host, port and path. The parts that may contain a
/// credential (query, fragment and user info) are left out. `None` if it is not an http or https URL.
pub(super) fn target(from: &Url, location: &HeaderValue) -> Option<String> {
    let mut url = from.join(String::from_utf8_lossy(location.as_bytes()).trim()).ok()?;
    if !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    url.set_query(None);
    url.set_fragment(None);
    url.set_username("").and_then(|()| url.set_password(None)).ok()?;
    // A URL is serialised as ASCII without control characters, so any byte is a valid place to cut.
    let mut text = String::from(url);
    if text.len() > MAX_BYTES {
        text.truncate(MAX_BYTES);
        text.push('…');
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(location: &[u8]) -> Option<String> {
        let from = Url::parse("https://example.com/hooks/in?token=ours").expect("a url");
        target(&from, &HeaderValue::from_bytes(location).expect("a value"))
    }

    #[test]
    fn only_the_scheme_host_port_and_path_are_shown() {
        for (location, expected) in [
            ("https://www.example.com/hooks/in", "https://www.example.com/hooks/in"),
            ("https://user:secret@example.org:8443/a?token=secret#secret", "https://example.org:8443/a"),
            ("/login?next=%2Fhooks", "https://example.com/login"),
            ("elsewhere", "https://example.com/hooks/elsewhere"),
            ("//example.org", "https://example.org/"),
            ("", "https://example.com/hooks/in"),
            ("http://169.254.169.254/latest/meta-data", "http://169.254.169.254/latest/meta-data"),
            ("\thttps://example.org/a b\t", "https://example.org/a%20b"),
        ] {
            assert_eq!(shown(location.as_bytes()).as_deref(), Some(expected), "{location}");
        }
        assert_eq!(shown(b"/caf\xe9").as_deref(), Some("https://example.com/caf%EF%BF%BD"));
    }

    #[test]
    fn a_target_that_is_not_an_http_url_is_not_shown() {
        for location in
            ["javascript:alert(1)", "data:text/html,x", "mailto:a@b.example", "https://[", "file:///etc/passwd"]
        {
            assert_eq!(shown(location.as_bytes()), None, "{location}");
        }
    }

    #[test]
    fn a_long_url_is_truncated() {
        let text = shown(format!("/{}", "x".repeat(100_000)).as_bytes()).expect("shown");
        assert!(text.ends_with("xxx…") && text.len() <= MAX_BYTES + '…'.len_utf8(), "{}", text.len());
    }
}
