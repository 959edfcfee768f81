//! The only way out: every request to an address that a customer has chosen is made by an [`Egress`].
//!
//! A destination's URL is untrusted input, so it must not reach the relay's own network (server-side request forgery).
//! Two checks ensure that, and neither is enough alone:
//!
//! - [`Egress::check_url`] checks the URL itself: scheme, user info, port and literal addresses. It is called when a
//!   destination is created or updated, and again by [`Egress::post`] before every send, because the policy may have
//!   changed since. A literal address never reaches a resolver, so no other check would see it.
//! - The client's resolver checks the addresses of a host name at connect time, and the connector dials exactly those
//!   that are allowed. There is no second lookup that could return others (DNS rebinding). An address that is not
//!   allowed is skipped and does not block the name. The addresses of one family are dialled one after the other, and
//!   those of the other family too as soon as that fails or has taken 300 ms (RFC 8305).
//!
//! Redirects are returned and never followed, no proxy is taken from the environment (it would resolve the name
//! itself), and nothing is decompressed. The bytes and the time before the head of a response is complete are limited,
//! and only an excerpt of its body is read ([`Excerpt`]). The client is a library with fewer features than reqwest,
//! because it lets the relay observe the bytes on a connection (`wire.rs`). This makes three things possible:
//!
//! - The bytes that a connection receives are counted (`allowance.rs`).
//! - A response counts by its status line, even if the client cannot parse the rest of its head (`head.rs`). No request
//!   follows a malformed response on the same connection.
//! - If the destination closes a pooled connection before any byte of a response, the request is sent again on a new
//!   connection, once and within the same time. The destination may receive it twice, with the same `webhook-id`.
//!
//! Names are resolved by hickory-resolver and not by the C library: a lookup there blocks a thread for as long as the
//! name's server likes, and a few hundred slow names would take every thread that other destinations need. It also
//! caches by the records' time to live. It reads the machine's resolver configuration and hosts file. If there is no
//! configuration, it uses only the hosts file, and literal addresses still work.

use std::pin::pin;
use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use tokio_rustls::rustls::pki_types::CertificateDer;
use url::Url;

mod address;
pub mod allowance;
mod connector;
mod failure;
mod head;
mod policy;
mod resolver;
#[cfg(test)]
mod tests;
mod wire;

pub use address::is_public;
pub use model::failure::{EgressError, SendFailure, TlsFailure};
pub use policy::{EgressPolicy, Ports};

use connector::Connector;
use resolver::VettingResolver;
use wire::{OfRequest, Passed, Wire};

const AGENT: &str = concat!("Tidegate/", env!("CARGO_PKG_VERSION"));

/// How much of a response is kept, in bytes.
pub const RESPONSE_EXCERPT_BYTES: usize = 16 * 1024;

/// How long resolving, connecting and the TLS handshake may take together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Below the 5 s after which Node.js closes an idle connection, so that the client drops it before the server closes it
/// during a send.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Idle connections kept per host. A destination's concurrency is the real limit; this limits the connections that
/// remain after a burst.
pub const POOL_MAX_IDLE_PER_HOST: usize = 64;

/// Request headers that belong to one connection or that the HTTP client sets itself: they are neither passed on nor
/// configurable.
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

/// The maximum number of response headers that are parsed. A response with more of them counts by its status alone. The
/// client allocates room for this many for each response, so a much larger number would make every response more
/// expensive.
pub const MAX_RESPONSE_HEADERS: usize = 256;

/// The maximum size of the headers of a response over HTTP/2, in bytes.
const MAX_RESPONSE_HEADER_BYTES: u32 = allowance::BYTES_PER_REQUEST as u32;

/// How much of a response's body may be in transit over HTTP/2 before it is read: somewhat more than is kept of it.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How long the relay waits for the excerpt of a body after the head of the response. By then the status has decided.
pub const EXCERPT_WITHIN: Duration = Duration::from_secs(2);

/// A shared pool of outgoing connections and the policy that guards them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Egress {
    client: HttpClient,
    /// As `client`, but with a new connection for each request.
    fresh: HttpClient,
    policy: EgressPolicy,
}

type HttpClient = Client<Connector, Full<Bytes>>;

/// Why a request has no response.
enum Unanswered {
    /// Its pooled connection was closed before any byte of a response.
    ClosedBefore,
    Failed(SendFailure),
}

impl Egress {
    /// Builds the client.
    ///
    /// # Errors
    /// Returns [`EgressError::Client`] if the resolver or the TLS backend cannot be set up on this machine.
    pub fn new(policy: EgressPolicy) -> Result<Self, EgressError> {
        Self::trusting(policy, Vec::new())
    }

    /// As [`Self::new`], trusting these certificates in addition to those that the machine trusts.
    fn trusting(policy: EgressPolicy, roots: Vec<CertificateDer<'static>>) -> Result<Self, EgressError> {
        let connector = Connector::new(VettingResolver::new(policy.clone())?, roots)?;
        let (pooled, fresh) = (client(connector.clone(), POOL_MAX_IDLE_PER_HOST), client(connector, 0));
        Ok(Self { client: pooled, fresh, policy })
    }

    /// Checks a URL as far as possible without resolving its host, and that a request can be made from it.
    ///
    /// # Errors
    /// Returns why a request to it would be refused. An accepted host name may still resolve to addresses that are not
    /// allowed: the send then fails with [`SendFailure::Blocked`].
    pub fn check_url(&self, url: &Url) -> Result<(), EgressError> {
        self.policy.check_url(url)
    }

