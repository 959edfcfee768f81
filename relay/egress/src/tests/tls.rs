//! Destinations behind TLS: handshakes that fail, and connections over HTTP/2 that end.

use rcgen::{CertificateParams, CertifiedKey, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::server::TlsStream;

use super::*;

/// A certificate for a name or an address, which no client trusts yet.
fn certified(name: &str) -> CertifiedKey<KeyPair> {
    let signing_key = KeyPair::generate().expect("a key");
    let cert = CertificateParams::new([name.to_owned()]).expect("a name").self_signed(&signing_key);
    CertifiedKey { cert: cert.expect("a certificate"), signing_key }
}

fn trusting(certified: &CertifiedKey<KeyPair>) -> Egress {
    let allow = EgressPolicy::parse_allow_list("127.0.0.1").expect("ranges");
    let policy = EgressPolicy { allow, ports: Ports::Any };
    Egress::trusting(policy, vec![certified.cert.der().clone()]).expect("a client")
}

fn acceptor(certified: &CertifiedKey<KeyPair>, protocol: &[u8]) -> TlsAcceptor {
    let key = certified.signing_key.serialize_der().try_into().expect("a key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("a certificate");
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn listen() -> (TcpListener, Url) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = Url::parse(&format!("https://{}/", listener.local_addr().expect("an address"))).expect("a url");
    (listener, url)
}

#[tokio::test]
async fn a_reset_or_closed_handshake_is_a_tls_failure_and_not_one_of_the_certificate() {
    for is_reset in [true, false] {
        let (listener, url) = listen().await;
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                // The client's first message has to be read: closing a socket with unread bytes resets it.
                let _ = socket.read(&mut [0; 4096]).await;
                if is_reset {
                    let _ = socket.set_zero_linger();
                }
            }
        });
        let failure = send(&egress("127.0.0.1"), &url).await.expect_err("no handshake");
        assert_eq!(failure, SendFailure::Tls(TlsFailure::Ended), "reset: {is_reset}");
    }
}

#[tokio::test]
async fn an_untrusted_certificate_and_one_for_another_host_are_reported() {
    let (theirs, elsewhere) = (certified("127.0.0.1"), certified("elsewhere.example"));
    for (shown, egress) in [(&theirs, egress("127.0.0.1")), (&elsewhere, trusting(&elsewhere))] {
        let (listener, url) = listen().await;
        let acceptor = acceptor(shown, b"http/1.1");
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let _ = acceptor.accept(socket).await;
            }
        });
        let failure = send(&egress, &url).await.expect_err("not trusted");
        assert_eq!(failure, SendFailure::Tls(TlsFailure::Certificate));
    }
}

/// How a server over HTTP/2 treats a request.
#[derive(Debug, Clone, Copy)]
enum Does {
    Answer,
    /// Says that it goes away and has not processed this request, and leaves the connection open.
    GoAway,
    /// Refuses the stream.
    Refuse,
    /// Ends the stream with another error.
    Fail,
    /// Closes the connection.
    Close,
}

/// A server that answers the first request of each connection, and treats the others like this. It counts all of them.
async fn server(certified: &CertifiedKey<KeyPair>, does: Does) -> (Url, Arc<AtomicUsize>) {
    let (listener, url) = listen().await;
    let acceptor = acceptor(certified, b"h2");
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let socket = acceptor.accept(socket).await.expect("a handshake");
            tokio::spawn(serve(socket, does, Arc::clone(&count)));
        }
    });
    (url, requests)
}

const SETTINGS: u8 = 4;
const FLAG_ACK: u8 = 1;
const FLAG_END_STREAM: u8 = 1;
const FLAG_END_HEADERS: u8 = 4;

/// RFC 9113, section 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Frames written by hand, because a library does not send these on purpose. Returns when the connection ends.
async fn serve(mut socket: TlsStream<TcpStream>, does: Does, requests: Arc<AtomicUsize>) -> Option<()> {
    socket.read_exact(&mut [0; 24]).await.ok()?;
    socket.write_all(&frame(SETTINGS, 0, 0, &[])).await.ok()?;
    let mut is_first = true;
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let stream = u32::from_be_bytes(stream);
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).expect("fits");
        socket.read_exact(&mut vec![0; length]).await.ok()?;
        if kind == SETTINGS && flags & FLAG_ACK == 0 {
            socket.write_all(&frame(SETTINGS, FLAG_ACK, 0, &[])).await.ok()?;
        }
        // The request is complete: with its headers, or with its data.
        if kind > 1 || flags & FLAG_END_STREAM == 0 {
            continue;
        }
        requests.fetch_add(1, SeqCst);
        let answer = match if is_first { Does::Answer } else { does } {
            // 0x88 is ":status: 200" (RFC 7541, appendix A).
            Does::Answer => frame(1, FLAG_END_STREAM | FLAG_END_HEADERS, stream, &[0x88]),
            Does::GoAway => frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
            Does::Refuse => frame(3, 0, stream, &[0, 0, 0, 7]),
            Does::Fail => frame(3, 0, stream, &[0, 0, 0, 2]),
            Does::Close => return None,
        };
        is_first = false;
        socket.write_all(&answer).await.ok()?;
        socket.flush().await.ok()?;
    }
}

async fn post(egress: &Egress, url: &Url) -> Result<u16, SendFailure> {
    let answer = egress.post(url, |_| HeaderMap::new(), b"{}".to_vec(), Duration::from_secs(30)).await?;
    Ok(answer.status.as_u16())
}

#[tokio::test]
async fn over_http_2_an_unprocessed_request_or_one_whose_pooled_connection_ended_is_sent_again() {
    let certified = certified("127.0.0.1");
    for (does, requests) in [(Does::Answer, 2), (Does::GoAway, 3), (Does::Refuse, 3), (Does::Close, 3)] {
        let egress = trusting(&certified);
        let (url, count) = server(&certified, does).await;
        assert_eq!(post(&egress, &url).await, Ok(200), "{does:?}");
        assert_eq!(post(&egress, &url).await, Ok(200), "{does:?}");
        assert_eq!(count.load(SeqCst), requests, "{does:?}");
    }
}

#[tokio::test]
async fn over_http_2_a_stream_that_ends_with_an_error_is_an_attempt() {
    let certified = certified("127.0.0.1");
    let egress = trusting(&certified);
    let (url, count) = server(&certified, Does::Fail).await;
    assert_eq!(post(&egress, &url).await, Ok(200));
    assert_eq!(post(&egress, &url).await, Err(SendFailure::NoResponse));
    assert_eq!(count.load(SeqCst), 2);
}
