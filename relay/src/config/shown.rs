//! The settings as an operator may see them: of a secret only whether it is set.

use url::Url;

use super::{
    ADMIN_TOKEN, DATABASE_URL, EDGE_ADMIN_TOKEN, MASTER_KEY, OIDC_CLIENT_SECRET, QUEUE_TOKEN, SETTINGS, Setting,
};

/// The settings whose values are never shown.
const SECRET: [Setting; 6] = [DATABASE_URL, MASTER_KEY, ADMIN_TOKEN, EDGE_ADMIN_TOKEN, QUEUE_TOKEN, OIDC_CLIENT_SECRET];

/// A setting with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownSetting {
    pub name: &'static str,
    /// The first sentence of its meaning.
    pub meaning: &'static str,
    /// The value that applies; `None` if there is none, or if it is a secret.
    pub value: Option<String>,
    /// Whether the environment sets it.
    pub is_set: bool,
    pub is_secret: bool,
}

/// All settings, in the order of the README.
pub(super) fn settings(var: &dyn Fn(&str) -> Option<String>) -> Vec<ShownSetting> {
    let shown = |setting: &Setting| {
        let given = var(setting.name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let is_secret = SECRET.iter().any(|secret| secret.name == setting.name);
        let is_set = given.is_some();
        let value = given.or_else(|| setting.default.map(str::to_owned)).filter(|value| !value.is_empty());
        let value = value.filter(|_| !is_secret).map(|value| without_password(&value));
        ShownSetting { name: setting.name, meaning: setting.value(), value, is_set, is_secret }
    };
    SETTINGS.iter().map(shown).collect()
}

/// A URL may have a password.
fn without_password(value: &str) -> String {
    match Url::parse(value) {
        Ok(mut url) if url.password().is_some() => match url.set_password(Some("…")) {
            Ok(()) => url.to_string().replace("%E2%80%A6", "…"),
            Err(()) => "set".to_owned(),
        },
        Ok(_) | Err(_) => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::good;
    use super::*;

    #[test]
    fn no_secret_is_shown_and_everything_else_has_its_value_or_its_default() {
        let var = |name: &str| match name {
            "TIDEGATE_OIDC_CLIENT_SECRET" => Some("a secret of the client".to_owned()),
            "TIDEGATE_QUEUE_API" => Some("https://user:hidden@queue.example/v4".to_owned()),
            other => good(other),
        };
        let shown = settings(&var);
        assert_eq!(shown.len(), SETTINGS.len());
        let of = |name: &str| shown.iter().find(|setting| setting.name == name).expect("a setting");
        for secret in SECRET {
            assert_eq!((of(secret.name).value.as_deref(), of(secret.name).is_set), (None, true), "{}", secret.name);
        }
        assert_eq!(of("TIDEGATE_EDGE_URL").value.as_deref(), Some("https://hooks.example.com"));
        assert_eq!(
            (of("TIDEGATE_LISTEN").value.as_deref(), of("TIDEGATE_LISTEN").is_set),
            (Some("127.0.0.1:8400"), false)
        );
        assert_eq!(of("TIDEGATE_PUBLIC_URL").value, None);
        assert_eq!(of("TIDEGATE_QUEUE_API").value.as_deref(), Some("https://user:…@queue.example/v4"));
        let text = format!("{shown:?}");
        for secret in ["sixteen characters", "AAEC", "postgres://u@localhost/t", "a secret of the client", "hidden"] {
            assert!(!text.contains(secret), "{secret}");
        }
    }

    #[test]
    fn every_setting_that_sounds_secret_is_one_or_is_known_not_to_be() {
        let sounds =
            |name: &str| ["TOKEN", "SECRET", "KEY", "PASSWORD", "DATABASE_URL"].iter().any(|word| name.contains(word));
        let wrong: Vec<&str> = SETTINGS
            .iter()
            .map(|setting| setting.name)
            .filter(|name| sounds(name) && !SECRET.iter().any(|secret| secret.name == *name))
            .collect();
        assert!(wrong.is_empty(), "add these to SECRET: {wrong:?}");
    }
}
