//! Why a request was not made, or got no response.

use std::error::Error;
use std::io;
use std::net::IpAddr;

use hickory_resolver::net::NetError;
use rustix::io::Errno;
use tokio_rustls::rustls;

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
    #[error("the tls handshake failed; {0}")]
    Tls(TlsFailure),
    /// Connecting failed in another way, such as no route to the network.
    #[error("the host could not be reached")]
    Unreachable,
    /// Connected, but the attempt's deadline passed.
    #[error("no complete response arrived in time")]
    Timeout,
    /// The connection broke while the request was written, or before anything of a response arrived.
    #[error("the connection ended before a valid response arrived")]
    NoResponse,
    /// What came back is not HTTP.
    #[error("what came back is not an http response; check that an http server listens on this port")]
    NotHttp,
    /// More was sent before the head of the answer was complete than any head needs.
    #[error("too much was sent before the head of the answer was complete")]
    TooMuch,
    /// This machine lacks descriptors, ports or memory: nothing was sent, and it is no attempt of the destination's.
    #[error("this machine cannot open a connection now: {0}")]
    Ours(String),
}

/// What was wrong in a TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    /// The certificate was refused.
    #[error("check the certificate, its chain, its host name and until when it is valid")]
    Certificate,
    /// The other side closed or reset the connection.
    #[error("the connection ended during it; check that this port speaks tls, and for whom")]
    Ended,
    /// The two sides do not understand each other.
    #[error("check that this port speaks tls, in version 1.2 or 1.3")]
    Protocol,
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

    /// Why the client has no response. Decides by the types in the error's chain, never by a text: which step has failed
    /// comes first, and what the system said about it second.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        match find::<ConnectFailure>(error) {
            Some(ConnectFailure::Late) => Self::ConnectTimeout,
            Some(ConnectFailure::Tcp(error)) => dialled(error.as_ref()),
            Some(ConnectFailure::Tls(error)) => shaken(error),
            None if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) => Self::NotHttp,
            None => Self::NoResponse,
        }
    }
}

/// Whether the other side has said that it has not read the request: it goes away, and the request came later than the last
/// one that it answers, or it refuses the stream (RFC 9113, section 8.7).
pub(super) fn is_unread(error: &(dyn Error + 'static)) -> bool {
    find::<h2::Error>(error).is_some_and(|error| {
        let left = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (left || refused)
    })
}

/// The resolver's own failure, so that it can be told from a failed connection.
#[derive(Debug, thiserror::Error)]
#[error("cannot resolve the host name")]
pub(super) struct NotResolved(#[source] pub(super) NetError);

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

/// Why the TLS handshake has failed.
fn shaken(error: &io::Error) -> SendFailure {
    if let Some(ours) = ours(error) {
        return ours;
    }
    let innermost = innermost(error);
    if let Some(error) = innermost.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        let of_certificate =
            matches!(error, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented);
        return SendFailure::Tls(if of_certificate { TlsFailure::Certificate } else { TlsFailure::Protocol });
    }
    let kind = innermost.kind();
    if kind == io::ErrorKind::TimedOut {
        return SendFailure::ConnectTimeout;
    }
    let ended = [
        io::ErrorKind::UnexpectedEof,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::BrokenPipe,
    ];
    SendFailure::Tls(if ended.contains(&kind) { TlsFailure::Ended } else { TlsFailure::Protocol })
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// What a step says if it fails with this error.
    type Step = fn(io::Error) -> Box<dyn Error>;

    fn resolving(error: io::Error) -> Box<dyn Error> {
        Box::new(ConnectFailure::Tcp(Box::new(NotResolved(NetError::Io(Arc::new(error))))))
    }

    fn dialling(error: io::Error) -> Box<dyn Error> {
        Box::new(ConnectFailure::Tcp(Box::new(error)))
    }

    fn shaking(error: io::Error) -> Box<dyn Error> {
        Box::new(ConnectFailure::Tls(error))
    }

    /// As the client gives it: wrapped once more.
    fn sending(error: io::Error) -> Box<dyn Error> {
        Box::new(io::Error::other(error))
    }

    fn system(code: Errno) -> io::Error {
        io::Error::from_raw_os_error(code.raw_os_error())
    }

    #[test]
    fn each_step_names_itself_whatever_the_system_said() {
        let tls_ended = SendFailure::Tls(TlsFailure::Ended);
        let tls_protocol = SendFailure::Tls(TlsFailure::Protocol);
        let steps: [(&str, Step, [SendFailure; 6]); 4] = [
            ("resolving", resolving, [const { SendFailure::NameNotResolved }; 6]),
            (
                "dialling",
                dialling,
                [
                    SendFailure::Refused,
                    SendFailure::Unreachable,
                    SendFailure::ConnectTimeout,
                    SendFailure::Unreachable,
                    SendFailure::Unreachable,
                    SendFailure::Unreachable,
                ],
            ),
            (
                "shaking hands",
                shaking,
                [
                    tls_protocol.clone(),
                    tls_ended.clone(),
                    SendFailure::ConnectTimeout,
                    tls_ended,
                    tls_protocol.clone(),
                    tls_protocol,
                ],
            ),
            ("sending", sending, [const { SendFailure::NoResponse }; 6]),
        ];
        let codes =
            [Errno::CONNREFUSED, Errno::CONNRESET, Errno::TIMEDOUT, Errno::PIPE, Errno::HOSTUNREACH, Errno::ACCESS];
        for (step, fails, expected) in steps {
            for (code, expected) in codes.into_iter().zip(expected) {
                let failure = SendFailure::of(fails(system(code)).as_ref());
                assert_eq!(failure, expected, "{step}: {code}");
                assert_eq!(failure.code() == "tls_failed", matches!(failure, SendFailure::Tls(_)));
            }
        }
    }

    #[test]
    fn what_this_machine_lacks_is_ours_in_every_step_that_opens_something() {
        for code in OURS {
            for fails in [resolving, dialling, shaking] {
                let failure = SendFailure::of(fails(system(code)).as_ref());
                assert!(matches!(failure, SendFailure::Ours(_)), "{code}: {failure:?}");
            }
        }
    }

    #[test]
    fn a_handshake_that_is_late_ended_refused_or_not_understood_is_told_apart() {
        assert_eq!(SendFailure::of(&ConnectFailure::Late), SendFailure::ConnectTimeout);
        let of =
            |error: rustls::Error| SendFailure::of(shaking(io::Error::new(io::ErrorKind::InvalidData, error)).as_ref());
        for error in [
            rustls::Error::InvalidCertificate(rustls::CertificateError::Expired),
            rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer),
            rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidForName),
            rustls::Error::NoCertificatesPresented,
        ] {
            assert_eq!(of(error), SendFailure::Tls(TlsFailure::Certificate));
        }
        for error in [
            rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure),
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
        ] {
            assert_eq!(of(error), SendFailure::Tls(TlsFailure::Protocol));
        }
        let cut = SendFailure::of(shaking(io::ErrorKind::UnexpectedEof.into()).as_ref());
        assert_eq!(cut, SendFailure::Tls(TlsFailure::Ended));
        assert!(!cut.to_string().contains("certificate"), "{cut}");
    }

    #[test]
    fn a_guard_that_refuses_is_told_before_everything_else() {
        let blocked = EgressError::HostBlocked("inside.example".to_owned());
        let failure = SendFailure::of(&ConnectFailure::Tcp(Box::new(blocked.clone())));
        assert_eq!(failure, SendFailure::Blocked(blocked));
    }
}
