//! Responses with a head that is not quite HTTP: their status line decides.

use super::scripted::{Scripted, Then};
use super::*;

fn answer(lines: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{lines}content-length: 2\r\n\r\nok").into_bytes()
}

#[tokio::test]
async fn a_200_with_malformed_headers_is_a_200_and_no_request_follows_on_its_connection() {
    let egress = egress("127.0.0.1");
    for odd in [
        answer("X-Powered-By : PHP\r\n"),
        answer("X-Broken\r\n"),
        answer("X-Fold: a\r\n b\r\n"),
        answer("X Name: a\r\n"),
        answer("X-Line: a\n"),
        answer("Content-Length: 2\r\n"),
        answer("Content-Length : 2\r\n"),
        b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok".to_vec(),
    ] {
        let text = String::from_utf8_lossy(&odd).into_owned();
        let server = Scripted::start(move |_| (odd.clone(), Then::Keep)).await;
        for sent in 1..=3 {
            let answer = send(&egress, &server.url).await.expect(&text);
            assert_eq!(answer.status.as_u16(), 200, "{text}");
            assert_eq!(answer.excerpt(100).finish().await, (b"ok".to_vec(), false), "{text}");
            assert_eq!((server.requests(), server.connections()), (sent, sent), "{text}");
        }
    }
}

#[tokio::test]
async fn many_or_long_headers_latin_1_and_an_empty_reason_are_accepted_and_the_connection_is_kept() {
    let egress = egress("127.0.0.1");
    let latin_1 = [b"HTTP/1.1 200 OK\r\nx-name: M\xfcller\r\n".as_slice(), b"content-length: 2\r\n\r\nok"].concat();
    for unusual in [
        answer(&(0..150).map(|number| format!("Set-Cookie: c{number}=1\r\n")).collect::<String>()),
        answer(&format!("x-long: {}\r\n", "x".repeat(20_000))),
        answer(&format!("x-long: {}\r\n", "x".repeat(200_000))),
        latin_1,
        b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok".to_vec(),
    ] {
        let server = Scripted::start(move |_| (unusual.clone(), Then::Keep)).await;
        for sent in 1..=3 {
            let answer = send(&egress, &server.url).await.expect("a response");
            assert_eq!(answer.status.as_u16(), 200);
            assert_eq!(answer.excerpt(100).finish().await, (b"ok".to_vec(), false));
            assert_eq!((server.requests(), server.connections()), (sent, 1));
        }
    }
}

#[tokio::test]
async fn a_head_that_cannot_be_parsed_counts_by_its_status_line() {
    let egress = egress("127.0.0.1");
    let many = (0..3_000).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
    for (lines, then) in [
        ("Content-Length: 2\r\nContent-Length: 3\r\n\r\nok".to_owned(), Then::Keep),
        ("Content-Length: a\r\n\r\n".to_owned(), Then::Keep),
        (format!("{many}\r\nok"), Then::Keep),
        (format!("x-long: {}\r\n\r\nok", "x".repeat(1_000_000)), Then::Close),
        ("x-cut: ".to_owned(), Then::Close),
        ("x-cut: ".to_owned(), Then::Reset),
        (String::new(), Then::Close),
        ("x: a\0b\r\n\r\n".to_owned(), Then::Keep),
    ] {
        for status in [200, 202, 302, 404, 503] {
            let text = format!("HTTP/1.1 {status} So\r\n{lines}").into_bytes();
            let server = Scripted::start(move |_| (text.clone(), then)).await;
            let shown = lines.get(..40).unwrap_or(&lines);
            for sent in 1..=2 {
                let answer = send(&egress, &server.url).await;
                let answer = answer.unwrap_or_else(|failure| panic!("{failure:?}: {status} {shown} {then:?}"));
                assert_eq!(answer.status.as_u16(), status, "{shown}");
                answer.excerpt(100).finish().await;
                assert_eq!(server.requests(), sent, "{shown}");
            }
        }
    }
}

#[tokio::test]
async fn an_interim_status_line_decides_nothing() {
    let egress = egress("127.0.0.1");
    for (text, failure) in [
        ("HTTP/1.1 103 Early Hints\r\nx : y\r\n\r\n", SendFailure::NoResponse),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2", SendFailure::NoResponse),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2000 OK\r\n\r\n", SendFailure::NotHttp),
    ] {
        let server = Scripted::start(move |_| (text.into(), Then::Close)).await;
        assert_eq!(send(&egress, &server.url).await.expect_err(text), failure, "{text}");
    }
    let text = "HTTP/1.1 103 Early Hints\r\nx : y\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let server = Scripted::start(move |_| (text.into(), Then::Keep)).await;
    assert_eq!(send(&egress, &server.url).await.expect("a response").status.as_u16(), 200);
}

#[tokio::test]
async fn a_slow_head_counts_by_its_status_line_at_the_timeout_and_its_connection_ends() {
    let (url, closed) = streaming(b"HTTP/1.1 200 OK\r\nx: ", b"y", Duration::from_millis(5)).await;
    let answer = send_within(&egress("127.0.0.1"), &url, Duration::from_millis(300)).await.expect("a status");
    assert_eq!(answer.status.as_u16(), 200);
    ended(&closed, 1).await;
}

#[tokio::test]
async fn a_response_that_is_not_http_is_distinguished_from_a_connection_that_ends() {
    let egress = egress("127.0.0.1");
    for text in [
        "220 smtp ready\r\n",
        "HTTP/3.0 200 OK\r\n\r\n",
        "HTTP/1.1 099 \r\n\r\n",
        "\x15\x03\x01\0\x02\x02\x46",
        "SSH-2.0-x\r\n",
    ] {
        let server = Scripted::start(move |_| (text.into(), Then::Keep)).await;
        assert_eq!(send(&egress, &server.url).await.expect_err(text), SendFailure::NotHttp, "{text}");
        assert_eq!(server.requests(), 1);
    }
    for then in [Then::Close, Then::Reset] {
        for text in ["", "HTTP/1", "HTTP/1.1 20"] {
            let server = Scripted::start(move |_| (text.into(), then)).await;
            assert_eq!(send(&egress, &server.url).await.expect_err(text), SendFailure::NoResponse, "{text} {then:?}");
            assert_eq!(server.requests(), 1);
        }
    }
}
