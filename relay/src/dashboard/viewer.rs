//! Who views a page: the session of the browser, and the customer that the URL names.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::SET_COOKIE;
use http::request::Parts;
use http::{HeaderMap, Method, Uri};
use url::form_urlencoded;

use super::failure::{self, Failure};
use super::frame::Frame;
use super::link;
use super::notice::{self, Notice};
use super::theme::{self, Theme};
use super::{Dashboard, alerts};
use crate::api::auth;
use crate::api::problem::ApiError;
use crate::api::site::{self, Site};
use crate::control::{Actor, Error, Scope, acting, authentication};

pub(super) use super::link::CUSTOMER;

/// Who views a page.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    /// The session, acting for the customer that the URL names.
    pub(super) actor: Actor,
    /// The customer that the URL names: a name, an id, or `*` for all.
    pub(super) customer: Option<String>,
    /// The path and the query of the page.
    pub(super) uri: Uri,
    pub(super) theme: Theme,
    /// What the last form did.
    pub(super) notice: Option<Notice>,
    /// Whether sign-in needs no token because of a provider.
    pub(super) site: Site,
    /// The names of the customers for which the viewer may act; none if the viewer is bound to one.
    pub(super) customers: Arc<[String]>,
    /// The last alerts of each customer.
    pub(super) alerts: Arc<alerts::Kept>,
}

impl Viewer {
    /// Whether the viewer may do what needs this scope. What a viewer may not do is not offered.
    pub(super) fn may(&self, scope: Scope) -> bool {
        self.actor.require(scope).is_ok()
    }

    /// Whether the page shows the objects of all customers.
    pub(super) fn sees_all(&self) -> bool {
        self.actor.listed().is_none()
    }

    /// Whether the viewer may do what belongs to the deployment and to no customer, and needs this scope.
    pub(super) fn may_of_deployment(&self, scope: Scope) -> bool {
        self.may(scope) && self.actor.require_unbound().is_ok()
    }

    /// The number of alerts; `None` if it is not known.
    pub(super) fn alert_count(&self) -> Option<usize> {
        let customer = self.actor.customer().ok().filter(|_| self.may(Scope::Read));
        customer.and_then(|customer| self.alerts.count(customer))
    }
}

/// Passes a request on if it has a session; otherwise sends the browser to the sign-in. Renders what a page refuses.
pub(super) async fn admit(State(dashboard): State<Dashboard>, mut request: Request, next: Next) -> Response {
    let control = &dashboard.control;
    let Some(site) = Site::of(control.public_url(), request.headers()) else {
        return failure::without_frame(ApiError::PlainHttp);
    };
    let Some(session) = site.session(request.headers()) else { return to_sign_in(&request) };
    if let Err(shown_by) = check(&site, request.method(), request.headers()) {
        return failure::without_frame(ApiError::CrossSite(shown_by));
    }
    let from = auth::caller(request.extensions());
    let actor = match authentication::authenticate_session(control, &session, from).await {
        Err(Error::Unauthenticated) => {
            let mut response = to_sign_in(&request);
            response.headers_mut().append(SET_COOKIE, site.no_session());
            return response;
        }
        Err(error) => return failure::without_frame(error.into()),
        Ok(actor) => actor.requesting(auth::request_id(request.extensions())),
    };
    if let Some(wait) = control.count_request(&actor.caller()).wait {
        return failure::without_frame(Error::TooManyRequests(wait).into());
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
        response = failure.render(Frame::new(&viewer, "Something is wrong", None));
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

impl<S: Send + Sync> FromRequestParts<S> for Viewer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| ApiError::Unauthorized.into())
    }
}
