//! Which part of the Worker answers a request: decided by the path alone.

/// The part of the Worker that a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `/`: a page for browsers.
    Home,
    /// `/healthz`
    Health,
    /// `/in/{source}`: the id or the name of a source. A source of another customer than the default one has the name
    /// of its customer in front: `/in/{customer}/{name}`.
    Source(&'a str),
    /// `/admin/…`, for the relay.
    Admin(AdminRoute<'a>),
    /// Everything else.
    Nothing,
}

/// A call of the admin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdminRoute<'a> {
    /// `/admin/status`
    Status,
    /// `/admin/sources/{id}`
    Source(&'a str),
    /// `/admin/bodies/{key}`
    Body(&'a str),
    /// `/admin/handed-over/{id}`: secrets that providers hand over to a source.
    HandedOver(&'a str),
    /// Everything else below `/admin`.
    Nothing,
}

/// Finds the route of a path. A trailing slash is ignored, because pasted URLs often have one.
pub(crate) fn route(path: &str) -> Route<'_> {
    let path = path.trim_matches('/');
    let mut segments = path.split('/');
    match (segments.next(), segments.next(), segments.next(), segments.next()) {
        (Some(""), None, ..) => Route::Home,
        (Some("healthz"), None, ..) => Route::Health,
        (Some("in"), Some(_), _, None) => Route::Source(path.strip_prefix("in/").unwrap_or_default()),
        (Some("admin"), Some("status"), None, _) => Route::Admin(AdminRoute::Status),
        (Some("admin"), Some("sources"), Some(id), None) => Route::Admin(AdminRoute::Source(id)),
        (Some("admin"), Some("bodies"), Some(key), None) => Route::Admin(AdminRoute::Body(key)),
        (Some("admin"), Some("handed-over"), Some(id), None) => Route::Admin(AdminRoute::HandedOver(id)),
        (Some("admin"), ..) => Route::Admin(AdminRoute::Nothing),
        _ => Route::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_one_route() {
        for (path, wanted) in [
            ("/", Route::Home),
            ("/healthz", Route::Health),
            ("/in/stripe", Route::Source("stripe")),
            ("/in/stripe/", Route::Source("stripe")),
            ("/in", Route::Nothing),
            ("/in/acme/stripe", Route::Source("acme/stripe")),
            ("/in/a/b/c", Route::Nothing),
            ("/admin", Route::Admin(AdminRoute::Nothing)),
            ("/admin/status", Route::Admin(AdminRoute::Status)),
            ("/admin/sources/src_1", Route::Admin(AdminRoute::Source("src_1"))),
            ("/admin/sources/src_1/secrets", Route::Admin(AdminRoute::Nothing)),
            ("/admin/bodies/evt_1", Route::Admin(AdminRoute::Body("evt_1"))),
            ("/admin/handed-over/src_1", Route::Admin(AdminRoute::HandedOver("src_1"))),
            ("/administrator", Route::Nothing),
            ("", Route::Home),
        ] {
            assert_eq!(route(path), wanted, "{path}");
        }
    }
}
