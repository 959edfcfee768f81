//! How a form is answered: the browser goes to a page that says what was done, or why it was refused.

use axum::response::Response;

use super::failure::Failure;
use super::notice::Notice;
use super::view;
use super::viewer::Viewer;
use crate::control::Error;

/// Sends the browser to a page of the dashboard, which shows what was done or why the present state does not permit it.
/// Every other error is a page of its own.
pub(super) fn on<T>(
    viewer: &Viewer,
    path: &str,
    result: Result<T, Error>,
    done: impl FnOnce(T) -> Notice,
) -> Result<Response, Failure> {
    let page = viewer.to(path);
    match result {
        Ok(value) => Ok(done(value).on(&page)),
        Err(error @ (Error::Conflict(_) | Error::StillUnreadable(_) | Error::NotTried(_))) => {
            let detail = Failure::from(error).problem().detail;
            Ok(Notice::refused(view::sentence(&detail)).on(&page))
        }
        Err(error) => Err(error.into()),
    }
}
