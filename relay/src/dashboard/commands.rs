//! What a page shows or does, as a call of the REST API and as a command.

use super::frame::Frame;

/// Lines to copy into a terminal.
#[derive(Debug)]
pub(super) struct Commands {
    pub(super) curl: String,
    pub(super) command: String,
}

impl Commands {
    /// A call that reads. `path` begins with `/v1`.
    pub(super) fn read(frame: &Frame, path: &str, command: impl Into<String>) -> Self {
        let curl = format!("curl -H \"Authorization: Bearer $TIDEGATE_ADMIN_TOKEN\" {}", quoted(&frame.call(path)));
        Self { curl, command: command.into() }
    }

    /// A call that changes something, with a body of JSON unless it is empty.
    pub(super) fn change(frame: &Frame, method: &str, path: &str, body: &str, command: impl Into<String>) -> Self {
        let data = match body {
            "" => String::new(),
            body => format!(" -d {}", single_quoted(body)),
        };
        let curl = format!(
            "curl -X {method} -H \"Authorization: Bearer $TIDEGATE_ADMIN_TOKEN\" {}{data}",
            quoted(&frame.call(path))
        );
        Self { curl, command: command.into() }
    }
}

/// A path behind the URL of the relay, quoted for a shell. The paths of calls have no character that a shell reads
/// within quotes, because what comes from outside is percent-encoded in them.
fn quoted(path: &str) -> String {
    format!("\"$TIDEGATE_URL{}\"", path.replace(['"', '$', '`', '\\'], ""))
}

/// A text as one word of a shell.
pub(super) fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_a_text_from_outside_as_one_word() {
        assert_eq!(single_quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted("/v1/x?a=`id`$(id)\""), "\"$TIDEGATE_URL/v1/x?a=id(id)\"");
    }
}
