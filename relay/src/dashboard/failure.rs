//! What a page refuses, or why it fails.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::api::problem::{ApiError, Problem};
use crate::control;

/// What a page refuses, or why it fails. [`super::admission`] renders it inside the frame of the viewer.
#[derive(Debug, Clone)]
pub(crate) struct Failure(Arc<ApiError>);

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(Arc::new(error))
    }
}

impl From<control::Error> for Failure {
    fn from(error: control::Error) -> Self {
        ApiError::from(error).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl Failure {
    /// The problem document.
    pub(super) fn problem(&self) -> Problem {
        self.0.problem()
    }

    /// Logs the cause, if it concerns the operator.
    pub(super) fn log(&self) {
        self.0.log();
    }
}

/// The page for a path that does not exist.
pub(super) async fn not_found() -> Failure {
    ApiError::NoSuchCall.into()
}
