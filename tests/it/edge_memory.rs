//! request: how much memory the Worker needs does not depend on how much is sent to it at once.

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

/// What a Worker may need besides what it has at rest: all of its memory is 128 MB.
const MOST: u64 = 110 * MIB;

/// What a request was answered.
struct Answered {
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

/// Begins a request on a connection of its own.
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
    connection.write_all(head.as_bytes()).await.expect("takes the head");
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

/// Posts a body while it listens: an answer may come before all of the body is sent.
async fn post(url: &str, headers: &[(String, String)], framing: Framing, body: &[u8]) -> Answered {
    let (from, mut to) = begin(url, headers, framing, body.len()).await.into_split();
    let send = async {
        let sent = write(&mut to, framing, body).await;
        if sent.is_ok() && framing == Framing::Chunked {
            let _ = to.write_all(b"0\r\n\r\n").await;
        }
        // Kept open: what has been answered is still to be read.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answered = answer(from) => answered,
        () = send => unreachable!("it sends until there is an answer"),
    }
}

/// Whether an answer has all of its body: workerd keeps the connection open.
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

/// Reads an answer.
async fn answer(mut from: impl AsyncRead + Unpin) -> Answered {
    let mut bytes = Vec::new();
    let read = async {
        let mut buffer = [0; 4_096];
        // A connection that is reset after the answer has given the answer all the same.
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
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("an answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let header = |line: &str| {
        line.split_once(':')
            .filter(|(name, _)| name.eq_ignore_ascii_case("retry-after"))
            .map(|(_, value)| value.trim().to_owned())
    };
    let from = body.find('{').unwrap_or(body.len());
    let until = body.rfind('}').map_or(from, |at| at + 1);
    Answered {
        status,
        retry_after: head.lines().find_map(header),
        body: serde_json::from_str(&body[from..until]).unwrap_or_default(),
        text,
    }
}

/// Posts twelve large bodies at once, half of them without a length, while small webhooks go on. Returns the answers to
/// the large ones and how many small ones were accepted; every small one is.
async fn twelve_large(edge: &EdgeOnly, signer: &Provider, source: &Provider, url: &str) -> (Vec<Answered>, usize) {
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

fn assert_over_the_budget(answered: &Answered) {
    assert_eq!((answered.status, answered.body["error"].as_str()), (503, Some("too_busy")), "{}", answered.body);
    let seconds: u32 = answered.retry_after.as_deref().expect("retry-after").parse().expect("seconds");
    assert!((1..=120).contains(&seconds), "{seconds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_of_a_stranger_take_little_memory_and_hold_up_no_small_webhook() {
    let edge = Gateway::bare_edge().await;
    let (right, wrong) = (Provider::github(), Provider::github());
    let source = edge.edge.put_source("strangers", &right).await;
    let request = right.sample("first");
    assert_eq!(post(&source.url, &request.headers, Framing::Length, &request.body).await.status, 200);
    reset_peak(edge.edge.id()).expect("can be reset");
    let at_rest = peak(edge.edge.id()).expect("is measured");

    let (answers, small) = twelve_large(&edge, &wrong, &right, &source.url).await;
    let grown = peak(edge.edge.id()).expect("is measured") - at_rest;
    let refused = answers.iter().filter(|answered| answered.status == 401).count();
    println!("at rest {} MiB, {} MiB more at most; {refused} refused, {small} small ones", at_rest / MIB, grown / MIB);
    assert!(refused > 0 && small > 0);
    answers.iter().filter(|answered| answered.status != 401).for_each(assert_over_the_budget);
    assert!(grown < MOST, "{} MiB more than at rest", grown / MIB);
    edge.wait_for_events(&source, small + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_that_are_signed_arrive_or_are_to_be_sent_again_and_take_little_memory() {
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

    let (answers, small) = twelve_large(&edge, &provider, &provider, &source.url).await;
    let grown = all() - at_rest;
    let accepted = answers.iter().filter(|answered| answered.status == 200).count();
    println!(
        "at rest {} MiB, {} MiB more at most; {accepted} accepted, {small} small ones",
        at_rest / MIB,
        grown / MIB
    );
    assert!(accepted > 0 && small > 0);
    // The proxy of wrangler puts a text of its own in place of an answer that comes before the body has been sent.
    assert!(answers.iter().all(|answered| matches!(answered.status, 200 | 503)));
    edge.wait_for_events(&source, accepted + small + 1).await;
    // What stands in for the object storage, and the proxy of wrangler, take some too.
    assert!(grown < 3 * MOST, "{} MiB more than at rest", grown / MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stops_or_whose_client_goes_away_frees_its_room() {
    let edge = Gateway::bare_edge().await;
    let provider = Provider::github();
    let source = edge.edge.put_source("stopping", &provider).await;
    let body = vec![b'x'; LARGE];
    let request = Provider::github().sign("wrong", &body, now_s());
    let another = async || post(&source.url, &request.headers, Framing::Length, &body).await.status;
    let begun = async || {
        let mut connection = begin(&source.url, &request.headers, Framing::Length, LARGE).await;
        write(&mut connection, Framing::Length, &body[..1_000_000]).await.expect("takes the first bytes");
        until("the upload to be charged", LONG, async || match another().await {
            503 => Ok(()),
            status => Err(format!("another is answered {status}")),
        })
        .await;
        connection
    };
    let freed = async || {
        until("the room to be free", LONG, async || match another().await {
            401 => Ok(()),
            status => Err(format!("another is answered {status}")),
        })
        .await;
    };
    drop(begun().await);
    freed().await;

    let stopped = begun().await;
    freed().await;
    let answered = answer(stopped).await;
    assert_eq!((answered.status, answered.body["error"].as_str()), (408, Some("body_too_slow")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_body_to_be_refused_is_answered_before_the_body_is_sent() {
    let edge = Gateway::bare_edge().await;
    let stripe = Provider::stripe();
    let sources = [
        edge.edge.put_source("stripe", &stripe).await,
        edge.edge.put_source("github", &Provider::github()).await,
        edge.edge.put_source("basic", &Provider::basic()).await,
        edge.edge.put_source("token", &Provider::token()).await,
    ];
    for source in &sources {
        let answered = answer(begin(&source.url, &[], Framing::Length, LARGE).await).await;
        assert_eq!(answered.status, 401, "{}: {}", source.config.name, answered.body);
    }
    let old = stripe.sign("old", b"{}", now_s() - 4_000);
    let answered = answer(begin(&sources[0].url, &old.headers, Framing::Length, LARGE).await).await;
    assert_eq!(answered.status, 401, "an old signature: {}", answered.body);
    let answered = answer(begin(&format!("{}/in/nobody", edge.edge.url()), &[], Framing::Length, LARGE).await).await;
    assert_eq!(answered.status, 404);
    let answered = answer(begin(&sources[0].url, &[], Framing::Length, 25_000_001).await).await;
    assert_eq!(answered.status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_uploads_that_stop_are_bounded_and_leave_room_again() {
    let edge = Gateway::bare_edge().await;
    let provider = Provider::github();
    let source = edge.edge.put_source("stopping", &provider).await;
    let request = provider.sign("delivery", &vec![b'x'; 100_000], now_s());
    let good = async || post(&source.url, &request.headers, Framing::Length, &request.body).await.status;
    assert_eq!(good().await, 200);
    let mut stopped = Vec::new();
    while good().await == 200 {
        stopped.push(begin(&source.url, &request.headers, Framing::Length, 127_000).await);
        assert!(stopped.len() < 200, "any number of uploads is taken in");
    }
    assert!(stopped.len() > 20, "{} uploads take all of the room", stopped.len());
    until("room again", LONG, async || match good().await {
        200 => Ok(()),
        status => Err(format!("a good one is answered {status}")),
    })
    .await;
}
