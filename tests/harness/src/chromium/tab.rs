//! A tab and what a user does in it.

use std::future::Future;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Driver, Window};

/// A tab. Dropping it closes it.
///
/// A *selector* is one of Playwright: CSS (`table tr >> nth=2`), `text=Retry`, or `role=button[name="Retry"]`. A method
/// that acts on an element waits until there is exactly one such element that a user can use, and one that reads an
/// element waits until there is exactly one; [`Tab::texts`], [`Tab::count`], [`Tab::visible`] and the methods that wait
/// take any number.
///
/// # Panics
/// Every method panics if it does not succeed within [`Window::patience`]. The message names the place in the test, and
/// has the selector, the URL, the beginning of the visible text, and the problems of the page so far.
#[derive(Debug)]
pub struct Tab {
    driver: Arc<Driver>,
    number: u64,
    window: Window,
}

/// What went wrong on pages. Each list has at most 100 entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Problems {
    /// Messages that scripts wrote with `console.error`, and Chromium's own.
    pub console_errors: Vec<String>,
    /// Exceptions that no script caught.
    pub page_errors: Vec<String>,
    /// Requests of pages, such as for images and by `fetch`, that had no response, or one with a status of 400 or more.
    /// The page itself is not among them: see [`Tab::status`].
    pub failed_requests: Vec<String>,
    /// Violations of a content security policy. One violation can have two entries: the message of Chromium, and the
    /// event.
    pub csp_violations: Vec<String>,
}

/// A rule of accessibility that a page violates, as axe reports it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Finding {
    /// Such as `color-contrast`.
    pub rule: String,
    /// `serious` or `critical`.
    pub impact: String,
    /// What is wrong, in one line.
    pub help: String,
    pub help_url: String,
    /// CSS selectors of the elements.
    pub targets: Vec<String>,
    /// What to do for the first elements.
    pub details: Vec<String>,
}

/// A cookie that the browser keeps.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Cookie {
    pub name: String,
    pub value: String,
    pub domain: String,
    pub path: String,
    /// Seconds since 1970; -1 if the cookie ends with the browser.
    pub expires: f64,
    pub http_only: bool,
    pub secure: bool,
    /// `Strict`, `Lax` or `None`.
    pub same_site: String,
}

impl Problems {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Tab {
    pub(super) async fn open(driver: &Arc<Driver>, window: Window, beside: Option<u64>) -> Self {
        let mut command = window.fields();
        command["do"] = "open".into();
        command["beside"] = beside.into();
        let number = driver.run(command, window.patience).await.map(|number| number.as_u64());
        match number {
            Ok(Some(number)) => Self { driver: Arc::clone(driver), number, window },
            Ok(None) => panic!("cannot open a tab: it has no number"),
            Err(error) => panic!("cannot open a tab: {error}"),
        }
    }

    /// Opens another tab of the same user: with the same cookies and preferences.
    pub async fn open_beside(&self) -> Self {
        Self::open(&self.driver, self.window, Some(self.number)).await
    }

    /// The same tab with another time limit of each command.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.window.patience = patience;
        self
    }

    // Pages

    /// Opens a URL, follows redirects, and waits until the page and what it refers to are loaded. Returns the status of
    /// the page.
    #[track_caller]
    pub fn goto(&self, url: &str) -> impl Future<Output = u16> {
        self.act("goto", json!({"url": url}))
    }

    /// Loads the page again.
    #[track_caller]
    pub fn reload(&self) -> impl Future<Output = ()> {
        self.act("reload", json!({}))
    }

    /// Goes back to the page before.
    #[track_caller]
    pub fn back(&self) -> impl Future<Output = ()> {
        self.act("back", json!({}))
    }

    /// Goes forward again.
    #[track_caller]
    pub fn forward(&self) -> impl Future<Output = ()> {
        self.act("forward", json!({}))
    }

    /// The URL in the address bar.
    #[track_caller]
    pub fn url(&self) -> impl Future<Output = String> {
        self.act("url", json!({}))
    }

    #[track_caller]
    pub fn title(&self) -> impl Future<Output = String> {
        self.act("title", json!({}))
    }

    /// The status of the last response to a navigation of the tab.
    #[track_caller]
    pub fn status(&self) -> impl Future<Output = u16> {
        self.act("status", json!({}))
    }

    /// The page as HTML, as it is now.
    #[track_caller]
    pub fn content(&self) -> impl Future<Output = String> {
        self.act("content", json!({}))
    }

    // What a user does

    /// Clicks an element. Does not wait for what follows: see [`Tab::follow`] and the methods that wait.
    #[track_caller]
    pub fn click(&self, selector: &str) -> impl Future<Output = ()> {
        self.act("click", json!({"selector": selector}))
    }

