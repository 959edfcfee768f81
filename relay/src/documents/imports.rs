//! Reads from the sources of a crate which modules import which others.

use std::collections::{BTreeMap, BTreeSet};

/// The path of a module, name by name, from the root of the crate; empty for the root.
pub(super) type Module = Vec<String>;

/// For each pair of sibling modules, given as paths, the imports from inside one to inside the other.
pub(super) type Imports = BTreeMap<(String, String), BTreeSet<String>>;

/// The imports between the modules of a crate, from their sources. Imports between a module and the modules inside it
/// are left out.
pub(super) fn imports(modules: &BTreeMap<Module, String>) -> Imports {
    let mut imports = Imports::new();
    for (from, text) in modules {
        for path in paths(&code(text)) {
            let to = resolve(modules, from, &path);
            let same = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
            if same < from.len() && same < to.len() {
                let ends = (from[..=same].join("/"), to[..=same].join("/"));
                imports.entry(ends).or_default().insert(format!("{} -> {}", from.join("/"), to.join("/")));
            }
        }
    }
    imports
}

/// The imports that are part of a cycle.
pub(super) fn cycles(imports: &Imports) -> BTreeSet<(String, String)> {
    let leads_to = |start: &String, end: &String| {
        let mut seen = BTreeSet::from([start]);
        let mut open = vec![start];
        while let Some(module) = open.pop() {
            if module == end {
                return true;
            }
            open.extend(imports.keys().filter(|(from, to)| from == module && seen.insert(to)).map(|(_, to)| to));
        }
        false
    };
    imports.keys().filter(|(from, to)| leads_to(to, from)).cloned().collect()
}

/// The module to which, or into which, a path leads.
fn resolve(modules: &BTreeMap<Module, String>, from: &Module, path: &[String]) -> Module {
    let is_root = path.first().is_some_and(|name| name == "crate");
    let mut module = if is_root { Module::new() } else { from.clone() };
    for name in path {
        match name.as_str() {
            "crate" | "self" => {}
            "super" => {
                module.pop();
            }
            name => {
                module.push(name.to_owned());
                if !modules.contains_key(&module) {
                    module.pop();
                    break;
                }
            }
        }
    }
    module
}

/// A source without its comments, strings and inner tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut code = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let skipped = skipped(rest);
        if skipped == 0 {
            code.push(character);
            rest = &rest[character.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

/// The length in bytes of the comment, string or character at the start of a text; 0 if there is none.
fn skipped(text: &str) -> usize {
    let until = |start: usize, end: &str| text[start..].find(end).map_or(text.len(), |at| start + at + end.len());
    if text.starts_with("//") {
        return until(2, "\n");
    }
    if let Some(raw) = text.strip_prefix('r') {
        let marks = raw.len() - raw.trim_start_matches('#').len();
        if raw[marks..].starts_with('"') {
            return until(2 + marks, &format!("\"{}", "#".repeat(marks)));
        }
    }
    let quote = match text.as_bytes() {
        [b'"', ..] => '"',
        [b'\'', b'\\', ..] => '\'',
        [b'\'', ..] if text.chars().nth(2) == Some('\'') => '\'',
        _ => return 0,
    };
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        if character == quote && !is_escaped && !(quote == '\'' && at == 1) {
            return at + 1;
        }
        is_escaped = character == '\\' && !is_escaped;
    }
    text.len()
}

/// All paths that begin at the root of the crate or at a module. The paths of nested imports are listed one by one.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(|character| is_of_name(character) || character == ':') {
                tree(&code[at..], Vec::new(), &mut found);
            }
        }
    }
    found
}

fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// Reads a path, or a tree of paths in braces. Returns the rest of the text.
fn tree<'a>(mut text: &'a str, mut path: Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    loop {
        text = text.trim_start();
        if let Some(list) = text.strip_prefix('{') {
            return branches(list, &path, found);
        }
        let name = &text[..text.find(|character| !is_of_name(character)).unwrap_or(text.len())];
        text = &text[name.len()..];
        if !name.is_empty() {
            path.push(name.to_owned());
        }
        match text.strip_prefix("::") {
            Some(rest) if !name.is_empty() => text = rest,
            _ => {
                found.push(path);
                return text;
            }
        }
    }
}

/// Reads the list in braces after a path. Returns the rest of the text.
fn branches<'a>(mut text: &'a str, path: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    loop {
        text = text.trim_start();
        match text.chars().next() {
            None => return text,
            Some('}') => return &text[1..],
            Some(character) if is_of_name(character) => text = tree(text, path.to_vec(), found),
            Some(character) => text = &text[character.len_utf8()..],
        }
        if let Some(renamed) = text.strip_prefix(" as ") {
            text = renamed.trim_start_matches(is_of_name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sources: &[(&str, &str)]) -> Vec<String> {
        let module =
            |name: &str| -> Module { name.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect() };
        let modules = sources.iter().map(|(name, text)| (module(name), (*text).to_owned())).collect();
        cycles(&imports(&modules)).into_iter().map(|(from, to)| format!("{from} -> {to}")).collect()
    }

    #[test]
    fn a_cycle_is_found_whatever_the_form_of_its_imports() {
        let round = [
            ("", "mod a; mod b; mod c; mod d;"),
            ("a", "use crate::{\n    b::{self, inner::Thing as Other},\n    d,\n};"),
            ("b", "use super::c::Thing;"),
            ("c", "fn f() { crate::a::g('\"', \"no end\") }"),
            ("d", ""),
        ];
        assert_eq!(found(&round), ["a -> b", "b -> c", "c -> a"]);
    }

    #[test]
    fn a_cycle_through_inner_modules_is_a_cycle_of_the_outer_ones() {
        assert_eq!(
            found(&[("", ""), ("a", ""), ("a/x", "use crate::b;"), ("b", ""), ("b/y", "use crate::a;")]),
            ["a -> b", "b -> a"]
        );
        assert_eq!(
            found(&[("a", ""), ("a/x", "use super::y;"), ("a/y", "use super::x::Z;")]),
            ["a/x -> a/y", "a/y -> a/x"]
        );
    }

    #[test]
    fn a_module_and_the_modules_inside_it_may_import_each_other() {
        assert!(
            found(&[("", "use self::a::X;"), ("a", "use self::x::X; use crate::Y;"), ("a/x", "use super::Z;")])
                .is_empty()
        );
    }

    #[test]
    fn comments_strings_and_tests_import_nothing() {
        let quiet = "// crate::a\nconst A: &str = \"crate::a \\\" crate::a\";\nconst B: &str = r#\"crate::a\"#;\n#[cfg(test)]\nmod tests {\n use crate::a;\n}";
        assert!(found(&[("a", "use crate::b;"), ("b", quiet)]).is_empty());
        assert_eq!(found(&[("a", "use crate::b;"), ("b", "use crate::a;")]), ["a -> b", "b -> a"]);
    }
}
