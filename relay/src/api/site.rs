//! The site as which browsers know the relay: its origin, its cookies, and whether a request comes from it.
//!
//! A browser attaches cookies to requests that other sites cause. So a cookie alone proves no intent: a request that
//! changes something also needs the relay's own origin in `Origin`, which a page cannot choose.

use std::time::Duration;

use cookie::{Cookie, SameSite};
use http::header::{COOKIE, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::{Host, Url};

/// The name of the session's cookie behind TLS. A browser accepts the prefix `__Host-` only from this very host, over
/// TLS and for all paths, so no other host of the domain can set it.
pub(crate) const SECURE_COOKIE: &str = "__Host-tidegate";

/// The name of the session's cookie over plain HTTP, for which browsers refuse the prefix.
const PLAIN_COOKIE: &str = "tidegate";

/// The names of the cookie that remembers a sign-in with OpenID Connect until the browser comes back.
const SIGN_IN_COOKIES: [&str; 2] = ["__Host-tidegate-sign-in", "tidegate-sign-in"];

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The site of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    /// Its origin, as browsers write it.
    origin: String,
    is_secure: bool,
    /// Whether the operator has configured it, or it is on this machine.
    is_trusted: bool,
}

impl Site {
    /// The site of a request: the configured one, or else the host that the request names. `None` if it names none.
    ///
    /// A page of another site can choose neither `Host` nor `X-Forwarded-Proto` of a request that has a cookie.
    pub(crate) fn of(public_url: Option<&Url>, headers: &HeaderMap) -> Option<Self> {
        if let Some(url) = public_url {
            let origin = url.origin().ascii_serialization();
            return Some(Self { origin, is_secure: url.scheme() == "https", is_trusted: true });
        }
        let host = headers.get(HOST)?.to_str().ok()?;
        let forwarded = headers.get(FORWARDED_PROTO).and_then(|value| value.to_str().ok());
        // Several proxies make a list, which begins with what the browser used.
        let proto = forwarded.and_then(|list| list.split(',').next());
        let is_secure = proto.is_some_and(|proto| proto.trim().eq_ignore_ascii_case("https"));
        let url = Url::parse(&format!("{}://{host}", if is_secure { "https" } else { "http" })).ok()?;
        let is_trusted = url.host().is_some_and(|host| is_loopback(&host));
        Some(Self { origin: url.origin().ascii_serialization(), is_secure, is_trusted })
    }

    /// Whether sessions are made for it: it has TLS, or the operator has configured it, or its requests do not
    /// leave this machine.
    pub(crate) fn may_have_sessions(&self) -> bool {
        self.is_secure || self.is_trusted
    }

    /// The secret of the session of a request; `None` if it has no cookie of a session.
    pub(crate) fn session(&self, headers: &HeaderMap) -> Option<String> {
        self.cookie(headers, self.session_name())
    }

    /// The header `Set-Cookie` that gives a session to the browser.
    pub(crate) fn new_session(&self, secret: &str, lifetime: Duration) -> HeaderValue {
        self.set(self.session_name(), secret, lifetime)
    }

    /// The header `Set-Cookie` that makes the browser forget its session.
    pub(crate) fn no_session(&self) -> HeaderValue {
        self.set(self.session_name(), "", Duration::ZERO)
    }

    /// What the browser remembers of a sign-in with OpenID Connect.
    pub(crate) fn sign_in(&self, headers: &HeaderMap) -> Option<String> {
        self.cookie(headers, self.sign_in_name())
    }

    /// The header `Set-Cookie` that lets the browser remember a sign-in. The cookie is sent when the provider sends the
    /// browser back, because that is a navigation (`SameSite=Lax`).
    pub(crate) fn new_sign_in(&self, remembered: &str, lifetime: Duration) -> HeaderValue {
        self.set(self.sign_in_name(), remembered, lifetime)
    }

    /// The header `Set-Cookie` that makes the browser forget a sign-in.
    pub(crate) fn no_sign_in(&self) -> HeaderValue {
        self.set(self.sign_in_name(), "", Duration::ZERO)
    }

    fn sign_in_name(&self) -> &'static str {
        let [secure, plain] = SIGN_IN_COOKIES;
        if self.is_secure { secure } else { plain }
    }

    fn session_name(&self) -> &'static str {
        if self.is_secure { SECURE_COOKIE } else { PLAIN_COOKIE }
    }

    /// The value of a cookie of a request.
    fn cookie(&self, headers: &HeaderMap, name: &str) -> Option<String> {
        let texts = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let mut cookies = texts.flat_map(|text| Cookie::split_parse(text.to_owned())).filter_map(Result::ok);
        cookies.find(|cookie| cookie.name() == name).map(|cookie| cookie.value().to_owned())
    }

    fn set(&self, name: &str, value: &str, lifetime: Duration) -> HeaderValue {
        let seconds = i64::try_from(lifetime.as_secs()).unwrap_or_default();
        let cookie = Cookie::build((name, value))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(self.is_secure)
            .max_age(time::Duration::seconds(seconds));
        // The values are letters, digits and signs that a header may have.
        HeaderValue::try_from(cookie.to_string()).unwrap_or(HeaderValue::from_static(""))
    }
}

/// Whether only this machine can reach a host by this name.
fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// Checks that a request does not name another origin. Programs name none.
///
/// # Errors
/// Returns what shows that it comes from elsewhere.
pub(crate) fn check_origin(site: &Site, headers: &HeaderMap) -> Result<(), &'static str> {
    match headers.get(ORIGIN) {
        Some(origin) if origin.as_bytes() != site.origin.as_bytes() => {
            Err("the header Origin does not name the relay's own origin")
        }
        Some(_) | None => Ok(()),
    }
}

