//! A server that answers each request as a test says, and then does something to the connection.

use super::*;

/// What the server does with a connection after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Keep,
    Close,
    Reset,
    /// Neither answers nor closes.
    Hang,
}

/// Identifies a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Which {
    /// Counted from 1, over all connections.
    pub(super) request: usize,
    /// Counted from 1, on its connection.
    pub(super) on_connection: usize,
}

pub(super) struct Scripted {
    pub(super) url: Url,
    connections: Arc<AtomicUsize>,
    bodies: Arc<std::sync::Mutex<Vec<Vec<u8>>>>,
}

impl Scripted {
    pub(super) async fn start(answer: impl Fn(Which) -> (Vec<u8>, Then) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = Url::parse(&format!("http://{}/hook", listener.local_addr().expect("an address"))).expect("a url");
        let scripted = Self { url, connections: Arc::default(), bodies: Arc::default() };
        let (connections, bodies) = (Arc::clone(&scripted.connections), Arc::clone(&scripted.bodies));
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                connections.fetch_add(1, SeqCst);
                let (answer, bodies) = (Arc::clone(&answer), Arc::clone(&bodies));
                tokio::spawn(async move {
                    let mut on_connection = 0;
                    while let Some(body) = read(&mut socket).await {
                        on_connection += 1;
                        let request = {
                            let mut bodies = bodies.lock().expect("not poisoned");
                            bodies.push(body);
                            bodies.len()
                        };
                        let (text, then) = answer(Which { request, on_connection });
                        let _ = socket.write_all(&text).await;
                        match then {
                            Then::Keep => {}
                            Then::Close => return,
                            Then::Reset => return drop(socket.set_zero_linger()),
                            Then::Hang => std::future::pending().await,
                        }
                    }
                });
            }
        });
        scripted
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    /// The bodies of the requests that have arrived.
    pub(super) fn bodies(&self) -> Vec<Vec<u8>> {
        self.bodies.lock().expect("not poisoned").clone()
    }

    pub(super) fn requests(&self) -> usize {
        self.bodies().len()
    }
}

/// The body of the next request on a connection.
async fn read(socket: &mut tokio::net::TcpStream) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let head = loop {
        let length = socket.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
        read.extend_from_slice(&buffer[..length]);
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&read[..head]).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let end = head + length.unwrap_or(0);
    while read.len() < end {
        let length = socket.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
        read.extend_from_slice(&buffer[..length]);
    }
    Some(read[head..end].to_vec())
}
