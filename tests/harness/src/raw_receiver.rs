//! A destination that answers with raw bytes, which need not be HTTP, and closes its connections as the test specifies.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::error::{Doing as _, Result};

/// What happens to a connection after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It stays open for the next request.
    Keep,
    /// It is closed at once.
    Close,
    /// It is closed if no request arrives within this time.
    CloseAfter(Duration),
}

/// A running destination. Dropping it closes its port and every connection.
#[derive(Debug)]
pub struct RawReceiver {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<RawRequest>>>,
    task: JoinHandle<()>,
}

/// A request that arrived completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRequest {
    /// The request line and the headers, byte for byte.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

impl RawReceiver {
    /// Starts a destination that answers every request with `answer`.
    ///
    /// # Errors
    /// Returns an error if no port is free.
    pub async fn start(answer: impl Into<Vec<u8>>, then: Then) -> Result<Self> {
        let listening = || "cannot listen on a free port".to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.doing(listening)?;
        let address = listener.local_addr().doing(listening)?;
        let requests = Arc::default();
        let task = tokio::spawn(accept(listener, Arc::new(answer.into()), then, Arc::clone(&requests)));
        Ok(Self { address, requests, task })
    }

    /// The URL to deliver to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// All requests so far, in the order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<RawRequest> {
        lock(&self.requests).clone()
    }
}

impl Drop for RawReceiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawRequest {
    /// The bytes of a header's value, if the header is present. Ignores the case of `name`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.head.split(|byte| *byte == b'\n').find_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let is_it = line.get(..colon)?.eq_ignore_ascii_case(name.as_bytes());
            line.get(colon + 1..).filter(|_| is_it).map(<[u8]>::trim_ascii)
        })
    }
}

async fn accept(listener: TcpListener, answer: Arc<Vec<u8>>, then: Then, requests: Arc<Mutex<Vec<RawRequest>>>) {
    // Dropping the set closes its connections when this task is aborted.
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        connections.spawn(serve(socket, Arc::clone(&answer), then, Arc::clone(&requests)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut socket: TcpStream, answer: Arc<Vec<u8>>, then: Then, requests: Arc<Mutex<Vec<RawRequest>>>) {
    let idle = if let Then::CloseAfter(time) = then { time } else { Duration::MAX };
    let mut first = true;
    loop {
        let waits = if first { Duration::MAX } else { idle };
        let Ok(Some(request)) = tokio::time::timeout(waits, read(&mut socket)).await else { return };
        lock(&requests).push(request);
        if socket.write_all(&answer).await.is_err() || then == Then::Close {
            return;
        }
        first = false;
    }
}

/// Reads the next request; `None` if the connection ends.
async fn read(socket: &mut TcpStream) -> Option<RawRequest> {
    let mut read = Vec::new();
    let head = loop {
        socket.read_buf(&mut read).await.ok().filter(|length| *length > 0)?;
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let mut request = RawRequest { body: read.split_off(head), head: read };
    let length = request.header("content-length").and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    let length = length.unwrap_or(0);
    while request.body.len() < length {
        socket.read_buf(&mut request.body).await.ok().filter(|length| *length > 0)?;
    }
    Some(request)
}

fn lock(requests: &Mutex<Vec<RawRequest>>) -> MutexGuard<'_, Vec<RawRequest>> {
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}
