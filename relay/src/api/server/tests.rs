//! Tests over real sockets, with short time limits.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use axum::body::Bytes;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::api::input::Body as Json;

/// Long enough for every expected event, even on a busy machine.
const SOON: Duration = Duration::from_secs(60);

const SHORT: Patience =
    Patience { head: Duration::from_millis(400), body: Duration::from_millis(400), write: Duration::from_millis(400) };

/// Limits that no caller in a test reaches.
const LONG: Patience =
    Patience { head: Duration::from_secs(600), body: Duration::from_secs(600), write: Duration::from_secs(600) };

struct Running {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Running {
    async fn start(router: Router, connections: usize, patience: Patience) -> Self {
        Self::start_with(router, Room { connections, waiting: connections }, patience).await
    }

    async fn start_with(router: Router, room: Room, patience: Patience) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, router, room, patience, stop.clone()));
        Self { address, stop, serving }
    }

    /// Opens a connection and sends these bytes.
    async fn send(&self, bytes: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).await.expect("connects");
        socket.write_all(bytes.as_bytes()).await.expect("sends");
        socket
    }
}

/// Reads until the server closes the connection.
async fn rest(mut socket: TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(SOON, socket.read_to_end(&mut text)).await.expect("the server closes it");
    // If the server has not read everything, it ends the connection with a reset.
    let _ = read;
    String::from_utf8_lossy(&text).into_owned()
}

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "here" }))
        .route("/json", post(|Json(value): Json<serde_json::Value>| async move { value.to_string() }))
        .route("/large", get(|| async { Bytes::from(vec![b'x'; 64 << 20]) }))
}

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn connections_that_send_nothing_or_half_a_head_are_closed() {
    // Both ends of each connection are file descriptors of this process.
    let files = crate::descriptors::raise();
    assert!(files.is_none_or(|files| files > 3_000), "the hard limit of open files is {files:?}");
    let server = Running::start(router(), MAX_CONNECTIONS, SHORT).await;
    let mut sockets = Vec::new();
    for number in 0..1_000 {
        sockets.push(server.send(if number % 2 == 0 { "" } else { "GET / HTTP/1.1\r\nhost: " }).await);
    }
    for socket in sockets {
        assert!(!rest(socket).await.contains("200 OK"));
    }
    assert!(rest(server.send(REQUEST).await).await.ends_with("here"));
}

#[tokio::test]
async fn a_connection_that_is_idle_after_a_request_is_closed() {
    let server = Running::start(router(), 1, SHORT).await;
    let text = rest(server.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await).await;
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.ends_with("here"), "{text}");
}

#[tokio::test]
async fn half_a_body_is_answered_with_408_and_the_connection_is_closed() {
    let server = Running::start(router(), 1, SHORT).await;
    let text = rest(server.send("POST /json HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{").await).await;
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("body_too_slow"), "{text}");
    let whole = "POST /json HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    assert!(rest(server.send(whole).await).await.ends_with("{}"));
}

#[tokio::test]
async fn a_caller_that_does_not_read_its_response_is_disconnected() {
    let server = Running::start(router(), 1, Patience { write: SHORT.write, ..LONG }).await;
    let greedy = server.send("GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(rest(server.send(REQUEST).await).await.ends_with("here"), "the next connection is accepted");
    assert!(rest(greedy).await.len() < 64 << 20);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_others_have_ended() {
    let (now, most, go_on) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let busy = {
        let (now, most, go_on) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&go_on));
        move || async move {
            most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            go_on.acquire().await.expect("is open").forget();
            now.fetch_sub(1, SeqCst);
            "done"
        }
    };
    let server = Running::start(Router::new().route("/", get(busy)), 2, LONG).await;
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(server.send(REQUEST).await);
    }
    for socket in waiting {
        go_on.add_permits(1);
        // The first connection is not always the first to be answered.
        drop(tokio::spawn(rest(socket)));
    }
    go_on.add_permits(1);
    assert!(rest(server.send(REQUEST).await).await.ends_with("done"), "all earlier requests have been answered");
    assert_eq!(most.load(SeqCst), 2);
}

#[tokio::test]
async fn a_shutdown_closes_idle_connections_and_answers_requests_in_flight() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        move || async move {
            begun.notify_one();
            go_on.notified().await;
            "done"
        }
    };
    let server = Running::start(router().route("/slow", get(slow)), 10, LONG).await;
    let idle = server.send("").await;
    let in_flight = server.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    begun.notified().await;
    server.stop.cancel();
    assert_eq!(rest(idle).await, "");
    assert!(!server.serving.is_finished());
    go_on.notify_one();
    assert!(rest(in_flight).await.ends_with("done"));
    tokio::time::timeout(SOON, server.serving).await.expect("the server stops").expect("without a panic");
    assert!(TcpStream::connect(server.address).await.is_err());
}

/// A call that lends its place, says so, and waits until it is allowed to end.
fn waiting_router(waits: &Arc<AtomicUsize>, end: &Arc<Notify>) -> Router {
    let (waits, end) = (Arc::clone(waits), Arc::clone(end));
    let wait = move |axum::Extension(place): axum::Extension<Place>| async move {
        if place.lend().is_err() {
            return "no place";
        }
        waits.fetch_add(1, SeqCst);
        end.notified().await;
        if place.take_back() { "back" } else { "lent" }
    };
    router().route("/wait", get(wait))
}

const WAIT: &str = "GET /wait HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_call_that_waits_leaves_its_place_to_others_until_all_places_of_those_that_wait_are_taken() {
    let (waits, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let room = Room { connections: 2, waiting: 1 };
    let server = Running::start_with(waiting_router(&waits, &end), room, LONG).await;
    let first = server.send(WAIT).await;
    let idle = server.send("").await;
    // One connection waits and one is idle, and a third one is served.
    assert!(rest(server.send(REQUEST).await).await.ends_with("here"));
    assert_eq!(waits.load(SeqCst), 1);
    assert!(rest(server.send(WAIT).await).await.ends_with("no place"));
    // Its own place is taken by now: the listener has it for the next connection.
    end.notify_one();
    assert!(rest(first).await.ends_with("lent"));
    drop(idle);
}

#[tokio::test]
async fn a_call_that_has_waited_takes_its_place_back_if_it_is_free() {
    let (waits, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let room = Room { connections: 3, waiting: 1 };
    let server = Running::start_with(waiting_router(&waits, &end), room, LONG).await;
    for _ in 0..2 {
        end.notify_one();
        assert!(rest(server.send(WAIT).await).await.ends_with("back"));
    }
}
