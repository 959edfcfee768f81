//! The settings of a destination, and their checks.

use std::collections::BTreeMap;

use egress::Egress;
use model::destination::{MAX_URL_BYTES, Rate};
use model::retry_policy::RetryPolicy;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::sign::SigningSecret;
use url::Url;
use utoipa::ToSchema;

use crate::control::fields::{FieldError, Object, Problems, optional_object, optional_whole, without_zero_fractions};
use crate::control::patch::given;
use crate::control::rate::RateLimit;
use crate::control::{Error, schema, static_headers};

pub(super) const DEFAULT_CONCURRENCY: i64 = 10;
pub(super) const DEFAULT_TIMEOUT_MS: i64 = 15_000;

/// The settings of a destination.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationSpec {
    /// 1 to 64 characters: a–z, 0–9, `-` and `_`. Required when creating with POST; PUT takes the name from the path.
    #[schema(value_type = Option<schema::DestinationName>)]
    pub name: Option<String>,
    /// An `http` or `https` URL with a public address. Private addresses return 422 unless `TIDEGATE_EGRESS_ALLOW`
    /// includes them. Changing the scheme, host or port resets the health of the destination (back-off, breaker,
    /// reduction and failures); changing the path does not.
    #[schema(value_type = schema::DestinationUrl)]
    pub url: String,
    /// Null or omitted: no rate limit; only `max_concurrency` applies. Attempts are evenly spaced. Any time window
    /// contains at most as many attempts as the rate allows, plus a small burst: one attempt at rates from 2 per second
    /// or, if that is more, one less than 5% of the attempts per second (at 1,000 per second, at most 1,049 attempts in
    /// one second).
    #[serde(default, deserialize_with = "optional_object")]
    pub rate_limit: Option<RateLimit>,
    /// The maximum number of attempts in flight at the same time. Default: 10.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 1, maximum = 1000)]
    pub max_concurrency: Option<i64>,
    /// The timeout of an attempt in milliseconds, from the start of the name resolution until the response headers have
    /// been received; the time for the transform does not count. The name resolution, connecting and the TLS handshake
    /// may take at most 5 seconds. Of the response body, only what arrives within two seconds is kept. Default: 15,000.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 100, maximum = 120_000)]
    pub timeout_ms: Option<i64>,
    /// When and how often a delivery is attempted: with the delays in `schedule_s`, or in the exponential form. A new
    /// delivery first waits for the first entry of `schedule_s`; manual retries and releases are sent immediately.
    /// Default: ten attempts over three days, as recommended by Standard Webhooks, starting immediately.
    #[schema(value_type = Option<schema::RetryPolicy>)]
    pub retry: Option<Value>,
    /// Whether to append the query string of the provider's request to the URL, after the URL's own. A delivery is held
    /// if its URL would exceed 8,000 bytes. The header `tidegate-original-query` always contains the query string.
    /// Default: false.
    pub append_query: Option<bool>,
    /// Static headers that are sent with every delivery. Values are stored encrypted and never returned. If PUT omits
    /// `headers`, the current headers are kept unless the scheme, host or port of the URL changes.
    #[schema(value_type = Option<schema::StaticHeaders>)]
    pub headers: Option<BTreeMap<String, String>>,
    /// A signing secret of your choice. If omitted, POST generates one and PUT keeps the current one. If PUT replaces
    /// it, deliveries are also signed with the previous one for one day.
    #[schema(value_type = Option<schema::SigningSecretText>)]
    pub signing_secret: Option<String>,
}

