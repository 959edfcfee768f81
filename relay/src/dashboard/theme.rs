//! Light, dark, or as the system of the viewer: a cookie of the browser, because it is a choice per screen.

use cookie::{Cookie, SameSite};
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};
use serde::Deserialize;

const NAME: &str = "tidegate-theme";
const KEPT_DAYS: i64 = 365;

/// Which colours a page has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Theme {
    #[default]
    System,
    Light,
    Dark,
}

impl Theme {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// The theme that the browser has chosen.
pub(super) fn of(headers: &HeaderMap) -> Theme {
    let texts = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut cookies = texts.flat_map(|text| Cookie::split_parse(text.to_owned())).filter_map(Result::ok);
    let chosen = cookies.find(|cookie| cookie.name() == NAME);
    let chosen = chosen.as_ref().map(Cookie::value);
    [Theme::Light, Theme::Dark].into_iter().find(|theme| Some(theme.name()) == chosen).unwrap_or_default()
}

/// The header `Set-Cookie` that keeps a choice.
pub(super) fn kept(theme: Theme) -> HeaderValue {
    let cookie = Cookie::build((NAME, theme.name()))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .max_age(time::Duration::days(KEPT_DAYS));
    HeaderValue::try_from(cookie.to_string()).unwrap_or(HeaderValue::from_static(""))
}
