//! Tests over real sockets. Receivers count their connections, so that "refused" means that nothing was sent.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

mod odd;
mod reuse;
mod scripted;
mod tls;

/// A server that gives the same response to every request and keeps the heads of the requests.
struct Receiver {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: mpsc::UnboundedReceiver<String>,
}

impl Receiver {
    async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        Self::answering_at("127.0.0.1:0", answer).await
    }

    async fn answering_at(address: &str, answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let (sender, requests) = mpsc::unbounded_channel();
        let answer: Arc<Vec<u8>> = Arc::new(answer.into());
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                let (answer, sender) = (Arc::clone(&answer), sender.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    let mut buffer = [0; 1024];
                    while let Ok(length @ 1..) = socket.read(&mut buffer).await {
                        head.extend_from_slice(&buffer[..length]);
                        if head.ends_with(b"\r\n\r\n") {
                            let _ = sender.send(String::from_utf8_lossy(&head).to_lowercase());
                            head.clear();
                            let _ = socket.write_all(&answer).await;
                        }
                    }
                });
            }
        });
        Self { address, connections, requests }
    }

    fn url(&self, host: &str) -> Url {
        Url::parse(&format!("http://{host}:{}/hook", self.address.port())).expect("a url")
    }

    fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn egress(allow: &str) -> Egress {
    let allow = EgressPolicy::parse_allow_list(allow).expect("ranges");
    Egress::new(EgressPolicy { allow, ports: Ports::Any }).expect("a client")
}

async fn send(egress: &Egress, url: &Url) -> Result<Answer, SendFailure> {
    send_within(egress, url, Duration::from_secs(30)).await
}

async fn send_within(egress: &Egress, url: &Url, timeout: Duration) -> Result<Answer, SendFailure> {
    egress.post(url, |_| HeaderMap::new(), Vec::new(), timeout).await
}

/// A server that writes `begin` to each connection, and then repeats `again` until the connection ends. It counts the
/// connections that have ended.
async fn streaming(begin: &'static [u8], again: &'static [u8], pace: Duration) -> (Url, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = Url::parse(&format!("http://{}/", listener.local_addr().expect("an address"))).expect("a url");
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 1024]).await;
                let mut written = socket.write_all(begin).await;
                while written.is_ok() {
                    if !pace.is_zero() {
                        tokio::time::sleep(pace).await;
                    }
                    written = socket.write_all(again).await;
                }
                count.fetch_add(1, SeqCst);
            });
        }
    });
    (url, ended)
}

