//! The port of the URL that was signed.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// How the port of the signed URL follows from that of the requested one.
///
/// Two requests that differ only in whether the port is written have arrived at the same source, so this does not
/// accept one request in place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UrlForm {
    AsIs,
    WithoutPort,
    /// With `:443`, or `:80` if the scheme is not `https`, unless the URL has a port.
    WithDefaultPort,
}

impl UrlForm {
    pub(super) fn of(self, url: Cow<'_, str>) -> Cow<'_, str> {
        let Some((host, port, rest)) = split(&url) else { return url };
        match self {
            Self::WithoutPort if !port.is_empty() => Cow::Owned(format!("{host}{rest}")),
            Self::WithDefaultPort if port.is_empty() => {
                let secure = url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"));
                Cow::Owned(format!("{host}:{}{rest}", if secure { 443 } else { 80 }))
            }
            Self::AsIs | Self::WithoutPort | Self::WithDefaultPort => url,
        }
    }
}

/// Everything up to the host, the port with its colon, and the rest. A colon begins a port only after an IPv6 literal
/// and after the user part before an `@`.
fn split(url: &str) -> Option<(&str, &str, &str)> {
    let host_from = url.find("://")? + 3;
    let rest_from = url[host_from..].find(['/', '?', '#']).map_or(url.len(), |at| host_from + at);
    let authority = &url[host_from..rest_from];
    let name_from = authority.rfind('@').map_or(0, |at| at + 1);
    let literal_to = authority.rfind(']').map_or(name_from, |at| at.max(name_from));
    let port_from = authority[literal_to..].find(':').map_or(authority.len(), |at| literal_to + at);
    let port_from = host_from + port_from;
    Some((&url[..port_from], &url[port_from..rest_from], &url[rest_from..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_port_differs() {
        for (url, without, with) in [
            (
                "https://a.example/in/x?y=%27'#z",
                "https://a.example/in/x?y=%27'#z",
                "https://a.example:443/in/x?y=%27'#z",
            ),
            ("https://a.example:8443/x", "https://a.example/x", "https://a.example:8443/x"),
            ("HTTPS://a.example", "HTTPS://a.example", "HTTPS://a.example:443"),
            ("http://u:p@a.example?b=c:1", "http://u:p@a.example?b=c:1", "http://u:p@a.example:80?b=c:1"),
            ("http://[::1]/x", "http://[::1]/x", "http://[::1]:80/x"),
            ("http://[::1]:8080/x:9", "http://[::1]/x:9", "http://[::1]:8080/x:9"),
            ("no url", "no url", "no url"),
        ] {
            let of = |form: UrlForm| form.of(Cow::Borrowed(url)).into_owned();
            assert_eq!(
                [of(UrlForm::AsIs), of(UrlForm::WithoutPort), of(UrlForm::WithDefaultPort)],
                [url, without, with]
            );
        }
    }
}
