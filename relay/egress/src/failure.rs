//! Why a request was not made, or got no response.

use std::error::Error;
use std::io;

use hickory_resolver::net::NetError;
use model::failure::{EgressError, SendFailure, TlsFailure};
use rustix::io::Errno;
use tokio_rustls::rustls;

use super::connector::ConnectFailure;
use super::resolver::NotResolved;

/// What the system says if this machine, or this process, has no descriptors, ports or memory left.
const OURS: [Errno; 5] = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];

/// Why the client has no response. Decides by the types in the error's chain, never by a text: which step has failed
/// comes first, and what the system said about it second.
pub(super) fn of(error: &(dyn Error + 'static)) -> SendFailure {
    match find::<ConnectFailure>(error) {
        Some(ConnectFailure::Late) => SendFailure::ConnectTimeout,
        Some(ConnectFailure::Tcp(error)) => dialled(error.as_ref()),
        Some(ConnectFailure::Tls(error)) => shaken(error),
        None if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) => SendFailure::NotHttp,
        None => SendFailure::NoResponse,
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
                let failure = of(fails(system(code)).as_ref());
                assert_eq!(failure, expected, "{step}: {code}");
                assert_eq!(failure.code() == "tls_failed", matches!(failure, SendFailure::Tls(_)));
            }
        }
    }

    #[test]
    fn what_this_machine_lacks_is_ours_in_every_step_that_opens_something() {
        for code in OURS {
            for fails in [resolving, dialling, shaking] {
                let failure = of(fails(system(code)).as_ref());
                assert!(matches!(failure, SendFailure::Ours(_)), "{code}: {failure:?}");
            }
        }
    }

    #[test]
    fn a_handshake_that_is_late_ended_refused_or_not_understood_is_told_apart() {
        assert_eq!(of(&ConnectFailure::Late), SendFailure::ConnectTimeout);
        let of_tls = |error: rustls::Error| of(shaking(io::Error::new(io::ErrorKind::InvalidData, error)).as_ref());
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
        let cut = of(shaking(io::ErrorKind::UnexpectedEof.into()).as_ref());
        assert_eq!(cut, SendFailure::Tls(TlsFailure::Ended));
        assert!(!cut.to_string().contains("certificate"), "{cut}");
    }

    #[test]
    fn a_guard_that_refuses_is_told_before_everything_else() {
        let blocked = EgressError::HostBlocked("inside.example".to_owned());
        let failure = of(&ConnectFailure::Tcp(Box::new(blocked.clone())));
        assert_eq!(failure, SendFailure::Blocked(blocked));
    }
}
