//! Admits browsers that have a session to the pages, and sends others to the sign-in.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::SET_COOKIE;
use http::{HeaderMap, Method};
use url::form_urlencoded;

use super::failure::Failure;
use super::frame::Frame;
use super::link::{self, CUSTOMER};
use super::viewer::Viewer;
use super::{Dashboard, failing, notice, theme};
use crate::api::auth;
use crate::api::problem::ApiError;
use crate::api::site::{self, Site};
use crate::control::{Error, acting, authentication};

/// Passes a request on if it has a session; otherwise sends the browser to the sign-in. Renders what a page refuses.
pub(super) async fn admit(State(dashboard): State<Dashboard>, mut request: Request, next: Next) -> Response {
    let control = &dashboard.control;
    let Some(site) = Site::of(control.public_url(), request.headers()) else {
        return failing::without_frame(ApiError::PlainHttp);
    };
    let Some(session) = site.session(request.headers()) else { return to_sign_in(&request) };
    if let Err(shown_by) = check(&site, request.method(), request.headers()) {
        return failing::without_frame(ApiError::CrossSite(shown_by));
    }
    let from = auth::caller(request.extensions());
    let actor = match authentication::authenticate_session(control, &session, from).await {
        Err(Error::Unauthenticated) => {
            let mut response = to_sign_in(&request);
            response.headers_mut().append(SET_COOKIE, site.no_session());
            return response;
        }
        Err(error) => return failing::without_frame(error.into()),
        Ok(actor) => actor.requesting(auth::request_id(request.extensions())),
    };
    if let Some(wait) = control.count_request(&actor.caller()).wait {
        return failing::without_frame(Error::TooManyRequests(wait).into());
    }
    let customer = link::parameter(request.uri(), CUSTOMER);
    let acting = match &customer {
        Some(named) => acting::act_for(control, actor.clone(), named).await,
        None => Ok(actor.clone()),
    };
    let (acting, refused) = match acting {
        Ok(acting) => (acting, None),
        Err(error) => (actor.clone(), Some(error)),
    };
    let notice = notice::of(request.headers());
    let viewer = Viewer {
        actor: acting,
        customer: customer.filter(|_| refused.is_none()),
        uri: request.uri().clone(),
        theme: theme::of(request.headers()),
        notice: notice.clone(),
        site,
        customers: dashboard.customers.names(control, &actor).await,
        alerts: Arc::clone(&dashboard.alerts),
    };
    viewer.alerts.refresh(control, &viewer.actor);
    let mut response = match refused {
        Some(error) => Failure::from(error).into_response(),
        None => {
            request.extensions_mut().insert(viewer.clone());
            next.run(request).await
        }
    };
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        response = failing::render(&failure, Frame::new(&viewer, "Something is wrong", None));
    }
    if notice.is_some() && !response.headers().contains_key(SET_COOKIE) {
        response.headers_mut().append(SET_COOKIE, notice::shown());
    }
    response
}

/// As [`site::check`], but a link of another site, such as a chat, may open a page: it only reads, and its site does not
/// get the page.
fn check(site: &Site, method: &Method, headers: &HeaderMap) -> Result<(), &'static str> {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|found| found.as_bytes() == value.as_bytes());
    let is_opened = *method == Method::GET && is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document");
    if is_opened { Ok(()) } else { site::check(site, method, headers) }
}

/// Sends the browser to the sign-in, and from there back to the page.
fn to_sign_in(request: &Request) -> Response {
    let page = request.uri().path_and_query().map_or(super::ROOT, |page| page.as_str());
    let target = if *request.method() == Method::GET { page } else { super::ROOT };
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("return_to", target).finish();
    Redirect::to(&format!("{}/sign-in?{query}", super::ROOT)).into_response()
}
