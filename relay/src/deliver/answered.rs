//! An attempt from the start of its request. From then on it counts as made. So a panic loses the parts of the response
//! other than its status, or makes the attempt fail. The attempt never counts as not made: the same request would be
//! sent again and again.

use std::future::Future;

use egress::{EgressError, SendFailure};
use engine::outcome::Failure;
use engine::retry;
use futures_util::FutureExt as _;
use http::header::{DATE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use shared::id::DeliveryId;
use url::Url;

use super::redirect;
use crate::{mint, supervise};

/// Why there is no response.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// No request was made, because this machine lacks a resource. Contains which one.
    NotSent(String),
    /// No request can be made from the URL. Contains the reason.
    Unsendable(String),
    /// The attempt has failed.
    Failed(Failure),
}

/// Waits for the response to a request.
pub(super) fn answer<T>(
    delivery: DeliveryId,
    request: impl Future<Output = Result<T, SendFailure>>,
) -> impl Future<Output = Result<T, Unanswered>> {
    supervise::row(request).map(move |ended| match ended {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(SendFailure::Ours(reason))) => Err(Unanswered::NotSent(reason)),
        Ok(Err(SendFailure::Blocked(error @ EgressError::Unsendable))) => {
            Err(Unanswered::Unsendable(error.to_string()))
        }
        Ok(Err(failure)) => Err(Unanswered::Failed(Failure::NoAnswer(failure))),
        Err(panic) => {
            tracing::error!(
                %delivery,
                error = %panic,
                "the relay panicked during an attempt; the attempt counts as failed"
            );
            Err(Unanswered::Failed(Failure::Internal(panic.to_string())))
        }
    })
}

/// Reads a part of a response. If reading it panics, that part counts as missing.
pub(super) fn part<T: Default>(delivery: DeliveryId, read: impl Future<Output = T>) -> impl Future<Output = T> {
    supervise::row(read).map(move |ended| {
        ended.unwrap_or_else(|panic| {
            tracing::error!(%delivery, error = %panic, "part of a response could not be read and was omitted");
            T::default()
        })
    })
}

/// The parts of a response that matter in addition to its status.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The delay that `Retry-After` requests, in milliseconds.
    pub(super) retry_after_ms: Option<u64>,
    /// The target of a redirect.
    pub(super) location: Option<String>,
}

impl Said {
    /// Reads them from a response from `url`.
    pub(super) fn of(status: StatusCode, headers: &HeaderMap, url: &Url) -> Self {
        let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        // A date in it is by the destination's clock, which the response's `Date` header gives.
        let date = headers.get(DATE).and_then(|value| value.to_str().ok()).and_then(retry::parse_date);
        let retry_after_ms =
            retry_after.and_then(|value| retry::parse_retry_after(value, date.unwrap_or_else(mint::now_ms)));
        let location = headers.get(LOCATION).filter(|_| status.is_redirection());
        Self { retry_after_ms, location: location.and_then(|location| redirect::target(url, location)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery() -> DeliveryId {
        DeliveryId::mint(1, [1; 10])
    }

    #[tokio::test]
    async fn an_attempt_that_panics_during_its_request_counts_as_made_and_failed() {
        let request = async {
            tokio::task::yield_now().await;
            panic!("number {}", 7)
        };
        let answer: Result<(), Unanswered> = answer(delivery(), request).await;
        let Err(Unanswered::Failed(failure)) = answer else { panic!("{answer:?}") };
        assert_eq!(failure, Failure::Internal("the relay panicked: number 7".to_owned()));
        assert_eq!(failure.code(), "internal");
    }

    #[tokio::test]
    async fn a_part_of_a_response_whose_reading_panics_is_omitted() {
        let said: Said = part(delivery(), async { panic!("a header") }).await;
        assert_eq!(said, Said::default());
        let (text, rest): (Option<String>, Option<u8>) = part(delivery(), async { panic!("a body") }).await;
        assert_eq!((text, rest), (None, None));
    }

    #[tokio::test]
    async fn an_attempt_without_a_request_was_not_sent() {
        let ours: Result<(), Unanswered> =
            answer(delivery(), async { Err(SendFailure::Ours("full".to_owned())) }).await;
        assert!(matches!(ours, Err(Unanswered::NotSent(_))), "{ours:?}");
        let blocked = SendFailure::Blocked(EgressError::Unsendable);
        let url: Result<(), Unanswered> = answer(delivery(), async { Err(blocked) }).await;
        assert!(matches!(url, Err(Unanswered::Unsendable(_))), "{url:?}");
    }
}
