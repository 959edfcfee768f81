//! The behaviours of a destination.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http::{Response, StatusCode};
use hyper::body::Frame;
use tokio::time::{Interval, interval};

use crate::server::{Answer, Cut};

/// How a destination handles a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers with a status.
    Status(u16),
    /// Answers with a status and a `Retry-After`, in seconds or as a date.
    RetryAfter(u16, String),
    /// Waits, then answers 200.
    Delay(Duration),
    /// Waits, then answers with a status.
    DelayedStatus(Duration, u16),
    /// Never answers and keeps the connection open.
    Hang,
    /// Answers 302 to another URL.
    Redirect(String),
    /// Resets the connection (RST).
    Reset,
    /// Closes the connection without a response (FIN).
    Close,
    /// Answers 200 with a body of this many bytes.
    HugeBody(usize),
    /// Answers 200 at once, and then sends one byte of an endless body at each of these intervals.
    SlowDrip(Duration),
}

impl Behaviour {
    /// Returns the response to one request, or how the connection ends instead.
    pub async fn act(self) -> Answer {
        match self {
            Self::Status(code) => Ok(status(code, Body::from(format!("answer {code}")))),
            Self::RetryAfter(code, when) => with_header(status(code, Body::empty()), http::header::RETRY_AFTER, &when),
            Self::Delay(time) => {
                tokio::time::sleep(time).await;
                Ok(status(200, Body::empty()))
            }
            Self::DelayedStatus(time, code) => {
                tokio::time::sleep(time).await;
                Ok(status(code, Body::empty()))
            }
            Self::Hang => std::future::pending().await,
            Self::Redirect(to) => with_header(status(302, Body::empty()), http::header::LOCATION, &to),
            Self::Reset => Err(Cut::Reset),
            Self::Close => Err(Cut::Close),
            Self::HugeBody(bytes) => Ok(status(200, Body::from(vec![b'x'; bytes]))),
            Self::SlowDrip(pace) => Ok(status(200, Body::new(Drip(interval(pace))))),
        }
    }
}

fn status(code: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).expect("the test uses a status between 100 and 999");
    response
}

fn with_header(mut response: Response<Body>, name: http::HeaderName, value: &str) -> Answer {
    response.headers_mut().insert(name, value.parse().expect("the test uses a valid header value"));
    Ok(response)
}

struct Drip(Interval);

impl hyper::body::Body for Drip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_tick(context).map(|_| Some(Ok(Frame::data(Bytes::from_static(b".")))))
    }
}
