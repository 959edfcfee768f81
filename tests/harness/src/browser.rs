//! A browser without a screen: it keeps cookies, sends `Origin` as browsers do, and follows redirects one by one.

use std::collections::BTreeMap;

use reqwest::header::{COOKIE, HeaderMap, LOCATION, SET_COOKIE};
use reqwest::{Method, Url};
use serde_json::Value;

use crate::api::http_client;

/// The most redirects that it follows.
const REDIRECTS: usize = 20;

/// A browser with its cookies. It sends all of them to every host: the tests have one host with several ports, which
/// share cookies.
#[derive(Debug, Clone)]
pub struct Browser {
    client: reqwest::Client,
    cookies: BTreeMap<String, String>,
    /// Further headers of every request.
    pub headers: BTreeMap<&'static str, String>,
}

/// A response.
#[derive(Debug, Clone)]
pub struct Page {
    /// The URL of the request.
    pub url: Url,
    pub status: u16,
    /// Where it redirects to.
    pub location: Option<Url>,
    /// The headers `Set-Cookie`.
    pub set_cookies: Vec<String>,
    pub headers: HeaderMap,
    /// The size of the body as it was sent.
    pub bytes: u64,
    /// The JSON value, or the text as a string if it is not JSON.
    pub body: Value,
}

/// A stream that tells a page of changes.
#[derive(Debug)]
pub struct Changes {
    response: reqwest::Response,
}

impl Changes {
    /// Waits for the next change. False when the stream has ended.
    pub async fn changed(&mut self) -> bool {
        while let Ok(Some(chunk)) = self.response.chunk().await {
            if chunk.windows(7).any(|part| part == b"changed") {
                return true;
            }
        }
        false
    }
}

impl Default for Browser {
    fn default() -> Self {
        Self { client: http_client(), cookies: BTreeMap::new(), headers: BTreeMap::new() }
    }
}

impl Browser {
    /// The value of a cookie.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.get(name).map(String::as_str)
    }

    /// Sets a cookie.
    pub fn set_cookie(&mut self, name: &str, value: &str) {
        self.cookies.insert(name.to_owned(), value.to_owned());
    }

    /// The same browser, with a further header in every request.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.to_owned());
        self
    }

    /// Opens a URL, without following a redirect.
    ///
    /// # Panics
    /// Panics if there is no response.
    pub async fn get(&mut self, url: &str) -> Page {
        self.send(Method::GET, url, None).await
    }

    /// Sends a form to a URL, without following a redirect.
    ///
    /// # Panics
    /// Panics if there is no response.
    pub async fn post_form(&mut self, url: &str, fields: &[(&str, &str)]) -> Page {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.send(Method::POST, url, Some(body)).await
    }

    /// Sends a request as a page of the same origin would, without following a redirect.
    ///
    /// # Panics
    /// Panics if there is no response.
    pub async fn send(&mut self, method: Method, url: &str, form: Option<String>) -> Page {
        let url: Url = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
        let mut request = self.client.request(method.clone(), url.clone());
        if !self.cookies.is_empty() {
            let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(COOKIE, cookies.join("; "));
        }
        if method != Method::GET && !self.headers.contains_key("origin") {
            request = request.header("origin", url.origin().ascii_serialization());
        }
        // An empty value removes the header.
        for (name, value) in self.headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, value);
        }
        if let Some(form) = form {
            request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{method} {url}: {error:?}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let set_cookies: Vec<String> = headers.get_all(SET_COOKIE).iter().map(text).collect();
        for cookie in &set_cookies {
            self.keep(cookie);
        }
        let location = headers.get(LOCATION).and_then(|location| url.join(&text(location)).ok());
        let body = response.bytes().await.unwrap_or_else(|error| panic!("{method} {url}: {error:?}"));
        let bytes = body.len() as u64;
        let body = String::from_utf8_lossy(&body).into_owned();
        let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
        Page { url, status, location, set_cookies, headers, bytes, body }
    }

    /// Opens the stream that tells a page of changes.
    ///
    /// # Panics
    /// Panics if there is no response, or another status than 200.
    pub async fn stream(&self, url: &str) -> Changes {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let response = self.client.get(url).header(COOKIE, cookies.join("; ")).send().await;
        let response = response.unwrap_or_else(|error| panic!("GET {url}: {error:?}"));
        assert_eq!(response.status().as_u16(), 200, "GET {url}");
        Changes { response }
    }

    /// Opens a URL and follows redirects until there is none, or until one leads to a URL that begins with `until`,
    /// which is not opened: then the page is the one that redirects.
    ///
    /// # Panics
    /// Panics if there is no response, or no end of redirects.
    pub async fn follow(&mut self, url: &str, until: &str) -> Page {
        let mut page = self.get(url).await;
        for _ in 0..REDIRECTS {
            match &page.location {
                Some(location) if !location.as_str().starts_with(until) => page = self.get(location.as_str()).await,
                Some(_) | None => return page,
            }
        }
        panic!("{url} redirects without an end");
    }

    fn keep(&mut self, set_cookie: &str) {
        let (pair, attributes) = set_cookie.split_once(';').unwrap_or((set_cookie, ""));
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let attributes = attributes.to_lowercase();
        if value.is_empty() || attributes.contains("max-age=0") || attributes.contains("01 jan 1970") {
            self.cookies.remove(name);
        } else {
            self.set_cookie(name, value);
        }
    }
}

impl Page {
    /// Returns the body of a response with this status.
    ///
    /// # Panics
    /// Panics if the response has another status.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{} answered {}", self.url, self.body);
        self.body
    }
}
