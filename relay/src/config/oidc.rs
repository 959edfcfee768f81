//! The settings of the sign-in with OpenID Connect.

use model::scope::Scope;
use shared::source::Secret;
use url::Url;

use super::{
    OIDC_CLIENT_ID, OIDC_CLIENT_SECRET, OIDC_GROUPS, OIDC_GROUPS_CLAIM, OIDC_ISSUER, OIDC_SCOPES, PUBLIC_URL, Reader,
    Setting, http_url, list,
};

/// An OpenID Connect provider with which people sign in.
#[derive(Debug, Clone)]
pub struct OidcConfig {
    /// The issuer, exactly as the provider writes it.
    pub issuer: String,
    pub client_id: String,
    /// `None` for a public client.
    pub client_secret: Option<Secret>,
    /// The URL under which browsers reach the relay.
    pub public_url: Url,
    /// The scopes that are requested from the provider in addition to `openid`.
    pub scopes: Vec<String>,
    /// The name of the claim with the groups of a user.
    pub groups_claim: String,
    /// What each group may do.
    pub groups: Vec<Group>,
}

/// A group of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What the provider calls it.
    pub name: String,
    /// What its users may do.
    pub scopes: Vec<Scope>,
}

/// Reads the settings. `Some(None)`: the sign-in is not configured. `None`: there are problems, which `reader` has.
pub(super) fn read(reader: &mut Reader<'_>, public_url: Option<&Option<Url>>) -> Option<Option<OidcConfig>> {
    let is_set =
        |reader: &Reader<'_>, setting: &Setting| (reader.var)(setting.name).is_some_and(|text| !text.trim().is_empty());
    let is_used = is_set(reader, &OIDC_ISSUER);
    let issuer = reader.parse(&OIDC_ISSUER, |text| match text {
        "" => Ok(String::new()),
        text if matches!(public_url, Some(None)) => Err(format!(
            "\"{text}\" needs {}, to which the provider sends the browser back; set that too",
            PUBLIC_URL.name
        )),
        text => issuer(text),
    });
    let client_id = reader.parse(&OIDC_CLIENT_ID, |text| required(is_used, text, &OIDC_CLIENT_ID));
    let client_secret = reader.parse(&OIDC_CLIENT_SECRET, |text| optional(is_used, text));
    let scopes = reader.parse(&OIDC_SCOPES, |text| Ok(text.split_whitespace().map(str::to_owned).collect()));
    let groups_claim = reader.parse(&OIDC_GROUPS_CLAIM, |text| Ok(text.to_owned()));
    let groups =
        reader.parse(&OIDC_GROUPS, |text| required(is_used, text, &OIDC_GROUPS).and_then(|text| groups(&text)));
    let (issuer, client_id, client_secret) = (issuer?, client_id?, client_secret?);
    let (scopes, groups_claim, groups) = (scopes?, groups_claim?, groups?);
    if !is_used {
        return Some(None);
    }
    let client_secret = (!client_secret.is_empty()).then(|| Secret::new(&client_secret));
    let public_url = public_url?.clone()?;
    Some(Some(OidcConfig { issuer, client_id, client_secret, public_url, scopes, groups_claim, groups }))
}

/// A setting that the sign-in needs.
fn required(is_used: bool, text: &str, setting: &Setting) -> Result<String, String> {
    if is_used && text.is_empty() {
        return Err(format!("is not set, and {} is; set it to {}", OIDC_ISSUER.name, setting.value()));
    }
    optional(is_used, text)
}

/// A setting that only the sign-in uses.
fn optional(is_used: bool, text: &str) -> Result<String, String> {
    if !is_used && !text.is_empty() {
        return Err(format!("is set, and {} is not; set that too, or remove this", OIDC_ISSUER.name));
    }
    Ok(text.to_owned())
}

