//! Sends a sample event to a source: signed as its provider signs, to the URL that the provider uses.
//!
//! A caller who may change a source can send such an event anyway, with another secret. So this needs no more than the
//! scope to write, and the audit log says who did it.

use serde_json::Value;
use shared::provider::{self, Provider};
use shared::sample::{self, Moment, SignError, Wanted};
use shared::scheme::Scheme;

use super::settings::open_secrets;
use super::{Source, find};
use crate::control::error::Noun;
use crate::control::fields::Problems;
use crate::control::record::{self, Action, Object};
use crate::control::{Actor, Control, Error, Scope};
use crate::mint;

/// The samples that can be sent to a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Samples {
    /// The types of events of which there is a sample; empty if there is one without a type of its own.
    pub types: Vec<&'static str>,
    /// Why none can be sent; `None` if one can.
    pub refused: Option<String>,
}

/// What the edge has answered to a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleAnswer {
    /// The status of the response.
    pub status: u16,
    /// The id of the event, if the response names it.
    pub event: Option<String>,
}

/// The samples that can be sent to this source.
///
/// # Errors
/// Returns an error if the actor may not read, or if the catalogue no longer has the provider.
pub fn samples(actor: &Actor, source: &Source) -> Result<Samples, Error> {
    actor.require(Scope::Read)?;
    let provider = provider::find(&source.provider).ok_or(Error::NotFound(Noun::Provider))?;
    let types = sample::example_types(&provider.id).collect();
    let refused = match scheme(provider, &source.config) {
        Err(problem) => Some(problem),
        Ok(scheme) => {
            let needs_secret = match signed_without_secret(provider, &source.config, &scheme, &source.ingest_url) {
                Ok(()) => false,
                Err(SignError::PrivateKey) => return Ok(Samples { types, refused: Some(private_key(provider)) }),
                Err(_) => true,
            };
            (needs_secret && source.secrets.is_empty()).then(|| "the source has no secret to sign with yet".to_owned())
        }
    };
    Ok(Samples { types, refused })
}

/// Sends a sample event to a source, of this type or of the provider's first sample. Its routes deliver it as any event.
///
/// # Errors
/// Returns why no sample can be made or signed, or an error if the source does not exist, if the edge cannot be reached,
/// or if a query fails.
pub async fn send_sample(
    control: &Control,
    actor: &Actor,
    id: &str,
    event_type: Option<&str>,
) -> Result<SampleAnswer, Error> {
    actor.require(Scope::Write)?;
    let row = find(control, actor, id).await?;
    let provider = provider::find(&row.provider).ok_or(Error::NotFound(Noun::Provider))?;
    let secrets = open_secrets(control, &row)?.active;
    let moment = Moment { now_ms: mint::now_ms(), random: mint::random() };
    let url = control.pusher.edge.ingest_url(row.id);
    let wanted = Wanted { event_type, id: None, body: None };
    let refused = |field: &str, why: String| {
        let mut problems = Problems::default();
        problems.add(field, why.clone());
        problems.finish().err().unwrap_or(Error::Internal(why))
    };
    let request = sample::compose(provider, &row.config, &url, wanted, moment)
        .map_err(|error| refused("type", error.to_string()))?;
    let scheme = scheme(provider, &row.config).map_err(|problem| refused("", problem))?;
    let request = sample::sign(&scheme, &secrets, request, moment).map_err(|error| {
        if matches!(error, SignError::PrivateKey) {
            return refused("", private_key(provider));
        }
        refused("", format!("no sample can be signed as {} signs: {error}", provider.name))
    })?;
    let object = Object::of(row.id, row.customer_id).named(&row.name);
    record::written(control, actor, Action::SourceSendSample, object).await?;
    let (status, text) = control.pusher.edge.send_as_provider(request).await.map_err(Error::Edge)?;
    let event = serde_json::from_str::<Value>(&text).ok().and_then(|body| Some(body["id"].as_str()?.to_owned()));
    let event = event.filter(|id| status.is_success() && id.starts_with("evt_"));
    Ok(SampleAnswer { status: status.as_u16(), event })
}

fn scheme(provider: &Provider, config: &Value) -> Result<Scheme, String> {
    provider.scheme_of(config).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        format!("the settings of the source cannot be used: {}", problems.join("; "))
    })
}

/// Whether a sample can be signed without a secret.
fn signed_without_secret(provider: &Provider, config: &Value, scheme: &Scheme, url: &str) -> Result<(), SignError> {
    let moment = Moment { now_ms: mint::now_ms(), random: [0; 32] };
    let request = sample::compose(provider, config, url, Wanted::default(), moment).map_err(|_| SignError::NoRule)?;
    sample::sign(scheme, &[], request, moment).map(drop)
}

fn private_key(provider: &Provider) -> String {
    format!(
        "{name} signs with a private key that only {name} has; to test routes, create another source with the provider \
         standard-webhooks, token or none",
        name = provider.name
    )
}
