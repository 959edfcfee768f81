//! What an owner says of a destination, checked.

use std::collections::BTreeMap;

use egress::Egress;
use model::destination::Rate;
use model::retry_policy::RetryPolicy;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::sign::SigningKey;
use url::Url;
use utoipa::ToSchema;

use super::headers;
use crate::control::Error;
use crate::control::fields::{FieldError, Problems};
use crate::control::patch::given;
use crate::control::rate::RateLimit;

pub(super) const DEFAULT_CONCURRENCY: i64 = 10;
pub(super) const DEFAULT_TIMEOUT_MS: i64 = 15_000;
pub(crate) const MAX_URL_BYTES: usize = 2_048;

/// What a destination consists of.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationSpec {
    /// 1 to 64 characters of a to z, 0 to 9, - and _. Needed by POST; PUT takes it from the path.
    #[schema(example = "billing")]
    pub name: Option<String>,
    /// http or https, to a public address unless the operator has allowed others. Another scheme, host or port ends what was
    /// learned of the destination: Retry-After, pauses, breaker, reduction and run of failures. Another path does not.
    #[schema(example = "https://example.com/webhooks")]
    pub url: String,
    /// Null or left out: as fast as the concurrency lets it. Sends are spaced evenly: a window of any length holds at most what the
    /// rate allows in it, and from two a second on one more, or a twentieth of a second's worth less one if that is more.
    pub rate_limit: Option<RateLimit>,
    /// The most attempts at the same time.
    #[schema(minimum = 1, maximum = 1000, default = 10)]
    pub max_concurrency: Option<i64>,
    /// How long an attempt may take, from connecting to the end of the answer's head, in milliseconds. Of the answer's
    /// body only what arrives within two seconds is kept.
    #[schema(minimum = 100, maximum = 120_000, default = 15_000)]
    pub timeout_ms: Option<i64>,
    /// Either `{"schedule_s": […]}`, the wait before each attempt in seconds, or `{"initial_s", "multiplier", "max_s",
    /// "attempts"}`. Every new delivery waits for the first entry of `schedule_s`; one that is retried or released by hand goes
    /// at once. Left out: ten attempts over three days, as Standard Webhooks recommends, the first one at once.
    #[schema(value_type = Option<Object>)]
    pub retry: Option<Value>,
    /// Appends the query of the provider's request to the URL, behind the URL's own query if it has one. A delivery whose
    /// URL would be longer than 8,000 bytes by that is held. Every delivery has the query in `tidegate-original-query` too.
    #[schema(default = false)]
    pub append_query: Option<bool>,
    /// Sent with every delivery. They are sealed, and only their names are shown. Where PUT changes a destination and
    /// none are given, it keeps those it has, unless its URL leads to another scheme, host or port.
    pub headers: Option<BTreeMap<String, String>>,
    /// A key of your own, `whsec_…` (HMAC-SHA256) or `whsk_…` (Ed25519). Left out: one is made, or kept.
    /// Where PUT changes it, the one before goes on signing beside it for a day.
    pub signing_secret: Option<String>,
}

/// What changes of a destination, as a JSON merge patch (RFC 7396): what is left out stays.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationPatch {
    /// If it leads to another scheme, host or port, the static headers are gone but for those that are given with it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub url: Option<Value>,
    /// Merged with what is there: `{"limit": 100}` keeps the period. Null: none.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub rate_limit: Option<Value>,
    /// Null: 10.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 1000)]
    pub max_concurrency: Option<Value>,
    /// Null: 15,000.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 100, maximum = 120_000)]
    pub timeout_ms: Option<Value>,
    /// Merged with what is there: `{"attempts": 5}` keeps the rest. To change from one form to the other set the fields of the
    /// one that is left to null, as in `{"schedule_s": [0, 60], "initial_s": null, "multiplier": null, "max_s": null,
    /// "attempts": null}`. Null: the default.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub retry: Option<Value>,
    /// Null: false.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<bool>)]
    pub append_query: Option<Value>,
    /// Merged with those that are there, whatever the case of their names; one that is null is taken away. Null: all are.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub headers: Option<Value>,
    /// A key of your own, as for PUT: the one before goes on signing beside it for a day. Null is refused.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub signing_secret: Option<Value>,
}