/// Changes to a destination, as a JSON merge patch (RFC 7396). Omitted fields are unchanged.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationPatch {
    /// Changing the scheme, host or port removes all static headers that the same request does not set.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::DestinationUrl, required = false)]
    pub url: Option<Value>,
    /// Merged with the current rate limit: `{"limit": 100}` keeps `per`. Null removes the rate limit.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::RateLimitPatch>)]
    pub rate_limit: Option<Value>,
    /// Null resets it to the default, 10.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 1000)]
    pub max_concurrency: Option<Value>,
    /// Null resets it to the default, 15,000.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 100, maximum = 120_000)]
    pub timeout_ms: Option<Value>,
    /// Merged with the current policy: `{"attempts": 5}` keeps all other fields. To switch between `schedule_s` and the
    /// exponential form, set the fields of the form you leave to null, as in `{"schedule_s": [0, 60], "initial_s":
    /// null, "multiplier": null, "max_s": null, "attempts": null}`. Setting `retry` to null resets it to the default.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::RetryPatch>)]
    pub retry: Option<Value>,
    /// Null resets it to the default, false.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<bool>)]
    pub append_query: Option<Value>,
    /// Merged with the current headers; names are case-insensitive. Setting a header to null removes it; setting
    /// `headers` to null removes all.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::StaticHeadersPatch>)]
    pub headers: Option<Value>,
    /// A signing secret of your choice. Deliveries are also signed with the previous one for one day.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::SigningSecretText, required = false)]
    pub signing_secret: Option<Value>,
}

impl DestinationPatch {
    /// The patch as JSON, with the names of headers in lower case. Values that no destination accepts are refused here.
    pub(super) fn into_json(mut self) -> Result<Value, Error> {
        let mut problems = Problems::default();
        if let Some(Value::Object(headers)) = &mut self.headers {
            *headers = in_lower_case(std::mem::take(headers), &mut problems);
        }
        if self.signing_secret == Some(Value::Null) {
            problems
                .add("signing_secret", "cannot be null; set a new secret, or omit the field to keep the current one");
        }
        problems.finish()?;
        serde_json::to_value(self).map_err(|error| Error::Internal(error.to_string()))
    }
}

fn in_lower_case(headers: Map<String, Value>, problems: &mut Problems) -> Map<String, Value> {
    let mut lower = Map::new();
    for (name, value) in headers {
        if lower.insert(name.to_ascii_lowercase(), value).is_some() {
            problems.add(format!("headers.{name}"), static_headers::TWICE);
        }
    }
    lower
}

/// Settings that have passed every check.
pub(super) struct Checked {
    pub(super) url: Url,
    pub(super) rate: Option<Rate>,
    pub(super) max_concurrency: i32,
    pub(super) timeout_ms: i32,
    pub(super) retry: RetryPolicy,
    pub(super) append_query: bool,
    pub(super) headers: Option<BTreeMap<String, String>>,
    pub(super) signing_secret: Option<SigningSecret>,
}

impl DestinationSpec {
    /// Checks all settings. Returns `None` only if a problem was noted.
    pub(super) fn check(self, egress: &Egress, problems: &mut Problems) -> Option<Checked> {
        let url = url(&self.url, egress).map_err(|error| problems.push(error)).ok();
        let rate = self.rate_limit.and_then(|rate| rate.read(problems));
        let concurrency = self.max_concurrency.unwrap_or(DEFAULT_CONCURRENCY);
        let max_concurrency = problems.range("max_concurrency", concurrency, 1, 1_000);
        let timeout_ms = problems.range("timeout_ms", self.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS), 100, 120_000);
        let retry = match self.retry {
            None => Some(RetryPolicy::default()),
            Some(retry) => match serde_json::from_value(without_zero_fractions(retry)) {
                Ok(Object(retry)) => Some(retry),
                Err(error) => {
                    problems.add("retry", error.to_string());
                    None
                }
            },
        };
        let headers = self.headers.map(|headers| static_headers::check(&headers, problems));
        let signing_secret = self.signing_secret.and_then(|text| {
            SigningSecret::parse(&text).map_err(|error| problems.add("signing_secret", error.to_string())).ok()
        });
        Some(Checked {
            url: url?,
            rate,
            max_concurrency: max_concurrency?,
            timeout_ms: timeout_ms?,
            retry: retry?,
            append_query: self.append_query.unwrap_or(false),
            headers,
            signing_secret,
        })
    }
}