/// An issuer: an `https` URL, or an `http` URL of this machine.
fn issuer(text: &str) -> Result<String, String> {
    let url = http_url(text)?;
    let is_local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "http" if !is_local => Err("must begin with https://, because the relay trusts its answers".to_owned()),
        _ if url.query().is_some() || url.fragment().is_some() => Err("must have no query and no fragment".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// Which group has which scopes: `group=scope+scope,…`. The name of a group may contain `=`, and no comma.
fn groups(text: &str) -> Result<Vec<Group>, String> {
    let group = |entry: &str| {
        let (name, scopes) = entry
            .rsplit_once('=')
            .ok_or_else(|| format!("\"{entry}\" has no scopes; write a group and its scopes as platform=read+write"))?;
        let scope = |text: &str| {
            let known = || Scope::ALL.map(Scope::name).join(", ");
            Scope::from_name(text).ok_or_else(|| format!("\"{text}\" is not a scope; the scopes are {}", known()))
        };
        let scopes = scopes.split('+').map(|text| scope(text.trim())).collect::<Result<Vec<Scope>, String>>()?;
        match name.trim() {
            "" => Err(format!("\"{entry}\" names no group")),
            name => Ok(Group { name: name.to_owned(), scopes }),
        }
    };
    list(text).map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{read, tests::good};
    use super::*;

    const OIDC: [(&str, &str); 4] = [
        ("TIDEGATE_PUBLIC_URL", "https://tidegate.example.com"),
        ("TIDEGATE_OIDC_ISSUER", "https://login.example.com/realms/a"),
        ("TIDEGATE_OIDC_CLIENT_ID", "tidegate"),
        ("TIDEGATE_OIDC_GROUPS", "platform = read + write, cn=ops=admin"),
    ];

    /// The configuration, or the names of the settings with problems, with these settings in addition to the good ones.
    fn with(settings: &[(&'static str, &'static str)]) -> Result<Option<OidcConfig>, Vec<&'static str>> {
        let read = read(|name| {
            let given = settings.iter().find(|(given, _)| *given == name);
            given.map(|(_, value)| (*value).to_owned()).or_else(|| good(name))
        });
        read.map(|config| config.oidc).map_err(|problems| problems.iter().map(|problem| problem.name).collect())
    }

    #[test]
    fn nothing_is_configured_without_an_issuer() {
        assert!(with(&[]).expect("reads").is_none());
        let alone = with(&[OIDC[2], ("TIDEGATE_OIDC_CLIENT_SECRET", "secret"), OIDC[3]]).expect_err("problems");
        assert_eq!(alone, ["TIDEGATE_OIDC_CLIENT_ID", "TIDEGATE_OIDC_CLIENT_SECRET", "TIDEGATE_OIDC_GROUPS"]);
    }

    #[test]
    fn an_issuer_needs_a_client_groups_and_the_public_url() {
        let config = with(&OIDC).expect("reads").expect("is configured");
        assert_eq!((config.issuer.as_str(), config.client_secret), ("https://login.example.com/realms/a", None));
        assert_eq!(
            (config.scopes, config.groups_claim.as_str()),
            (vec!["profile".to_owned(), "email".to_owned()], "groups")
        );
        let missing = with(&OIDC[1..2]).expect_err("problems");
        assert_eq!(missing, ["TIDEGATE_OIDC_ISSUER", "TIDEGATE_OIDC_CLIENT_ID", "TIDEGATE_OIDC_GROUPS"]);
    }

    #[test]
    fn an_issuer_is_reached_by_tls_unless_it_is_on_this_machine() {
        for good in ["https://login.example.com", "http://127.0.0.1:8080", "http://localhost/a/"] {
            assert_eq!(issuer(good).as_deref(), Ok(good));
        }
        for wrong in ["http://login.example.com", "https://a.example?b", "login.example.com"] {
            assert!(issuer(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn groups_are_read_with_their_scopes() {
        let names = |group: &Group| {
            let scopes: Vec<&str> = group.scopes.iter().map(|scope| scope.name()).collect();
            (group.name.clone(), scopes.join("+"))
        };
        let read = |text| groups(text).map(|groups| groups.iter().map(names).collect::<Vec<_>>());
        let pair = |name: &str, scopes: &str| (name.to_owned(), scopes.to_owned());
        assert_eq!(
            read("platform = read + write, cn=ops=admin,"),
            Ok(vec![pair("platform", "read+write"), pair("cn=ops", "admin")])
        );
        for wrong in ["platform", "platform=", "=read", "platform=read+fly", "platform=Read"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_scope_can_be_given_to_a_group() {
        let all = "read+bodies+write+replay+secrets+admin";
        let read = groups(&format!("all={all}")).expect("reads");
        assert_eq!(read[0].scopes, Scope::ALL);
    }
}
