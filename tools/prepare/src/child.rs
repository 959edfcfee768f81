//! Programs that take minutes, and that end with this process.

use std::io::{PipeReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Result, say};

/// How many lines of a program's output are shown if it fails.
const SHOWN_LINES: usize = 40;

/// Prints `what`, runs the program, and prints how long it took if that was more than five seconds. If the program
/// fails, the error contains the end of its output. The program does not outlive this process.
///
/// # Errors
/// Returns an error with `advice` if the program cannot be started or fails.
pub fn run(what: &str, command: &mut Command, advice: &str) -> Result<()> {
    say(what);
    let begun = Instant::now();
    let (reader, output) = std::io::pipe().map_err(|error| format!("cannot make a pipe: {error}"))?;
    let errors = output.try_clone().map_err(|error| format!("cannot make a pipe: {error}"))?;
    command.stdout(output).stderr(errors);
    let mut child = Watched::start(command, advice)?;
    // Closes the ends of the pipe that this process holds: while they are open, the pipe does not end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let written = read(reader);
    let status = child.wait()?;
    if status.success() {
        if begun.elapsed() > Duration::from_secs(5) {
            let task = what.split(" (").next().unwrap_or(what);
            say(&format!("{task}: done in {} s", begun.elapsed().as_secs()));
        }
        return Ok(());
    }
    let lines: Vec<&str> = written.lines().collect();
    let end = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
    Err(format!("{} failed ({status}) while {what}; {advice}\n{end}", name(command)))
}

/// Like [`run`], with the program's own output in the terminal.
///
/// # Errors
/// Same as [`run`], but the error does not contain the output, which the terminal already shows.
pub fn run_shown(command: &mut Command, advice: &str) -> Result<()> {
    let status = Watched::start(command, advice)?.wait()?;
    if status.success() { Ok(()) } else { Err(format!("{} failed ({status}); {advice}", name(command))) }
}

fn read(mut reader: PipeReader) -> String {
    let mut bytes = Vec::new();
    // A failed read only shortens the output in an error.
    let _ = reader.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn name(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    program.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A program in its own process group, with a shell that stops the group if this process dies.
#[derive(Debug)]
struct Watched {
    name: String,
    child: Child,
    watchdog: Child,
}

impl Watched {
    /// A line means that the group has ended. The end of the pipe without a line means that this process is gone.
    const WATCHDOG: &'static str = r#"read -r line || kill -s TERM -- "-$1""#;

    fn start(command: &mut Command, advice: &str) -> Result<Self> {
        let name = name(command);
        let child = command.process_group(0).stdin(Stdio::null()).spawn();
        let mut child = child.map_err(|error| format!("cannot start {name}: {error}; {advice}"))?;
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", Self::WATCHDOG, "tidegate-watchdog", &child.id().to_string()]);
        // Its own group, because Ctrl-C in a terminal reaches the whole foreground group and must not stop the watchdog
        // first.
        watchdog.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        match watchdog.spawn() {
            Ok(watchdog) => Ok(Self { name, child, watchdog }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("cannot start sh: {error}"))
            }
        }
    }

    fn wait(&mut self) -> Result<std::process::ExitStatus> {
        self.child.wait().map_err(|error| format!("cannot wait for {}: {error}", self.name))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.watchdog.stdin.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.watchdog.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_error_of_a_failed_program_contains_the_end_of_its_output() {
        let error = run("testing", &mut shell("seq 100; echo wrong >&2; exit 3"), "look below").expect_err("fails");
        assert!(error.starts_with("sh failed (exit status: 3) while testing; look below\n"), "{error}");
        assert!(error.ends_with("\n99\n100\nwrong") && !error.contains("\n61\n"), "{error}");
        assert!(run("testing", &mut shell("true"), "").is_ok());
        let missing = run("testing", &mut Command::new("no-such-program"), "install it").expect_err("is not there");
        assert!(missing.starts_with("cannot start no-such-program") && missing.ends_with("install it"), "{missing}");
    }

    #[test]
    fn a_program_ends_with_the_process_that_waits_for_it() {
        let mut command = shell("exec sleep 600");
        let mut watched = Watched::start(&mut command, "").expect("starts");
        // The death of this process has the same effect.
        drop(watched.watchdog.stdin.take());
        let status = watched.wait().expect("ends");
        assert!(!status.success(), "{status}");
    }
}
