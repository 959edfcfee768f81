//! A small HTTP/1.1 server on loopback, for the parts of the harness that must be able to fail: a handler can cut the
//! connection instead of answering.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// How the connection ends if a handler does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Closed cleanly (FIN).
    Close,
    /// Reset (RST).
    Reset,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the handler cut the connection")
    }
}

impl std::error::Error for Cut {}

/// The result of a handler.
pub type Answer = Result<Response<Body>, Cut>;

type BoxedAnswer = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A handler with its types erased, so that it can be shared between connections.
type Handler = Arc<dyn Fn(Request<Incoming>) -> BoxedAnswer + Send + Sync>;

/// A running server. Dropping it closes its port and every connection.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens on 127.0.0.1; port 0 selects a free one.
    ///
    /// # Errors
    /// Returns an error if the port is not available.
    pub async fn start<H, F>(port: u16, handler: H) -> io::Result<Self>
    where
        H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        Self::start_at((Ipv4Addr::LOCALHOST, port).into(), handler).await
    }

    /// Listens on an address; port 0 selects a free one.
    ///
    /// # Errors
    /// Returns an error if the address or the port is not available.
    pub async fn start_at<H, F>(address: SocketAddr, handler: H) -> io::Result<Self>
    where
        H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let handler: Handler = Arc::new(move |request| -> BoxedAnswer { Box::pin(handler(request)) });
        let connections = Arc::default();
        let task = tokio::spawn(accept(listener, handler, Arc::clone(&connections)));
        Ok(Self { address, connections, task })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of accepted connections.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, handler: Handler, accepted: Arc<AtomicU64>) {
    // Dropping the set closes its connections when this task is aborted.
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                accepted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(serve(stream, Arc::clone(&handler)));
            }
            // Out of file descriptors: other connections have to close first.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, handler: Handler) {
    // Without it, a response in two writes waits 40 ms for the delayed acknowledgement of the peer.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| handler(request));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let end = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let cut = end.err().and_then(|error| std::error::Error::source(&error)?.downcast_ref::<Cut>().copied());
    if cut == Some(Cut::Reset) {
        let stream = connection.into_parts().io.into_inner();
        let _ = stream.set_zero_linger();
    }
}
