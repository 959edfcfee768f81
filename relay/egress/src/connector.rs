//! Opens connections: resolves, dials, and does the TLS handshake, within [`CONNECT_TIMEOUT`].
//!
//! It knows which of these steps has failed, and records the bytes above TLS.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use model::failure::EgressError;
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tower_service::Service;

use super::CONNECT_TIMEOUT;
use super::policy::server_name;
use super::resolver::VettingResolver;
use super::wire::Wire;

/// Opens a connection to the origin of a URL.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector<VettingResolver>,
    tls: TlsConnector,
}

/// The step that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectFailure {
    #[error("connecting timed out")]
    Late,
    /// Resolving or dialling.
    #[error("cannot connect")]
    Tcp(#[source] Box<dyn Error + Send + Sync>),
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
}

impl Connector {
    /// `roots` are trusted in addition to the certificates that the machine trusts.
    pub(super) fn new(resolver: VettingResolver, roots: Vec<CertificateDer<'static>>) -> Result<Self, EgressError> {
        let client = |error: tokio_rustls::rustls::Error| EgressError::Client(error.to_string());
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider)).map_err(client)?;
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = versions
            .map_err(client)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { tcp, tls: TlsConnector::from(Arc::new(config)) })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Watched>;
    type Error = ConnectFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (tcp, tls) = (self.tcp.clone(), self.tls.clone());
        Box::pin(async move {
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(tcp, tls, uri)).await;
            let stream = connected.unwrap_or(Err(ConnectFailure::Late))?;
            Ok(TokioIo::new(Watched { wire: Wire::open(!stream.is_http2()), stream }))
        })
    }
}

async fn connect(
    mut tcp: HttpConnector<VettingResolver>,
    tls: TlsConnector,
    uri: Uri,
) -> Result<Stream, ConnectFailure> {
    let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
    let name = uri.host().and_then(server_name);
    std::future::poll_fn(|context| tcp.poll_ready(context)).await.map_err(|error| ConnectFailure::Tcp(error.into()))?;
    let socket = tcp.call(uri).await.map_err(|error| ConnectFailure::Tcp(error.into()))?.into_inner();
    if !is_tls {
        return Ok(Stream::Plain(socket));
    }
    let name = name.ok_or_else(|| ConnectFailure::Tls(io::ErrorKind::InvalidInput.into()))?;
    let stream = tls.connect(name, socket).await.map_err(ConnectFailure::Tls)?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// An open connection. It fails if it receives more than its requests allow, and if a request follows a malformed
/// response.
pub(super) struct Watched {
    stream: Stream,
    wire: Wire,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn is_http2(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            Self::Plain(_) => false,
        }
    }
}

impl Watched {
    /// Performs a write that begins with `bytes`.
    fn write(
        &mut self,
        bytes: &[u8],
        write: impl FnOnce(&mut Stream) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if !self.wire.write(bytes) {
            return Poll::Ready(Err(io::Error::other("the answer before was odd: no request follows it")));
        }
        let written = ready!(write(&mut self.stream));
        if written.is_err() {
            self.wire.end();
        }
        Poll::Ready(written)
    }
}

impl Connection for Watched {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.wire.clone());
        if self.stream.is_http2() { connected.negotiated_h2() } else { connected }
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = ready!(match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buf),
        });
        let bytes = buf.filled().get(before..).unwrap_or_default();
        if read.is_err() || bytes.is_empty() {
            this.wire.end();
            return Poll::Ready(read);
        }
        let is_allowed = this.wire.read(bytes);
        Poll::Ready(if is_allowed { Ok(()) } else { Err(io::Error::other("more was sent than any answer needs")) })
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write(bytes, |stream| match stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = parts.iter().find(|part| !part.is_empty()).map_or(&[][..], |part| &part[..]);
        self.get_mut().write(first, |stream| match stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        })
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
