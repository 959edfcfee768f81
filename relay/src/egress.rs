//! The one way out: every request to an address that a customer chose is made by an [`Egress`].
//!
//! A destination's URL is input from a stranger, so it must not reach the relay's own network (server-side request
//! forgery). Two checks make that so, and neither is enough alone:
//!
//! - [`Egress::check_url`] vets what stands in the URL: scheme, user info, port and literal addresses. It is called
//!   when a destination is created or updated, and again by [`Egress::request`] before every send, because the policy
//!   may have changed since. A literal address never reaches a resolver, so nothing else would see it.
//! - The client's resolver vets what a host name resolves to, at connect time, and the connector dials exactly the
//!   addresses that are left. There is no second lookup that could answer differently (DNS rebinding).
//!
//! Redirects are returned and never followed, no proxy is taken from the environment (it would resolve the name
//! itself), nothing is decompressed, and a response is kept to what [`read_capped`] is asked for.
//!
//! Names are resolved by hickory-resolver and not by the C library: a lookup there blocks a thread for as long as the
//! name's server likes, and a few hundred slow names would take every thread that other destinations need. It also
//! caches by the records' time to live. It reads the machine's resolver configuration and hosts file; where there is
//! none to read it knows only the hosts file, and literal addresses still work.

use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response};
use url::Url;

mod address;
mod failure;
mod policy;
mod resolver;
#[cfg(test)]
mod tests;

pub use address::is_public;
pub use failure::{EgressError, SendFailure};
pub use policy::{EgressPolicy, Ports};

use resolver::VettingResolver;

/// How much of a response is kept, in bytes.
pub const RESPONSE_EXCERPT_BYTES: usize = 16 * 1024;

/// How long resolving, connecting and the TLS handshake may take together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The deadline of a whole attempt that sets none of its own: the upper end of what Standard Webhooks recommends.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Below the 5 s after which Node.js closes an idle connection: an idle connection is given up before the other side
/// does it in the moment of a send.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Idle connections kept per host. A destination's concurrency is the real limit; this bounds what is left of a burst.
const POOL_MAX_IDLE_PER_HOST: usize = 64;

/// Request headers that belong to one connection or that the HTTP client sets itself: they are neither passed on nor
/// given by anyone.
pub const OF_THE_CONNECTION: [&str; 13] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The most headers, and bytes of headers over HTTP/2, that a response may have.
const MAX_RESPONSE_HEADERS: usize = 100;
const MAX_RESPONSE_HEADER_BYTES: u32 = 64 * 1024;

/// A shared pool of outgoing connections and the policy that guards them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Egress {
    client: Client,
    policy: EgressPolicy,
}

impl Egress {
    /// Builds the client.
    ///
    /// # Errors
    /// [`EgressError::Client`] where the resolver or the TLS backend cannot be set up on this machine.
    pub fn new(policy: EgressPolicy) -> Result<Self, EgressError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let client = Client::builder()
            .default_headers(headers)
            .user_agent(concat!("Tidegate/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(VettingResolver::new(policy.clone())?)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .timeout(DEFAULT_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(POOL_MAX_IDLE_PER_HOST)
            .http1_max_headers(MAX_RESPONSE_HEADERS)
            .http2_max_header_list_size(MAX_RESPONSE_HEADER_BYTES)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| EgressError::Client(error.to_string()))?;
        Ok(Self { client, policy })
    }

    /// Vets a URL as far as it can be without resolving its host.
    ///
    /// # Errors
    /// The reason why a request to it would be refused. A host name that is accepted may still resolve to addresses
    /// that are not: that shows when it is sent, as [`SendFailure::Blocked`].
    pub fn check_url(&self, url: &Url) -> Result<(), EgressError> {
        self.policy.check_url(url)
    }

    /// Begins a request to a URL that passes [`Self::check_url`]. The timeout set on it is over the whole attempt,
    /// reading the response included.
    ///
    /// # Errors
    /// As [`Self::check_url`].
    pub fn request(&self, method: Method, url: &Url) -> Result<RequestBuilder, EgressError> {
        self.check_url(url)?;
        Ok(self.client.request(method, url.clone()))
    }

    /// The shared client. It vets what host names resolve to, but not literal addresses and ports: whoever sends with
    /// it calls [`Self::check_url`] on the very same URL first, or uses [`Self::request`].
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }
}

/// Reads at most `max` bytes of a response's body; the second value says whether there was more, or might have been.
///
/// What is beyond `max` is not read: the response is dropped and with it its connection. A body that breaks off or runs
/// into the attempt's deadline counts as cut short too, for the status has been received by then and decides.
pub async fn read_capped(mut response: Response, max: usize) -> (Vec<u8>, bool) {
    let mut kept = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = max - kept.len();
                kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    return (kept, true);
                }
            }
            Ok(None) => return (kept, false),
            Err(_) => return (kept, true),
        }
    }
}
