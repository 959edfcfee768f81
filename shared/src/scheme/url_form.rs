//! The forms of a URL that a sender may have signed.
//!
//! A sender signs the URL that it was given, character by character. The URL that arrives sometimes differs, because a
//! client or the platform has rewritten it on the way. These are the changes:
//!
//! | in the URL | workerd | workerd behind `wrangler dev`, and whatever reads it with `new URL` |
//! |---|---|---|
//! | `'` in the query | stays | `%27` |
//! | `"` `<` `>` and control characters, anywhere | stay | `%22` `%3C` `%3E` `%01` |
//! | characters beyond ASCII, as UTF-8 | stay | `%C3%BC` |
//! | other bytes beyond ASCII | U+FFFD | `%EF%BF%BD` |
//! | `^` `{` `}` and the backtick in the path | stay | escaped |
//! | the same and `\` `[` `]` and the bar in the query; `'` in the path | stay | stay |
//! | `\` in the path | stays | `/` |
//! | `.` and `..` in the path | removed | removed |
//! | `%2e` and `%2E` as a segment of the path | stay | removed |
//! | `//` in the path; an empty query (`?`); `+`, `;`, `&&`; other escapes, right or wrong, in either case | stay | stay |
//! | a fragment | stays | removed |
//! | the host in upper case, `127.1` | stays | in lower case, `127.0.0.1` |
//! | the default port of the scheme, an empty port | stays | removed |
//! | a blank or a tab | the URL ends before it | the URL ends before it |
//!
//! Cloudflare's zones normalise incoming URLs by default: `%41` becomes `A`, escapes are written in upper case, and
//! `//` in the path becomes `/`. Cloudflare does not document whether that affects the query; everything except `//`
//! can be switched off.
//!
//! None of this affects the path of a source (`/in/{name}`) and its host, if they were entered as the relay gives them,
//! so that only the query and the port are left. For a sender that was given another URL there is `public_url`.

mod port;
mod query;

use std::borrow::Cow;

pub use port::UrlForm;
pub use query::QueryForm;
pub(crate) use query::escaped;

/// Up to this size of the signed content, in bytes, other forms of the query are tried: the cost of a wrong signature
/// over a large body does not grow with the number of forms. Senders that sign the URL send small bodies.
pub(crate) const MAX_RESPELLED_BYTES: usize = 1_048_576;

/// The forms of the query that are tried for every sender, after the query as it is.
const OF_EVERY_SENDER: &[QueryForm] = &[QueryForm::Apostrophes, QueryForm::Unescaped];

const AS_IS: &[UrlForm] = &[UrlForm::AsIs];

/// Tries the URLs that a sender may have signed, the requested one first, until `attempt` finds something. No URL is
/// tried twice, so an ordinary one is tried once for each port that it may have been signed with. There are at most
/// three ports and five forms of the query. `queries` are the forms that only this sender may have signed; if it is
/// `None`, the query is taken as it is.
pub(crate) fn first_match<T, E>(
    asked: &str,
    ports: &[UrlForm],
    queries: Option<&[QueryForm]>,
    mut attempt: impl FnMut(&str) -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let ports = if ports.is_empty() { AS_IS } else { ports };
    let mut tried: Vec<Cow<'_, str>> = Vec::with_capacity(ports.len());
    let others = queries.into_iter().flat_map(|queries| OF_EVERY_SENDER.iter().chain(queries));
    for query in std::iter::once(&QueryForm::AsIs).chain(others) {
        let Some(spelled) = query.of(asked) else { continue };
        for port in ports {
            let url = port.of(spelled.clone());
            if tried.contains(&url) {
                continue;
            }
            let found = attempt(&url)?;
            if found.is_some() {
                return Ok(found);
            }
            tried.push(url);
        }
    }
    Ok(None)
}

/// Whether the query of a URL may have been signed in another form than the requested one.
pub(crate) fn has_other_forms(asked: &str, queries: &[QueryForm]) -> bool {
    OF_EVERY_SENDER.iter().chain(queries).any(|query| query.of(asked).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(asked: &str, ports: &[UrlForm], queries: Option<&[QueryForm]>) -> Vec<String> {
        let mut tried = Vec::new();
        let found: Result<Option<()>, ()> = first_match(asked, ports, queries, |url| {
            tried.push(url.to_owned());
            Ok(None)
        });
        assert_eq!(found, Ok(None));
        tried
    }

    const PORTS: [UrlForm; 3] = [UrlForm::AsIs, UrlForm::WithoutPort, UrlForm::WithDefaultPort];
    const QUERIES: [QueryForm; 2] = [QueryForm::Escaped, QueryForm::Rewritten];

    #[test]
    fn an_ordinary_url_is_tried_once_for_each_port() {
        for asked in
            ["https://a.example/in/x", "https://a.example/in/x?foo=1&bar=a%20b", "https://a.example/in/x?", "?"]
        {
            assert_eq!(tried(asked, &[], Some(&[])), [asked]);
        }
        let asked = "https://a.example/in/x?foo=1&bar=a%20b";
        assert_eq!(tried(asked, &PORTS, Some(&QUERIES)), [asked, "https://a.example:443/in/x?foo=1&bar=a%20b"]);
    }

    #[test]
    fn every_form_is_tried_once_and_the_url_as_it_was_asked_for_first() {
        let asked = "https://a.example:8443/x?n=O%27Brien&m=%22a+b%22&u=sip:1@b";
        let all = tried(asked, &PORTS, Some(&QUERIES));
        let queries = [
            "n=O%27Brien&m=%22a+b%22&u=sip:1@b",
            "n=O'Brien&m=%22a+b%22&u=sip:1@b",
            "n=O'Brien&m=\"a+b\"&u=sip:1@b",
            "n=O'Brien&m=%22a%20b%22&u=sip%3A1%40b",
        ];
        let expected: Vec<_> = queries
            .iter()
            .flat_map(|query| [format!("https://a.example:8443/x?{query}"), format!("https://a.example/x?{query}")])
            .collect();
        assert_eq!(all, expected);
        assert_eq!(tried(asked, &PORTS, None), all[..2], "the query as it is");
    }

    #[test]
    fn the_first_form_that_matches_ends_it() {
        let mut count = 0;
        let found: Result<_, ()> =
            first_match("https://a.example/x?n=O%27Brien&m=a+b", &PORTS, Some(&QUERIES), |url| {
                count += 1;
                Ok(url.contains('\'').then(|| url.to_owned()))
            });
        assert_eq!(found, Ok(Some("https://a.example/x?n=O'Brien&m=a+b".to_owned())));
        assert_eq!(count, 3, "both ports of the query as it is, and then this one");
        assert_eq!(first_match("u", &PORTS, Some(&QUERIES), |_| Err::<Option<()>, _>("broken")), Err("broken"));
    }
}
