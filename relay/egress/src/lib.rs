//! The one way out: every request to an address that a customer chose is made by an [`Egress`].
//!
//! A destination's URL is input from a stranger, so it must not reach the relay's own network (server-side request
//! forgery). Two checks make that so, and neither is enough alone:
//!
//! - [`Egress::check_url`] vets what stands in the URL: scheme, user info, port and literal addresses. It is called
//!   when a destination is created or updated, and again by [`Egress::post`] before every send, because the policy
//!   may have changed since. A literal address never reaches a resolver, so nothing else would see it.
//! - The client's resolver vets what a host name resolves to, at connect time, and the connector dials exactly the
//!   addresses that are left. There is no second lookup that could answer differently (DNS rebinding). An address that is
//!   not allowed is passed over and does not forbid the name. The addresses of one family are dialled one after the other,
//!   and those of the other family too as soon as that fails or has taken 300 ms (RFC 8305).
//!
//! Redirects are returned and never followed, no proxy is taken from the environment (it would resolve the name
//! itself), and nothing is decompressed. What comes before the head of an answer is bounded in bytes and in time, and of
//! its body only an excerpt is read ([`Excerpt`]). A library with fewer features than reqwest is used because it
//! lets the relay see what passes on a connection (`wire.rs`). Three things come of that:
//!
//! - What a connection sends is counted (`allowance.rs`).
//! - An answer counts by its status line, also if the client cannot read the rest of its head (`head.rs`). No request follows
//!   an odd answer on the same connection.
//! - A request on a connection of the pool that the destination has closed before any byte of an answer is sent again on a
//!   new connection, once and within the same time. The destination may see it twice: the `webhook-id` is the same.
//!
//! Names are resolved by hickory-resolver and not by the C library: a lookup there blocks a thread for as long as the
//! name's server likes, and a few hundred slow names would take every thread that other destinations need. It also
//! caches by the records' time to live. It reads the machine's resolver configuration and hosts file; where there is
//! none to read it knows only the hosts file, and literal addresses still work.

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

/// Below the 5 s after which Node.js closes an idle connection: an idle connection is given up before the other side
/// does it in the moment of a send.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Idle connections kept per host. A destination's concurrency is the real limit; this bounds what is left of a burst.
pub const POOL_MAX_IDLE_PER_HOST: usize = 64;

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

/// The most headers of a response that are read. One with more of them counts by its status alone. The client makes room
/// for so many for each response, so that a much larger number would cost every one of them.
pub const MAX_RESPONSE_HEADERS: usize = 256;

/// The most bytes of headers that a response over HTTP/2 may have.
const MAX_RESPONSE_HEADER_BYTES: u32 = allowance::BYTES_PER_REQUEST as u32;

/// How much of an answer's body, over HTTP/2, may be on its way before it is read: what is kept of it and a little more.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How long the excerpt of a body is waited for once the head of the answer is there. The status has decided by then.
pub const EXCERPT_WITHIN: Duration = Duration::from_secs(2);

/// A shared pool of outgoing connections and the policy that guards them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Egress {
    client: HttpClient,
    /// As `client`, with a new connection for each request.
    fresh: HttpClient,
    policy: EgressPolicy,
}

type HttpClient = Client<Connector, Full<Bytes>>;

/// Why a request has no answer.
enum Unanswered {
    /// Its connection was an old one, and was closed before any byte of an answer.
    ClosedBefore,
    Failed(SendFailure),
}

impl Egress {
    /// Builds the client.
    ///
    /// # Errors
    /// [`EgressError::Client`] where the resolver or the TLS backend cannot be set up on this machine.
    pub fn new(policy: EgressPolicy) -> Result<Self, EgressError> {
        Self::trusting(policy, Vec::new())
    }

    /// As [`Self::new`], trusting these certificates besides those that the machine trusts.
    fn trusting(policy: EgressPolicy, roots: Vec<CertificateDer<'static>>) -> Result<Self, EgressError> {
        let connector = Connector::new(VettingResolver::new(policy.clone())?, roots)?;
        let (pooled, fresh) = (client(connector.clone(), POOL_MAX_IDLE_PER_HOST), client(connector, 0));
        Ok(Self { client: pooled, fresh, policy })
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
    /// sent before the head is complete is bounded too. `headers` makes the headers for the body; it is called once more
    /// if the request is sent again because an old connection was closed.
    ///
    /// # Errors
    /// Why there is no answer.
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

/// A client that keeps so many idle connections for each host; with 0 it opens one for each request.
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
            // As soon as the connection is known: what it sends from then on is sent for this request.
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
    // The client may have tried another connection before it had written anything.
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

/// An answer whose status has arrived.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// Empty if the head could not be read.
    pub headers: HeaderMap,
    /// `None` if the head could not be read.
    body: Option<Incoming>,
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