    /// Posts to a URL that passes [`Self::check_url`] and waits for the head of the response, for at most `timeout`.
    /// The bytes before the head is complete are limited too. `headers` makes the headers for the body; it is called
    /// once more if the request is sent again because a pooled connection was closed.
    ///
    /// # Errors
    /// Returns why there is no response.
    pub async fn post(
        &self,
        url: &Url,
        headers: impl Fn(&[u8]) -> HeaderMap,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Answer, SendFailure> {
        self.check_url(url).map_err(SendFailure::Blocked)?;
        let uri = policy::uri(url).map_err(SendFailure::Blocked)?;
        let body = Bytes::from(body);
        let until = Instant::now() + timeout;
        let answered = exchange(&self.client, request(&uri, headers(&body), &body), until).await;
        let answered = match answered {
            Err(Unanswered::ClosedBefore) => exchange(&self.fresh, request(&uri, headers(&body), &body), until).await,
            answered => answered,
        };
        answered.map_err(|unanswered| match unanswered {
            Unanswered::ClosedBefore => SendFailure::NoResponse,
            Unanswered::Failed(failure) => failure,
        })
    }
}

/// A client that keeps this many idle connections for each host; with 0 it opens a connection for each request.
fn client(connector: Connector, idle_per_host: usize) -> HttpClient {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(idle_per_host)
        .http1_max_headers(MAX_RESPONSE_HEADERS)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .http2_max_header_list_size(MAX_RESPONSE_HEADER_BYTES)
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .build(connector)
}

fn request(uri: &Uri, headers: HeaderMap, body: &Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.clone();
    *request.headers_mut() = headers;
    for (name, value) in [(ACCEPT, "*/*"), (ACCEPT_ENCODING, "identity"), (USER_AGENT, AGENT)] {
        request.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    request
}

async fn exchange(
    client: &HttpClient,
    mut request: Request<Full<Bytes>>,
    until: Instant,
) -> Result<Answer, Unanswered> {
    let asked = Instant::now();
    let mut connection = capture_connection(&mut request);
    let mut response = pin!(client.request(request));
    let mut on: Option<OfRequest> = None;
    let answered = tokio::time::timeout_at(until, async {
        {
            // From the moment the connection is known, its bytes are counted for this request.
            let known = async {
                let found = wire(connection.wait_for_connection_metadata().await.as_ref());
                on = found.map(|wire| wire.begin(asked));
            };
            tokio::select! {
                biased;
                response = &mut response => return response,
                () = known => {}
            }
        }
        response.as_mut().await
    })
    .await;
    // The client may have switched to another connection before it had written anything.
    if let Some(wire) = wire(connection.connection_metadata().as_ref())
        && !on.as_ref().is_some_and(|on| on.is_on(&wire))
    {
        on = Some(wire.begin(asked));
    }
    let (failed, unread) = match answered {
        Ok(Ok(response)) => {
            if on.as_ref().is_some_and(|on| !on.is_clean())
                && let Some(connected) = connection.connection_metadata().as_ref()
            {
                connected.poison();
            }
            let (head, body) = response.into_parts();
            return Ok(Answer { status: head.status, headers: head.headers, body: Some(body), _of_request: on });
        }
        Ok(Err(error)) => (failure::of(&error), failure::is_unread(&error)),
        Err(_) => (SendFailure::Timeout, false),
    };
    match on.map_or(Passed::Nothing, |on| on.passed(unread)) {
        Passed::Status(status) => Ok(Answer { status, headers: HeaderMap::new(), body: None, _of_request: None }),
        Passed::ClosedBefore if failed == SendFailure::NoResponse => Err(Unanswered::ClosedBefore),
        Passed::TooMuch if failed != SendFailure::Timeout => Err(Unanswered::Failed(SendFailure::TooMuch)),
        Passed::ClosedBefore | Passed::TooMuch | Passed::Nothing => Err(Unanswered::Failed(failed)),
    }
}

fn wire(connection: Option<&Connected>) -> Option<Wire> {
    let mut extras = http::Extensions::new();
    connection?.get_extras(&mut extras);
    extras.remove::<Wire>()
}

/// A response whose status has arrived.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// Empty if the head could not be parsed.
    pub headers: HeaderMap,
    /// `None` if the head could not be parsed.
    body: Option<Incoming>,
    /// Kept until the body is dropped.
    _of_request: Option<OfRequest>,
}

impl Answer {
    /// Begins to read at most `max` bytes of the body, and only those that arrive within [`EXCERPT_WITHIN`] from now.
    #[must_use]
    pub fn excerpt(self, max: usize) -> Excerpt {
        let until = Instant::now() + EXCERPT_WITHIN;
        Excerpt { answer: self, max, until, kept: Vec::new(), end: None }
    }
}

/// The first bytes of a response's body, while they arrive.
///
/// The remaining bytes are not read: the body is dropped with this, and its connection with it. A body that breaks off
/// also counts as cut short, because the status has been received by then and decides.
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
    /// Reads for this long at most. Returns whether the excerpt is complete.
    pub async fn read_for(&mut self, time: Duration) -> bool {
        let end = tokio::time::timeout_at(self.until.min(Instant::now() + time), self.read()).await;
        self.end = end.ok().or(self.end);
        self.end.is_some()
    }

    /// The bytes that have arrived, and whether there was more, or might have been.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, bool) {
        (self.kept, self.end.unwrap_or(true))
    }

    /// Reads to the end of the excerpt and returns the same as [`Excerpt::into_parts`].
    pub async fn finish(mut self) -> (Vec<u8>, bool) {
        self.read_for(EXCERPT_WITHIN).await;
        self.into_parts()
    }

    /// Reads until the excerpt is complete. Returns whether there was more. It can be cancelled at any point and called
    /// again.
    async fn read(&mut self) -> bool {
        if let Some(cut) = self.end {
            return cut;
        }
        let Some(body) = &mut self.answer.body else { return true };
        loop {
            match body.frame().await {
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
