//! Errors of the harness. Their messages say what to do.

use std::fmt;

/// A message for the developer at the terminal.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(String);

/// The result of preparing or starting something.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Creates an error from its message: what failed and, after a `;` or on further lines, what to do.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tests print the `Debug` form of an error, so it is the message too.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Adds the attempted operation to an error: `….doing(|| format!("cannot read {path}"))?`.
pub trait Doing<T> {
    /// # Errors
    /// Returns the original error with `what` and a colon before its message.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error(format!("{}: {error}", what())))
    }
}
