//! A terminal in which a test types the commands of a page: one bash for all of them, so that variables, functions and
//! programs in the background stay.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Doing as _, Error, Result};
use crate::place;
use crate::process::{Process, Signal};
use crate::wait::try_until;

/// How long a block of commands may take.
const BLOCK_WITHIN: Duration = Duration::from_secs(120);

/// Runs the file of each block as soon as it exists. A command that fails ends the shell with its status, as on a page
/// whose reader stops at an error.
const SHELL: &str = r#"
    set -eu -o pipefail
    folder=$1 number=0
    if [ -n "$2" ]; then PATH=$2:$PATH; fi
    trap 'echo $? > "$folder/$number.unfinished"; mv "$folder/$number.unfinished" "$folder/$number.status"' EXIT
    while :; do
        number=$((number + 1))
        until [ -e "$folder/$number.sh" ]; do sleep 0.05; done
        . "$folder/$number.sh" > "$folder/$number.out" 2>&1 < /dev/null
        echo 0 > "$folder/$number.unfinished"
        mv "$folder/$number.unfinished" "$folder/$number.status"
    done
"#;

/// A running bash. Dropping it stops it with everything that was started in it.
#[derive(Debug)]
pub struct Terminal {
    // Before the folder: fields are dropped in this order.
    _process: Process,
    folder: Folder,
    blocks: usize,
}

#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Terminal {
    /// Starts a bash with a new working folder and these variables in addition to those of this process. `programs` is
    /// a folder of programs that are found first.
    ///
    /// # Errors
    /// Returns an error if there is no bash.
    pub fn start(programs: Option<&Path>, variables: &[(&str, &str)]) -> Result<Self> {
        let folder = Folder(place::temporary("terminal")?);
        let working = folder.0.join("working");
        std::fs::create_dir(&working).doing(|| format!("cannot create {}", working.display()))?;
        let mut command = Command::new("bash");
        command.args(["--norc", "-c", SHELL, "terminal"]).arg(&folder.0).current_dir(&working);
        command.arg(programs.unwrap_or(Path::new("")));
        // The developer's settings must not affect a test.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDEGATE_") {
                command.env_remove(name);
            }
        }
        command.envs(variables.iter().copied());
        let process = Process::start("terminal", &mut command, Signal::Term)?;
        Ok(Self { _process: process, folder, blocks: 0 })
    }

    /// The working folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.0.join("working")
    }

    /// Runs a block of commands and returns its output.
    ///
    /// # Errors
    /// Returns an error with the output if a command fails or takes too long. Nothing can be run afterwards.
    pub async fn run(&mut self, block: &str) -> Result<String> {
        self.blocks += 1;
        let file = |ending: &str| self.folder.0.join(format!("{}.{ending}", self.blocks));
        let unfinished = file("sh-unfinished");
        std::fs::write(&unfinished, block).doing(|| format!("cannot write {}", unfinished.display()))?;
        std::fs::rename(&unfinished, file("sh")).doing(|| format!("cannot rename {}", unfinished.display()))?;
        let status = try_until("the commands to end", BLOCK_WITHIN, async || {
            std::fs::read_to_string(file("status")).map_err(|_| "they still run".to_owned())
        });
        let status = status.await;
        let output = String::from_utf8_lossy(&std::fs::read(file("out")).unwrap_or_default()).into_owned();
        match status.as_deref().map(str::trim) {
            Ok("0") => Ok(output),
            Ok(code) => Err(Error::new(format!("a command ended with {code}:\n{block}\n--- its output:\n{output}"))),
            Err(error) => Err(Error::new(format!("{error}:\n{block}\n--- its output:\n{output}"))),
        }
    }

    /// Runs a block again and again until its output contains a text, and returns that output.
    ///
    /// # Errors
    /// Returns an error with the last output after `timeout`, or if a command fails.
    pub async fn run_until(&mut self, block: &str, text: &str, timeout: Duration) -> Result<String> {
        let what = format!("{text:?} in the output of {block}");
        let found = try_until(&what, timeout, async || match self.run(block).await {
            Ok(output) if output.contains(text) => Ok(Ok(output)),
            Ok(output) => Err(output),
            Err(error) => Ok(Err(error)),
        });
        found.await.map_err(Error::new)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::SOON;

    #[tokio::test]
    async fn variables_functions_and_programs_in_the_background_stay_and_an_error_ends_it() {
        let mut terminal = Terminal::start(None, &[("GIVEN", "a value")]).expect("starts");
        terminal.run("name=$GIVEN\nsay() { echo \"$name: $1\"; }\nsleep 600 &\nbackground=$!\n").await.expect("runs");
        assert_eq!(terminal.run("say hello\nkill -0 $background\n").await.expect("runs"), "a value: hello\n");
        let counted = terminal.run_until(
            "number=$((${number_of_runs:-0} + 1)); number_of_runs=$number; echo \"<$number>\"",
            "<3>",
            SOON,
        );
        assert_eq!(counted.await.expect("ends"), "<3>\n");
        let error = terminal.run("echo before; false | cat; echo after").await.expect_err("fails").to_string();
        assert!(error.contains("ended with 1") && error.ends_with("before\n"), "{error}");
    }
}
