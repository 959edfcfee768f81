//! The output of the commands.
//!
//! The reader of a command's output may exit before the command ends, as with `tidegate doctor | head`. The command
//! then continues without output, because its exit code still reports the result.

use std::io::{Write as _, stderr, stdout};

/// Prints a line of the command's result to standard output.
pub fn line(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

/// Prints a line about an error to standard error.
pub fn error_line(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}
