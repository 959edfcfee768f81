//! Compares the glossary at the head of `ARCHITECTURE.md` with the API: each must have the words of the other.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{code, rows, section};

/// Parts of paths that are actions, or that are not words of Tidegate.
const ACTIONS: [&str; 18] = [
    "v1", "healthz", "readyz", "by-name", "pause", "resume", "release", "retry", "cancel", "rotate", "revoke",
    "whoami", "current", "end", "try", "check", "deliver", "search",
];

/// Words of HTTP, of lists and of numbers, which have their usual meaning.
const GENERAL: [&str; 16] = [
    "api error",
    "changed",
    "field error",
    "header",
    "in memory",
    "latency",
    "page",
    "pending",
    "period",
    "ready",
    "reason",
    "recent",
    "state",
    "status class",
    "step",
    "timestamp",
];

fn description() -> Value {
    serde_json::to_value(crate::api::description()).expect("json")
}

/// The words of the glossary in lower case, with their names in the API.
fn glossary() -> Vec<(Vec<String>, Vec<String>)> {
    let section = section("Glossary");
    let table = section.split("\n### ").next().expect("the first table");
    let words = |text: &str| text.split(',').map(|word| singular(&word.trim().to_lowercase())).collect();
    rows(table).iter().map(|row| (words(row[0]), code(row[1]).iter().map(ToString::to_string).collect())).collect()
}

/// Converts `unreadable-messages` and `UnreadableMessage` to `unreadable message`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && !words.is_empty() && !words.ends_with(' ') {
            words.push(' ');
        }
        words.push(if matches!(character, '-' | '_') { ' ' } else { character.to_ascii_lowercase() });
    }
    singular(&words)
}

/// Puts each word into the singular.
fn singular(words: &str) -> String {
    words.split(' ').map(singular_word).collect::<Vec<_>>().join(" ")
}

fn singular_word(word: &str) -> String {
    match word.strip_suffix("ies") {
        _ if word == "stats" => word.to_owned(),
        Some(stem) => format!("{stem}y"),
        None => word.strip_suffix('s').filter(|stem| !stem.ends_with(['s', 'u'])).unwrap_or(word).to_owned(),
    }
}

/// Whether a name contains a word of the glossary, as `delivery stats` does, or a general word.
fn is_explained(name: &str, glossary: &BTreeSet<String>) -> bool {
    let name = format!(" {name} ");
    let has = |word: &str| name.contains(&format!(" {word} "));
    glossary.iter().any(|word| has(word)) || GENERAL.iter().any(|word| has(word))
}

#[test]
fn every_noun_of_the_api_is_in_the_glossary() {
    let known: BTreeSet<String> = glossary().into_iter().flat_map(|(words, _)| words).collect();
    let description = description();
    let object = |value: &Value| value.as_object().expect("an object").clone();
    let mut names = BTreeSet::new();
    for (path, item) in object(&description["paths"]) {
        let nouns =
            path.split('/').filter(|part| !part.is_empty() && !part.starts_with('{') && !ACTIONS.contains(part));
        names.extend(nouns.map(words));
        for (_, operation) in object(&item) {
            names.extend(operation["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).map(words));
        }
    }
    names.extend(object(&description["components"]["schemas"]).keys().map(|name| words(name)));
    assert!(names.len() > 40, "{names:?}");
    let missing: Vec<&String> = names.iter().filter(|name| !is_explained(name, &known)).collect();
    assert!(missing.is_empty(), "the glossary of ARCHITECTURE.md lacks: {missing:?}");
}

#[test]
fn every_api_name_in_the_glossary_exists() {
    let description = description();
    let text = description.to_string();
    let paths = description["paths"].as_object().expect("paths");
    let glossary = glossary();
    assert!(glossary.len() > 24, "{}", glossary.len());
    for (words, names) in glossary {
        for name in names {
            let is_there =
                if name.starts_with('/') { paths.contains_key(&name) } else { text.contains(&format!("\"{name}\"")) };
            assert!(is_there, "{words:?}: the API has no `{name}`");
        }
    }
}

#[test]
fn the_states_of_the_glossary_are_those_of_the_api() {
    let section = section("Glossary");
    let table = section.split("\n### States").nth(1).expect("the table of states");
    let written: BTreeSet<(String, String)> = rows(table)
        .iter()
        .flat_map(|row| code(row[1]).into_iter().map(|state| (row[0].to_owned(), state.to_owned())).collect::<Vec<_>>())
        .collect();
    let description = description();
    let schemas = description["components"]["schemas"].as_object().expect("schemas");
    let mut of_api = BTreeSet::new();
    for (thing, schema) in [
        ("delivery", "DeliveryState"),
        ("destination", "DestinationState"),
        ("source", "EdgeState"),
        ("breaker", "BreakerState"),
        ("event", "Verification"),
        ("unreadable message", "UnreadableState"),
    ] {
        let states = enumerated(&schemas[schema]);
        assert!(states.len() > 1, "{schema}: {states:?}");
        of_api.extend(states.into_iter().map(|state| (thing.to_owned(), state)));
    }
    assert_eq!(written, of_api);
}

/// The values of an enumeration, with or without descriptions of their own.
fn enumerated(schema: &Value) -> Vec<String> {
    let values = |schema: &Value| -> Vec<String> {
        let listed = schema["enum"].as_array().into_iter().flatten().chain(schema.get("const"));
        listed.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let variants = schema["oneOf"].as_array().into_iter().flatten();
    values(schema).into_iter().chain(variants.flat_map(values)).collect()
}
