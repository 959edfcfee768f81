//! The head of a request, read in one call of the host. [`crate::body`] reads its body.

use shared::decision::Head;
use shared::header::HeaderList;
use worker::web_sys;

use crate::host;

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

/// Reads the head; `None` if it holds something that is not text.
pub(crate) fn read(request: &web_sys::Request) -> Option<Head> {
    parse(&host::head(request))
}

/// Reads the output of `head` in `host.js`; no part of it can contain a line feed.
pub(crate) fn parse(text: &str) -> Option<Head> {
    let mut lines = text.split('\n');
    let (method, url) = (lines.next()?.to_owned(), lines.next()?.to_owned());
    let mut headers = Vec::new();
    while let Some(name) = lines.next() {
        headers.push((name, lines.next()?));
    }
    Some(Head { method, url, headers: HeaderList::new(headers) })
}

/// Whether the client is a browser.
pub(crate) fn wants_html(head: &Head) -> bool {
    head.headers.get("accept").is_some_and(|accept| accept.contains("text/html"))
}

/// The class of the sender's address, for `RejectionSample`.
pub(crate) fn remote_class(head: &Head) -> &'static str {
    match head.headers.get("cf-connecting-ip") {
        Some(address) if address.contains(':') => "ipv6",
        Some(address) if address.contains('.') => "ipv4",
        Some(_) | None => "unknown",
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

    #[test]
    fn a_head_is_read_line_by_line_and_one_that_is_cut_is_refused() {
        let head = parse("POST\nhttps://edge.example/in/a\nX-Empty\n\nx-a\n b, c ").expect("a head");
        assert_eq!((head.method.as_str(), head.path()), ("POST", "/in/a"));
        assert_eq!(head.headers.iter().collect::<Vec<_>>(), [("x-empty", ""), ("x-a", " b, c ")]);
        for cut in ["", "POST", "POST\nhttps://edge.example/in/a\nx-a"] {
            assert!(parse(cut).is_none(), "{cut}");
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
    fn the_class_of_an_address_says_nothing_else() {
        let with = |address: &str| Head {
            method: "POST".to_owned(),
            url: String::new(),
            headers: HeaderList::new([("cf-connecting-ip", address)]),
        };
        let without = Head { headers: HeaderList::default(), ..with("") };
        assert_eq!(remote_class(&with("192.0.2.1")), "ipv4");
        assert_eq!(remote_class(&with("2001:db8::1")), "ipv6");
        assert_eq!(remote_class(&without), "unknown");
    }
}
