//! Why a request was not made, or got no response.

use std::error::Error;
use std::io;

use hickory_resolver::net::NetError;
use model::failure::{EgressError, SendFailure, TlsFailure};
use rustix::io::Errno;
use tokio_rustls::rustls;

use super::connector::ConnectFailure;
use super::resolver::NotResolved;

/// The system errors of a machine or process without free descriptors, ports or memory.
const OURS: [Errno; 5] = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];

/// Why the client has no response. This is decided by the types in the error's chain, never by a text: first by the
/// step that failed, then by the system's error.
pub(super) fn of(error: &(dyn Error + 'static)) -> SendFailure {
    match find::<ConnectFailure>(error) {
        Some(ConnectFailure::Late) => SendFailure::ConnectTimeout,
        Some(ConnectFailure::Tcp(error)) => dialled(error.as_ref()),
        Some(ConnectFailure::Tls(error)) => handshake(error),
        None if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) => SendFailure::NotHttp,
        None => SendFailure::NoResponse,
    }
}

/// Whether the server has said that it did not process the request: it goes away and the request came after the last
/// one that it processes, or it refuses the stream (RFC 9113, section 8.7).
pub(super) fn is_unread(error: &(dyn Error + 'static)) -> bool {
    find::<h2::Error>(error).is_some_and(|error| {
        let left = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (left || refused)
    })
}

/// Why resolving or dialling failed.
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

/// Why the TLS handshake failed.
fn handshake(error: &io::Error) -> SendFailure {
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

/// The failure, if this machine lacks the resources for a connection.
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

/// The innermost I/O error, if this one wraps others: `source` does not return them.
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

    /// Makes the error of a step that fails with this I/O error.
    type Step = fn(io::Error) -> Box<dyn Error>;

    fn resolving(error: io::Error) -> Box<dyn Error> {
        Box::new(ConnectFailure::Tcp(Box::new(NotResolved(NetError::Io(Arc::new(error))))))
    }

    fn dialling(error: io::Error) -> Box<dyn Error> {
        Box::new(ConnectFailure::Tcp(Box::new(error)))
    }

    fn handshaking(error: io::Error) -> Box<dyn Error> {
        Box::new(ConnectFailure::Tls(error))
    }

    /// As the client returns it: wrapped once more.
    fn sending(error: io::Error) -> Box<dyn Error> {
        Box::new(io::Error::other(error))
    }

    fn system(code: Errno) -> io::Error {
        io::Error::from_raw_os_error(code.raw_os_error())
    }

    #[test]
    fn each_step_has_its_own_failures_whatever_the_system_error() {
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
                "handshaking",
                handshaking,
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
                let failure = of(fails(system(code)).as_ref());
                assert_eq!(failure, expected, "{step}: {code}");
                assert_eq!(failure.code() == "tls_failed", matches!(failure, SendFailure::Tls(_)));
            }
        }
    }

    #[test]
    fn a_lack_of_descriptors_ports_or_memory_is_a_fault_of_the_relay_in_every_connecting_step() {
        for code in OURS {
            for fails in [resolving, dialling, handshaking] {
                let failure = of(fails(system(code)).as_ref());
                assert!(matches!(failure, SendFailure::Ours(_)), "{code}: {failure:?}");
            }
        }
    }

    #[test]
    fn late_ended_rejected_and_incompatible_handshakes_are_distinguished() {
        assert_eq!(of(&ConnectFailure::Late), SendFailure::ConnectTimeout);
        let of_tls = |error: rustls::Error| of(handshaking(io::Error::new(io::ErrorKind::InvalidData, error)).as_ref());
        for error in [
            rustls::Error::InvalidCertificate(rustls::CertificateError::Expired),
            rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer),
            rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidForName),
            rustls::Error::NoCertificatesPresented,
        ] {
            assert_eq!(of_tls(error), SendFailure::Tls(TlsFailure::Certificate));
        }
        for error in [
            rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure),
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
        ] {
            assert_eq!(of_tls(error), SendFailure::Tls(TlsFailure::Protocol));
        }
        let cut = of(handshaking(io::ErrorKind::UnexpectedEof.into()).as_ref());
        assert_eq!(cut, SendFailure::Tls(TlsFailure::Ended));
        assert!(!cut.to_string().contains("certificate"), "{cut}");
    }

    #[test]
    fn a_refusal_by_the_guard_takes_precedence() {
        let blocked = EgressError::HostBlocked("inside.example".to_owned());
        let failure = of(&ConnectFailure::Tcp(Box::new(blocked.clone())));
        assert_eq!(failure, SendFailure::Blocked(blocked));
    }
}
