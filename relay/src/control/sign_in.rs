//! Sign-in with the OpenID Connect provider of the settings: its groups become scopes, and the user gets a session.
//!
//! What a sign-in has to remember goes sealed into a cookie, so that any replica can end what another one began, and
//! nothing is stored for a sign-in that does not end.

use std::time::Duration;

use model::session::MadeOf;
use serde::{Deserialize, Serialize};
use shared::seal::{self, SealingKey};
use shared::secret::are_same;
use shared::source::Secret;
use store::audit::Author;
use store::sessions::Subject;

use super::error::SignInError;
use super::field_error::FieldError;
use super::scope::Scopes;
use super::sessions::{Made, NewSession, make, names};
use super::token_form::session_text;
use super::{Control, Error};
use crate::config::Group;
use crate::mint;
use crate::oidc::{Failure, Flow, Oidc};

pub use crate::oidc::{CALLBACK, START};

/// How long a sign-in may take.
pub(crate) const WITHIN: Duration = Duration::from_secs(600);

/// The longest path to which a sign-in returns, in bytes. It is part of a cookie.
pub(crate) const MAX_RETURN_TO: usize = 1_000;

/// What the sealed text belongs to.
const SEALED_FOR: &str = "sign-in";

/// A sign-in that has begun.
#[derive(Debug)]
pub struct Begun {
    /// Where the browser goes.
    pub url: String,
    /// What the browser has to bring back in a cookie.
    pub remembered: Secret,
}

/// What the provider sends back through the browser.
#[derive(Debug, Default)]
pub struct Answer<'a> {
    pub state: &'a str,
    pub code: Option<&'a str>,
    pub error: Option<&'a str>,
    pub issuer: Option<&'a str>,
}

/// A user who has signed in.
#[derive(Debug)]
pub struct SignedIn {
    pub made: Made,
    /// The path to which the browser goes.
    pub return_to: String,
}

/// What a cookie remembers of a sign-in.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    flow: Flow,
    return_to: String,
    expires_at_ms: u64,
}

/// Begins a sign-in, which ends at the path `return_to`.
///
/// # Errors Returns an error if no provider is configured or if it cannot be reached, or an invalid field if
/// `return_to` is not a path of the relay.
pub async fn begin(control: &Control, return_to: Option<&str>) -> Result<Begun, Error> {
    let oidc = configured(control)?;
    let return_to = return_to.unwrap_or("/");
    if !is_own_path(return_to) {
        let problem = format!(
            "must be a path of the relay such as /events, at most {MAX_RETURN_TO} bytes long; it begins with one slash"
        );
        return Err(Error::Invalid(vec![FieldError::new("return_to", problem)]));
    }
    let (url, flow) = oidc.begin().await.map_err(failed)?;
    let within_ms = u64::try_from(WITHIN.as_millis()).unwrap_or_default();
    let expires_at_ms = mint::now_ms() + within_ms;
    let remembered = Remembered { flow, return_to: return_to.to_owned(), expires_at_ms };
    let remembered = remembered.seal(&control.config.master_keys)?;
    Ok(Begun { url: url.into(), remembered: Secret::new(&remembered) })
}

/// Ends a sign-in: checks the provider's answer, and makes a session of the user. `remembered` is what the browser
/// brought back, and `request_id` the id of its request.
///
/// # Errors Returns an error if no provider is configured or if it cannot be reached, if the answer is none to this
/// sign-in, or if the user is in no group that may sign in.
pub async fn finish(
    control: &Control,
    answer: &Answer<'_>,
    remembered: Option<&str>,
    request_id: Option<String>,
) -> Result<SignedIn, Error> {
    let oidc = configured(control)?;
    let open = |text| Remembered::open(&control.config.master_keys, text, answer.state, mint::now_ms());
    let Remembered { flow, return_to, .. } = remembered.and_then(open).ok_or(Error::SignIn(SignInError::Unknown))?;
    let settings = oidc.settings();
    if answer.issuer.is_some_and(|issuer| issuer != settings.issuer) {
        return Err(Error::SignIn(SignInError::Invalid("the answer names another issuer".to_owned())));
    }
    let code = match (answer.error, answer.code) {
        (Some(error), _) => return Err(Error::SignIn(SignInError::Refused(plain(error)))),
        (None, Some(code)) => code,
        (None, None) => return Err(Error::SignIn(SignInError::Unknown)),
    };
    let user = oidc.finish(flow, code).await.map_err(failed)?;
    let groups = user.groups.unwrap_or_default();
    let scopes = scopes_of(&settings.groups, &groups);
    if scopes == Scopes::default() {
        let claim = settings.groups_claim.clone();
        return Err(Error::SignIn(SignInError::NoGroup { claim, groups }));
    }
    let secret = session_text(mint::random());
    let text = format!("{} {}", settings.issuer, user.subject);
    let new = NewSession {
        secret: &secret,
        subject: &Subject { made_of: MadeOf::OpenIdConnect, text },
        token_id: None,
        name: Some(user.name.as_deref().unwrap_or(&user.subject)),
        customer: None,
        scopes: &names(scopes),
        root_proof: None,
        until: None,
    };
    let author = Author::session(&new.subject.text, new.name.unwrap_or_default(), None).requesting(request_id);
    Ok(SignedIn { made: make(control, new, author).await?, return_to })
}