    /// Clicks a link or a button that leads to another URL, and waits until that page is loaded. Returns the status of
    /// the page; 0 if a script changed the URL without a request.
    #[track_caller]
    pub fn follow(&self, selector: &str) -> impl Future<Output = u16> {
        self.act("follow", json!({"selector": selector}))
    }

    /// Moves the mouse over an element.
    #[track_caller]
    pub fn hover(&self, selector: &str) -> impl Future<Output = ()> {
        self.act("hover", json!({"selector": selector}))
    }

    /// Gives an element the focus.
    #[track_caller]
    pub fn focus(&self, selector: &str) -> impl Future<Output = ()> {
        self.act("focus", json!({"selector": selector}))
    }

    /// Replaces the text of a field.
    #[track_caller]
    pub fn fill(&self, selector: &str, text: &str) -> impl Future<Output = ()> {
        self.act("fill", json!({"selector": selector, "text": text}))
    }

    /// Selects an option of a `<select>`, by its value or its label.
    #[track_caller]
    pub fn select(&self, selector: &str, option: &str) -> impl Future<Output = ()> {
        self.act("select", json!({"selector": selector, "option": option}))
    }

    /// Checks or unchecks a checkbox or a radio button.
    #[track_caller]
    pub fn check(&self, selector: &str, on: bool) -> impl Future<Output = ()> {
        self.act("check", json!({"selector": selector, "on": on}))
    }

    /// Presses a key in an element, such as `Enter` or `Control+A`.
    #[track_caller]
    pub fn press(&self, selector: &str, key: &str) -> impl Future<Output = ()> {
        self.act("press", json!({"selector": selector, "key": key}))
    }

    /// Presses a key in whatever has the focus, such as `Tab`.
    #[track_caller]
    pub fn press_key(&self, key: &str) -> impl Future<Output = ()> {
        self.act("press_key", json!({"key": key}))
    }

    /// Changes the size of the window.
    #[track_caller]
    pub fn resize(&self, width: u32, height: u32) -> impl Future<Output = ()> {
        self.act("resize", json!({"width": width, "height": height}))
    }

    /// Whether the user accepts dialogs of `alert`, `confirm` and `prompt` (the default) or dismisses them.
    #[track_caller]
    pub fn answer_dialogs(&self, accept: bool) -> impl Future<Output = ()> {
        self.act("answer_dialogs", json!({"accept": accept}))
    }

    /// The messages of dialogs since the last call.
    #[track_caller]
    pub fn dialogs(&self) -> impl Future<Output = Vec<String>> {
        self.act("dialogs", json!({}))
    }

    // What a user sees

    /// The visible text of an element.
    #[track_caller]
    pub fn text(&self, selector: &str) -> impl Future<Output = String> {
        self.act("text", json!({"selector": selector}))
    }

    /// The visible text of each element, without waiting for one.
    #[track_caller]
    pub fn texts(&self, selector: &str) -> impl Future<Output = Vec<String>> {
        self.act("texts", json!({"selector": selector}))
    }

    /// What a field contains.
    #[track_caller]
    pub fn value(&self, selector: &str) -> impl Future<Output = String> {
        self.act("value", json!({"selector": selector}))
    }

    /// An attribute of an element, if it has it.
    #[track_caller]
    pub fn attribute(&self, selector: &str, name: &str) -> impl Future<Output = Option<String>> {
        self.act("attribute", json!({"selector": selector, "name": name}))
    }

    /// The number of elements, visible or not, without waiting for one.
    #[track_caller]
    pub fn count(&self, selector: &str) -> impl Future<Output = usize> {
        self.act("count", json!({"selector": selector}))
    }

    /// Whether any such element is visible, without waiting for one.
    #[track_caller]
    pub fn visible(&self, selector: &str) -> impl Future<Output = bool> {
        self.act("visible", json!({"selector": selector}))
    }

    /// The value of a JavaScript expression in the page, also without [`Window::javascript`].
    #[track_caller]
    pub fn evaluate(&self, expression: &str) -> impl Future<Output = Value> {
        self.act("evaluate", json!({"expression": expression}))
    }

    // Conditions

    /// Waits until such an element is visible.
    #[track_caller]
    pub fn wait_for(&self, selector: &str) -> impl Future<Output = ()> {
        self.act("wait_for", json!({"selector": selector}))
    }

    /// Waits until no such element is visible.
    #[track_caller]
    pub fn wait_until_gone(&self, selector: &str) -> impl Future<Output = ()> {
        self.act("wait_until_gone", json!({"selector": selector}))
    }

    /// Waits until the visible text of such an element contains a text.
    #[track_caller]
    pub fn wait_for_text(&self, selector: &str, text: &str) -> impl Future<Output = ()> {
        self.act("wait_for_text", json!({"selector": selector, "text": text}))
    }

