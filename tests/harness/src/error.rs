//! Why something of the harness could not be had, in words that tell a person what to do.

use std::fmt;

/// A message for the person in front of the terminal.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(String);

/// The result of preparing or starting something.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Takes the message: what failed and, after a `;` or on lines of its own, what to do.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tests show the `Debug` form of an error: it is the message too.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Says what was attempted when something fails: `….doing(|| format!("cannot read {path}"))?`.
pub trait Doing<T> {
    /// # Errors
    /// The same as before, its message behind `what` and a colon.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error(format!("{}: {error}", what())))
    }
}