/// Checks that a request with a cookie comes from the relay's own pages. One that only reads may also come from the
/// browser itself, as if its address was typed.
///
/// # Errors
/// Returns what shows that it may come from elsewhere.
pub(crate) fn check(site: &Site, method: &Method, headers: &HeaderMap) -> Result<(), &'static str> {
    let only_reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    match headers.get(ORIGIN) {
        Some(origin) if origin.as_bytes() == site.origin.as_bytes() => {}
        Some(_) => return Err("the header Origin does not name the relay's own origin"),
        None if only_reads => {}
        None => return Err("the header Origin is missing"),
    }
    match headers.get(FETCH_SITE).map(HeaderValue::as_bytes) {
        None | Some(b"same-origin") => Ok(()),
        Some(b"none") if only_reads => Ok(()),
        Some(_) => Err("the header Sec-Fetch-Site does not say same-origin"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        };
        pairs.iter().map(pair).collect()
    }

    fn site(public_url: Option<&str>, pairs: &[(&'static str, &str)]) -> Option<Site> {
        Site::of(public_url.map(|url| url.parse().expect("a URL")).as_ref(), &headers(pairs))
    }

    #[test]
    fn the_origin_is_the_configured_one_or_that_of_the_request() {
        let origin = |public_url, pairs: &[(&'static str, &str)]| site(public_url, pairs).map(|site| site.origin);
        let configured = Some("https://Tidegate.example.com:443/");
        assert_eq!(origin(configured, &[("host", "10.0.0.1:8400")]).as_deref(), Some("https://tidegate.example.com"));
        assert_eq!(origin(None, &[("host", "127.0.0.1:8400")]).as_deref(), Some("http://127.0.0.1:8400"));
        let proxied = [("host", "Tidegate.example.com"), ("x-forwarded-proto", "https")];
        assert_eq!(origin(None, &proxied).as_deref(), Some("https://tidegate.example.com"));
        let proxied = [("host", "a.example"), ("x-forwarded-proto", "https, http")];
        assert_eq!(origin(None, &proxied).as_deref(), Some("https://a.example"));
        assert_eq!(origin(None, &[]), None);
        assert_eq!(origin(None, &[("host", "a b")]), None);
    }

    #[test]
    fn the_cookie_is_secure_behind_tls_and_sessions_over_plain_http_need_a_reason() {
        let session = |site: &Site| {
            let cookie = site.new_session("tgs_1", Duration::from_secs(60));
            cookie.to_str().expect("text").to_owned()
        };
        let secure = site(None, &[("host", "a.example"), ("x-forwarded-proto", "HTTPS")]).expect("a site");
        assert!(secure.may_have_sessions());
        let parts = "__Host-tidegate=tgs_1; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60";
        assert_eq!(session(&secure), parts);
        let plain = site(None, &[("host", "a.example")]).expect("a site");
        assert!(!plain.may_have_sessions());
        for host in ["127.0.0.1:8400", "[::1]:8400", "localhost", "tidegate.localhost"] {
            let here = site(None, &[("host", host)]).expect("a site");
            assert!(here.may_have_sessions(), "{host}");
            assert_eq!(session(&here), "tidegate=tgs_1; HttpOnly; SameSite=Lax; Path=/; Max-Age=60");
        }
        assert!(site(Some("http://relay.internal:8400"), &[]).expect("a site").may_have_sessions());
        let forgotten = secure.no_session().to_str().expect("text").to_owned();
        assert!(forgotten.starts_with("__Host-tidegate=; ") && forgotten.ends_with("Max-Age=0"), "{forgotten}");
    }

    #[test]
    fn the_session_is_found_among_other_cookies_and_only_by_the_name_of_the_site() {
        let secure = site(Some("https://a.example"), &[]).expect("a site");
        let found = |text: &str| secure.session(&headers(&[("cookie", text)]));
        assert_eq!(found("a=b; __Host-tidegate=tgs_1; c").as_deref(), Some("tgs_1"));
        assert_eq!(found("tidegate=tgs_1; x__Host-tidegate=tgs_2"), None);
        assert_eq!(found(";;="), None);
        assert_eq!(secure.session(&headers(&[])), None);
        let two = headers(&[("cookie", "a=b"), ("cookie", "__Host-tidegate=tgs_3")]);
        assert_eq!(secure.session(&two).as_deref(), Some("tgs_3"));
    }

    #[test]
    fn a_change_needs_the_own_origin_and_a_read_must_not_come_from_another_site() {
        let own = ("origin", "https://a.example");
        let site = site(Some("https://a.example"), &[]).expect("a site");
        let passes = |method: &Method, pairs: &[(&'static str, &str)]| check(&site, method, &headers(pairs)).is_ok();
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(passes(&method, &[own]));
            assert!(passes(&method, &[own, ("sec-fetch-site", "same-origin")]));
            assert!(!passes(&method, &[]), "without Origin");
            for origin in
                ["https://b.example", "http://a.example", "https://a.example:8443", "null", "", "https://a.example/"]
            {
                assert!(!passes(&method, &[("origin", origin)]), "{origin}");
            }
            for fetch_site in ["same-site", "cross-site", "none", ""] {
                assert!(!passes(&method, &[own, ("sec-fetch-site", fetch_site)]), "{fetch_site}");
            }
        }
        for pairs in [&[][..], &[own], &[("sec-fetch-site", "none")], &[("sec-fetch-site", "same-origin")]] {
            assert!(passes(&Method::GET, pairs), "{pairs:?}");
        }
        for pairs in [
            &[("origin", "https://b.example")][..],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
        ] {
            assert!(!passes(&Method::GET, pairs), "{pairs:?}");
        }
    }
}