/// Waits until this many connections have ended.
async fn ended(count: &AtomicUsize, expected: usize) {
    let all = async {
        while count.load(SeqCst) < expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.expect("the connections end");
}

#[tokio::test]
async fn a_literal_loopback_address_is_refused_unless_it_is_allowed() {
    let receiver = Receiver::answering(OK).await;
    let url = receiver.url("127.0.0.1");
    let failure = send(&egress(""), &url).await.expect_err("refused");
    assert_eq!(failure.code(), "egress_blocked");
    assert_eq!(receiver.connections(), 0);
    let response = send(&egress("127.0.0.0/8"), &url).await.expect("accepted");
    assert_eq!((response.status.as_u16(), receiver.connections()), (200, 1));
}

#[tokio::test]
async fn a_name_that_resolves_to_loopback_is_refused_at_connect_time() {
    let receiver = Receiver::answering(OK).await;
    let url = receiver.url("localhost");
    let guarded = egress("");
    assert_eq!(guarded.check_url(&url), Ok(()), "the name alone does not reveal its addresses");
    let failure = send(&guarded, &url).await.expect_err("refused");
    assert_eq!(failure, SendFailure::Blocked(EgressError::HostBlocked("localhost".to_owned())));
    assert!(!failure.to_string().contains("127."), "the addresses of a name are not disclosed: {failure}");
    assert_eq!(receiver.connections(), 0);
    assert!(send(&egress("127.0.0.0/8"), &url).await.is_ok());
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn the_allowed_addresses_of_a_name_are_tried_until_one_answers() {
    let v6 = Receiver::answering_at("[::1]:0", OK).await;
    // Bound and not listening: a connection is refused, and no other process takes the port.
    let refusing = tokio::net::TcpSocket::new_v4().expect("a socket");
    refusing.bind((std::net::Ipv4Addr::LOCALHOST, v6.address.port()).into()).expect("a free port");
    assert!(send(&egress("127.0.0.0/8,::1"), &v6.url("localhost")).await.is_ok());
    assert_eq!(v6.connections(), 1);
    assert!(send(&egress("::1"), &v6.url("localhost")).await.is_ok(), "an address that is not allowed is skipped");
    assert_eq!(v6.connections(), 2);
    let failure = send(&egress("127.0.0.0/8"), &v6.url("localhost")).await.expect_err("refused");
    assert_eq!((failure, v6.connections()), (SendFailure::Refused, 2));

    let v4 = Receiver::answering(OK).await;
    assert!(send(&egress("127.0.0.0/8,::1"), &v4.url("localhost")).await.is_ok());
    let failure = send(&egress("10.0.0.0/8"), &v4.url("localhost")).await.expect_err("blocked");
    assert_eq!((failure.code(), v4.connections()), ("egress_blocked", 1));
}

#[tokio::test]
async fn a_redirect_is_returned_and_not_followed() {
    let target = Receiver::answering(OK).await;
    for location in ["http://169.254.169.254/latest/meta-data/".to_owned(), target.url("127.0.0.1").to_string()] {
        let answer = format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let receiver = Receiver::answering(answer).await;
        let response = send(&egress("127.0.0.1"), &receiver.url("127.0.0.1")).await.expect("a response");
        assert_eq!(response.status.as_u16(), 307);
        assert_eq!(receiver.connections(), 1);
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn blocked_refused_unresolved_and_late_sends_are_distinguished() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let refused = Url::parse(&format!("http://{}/", closed.local_addr().expect("an address"))).expect("a url");
    drop(closed);
    let open = egress("127.0.0.1");
    assert_eq!(send(&open, &refused).await.expect_err("refused"), SendFailure::Refused);

    let unresolved = Url::parse("http://nowhere.invalid/").expect("a url");
    assert_eq!(send(&open, &unresolved).await.expect_err("unresolved"), SendFailure::NameNotResolved);

    let silent = Receiver::answering("").await;
    let late = send_within(&open, &silent.url("127.0.0.1"), Duration::from_millis(50)).await;
    assert_eq!(late.expect_err("late"), SendFailure::Timeout);

    let nonsense = Receiver::answering("220 smtp ready\r\n\r\n").await;
    assert_eq!(send(&open, &nonsense.url("127.0.0.1")).await.expect_err("not http"), SendFailure::NotHttp);

    let plain = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = Url::parse(&format!("https://{}/", plain.local_addr().expect("an address"))).expect("a url");
    tokio::spawn(async move {
        let (mut socket, _) = plain.accept().await.expect("a connection");
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        // Kept open until the client is done: the written bytes have to arrive before the connection ends.
        let _ = socket.read_to_end(&mut Vec::new()).await;
    });
    assert_eq!(send(&open, &url).await.expect_err("no tls"), SendFailure::Tls(TlsFailure::Protocol));
}

#[tokio::test]
async fn a_request_asks_for_no_compression_and_carries_no_referer() {
    let mut receiver = Receiver::answering(OK).await;
    send(&egress("127.0.0.1"), &receiver.url("127.0.0.1")).await.expect("a response");
    let head = receiver.requests.recv().await.expect("a request");
    assert!(head.contains("accept-encoding: identity\r\n"), "{head}");
    assert!(head.contains("user-agent: tidegate/"), "{head}");
    assert!(!head.contains("referer"), "{head}");
}

#[tokio::test]
async fn connections_are_reused() {
    let receiver = Receiver::answering(OK).await;
    let egress = egress("127.0.0.1");
    for _ in 0..5 {
        let response = send(&egress, &receiver.url("127.0.0.1")).await.expect("a response");
        assert_eq!(response.excerpt(RESPONSE_EXCERPT_BYTES).finish().await, (b"ok".to_vec(), false));
    }
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_response_is_kept_up_to_the_limit() {
    let egress = egress("127.0.0.1");
    for (length, kept, truncated) in
        [(0, 0, false), (99, 99, false), (100, 100, false), (101, 100, true), (1 << 20, 100, true)]
    {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        let receiver = Receiver::answering([head.into_bytes(), vec![b'x'; length]].concat()).await;
        let response = send(&egress, &receiver.url("127.0.0.1")).await.expect("a response");
        let (bytes, cut) = response.excerpt(100).finish().await;
        assert_eq!((bytes.len(), cut), (kept, truncated), "{length}");
    }
}

#[tokio::test]
async fn a_flood_of_interim_responses_fails_long_before_the_timeout() {
    let storm = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n".repeat(64).leak();
    let (url, closed) = streaming(storm, storm, Duration::ZERO).await;
    let egress = egress("127.0.0.1");
    let failures = tokio::time::timeout(Duration::from_secs(60), async {
        [send(&egress, &url).await, send_within(&egress, &url, Duration::from_secs(3_600)).await]
    });
    for failure in failures.await.expect("it does not wait for the timeout") {
        assert_eq!(failure.expect_err("no response"), SendFailure::TooMuch);
    }
    ended(&closed, 2).await;
}

#[tokio::test]
async fn a_slow_interim_response_fails_at_the_timeout_and_its_connection_ends() {
    let (url, closed) = streaming(b"HTTP/1.1 103 Early Hints\r\nx: ", b"y", Duration::from_millis(5)).await;
    let failure = send_within(&egress("127.0.0.1"), &url, Duration::from_millis(300)).await.expect_err("no response");
    assert_eq!(failure, SendFailure::Timeout);
    ended(&closed, 1).await;
}

#[tokio::test]
async fn a_few_interim_responses_are_skipped() {
    let answer = format!("{}{OK}", "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n".repeat(100));
    let receiver = Receiver::answering(answer).await;
    let egress = egress("127.0.0.1");
    for _ in 0..200 {
        let response = send(&egress, &receiver.url("127.0.0.1")).await.expect("a response");
        assert_eq!(response.excerpt(100).finish().await, (b"ok".to_vec(), false));
    }
    assert_eq!(receiver.connections(), 1, "each request has an allowance of its own");
}

#[tokio::test]
async fn a_response_with_an_endless_or_slow_body_counts_and_its_connection_is_dropped() {
    let egress = egress("127.0.0.1");
    for pace in [Duration::ZERO, Duration::from_millis(10)] {
        let chunk: &'static [u8] = if pace.is_zero() {
            [b"1000\r\n".as_slice(), &[b'x'; 4096], b"\r\n"].concat().leak()
        } else {
            b"1\r\nx\r\n"
        };
        let (url, closed) = streaming(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk, pace).await;
        let response = send_within(&egress, &url, Duration::from_secs(3_600)).await.expect("a response");
        assert_eq!(response.status.as_u16(), 200);
        let (excerpt, cut) = response.excerpt(RESPONSE_EXCERPT_BYTES).finish().await;
        assert!(cut && !excerpt.is_empty() && excerpt.iter().all(|byte| *byte == b'x'), "{}", excerpt.len());
        assert_eq!(excerpt.len() == RESPONSE_EXCERPT_BYTES, pace.is_zero(), "{}", excerpt.len());
        ended(&closed, 1).await;
    }
}

#[tokio::test]
async fn the_received_part_of_a_body_that_stops_is_kept_and_marked_as_cut() {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\npart").await;
    let response = send(&egress("127.0.0.1"), &receiver.url("127.0.0.1")).await.expect("a head");
    assert_eq!(response.excerpt(100).finish().await, (b"part".to_vec(), true));
}

#[tokio::test]
async fn a_reset_over_plain_http_is_not_a_tls_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = Url::parse(&format!("http://{}/", listener.local_addr().expect("an address"))).expect("a url");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // With this set, closing the socket resets the connection.
            let _ = socket.set_zero_linger();
        }
    });
    let egress = egress("127.0.0.1");
    for _ in 0..50 {
        let failure = send(&egress, &url).await.expect_err("reset");
        assert!(matches!(failure, SendFailure::NoResponse | SendFailure::Unreachable), "{failure:?}");
    }
}