    /// Waits until the URL contains a text and the page is loaded. Returns the URL.
    #[track_caller]
    pub fn wait_for_url(&self, text: &str) -> impl Future<Output = String> {
        self.act("wait_for_url", json!({"text": text}))
    }

    /// Waits until a JavaScript expression is true in the page. Returns its value.
    #[track_caller]
    pub fn wait_until(&self, expression: &str) -> impl Future<Output = Value> {
        self.act("wait_until", json!({"expression": expression}))
    }

    // Cookies

    /// All cookies of the browser, of all hosts.
    #[track_caller]
    pub fn cookies(&self) -> impl Future<Output = Vec<Cookie>> {
        self.act("cookies", json!({}))
    }

    /// Sets a cookie for the host of a URL.
    #[track_caller]
    pub fn set_cookie(&self, url: &str, name: &str, value: &str) -> impl Future<Output = ()> {
        self.act("set_cookie", json!({"url": url, "name": name, "value": value}))
    }

    #[track_caller]
    pub fn clear_cookies(&self) -> impl Future<Output = ()> {
        self.act("clear_cookies", json!({}))
    }

    // Judgement

    /// What has gone wrong on pages of this tab since the last call.
    #[track_caller]
    pub fn problems(&self) -> impl Future<Output = Problems> {
        self.act("problems", json!({}))
    }

    /// Panics if something has gone wrong on pages of this tab since the last look at its problems.
    #[track_caller]
    pub fn expect_no_problems(&self) -> impl Future<Output = ()> {
        let (caller, problems) = (Location::caller(), self.problems());
        async move {
            let problems = problems.await;
            assert!(problems.is_empty(), "{caller}: the page has problems: {problems:#?}");
        }
    }

    /// The violations of rules of accessibility whose impact is serious or critical, by axe.
    #[track_caller]
    pub fn serious_accessibility_findings(&self) -> impl Future<Output = Vec<Finding>> {
        self.act("accessibility", json!({}))
    }

    /// Panics if axe has a serious or critical finding.
    #[track_caller]
    pub fn expect_accessible(&self) -> impl Future<Output = ()> {
        let (caller, findings) = (Location::caller(), self.serious_accessibility_findings());
        async move {
            let findings = findings.await;
            assert!(findings.is_empty(), "{caller}: the page is not accessible: {findings:#?}");
        }
    }

    /// Why the page is wider than the window, so that a user has to scroll sideways: the widths, and the elements that
    /// end right of the window. Empty if it is not wider.
    #[track_caller]
    pub fn scrolls_sideways(&self) -> impl Future<Output = Vec<String>> {
        self.act("scrolls_sideways", json!({}))
    }

    /// Panics if the page is wider than the window.
    #[track_caller]
    pub fn expect_no_sideways_scroll(&self) -> impl Future<Output = ()> {
        let (caller, reasons) = (Location::caller(), self.scrolls_sideways());
        async move {
            let reasons = reasons.await;
            assert!(reasons.is_empty(), "{caller}: the page scrolls sideways: {reasons:#?}");
        }
    }

    /// Writes a picture of the whole page to `<name>.png` in the folder `TIDEGATE_SCREENSHOTS`, and returns its path.
    /// Does nothing if that variable is not set.
    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "the developer who wants to see the pages sets the variable")]
    pub fn screenshot(&self, name: &str) -> impl Future<Output = Option<PathBuf>> {
        let folder = std::env::var_os("TIDEGATE_SCREENSHOTS").filter(|folder| !folder.is_empty());
        let path = folder.map(|folder| PathBuf::from(folder).join(format!("{name}.png")));
        let taken = path.as_deref().map(|path| self.screenshot_to(path, true));
        async move {
            taken?.await;
            path
        }
    }

    /// Writes a picture to a file, whose folders are created: of the whole page or of what is in the window.
    #[track_caller]
    pub fn screenshot_to(&self, path: &Path, whole: bool) -> impl Future<Output = ()> + use<'_> {
        // The driver has the same working folder.
        self.act("screenshot", json!({"path": path, "whole": whole}))
    }

    /// Runs a command of the driver.
    #[track_caller]
    fn act<T: DeserializeOwned>(&self, name: &'static str, mut command: Value) -> impl Future<Output = T> + use<'_, T> {
        let caller = Location::caller();
        command["do"] = name.into();
        command["tab"] = self.number.into();
        async move {
            let value = match self.driver.run(command, self.window.patience).await {
                Ok(value) => value,
                Err(error) => panic!("{caller}: {name}: {error}"),
            };
            serde_json::from_value(value).unwrap_or_else(|error| panic!("{caller}: {name}: {error}"))
        }
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        // Nobody waits: a test that ends drops Chromium as well.
        let _ = self.driver.send(json!({"do": "close", "tab": self.number}), self.window.patience);
    }
}
