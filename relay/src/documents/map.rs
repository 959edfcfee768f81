//! Checks that the map of the code in `ARCHITECTURE.md` names every module and only existing files, and that the names
//! and links in other documents exist too.

use std::collections::BTreeSet;

use super::{code, files, read, repository, rows, section};

/// The folders whose modules the map names.
const ROOTS: [&str; 8] = [
    "edge/src",
    "shared/src",
    "relay/src",
    "relay/egress/src",
    "relay/expression/src",
    "relay/engine/src",
    "relay/model/src",
    "relay/store/src",
];

/// The files and folders that the map names, as paths from the root of the repository. A name may omit the part that it
/// shares with the names before it in its row: the folder of one of them, or the root of the crate.
fn named() -> BTreeSet<String> {
    let map = section("Code map, in the order of the data flow");
    let mut named = BTreeSet::new();
    for row in rows(&map) {
        let mut folders: Vec<String> = Vec::new();
        for name in code(row[1]) {
            let path = find(name, &folders);
            if let Some((folder, _)) = path.rsplit_once('/') {
                folders.push(folder.to_owned());
            }
            named.insert(path);
        }
    }
    named
}

/// The path of a name in a row whose earlier names are in these folders.
fn find(name: &str, folders: &[String]) -> String {
    let in_folders = folders.iter().rev().map(|folder| format!("{folder}/{name}"));
    let in_crates = ROOTS.map(|root| format!("{root}/{name}"));
    let mut paths = in_folders.chain([name.to_owned()]).chain(in_crates);
    let path = paths.find(|path| repository().join(path).exists());
    let path = path.unwrap_or_else(|| panic!("the map names `{name}`, which does not exist"));
    path.trim_end_matches('/').to_owned()
}

fn is_test(path: &str) -> bool {
    path.contains("/tests") || path.contains("/documents")
}

#[test]
fn the_map_names_every_module() {
    let named = named();
    let mut modules = Vec::new();
    for root in ROOTS {
        modules.extend(files(root, &["rs", "js"]).into_iter().filter(|path| !is_test(path)));
    }
    assert!(modules.len() > 200, "{}", modules.len());
    let is_named = |path: &str| {
        let mut ancestors = std::path::Path::new(path).ancestors().filter_map(std::path::Path::to_str);
        ancestors.any(|path| named.contains(path))
    };
    let missing: Vec<&String> = modules.iter().filter(|path| !is_named(path)).collect();
    assert!(missing.is_empty(), "the code map of ARCHITECTURE.md lacks: {missing:#?}");
}

fn documents() -> impl Iterator<Item = String> {
    let documents =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "examples/README.md"];
    let examples = files("examples/recipes", &["md"]);
    documents.map(str::to_owned).into_iter().chain(files("docs", &["md"])).chain(examples)
}

/// Whether a source file exists, by its path from the root of the repository or of a crate.
fn is_there(path: &str) -> bool {
    std::iter::once(path.to_owned())
        .chain(ROOTS.map(|root| format!("{root}/{path}")))
        .any(|path| repository().join(path).exists())
}

#[test]
fn the_source_files_that_documents_name_exist() {
    let is_source =
        |name: &str| name.contains('/') && [".rs", ".js", ".mjs", ".py", ".sql"].iter().any(|end| name.ends_with(end));
    let mut named = 0;
    let mut missing = Vec::new();
    for document in documents() {
        let text = read(&document);
        // Rows of the map omit the parts that names share. `the_map_names_every_module` reads them.
        for line in text.lines().filter(|line| !line.starts_with('|')) {
            for name in code(line).into_iter().filter(|name| is_source(name) && !name.contains("NNNN")) {
                named += 1;
                if !is_there(name) {
                    missing.push(format!("{document} names {name}"));
                }
            }
        }
    }
    assert!(named > 40, "{named}");
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in documents() {
        let text = read(&document);
        let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") {
                continue;
            }
            let target = if file.is_empty() { document.clone() } else { format!("{folder}/{file}") };
            let target = target.trim_start_matches('/');
            assert!(repository().join(target).exists(), "{document} links to {link}");
            let anchors = || read(target).lines().filter(|line| line.starts_with('#')).map(anchor).collect::<Vec<_>>();
            let is_there = heading.is_empty()
                || read(target).contains(&format!("<a id=\"{heading}\">"))
                || anchors().iter().any(|anchor| anchor == heading);
            assert!(is_there, "{document} links to {link}, which has no such heading");
        }
    }
}

/// The anchor that GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|character| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_'));
    kept.map(|character| if character == ' ' { '-' } else { character }).collect()
}
