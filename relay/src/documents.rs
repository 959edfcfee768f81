//! Tests that compare the documents with the code: they generate what can be generated, and check the rest.
//!
//! `UPDATE_DOCS=1 cargo test -p relay documents` writes `docs/LIMITS.md`.

mod circles;
mod constant;
mod glossary;
mod imports;
mod limits;
mod map;

use std::path::{Path, PathBuf};

/// The root of the repository.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of the repository, by its path from the root.
fn read(path: &str) -> String {
    let file = repository().join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()))
}

/// The part of `ARCHITECTURE.md` under a heading, up to the next one of the same level.
fn section(heading: &str) -> String {
    let document = read("ARCHITECTURE.md");
    let start = document.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("there is no \"{heading}\""));
    let text = &document[start + 4..];
    text[..text.find("\n## ").unwrap_or(text.len())].to_owned()
}

/// The cells of the rows of all tables in a text, without heads.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let lines: Vec<&str> = text.lines().collect();
    let is_rule = |line: &str| line.starts_with("|--");
    let rows = lines.iter().enumerate().filter(|(at, line)| {
        line.starts_with('|') && !is_rule(line) && !lines.get(at + 1).is_some_and(|next| is_rule(next))
    });
    rows.map(|(_, line)| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The texts in backticks.
fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// All files under a folder with one of these endings, as paths from the root of the repository.
fn files(folder: &str, endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![repository().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted)) {
                let from_root = path.strip_prefix(repository()).expect("within");
                found.push(from_root.to_str().expect("a plain name").to_owned());
            }
        }
    }
    found.sort();
    found
}
