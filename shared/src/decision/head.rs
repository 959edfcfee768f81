//! The head of a request, as the edge decides by it.

use crate::header::HeaderList;
use crate::verify::RequestParts;

/// The maximum size of the headers and the query of a request, in bytes. As JSON they take at most twice as much, so
/// the message that refers to a stored body always fits into the queue.
pub const MAX_HEAD_BYTES: usize = 48_000;

/// The method with which most providers send.
pub const USUAL_METHOD: &str = "POST";

/// The head of a request.
#[derive(Debug, Clone)]
pub struct Head {
    /// In upper case.
    pub method: String,
    /// The whole URL, as the sender addressed it.
    pub url: String,
    pub headers: HeaderList,
}

impl Head {
    /// The path of the URL, as it was sent.
    #[must_use]
    pub fn path(&self) -> &str {
        let after_scheme = self.url.find("://").map_or(0, |at| at + 3);
        let rest = self.url.get(after_scheme..).unwrap_or_default();
        let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default();
        path.split(['?', '#']).next().unwrap_or_default()
    }

    /// The query of the URL without its `?`; empty if there is none.
    #[must_use]
    pub fn query(&self) -> &str {
        let without_fragment = self.url.split('#').next().unwrap_or_default();
        without_fragment.split_once('?').map_or("", |(_, query)| query)
    }

    /// The head in the form that `shared` uses.
    #[must_use]
    pub fn parts(&self) -> RequestParts<'_> {
        RequestParts { method: &self.method, url: &self.url, query: self.query(), headers: &self.headers }
    }

    /// Whether the request is safe by RFC 9110, section 9.2.1: its method only reads.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }

    /// Whether a browser navigates to the address, to show the answer. Only browsers send this header.
    #[must_use]
    pub fn is_navigation(&self) -> bool {
        self.headers.get("sec-fetch-mode") == Some("navigate")
    }

    /// Whether headers and query are small enough to travel in a message.
    #[must_use]
    pub fn fits(&self) -> bool {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
        headers + self.query().len() <= MAX_HEAD_BYTES
    }

    /// The body's announced size in bytes.
    #[must_use]
    pub fn declared(&self) -> Option<u64> {
        self.headers.get("content-length")?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(url: &str) -> Head {
        let headers = HeaderList::new([("content-length", "12")]);
        Head { method: "POST".to_owned(), url: url.to_owned(), headers }
    }

    #[test]
    fn path_and_query_are_taken_from_the_url_as_sent() {
        for (url, path, query) in [
            ("https://edge.example/in/a?x=1&y=%20", "/in/a", "x=1&y=%20"),
            ("https://edge.example/in/a?next=/b?c", "/in/a", "next=/b?c"),
            ("https://edge.example/in/a", "/in/a", ""),
            ("https://edge.example/in/a?#f", "/in/a", ""),
            ("https://edge.example", "", ""),
        ] {
            let head = head(url);
            assert_eq!((head.path(), head.query()), (path, query), "{url}");
        }
    }

    #[test]
    fn a_head_too_large_for_a_message_is_recognised() {
        assert!(head("https://edge.example/in/a").fits());
        assert!(!head(&format!("https://edge.example/in/a?{}", "q".repeat(MAX_HEAD_BYTES))).fits());
    }
}
