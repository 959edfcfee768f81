//! What is kept between clones of the repository.

use std::path::PathBuf;

/// The folder for what clones of the repository share: what building the Worker needs, and a lock. `TIDEGATE_CACHE`, else
/// `tidegate` in the cache folder of the user, else in the folder for temporary files.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "where a cache is")]
pub fn cache() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("TIDEGATE_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("tidegate")))
        .or_else(|| Some(variable("HOME")?.join(".cache/tidegate")))
        .unwrap_or_else(|| std::env::temp_dir().join("tidegate-cache"))
}
