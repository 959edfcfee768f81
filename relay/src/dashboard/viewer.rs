//! Who views a page: the session of the browser, and the customer that the URL names.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::Uri;
use http::request::Parts;

use super::alerts;
use super::failure::Failure;
use super::notice::Notice;
use super::theme::Theme;
use crate::api::problem::ApiError;
use crate::api::site::Site;
use crate::control::{Actor, Scope};

use super::link;
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
    /// The site as which the browser knows the relay.
    pub(super) site: Site,
    /// The names of the customers for which the viewer may act; none if the viewer is bound to one.
    pub(super) customers: Arc<[String]>,
    /// The last alerts of each customer.
    pub(super) alerts: Arc<alerts::Alerts>,
}

impl Viewer {
    /// Whether the viewer may do what needs this scope. What a viewer may not do is not offered.
    pub(super) fn may(&self, scope: Scope) -> bool {
        self.actor.require(scope).is_ok()
    }

    /// The URL of a page of the dashboard, for the same customer. `path` begins with a slash, or is empty.
    pub(super) fn to(&self, path: &str) -> String {
        link::with(&format!("{}{path}", super::ROOT), &[(CUSTOMER, self.customer.as_deref())])
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

impl<S: Send + Sync> FromRequestParts<S> for Viewer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| ApiError::Unauthorized.into())
    }
}
