//! The catalogue of providers, and how one of them and an owner's settings become a source's configuration.
//!
//! A provider is data (`providers.json`): its scheme in the rule language of [`crate::scheme::rule`], its handshakes,
//! the places of its own id and type of an event, and the settings that its owner may give. Only the relay uses it.

mod custom;
mod facts;
mod fields;
mod handshake;
mod options;
mod setting;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::SourceId;
use crate::job::{JobPlaces, JobRule};
use crate::scheme::Scheme;
use crate::scheme::handshake::HandshakeRule;
use crate::scheme::template::Template;
use crate::source::{Acknowledgement, QuarantineLimits, Secret, SourceConfig};
use crate::verify::{ConfigError, Verifier};
pub use facts::{SchemeFacts, SecretNeed};
pub use fields::ConfigProblem;
use fields::Fields;
use handshake::Handshake;
use options::Key;
pub(crate) use options::Options;
pub use options::{MAX_EXPOSED, MAX_POINTER_BYTES};
pub use setting::{Setting, SettingKind};

/// The most secrets of one source: each of them costs a hash of the body if a signature matches none.
pub const MAX_SECRETS: usize = 8;

/// A provider of the catalogue.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// A stable name in lower case, such as `stripe`.
    pub id: String,
    /// The name as the provider writes it.
    pub name: String,
    /// The provider's own page on verification.
    #[serde(default)]
    pub docs: Option<String>,
    pub confidence: Confidence,
    /// Whether the scheme is documented well enough to rely on it.
    #[serde(default = "yes")]
    pub certain: bool,
    /// Advice for the owner of a source.
    #[serde(default)]
    pub note: Option<String>,
    /// The value to paste as the secret, and where to find it; `None` if there is no secret.
    #[serde(default)]
    pub secret_help: Option<String>,
    /// How a secret is replaced without a refused request, as far as that is known.
    #[serde(default)]
    pub rotation: Option<String>,
    /// The fields of the source's `config` in addition to the [`options`] that every source has.
    #[serde(default)]
    pub settings: Vec<Setting>,
    /// The scheme, with `cfg:` in the place of settings; `None` if the settings make up the whole scheme.
    #[serde(default)]
    rule: Option<Value>,
    /// The parts of a request that an attacker could change without a key.
    #[serde(default)]
    pub unauthenticated: Option<String>,
    /// The handshakes, and the pings that are answered but are not events.
    #[serde(default)]
    pub handshakes: Vec<HandshakeRule>,
    /// The places of the provider's id of an event; the first whose parts are all present counts.
    #[serde(default)]
    pub event_id: Vec<Template>,
    /// The places of the type of an event; the first whose parts are all present counts. The type of a batch is that of
    /// its first item.
    #[serde(default)]
    pub event_type: Vec<Template>,
    /// Whether the provider changes the body when it sends an event again, for instance the number of the attempt. If
    /// so, a request with a known key is a copy, whatever its body; otherwise one with another body is an event of its
    /// own.
    #[serde(default)]
    pub resend_changes_body: bool,
    /// The JSON pointer of the list in the body that reports several occurrences; empty if the body itself is the list.
    /// A batch is one event: it is stored, deduplicated and delivered as it came.
    #[serde(default)]
    pub items: Option<String>,
    /// How its events name the job that they are about; `None` if they are about none, or if that is not known.
    #[serde(default)]
    pub job: Option<JobRule>,
    pub delivery: DeliveryFacts,
    /// The answer to an event, unless the source's own settings give another.
    #[serde(default)]
    pub acknowledgement: Acknowledgement,
}

/// The origin of the facts of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Confidence {
    /// The provider's own documentation or SDK.
    A,
    /// Several secondary sources, or common knowledge.
    B,
    /// A single secondary source only.
    C,
}

/// How a provider delivers. It is documentation: nothing is decided by it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryFacts {
    /// The answers that it counts as success.
    pub success: String,
    /// How long it waits for an answer, in seconds; `None` if that is not documented.
    #[serde(default)]
    pub timeout_s: Option<u16>,
    /// When it tries again; `None` if that is not documented.
    #[serde(default)]
    pub retries: Option<String>,
    /// Whether some of these facts are not from the provider itself.
    #[serde(default)]
    pub unconfirmed: bool,
}