const CHILD_TARGET: &str = "TIDEGATE_TEST_CHILD_TARGET";

#[tokio::test]
async fn a_proxy_in_the_environment_is_not_used() {
    let target = Receiver::answering(OK).await;
    let proxy = Receiver::answering(OK).await;
    let proxy_url = proxy.url("127.0.0.1").to_string();
    let url = target.url("127.0.0.1").to_string();
    // The environment of a running process cannot be changed safely, so a separate process sends.
    let child = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(std::env::current_exe().expect("this test's binary"));
        command.args(["--exact", "tests::child_sends_to_the_address_in_its_environment", "--ignored"]);
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            command.env(name, &proxy_url);
        }
        command.env_remove("NO_PROXY").env_remove("no_proxy").env(CHILD_TARGET, url).output().expect("a process")
    });
    let output = child.await.expect("a process");
    assert!(output.status.success(), "{output:?}");
    assert_eq!((target.connections(), proxy.connections()), (1, 0));
}

#[tokio::test]
#[ignore = "run by a_proxy_in_the_environment_is_not_used in a separate process"]
#[expect(clippy::disallowed_methods, reason = "the target comes from the environment")]
async fn child_sends_to_the_address_in_its_environment() {
    let url = std::env::var(CHILD_TARGET).expect("the target").parse().expect("a url");
    assert_eq!(send(&egress("127.0.0.1"), &url).await.expect("a response").status.as_u16(), 200);
}
