//! What a form has done, shown once on the page to which it redirects.
//!
//! The text goes into a cookie of the browser, so that the URL of the page stays the state of the page alone.

use axum::response::{IntoResponse as _, Redirect, Response};
use cookie::{Cookie, SameSite};
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use url::form_urlencoded;

const NAME: &str = "tidegate-notice";

/// The longest text, in bytes: a browser keeps cookies of up to 4 KB.
const MOST_BYTES: usize = 1_000;

/// For how long it is kept if the page does not load, in seconds.
const KEPT_S: i64 = 60;

/// What a notice adds if a change is saved and not active everywhere yet.
pub(super) const LATER: &str = " It is saved, and becomes active within a few seconds.";

/// What a form has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) text: String,
    /// `ok`, `warn` or `danger`.
    pub(super) tone: &'static str,
}

impl Notice {
    /// What was done.
    pub(super) fn done(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: "ok" }
    }

    /// What was done, and what is still missing.
    pub(super) fn partly(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: "warn" }
    }

    /// What a change did, and that it becomes active later if it is not active everywhere yet.
    pub(super) fn saved(text: impl Into<String>, is_active: bool) -> Self {
        if is_active { Self::done(text) } else { Self::partly(format!("{}{LATER}", text.into())) }
    }

    /// The same, as something that the viewer has to look at.
    pub(super) fn incomplete(self) -> Self {
        Self { tone: "warn", ..self }
    }

    /// What was refused.
    pub(super) fn refused(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: "danger" }
    }

    /// Sends the browser to a page that shows it.
    pub(super) fn on(self, page: &str) -> Response {
        let mut response = Redirect::to(page).into_response();
        *response.status_mut() = StatusCode::SEE_OTHER;
        let mut text = self.text;
        while text.len() > MOST_BYTES {
            text.pop();
        }
        let encoded = form_urlencoded::Serializer::new(String::new()).append_pair(self.tone, &text).finish();
        response.headers_mut().append(SET_COOKIE, set(&encoded, KEPT_S));
        response
    }
}

/// The notice that a request brings.
pub(super) fn of(headers: &HeaderMap) -> Option<Notice> {
    let texts = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut cookies = texts.flat_map(|text| Cookie::split_parse(text.to_owned())).filter_map(Result::ok);
    let value = cookies.find(|cookie| cookie.name() == NAME)?.value().to_owned();
    let (tone, text) = form_urlencoded::parse(value.as_bytes()).next()?;
    let tone = ["ok", "warn", "danger"].into_iter().find(|known| *known == tone)?;
    Some(Notice { text: text.into_owned(), tone })
}

/// Makes the browser forget the notice.
pub(super) fn shown() -> HeaderValue {
    set("", 0)
}

fn set(value: &str, seconds: i64) -> HeaderValue {
    let cookie = Cookie::build((NAME, value))
        .path(super::ROOT)
        .http_only(true)
        .same_site(SameSite::Strict)
        .max_age(time::Duration::seconds(seconds));
    // The value is encoded for a form.
    HeaderValue::try_from(cookie.to_string()).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_comes_back_with_the_next_request() {
        for text in ["The destination a&b; c is paused.", "größer, \"<b>\"", ""] {
            let response = Notice::partly(text).on("/dashboard/x");
            assert_eq!(response.headers()["location"], "/dashboard/x");
            let cookie = response.headers()[SET_COOKIE].to_str().expect("text").to_owned();
            let mut headers = HeaderMap::new();
            let pair = cookie.split(';').next().expect("a pair");
            headers.insert(COOKIE, HeaderValue::from_str(pair).expect("a value"));
            assert_eq!(of(&headers), Some(Notice { text: text.to_owned(), tone: "warn" }), "{cookie}");
        }
        assert_eq!(of(&HeaderMap::new()), None);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let response = Notice::done("ü".repeat(2_000)).on("/");
        assert!(response.headers()[SET_COOKIE].len() < 4_000);
    }
}