/// The places of the id, the type and the job in a source's events.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// The places of the id, each with whether it counts without the body.
    pub(crate) ids: Vec<(Template, bool)>,
    pub(crate) types: Vec<Template>,
    /// As [`Provider::resend_changes_body`], unless the owner says otherwise.
    pub(crate) resend_changes_body: bool,
    /// The places of the job.
    pub(crate) job: JobPlaces,
}

/// The settings of a source that its owner gives.
#[derive(Debug, Clone, Copy)]
pub struct NewSource<'a> {
    pub id: SourceId,
    pub name: &'a str,
    pub revision: u64,
    pub secrets: &'a [Secret],
    /// An object with the provider's settings and the options of every source; null is an empty one.
    pub config: &'a Value,
    /// The cap on the size of a body, in bytes; a source may lower it.
    pub max_body_bytes: u64,
}

static CATALOGUE: LazyLock<Vec<Provider>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("providers.json")).expect("a test parses the embedded catalogue")
});

/// All providers, in the order of the catalogue.
#[must_use]
pub fn catalogue() -> &'static [Provider] {
    &CATALOGUE
}

/// The provider with this id.
#[must_use]
pub fn find(id: &str) -> Option<&'static Provider> {
    CATALOGUE.iter().find(|provider| provider.id == id)
}

/// How much a source with the owner's `config` keeps of requests that fail. Problems of the config are ignored: they
/// were reported when the source was saved.
#[must_use]
pub fn quarantine_limits(config: &Value) -> QuarantineLimits {
    Options::read(&mut Fields::new(config), u64::MAX).quarantine
}

/// The JSON pointers of the fields of bodies that a source with the owner's `config` shows to the holder of an await
/// token. Problems of the config are ignored: they were reported when the source was saved.
#[must_use]
pub fn exposed(config: &Value) -> Vec<String> {
    Options::read(&mut Fields::new(config), u64::MAX).expose
}

impl Provider {
    /// The configuration of a source of this provider.
    ///
    /// # Errors
    /// Returns all problems of the settings and secrets, each with its field and how to fix it.
    pub fn resolve(&self, source: NewSource<'_>) -> Result<SourceConfig, Vec<ConfigProblem>> {
        let mut fields = Fields::new(source.config);
        fields.only(self.settings.iter().map(|setting| setting.name.as_str()).chain(options::NAMES.iter().copied()));
        let options = Options::read(&mut fields, source.max_body_bytes);
        let settings = self.read_settings(&mut fields);
        let mut scheme = self.scheme(&mut fields, &settings);
        if let (Some(scheme), Some(tolerance_s)) = (&mut scheme, options.tolerance_s) {
            set_tolerance(scheme, tolerance_s, &mut fields);
        }
        if let Some(scheme) = &scheme {
            check_secrets(scheme, source.secrets, self.hands_over_secret(), &mut fields);
        }
        let scheme = fields.finish(scheme)?;
        let texts = self.texts(&settings);
        let handshakes = self.handshakes.iter().map(|rule| HandshakeRule { settings: texts.clone(), ..rule.clone() });
        let asked_for = options.handshake.map(Handshake::rule).cloned();
        Ok(SourceConfig {
            id: source.id,
            name: source.name.to_owned(),
            revision: source.revision,
            provider: self.id.clone(),
            scheme,
            secrets: source.secrets.to_vec(),
            retired_secrets: Vec::new(),
            methods: options.methods,
            on_failure: options.on_failure,
            on_stale: options.on_stale,
            handshakes: handshakes.chain(asked_for).collect(),
            acknowledgement: options.acknowledgement.unwrap_or_else(|| self.acknowledgement.clone()),
            max_body_bytes: options.max_body_bytes,
            max_unverified_body_bytes: options.quarantine.body_bytes.min(options.max_body_bytes),
            refused_until: None,
        })
    }

    /// The scheme of a source with the owner's `config`, whatever its secrets.
    ///
    /// # Errors
    /// Returns all problems of the settings.
    pub fn scheme_of(&self, config: &Value) -> Result<Scheme, Vec<ConfigProblem>> {
        let mut fields = Fields::new(config);
        let settings = self.read_settings(&mut fields);
        let scheme = self.scheme(&mut fields, &settings);
        fields.finish(scheme)
    }

