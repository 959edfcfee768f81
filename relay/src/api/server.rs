//! The API's listener: it accepts connections up to a limit, and ends those that are too slow.
//!
//! Connections beyond the limit are not accepted: they wait in the kernel and use no file descriptor.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

/// The maximum number of connections at a time, without those whose call waits.
pub const MAX_CONNECTIONS: usize = 1_024;

/// How many connections may be open at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Of connections whose call does not wait.
    pub connections: usize,
    /// Of connections whose call waits.
    pub waiting: usize,
}

/// Time limits for callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The time to send the head of a request, and the time for which a connection may be idle.
    pub head: Duration,
    /// The time to send the body of a request.
    pub body: Duration,
    /// The time without progress while a response is sent.
    pub write: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { head: Duration::from_secs(10), body: Duration::from_secs(20), write: Duration::from_secs(30) }
    }
}

/// The place of a connection among those of the API, in the extensions of each request. A call that waits lends it to
/// another connection: calls that wait for minutes must not keep others out.
#[derive(Debug, Clone)]
pub(super) struct Place(Arc<Mutex<Taken>>);

#[derive(Debug)]
struct Taken {
    slots: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Of one of the two. Dropping it frees the place.
    _held: OwnedSemaphorePermit,
    is_lent: bool,
}

/// There is no place for another connection that waits.
#[derive(Debug)]
pub(super) struct NoPlace;

impl Place {
    fn new(slots: &Arc<Semaphore>, waiting: &Arc<Semaphore>, held: OwnedSemaphorePermit) -> Self {
        let (slots, waiting) = (Arc::clone(slots), Arc::clone(waiting));
        Self(Arc::new(Mutex::new(Taken { slots, waiting, _held: held, is_lent: false })))
    }

    /// Moves the connection to the places of those that wait.
    ///
    /// # Errors
    /// Returns [`NoPlace`] if all of these are taken.
    pub(super) fn lend(&self) -> Result<(), NoPlace> {
        let mut taken = self.taken();
        if !taken.is_lent {
            taken._held = Arc::clone(&taken.waiting).try_acquire_owned().map_err(|_| NoPlace)?;
            taken.is_lent = true;
        }
        Ok(())
    }

    /// Moves the connection back. False if its place is taken: then the connection has to end after its response.
    pub(super) fn take_back(&self) -> bool {
        let mut taken = self.taken();
        if taken.is_lent
            && let Ok(held) = Arc::clone(&taken.slots).try_acquire_owned()
        {
            taken._held = held;
            taken.is_lent = false;
        }
        !taken.is_lent
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address of the caller, in the extensions of each request. Behind a proxy it is that of the proxy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// How long the listener waits after an error. The usual cause is a lack of file descriptors, which ends when other
/// connections are closed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves until `stop`, with at most as many connections at a time as there is `room` for. Then it accepts no more
/// connections, and waits until the requests in flight have been answered.
pub async fn serve(listener: TcpListener, router: Router, room: Room, patience: Patience, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(room.connections));
    let waiting = Arc::new(Semaphore::new(room.waiting));
    let tasks = TaskTracker::new();
    while let Some((socket, slot)) = accept(&listener, &slots, &stop).await {
        let place = Place::new(&slots, &waiting, slot);
        tasks.spawn(connection(socket, router.clone(), patience, stop.clone(), place));
    }
    // A client that connects from now on is refused and tries another replica.
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// The next connection, as soon as there is room for it; `None` after `stop`.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let accepted = async {
        let slot = Arc::clone(slots).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((socket, _)) => return Some((socket, slot)),
                Err(error) => {
                    tracing::warn!(%error, "the API could not accept a connection; retrying");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    };
    tokio::select! {
        accepted = accepted => accepted,
        () = stop.cancelled() => None,
    }
}

async fn connection(socket: TcpStream, router: Router, patience: Patience, stop: CancellationToken, place: Place) {
    // Otherwise a response in two writes waits for the caller's delayed acknowledgement.
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let Ok(peer) = socket.peer_addr() else { return };
    let service = service_fn(move |mut request: Request<Incoming>| {
        let mut router = router.clone();
        request.extensions_mut().insert(Peer(peer.ip()));
        request.extensions_mut().insert(place.clone());
        async move {
            let answered: Result<_, Infallible> =
                router.call(request.map(|body| Timed::new(body, patience.body))).await;
            answered
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .serve_connection(TokioIo::new(Impatient { socket, write: patience.write, until: None }), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the API ended early");
    }
}

/// The body of a request did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("the request body did not arrive in time")]
pub(super) struct Late;

/// A request body that has to arrive in time.
struct Timed {
    body: Incoming,
    until: Pin<Box<Sleep>>,
}

impl Timed {
    fn new(body: Incoming, within: Duration) -> Self {
        Self { body, until: Box::pin(sleep(within)) }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => self.until.as_mut().poll(context).map(|()| Some(Err(Late.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket whose writes fail if the peer reads nothing for a while.
struct Impatient {
    socket: TcpStream,
    write: Duration,
    until: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn or_late<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.until = None;
            return written;
        }
        let until = self.until.get_or_insert_with(|| Box::pin(sleep(self.write)));
        until.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(context, buf)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.or_late(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, parts);
        self.or_late(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[cfg(test)]
#[path = "server/tests.rs"]
mod tests;
