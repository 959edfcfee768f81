//! Why a request was not made, or got no response.

use std::error::Error;
use std::io;
use std::net::IpAddr;

use hickory_resolver::net::NetError;
use hyper_util::client::legacy as client;
use rustix::io::Errno;

use super::connector::ConnectFailure;

/// What the system says if this machine, or this process, has no descriptors, ports or memory left.
const OURS: [Errno; 5] = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];

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
    /// A URL that no request can be made of.
    #[error(
        "no request can be made of the url: its host holds a character that http does not allow, such as {{ }} \" or `, \
         or is no host name; correct the host"
    )]
    Unsendable,
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
            Self::Unsendable => "egress_url_unsendable",
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
    /// More was sent before the head of the answer was complete than any head needs.
    #[error("too much was sent before the head of the answer was complete")]
    TooMuch,
    /// This machine lacks descriptors, ports or memory: nothing was sent, and it is no attempt of the destination's.
    #[error("this machine cannot open a connection now: {0}")]
    Ours(String),
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
            Self::TooMuch => "too_much_before_answer",
            Self::Ours(_) => "not_sent",
        }
    }
}

/// The resolver's own failure, so that it can be told from a failed connection.
#[derive(Debug, thiserror::Error)]
#[error("cannot resolve the host name")]
pub(super) struct NotResolved(#[source] pub(super) NetError);

impl From<&client::Error> for SendFailure {
    /// Decides by the types in the error's chain, never by a text.
    fn from(error: &client::Error) -> Self {
        match find::<ConnectFailure>(error) {
            Some(ConnectFailure::Late) => Self::ConnectTimeout,
            Some(ConnectFailure::Tcp(error)) => dialled(error.as_ref()),
            Some(ConnectFailure::Tls(error)) => {
                ours(error).unwrap_or(if innermost(error).kind() == io::ErrorKind::TimedOut {
                    Self::ConnectTimeout
                } else {
                    Self::Tls
                })
            }
            None => Self::NoResponse,
        }
    }
}

/// Why resolving or dialling has failed.
fn dialled(error: &(dyn Error + 'static)) -> SendFailure {
    if let Some(blocked) = find::<EgressError>(error) {
        return SendFailure::Blocked(blocked.clone());
    }
    if let Some(ours) = ours(error) {
        return ours;
    }
    if find::<NotResolved>(error).is_some() {
        return SendFailure::NameNotResolved;
    }
    match find::<io::Error>(error).map(|error| innermost(error).kind()) {
        Some(io::ErrorKind::ConnectionRefused) => SendFailure::Refused,
        Some(io::ErrorKind::TimedOut) => SendFailure::ConnectTimeout,
        Some(_) | None => SendFailure::Unreachable,
    }
}

/// The failure, if this machine lacks what a connection needs.
fn ours(error: &(dyn Error + 'static)) -> Option<SendFailure> {
    // The resolver's error does not name the I/O error as its source.
    let resolving = find::<NotResolved>(error)
        .and_then(|error| if let NetError::Io(error) = &error.0 { Some(error.as_ref()) } else { None });
    let error = resolving.or_else(|| find::<io::Error>(error)).map(innermost)?;
    let is_ours = Errno::from_io_error(error).is_some_and(|code| OURS.contains(&code));
    is_ours.then(|| SendFailure::Ours(error.to_string()))
}

/// The first error of type `T` in an error and its sources.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref::<T>())
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The I/O error that another one may be wrapped round: such wrapping is no source.
fn innermost(mut error: &io::Error) -> &io::Error {
    while let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>()) {
        error = inner;
    }
    error
}