fn configured(control: &Control) -> Result<&Oidc, Error> {
    control.oidc.as_deref().ok_or(Error::SignIn(SignInError::NotConfigured))
}

fn failed(failure: Failure) -> Error {
    Error::SignIn(match failure {
        Failure::Provider(error) => SignInError::Provider(error),
        Failure::Code(error) | Failure::IdToken(error) => SignInError::Invalid(error),
    })
}

/// The scopes of all of these groups.
fn scopes_of(mapped: &[Group], groups: &[String]) -> Scopes {
    let mapped = mapped.iter().filter(|group| groups.contains(&group.name));
    mapped.flat_map(|group| group.scopes.iter().copied()).collect()
}

/// Whether a text is a path of the relay, and leads a browser to no other host.
pub(crate) fn is_own_path(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'<' | b'>');
    text.len() <= MAX_RETURN_TO && text.starts_with('/') && !text.starts_with("//") && text.bytes().all(is_plain)
}

/// The code of an error, if it is one: the text comes from the URL.
fn plain(error: &str) -> String {
    let is_code = error.len() <= 64 && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_code { error.to_owned() } else { "no reason".to_owned() }
}

impl Remembered {
    fn seal(&self, keys: &[SealingKey]) -> Result<String, Error> {
        let key = keys.first().ok_or_else(|| Error::Internal("there is no key to seal with".to_owned()))?;
        let plain = serde_json::to_vec(self).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(seal::seal(key, SEALED_FOR, mint::random(), &plain))
    }

    /// Reads what a cookie remembers; `None` if it is not one of the relay, has another state, or is too old.
    fn open(keys: &[SealingKey], sealed: &str, state: &str, now_ms: u64) -> Option<Self> {
        let plain = seal::open(keys, SEALED_FOR, sealed).ok()?;
        let remembered: Self = serde_json::from_slice(&plain).ok()?;
        let is_it = are_same(&remembered.flow.state, state) && now_ms < remembered.expires_at_ms;
        is_it.then_some(remembered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Scope;

    #[test]
    fn a_sign_in_returns_only_to_a_path_of_the_relay() {
        for own in ["/", "/events/evt_1?state=dead&a=%20", "/a//b", "/#part"] {
            assert!(is_own_path(own), "{own}");
        }
        for other in ["", "events", "//evil.example", "/\\evil.example", "https://evil.example/", "/a b", "/\n", "/ü"]
        {
            assert!(!is_own_path(other), "{other}");
        }
        assert!(is_own_path(&format!("/{}", "a".repeat(MAX_RETURN_TO - 1))));
        assert!(!is_own_path(&format!("/{}", "a".repeat(MAX_RETURN_TO))));
    }

    #[test]
    fn a_user_has_the_scopes_of_all_groups() {
        let group = |name: &str, scopes: &[Scope]| Group { name: name.to_owned(), scopes: scopes.to_vec() };
        let mapped = [group("platform", &[Scope::Write, Scope::Read]), group("ops", &[Scope::Read, Scope::Admin])];
        let of = |groups: &[&str]| {
            let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
            scopes_of(&mapped, &groups).iter().collect::<Vec<_>>()
        };
        assert_eq!(of(&["platform"]), [Scope::Read, Scope::Write]);
        assert_eq!(of(&["ops", "other", "platform"]), [Scope::Read, Scope::Write, Scope::Admin]);
        assert!(of(&["Platform", "other"]).is_empty() && of(&[]).is_empty());
    }

    #[test]
    fn a_cookie_belongs_to_its_state_and_expires() {
        let key = |byte: u8| {
            use base64::Engine as _;
            SealingKey::parse(&base64::engine::general_purpose::STANDARD.encode([byte; 32])).expect("a key")
        };
        let flow = Flow { state: "state".to_owned(), nonce: "nonce".to_owned(), verifier: "verifier".to_owned() };
        let remembered = Remembered { flow, return_to: "/".to_owned(), expires_at_ms: 1_000 };
        let sealed = remembered.seal(&[key(1)]).expect("seals");
        assert!(!sealed.contains("verifier"));
        assert_eq!(Remembered::open(&[key(2), key(1)], &sealed, "state", 999), Some(remembered));
        assert_eq!(Remembered::open(&[key(1)], &sealed, "another", 999), None);
        assert_eq!(Remembered::open(&[key(1)], &sealed, "state", 1_000), None);
        assert_eq!(Remembered::open(&[key(2)], &sealed, "state", 999), None);
        assert_eq!(Remembered::open(&[key(1)], "s1.x.y", "state", 999), None);
    }

    #[test]
    fn only_the_code_of_an_error_is_shown() {
        assert_eq!(plain("access_denied"), "access_denied");
        assert_eq!(plain("<script>"), "no reason");
        assert_eq!(plain(&"a".repeat(65)), "no reason");
    }
}
