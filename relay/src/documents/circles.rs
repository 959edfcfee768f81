//! The modules of each crate have an order: an import leads from a module to one below it, and imports never form a
//! cycle.
//!
//! An import belongs to the sibling modules that it connects: if `deliver/send.rs` imports `route.rs`, then `deliver`
//! is above `route`, with everything inside both. A module and the modules inside it may import each other.

use std::collections::BTreeMap;

use super::imports::{Module, cycles, imports};
use super::{files, read};

/// The crates whose modules have an order.
const CRATES: [&str; 8] = [
    "edge/src",
    "relay/src",
    "relay/egress/src",
    "relay/engine/src",
    "relay/expression/src",
    "relay/model/src",
    "relay/store/src",
    "shared/src",
];

/// The code of each module of a crate, without modules that are compiled only for tests.
fn modules(root: &str) -> BTreeMap<Module, String> {
    let mut modules: BTreeMap<Module, String> = BTreeMap::new();
    for path in files(root, &["rs"]) {
        let name = path.trim_start_matches(root).trim_start_matches('/').trim_end_matches(".rs");
        let module: Module = match name {
            "lib" => Vec::new(),
            "main" => continue,
            name => name.split('/').map(str::to_owned).collect(),
        };
        modules.insert(module, read(&path));
    }
    let is_of_tests = |module: &Module| {
        (0..module.len()).any(|depth| {
            let declared = format!("#[cfg(test)]\nmod {};", module[depth]);
            let in_public = format!("#[cfg(test)]\npub(crate) mod {};", module[depth]);
            let parent = modules.get(&module[..depth]);
            module[depth] == "tests" || parent.is_some_and(|text| text.contains(&declared) || text.contains(&in_public))
        })
    };
    let of_tests: Vec<Module> = modules.keys().filter(|module| is_of_tests(module)).cloned().collect();
    modules.retain(|module, _| !of_tests.contains(module));
    modules
}

#[test]
fn the_imports_between_modules_form_no_cycle() {
    let mut problems = Vec::new();
    for root in CRATES {
        let imports = imports(&modules(root));
        assert!(!imports.is_empty(), "{root} has no imports");
        for (from, to) in cycles(&imports) {
            let places: Vec<&String> = imports[&(from.clone(), to.clone())].iter().take(3).collect();
            problems.push(format!("{root}: {from} imports {to}, which leads back to it: {places:?}"));
        }
    }
    assert!(problems.is_empty(), "reverse or remove one import of each cycle:\n{}", problems.join("\n"));
}
