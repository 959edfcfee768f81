//! Links from a row of the page to the code that has the limit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use super::Code;
use crate::documents::{files, read, repository};

/// The files that define a constant or static of this name, as paths in the repository.
static DEFINED: LazyLock<BTreeMap<String, Vec<String>>> = LazyLock::new(|| {
    let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in ["relay", "shared/src", "edge/src"].iter().flat_map(|folder| files(folder, &["rs"])) {
        for line in read(&path).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name =
                words.iter().position(|word| matches!(*word, "const" | "static")).and_then(|at| words.get(at + 1));
            if let Some(name) = name.and_then(|name| name.strip_suffix(':')) {
                defined.entry(name.to_owned()).or_default().push(path.clone());
            }
        }
    }
    defined
});

/// What the column says: links to the constants, or the file that enforces a setting.
pub(super) fn links(code: Code) -> String {
    match code {
        Code::File(file) => {
            assert!(repository().join(file).is_file(), "{file} does not exist");
            let name = Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or(file);
            format!("[`{name}`](../{file})")
        }
        Code::Constants(expression) => {
            let mut links: Vec<String> = Vec::new();
            for path in constants(expression) {
                let name = path.rsplit("::").next().unwrap_or(path);
                let link = format!("[`{name}`](../{})", file_of(path));
                if !links.contains(&link) {
                    links.push(link);
                }
            }
            links.join(", ")
        }
    }
}

/// The paths of constants in an expression, such as `tuning::MAX_BACK_OFF_US`.
fn constants(expression: &'static str) -> Vec<&'static str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let paths = expression.split(|letter| !is_part(letter));
    paths.filter(|path| path.rsplit_once("::").is_some_and(|(_, name)| is_constant(name))).collect()
}

fn is_constant(name: &str) -> bool {
    name.len() > 1
        && name != "MAX"
        && name.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
}

/// The file that defines a constant: of those with its name the one whose path ends with its modules.
fn file_of(path: &str) -> &'static str {
    let (modules, name) = path.rsplit_once("::").expect("a path");
    let found = DEFINED.get(name).unwrap_or_else(|| panic!("{path}: no file defines it"));
    if let [only] = found.as_slice() {
        return only;
    }
    let modules: Vec<&str> = modules.split("::").filter(|module| *module != "crate").collect();
    let mut ending = modules.as_slice();
    loop {
        let file = format!("/{}.rs", ending.join("/"));
        let root = format!("/{}/src/lib.rs", ending.join("/"));
        let matching: Vec<&String> =
            found.iter().filter(|path| path.ends_with(&file) || path.ends_with(&root)).collect();
        match (matching.as_slice(), ending) {
            ([only], _) => return only,
            (_, [_, rest @ ..]) if !rest.is_empty() => ending = rest,
            _ => panic!("{path}: it may be in any of {found:?}"),
        }
    }
}

#[test]
fn the_constants_of_an_expression_are_found() {
    assert_eq!(
        constants("format!(\"{}, up to {}\", micros(tuning::FIRST_US), time(pull::api::LONGEST))"),
        ["tuning::FIRST_US", "pull::api::LONGEST"]
    );
    assert_eq!(constants("bytes(quarantine().body_bytes)"), [""; 0]);
    assert_eq!(file_of("deliver::scan::LANES_PER_SCAN"), "relay/src/deliver/scan.rs");
}
