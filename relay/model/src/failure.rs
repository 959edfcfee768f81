//! Why an attempt was not made, or got no response.

use std::net::IpAddr;

/// Why the guard refuses a request. The text is for the operator of the destination: it never says what a host name
/// resolves to, because that would map the relay's network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// Neither http nor https.
    #[error("the URL's scheme is \"{0}\"; use http or https")]
    Scheme(String),
    /// A user name or password in the URL.
    #[error("the URL contains a user name or password; use a static header instead")]
    UserInfo,
    /// No host, or only dots.
    #[error("the URL has no host")]
    NoHost,
    /// A literal address that the policy does not allow.
    #[error(
        "{0} is not a public address; use a public address, or ask the operator to add its network to \
         TIDEGATE_EGRESS_ALLOW"
    )]
    AddressBlocked(IpAddr),
    /// A host name without an address that the policy allows; found at connect time.
    #[error(
        "the host {0} has no public address; use a public host, or ask the operator to add its network to \
         TIDEGATE_EGRESS_ALLOW"
    )]
    HostBlocked(String),
    /// A port that the policy does not allow.
    #[error("port {0} is not allowed; use 443, 80, or a port above 1023 that no database or broker usually has")]
    PortBlocked(u16),
    /// A URL from which no request can be made.
    #[error(
        "the host in the URL is invalid: it contains a character such as {{ }} \" or `, or is not a host name; correct \
         it"
    )]
    Unsendable,
    /// An entry of the allow-list that is not a range.
    #[error("\"{0}\" is not a valid CIDR range; use one such as 10.0.0.0/8")]
    AllowList(String),
    /// The client could not be built on this machine.
    #[error("cannot initialise the HTTP client: {0}")]
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

/// Why a request that the guard allowed got no response, in terms of what the operator can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendFailure {
    /// The guard refused at connect time; nothing was sent.
    #[error("{0}")]
    Blocked(EgressError),
    /// The host name has no address.
    #[error("the host name could not be resolved; check the name and its DNS records")]
    NameNotResolved,
    /// Nothing listens on the port.
    #[error("the connection was refused; check that the service is running and listening on this port")]
    Refused,
    /// Resolving, connecting or the TLS handshake took too long.
    #[error("connecting timed out; check that the relay can reach the host")]
    ConnectTimeout,
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Tls(TlsFailure),
    /// Connecting failed in another way, such as no route to the network.
    #[error("the host could not be reached")]
    Unreachable,
    /// Connected, but the attempt's deadline has passed.
    #[error("the response headers did not arrive within the timeout; respond faster, or raise timeout_ms")]
    Timeout,
    /// The connection broke while the request was written, or before any of a response arrived.
    #[error("the connection was closed before a valid response arrived")]
    NoResponse,
    /// The response is not HTTP.
    #[error("the response is not HTTP; check that an HTTP server is listening on this port")]
    NotHttp,
    /// More bytes arrived before the head of the response was complete than any head needs.
    #[error("the response headers, including interim 1xx responses, are too large; reduce them")]
    TooMuch,
    /// This machine lacks descriptors, ports or memory: nothing was sent, and it does not count as an attempt.
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
            Self::Tls(_) => "tls_failed",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::NoResponse => "no_response",
            Self::NotHttp => "not_http",
            Self::TooMuch => "too_much_before_answer",
            Self::Ours(_) => "not_sent",
        }
    }
}

/// Why a TLS handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    /// The certificate was not accepted.
    #[error("the certificate was not accepted; check its chain, host name and expiry date")]
    Certificate,
    /// The other side closed or reset the connection.
    #[error(
        "the server closed the connection; check that this port uses TLS, and that the server accepts this host name \
         (SNI)"
    )]
    Ended,
    /// The two sides have no common protocol.
    #[error("the two sides found no common protocol; check that this port supports TLS 1.2 or 1.3")]
    Protocol,
}