fn url(text: &str, egress: &Egress) -> Result<Url, FieldError> {
    if text.len() > MAX_URL_BYTES {
        return Err(FieldError::new(
            "url",
            format!("is {} bytes long, but may be at most {MAX_URL_BYTES}", text.len()),
        ));
    }
    let mut url = Url::parse(text).map_err(|error| {
        FieldError::new(
            "url",
            format!("\"{text}\" is not a valid URL ({error}); use one such as https://example.com/webhooks"),
        )
    })?;
    egress.check_url(&url).map_err(|error| FieldError::with_code("url", error.code(), error.to_string()))?;
    // A fragment is never sent, so storing it would mislead.
    url.set_fragment(None);
    Ok(url)
}

/// Whether both URLs have the same scheme, host and port. Credentials that were given for one origin are not sent to
/// another.
pub(super) fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fields::wrong_fields;
    use egress::EgressPolicy;

    fn check(settings: serde_json::Value) -> Result<Checked, (&'static str, Vec<String>)> {
        let settings: DestinationSpec = serde_json::from_value(settings).expect("settings");
        let egress = Egress::new(EgressPolicy::default()).expect("egress");
        let mut problems = Problems::default();
        let checked = settings.check(&egress, &mut problems);
        problems.finish_with(checked).map_err(|error| {
            let errors = wrong_fields::<Checked>(Err(error));
            let code = errors.iter().find_map(|error| error.code).unwrap_or("validation");
            (code, errors.into_iter().map(|error| error.field).collect())
        })
    }

    #[test]
    fn a_url_is_enough() {
        let checked =
            check(serde_json::json!({"url": "https://example.com/a#b"})).map_err(|(_, fields)| fields).expect("good");
        assert_eq!(checked.url.as_str(), "https://example.com/a");
        assert_eq!((checked.max_concurrency, checked.timeout_ms), (10, 15_000));
        assert_eq!(checked.retry, RetryPolicy::default());
        assert!(
            !checked.append_query
                && checked.rate.is_none()
                && checked.headers.is_none()
                && checked.signing_secret.is_none()
        );
    }

    #[test]
    fn a_private_address_is_refused_with_the_code_of_the_guard() {
        for url in ["http://127.0.0.1/", "http://169.254.169.254/", "http://[::ffff:10.0.0.1]/"] {
            let refused = check(serde_json::json!({"url": url})).err();
            assert_eq!(refused, Some(("egress_blocked", vec!["url".to_owned()])), "{url}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_requested_is_refused() {
        for url in ["https://{tenant}.example.com/", "http://a`b.example/", "https://a\"b.example/"] {
            let refused = check(serde_json::json!({"url": url})).err();
            assert_eq!(refused, Some(("egress_url_unsendable", vec!["url".to_owned()])), "{url}");
        }
    }

    #[test]
    fn all_invalid_fields_are_reported_at_once() {
        let wrong = check(serde_json::json!({
            "url": "example", "rate_limit": {"limit": 0, "per": "second"}, "max_concurrency": 0, "timeout_ms": 120_001,
            "retry": {"schedule_s": []}, "headers": {"host": "x"}, "signing_secret": "secret",
        }));
        let fields =
            ["url", "rate_limit.limit", "max_concurrency", "timeout_ms", "retry", "headers.host", "signing_secret"];
        assert_eq!(wrong.err().map(|(_, fields)| fields), Some(fields.map(str::to_owned).to_vec()));
    }

    #[test]
    fn another_port_is_another_origin_and_another_path_is_not() {
        let same =
            |one: &str, other: &str| same_origin(&Url::parse(one).expect("url"), &Url::parse(other).expect("url"));
        assert!(same("https://example.com/a?b", "https://EXAMPLE.com:443/c"));
        for other in ["http://example.com/a", "https://example.com:8443/a", "https://example.org/a"] {
            assert!(!same("https://example.com/a", other), "{other}");
        }
    }
}
