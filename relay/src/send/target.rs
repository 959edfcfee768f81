//! The target of a sample: a source, which is requested from the relay, or a URL.

use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use shared::id::SourceId;
use shared::provider::Provider;
use shared::scheme::Scheme;
use shared::source::Secret;

use super::{ANSWERS_WITHIN, Arguments, known_provider, root_cause};
use crate::operator_client;

const DEFAULT_URL: &str = "http://127.0.0.1:8400";

/// The REST API of a relay.
pub(super) struct Relay {
    url: Url,
    token: Option<Secret>,
}

/// Where a sample is sent, and how it is signed.
pub(super) struct Target {
    /// `None` if only a URL was given.
    pub(super) source: Option<SourceId>,
    pub(super) provider: &'static Provider,
    pub(super) config: Value,
    pub(super) url: String,
}

/// The fields of a source in the API that matter here.
#[derive(Deserialize)]
struct Shown {
    id: SourceId,
    name: String,
    provider: String,
    ingest_url: String,
    config: Value,
}

impl Relay {
    pub(super) fn new(var: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let set = |name: &str| var(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let text = set("TIDEGATE_URL").unwrap_or_else(|| DEFAULT_URL.to_owned());
        let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| format!("TIDEGATE_URL must be a URL such as {DEFAULT_URL}, but is \"{text}\""))?;
        // The relay accepts each of them.
        let first = |tokens: String| tokens.split(',').next().map(|token| Secret::new(token.trim()));
        Ok(Self { url, token: set("TIDEGATE_ADMIN_TOKEN").and_then(first) })
    }

    /// Its base URL, without a slash at the end.
    pub(super) fn url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// Whether the relay has stored the event. An error contains the relay's response.
    pub(super) async fn has_event(&self, client: &reqwest::Client, id: &str) -> Result<bool, String> {
        let mut request = client.get(self.address(&["v1", "events", id]));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.reveal());
        }
        match request.send().await.map_err(|error| root_cause(&error))?.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            status => Err(status.to_string()),
        }
    }

    fn address(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    async fn source(&self, name: &str) -> Result<Shown, String> {
        let token = self.token.as_ref().ok_or(
            "TIDEGATE_ADMIN_TOKEN is not set: it is needed to look up the source; set it, or use --provider and --url \
             instead of --source",
        )?;
        let url = self.address(&["v1", "sources", name]);
        let failed = |error: reqwest::Error| {
            format!(
                "cannot reach the relay at {}: {}; start it, or set TIDEGATE_URL to its address",
                self.url(),
                root_cause(&error)
            )
        };
        let client = operator_client(ANSWERS_WITHIN).map_err(|error| error.to_string())?;
        let response = client.get(url).bearer_auth(token.reveal()).send().await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => response.json().await.map_err(failed),
            StatusCode::UNAUTHORIZED => {
                Err("the relay rejected TIDEGATE_ADMIN_TOKEN (401); use the value with which the relay was started"
                    .to_owned())
            }
            StatusCode::NOT_FOUND => {
                Err(format!("the relay has no source \"{name}\"; GET {}/v1/sources lists all sources", self.url()))
            }
            status => Err(format!(
                "looking up the source \"{name}\" failed: the relay returned {status}; see the relay's log"
            )),
        }
    }
}

impl Target {
    /// Requests the source from the relay, if one is named.
    pub(super) async fn find(arguments: &Arguments, relay: &Relay) -> Result<Self, String> {
        let named = arguments.provider.as_deref().map(known_provider).transpose()?;
        let Some(name) = &arguments.source else {
            let provider = named.ok_or("pass --provider, or --source")?;
            let url = arguments.url.clone().ok_or("pass --source, or --url")?;
            return Ok(Self { source: None, provider, config: Value::Null, url });
        };
        let shown = relay.source(name).await?;
        if let Some(named) = named.filter(|named| named.id != shown.provider) {
            return Err(format!(
                "the source \"{}\" has the provider {} and would reject requests signed as {}; omit --provider",
                shown.name, shown.provider, named.id
            ));
        }
        Ok(Self {
            source: Some(shown.id),
            provider: known_provider(&shown.provider)?,
            config: shown.config,
            url: arguments.url.clone().unwrap_or(shown.ingest_url),
        })
    }

    /// How its requests are signed.
    pub(super) fn scheme(&self) -> Result<Scheme, String> {
        self.provider.scheme_of(&self.config).map_err(|problems| {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            format!(
                "the signature of this provider depends on the settings of a source ({}); pass --source",
                problems.join("; ")
            )
        })
    }

    /// Whether a request that fails verification is answered like one that succeeds.
    pub(super) fn quarantines(&self) -> bool {
        self.config["on_failure"] == "quarantine"
    }
}
