//! The catalogue of providers: what a source can be made of.

use axum::Json;
use serde::Serialize;
use shared::provider::{self, SettingKind};
use utoipa::ToSchema;

use super::page::Page;
use super::problem::Refusals;

/// A provider whose webhooks can be received.
#[derive(Debug, Serialize, ToSchema)]
pub struct Provider {
    /// What a source's `provider` is set to.
    pub id: &'static str,
    pub name: &'static str,
    /// What to give as the secret and where to find it; null where there is none.
    pub secret_help: Option<&'static str>,
    /// What may stand in a source's `config` besides what every source has.
    pub settings: Vec<ProviderSetting>,
}

/// A setting of a provider.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderSetting {
    pub name: &'static str,
    /// `text`, `prefix`, `header` or `url`.
    pub kind: &'static str,
    pub required: bool,
    pub default: Option<&'static str>,
    pub help: &'static str,
}

/// All providers; there is one page of them.
#[utoipa::path(get, path = "/v1/providers", tag = "providers", responses((status = 200, body = Page<Provider>), Refusals))]
pub(super) async fn list() -> Json<Page<Provider>> {
    let data = provider::catalogue().iter().map(view).collect();
    Json(Page { data, next_cursor: None })
}

fn view(provider: &'static provider::Provider) -> Provider {
    let settings = provider.settings.iter().map(|setting| ProviderSetting {
        name: &setting.name,
        kind: match setting.kind {
            SettingKind::Text => "text",
            SettingKind::Prefix => "prefix",
            SettingKind::Header => "header",
            SettingKind::Url => "url",
        },
        required: setting.required,
        default: setting.default.as_deref(),
        help: &setting.help,
    });
    Provider {
        id: &provider.id,
        name: &provider.name,
        secret_help: provider.secret_help.as_deref(),
        settings: settings.collect(),
    }
}
