//! Tokens: listed, created, shown once, and revoked.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use time::OffsetDateTime;

use super::super::commands::{Commands, single_quoted};
use super::super::confirmation::ConfirmPage;
use super::super::failure::Failure;
use super::super::frame::{Frame, page};
use super::super::link;
use super::super::notice::Notice;
use super::super::values::{Values, moment};
use super::super::view::{self, Tone};
use super::super::viewer::Viewer;
use super::{Link, Tab, Wrong, of_deployment, tab, with_status};
use crate::control::page::PageRequest;
use crate::control::tokens::{self, NewToken, Token};
use crate::control::{Control, Scope};

#[derive(Template)]
#[template(path = "dashboard/settings_tokens.html")]
struct TokensPage {
    frame: Frame,
    tabs: Vec<Link>,
    tokens: Vec<Token>,
    next: Option<String>,
    newest: Option<String>,
    commands: Commands,
}

impl TokensPage {
    fn state(&self, token: &Token) -> (Tone, &'static str) {
        state(token, self.frame.now)
    }
}

fn state(token: &Token, now: OffsetDateTime) -> (Tone, &'static str) {
    match (token.revoked_at, token.expires_at) {
        (Some(_), _) => (Tone::Quiet, "Revoked"),
        (None, Some(at)) if at.0 <= now => (Tone::Warn, "Expired"),
        (None, _) => (Tone::Ok, "Active"),
    }
}

/// The list.
pub(super) async fn list(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    let cursor = link::parameter(&viewer.uri, "cursor");
    let newest_first = PageRequest { limit: None, cursor: cursor.clone() };
    let found = tokens::list(&control, &viewer.actor, &newest_first).await?;
    let (frame, tabs) = tab(&viewer, Tab::Tokens);
    let next = found.next_cursor.map(|cursor| link::changed(&viewer.uri, &[("cursor", Some(&cursor))]));
    let newest = cursor.map(|_| frame.without("cursor"));
    let commands = of_deployment("GET", "/v1/tokens", "", "tidegate token list");
    Ok(page(&TokensPage { tabs, tokens: found.data, next, newest, commands, frame }))
}

/// What was typed into the form of a new token.
#[derive(Debug, Default)]
struct Typed {
    name: String,
    customer: String,
    scopes: Vec<String>,
    expires_at: String,
}

impl Typed {
    fn of(given: &Values) -> Self {
        let text = |name| given.get(name).unwrap_or_default().to_owned();
        Self {
            name: text("name"),
            customer: text("customer_of_token"),
            scopes: given.listed("scope").map(str::to_owned).collect(),
            expires_at: text("expires_at"),
        }
    }

    fn has(&self, scope: &Scope) -> bool {
        self.scopes.iter().any(|name| name == scope.name())
    }

    fn token(&self) -> NewToken {
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        NewToken {
            name: self.name.clone(),
            customer: text(&self.customer),
            scopes: self.scopes.iter().filter_map(|name| Scope::from_name(name)).collect(),
            expires_at: text(&self.expires_at).map(|text| moment(&text)),
        }
    }
}

#[derive(Template)]
#[template(path = "dashboard/settings_token_new.html")]
struct NewTokenPage {
    frame: Frame,
    tabs: Vec<Link>,
    typed: Typed,
    wrong: Wrong,
    scopes: [Scope; 6],
    commands: Commands,
}

impl NewTokenPage {
    #[expect(clippy::unused_self, reason = "templates call it on the page")]
    fn allows(&self, scope: &Scope) -> &'static str {
        match scope {
            Scope::Read => "See everything except bodies and secrets",
            Scope::Bodies => "See the bodies of events",
            Scope::Write => "Change sources, destinations and routes",
            Scope::Replay => "Retry, release, replay and cancel",
            Scope::Secrets => "See and rotate the signing secrets of destinations",
            Scope::Admin => {
                "Manage customers, tokens and operations, and erase bodies. Not for a token of one customer"
            }
        }
    }
}

fn form(viewer: &Viewer, typed: Typed, wrong: Wrong) -> Response {
    let (mut frame, tabs) = tab(viewer, Tab::Tokens);
    frame.title = "New token".to_owned();
    let body = "{\"name\": \"ci\", \"scopes\": [\"read\"]}";
    let commands = of_deployment("POST", "/v1/tokens", body, "tidegate token create ci --scope read");
    page(&NewTokenPage { frame, tabs, typed, wrong, scopes: Scope::ALL, commands })
}

