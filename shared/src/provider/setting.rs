//! The settings of a provider: values that its owner has to give before its requests can be verified.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields::Fields;
use crate::scheme::reference::is_header_name;

const MAX_TEXT_BYTES: usize = 512;

/// A setting of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// The field in the source's config.
    pub name: String,
    pub kind: SettingKind,
    #[serde(default)]
    pub required: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// A description for humans.
    pub help: String,
}

/// The kind of a setting's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingKind {
    /// A value that is compared with, or signed as, a part of the request.
    Text,
    /// The text before a token.
    Prefix,
    /// The name of a header.
    Header,
    /// An `https` URL; `http` only for this machine.
    Url,
    /// The URL that was entered at the provider, which signs it as it is written.
    OwnUrl,
}

impl SettingKind {
    /// Whether its value is compared with, or signed as, a part of the request, and is not put into the rule itself.
    pub(super) fn stays_a_reference(self) -> bool {
        match self {
            Self::Text | Self::OwnUrl => true,
            Self::Prefix | Self::Header | Self::Url => false,
        }
    }
}

impl Setting {
    /// Its value or default. `None` if there is neither, or if the value is wrong: then the problem is recorded.
    pub(super) fn read(&self, fields: &mut Fields<'_>) -> Option<String> {
        let Some(value) = fields.value(&self.name) else {
            if self.required {
                fields.problem(&self.name, format!("is missing; set it to {}", self.help));
            }
            return self.default.clone();
        };
        let value = match value {
            // An id that looks like a number is often written as one.
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                fields.text(&self.name)?.to_owned()
            }
        };
        if value.is_empty() || value.len() > MAX_TEXT_BYTES || value.contains(['\r', '\0']) {
            fields.problem(
                &self.name,
                format!(
                    "must be 1 to {MAX_TEXT_BYTES} bytes long, without carriage returns or NUL; set it to {}",
                    self.help
                ),
            );
            return None;
        }
        match self.kind {
            SettingKind::Text | SettingKind::Prefix => Some(value),
            SettingKind::Header if is_header_name(&value) => Some(value.to_ascii_lowercase()),
            SettingKind::Header => {
                fields.problem(&self.name, format!("\"{value}\" is not a valid header name; set it to {}", self.help));
                None
            }
            SettingKind::Url if is_acceptable_url(&value) => Some(value),
            SettingKind::OwnUrl if value.starts_with("https://") || value.starts_with("http://") => Some(value),
            SettingKind::OwnUrl => {
                fields.problem(&self.name, "must be a URL, https://…, as it was entered at the provider");
                None
            }
            SettingKind::Url => {
                fields.problem(&self.name, "must be an https URL; http is only for 127.0.0.1 and localhost");
                None
            }
        }
    }
}

/// Replaces `cfg:<name>` at the end of a text of the rule by a setting's value.
pub(super) fn fill(rule: &mut Value, name: &str, value: &str) {
    match rule {
        Value::String(text) => {
            if let Some(start) = text.strip_suffix(&format!("cfg:{name}")) {
                *text = format!("{start}{value}");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, name, value)),
        Value::Object(map) => map.values_mut().for_each(|item| fill(item, name, value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_acceptable_url(url: &str) -> bool {
    let printable = url.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}\"<>\\^`|".contains(&byte));
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // No user part is allowed, so that the text that looks like the host is the host.
    let host = authority.split(':').next().unwrap_or_default();
    let reachable = match scheme {
        "https" => !host.is_empty(),
        "http" => matches!(host, "127.0.0.1" | "localhost"),
        _ => false,
    };
    printable && reachable && !authority.contains('@')
}
