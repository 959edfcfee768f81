//! Settings come from one place.

use super::{files, read};

/// What an environment variable changes is a setting, which `config.rs` reads through `main.rs` and the README lists.
#[test]
fn only_main_reads_the_environment() {
    let is_test = |path: &str| path.contains("/tests") || path.contains("/documents");
    let readers: Vec<String> = files("relay/src", &["rs"])
        .into_iter()
        .filter(|path| !is_test(path) && read(path).contains("env::var"))
        .collect();
    assert_eq!(readers, ["relay/src/main.rs"]);
}