/// The form of a new token.
pub(super) async fn new(viewer: Viewer) -> Result<Response, Failure> {
    viewer.actor.require(Scope::Admin)?;
    let typed = Typed {
        customer: viewer.customer.clone().filter(|customer| customer != "*").unwrap_or_default(),
        scopes: vec![Scope::Read.name().to_owned()],
        ..Typed::default()
    };
    Ok(form(&viewer, typed, Wrong::default()))
}

#[derive(Template)]
#[template(path = "dashboard/settings_token_made.html")]
struct MadePage {
    frame: Frame,
    tabs: Vec<Link>,
    token: Token,
    /// The token itself, which is shown here and never again.
    secret: String,
    /// The token as a line of a shell.
    export: String,
    commands: Commands,
}

/// Creates a token and shows it. There is no redirect, because it is stored nowhere from where another page could read
/// it.
pub(super) async fn create(State(control): State<Control>, viewer: Viewer, given: Values) -> Result<Response, Failure> {
    let typed = Typed::of(&given);
    match tokens::create(&control, &viewer.actor, typed.token()).await {
        Ok(saved) => {
            let (mut frame, tabs) = tab(&viewer, Tab::Tokens);
            frame.title = "Token created".to_owned();
            let mut token = saved.value;
            let secret = token.token.take().unwrap_or_default();
            let curl = "curl -H \"Authorization: Bearer $TIDEGATE_TOKEN\" \"$TIDEGATE_URL/v1/whoami\"".to_owned();
            let commands = Commands { curl, command: "tidegate auth status".to_owned() };
            Ok(with_status(
                page(&MadePage { export: exported(&secret), frame, tabs, token, secret, commands }),
                StatusCode::CREATED,
            ))
        }
        Err(error) => {
            let (status, wrong) = Wrong::of(error, "name")?;
            Ok(with_status(form(&viewer, typed, wrong), status))
        }
    }
}

/// Says what revoking a token does.
pub(super) async fn confirm(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let token = tokens::show(&control, &viewer.actor, &id).await?;
    let (mut frame, _) = tab(&viewer, Tab::Tokens);
    frame.title = format!("Revoke the token {}", token.name);
    let used = match token.last_used_at {
        Some(at) => {
            let ms = (frame.now - at.0).whole_milliseconds().unsigned_abs();
            format!("It was last used {} ago.", view::duration(u64::try_from(ms).unwrap_or(u64::MAX)))
        }
        None => "It has never been used.".to_owned(),
    };
    let effects = vec![
        format!("No relay accepts the token {} ({}) from then on, and its sessions end.", token.name, token.hint),
        used,
        "This cannot be undone. What uses the token needs another one first.".to_owned(),
    ];
    let action = format!("/settings/tokens/{}/revoke", token.id);
    let page = ConfirmPage {
        is_dangerous: true,
        keep: "Keep it",
        ..ConfirmPage::new(frame, &action, Tab::Tokens.path(), "Revoke the token", effects)
    };
    Ok(page.render_page())
}

/// Revokes a token.
pub(super) async fn revoke(
    State(control): State<Control>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let token = tokens::revoke(&control, &viewer.actor, &id).await?;
    let (frame, _) = tab(&viewer, Tab::Tokens);
    Ok(Notice::done(format!("The token {} is revoked.", token.name)).on(&frame.to(Tab::Tokens.path())))
}

/// A token as a line of a shell.
fn exported(secret: &str) -> String {
    format!("export TIDEGATE_TOKEN={}", single_quoted(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scopes_and_the_time_of_a_form_become_a_token() {
        let typed = Typed {
            name: "ci".to_owned(),
            customer: String::new(),
            scopes: vec!["read".to_owned(), "unknown".to_owned()],
            expires_at: "2030-01-31T08:00".to_owned(),
        };
        let token = typed.token();
        assert_eq!((token.scopes, token.customer), (vec![Scope::Read], None));
        assert_eq!(token.expires_at.as_deref(), Some("2030-01-31T08:00:00Z"));
        assert!(typed.has(&Scope::Read) && !typed.has(&Scope::Admin));
        assert_eq!(exported("tg_1"), "export TIDEGATE_TOKEN='tg_1'");
    }
}
