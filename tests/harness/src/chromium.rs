//! A real browser without a screen: Chromium, driven by `tests/harness/chromium/driver.mjs` through Playwright.
//!
//! [`Chromium`] is the program, and a [`Tab`] shows pages. Each tab that [`Chromium::open`] returns has cookies of its
//! own. No page reaches another host than this machine.

mod driver;
mod tab;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use driver::Driver;
use serde_json::json;
pub use tab::{Cookie, Finding, Problems, Tab};

use crate::error::Result;
use crate::tools;
use crate::wait::SOON;

/// A running Chromium. Dropping it ends it, and every command of its tabs fails afterwards.
#[derive(Debug)]
pub struct Chromium(Arc<Driver>);

/// The window of a tab and the preferences of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// In CSS pixels.
    pub width: u32,
    /// In CSS pixels.
    pub height: u32,
    /// Whether the user prefers dark colours.
    pub dark: bool,
    /// Whether the user prefers pages without movement.
    pub reduced_motion: bool,
    /// Whether pages run scripts.
    pub javascript: bool,
    /// The time limit of each command.
    pub patience: Duration,
}

impl Default for Window {
    /// A laptop's window: 1280 × 800, light, with JavaScript.
    fn default() -> Self {
        Self { width: 1280, height: 800, dark: false, reduced_motion: false, javascript: true, patience: SOON }
    }
}

impl Window {
    /// The window of a small telephone: 360 × 740.
    #[must_use]
    pub fn narrow() -> Self {
        Self { width: 360, height: 740, ..Self::default() }
    }
}

impl Chromium {
    /// Starts Chromium. Returns `None` if this machine has none, after a line in the terminal that says what to install:
    /// the test then ends without a result. A run of CI as root installs it instead.
    ///
    /// # Errors
    /// Returns an error if Chromium or its driver cannot be installed, or does not start.
    pub async fn start() -> Result<Option<Self>> {
        let Some(program) = tools::blocking(tools::chromium).await? else {
            let test = std::thread::current();
            let test = test.name().unwrap_or("a test");
            tools::say(&format!("SKIPPED {test}: there is no Chromium; {}", tools::CHROMIUM_ADVICE));
            return Ok(None);
        };
        let folder = tools::blocking(tools::chromium_driver).await?;
        let mut command = Command::new("node");
        // Packages are looked for beside the script, so it runs as a copy beside them.
        command.arg(folder.join("driver.mjs")).arg(program);
        Ok(Some(Self(Driver::start(&mut command).await?)))
    }

    /// Opens an empty tab with no cookies, apart from all other tabs.
    ///
    /// # Panics
    /// Panics if Chromium cannot open it.
    pub async fn open(&self, window: Window) -> Tab {
        Tab::open(&self.0, window, None).await
    }

    /// The version of Chromium, such as `148.0.7778.167`.
    #[must_use]
    pub fn version(&self) -> &str {
        self.0.version()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Window {
    fn fields(self) -> serde_json::Value {
        let Self { width, height, dark, reduced_motion, javascript, patience: _ } = self;
        json!({
            "width": width,
            "height": height,
            "dark": dark,
            "reduced_motion": reduced_motion,
            "javascript": javascript,
        })
    }
}

#[cfg(test)]
#[path = "chromium/tests.rs"]
mod tests;
