//! The head of a request, read in one call of the host. [`crate::body`] reads its body.

use shared::header::HeaderList;
use shared::verify::RequestParts;
use worker::web_sys;

use crate::host;

/// The maximum size of the headers and the query of a request, in bytes. As JSON they take at most twice as much, so
/// the message that refers to a stored body always fits into the queue.
const MAX_HEAD_BYTES: usize = 48_000;

/// Hop-by-hop headers, which belong to one connection and not to the message (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The head of a request.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: HeaderList,
}

impl Head {
    /// Reads the head; `None` if it holds something that is not text.
    pub(crate) fn read(request: &web_sys::Request) -> Option<Self> {
        Self::parse(&host::head(request))
    }

    /// Reads the output of `head` in `host.js`; no part of it can contain a line feed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let (method, url) = (lines.next()?.to_owned(), lines.next()?.to_owned());
        let mut headers = Vec::new();
        while let Some(name) = lines.next() {
            headers.push((name, lines.next()?));
        }
        Some(Self { method, url, headers: HeaderList::new(headers) })
    }

    /// The path of the URL, as it was sent.
    pub(crate) fn path(&self) -> &str {
        let after_scheme = self.url.find("://").map_or(0, |at| at + 3);
        let rest = self.url.get(after_scheme..).unwrap_or_default();
        let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default();
        path.split(['?', '#']).next().unwrap_or_default()
    }

    /// The query of the URL without its `?`; empty if there is none.
    pub(crate) fn query(&self) -> &str {
        let without_fragment = self.url.split('#').next().unwrap_or_default();
        without_fragment.split_once('?').map_or("", |(_, query)| query)
    }

    /// The head in the form that `shared` uses.
    pub(crate) fn parts(&self) -> RequestParts<'_> {
        RequestParts { method: &self.method, url: &self.url, query: self.query(), headers: &self.headers }
    }

    /// Whether the request is safe by RFC 9110, section 9.2.1: its method only reads.
    pub(crate) fn is_safe(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }

    /// Whether the client is a browser.
    pub(crate) fn wants_html(&self) -> bool {
        self.headers.get("accept").is_some_and(|accept| accept.contains("text/html"))
    }

    /// Whether a browser navigates to the address, to show the answer. Only browsers send this header.
    pub(crate) fn is_navigation(&self) -> bool {
        self.headers.get("sec-fetch-mode") == Some("navigate")
    }

    /// The class of the sender's address, for `RejectionSample`.
    pub(crate) fn remote_class(&self) -> &'static str {
        match self.headers.get("cf-connecting-ip") {
            Some(address) if address.contains(':') => "ipv6",
            Some(address) if address.contains('.') => "ipv4",
            Some(_) | None => "unknown",
        }
    }

    /// Whether headers and query are small enough to travel in a message.
    pub(crate) fn fits(&self) -> bool {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
        headers + self.query().len() <= MAX_HEAD_BYTES
    }

    /// The body's announced size in bytes.
    pub(crate) fn declared(&self) -> Option<u64> {
        self.headers.get("content-length")?.trim().parse().ok()
    }
}

/// Whether a header is kept with an event. Dropped are hop-by-hop headers, Cloudflare's own, and `credentials`: the
/// headers in which the source's scheme carries a secret itself.
pub(crate) fn is_kept(name: &str, credentials: &[String]) -> bool {
    !HOP_BY_HOP.contains(&name)
        && !name.starts_with("cf-")
        && name != "cdn-loop"
        && !credentials.iter().any(|credential| credential.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(url: &str) -> Head {
        Head::parse(&format!("POST\n{url}\ncontent-length\n12")).expect("a head")
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
    fn a_head_is_read_line_by_line_and_one_that_is_cut_is_refused() {
        let head = Head::parse("POST\nhttps://edge.example/in/a\nX-Empty\n\nx-a\n b, c ").expect("a head");
        assert_eq!((head.method.as_str(), head.path()), ("POST", "/in/a"));
        assert_eq!(head.headers.iter().collect::<Vec<_>>(), [("x-empty", ""), ("x-a", " b, c ")]);
        for cut in ["", "POST", "POST\nhttps://edge.example/in/a\nx-a"] {
            assert!(Head::parse(cut).is_none(), "{cut}");
        }
    }

    #[test]
    fn connection_platform_and_credential_headers_are_not_kept() {
        let credentials = ["Authorization".to_owned()];
        for name in ["connection", "transfer-encoding", "cf-ray", "cf-connecting-ip", "cdn-loop", "authorization"] {
            assert!(!is_kept(name, &credentials), "{name}");
        }
        for name in ["content-type", "stripe-signature", "user-agent", "cookie", "x-forwarded-for"] {
            assert!(is_kept(name, &credentials), "{name}");
        }
        assert!(is_kept("authorization", &[]));
    }

    #[test]
    fn a_head_too_large_for_a_message_is_recognised() {
        assert!(head("https://edge.example/in/a").fits());
        assert!(!head(&format!("https://edge.example/in/a?{}", "q".repeat(MAX_HEAD_BYTES))).fits());
    }

    #[test]
    fn the_class_of_an_address_says_nothing_else() {
        let with = |address: &str| Head {
            method: "POST".to_owned(),
            url: String::new(),
            headers: HeaderList::new([("cf-connecting-ip", address)]),
        };
        assert_eq!(with("192.0.2.1").remote_class(), "ipv4");
        assert_eq!(with("2001:db8::1").remote_class(), "ipv6");
        assert_eq!(head("https://edge.example/").remote_class(), "unknown");
    }
}
