//! JSON pointers (RFC 6901), which the rule language also writes as dotted paths.

/// The JSON pointer (RFC 6901) of a dotted path. A pointer stays as it is, and an empty path names the whole document.
pub(crate) fn pointer(path: &str) -> String {
    if path.is_empty() || path.starts_with('/') {
        return path.to_owned();
    }
    path.split('.').map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1"))).collect()
}
