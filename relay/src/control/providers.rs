//! The catalogue of providers: how each signs and delivers, and what its sources need.

use serde::Serialize;
use shared::job::JobRule;
use shared::provider::{self, Confidence, SecretNeed, SettingKind};
use shared::source::Acknowledgement;
use utoipa::ToSchema;

use super::error::Noun;
use super::page::Page;
use super::{Actor, Error, Scope, schema};

/// A provider that Tidegate can receive webhooks from.
#[derive(Debug, Serialize, ToSchema)]
pub struct Provider {
    /// The id of the provider: the value of `provider` in a source.
    #[schema(value_type = schema::ProviderId)]
    pub id: &'static str,
    /// The name of the provider.
    pub name: &'static str,
    /// The provider's documentation of verification; null if there is none.
    #[schema(required = true)]
    pub docs: Option<&'static str>,
    /// Where the information about this provider comes from: `A` its documentation or SDK, `B` several secondary
    /// sources, such as client libraries and guides, or common knowledge, `C` a single secondary source.
    #[schema(value_type = schema::ProviderConfidence)]
    pub confidence: &'static str,
    /// False if a part of the scheme is undocumented, so that it may differ from what is verified.
    pub certain: bool,
    /// What to know before you create a source for this provider; null if there is nothing.
    #[schema(required = true)]
    pub note: Option<&'static str>,
    /// How requests of the provider are verified.
    pub scheme: ProviderScheme,
    /// Whether a source needs a secret: `required`, `handed_over` (the provider sends it in a handshake) or `none`.
    #[schema(value_type = schema::ProviderSecretNeed)]
    pub secret: &'static str,
    /// What the secret is and where to find it; null if there is none.
    #[schema(required = true)]
    pub secret_help: Option<&'static str>,
    /// How to replace the secret at the provider; null if not applicable.
    #[schema(required = true)]
    pub rotation: Option<&'static str>,
    /// The fields of a source's `config` in addition to those of every source.
    pub settings: Vec<ProviderSetting>,
    /// The parts of a request that the signature does not cover, so that someone who has a signed request can change
    /// them; null if there are none.
    #[schema(required = true)]
    pub unauthenticated: Option<&'static str>,
    /// Where the provider's id of an event is read from. The first entry that is present in the request is used.
    pub event_id: Vec<String>,
    /// Where the type of an event is read from; for a batch, the type of its first item.
    pub event_type: Vec<String>,
    /// Whether the body may differ when the provider resends an event. If false, a request with a known id but a
    /// different body is stored as a new event with `same_key_as`.
    pub resend_changes_body: bool,
    /// If one request contains several items: the JSON pointer of the array that contains them; otherwise null.
    #[schema(required = true)]
    pub items: Option<&'static str>,
    /// How events name the job of the provider that they are about, for `/v1/await`; null if they are about none, or if
    /// that is not known.
    #[schema(required = true)]
    pub job: Option<ProviderJob>,
    /// The number of kinds of handshake requests that the edge answers for this provider.
    pub handshakes: usize,
    /// How the provider sends webhooks.
    pub delivery: ProviderDelivery,
    /// The response that acknowledges an event, unless `acknowledgement` in the source's `config` replaces it.
    pub acknowledgement: ProviderAcknowledgement,
}

/// How a provider's requests are verified.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderScheme {
    /// The verification methods; a request is verified if one of them succeeds. Empty if the method depends on the
    /// settings.
    #[schema(example = json!(["HMAC-SHA256"]))]
    pub methods: Vec<String>,
    /// Where the signature or token is.
    #[schema(example = json!(["header stripe-signature"]))]
    pub places: Vec<String>,
    /// The default tolerance for the signed timestamp, in seconds, unless `tolerance_s` in the source's `config`
    /// overrides it; null if requests have no signed timestamp.
    #[schema(required = true)]
    pub tolerance_s: Option<u64>,
    /// The URL from which the provider's public keys are fetched; null if requests are verified with the secret.
    #[schema(required = true)]
    pub keys: Option<String>,
}

/// A setting of a provider.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderSetting {
    /// The field in the `config` of a source.
    pub name: &'static str,
    /// `text`, `prefix`, `header`, `url` or `own_url`.
    #[schema(value_type = schema::ProviderSettingKind)]
    pub kind: &'static str,
    /// Whether the setting must be set.
    pub required: bool,
    /// The default; null if there is none.
    #[schema(required = true)]
    pub default: Option<&'static str>,
    /// What to set it to.
    pub help: &'static str,
}

/// How the events of a provider name the job that they are about.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderJob {
    /// Where the job key is read from. The first entry that is present in the request is used.
    pub id: Vec<String>,
    /// Where the state of the job is read from; an event that has none of them has the empty state.
    pub state: Vec<String>,
    /// The states in which a job has ended well. `*` at the beginning stands for any text.
    pub good: Vec<&'static str>,
    /// The states in which a job has ended badly, in the same form. A state of neither list is progress.
    pub bad: Vec<&'static str>,
    /// Whether the event at the end carries the result. If not, the result has to be fetched from the provider.
    pub carries_result: bool,
}

