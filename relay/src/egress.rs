//! The one way out: every request to an address that a customer chose is made by an [`Egress`].
//!
//! A destination's URL is input from a stranger, so it must not reach the relay's own network (server-side request
//! forgery). Two checks make that so, and neither is enough alone:
//!
//! - [`Egress::check_url`] vets what stands in the URL: scheme, user info, port and literal addresses. It is called
//!   when a destination is created or updated, and again by [`Egress::post`] before every send, because the policy
//!   may have changed since. A literal address never reaches a resolver, so nothing else would see it.
//! - The client's resolver vets what a host name resolves to, at connect time, and the connector dials exactly the
//!   addresses that are left. There is no second lookup that could answer differently (DNS rebinding).
//!
//! Redirects are returned and never followed, no proxy is taken from the environment (it would resolve the name
//! itself), and nothing is decompressed. What comes before the head of an answer is bounded in bytes and in time, and of
//! its body only an excerpt is read ([`Excerpt`]). A library with fewer features than reqwest is used because it
//! lets the relay count what a connection sends (`allowance.rs`).
//!
//! Names are resolved by hickory-resolver and not by the C library: a lookup there blocks a thread for as long as the
//! name's server likes, and a few hundred slow names would take every thread that other destinations need. It also
//! caches by the records' time to live. It reads the machine's resolver configuration and hosts file; where there is
//! none to read it knows only the hosts file, and literal addresses still work.

use std::pin::pin;
use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use url::Url;

mod address;
mod allowance;
mod connector;
mod failure;
mod policy;
mod resolver;
#[cfg(test)]
mod tests;

pub use address::is_public;
pub use failure::{EgressError, SendFailure};
pub use policy::{EgressPolicy, Ports};

use allowance::{Allowance, OfRequest};
use connector::Connector;
use resolver::VettingResolver;

const AGENT: &str = concat!("Tidegate/", env!("CARGO_PKG_VERSION"));

/// How much of a response is kept, in bytes.
pub const RESPONSE_EXCERPT_BYTES: usize = 16 * 1024;

/// How long resolving, connecting and the TLS handshake may take together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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

/// How much of an answer's body, over HTTP/2, may be on its way before it is read: what is kept of it and a little more.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How long the excerpt of a body is waited for once the head of the answer is there. The status has decided by then.
pub const EXCERPT_WITHIN: Duration = Duration::from_secs(2);

/// A shared pool of outgoing connections and the policy that guards them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Egress {
    client: Client<Connector, Full<Bytes>>,
    policy: EgressPolicy,
}

impl Egress {
    /// Builds the client.
    ///
    /// # Errors
    /// [`EgressError::Client`] where the resolver or the TLS backend cannot be set up on this machine.
    pub fn new(policy: EgressPolicy) -> Result<Self, EgressError> {
        let connector = Connector::new(VettingResolver::new(policy.clone())?)?;
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(POOL_MAX_IDLE_PER_HOST)
            .http1_max_headers(MAX_RESPONSE_HEADERS)
            .http2_max_header_list_size(MAX_RESPONSE_HEADER_BYTES)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .build(connector);
        Ok(Self { client, policy })
    }

    /// Vets a URL as far as it can be without resolving its host, and makes sure that a request can be made of it.
    ///
    /// # Errors
    /// The reason why a request to it would be refused. A host name that is accepted may still resolve to addresses
    /// that are not: that shows when it is sent, as [`SendFailure::Blocked`].
    pub fn check_url(&self, url: &Url) -> Result<(), EgressError> {
        self.policy.check_url(url)
    }

    /// Posts to a URL that passes [`Self::check_url`] and waits for the head of the answer, for `timeout` at most. What is
    /// sent before the head is complete is bounded too.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Answer, SendFailure> {
        self.check_url(url).map_err(SendFailure::Blocked)?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = policy::uri(url).map_err(SendFailure::Blocked)?;
        *request.headers_mut() = headers;
        for (name, value) in [(ACCEPT, "*/*"), (ACCEPT_ENCODING, "identity"), (USER_AGENT, AGENT)] {
            request.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
        }
        match tokio::time::timeout(timeout, self.exchange(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(SendFailure::Timeout),
        }
    }

    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, SendFailure> {
        let mut connection = capture_connection(&mut request);
        let mut response = pin!(self.client.request(request));
        let mut of_request = None;
        let early = {
            // As soon as the connection is known: what it sends from then on is sent for this request.
            let known = async { begin(connection.wait_for_connection_metadata().await.as_ref()) };
            tokio::select! {
                biased;
                response = &mut response => Some(response),
                found = known => {
                    of_request = found;
                    None
                }
            }
        };
        let response = match early {
            Some(response) => {
                of_request = begin(connection.connection_metadata().as_ref());
                response
            }
            None => response.await,
        };
        match response {
            Ok(response) => {
                let (head, body) = response.into_parts();
                Ok(Answer { status: head.status, headers: head.headers, body, _of_request: of_request })
            }
            Err(_) if of_request.as_ref().is_some_and(OfRequest::is_spent) => Err(SendFailure::TooMuch),
            Err(error) => Err(SendFailure::from(&error)),
        }
    }
}

fn begin(connection: Option<&Connected>) -> Option<OfRequest> {
    let mut extras = http::Extensions::new();
    connection?.get_extras(&mut extras);
    extras.get::<Allowance>().map(Allowance::begin)
}

/// An answer whose head has arrived.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    /// Until the body has been dropped.
    _of_request: Option<OfRequest>,
}

impl Answer {
    /// Begins to read at most `max` bytes of the body, and only what arrives within [`EXCERPT_WITHIN`] from now.
    #[must_use]
    pub fn excerpt(self, max: usize) -> Excerpt {
        let until = Instant::now() + EXCERPT_WITHIN;
        Excerpt { answer: self, max, until, kept: Vec::new(), end: None }
    }
}

/// The first bytes of an answer's body, while they arrive.
///
/// What is beyond that is not read: the body is dropped with this and with it its connection. A body that breaks off counts
/// as cut short too, because the status has been received by then and decides.
#[derive(Debug)]
pub struct Excerpt {
    answer: Answer,
    max: usize,
    until: Instant,
    kept: Vec<u8>,
    /// Set when nothing more is read: whether there was more, or might have been.
    end: Option<bool>,
}

impl Excerpt {
    /// Reads on for a while; returns whether all of it is there.
    pub async fn read_for(&mut self, time: Duration) -> bool {
        let end = tokio::time::timeout_at(self.until.min(Instant::now() + time), self.read()).await;
        self.end = end.ok().or(self.end);
        self.end.is_some()
    }

    /// What has arrived, and whether there was more, or might have been.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, bool) {
        (self.kept, self.end.unwrap_or(true))
    }

    /// Reads to the end of it and returns what [`Excerpt::into_parts`] returns.
    pub async fn finish(mut self) -> (Vec<u8>, bool) {
        self.read_for(EXCERPT_WITHIN).await;
        self.into_parts()
    }

    /// Reads until nothing more is wanted; returns whether there was more. It can be dropped at any point and called again.
    async fn read(&mut self) -> bool {
        if let Some(cut) = self.end {
            return cut;
        }
        loop {
            match self.answer.body.frame().await {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let room = self.max - self.kept.len();
                    self.kept.extend_from_slice(&data[..data.len().min(room)]);
                    if data.len() > room {
                        return true;
                    }
                }
                None => return false,
                Some(Err(_)) => return true,
            }
        }
    }
}
