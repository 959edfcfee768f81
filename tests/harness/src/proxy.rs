//! A TCP proxy between the relay and PostgreSQL, for faults that stopping or restarting a database does not produce: a
//! database that falls silent without closing its connections, and a lost response to a commit that was made.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The simple query that commits a transaction (PostgreSQL, "Message Formats": `Query`).
const COMMIT: &[u8] = b"COMMIT\0";

/// A running proxy. Dropping it closes its port and every connection.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    /// Connections whose number, from [`Shared::begun`], is below this forward nothing.
    silent_before: watch::Sender<u64>,
    begun: AtomicU64,
    loss: Mutex<Option<Loss>>,
    lost: AtomicU64,
}

/// The responses to lose.
#[derive(Debug, Clone)]
struct Loss {
    /// A response is lost only on a connection that has sent these bytes since its last commit.
    after: Vec<u8>,
    left: u64,
}

impl Proxy {
    /// Starts a proxy on a free port.
    ///
    /// # Errors
    /// Returns an error if it cannot listen.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            silent_before: watch::Sender::new(0),
            begun: AtomicU64::new(1),
            loss: Mutex::default(),
            lost: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, task })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes every open connection fall silent, permanently and in both directions: nothing is forwarded and nothing is
    /// closed. New connections work, as to a standby that has taken over the address.
    pub fn silence(&self) {
        self.shared.silent_before.send_replace(self.shared.begun.load(Ordering::SeqCst));
    }

    /// Loses the responses to the next `times` commits on connections that have sent `after` since their last commit:
    /// the database commits and responds, and the proxy closes the connection instead of forwarding the response.
    pub fn lose_commits(&self, after: &[u8], times: u64) {
        *self.shared.loss() = Some(Loss { after: after.to_vec(), left: times });
    }

    /// The number of lost responses to commits.
    #[must_use]
    pub fn lost_commits(&self) -> u64 {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn loss(&self) -> std::sync::MutexGuard<'_, Option<Loss>> {
        self.loss.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether to lose the response to this commit. Counts it if so.
    fn strikes(&self, sent: &[u8]) -> bool {
        match self.loss().as_mut() {
            Some(loss) if loss.left > 0 && contains(sent, &loss.after) => {
                loss.left -= 1;
                true
            }
            Some(_) | None => false,
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(connect(client, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(client: TcpStream, shared: Arc<Shared>) {
    let number = shared.begun.fetch_add(1, Ordering::SeqCst);
    let Ok(server) = TcpStream::connect(shared.upstream).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (lose, lost) = watch::channel(false);
    let mut silent = shared.silent_before.subscribe();
    // Both halves end together: dropping them closes both connections.
    let forward = async {
        tokio::select! {
            () = requests(from_client, to_server, &shared, &lose) => {}
            () = answers(from_server, to_client, &shared, lost) => {}
        }
    };
    let silenced = async { silent.wait_for(|before| number < *before).await.map(drop) };
    tokio::pin!(forward);
    tokio::select! {
        () = &mut forward => {}
        // The sockets stay open and are not read; the task ends with the proxy.
        _ = silenced => std::future::pending().await,
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, lose: &watch::Sender<bool>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut since_commit = Vec::new();
    loop {
        let Ok(count) = from.read(&mut buffer).await else { return };
        if count == 0 {
            return;
        }
        since_commit.extend_from_slice(&buffer[..count]);
        if contains(&since_commit, COMMIT) {
            if shared.strikes(&since_commit) {
                lose.send_replace(true);
            }
            since_commit.clear();
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, lost: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(count) = from.read(&mut buffer).await else { return };
        if count == 0 {
            return;
        }
        if *lost.borrow() {
            // The server has responded, so the commit has been made.
            shared.lost.fetch_add(1, Ordering::SeqCst);
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that returns the bytes it reads.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("listens");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    async fn echoed(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(text).await?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_silenced_connection_is_neither_answered_nor_closed_and_a_new_one_works() {
        let proxy = Proxy::start(echo().await).await.expect("starts");
        let mut old = TcpStream::connect(proxy.address()).await.expect("connects");
        assert_eq!(echoed(&mut old, b"before").await.expect("answers"), b"before");
        proxy.silence();
        let mut new = TcpStream::connect(proxy.address()).await.expect("connects");
        assert_eq!(echoed(&mut new, b"after").await.expect("answers"), b"after");
        let silent = tokio::time::timeout(std::time::Duration::from_millis(200), echoed(&mut old, b"lost")).await;
        assert!(silent.is_err(), "{silent:?}");
    }

    #[tokio::test]
    async fn the_response_to_a_commit_is_lost_after_the_commit_and_only_on_matching_connections() {
        let proxy = Proxy::start(echo().await).await.expect("starts");
        proxy.lose_commits(b"marked", 1);
        let mut other = TcpStream::connect(proxy.address()).await.expect("connects");
        assert_eq!(echoed(&mut other, COMMIT).await.expect("answers"), COMMIT);
        let mut marked = TcpStream::connect(proxy.address()).await.expect("connects");
        assert_eq!(echoed(&mut marked, b"marked").await.expect("answers"), b"marked");
        assert!(echoed(&mut marked, COMMIT).await.is_err(), "the connection is closed instead of the response");
        assert_eq!(proxy.lost_commits(), 1);
    }
}
