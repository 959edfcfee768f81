//! Why a request was not made, or got no response.

use std::error::Error;
use std::io;
use std::net::IpAddr;

/// Why the guard does not let a request out. The text is for the destination's owner: of a host name it never says
/// what it resolves to, for that would map the relay's network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// Neither http nor https.
    #[error("the url's scheme is \"{0}\"; use http or https")]
    Scheme(String),
    /// A user name or password in the URL.
    #[error("the url holds a user name or password; send them in a header instead")]
    UserInfo,
    /// No host, or only dots.
    #[error("the url has no host")]
    NoHost,
    /// A literal address outside of what the policy allows.
    #[error("blocked: {0} is not a public address; use a public one, or have the operator allow its network")]
    AddressBlocked(IpAddr),
    /// A host name of which no address is within what the policy allows; found at connect time.
    #[error("blocked: {0} has no public address; use a public host, or have the operator allow its network")]
    HostBlocked(String),
    /// A port that the policy does not allow.
    #[error("blocked: port {0} may not be called; use 443, 80 or a free port above 1023")]
    PortBlocked(u16),
    /// An entry of the allow-list that is no range.
    #[error("\"{0}\" is not an ip range; write it like 10.0.0.0/8")]
    AllowList(String),
    /// The client could not be built on this machine.
    #[error("cannot set up outgoing requests: {0}")]
    Client(String),
}

impl EgressError {
    /// A stable code of the kind of error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Scheme(_) => "egress_scheme",
            Self::UserInfo => "egress_user_info",
            Self::NoHost => "egress_no_host",
            Self::AddressBlocked(_) | Self::HostBlocked(_) => "egress_blocked",
            Self::PortBlocked(_) => "egress_port_blocked",
            Self::AllowList(_) => "egress_allow_list",
            Self::Client(_) => "egress_client",
        }
    }
}

/// Why a request that was let out got no response, as far as its owner can act on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendFailure {
    /// The guard refused at connect time; nothing was sent.
    #[error("{0}")]
    Blocked(EgressError),
    /// The host name has no address.
    #[error("the host name could not be resolved; check it and its dns records")]
    NameNotResolved,
    /// Nothing listens on the port.
    #[error("the connection was refused; check that the service runs and listens on this port")]
    Refused,
    /// Resolving, connecting or the TLS handshake took too long.
    #[error("connecting took too long; check that the host can be reached from outside")]
    ConnectTimeout,
    /// The TLS handshake failed.
    #[error("the tls handshake failed; check the certificate, its chain and its host name")]
    Tls,
    /// Connecting failed in another way, such as no route to the network.
    #[error("the host could not be reached")]
    Unreachable,
    /// Connected, but the attempt's deadline passed.
    #[error("no complete response arrived in time")]
    Timeout,
    /// The connection broke, or what came back is not HTTP.
    #[error("the connection ended before a valid response arrived")]
    NoResponse,
    /// The request could not be built: our fault, and no attempt of the destination's.
    #[error("the request could not be built: {0}")]
    Request(String),
}

impl SendFailure {
    /// A stable code of the kind of failure: the error class of an attempt.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Blocked(error) => error.code(),
            Self::NameNotResolved => "name_not_resolved",
            Self::Refused => "connection_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls_failed",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::NoResponse => "no_response",
            Self::Request(_) => "request_invalid",
        }
    }
}

/// The resolver's own failure, so that it can be told from a failed connection.
#[derive(Debug, thiserror::Error)]
#[error("cannot resolve the host name")]
pub(super) struct NotResolved(#[source] pub(super) hickory_resolver::net::NetError);

impl From<&reqwest::Error> for SendFailure {
    /// Decides by the types in the error's chain, never by a text.
    fn from(error: &reqwest::Error) -> Self {
        if let Some(blocked) = find::<EgressError>(error) {
            return Self::Blocked(blocked.clone());
        }
        if error.is_builder() {
            return Self::Request(error.to_string());
        }
        if error.is_timeout() {
            return if error.is_connect() { Self::ConnectTimeout } else { Self::Timeout };
        }
        if find::<NotResolved>(error).is_some() {
            return Self::NameNotResolved;
        }
        if !error.is_connect() {
            return Self::NoResponse;
        }
        match find::<io::Error>(error).map(innermost_kind) {
            Some(io::ErrorKind::ConnectionRefused) => Self::Refused,
            // rustls reports what the peer sent it as invalid data, and a peer that hangs up as an early end.
            Some(io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                Self::Tls
            }
            Some(io::ErrorKind::TimedOut) => Self::ConnectTimeout,
            Some(_) | None => Self::Unreachable,
        }
    }
}

/// The first error of type `T` in a chain of sources.
fn find<'a, T: Error + 'static>(error: &'a reqwest::Error) -> Option<&'a T> {
    std::iter::successors(error.source(), |error: &&'a (dyn Error + 'static)| (*error).source())
        .find_map(|error| error.downcast_ref::<T>())
}

/// The kind of the I/O error that another one may be wrapped round: such wrapping is no source.
fn innermost_kind(mut error: &io::Error) -> io::ErrorKind {
    while let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>()) {
        error = inner;
    }
    error.kind()
}
