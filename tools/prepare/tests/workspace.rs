//! The workspace's Cargo.toml configures how each package is compiled.

use std::path::Path;

#[test]
fn every_package_of_the_workspace_is_named_in_the_profile_for_development() {
    let root = prepare::repository();
    let read =
        |file: &Path| std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let workspace = read(&root.join("Cargo.toml"));
    let (_, members) = workspace.split_once("members = [").expect("has members");
    let members = members.split(']').next().unwrap_or_default();
    let folders: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(folders.contains(&"relay") && folders.contains(&"tools/prepare"), "{folders:?}");
    for folder in folders {
        let manifest = read(&root.join(folder).join("Cargo.toml"));
        let name = manifest.split_once("name = \"").and_then(|(_, rest)| rest.split('"').next()).expect("has a name");
        let line = format!("{name} = {{ opt-level = 0 }}");
        let is_there = workspace.lines().skip_while(|line| *line != "[profile.dev.package]").any(|other| other == line);
        assert!(is_there, "{name} would be optimised in every build: [profile.dev.package] in Cargo.toml needs {line}");
    }
}
