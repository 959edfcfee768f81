//! The modules of each crate have an order: an import leads from a module to one below it, and never in a circle.
//!
//! An import is taken for what it is to the modules next to each other: if `deliver/send.rs` imports `route.rs`, then
//! `deliver` is above `route`, with all that is inside both. A module and what is inside it may import each other.

use std::collections::{BTreeMap, BTreeSet};

use super::imports::{Module, circles, imports};
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

/// Imports that close a circle and are left as they are, each with its reason.
const LEFT: [(&str, &str, &str, &str); 9] = [
    (
        "shared/src",
        "challenge",
        "source",
        "a challenge is answered with a secret, which is declared with the configuration of the source",
    ),
    (
        "shared/src",
        "verify",
        "challenge",
        "whether a request hands over the secret of its source is decided before it is verified",
    ),
    ("shared/src", "verify", "source", "the verifier is made of the whole configuration of a source"),
    (
        "shared/src",
        "verify/build",
        "verify/mac",
        "the builder makes the verifier of a MAC, which refuses a secret with the error of the builder",
    ),
    (
        "shared/src",
        "verify/jwt",
        "verify/build",
        "a JWT refuses a secret with the error of the builder, which makes its verifier",
    ),
    (
        "shared/src",
        "verify/public_key",
        "verify/key",
        "public keys are decoded like secrets, and both are read from the same texts",
    ),
    (
        "shared/src",
        "verify/reference",
        "verify/function",
        "a reference names its functions, and their file also evaluates them",
    ),
    (
        "shared/src",
        "verify/rejection",
        "verify/rule",
        "the rejection of a timestamp names its unit, which is declared with the rules",
    ),
    (
        "shared/src",
        "verify/token",
        "verify/rule",
        "the rule of a token is declared with the others, among which are those of a JWT",
    ),
];

/// The code of each module of a crate, without what is only compiled for tests.
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
fn no_modules_import_each_other_in_a_circle() {
    let mut problems = Vec::new();
    let mut closing = BTreeSet::new();
    for root in CRATES {
        let mut imports = imports(&modules(root));
        assert!(!imports.is_empty(), "{root} has no imports");
        let all = circles(&imports);
        for (_, from, to, _) in LEFT.iter().filter(|(crate_root, ..)| *crate_root == root) {
            let left = (from.to_string(), to.to_string());
            if all.contains(&left) {
                imports.remove(&left);
                closing.insert((root, left));
            }
        }
        for (from, to) in circles(&imports) {
            let places: Vec<&String> = imports[&(from.clone(), to.clone())].iter().take(3).collect();
            problems.push(format!("{root}: {from} imports {to}, which leads back to it: {places:?}"));
        }
    }
    for (root, from, to, why) in LEFT {
        assert!(why.len() > 20, "{root}: {from} to {to} needs a reason");
        if !closing.contains(&(root, (from.to_owned(), to.to_owned()))) {
            problems.push(format!("{root}: {from} to {to} closes no circle any more: remove it from the list"));
        }
    }
    assert!(problems.is_empty(), "turn one import of each circle round:\n{}", problems.join("\n"));
}
