//! Keeps the layers apart: an interface contains no rules, and a rule does not know about HTTP.

use std::fs;
use std::path::{Path, PathBuf};

/// Words that no file of the control layer may contain, and why.
const NOT_IN_CONTROL: [(&str, &str); 9] = [
    ("axum", "requests and responses belong to the interfaces: return a value or a control::Error"),
    ("StatusCode", "a status belongs to the REST API: add a variant to control::Error"),
    ("crate::api", "the API calls the control layer, never the reverse"),
    ("GET", CALLS),
    ("PUT", CALLS),
    ("POST", CALLS),
    ("PATCH", CALLS),
    ("DELETE", CALLS),
    ("/v1", CALLS),
];

const CALLS: &str = "calls belong to the REST API: say what to do, and let api/problem.rs name the call";

/// Words that no file of the API may contain, and why.
const NOT_IN_API: [(&str, &str); 9] = [
    ("store::", "the database belongs to the control layer: add a function to control/"),
    ("sqlx", "database errors reach the API as control::Error"),
    ("crate::deliver", "the engine belongs to the control layer: add a function to control/"),
    ("crate::engine_handle", "the engine belongs to the control layer: add a function to control/"),
    ("engine::", "the engine belongs to the control layer: add a function to control/"),
    ("crate::replay", "replays are created by control::replays"),
    ("crate::edge", "sources are written to the edge by control::sources"),
    ("crate::secrets", "the control layer opens and seals secrets"),
    ("crate::configuration", "the configuration belongs to the control layer: add a function to control/"),
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

/// The source files of a module, as paths below `src`, with their code: without comment lines and tests.
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

/// Whether the code contains a word. An import of several items is an import of each of them:
/// `use crate::{replay, mint};` contains `crate::replay`. A word that ends with `::` is the name of a crate, and is not
/// found inside the path of another crate.
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

/// The items of an import list. A nested list is part of its item.
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
            found.map(move |(word, why)| format!("src/{name} contains {word}: {why}")).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn the_control_layer_does_not_know_about_http() {
    let broken = broken("control", &NOT_IN_CONTROL);
    assert!(broken.is_empty(), "the control layer does not know about HTTP\n{}", broken.join("\n"));
}

#[test]
fn the_api_contains_no_rules() {
    let broken = broken("api", &NOT_IN_API);
    assert!(broken.is_empty(), "the API contains no rules\n{}", broken.join("\n"));
}

/// Functions of the control layer that take an actor and need no scope.
const WITHOUT_SCOPE: [&str; 6] =
    ["whoami", "create_session", "list_sessions", "end_session", "end_this_session", "end_all_sessions"];

#[test]
fn every_function_that_an_interface_calls_begins_with_the_scope_that_it_needs() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (file, code) in code_of("control") {
        for function in
            code.split("\npub ").skip(1).filter(|item| item.starts_with("fn ") || item.starts_with("async fn "))
        {
            let (head, body) = function.split_once("{\n").expect("a body");
            let name = head.split("fn ").nth(1).and_then(|rest| rest.split(['(', '<']).next()).expect("a name");
            if !head.contains("actor: &Actor") || WITHOUT_SCOPE.contains(&name) {
                continue;
            }
            checked += 1;
            // The scope may depend on the kind of what is created.
            let begins = ["actor.require(Scope::", "actor.require(new.kind.scope())?"];
            if !begins.iter().any(|begin| body.trim_start().starts_with(begin)) {
                wrong.push(format!("src/{file}: {name}"));
            }
        }
    }
    assert!(checked > 40, "{checked}");
    assert!(wrong.is_empty(), "these functions do not begin with actor.require(Scope::…)?\n{}", wrong.join("\n"));
}

#[test]
fn every_form_of_import_is_found() {
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
