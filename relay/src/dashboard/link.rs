//! Links between pages. Every state of a page is in its URL.

use http::Uri;
use url::form_urlencoded::{self, Serializer};

use crate::control::sign_in;

/// The query parameter that names the customer whose objects are shown.
pub(super) const CUSTOMER: &str = "customer";

/// The value of a query parameter; `None` if it is missing or empty.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut values = pairs.filter(|(found, _)| found == name).map(|(_, value)| value.into_owned());
    values.next().filter(|value| !value.is_empty())
}

/// A path with these query parameters; those without a value are left out.
pub(super) fn with(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() {
        return path.to_owned();
    }
    let joint = if path.contains('?') { '&' } else { '?' };
    format!("{path}{joint}{query}")
}

/// The path and query of a page with these parameters changed: `None` removes one.
pub(super) fn changed(uri: &Uri, changes: &[(&str, Option<&str>)]) -> String {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut query = Serializer::new(String::new());
    for (name, value) in pairs.filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name)) {
        if !value.is_empty() {
            query.append_pair(&name, &value);
        }
    }
    for (name, value) in changes {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() { uri.path().to_owned() } else { format!("{}?{query}", uri.path()) }
}

/// Whether a form of the browser may return to this path: a page of the dashboard, and never another site.
pub(super) fn is_own_page(path: &str) -> bool {
    let rest = path.strip_prefix(super::ROOT);
    sign_in::is_own_path(path) && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

/// The page to which a form of the browser returns, or the first page.
pub(super) fn own_page(path: &str) -> &str {
    if is_own_page(path) { path } else { super::ROOT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_returns_only_to_a_page_of_the_dashboard() {
        for path in ["/dashboard", "/dashboard/events?type=a", "/dashboard?customer=acme"] {
            assert_eq!(own_page(path), path);
        }
        for path in ["", "//evil.example", "/dashboardx", "https://evil.example/dashboard", "/v1/events", "/\\evil"] {
            assert_eq!(own_page(path), "/dashboard", "{path}");
        }
    }

    #[test]
    fn parameters_are_escaped_and_empty_ones_are_left_out() {
        assert_eq!(with("/events", &[("type", Some("a&b c")), ("key", None), ("x", Some(""))]), "/events?type=a%26b+c");
        assert_eq!(with("/events", &[]), "/events");
        assert_eq!(with("/events?a=1", &[("b", Some("2"))]), "/events?a=1&b=2");
    }

    #[test]
    fn a_change_keeps_the_other_parameters() {
        let uri: Uri = "/events?type=a%26b&cursor=x&empty=".parse().expect("a URI");
        assert_eq!(changed(&uri, &[("cursor", None)]), "/events?type=a%26b");
        assert_eq!(changed(&uri, &[("cursor", Some("y"))]), "/events?type=a%26b&cursor=y");
        assert_eq!(changed(&uri, &[("cursor", None), ("type", None)]), "/events");
        assert_eq!(parameter(&uri, "type").as_deref(), Some("a&b"));
        assert_eq!((parameter(&uri, "empty"), parameter(&uri, "none")), (None, None));
    }
}
