//! Keeps the layers apart: a face holds no rule, and a rule holds no HTTP.

use std::fs;
use std::path::{Path, PathBuf};

/// What no file of the control layer names, and why.
const NOT_IN_CONTROL: [(&str, &str); 9] = [
    ("axum", "requests and answers belong to the faces: return a value or a control::Error"),
    ("StatusCode", "a status is the REST API's word for an outcome: add a variant to control::Error"),
    ("crate::api", "the API calls the control layer and not the other way round"),
    ("GET", CALLS),
    ("PUT", CALLS),
    ("POST", CALLS),
    ("PATCH", CALLS),
    ("DELETE", CALLS),
    ("/v1", CALLS),
];

const CALLS: &str = "calls are the REST API's: say what to do, and let api/problem.rs name the call";

/// What no file of the API names, and why.
const NOT_IN_API: [(&str, &str); 9] = [
    ("store::", "the database is the control layer's: add a function to control/"),
    ("sqlx", "errors of the database reach the API as control::Error"),
    ("crate::deliver", "the engine is the control layer's: add a function to control/"),
    ("crate::engine_handle", "the engine is the control layer's: add a function to control/"),
    ("engine::", "the engine is the control layer's: add a function to control/"),
    ("crate::replay", "replays are made by control::replays"),
    ("crate::edge", "sources are put to the edge by control::sources"),
    ("crate::secrets", "secrets are opened and sealed by the control layer"),
    ("crate::configuration", "what this replica works by is told by the control layer"),
];

fn sources_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            sources_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The source files of a module, as paths below `src`, with their code: no comments, no strings of one line, no tests.
fn code_of(module: &str) -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = vec![src.join(format!("{module}.rs"))];
    sources_below(&src.join(module), &mut paths);
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&src).expect("below src").to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        (!name.ends_with("tests.rs")).then(|| (name, code(&text)))
    };
    paths.into_iter().filter_map(read).collect()
}

fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Every import of several items on one line each: `use crate::{replay, mint};` names `crate::replay` too. A word that ends
/// with `::` is the name of a crate, and names nothing in the path of another one.
fn names(code: &str, word: &str) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let whole = |at: usize| {
        let (before, after) = (code[..at].chars().next_back(), code[at + word.len()..].chars().next());
        let is_crate = word.ends_with("::");
        let is_within = before.is_some_and(|character| is_word(character) || (is_crate && character == ':'));
        !is_within && (is_crate || !after.is_some_and(is_word))
    };
    if code.match_indices(word).any(|(at, _)| whole(at)) {
        return true;
    }
    let Some(module) = word.strip_prefix("crate::") else { return false };
    code.split("use crate::{")
        .skip(1)
        .filter_map(|rest| rest.split_once("};"))
        .any(|(list, _)| top_level(list).any(|item| item == module || item.starts_with(&format!("{module}::"))))
}

/// The items of a list of imports, those of inner lists as one.
fn top_level(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    list.split(move |character| {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    })
    .map(str::trim)
}

fn broken(module: &str, forbidden: &[(&str, &str)]) -> Vec<String> {
    let files = code_of(module);
    assert!(files.len() > 5, "the files of {module} were found");
    files
        .iter()
        .flat_map(|(name, code)| {
            let found = forbidden.iter().filter(|(word, _)| names(code, word));
            found.map(move |(word, why)| format!("src/{name} names {word}: {why}")).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn the_control_layer_holds_no_http() {
    let broken = broken("control", &NOT_IN_CONTROL);
    assert!(broken.is_empty(), "a rule holds no HTTP\n{}", broken.join("\n"));
}

#[test]
fn the_api_holds_no_rule() {
    let broken = broken("api", &NOT_IN_API);
    assert!(broken.is_empty(), "a face holds no rule\n{}", broken.join("\n"));
}

#[test]
fn every_way_to_import_a_module_is_seen() {
    for code in [
        "use crate::replay;",
        "use crate::replay::chunk;",
        "use crate::{App, replay};",
        "use crate::{\n    App,\n    replay::{chunk, worker},\n};",
        "let job: crate::replay::Job;",
    ] {
        assert!(names(code, "crate::replay"), "{code}");
    }
    for code in ["use crate::replayed;", "use crate::{App, mint::{replay}};", "use crate::control::replay;"] {
        assert!(!names(code, "crate::replay"), "{code}");
    }
    assert!(!names(
        &code("/// crate::replay\nfn f() {}\n#[cfg(test)]\nmod tests {\n use crate::replay;\n}"),
        "crate::replay"
    ));
    for code in ["use store::events;", "use store::{self, Pool};", "let pool: store::Pool;", "store::migrate()"] {
        assert!(names(code, "store::"), "{code}");
    }
    for code in ["use crate::control::store::x;", "use datastore::x;", "fn store() {}"] {
        assert!(!names(code, "store::"), "{code}");
    }
}
