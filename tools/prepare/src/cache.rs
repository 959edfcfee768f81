//! The folder that clones of the repository share.

use std::path::PathBuf;

/// The folder for files that clones of the repository share, such as the target folder of the Worker, and a lock. It is
/// `TIDEGATE_CACHE`, else `tidegate` in the user's cache folder, else a folder in the folder for temporary files.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "variables name the cache folder")]
pub fn cache() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("TIDEGATE_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("tidegate")))
        .or_else(|| Some(variable("HOME")?.join(".cache/tidegate")))
        .unwrap_or_else(|| std::env::temp_dir().join("tidegate-cache"))
}
