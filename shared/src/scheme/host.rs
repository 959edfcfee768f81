//! The hosts that a URL in a request may name.
//!
//! The sender writes such a URL, so it is read by strict rules: anything but the plain spelling is refused. The host is
//! compared as text, so that no second parser could see another one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest URL that is accepted, in bytes.
const MAX_URL_BYTES: usize = 512;

/// A host, such as `api.paypal.com`, or one with a `*` in place of exactly one label, such as `sns.*.amazonaws.com`.
///
/// The `*` matches three or more letters, digits and hyphens, but never a label that begins with `s3`: Amazon's
/// `sns.s3.amazonaws.com` is not its notification service but a customer's storage bucket with the name `sns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern(String);

impl HostPattern {
    /// Whether the pattern matches `host`, which is in lower case.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let (mut wanted, mut labels) = (self.0.split('.'), host.split('.'));
        loop {
            match (wanted.next(), labels.next()) {
                (None, None) => return true,
                (Some("*"), Some(label)) if is_label(label) && label.len() >= 3 && !label.starts_with("s3") => {}
                (Some(wanted), Some(label)) if wanted != "*" && wanted == label => {}
                (Some(_) | None, Some(_)) | (Some(_), None) => return false,
            }
        }
    }
}

/// The part of a URL after its host, from the `/` on. `None` if the URL is not `https://`, one of `hosts` without a
/// port or a user, and a path; or if it has a fragment or anything that is not printable ASCII.
#[must_use]
pub fn path_at<'u>(url: &'u str, hosts: &[HostPattern]) -> Option<&'u str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"#\\\"<>^`{|}".contains(&byte);
    let rest = url.strip_prefix("https://").filter(|_| url.len() <= MAX_URL_BYTES && url.bytes().all(plain))?;
    let (host, path) = rest.split_at(rest.find('/')?);
    hosts.iter().any(|pattern| pattern.matches(host)).then_some(path)
}

/// Whether a certificate may be fetched from a URL: at one of `hosts`, with a plain path and no query. A service that
/// answers queries could be made to return a certificate of the sender.
#[must_use]
pub fn is_certificate_url(url: &str, hosts: &[HostPattern]) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path_at(url, hosts).is_some_and(|path| {
        let mut segments = path.split('/').skip(1);
        path.bytes().all(plain) && segments.all(|segment| !matches!(segment, "" | "." | ".."))
    })
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let labels: Vec<_> = text.split('.').collect();
        let stars = labels.iter().filter(|label| **label == "*").count();
        let named = labels.iter().rev().take(2).all(|label| is_label(label));
        if labels.len() >= 2 && named && stars <= 1 && labels.iter().all(|label| *label == "*" || is_label(label)) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "\"{text}\" is not a valid host pattern; use lower case, and at most one * for a whole label other than \
             the last two, such as *.example.com"
        ))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(patterns: &[&str]) -> Vec<HostPattern> {
        patterns.iter().map(|pattern| pattern.parse().expect("a pattern")).collect()
    }

    fn sns() -> Vec<HostPattern> {
        hosts(&["sns.*.amazonaws.com", "sns.*.amazonaws.com.cn"])
    }

    #[test]
    fn a_host_is_matched_as_a_whole() {
        let paypal = hosts(&["api.paypal.com", "api.sandbox.paypal.com"]);
        let path = |url: &'static str| path_at(url, &paypal);
        assert_eq!(
            path("https://api.paypal.com/v1/notifications/certs/CERT-1"),
            Some("/v1/notifications/certs/CERT-1")
        );
        assert_eq!(path("https://api.sandbox.paypal.com/c"), Some("/c"));
        for url in [
            "http://api.paypal.com/c",
            "HTTPS://api.paypal.com/c",
            "https://API.paypal.com/c",
            "https://api.paypal.com",
            "https://api.paypal.com:443/c",
            "https://api.paypal.com./c",
            "https://api.paypal.com@evil.example/c",
            "https://u@api.paypal.com/c",
            "https://evil.example/https://api.paypal.com/c",
            "https://api.paypal.com.evil.example/c",
            "https://evilapi.paypal.com/c",
            "https://paypal.com/c",
            "https://api.paypal.com\\@evil.example/c",
            "https://api.paypal.com/c#fragment",
            "https://api.paypal.com/c\n",
            " https://api.paypal.com/c",
            "https:api.paypal.com/c",
            "https:///api.paypal.com/c",
            "//api.paypal.com/c",
        ] {
            assert_eq!(path(url), None, "{url}");
        }
    }

    #[test]
    fn a_star_is_one_label_and_not_a_storage_bucket() {
        let allowed = |host: &str| sns().iter().any(|pattern| pattern.matches(host));
        assert!(allowed("sns.us-east-1.amazonaws.com"));
        assert!(allowed("sns.cn-north-1.amazonaws.com.cn"));
        for host in [
            "sns.amazonaws.com",
            "sns..amazonaws.com",
            "sns.a.b.amazonaws.com",
            "sns.us-east-1.amazonaws.com.evil.example",
            "sns.us_east.amazonaws.com",
            "sns.*.amazonaws.com",
            "sns.s3.amazonaws.com",
            "sns.s3-us-west-2.amazonaws.com",
            "sns.eu.amazonaws.com",
            "evil.us-east-1.amazonaws.com",
        ] {
            assert!(!allowed(host), "{host}");
        }
        let leading = hosts(&["*.paypal.com"]);
        assert!(leading[0].matches("api.paypal.com"));
        assert!(!leading[0].matches("api.sandbox.paypal.com") && !leading[0].matches("paypal.com"));
    }

    #[test]
    fn a_certificate_has_a_plain_path() {
        let is = |path: &str| is_certificate_url(&format!("https://sns.us-east-1.amazonaws.com{path}"), &sns());
        assert!(is("/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem"));
        for path in
            ["/", "/?Action=ListTopics", "/a?b", "//a.pem", "/a/../b.pem", "/./a.pem", "/a%2e.pem", "/a;b=c.pem"]
        {
            assert!(!is(path), "{path}");
        }
        assert!(!is(&format!("/{}", "a".repeat(MAX_URL_BYTES))));
    }

    #[test]
    fn a_pattern_that_would_match_too_much_is_refused() {
        for text in
            ["", "*", "*.com", "com", "a.*", "*.*.example.com", "a*.example.com", "A.example", "a..example", "a/b.c"]
        {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }
}
