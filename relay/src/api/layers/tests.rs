//! Tests over a real listener.

use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::api::server::{Patience, Room, serve};

/// Long enough for every expected event, even on a busy machine.
const SOON: Duration = Duration::from_secs(60);

async fn panics() -> &'static str {
    panic!("the secret of the handler")
}

/// Starts a server with these calls, each with this time limit. Returns its address.
async fn start(within: Duration) -> std::net::SocketAddr {
    let router = Router::new()
        .route("/here", get(|| async { "here" }))
        .route("/panics", get(panics))
        .route("/hangs", get(std::future::pending::<&'static str>));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = around(router, within);
    let room = Room { connections: 10, waiting: 10 };
    drop(tokio::spawn(serve(listener, router, room, Patience::default(), CancellationToken::new())));
    address
}

/// Sends a request on a connection, which stays open, and reads the response.
async fn request(connection: &mut TcpStream, path: &str, headers: &str) -> String {
    let text = format!("GET {path} HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
    connection.write_all(text.as_bytes()).await.expect("sends");
    let mut text = String::new();
    let read = async {
        loop {
            let mut part = [0; 4_096];
            let count = connection.read(&mut part).await.expect("reads");
            assert!(count > 0, "the connection is closed after {text:?}");
            text.push_str(std::str::from_utf8(&part[..count]).expect("text"));
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = header(head, "content-length").expect("a length").parse().expect("a number");
            if body.len() >= length {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, read).await.expect("responds");
    text
}

fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().take_while(|line| !line.is_empty());
    lines.filter_map(|line| line.split_once(": ")).find(|(found, _)| *found == name).map(|(_, value)| value)
}

#[tokio::test]
async fn a_handler_that_panics_answers_500_with_a_problem_document_and_the_connection_stays_open() {
    let mut connection = TcpStream::connect(start(SOON).await).await.expect("connects");
    for _ in 0..2 {
        let response = request(&mut connection, "/panics", "").await;
        assert!(response.starts_with("HTTP/1.1 500 "), "{response}");
        assert_eq!(header(&response, "content-type"), Some("application/problem+json"));
        assert!(header(&response, "x-request-id").is_some_and(|id| id.len() == 36), "{response}");
        assert!(response.contains("\"code\":\"internal\"") && !response.contains("secret"), "{response}");
        assert!(request(&mut connection, "/here", "").await.ends_with("here"));
    }
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_cancelled_with_a_problem_document() {
    let mut connection = TcpStream::connect(start(Duration::from_millis(50)).await).await.expect("connects");
    let response = request(&mut connection, "/hangs", "").await;
    assert!(response.starts_with("HTTP/1.1 504 ") && response.contains("\"code\":\"took_too_long\""), "{response}");
    assert_eq!(header(&response, "content-type"), Some("application/problem+json"));
    assert!(request(&mut connection, "/here", "").await.ends_with("here"));
}

#[tokio::test]
async fn a_plain_request_id_is_kept_and_any_other_is_replaced() {
    let mut connection = TcpStream::connect(start(SOON).await).await.expect("connects");
    let response = request(&mut connection, "/here", "x-request-id: my-id_1.2\r\n").await;
    assert_eq!(header(&response, "x-request-id"), Some("my-id_1.2"));
    let long = "a".repeat(65);
    for odd in ["", "two words", "quote\"", long.as_str()] {
        let response = request(&mut connection, "/here", &format!("x-request-id: {odd}\r\n")).await;
        let id = header(&response, "x-request-id").expect("an id");
        assert!(id != odd && id.len() == 36, "{odd:?}: {id}");
    }
    let ids = [request(&mut connection, "/here", "").await, request(&mut connection, "/nowhere", "").await];
    assert_ne!(header(&ids[0], "x-request-id"), header(&ids[1], "x-request-id"));
}

/// Collects the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("is not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_of_a_request_has_its_id_and_path_but_not_its_query() {
    // With a single dispatcher, the first thread at a log statement decides for all threads whether it is enabled. That
    // could be a thread of another test, which has no subscriber.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let log = Log::default();
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || written.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut connection = TcpStream::connect(start(SOON).await).await.expect("connects");
    request(&mut connection, "/panics?token=sesame", "x-request-id: my-id\r\n").await;
    let text = String::from_utf8(log.0.lock().expect("is not poisoned").clone()).expect("text");
    assert!(text.contains("a request failed") && text.contains("the secret of the handler"), "{text}");
    assert!(text.contains("path=\"/panics\"") && text.contains("request_id=\"my-id\""), "{text}");
    assert!(!text.contains("sesame"), "{text}");
}