    /// The places that are read from the events of a source: those of the owner's config, else those of the catalogue.
    ///
    /// Problems of the config are ignored: they were reported when the source was saved.
    pub(crate) fn places(&self, config: &Value) -> Places {
        let mut fields = Fields::new(config);
        let options = Options::read(&mut fields, u64::MAX);
        let resend_changes_body = options.resend_changes_body.unwrap_or(self.resend_changes_body);
        let ids = match options.key {
            None => self.event_id.clone(),
            Some(Key::None) => Vec::new(),
            Some(Key::Template(template)) => vec![template],
        };
        let keys = match options.job_key {
            None => self.job.as_ref().map(|rule| rule.id.clone()).unwrap_or_default(),
            Some(Key::None) => Vec::new(),
            Some(Key::Template(template)) => vec![template],
        };
        let job = JobPlaces { rule: self.job.clone().filter(|_| !keys.is_empty()), keys };
        let types =
            options.event_type.map_or_else(|| self.event_type.clone(), |reference| vec![Template::of(reference)]);
        let settings = self.read_settings(&mut fields);
        let scheme = self.scheme(&mut fields, &settings);
        let alone = |id: &Template| {
            scheme.as_ref().is_some_and(|scheme| id.references().all(|reference| scheme.identifies(reference)))
        };
        let ids = ids.into_iter().map(|id| (alone(&id), id)).map(|(alone, id)| (id, alone)).collect();
        Places { ids, types, resend_changes_body, job }
    }

    fn read_settings(&self, fields: &mut Fields<'_>) -> BTreeMap<&str, String> {
        let read = |setting: &'_ Setting, fields: &mut Fields<'_>| setting.read(fields);
        self.settings
            .iter()
            .filter_map(|setting| read(setting, fields).map(|value| (setting.name.as_str(), value)))
            .collect()
    }

    fn scheme(&self, fields: &mut Fields<'_>, settings: &BTreeMap<&str, String>) -> Option<Scheme> {
        let Some(rule) = &self.rule else { return custom::scheme(fields, settings) };
        let mut rule = rule.clone();
        for setting in self.settings.iter().filter(|setting| !setting.kind.stays_a_reference()) {
            setting::fill(&mut rule, &setting.name, settings.get(setting.name.as_str())?);
        }
        let mut scheme: Scheme = match serde_json::from_value(rule) {
            Ok(scheme) => scheme,
            Err(error) => {
                fields.problem(
                    "provider",
                    format!("internal error in the provider catalogue; please report it: {error}"),
                );
                return None;
            }
        };
        let texts = self.texts(settings);
        for rule in scheme.mac_rules_mut() {
            rule.settings.clone_from(&texts);
        }
        for rule in scheme.jwt_rules_mut() {
            rule.settings.clone_from(&texts);
        }
        Some(scheme)
    }

    /// The settings that stay references, because their values are compared or signed, and not parsed.
    fn texts(&self, settings: &BTreeMap<&str, String>) -> BTreeMap<String, String> {
        let texts = self.settings.iter().filter(|setting| self.rule.is_some() && setting.kind.stays_a_reference());
        texts.filter_map(|setting| Some((setting.name.clone(), settings.get(setting.name.as_str())?.clone()))).collect()
    }
}

fn yes() -> bool {
    true
}

fn set_tolerance(scheme: &mut Scheme, tolerance_s: u32, fields: &mut Fields<'_>) {
    let mut timestamps = 0;
    for timestamp in scheme.mac_rules_mut().into_iter().filter_map(|rule| rule.timestamp.as_mut()) {
        timestamp.tolerance_s = Some(tolerance_s);
        timestamps += 1;
    }
    for max_age_s in scheme.jwt_rules_mut().into_iter().filter_map(|rule| rule.max_age_s.as_mut()) {
        *max_age_s = tolerance_s;
        timestamps += 1;
    }
    if timestamps == 0 {
        fields.problem(
            "tolerance_s",
            "has no effect, because the provider's requests have no signed timestamp; remove it",
        );
    }
}

fn check_secrets(scheme: &Scheme, secrets: &[Secret], handed_over: bool, fields: &mut Fields<'_>) {
    if secrets.len() > MAX_SECRETS {
        fields.problem("secrets", format!("must have at most {MAX_SECRETS} entries; remove old secrets"));
    }
    match Verifier::of(scheme, secrets) {
        Ok(_) => {}
        Err(ConfigError::NoSecret) if handed_over => {}
        Err(ConfigError::NoSecret) => fields.problem("secrets", "is required; add the secret that the provider shows"),
        Err(error @ ConfigError::Secret { .. }) => fields.problem("secrets", error.to_string()),
        Err(error @ ConfigError::Rule { .. }) => fields.problem("config", error.to_string()),
    }
}