/// How a provider sends webhooks.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderDelivery {
    /// The responses that the provider treats as success.
    pub success: &'static str,
    /// The provider's timeout for a response, in seconds; null if undocumented.
    #[schema(required = true)]
    pub timeout_s: Option<u16>,
    /// The provider's retry policy, in words; null if undocumented.
    #[schema(required = true)]
    pub retries: Option<&'static str>,
    /// True if any of this information does not come from the provider's own documentation.
    pub unconfirmed: bool,
}

/// The response that acknowledges an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderAcknowledgement {
    /// The status code.
    pub status: u16,
    /// The response body; null for `{"id": "evt_…"}`.
    #[schema(required = true)]
    pub body: Option<&'static str>,
    /// The content type; null for the default.
    #[schema(required = true)]
    pub content_type: Option<&'static str>,
}

/// All providers, on one page.
///
/// # Errors
/// Returns an error if the actor may not see them.
pub fn list(actor: &Actor) -> Result<Page<Provider>, Error> {
    actor.require(Scope::Read)?;
    let data = provider::catalogue().iter().map(view).collect();
    Ok(Page { data, next_cursor: None, scanned_until: None })
}

/// The provider with this id.
///
/// # Errors
/// Returns an error if there is no provider with this id.
pub fn show(actor: &Actor, id: &str) -> Result<Provider, Error> {
    actor.require(Scope::Read)?;
    provider::find(id).map(view).ok_or(Error::NotFound(Noun::Provider))
}

/// The provider with this id, for tests of what shows it.
#[cfg(test)]
pub(crate) fn of_catalogue(id: &str) -> Option<Provider> {
    provider::find(id).map(view)
}

fn view(provider: &'static provider::Provider) -> Provider {
    let facts = provider.scheme_facts();
    let delivery = &provider.delivery;
    Provider {
        id: &provider.id,
        name: &provider.name,
        docs: provider.docs.as_deref(),
        confidence: match provider.confidence {
            Confidence::A => "A",
            Confidence::B => "B",
            Confidence::C => "C",
        },
        certain: provider.certain,
        note: provider.note.as_deref(),
        scheme: ProviderScheme {
            methods: facts.methods,
            places: facts.places,
            tolerance_s: facts.tolerance_s,
            keys: facts.keys,
        },
        secret: match provider.secret_need() {
            SecretNeed::Required => "required",
            SecretNeed::HandedOver => "handed_over",
            SecretNeed::None => "none",
        },
        secret_help: provider.secret_help.as_deref(),
        rotation: provider.rotation.as_deref(),
        settings: provider.settings.iter().map(setting).collect(),
        unauthenticated: provider.unauthenticated.as_deref(),
        event_id: provider.event_id.iter().map(ToString::to_string).collect(),
        event_type: provider.event_type.iter().map(ToString::to_string).collect(),
        resend_changes_body: provider.resend_changes_body,
        items: provider.items.as_deref(),
        job: provider.job.as_ref().map(job),
        handshakes: provider.handshakes.len(),
        delivery: ProviderDelivery {
            success: &delivery.success,
            timeout_s: delivery.timeout_s,
            retries: delivery.retries.as_deref(),
            unconfirmed: delivery.unconfirmed,
        },
        acknowledgement: acknowledgement(&provider.acknowledgement),
    }
}

fn job(rule: &'static JobRule) -> ProviderJob {
    ProviderJob {
        id: rule.id.iter().map(ToString::to_string).collect(),
        state: rule.state.iter().map(ToString::to_string).collect(),
        good: rule.good.iter().map(String::as_str).collect(),
        bad: rule.bad.iter().map(String::as_str).collect(),
        carries_result: rule.carries_result,
    }
}

fn setting(setting: &'static provider::Setting) -> ProviderSetting {
    ProviderSetting {
        name: &setting.name,
        kind: match setting.kind {
            SettingKind::Text => "text",
            SettingKind::Prefix => "prefix",
            SettingKind::Header => "header",
            SettingKind::Url => "url",
            SettingKind::OwnUrl => "own_url",
        },
        required: setting.required,
        default: setting.default.as_deref(),
        help: &setting.help,
    }
}

fn acknowledgement(acknowledgement: &'static Acknowledgement) -> ProviderAcknowledgement {
    let Acknowledgement { status, body, content_type } = acknowledgement;
    ProviderAcknowledgement { status: *status, body: body.as_deref(), content_type: content_type.as_deref() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_shown_with_its_scheme_and_its_needs() {
        let of =
            |id: &str| serde_json::to_value(view(provider::find(id).expect("in the catalogue"))).expect("serialises");
        let stripe = of("stripe");
        assert_eq!(stripe["scheme"]["methods"], serde_json::json!(["HMAC-SHA256"]));
        assert_eq!(stripe["scheme"]["places"], serde_json::json!(["header stripe-signature"]));
        assert_eq!((&stripe["secret"], &stripe["scheme"]["tolerance_s"]), (&"required".into(), &300.into()));
        let topic = of("aws-sns");
        assert_eq!((&topic["secret"], &topic["settings"][0]["required"]), (&"none".into(), &true.into()));
        assert_eq!(topic["scheme"]["keys"], "body field SigningCertURL");
        assert_eq!(of("notion")["secret"], "handed_over");
        assert_eq!(of("together")["certain"], false);
        assert_eq!(
            (&of("line")["resend_changes_body"], &of("paddle")["resend_changes_body"]),
            (&true.into(), &false.into())
        );
        assert_eq!(of("discord")["acknowledgement"]["body"], "{\"type\":5}");
    }
}
