//! An OpenID Connect provider: `oidc-provider` from npm, on which any user can sign in.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::browser::{Browser, Page};
use crate::error::Result;
use crate::process::{Process, Signal};
use crate::random;
use crate::tools;

const STARTS_WITHIN: Duration = Duration::from_secs(60);
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// Where the provider sends the claims of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claims {
    InTheIdToken,
    InTheUserInfo,
}

/// A running provider with one client. Dropping it stops it.
#[derive(Debug)]
pub struct IdentityProvider {
    process: Process,
    settings: serde_json::Value,
    port: u16,
    /// The id of the client.
    pub client_id: String,
    /// The secret of the client.
    pub client_secret: String,
}

impl IdentityProvider {
    /// Installs the provider if necessary, and starts it for a client to which browsers return at this URL.
    ///
    /// # Errors
    /// Returns an error if it cannot be installed or does not start.
    pub async fn start(redirect_uri: &str, claims: Claims) -> Result<Self> {
        let (port, client_id, client_secret) = (tools::free_port()?, "tidegate".to_owned(), random::text());
        let settings = json!({
            "port": port,
            "client_id": client_id,
            "client_secret": client_secret,
            "redirect_uri": redirect_uri,
            "in_id_token": claims == Claims::InTheIdToken,
        });
        let process = run(&settings).await?;
        Ok(Self { process, settings, port, client_id, client_secret })
    }

    /// Its issuer.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Stops it.
    ///
    /// # Errors
    /// Returns an error if it had to be killed.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop(STOPS_WITHIN).await.map(drop)
    }

    /// Starts it again at the same address, with new keys. It has forgotten everything.
    ///
    /// # Errors
    /// Same as [`IdentityProvider::start`].
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = run(&self.settings).await?;
        Ok(())
    }

    /// Signs a user in on the pages of the provider, beginning at the URL to which the relay has sent the browser.
    /// `login` is a name and groups: `ada:platform,ops`. Returns the page that sends the browser back to the relay.
    ///
    /// # Panics
    /// Panics if the pages are not those of the provider.
    pub async fn sign_in(&self, browser: &mut Browser, authorize: &str, login: &str, back_to: &str) -> Page {
        let page = browser.follow(authorize, back_to).await;
        let page =
            self.submit(browser, &page, &[("prompt", "login"), ("login", login), ("password", "any")], back_to).await;
        match &page.location {
            // The browser has a session at the provider, and has agreed before.
            Some(location) if location.as_str().starts_with(back_to) => page,
            Some(_) | None => self.submit(browser, &page, &[("prompt", "consent")], back_to).await,
        }
    }

    /// Submits the form of a page of the provider.
    async fn submit(&self, browser: &mut Browser, page: &Page, fields: &[(&str, &str)], back_to: &str) -> Page {
        assert!(page.url.path().starts_with("/interaction/"), "{page:?}");
        let answered = browser.post_form(page.url.as_str(), fields).await;
        let next = answered.location.unwrap_or_else(|| panic!("the form leads nowhere: {:?}", answered.body));
        browser.follow(next.as_str(), back_to).await
    }
}

async fn run(settings: &serde_json::Value) -> Result<Process> {
    let modules = tools::blocking(tools::identity_provider).await?;
    // Packages are looked for beside the script, so it runs as a copy beside them.
    let script = modules.join("provider.mjs");
    let mut command = Command::new("node");
    command.arg(script).arg(settings.to_string());
    let mut process = Process::start("identity-provider", &mut command, Signal::Term)?;
    process.line("provider listening on", STARTS_WITHIN).await?;
    Ok(process)
}