impl DestinationPatch {
    /// The patch, with the names of headers in lower case, if nothing in it is refused whatever the destination is.
    pub(super) fn into_json(mut self) -> Result<Value, Error> {
        let mut problems = Problems::default();
        if let Some(Value::Object(headers)) = &mut self.headers {
            *headers = in_lower_case(std::mem::take(headers), &mut problems);
        }
        if self.signing_secret == Some(Value::Null) {
            problems.add(
                "signing_secret",
                "cannot be null; give another one, or leave it out to keep the one that is there",
            );
        }
        problems.finish()?;
        serde_json::to_value(self).map_err(|error| Error::Internal(error.to_string()))
    }
}

fn in_lower_case(headers: Map<String, Value>, problems: &mut Problems) -> Map<String, Value> {
    let mut lower = Map::new();
    for (name, value) in headers {
        if lower.insert(name.to_ascii_lowercase(), value).is_some() {
            problems.add(format!("headers.{name}"), headers::TWICE);
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
    pub(super) signing_key: Option<SigningKey>,
}

impl DestinationSpec {
    /// Checks all of it. `None` only where a problem was noted.
    pub(super) fn check(self, egress: &Egress, problems: &mut Problems) -> Option<Checked> {
        let url = url(&self.url, egress).map_err(|error| problems.push(error)).ok();
        let rate = self.rate_limit.and_then(|rate| rate.read(problems));
        let concurrency = self.max_concurrency.unwrap_or(DEFAULT_CONCURRENCY);
        let max_concurrency = problems.range("max_concurrency", concurrency, 1, 1_000);
        let timeout_ms = problems.range("timeout_ms", self.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS), 100, 120_000);
        let retry = match self.retry {
            None => Some(RetryPolicy::default()),
            Some(retry) => serde_json::from_value(retry).map_err(|error| problems.add("retry", error.to_string())).ok(),
        };
        let headers = self.headers.map(|headers| headers::check(&headers, problems));
        let signing_key = self.signing_secret.and_then(|text| {
            SigningKey::parse(&text).map_err(|error| problems.add("signing_secret", error.to_string())).ok()
        });
        Some(Checked {
            url: url?,
            rate,
            max_concurrency: max_concurrency?,
            timeout_ms: timeout_ms?,
            retry: retry?,
            append_query: self.append_query.unwrap_or(false),
            headers,
            signing_key,
        })
    }
}

fn url(text: &str, egress: &Egress) -> Result<Url, FieldError> {
    if text.len() > MAX_URL_BYTES {
        return Err(FieldError::new("url", format!("has {} bytes; give at most {MAX_URL_BYTES}", text.len())));
    }
    let mut url = Url::parse(text).map_err(|error| {
        FieldError::new("url", format!("\"{text}\" is not a url such as https://example.com/webhooks: {error}"))
    })?;
    egress.check_url(&url).map_err(|error| FieldError::with_code("url", error.code(), error.to_string()))?;
    // Never sent; kept it would only mislead.
    url.set_fragment(None);
    Ok(url)
}

/// Whether both URLs lead to the same scheme, host and port. What was given as a credential for one origin is not sent
/// to another.
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
                && checked.signing_key.is_none()
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
    fn a_url_that_no_request_can_be_made_of_is_refused() {
        for url in ["https://{tenant}.example.com/", "http://a`b.example/", "https://a\"b.example/"] {
            let refused = check(serde_json::json!({"url": url})).err();
            assert_eq!(refused, Some(("egress_url_unsendable", vec!["url".to_owned()])), "{url}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
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
