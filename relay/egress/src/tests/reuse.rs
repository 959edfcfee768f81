//! Pooled connections that the destination has closed before it answered.

use super::scripted::{Scripted, Then, Which};
use super::*;

/// Answers the first request of each connection, and treats the second one as the test says.
async fn second_is(text: &'static str, then: Then) -> Scripted {
    Scripted::start(move |which| if which.on_connection == 1 { (OK.into(), Then::Keep) } else { (text.into(), then) })
        .await
}

async fn post(egress: &Egress, server: &Scripted, body: &[u8]) -> Result<u16, SendFailure> {
    let timeout = Duration::from_secs(30);
    let answer = egress.post(&server.url, |_| HeaderMap::new(), body.to_vec(), timeout).await?;
    let status = answer.status.as_u16();
    answer.excerpt(100).finish().await;
    Ok(status)
}

#[tokio::test]
async fn a_request_on_a_pooled_connection_that_is_closed_or_reset_is_sent_again_at_once() {
    for then in [Then::Close, Then::Reset] {
        let server = second_is("", then).await;
        let egress = egress("127.0.0.1");
        for number in 0..20_usize {
            assert_eq!(post(&egress, &server, b"{}").await, Ok(200), "{number} {then:?}");
        }
        assert!(server.requests() > 20, "{}", server.requests());
    }
}

#[tokio::test]
async fn a_large_body_is_sent_again_completely() {
    let server = second_is("", Then::Reset).await;
    let egress = egress("127.0.0.1");
    let body: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
    assert_eq!(post(&egress, &server, b"first").await, Ok(200));
    assert_eq!(post(&egress, &server, &body).await, Ok(200));
    assert!(server.bodies().last().is_some_and(|last| *last == body));
}

#[tokio::test]
async fn headers_are_made_again_for_the_same_body_when_a_request_is_sent_again() {
    let server = second_is("", Then::Close).await;
    let egress = egress("127.0.0.1");
    assert_eq!(post(&egress, &server, b"{}").await, Ok(200));
    let made = std::sync::Mutex::new(Vec::new());
    let headers = |body: &[u8]| {
        made.lock().expect("not poisoned").push(body.to_vec());
        HeaderMap::new()
    };
    egress.post(&server.url, headers, b"{}".to_vec(), Duration::from_secs(30)).await.expect("a response");
    assert_eq!(*made.lock().expect("not poisoned"), [b"{}".to_vec(), b"{}".to_vec()]);
}

#[tokio::test]
async fn a_byte_of_a_response_makes_it_an_attempt() {
    for (text, failure) in [("H", SendFailure::NoResponse), ("220 smtp\r\n", SendFailure::NotHttp)] {
        let server = second_is(text, Then::Close).await;
        let egress = egress("127.0.0.1");
        assert_eq!(post(&egress, &server, b"{}").await, Ok(200));
        assert_eq!(post(&egress, &server, b"{}").await, Err(failure));
        assert_eq!(server.requests(), 2);
    }
}

#[tokio::test]
async fn a_new_connection_that_is_closed_without_a_response_is_an_attempt() {
    for then in [Then::Close, Then::Reset] {
        let server = Scripted::start(move |_| (Vec::new(), then)).await;
        assert_eq!(post(&egress("127.0.0.1"), &server, b"{}").await, Err(SendFailure::NoResponse));
        assert_eq!(server.requests(), 1);
    }
}

#[tokio::test]
async fn a_request_is_sent_again_once_and_within_the_same_time() {
    let only_first =
        |then| move |which: Which| if which.request == 1 { (OK.into(), Then::Keep) } else { (Vec::new(), then) };
    let server = Scripted::start(only_first(Then::Close)).await;
    let egress = egress("127.0.0.1");
    assert_eq!(post(&egress, &server, b"{}").await, Ok(200));
    assert_eq!(post(&egress, &server, b"{}").await, Err(SendFailure::NoResponse));
    assert_eq!(server.requests(), 3);

    let script = |which: Which| match which.request {
        1 => (OK.into(), Then::Keep),
        2 => (Vec::new(), Then::Close),
        _ => (Vec::new(), Then::Hang),
    };
    let server = Scripted::start(script).await;
    assert_eq!(post(&egress, &server, b"{}").await, Ok(200));
    let late = send_within(&egress, &server.url, Duration::from_millis(300)).await.expect_err("late");
    assert_eq!((late, server.requests()), (SendFailure::Timeout, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_closes_each_connection_after_its_response_receives_each_request_once() {
    let server = Arc::new(Scripted::start(|_| (OK.into(), Then::Close)).await);
    let egress = egress("127.0.0.1");
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (server, egress) = (Arc::clone(&server), egress.clone());
        senders.spawn(async move {
            for _ in 0..50 {
                assert_eq!(post(&egress, &server, b"{}").await, Ok(200));
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.expect("no failure");
    }
    assert_eq!(server.requests(), 400);
}
