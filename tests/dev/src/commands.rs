//! Commands for a terminal, as scripts in the folder of `cargo dev`. They contain the addresses, the token and the
//! keys, so that each printed line works unchanged in any terminal and any folder.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use harness::error::{Doing as _, Result};
use harness::relay::Relay;
use harness::{place, tools};

use super::secrets::write_private;

/// The scripts.
#[derive(Debug)]
pub(super) struct Commands {
    /// Calls the REST API and prints indented JSON.
    pub(super) api: String,
    /// The relay's program with the settings of the running relay.
    pub(super) tidegate: String,
}

impl Commands {
    /// Writes the scripts into `folder`.
    pub(super) fn write(folder: &Path, relay: &Relay) -> Result<Self> {
        let node = place::repository().join("tests/dev/demo/api.mjs");
        let api = format!("node {} {}", quoted_path(&node), quoted_path(&folder.join("stack.json")));
        let mut settings = relay.settings().variables();
        settings.push(("TIDEGATE_URL".to_owned(), relay.url().to_owned()));
        Ok(Self {
            api: script(&folder.join("api"), &[], &api)?,
            tidegate: script(&folder.join("tidegate"), &settings, &quoted_path(&tools::relay()?))?,
        })
    }
}

/// Writes a script that runs `command` with the script's arguments, and returns its path, quoted for a shell.
fn script(file: &Path, variables: &[(String, String)], command: &str) -> Result<String> {
    let failed = || format!("cannot write {}", file.display());
    let mut text = "#!/bin/sh\n".to_owned();
    // Not as arguments of a program, which every user of the machine can see.
    for (name, value) in variables {
        text += &format!("export {name}={}\n", quoted(value));
    }
    text += &format!("exec {command} \"$@\"\n");
    write_private(file, text.as_bytes())?;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o700)).doing(failed)?;
    Ok(quoted_path(file))
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// Quotes the text as one word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_script_passes_on_its_arguments_and_quotes_spaces() {
        let folder = place::temporary("it's a folder").expect("is created");
        let variables = [("A".to_owned(), "one 'two'".to_owned())];
        let command = script(&folder.join("say"), &variables, "printenv A").expect("is written");
        let output = Command::new("sh").args(["-c", &format!("{command} PATH")]).output().expect("runs");
        let mode = std::fs::metadata(folder.join("say")).expect("exists").permissions().mode();
        std::fs::remove_dir_all(&folder).expect("is removed");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(printed.starts_with("one 'two'\n") && printed.lines().count() == 2, "{output:?}");
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(quoted("/a/b-c_1.d"), "/a/b-c_1.d");
        assert_eq!(quoted(""), "''");
    }
}
