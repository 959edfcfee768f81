//! request: the memory that the Worker needs does not depend on how much is sent to it concurrently.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::gateway::{EdgeOnly, Gateway};
use harness::memory::{peak, reset_peak};
use harness::provider::{Provider, now_s};
use harness::wait::{LONG, until};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const MIB: u64 = 1 << 20;

/// The body of a large request: almost the largest that is accepted.
const LARGE: usize = 24_000_000;

/// The maximum memory that a Worker may take in addition to its memory at rest. An isolate has 128 MB in all.
const MOST: u64 = 110 * MIB;

/// The response to a request.
struct Response {
    status: u16,
    retry_after: Option<String>,
    body: Value,
    /// The whole response.
    text: String,
}

/// How the length of a body is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
}

/// Begins a request on a new connection.
async fn begin(url: &str, headers: &[(String, String)], framing: Framing, bytes: usize) -> TcpStream {
    let (address, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
    let mut head = format!("POST /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&match framing {
        Framing::Length => format!("content-length: {bytes}\r\n\r\n"),
        Framing::Chunked => "transfer-encoding: chunked\r\n\r\n".to_owned(),
    });
    let mut connection = TcpStream::connect(address).await.expect("connects");
    connection.write_all(head.as_bytes()).await.expect("sends the head");
    connection
}

/// Writes a part of a body.
async fn write(connection: &mut (impl AsyncWrite + Unpin), framing: Framing, part: &[u8]) -> std::io::Result<()> {
    for piece in part.chunks(64 * 1024) {
        if framing == Framing::Length {
            connection.write_all(piece).await?;
        } else {
            connection.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
            connection.write_all(piece).await?;
            connection.write_all(b"\r\n").await?;
        }
    }
    Ok(())
}

/// Posts a body and reads at the same time: a response may come before all of the body is sent.
async fn post(url: &str, headers: &[(String, String)], framing: Framing, body: &[u8]) -> Response {
    let (from, mut to) = begin(url, headers, framing, body.len()).await.into_split();
    let send = async {
        let sent = write(&mut to, framing, body).await;
        if sent.is_ok() && framing == Framing::Chunked {
            let _ = to.write_all(b"0\r\n\r\n").await;
        }
        // The connection is kept open, because the response is still to be read.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answered = read_response(from) => answered,
        () = send => unreachable!("it sends until there is a response"),
    }
}

/// Whether a response has all of its body. workerd keeps the connection open.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
    match length.and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(length) => body.len() >= length,
        None => body.ends_with("0\r\n\r\n"),
    }
}

/// Reads a response.
async fn read_response(mut from: impl AsyncRead + Unpin) -> Response {
    let mut bytes = Vec::new();
    let read = async {
        let mut buffer = [0; 4_096];
        // If the connection is reset after the response, the response has been read.
        while let Ok(count) = from.read(&mut buffer).await {
            if count == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer[..count]);
            if is_whole(&bytes) {
                break;
            }
        }
    };
    tokio::time::timeout(LONG, read).await.expect("the edge answers");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let header = |line: &str| {
        line.split_once(':')
            .filter(|(name, _)| name.eq_ignore_ascii_case("retry-after"))
            .map(|(_, value)| value.trim().to_owned())
    };
    let from = body.find('{').unwrap_or(body.len());
    let until = body.rfind('}').map_or(from, |at| at + 1);
    Response {
        status,
        retry_after: head.lines().find_map(header),
        body: serde_json::from_str(&body[from..until]).unwrap_or_default(),
        text,
    }
}

/// Posts twelve large bodies concurrently, half of them without a length, while small webhooks are sent. Returns the
/// responses to the large ones and the number of small ones, each of which must be accepted.
async fn post_twelve_large(edge: &EdgeOnly, signer: &Provider, source: &Provider, url: &str) -> (Vec<Response>, usize) {
    let done = Arc::new(AtomicBool::new(false));
    let small = {
        let (done, source, url) = (Arc::clone(&done), source.clone(), url.to_owned());
        tokio::spawn(async move {
            let mut accepted = 0;
            while !done.load(Ordering::Relaxed) {
                let request = source.sample(&format!("small-{accepted}"));
                let answered = post(&url, &request.headers, Framing::Length, &request.body).await;
                assert_eq!(answered.status, 200, "a small webhook: {}", answered.text);
                accepted += 1;
            }
            accepted
        })
    };
    let mut large = JoinSet::new();
    for number in 0..12 {
        let body = vec![b'a' + number; LARGE];
        let request = signer.sign(&format!("large-{number}"), &body, now_s());
        let framing = if number % 2 == 0 { Framing::Length } else { Framing::Chunked };
        let url = url.to_owned();
        large.spawn(async move { post(&url, &request.headers, framing, &request.body).await });
    }
    let answers = large.join_all().await;
    done.store(true, Ordering::Relaxed);
    let small = small.await.expect("no small webhook is refused");
    assert!(!edge.edge.log().contains("RuntimeError"), "{}", edge.edge.log());
    (answers, small)
}

