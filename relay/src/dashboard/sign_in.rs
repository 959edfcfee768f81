//! Signing in with a token or with the OpenID Connect provider, and signing out.

use askama::Template;
use axum::extract::{Form, Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::SET_COOKIE;
use http::{Extensions, HeaderMap, StatusCode};
use serde::Deserialize;
use url::form_urlencoded;

use super::failure::Failure;
use super::frame::page;
use super::link::own_page;
use super::viewer::Viewer;
use super::{assets, theme};
use crate::api::auth;
use crate::api::problem::ApiError;
use crate::api::site::{self, Site};
use crate::control::sessions::{self, LIFETIME};
use crate::control::{Control, Error, authentication, sign_in as provider};

#[derive(Template)]
#[template(path = "dashboard/sign_in.html")]
struct SignInPage {
    return_to: String,
    /// Where the sign-in with the provider begins; `None` if there is no provider.
    provider: Option<String>,
    /// Why the last try has failed.
    problem: Option<String>,
    theme: &'static str,
}

impl SignInPage {
    #[expect(clippy::unused_self, reason = "templates call it on the page")]
    fn asset(&self, name: &str) -> &'static str {
        assets::path(name)
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Target {
    #[serde(default)]
    return_to: String,
}

#[derive(Deserialize)]
pub(super) struct SignIn {
    #[serde(default)]
    token: String,
    #[serde(default)]
    return_to: String,
}

/// The sign-in.
pub(super) async fn show(
    State(control): State<Control>,
    headers: HeaderMap,
    Query(Target { return_to }): Query<Target>,
) -> Response {
    render(&control, &headers, own_page(&return_to).to_owned(), None, StatusCode::OK)
}

fn render(
    control: &Control,
    headers: &HeaderMap,
    return_to: String,
    problem: Option<String>,
    status: StatusCode,
) -> Response {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("return_to", &return_to).finish();
    let provider = control.has_provider().then(|| format!("{}?{query}", provider::START));
    let theme = theme::of(headers).name();
    let mut response = page(&SignInPage { return_to, provider, problem, theme });
    *response.status_mut() = status;
    response
}

/// Signs in with a token: makes a session of it.
pub(super) async fn sign_in(
    State(control): State<Control>,
    extensions: Extensions,
    headers: HeaderMap,
    Form(SignIn { token, return_to }): Form<SignIn>,
) -> Response {
    let return_to = own_page(&return_to).to_owned();
    let Some(site) = Site::of(control.public_url(), &headers).filter(Site::may_have_sessions) else {
        return refused(&control, &headers, return_to, ApiError::PlainHttp);
    };
    if let Err(shown_by) = site::check_origin(&site, &headers) {
        return refused(&control, &headers, return_to, ApiError::CrossSite(shown_by));
    }
    let made = async {
        let from = auth::caller(&extensions);
        let actor = authentication::authenticate(&control, token.trim(), from).await?;
        let actor = actor.requesting(auth::request_id(&extensions));
        sessions::create_session(&control, &actor, token.trim()).await
    };
    match made.await {
        Ok(made) => {
            let mut response = Redirect::to(&return_to).into_response();
            response.headers_mut().append(SET_COOKIE, site.new_session(made.secret.reveal(), LIFETIME));
            response
        }
        Err(Error::Unauthenticated) => {
            let problem = "This token is unknown, expired or revoked. Check that all of it was pasted. The value of \
                           TIDEGATE_ADMIN_TOKEN is accepted, and every token that was made in Settings or with \
                           POST /v1/tokens.";
            render(&control, &headers, return_to, Some(problem.to_owned()), StatusCode::UNAUTHORIZED)
        }
        Err(error) => refused(&control, &headers, return_to, error.into()),
    }
}

fn refused(control: &Control, headers: &HeaderMap, return_to: String, error: ApiError) -> Response {
    error.log();
    let problem = error.problem();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    render(control, headers, return_to, Some(super::view::sentence(&problem.detail)), status)
}

/// Signs out: ends the session.
pub(super) async fn sign_out(State(control): State<Control>, viewer: Viewer) -> Result<Response, Failure> {
    sessions::end_this_session(&control, &viewer.actor).await?;
    let mut response = Redirect::to(&format!("{}/sign-in", super::ROOT)).into_response();
    response.headers_mut().append(SET_COOKIE, viewer.site.no_session());
    Ok(response)
}