fn assert_over_the_budget(answered: &Response) {
    assert_eq!((answered.status, answered.body["error"].as_str()), (503, Some("too_busy")), "{}", answered.body);
    let seconds: u32 = answered.retry_after.as_deref().expect("retry-after").parse().expect("seconds");
    assert!((1..=120).contains(&seconds), "{seconds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_with_a_wrong_signature_take_little_memory_and_delay_no_small_webhook() {
    let edge = Gateway::bare_edge().await;
    let (right, wrong) = (Provider::github(), Provider::github());
    let source = edge.edge.put_source("strangers", &right).await;
    let request = right.sample("first");
    assert_eq!(post(&source.url, &request.headers, Framing::Length, &request.body).await.status, 200);
    reset_peak(edge.edge.id()).expect("can be reset");
    let at_rest = peak(edge.edge.id()).expect("is measured");

    let (answers, small) = post_twelve_large(&edge, &wrong, &right, &source.url).await;
    let grown = peak(edge.edge.id()).expect("is measured") - at_rest;
    let refused = answers.iter().filter(|answered| answered.status == 401).count();
    println!("at rest {} MiB, {} MiB more at most; {refused} refused, {small} small ones", at_rest / MIB, grown / MIB);
    assert!(refused > 0 && small > 0);
    answers.iter().filter(|answered| answered.status != 401).for_each(assert_over_the_budget);
    assert!(grown < MOST, "{} MiB more than at rest", grown / MIB);
    edge.wait_for_events(&source, small + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_with_a_valid_signature_are_accepted_or_answered_503_and_take_little_memory() {
    let edge = Gateway::edge_only().await;
    let provider = Provider::github();
    let source = edge.edge.put_source("signed", &provider).await;
    let request = provider.sample("first");
    assert_eq!(post(&source.url, &request.headers, Framing::Length, &request.body).await.status, 200);
    let processes = edge.edge.workerds().expect("are found");
    assert!(!processes.is_empty());
    processes.iter().for_each(|process| reset_peak(*process).expect("can be reset"));
    let all = || processes.iter().map(|process| peak(*process).expect("is measured")).sum::<u64>();
    let at_rest = all();

    let (answers, small) = post_twelve_large(&edge, &provider, &provider, &source.url).await;
    let grown = all() - at_rest;
    let accepted = answers.iter().filter(|answered| answered.status == 200).count();
    println!(
        "at rest {} MiB, {} MiB more at most; {accepted} accepted, {small} small ones",
        at_rest / MIB,
        grown / MIB
    );
    assert!(accepted > 0 && small > 0);
    // The proxy of wrangler replaces a response that comes before the body has been sent with a text of its own.
    assert!(answers.iter().all(|answered| matches!(answered.status, 200 | 503)));
    edge.wait_for_events(&source, accepted + small + 1).await;
    // The local object storage and the proxy of wrangler take some memory, too.
    assert!(grown < 3 * MOST, "{} MiB more than at rest", grown / MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stalls_or_whose_client_disconnects_frees_its_memory() {
    let edge = Gateway::bare_edge().await;
    let provider = Provider::github();
    let source = edge.edge.put_source("stopping", &provider).await;
    let body = vec![b'x'; LARGE];
    let request = Provider::github().sign("wrong", &body, now_s());
    let another = async || post(&source.url, &request.headers, Framing::Length, &body).await.status;
    let begun = async || {
        let mut connection = begin(&source.url, &request.headers, Framing::Length, LARGE).await;
        write(&mut connection, Framing::Length, &body[..1_000_000]).await.expect("sends the first bytes");
        until("the upload to take up its memory", LONG, async || match another().await {
            503 => Ok(()),
            status => Err(format!("another request gets {status}")),
        })
        .await;
        connection
    };
    let freed = async || {
        until("the memory to be free", LONG, async || match another().await {
            401 => Ok(()),
            status => Err(format!("another request gets {status}")),
        })
        .await;
    };
    drop(begun().await);
    freed().await;

    let stopped = begun().await;
    freed().await;
    let answered = read_response(stopped).await;
    assert_eq!((answered.status, answered.body["error"].as_str()), (408, Some("body_too_slow")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_can_be_refused_without_its_body_is_answered_before_the_body_is_sent() {
    let edge = Gateway::bare_edge().await;
    let stripe = Provider::stripe();
    let sources = [
        edge.edge.put_source("stripe", &stripe).await,
        edge.edge.put_source("github", &Provider::github()).await,
        edge.edge.put_source("basic", &Provider::basic()).await,
        edge.edge.put_source("token", &Provider::token()).await,
    ];
    for source in &sources {
        let answered = read_response(begin(&source.url, &[], Framing::Length, LARGE).await).await;
        assert_eq!(answered.status, 401, "{}: {}", source.config.name, answered.body);
    }
    let old = stripe.sign("old", b"{}", now_s() - 4_000);
    let answered = read_response(begin(&sources[0].url, &old.headers, Framing::Length, LARGE).await).await;
    assert_eq!(answered.status, 401, "an old signature: {}", answered.body);
    let answered =
        read_response(begin(&format!("{}/in/nobody", edge.edge.url()), &[], Framing::Length, LARGE).await).await;
    assert_eq!(answered.status, 404);
    let answered = read_response(begin(&sources[0].url, &[], Framing::Length, 25_000_001).await).await;
    assert_eq!(answered.status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_uploads_that_stall_are_limited_and_free_their_memory_again() {
    let edge = Gateway::bare_edge().await;
    let provider = Provider::github();
    let source = edge.edge.put_source("stopping", &provider).await;
    let request = provider.sign("delivery", &vec![b'x'; 100_000], now_s());
    let good = async || post(&source.url, &request.headers, Framing::Length, &request.body).await.status;
    assert_eq!(good().await, 200);
    let mut stopped = Vec::new();
    while good().await == 200 {
        stopped.push(begin(&source.url, &request.headers, Framing::Length, 127_000).await);
        assert!(stopped.len() < 200, "the number of uploads is not limited");
    }
    assert!(stopped.len() > 20, "{} uploads take up all of the memory", stopped.len());
    until("memory to be free again", LONG, async || match good().await {
        200 => Ok(()),
        status => Err(format!("a good request gets {status}")),
    })
    .await;
}
